//! A record as JSON, for people and their tools.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use bus::Record;
use serde_json::{Map, Value, json};

/// How Avro's single-object encoding begins.
const AVRO: [u8; 2] = [0xc3, 0x01];
/// How CloudEvents' Kafka binding marks an event whose attributes are headers.
const BINARY_EVENT: &str = "ce_specversion";

/// A record of `topic`: where it is, when it was appended, and what it says.
pub(super) fn record(topic: &str, partition: i32, record: &Record) -> Value {
    let mut shown = Map::new();
    shown.insert("partition".to_owned(), partition.into());
    shown.insert("offset".to_owned(), record.offset.into());
    let at = record.appended_at.to_string();
    shown.insert("timestamp".to_owned(), at.into());
    shown.insert("key".to_owned(), optional(record.key.as_deref()));
    let headers = record.headers.iter();
    let headers = headers.map(|(name, value)| json!([name, optional(value.as_deref())]));
    shown.insert("headers".to_owned(), headers.collect());
    let is_event = record.headers.iter().any(|(name, _)| name == BINARY_EVENT);
    shown.extend(value(topic, record.value.as_deref(), is_event));
    Value::Object(shown)
}

/// A value as `record` (what it is) and `value`; or, where nobody can tell, `value` in base64 and why (`undecoded`).
pub(super) fn value(topic: &str, bytes: Option<&[u8]>, is_event: bool) -> Map<String, Value> {
    let pair = |name: &str, value: Value| (name.to_owned(), value);
    let Some(bytes) = bytes else {
        return Map::from_iter([pair("value", Value::Null)]);
    };
    let reason = if bytes.starts_with(&AVRO) {
        match schemas::codec::to_json(topic, bytes) {
            Ok(Value::Object(decoded)) => return decoded,
            Ok(other) => return Map::from_iter([pair("value", other)]),
            Err(error) => error.to_string(),
        }
    } else {
        match serde_json::from_slice::<Value>(bytes) {
            Ok(decoded) => {
                let is_event = is_event || decoded.get("specversion").is_some();
                let name = if is_event { "cloudevent" } else { "json" };
                return Map::from_iter([pair("record", name.into()), pair("value", decoded)]);
            }
            Err(error) => format!("neither Avro in single-object encoding nor JSON: {error}"),
        }
    };
    Map::from_iter([
        pair("value", json!({ "base64": BASE64.encode(bytes) })),
        pair("undecoded", reason.into()),
    ])
}

/// Bytes as text where they are that.
pub(super) fn optional(bytes: Option<&[u8]>) -> Value {
    match bytes.map(std::str::from_utf8) {
        None => Value::Null,
        Some(Ok(text)) => text.into(),
        Some(Err(_)) => json!({ "base64": BASE64.encode(bytes.unwrap_or_default()) }),
    }
}

#[cfg(test)]
mod tests {
    use schemas::codec::Wire;
    use schemas::record::Layout;
    use schemas::time::Timestamp;

    use super::*;

    #[track_caller]
    fn check(topic: &str, bytes: Option<&[u8]>, expected: Value) {
        assert_eq!(Value::Object(value(topic, bytes, false)), expected);
    }

    #[test]
    fn decodes_what_it_can_and_says_what_it_cannot() {
        let mut avro = Vec::new();
        Layout::default().encode(&mut avro).unwrap();
        check(
            "weir.policies.v1",
            Some(&avro),
            json!({ "record": "layout", "value": { "partitions": {} } }),
        );
        check(
            "weir.usage.v1",
            Some(br#"{"specversion":"1.0","id":"7"}"#),
            json!({ "record": "cloudevent", "value": { "specversion": "1.0", "id": "7" } }),
        );
        check(
            "any",
            Some(b"[1]"),
            json!({ "record": "json", "value": [1] }),
        );
        check("any", None, json!({ "value": null }));
        let foreign = value("weir.usage.v1", Some(&avro), false);
        assert!(
            foreign["undecoded"]
                .as_str()
                .unwrap()
                .contains("none that belongs")
        );
        let garbage = value("any", Some(&[0xff, 0]), false);
        assert_eq!(garbage["value"], json!({ "base64": "/wA=" }));
        assert!(garbage["undecoded"].as_str().unwrap().contains("nor JSON"));
    }

    #[test]
    fn shows_where_a_record_is() {
        let shown = record(
            "any",
            3,
            &Record {
                offset: 17,
                appended_at: Timestamp::from_seconds(0),
                key: Some(vec![0xff].into()),
                value: Some("1".into()),
                headers: vec![
                    (BINARY_EVENT.to_owned(), Some("1.0".into())),
                    ("none".to_owned(), None),
                ],
            },
        );
        let expected = json!({
            "partition": 3,
            "offset": 17,
            "timestamp": "1970-01-01T00:00:00Z",
            "key": { "base64": "/w==" },
            "headers": [[BINARY_EVENT, "1.0"], ["none", null]],
            "record": "cloudevent",
            "value": 1,
        });
        assert_eq!(shown, expected);
    }
}
