//! Money as whole pico-dollars (1 USD = 10^12), never a float: 1,068 of 15,422 public per-token prices are
//! not whole nano-dollars.

use std::fmt::Write as _;

use thiserror::Error;

/// Pico-dollars in one US dollar.
pub const PICO_PER_USD: i128 = 1_000_000_000_000;

/// The finest digit that is kept: 10^-12 USD.
const SCALE: i64 = 12;

/// Digits of an amount that are looked at; more is no amount of money.
const DIGITS_MAX: usize = 60;

/// Digits of the most that one amount can hold. So many fit 64 bits without a sign.
const WHOLE_DIGITS_MAX: i64 = 19;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum MoneyError {
    #[error("not a decimal number of US dollars such as 0.000727 or 7.27e-4")]
    NotANumber,
    #[error("finer than a pico-dollar (10^-12 USD), which would have to be rounded")]
    TooFine,
    #[error("more than {} USD, the most that one amount can hold", i64::MAX as i128 / PICO_PER_USD)]
    TooLarge,
}

/// Reads a decimal number of US dollars, plain or with an exponent, into pico-dollars. Never through a float:
/// `0.000727200000` and `7.272e-4` are both exactly 727,200,000.
pub fn parse_usd(text: &str) -> Result<i64, MoneyError> {
    let (negative, unsigned) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text),
    };
    let (mantissa, exponent) = match unsigned.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, parse_exponent(exponent)?),
        None => (unsigned, 0),
    };
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let digits = || whole.bytes().chain(fraction.bytes());
    let all_digits = digits().all(|b| b.is_ascii_digit());
    let count = whole.len() + fraction.len();
    if whole.is_empty() || mantissa.ends_with('.') || !all_digits || count > DIGITS_MAX {
        return Err(MoneyError::NotANumber);
    }
    let leading = digits().take_while(|b| *b == b'0').count();
    if leading == count {
        return Ok(0);
    }
    let trailing = digits().rev().take_while(|b| *b == b'0').count();
    let significant = count - leading - trailing;
    let shift = SCALE + exponent - fraction.len() as i64 + trailing as i64;
    if shift < 0 {
        return Err(MoneyError::TooFine);
    }
    if significant as i64 + shift > WHOLE_DIGITS_MAX {
        return Err(MoneyError::TooLarge);
    }
    let value = digits().skip(leading).take(significant);
    let value = value.fold(0, |value, b| value * 10 + u64::from(b - b'0'));
    let pico = i128::from(value * 10_u64.pow(shift as u32));
    i64::try_from(if negative { -pico } else { pico }).map_err(|_| MoneyError::TooLarge)
}

fn parse_exponent(text: &str) -> Result<i64, MoneyError> {
    let unsigned = text.strip_prefix(['+', '-']).unwrap_or(text);
    if unsigned.is_empty() || unsigned.len() > 6 || !unsigned.bytes().all(|b| b.is_ascii_digit()) {
        return Err(MoneyError::NotANumber);
    }
    text.parse().map_err(|_| MoneyError::NotANumber)
}

/// The shortest exact decimal number of US dollars: 727,200,000 pico-dollars are `0.0007272`.
#[must_use]
pub fn format_usd(pico: i128) -> String {
    let sign = if pico < 0 { "-" } else { "" };
    let pico = pico.unsigned_abs();
    let unit = PICO_PER_USD.unsigned_abs();
    let mut text = format!("{sign}{}", pico / unit);
    let fraction = pico % unit;
    if fraction != 0 {
        let mut digits = String::new();
        let written = write!(digits, "{fraction:012}");
        debug_assert!(written.is_ok(), "writing to a string cannot fail");
        text.push('.');
        text.push_str(digits.trim_end_matches('0'));
    }
    text
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[track_caller]
    fn check(text: &str, expected: Result<i64, MoneyError>) {
        assert_eq!(parse_usd(text), expected, "{text}");
    }

    #[test]
    fn reads_decimal_dollars_exactly() {
        check("0.000727200000", Ok(727_200_000));
        check("7.272e-4", Ok(727_200_000));
        check("7.272E-04", Ok(727_200_000));
        check("0", Ok(0));
        check("0e999999", Ok(0));
        check("-0.0", Ok(0));
        check("1", Ok(1_000_000_000_000));
        check("-2.5", Ok(-2_500_000_000_000));
        check("1e-12", Ok(1));
        check("100e-14", Ok(1));
        check("0.0000000000010000", Ok(1));
        check("9223372.036854775807", Ok(i64::MAX));
        check("-9223372.036854775808", Ok(i64::MIN));
        check("0.10e1", Ok(1_000_000_000_000));
        check("00100.00", Ok(100_000_000_000_000));
    }

    #[test]
    fn refuses_what_it_cannot_hold() {
        check("1e-13", Err(MoneyError::TooFine));
        check("0.1234567890123", Err(MoneyError::TooFine));
        check("9223372.036854775808", Err(MoneyError::TooLarge));
        check("-9223372.036854775809", Err(MoneyError::TooLarge));
        check("9999999.999999999999", Err(MoneyError::TooLarge));
        check("10000000", Err(MoneyError::TooLarge));
        check("1e300", Err(MoneyError::TooLarge));
        for text in [
            "", "-", ".5", "5.", "+1", "1_000", "1e", "1e+-3", "NaN", "inf", "0x10", " 1", "1.2.3",
        ] {
            check(text, Err(MoneyError::NotANumber));
        }
        check(&"9".repeat(100), Err(MoneyError::NotANumber));
    }

    proptest! {
        #[test]
        fn every_amount_survives_a_round_trip(pico: i64) {
            prop_assert_eq!(parse_usd(&format_usd(i128::from(pico))), Ok(pico));
        }

        /// Where the point stands, and zeros around the digits, make no difference.
        #[test]
        fn one_amount_has_many_spellings(pico: i64, moved in 1..20_u32, zeros in 0..10_usize) {
            let sign = if pico < 0 { "-" } else { "" };
            let zeros = "0".repeat(zeros);
            let (digits, point) = (pico.unsigned_abs(), 10_u64.pow(moved));
            let (whole, fraction) = (digits / point, digits % point);
            let (width, exponent) = (moved as usize, i64::from(moved) - SCALE);
            let spelling = format!("{sign}{zeros}{whole}.{fraction:0width$}{zeros}e{exponent}");
            prop_assert_eq!(parse_usd(&spelling), Ok(pico), "{}", spelling);
        }
    }
}
