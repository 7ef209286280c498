use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// A sum of a meter: a count, or pico-dollars. Travels as a decimal string, since 128 bits fit no number of
/// Avro's or JSON's.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Amount(pub i128);

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
