use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::policy::Meter;

/// A sum of a meter: a count, or pico-dollars. Travels as a decimal string, since 128 bits fit no number of
/// Avro's or JSON's.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Amount(pub i128);

/// Up to here every whole number is exact in a double, which is what most readers of JSON know.
const DOUBLE_EXACT_MAX: u128 = 1 << 53;

impl Amount {
    /// As answers over HTTP have it: a number while it is exact in a double, a string beyond.
    #[must_use]
    pub fn to_json(self) -> serde_json::Value {
        match i64::try_from(self.0) {
            Ok(number) if self.0.unsigned_abs() <= DOUBLE_EXACT_MAX => number.into(),
            _ => self.0.to_string().into(),
        }
    }

    /// As answers over HTTP have an amount of `meter`: pico-dollars are a string always, so that their shape does
    /// not change with their size.
    #[must_use]
    pub fn to_json_of(self, meter: &Meter) -> serde_json::Value {
        match meter {
            Meter::Cost => self.0.to_string().into(),
            _ => self.to_json(),
        }
    }
}

impl fmt::Display for Amount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl Serialize for Amount {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for Amount {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Digits;
        impl de::Visitor<'_> for Digits {
            type Value = Amount;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a whole number in decimal digits")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Amount, E> {
                let error = |_| E::invalid_value(de::Unexpected::Str(text), &self);
                text.parse().map(Amount).map_err(error)
            }
        }
        deserializer.deserialize_str(Digits)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn large_numbers_become_strings() {
        let check = |amount, expected| assert_eq!(Amount(amount).to_json(), expected);
        check(0, json!(0));
        check(1 << 53, json!(9_007_199_254_740_992_i64));
        check((1 << 53) + 1, json!("9007199254740993"));
        check(-(1 << 53) - 1, json!("-9007199254740993"));
        check(i128::MAX, json!(i128::MAX.to_string()));
        assert_eq!(Amount(7).to_json_of(&Meter::Cost), json!("7"));
        assert_eq!(Amount(7).to_json_of(&Meter::Tokens), json!(7));
    }
}
