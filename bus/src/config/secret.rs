//! Texts that must not be shown, and settings of which some are such.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::{Deref, DerefMut};

use serde::de::{self, Deserialize, Deserializer, MapAccess, Visitor};

/// A password. Nothing shows it: its `Debug` is three dots, and it has no `Display`.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    #[must_use]
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The text itself, for those who must hand it on.
    #[must_use]
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("…")
    }
}

/// Unlike a `String`'s, its errors do not repeat what was found instead of a text.
impl<'de> Deserialize<'de> for Secret {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let value = Value::deserialize(deserializer)?;
        match value {
            Value::Text(text) => Ok(Self(text)),
            Value::Number(_) | Value::Table(_) => {
                Err(de::Error::custom("a secret is a text: put it in quotes"))
            }
        }
    }
}

/// Settings by librdkafka's own names. A table is taken as the first part of a name, so that `ssl.ca.location` means
/// the same with and without quotes. Its `Debug` shows no secret.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Settings(BTreeMap<String, String>);

impl Deref for Settings {
    type Target = BTreeMap<String, String>;

    fn deref(&self) -> &Self::Target {
        &self.0
    }
}

impl DerefMut for Settings {
    fn deref_mut(&mut self) -> &mut Self::Target {
        &mut self.0
    }
}

impl<const N: usize> From<[(String, String); N]> for Settings {
    fn from(settings: [(String, String); N]) -> Self {
        Self(BTreeMap::from(settings))
    }
}

impl fmt::Debug for Settings {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = self.0.iter().map(|(name, value)| (name, show(name, value)));
        formatter.debug_map().entries(shown).finish()
    }
}

impl<'de> Deserialize<'de> for Settings {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let tree = BTreeMap::<String, Value>::deserialize(deserializer)?;
        let mut settings = BTreeMap::new();
        flatten("", tree, &mut settings);
        Ok(Self(settings))
    }
}

fn flatten(above: &str, tree: BTreeMap<String, Value>, settings: &mut BTreeMap<String, String>) {
    for (name, value) in tree {
        let name = format!("{above}{name}");
        match value {
            Value::Text(text) | Value::Number(text) => {
                settings.insert(name, text);
            }
            Value::Table(below) => flatten(&format!("{name}."), below, settings),
        }
    }
}

/// The value of the setting `name`, unless it must not be shown.
pub(crate) fn show<'a>(name: &str, value: &'a str) -> &'a str {
    let secret = SECRETS.iter().any(|part| name.contains(part));
    if secret { "…" } else { value }
}

/// What the names of librdkafka's settings that hold secrets contain.
const SECRETS: [&str; 6] = [
    "password",
    "secret",
    "key.pem",
    "oauthbearer.config",
    "jaas.config",
    "passphrase",
];

/// A value as it stands in the file.
enum Value {
    Text(String),
    /// A number, `true` or `false`, as it is written.
    Number(String),
    Table(BTreeMap<String, Value>),
}

impl<'de> Deserialize<'de> for Value {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ValueVisitor)
    }
}

struct ValueVisitor;

impl<'de> Visitor<'de> for ValueVisitor {
    type Value = Value;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a text, a number, `true` or `false`")
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Value, E> {
        Ok(Value::Text(text.to_owned()))
    }

    fn visit_bool<E: de::Error>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Number(value.to_string()))
    }

    fn visit_i64<E: de::Error>(self, value: i64) -> Result<Value, E> {
        Ok(Value::Number(value.to_string()))
    }

    fn visit_u64<E: de::Error>(self, value: u64) -> Result<Value, E> {
        Ok(Value::Number(value.to_string()))
    }

    fn visit_f64<E: de::Error>(self, value: f64) -> Result<Value, E> {
        Ok(Value::Number(value.to_string()))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Value, A::Error> {
        let mut table = BTreeMap::new();
        while let Some((name, value)) = entries.next_entry()? {
            table.insert(name, value);
        }
        Ok(Value::Table(table))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[track_caller]
    fn check(json: serde_json::Value, expected: &[(&str, &str)]) {
        let settings: Settings = serde_json::from_value(json).unwrap();
        let owned = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
        assert_eq!(settings.0, expected.iter().map(owned).collect());
    }

    #[test]
    fn names_may_be_quoted_or_not() {
        check(json!({"linger.ms": "5"}), &[("linger.ms", "5")]);
        check(json!({"linger": {"ms": 5}}), &[("linger.ms", "5")]);
        check(
            json!({"consumer": {"check.crcs": true}, "debug": "all"}),
            &[("consumer.check.crcs", "true"), ("debug", "all")],
        );
    }

    #[test]
    fn secrets_are_not_shown() {
        for name in [
            "sasl.password",
            "ssl.key.password",
            "ssl.keystore.password",
            "ssl.key.pem",
            "consumer.sasl.password",
            "sasl.oauthbearer.config",
            "sasl.oauthbearer.client.secret",
            "sasl.oauthbearer.assertion.private.key.passphrase",
            "sasl.oauthbearer.assertion.private.key.pem",
        ] {
            let settings = Settings::from([(name.to_owned(), "hunter2".to_owned())]);
            let shown = format!("{settings:?}");
            assert!(
                shown.contains(name) && !shown.contains("hunter2"),
                "{shown}"
            );
        }
        let settings = Settings::from([("sasl.username".to_owned(), "weir".to_owned())]);
        assert!(format!("{settings:?}").contains("weir"));
        assert_eq!(format!("{:?}", Secret::new("hunter2")), "…");
    }

    #[test]
    fn a_secret_that_is_no_text_is_not_repeated() {
        for wrong in [json!(271_828), json!({"a": 271_828}), json!([271_828])] {
            let error = serde_json::from_value::<Secret>(wrong).unwrap_err();
            assert!(!error.to_string().contains("271828"), "{error}");
        }
    }
}
