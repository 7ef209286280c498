//! Client addresses as everyone writes them: an IPv4 address on its own, an IPv6 address by its /64, since one client
//! moves freely within that.

use std::net::{IpAddr, Ipv6Addr};

const CLIENT_BITS: u32 = 64;

/// `203.0.113.7`, or `2001:db8::/64`. An IPv4 address inside IPv6 (`::ffff:203.0.113.7`) is the IPv4 address.
#[must_use]
pub fn source_of(address: IpAddr) -> String {
    match address.to_canonical() {
        IpAddr::V4(address) => address.to_string(),
        IpAddr::V6(address) => {
            let network = Ipv6Addr::from_bits(address.to_bits() >> CLIENT_BITS << CLIENT_BITS);
            format!("{network}/{CLIENT_BITS}")
        }
    }
}

/// Reads an address, or what [`source_of`] made of one. `None` when `text` is neither.
#[must_use]
pub fn parse_source(text: &str) -> Option<String> {
    let address = match text.split_once('/') {
        None => text.parse().ok()?,
        Some((address, "64")) => IpAddr::V6(address.parse().ok()?),
        Some((address, "32")) => IpAddr::V4(address.parse().ok()?),
        Some(_) => return None,
    };
    Some(source_of(address))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, expected: Option<&str>) {
        let source = parse_source(text);
        assert_eq!(source.as_deref(), expected, "{text}");
        let again = source.as_deref().map(parse_source);
        assert!(again.is_none_or(|again| again == source), "{text}");
    }

    #[test]
    fn addresses_have_one_form() {
        check("203.0.113.7", Some("203.0.113.7"));
        check("203.0.113.7/32", Some("203.0.113.7"));
        check("::ffff:203.0.113.7", Some("203.0.113.7"));
        check("2001:db8::1", Some("2001:db8::/64"));
        check("2001:DB8:0:0:1:2:3:4", Some("2001:db8::/64"));
        check("2001:db8:1:2:3:4:5:6", Some("2001:db8:1:2::/64"));
        check("2001:db8::/64", Some("2001:db8::/64"));
        check("::1", Some("::/64"));
    }

    #[test]
    fn what_is_no_address() {
        for text in [
            "",
            "localhost",
            "203.0.113",
            "203.0.113.7:443",
            "203.0.113.0/24",
            "203.0.113.7/64",
            "2001:db8::/32",
            "fe80::1%eth0",
            "[::1]",
            " 203.0.113.7",
            "0x7f.1",
        ] {
            check(text, None);
        }
    }
}
