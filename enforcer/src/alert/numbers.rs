//! Numbers as a person reads them.

use schemas::money::{PICO_PER_USD, format_usd};
use schemas::policy::Meter;

/// Pico-dollars in a millionth of a dollar, the finest that is shown.
const PICO_SHOWN: i128 = PICO_PER_USD / 1_000_000;

/// `49,200 of 60,000 tokens`, `16.4 of 20 USD`.
pub(super) fn amounts(meter: &Meter, used: i128, max: i128) -> String {
    format!("{} of {}", number(meter, used), amount(meter, max))
}

/// `60,000 tokens`, `20 USD`.
pub(super) fn amount(meter: &Meter, amount: i128) -> String {
    format!("{} {}", number(meter, amount), unit(meter))
}

fn unit(meter: &Meter) -> String {
    match meter {
        Meter::Cost => "USD".to_owned(),
        meter => meter.name().replace('_', " "),
    }
}

fn number(meter: &Meter, amount: i128) -> String {
    match meter {
        Meter::Cost => format_usd(amount - amount % PICO_SHOWN),
        _ => grouped(amount),
    }
}

/// Digits in groups of three.
fn grouped(number: i128) -> String {
    let digits = number.unsigned_abs().to_string();
    let mut text = String::from(if number < 0 { "-" } else { "" });
    for (index, digit) in digits.char_indices() {
        if index != 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// How much of `max` is used, in whole percent, rounded down.
pub(super) fn percent(used: i128, max: i128) -> i128 {
    used.saturating_mul(100) / max.max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(meter: Meter, used: i128, max: i128, expected: &str) {
        assert_eq!(amounts(&meter, used, max), expected);
    }

    #[test]
    fn are_readable() {
        check(Meter::Requests, 7, 100, "7 of 100 requests");
        check(
            Meter::InputTokens,
            1_000,
            999_999,
            "1,000 of 999,999 input tokens",
        );
        check(Meter::Tokens, 1_234_567_890, 1, "1,234,567,890 of 1 tokens");
        check(
            Meter::Cost,
            727_200_000,
            500_000_000_000,
            "0.000727 of 0.5 USD",
        );
        check(
            Meter::Unit("images".to_owned()),
            -1_000,
            3,
            "-1,000 of 3 images",
        );
    }

    #[test]
    fn percentages_round_down() {
        assert_eq!(percent(49_200, 60_000), 82);
        assert_eq!(percent(59_999, 60_000), 99);
        assert_eq!(percent(i128::MAX, 1), i128::MAX);
        assert_eq!(percent(5, 0), 500);
    }
}
