//! Names that are nearly those of a field. A spelling must not lose tokens, money, or whom they are counted for.

/// Names as others spell them (without `_` and `-`, in lower case), and what to write instead.
const MEANT: &[(&[&str], &str)] = &[
    (
        &[
            "inputtokens",
            "prompttokens",
            "tokensin",
            "tokensinput",
            "intokens",
            "inputtokencount",
            "prompttokencount",
        ],
        "input_tokens",
    ),
    (
        &[
            "outputtokens",
            "completiontokens",
            "tokensout",
            "tokensoutput",
            "outtokens",
            "outputtokencount",
            "candidatestokencount",
        ],
        "output_tokens",
    ),
    (
        &["tokens", "totaltokens", "tokencount", "totaltokencount"],
        "input_tokens and output_tokens",
    ),
    (
        &[
            "cost",
            "costs",
            "costusd",
            "usd",
            "price",
            "priceusd",
            "spend",
            "totalcost",
            "totalcostusd",
            "responsecost",
        ],
        "cost_usd (US dollars)",
    ),
    (&["requests", "requestcount", "numrequests"], "requests"),
    (&["units", "unit"], "units"),
];

const WHOM: &[(&[&str], &str)] = &[
    (
        &["tenant", "tenantid"],
        "the attribute `subject`, outside of data",
    ),
    (&["key", "keyid", "apikey", "apikeyid"], "key"),
    (&["user", "userid", "enduser", "enduserid"], "user"),
    (&["route", "endpoint"], "route"),
    (&["model", "modelname", "modelid"], "model"),
    (&["provider", "providername"], "provider"),
    (
        &["source", "sourceip", "clientip", "ip", "ipaddress"],
        "source",
    ),
];

/// The longest name above, in bytes.
const PLAIN_BYTES_MAX: usize = 20;

type Table = [(&'static [&'static str], &'static str)];

fn find(name: &str, tables: &[&Table]) -> Option<&'static str> {
    let mut plain = [0; PLAIN_BYTES_MAX];
    let mut bytes = 0;
    for byte in name.bytes().filter(|byte| !matches!(byte, b'_' | b'-')) {
        *plain.get_mut(bytes)? = byte.to_ascii_lowercase();
        bytes += 1;
    }
    let plain = &plain[..bytes];
    let is_plain = |name: &&str| name.as_bytes() == plain;
    let mut rows = tables.iter().copied().flatten();
    let row = rows.find(|(names, _)| names.iter().any(is_plain));
    row.map(|(_, meant)| *meant)
}

/// What `name`, which is no field of usage's data, is to be called.
pub(super) fn meant(name: &str) -> Option<&'static str> {
    find(name, &[MEANT, WHOM])
}

/// Whether `name`, found beside the attributes, counts something and so belongs into data.
pub(super) fn counts(name: &str) -> bool {
    find(name, &[MEANT]).is_some()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_is_found_in_any_spelling() {
        let names = |table: &'static Table| table.iter().flat_map(|(names, _)| *names);
        for name in names(MEANT).chain(names(WHOM)) {
            assert!(name.len() <= PLAIN_BYTES_MAX, "{name}");
            for spelling in [
                name.to_uppercase(),
                format!("_{name}-"),
                name.replace('t', "_t"),
            ] {
                assert!(meant(&spelling).is_some(), "{spelling}");
                assert_eq!(counts(&spelling), names(MEANT).any(|n| n == name));
            }
        }
        for name in ["", "-", "note", "cost_of_candidates_token_count", "költség"] {
            assert_eq!(meant(name), None, "{name}");
        }
    }
}
