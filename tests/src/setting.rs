//! Numbers by which tests are made longer.

use std::str::FromStr;

/// What the environment's variable `name` says, or else `default`.
///
/// # Panics
/// When it says what is no number.
#[must_use]
pub fn setting<T: FromStr>(name: &str, default: T) -> T {
    let Ok(text) = std::env::var(name) else {
        return default;
    };
    text.parse()
        .unwrap_or_else(|_| panic!("{name}={text} is not a number"))
}
