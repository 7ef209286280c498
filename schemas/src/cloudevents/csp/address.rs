//! The addresses in a report, cut to what may be kept.

/// The longest address that is kept, in bytes.
const URI_BYTES_MAX: usize = 2_048;
/// The longest host, scheme or keyword that is kept, in bytes.
const HOST_BYTES_MAX: usize = 255;

/// What browsers say instead of an address.
const KEYWORDS: [&str; 6] = [
    "inline",
    "eval",
    "wasm-eval",
    "trusted-types-policy",
    "trusted-types-sink",
    "self",
];
/// Schemes whose addresses are kept. Of others (`data:`, `blob:`, extensions) only the scheme is.
const WEB: [&str; 4] = ["http", "https", "ws", "wss"];

/// The address of a page or a file: without query, fragment, user and password.
pub(super) fn page(text: &str) -> String {
    match Address::of(&tidy(text)) {
        Address::Web {
            scheme,
            authority,
            path,
        } => bounded(&format!("{scheme}://{authority}{path}"), URI_BYTES_MAX),
        Address::Scheme(scheme) => bounded(&scheme, HOST_BYTES_MAX),
        Address::Other(text) => bounded(text, URI_BYTES_MAX),
    }
}

/// What was blocked, and the host, scheme or keyword that stands for it in a group. Where a browser says nothing, it
/// was the page's own code.
pub(super) fn blocked(text: &str) -> (String, String) {
    let text = tidy(text);
    let word = text.trim_matches('\'').to_ascii_lowercase();
    if word.is_empty() {
        return ("self".to_owned(), "self".to_owned());
    }
    if KEYWORDS.contains(&&*word) {
        return (word.clone(), word);
    }
    let host = match Address::of(&text) {
        Address::Web {
            scheme, authority, ..
        } => match host(authority) {
            host if host.is_empty() => scheme,
            host => host,
        },
        Address::Scheme(scheme) => bounded(&scheme, HOST_BYTES_MAX),
        Address::Other(text) => {
            let text = text.trim_start_matches('/');
            host(text.split('/').next().unwrap_or_default())
        }
    };
    (page(&text), host)
}

enum Address<'a> {
    Web {
        /// In lower case.
        scheme: String,
        /// Without user and password.
        authority: &'a str,
        path: &'a str,
    },
    /// In lower case.
    Scheme(String),
    /// A bare host, a bare scheme, a path: what old browsers send.
    Other(&'a str),
}

impl<'a> Address<'a> {
    fn of(text: &'a str) -> Self {
        let text = text.split(['?', '#']).next().unwrap_or_default();
        let Some((scheme, rest)) = text.split_once(':') else {
            return Address::Other(without_user(text));
        };
        let is_port = scheme.contains('.') && rest.starts_with(|c: char| c.is_ascii_digit());
        if is_port || !is_scheme(scheme) {
            return Address::Other(without_user(text));
        }
        let scheme = scheme.to_ascii_lowercase();
        if !WEB.contains(&&*scheme) {
            return Address::Scheme(scheme);
        }
        let rest = rest.trim_start_matches('/');
        let path_at = rest.find('/').unwrap_or(rest.len());
        let (authority, path) = rest.split_at(path_at);
        Address::Web {
            scheme,
            authority: without_user(authority),
            path,
        }
    }
}

fn is_scheme(text: &str) -> bool {
    let starts_well = text.starts_with(|c: char| c.is_ascii_alphabetic());
    let is_part = |c: char| c.is_ascii_alphanumeric() || matches!(c, '+' | '-' | '.');
    starts_well && text.chars().all(is_part)
}

/// `text` behind the last `@` of its authority.
fn without_user(text: &str) -> &str {
    let path_at = text.find('/').unwrap_or(text.len());
    match text[..path_at].rfind('@') {
        Some(user_end) => &text[user_end + 1..],
        None => text,
    }
}

/// The host in lower case, without port and final dot.
fn host(authority: &str) -> String {
    let end = match authority.find(']') {
        Some(bracket) => bracket + 1,
        None => authority.find(':').unwrap_or(authority.len()),
    };
    let host = authority[..end].trim_end_matches('.');
    bounded(&host.to_ascii_lowercase(), HOST_BYTES_MAX)
}

fn tidy(text: &str) -> String {
    text.trim().chars().filter(|c| !c.is_control()).collect()
}

fn bounded(text: &str, bytes_max: usize) -> String {
    text[..text.floor_char_boundary(bytes_max)].to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, uri: &str, host: &str) {
        assert_eq!(blocked(text), (uri.to_owned(), host.to_owned()), "{text}");
    }

    #[test]
    fn what_was_blocked_and_its_group() {
        check(
            "https://Evil.Example:8443/x.js?session=1#top",
            "https://Evil.Example:8443/x.js",
            "evil.example",
        );
        check(
            "https://evil.example",
            "https://evil.example",
            "evil.example",
        );
        check(
            "https://evil.example?q=/a:b",
            "https://evil.example",
            "evil.example",
        );
        check(
            "https://me:pw@evil.example./x",
            "https://evil.example./x",
            "evil.example",
        );
        check(
            "https://[2001:db8::1]:8443/x",
            "https://[2001:db8::1]:8443/x",
            "[2001:db8::1]",
        );
        check(
            "wss://chat.example/s",
            "wss://chat.example/s",
            "chat.example",
        );
        check("https:", "https://", "https");
        check("inline", "inline", "inline");
        check("EVAL", "eval", "eval");
        check("wasm-eval", "wasm-eval", "wasm-eval");
        check("'self'", "self", "self");
        check("", "self", "self");
        check("data", "data", "data");
        check("data:text/html;base64,PHNjcmlwdD4=", "data", "data");
        check("blob:https://acme.example/1", "blob", "blob");
        check("about:blank", "about", "about");
        check("chrome-extension", "chrome-extension", "chrome-extension");
        check(
            "chrome-extension:2:248774",
            "chrome-extension",
            "chrome-extension",
        );
        check("evil.example/x.js?a", "evil.example/x.js", "evil.example");
        check("evil.example:8443", "evil.example:8443", "evil.example");
        check("//evil.example/x", "//evil.example/x", "evil.example");
        check(
            " https://evil.example/\r\n\u{1b}[0m ",
            "https://evil.example/[0m",
            "evil.example",
        );
    }

    #[test]
    fn pages_lose_what_may_be_secret() {
        let check = |text: &str, expected: &str| assert_eq!(page(text), expected, "{text}");
        check(
            "https://acme.example/reset?token=s3cret",
            "https://acme.example/reset",
        );
        check(
            "https://acme.example/#access_token=s3cret",
            "https://acme.example/",
        );
        check("https://me:pw@acme.example/", "https://acme.example/");
        check("data:text/html,<b>", "data");
        check("/cart?x", "/cart");
        check("", "");
        assert_eq!(
            page(&format!("https://acme.example/{}", "ä".repeat(2_000))).len(),
            2_047
        );
    }
}
