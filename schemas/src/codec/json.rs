//! Records as JSON, for people and their tools.

use apache_avro::reader::datum::GenericDatumReader;
use apache_avro::types::Value as Avro;
use serde_json::{Map, Value, json};

use super::DecodeError;
use super::format::{Format, split, unknown};
use super::records::Record;
use crate::record::{
    Alert, Auth, Cleared, Command, Crossing, Csp, CspGroup, Dead, Decision, Key, Layout, Marker,
    Order, Partial, PolicyVersion, Ranking, Refusal, Rollup, Share, Spread, Usage,
};
use crate::time::Timestamp;
use crate::topic;

/// A topic's value as `{"record": NAME, "value": {…}}`: times in RFC 3339; bytes as text where they are UTF-8, else as
/// `{"hex": …}`. Made for people's eyes, not for speed.
pub fn to_json(topic: &str, bytes: &[u8]) -> Result<Value, DecodeError> {
    let (fingerprint, mut datum) = split(bytes)?;
    let formats = formats(topic).ok_or_else(|| DecodeError::UnknownTopic(topic.to_owned()))?;
    let (format, version) = formats
        .iter()
        .find_map(|format| Some((format, format.version(fingerprint)?)))
        .ok_or_else(|| unknown(fingerprint))?;
    let reader = GenericDatumReader::builder(&version.authority)
        .build()
        .map_err(|e| format.corrupt(&e))?;
    let value = reader
        .read_value(&mut datum)
        .map_err(|e| format.corrupt(&e))?;
    Ok(json!({ "record": format.record(), "value": plain(value) }))
}

/// The records that `topic` carries.
fn formats(topic: &str) -> Option<Vec<&'static Format>> {
    const USAGE: &str = topic::USAGE.name();
    const AUTH: &str = topic::AUTH.name();
    const CSP: &str = topic::CSP.name();
    const PARTIALS: &str = topic::PARTIALS.name();
    const SIGNALS: &str = topic::SIGNALS.name();
    const ROLLUPS: &str = topic::ROLLUPS.name();
    const SKETCHES: &str = topic::SKETCHES.name();
    const DECISIONS: &str = topic::DECISIONS.name();
    const POLICIES: &str = topic::POLICIES.name();
    const KEYS: &str = topic::KEYS.name();
    const COMMANDS: &str = topic::COMMANDS.name();
    const ALERTS: &str = topic::ALERTS.name();
    const REFUSALS: &str = topic::REFUSALS.name();
    const SHARES: &str = topic::SHARES.name();
    const DEAD: &str = topic::DEAD.name();
    Some(match topic {
        USAGE => vec![Usage::format(), Marker::format()],
        AUTH => vec![Auth::format(), Marker::format()],
        CSP => vec![Csp::format(), Marker::format()],
        PARTIALS => vec![Partial::format(), Marker::format()],
        SIGNALS => vec![Crossing::format(), CspGroup::format(), Cleared::format()],
        ROLLUPS => vec![Rollup::format()],
        SKETCHES => vec![Spread::format(), Ranking::format()],
        DECISIONS => vec![Decision::format()],
        POLICIES => vec![PolicyVersion::format(), Layout::format(), Order::format()],
        KEYS => vec![Key::format()],
        COMMANDS => vec![Command::format()],
        ALERTS => vec![Alert::format()],
        REFUSALS => vec![Refusal::format()],
        SHARES => vec![Share::format()],
        DEAD => vec![Dead::format()],
        _ => return None,
    })
}

fn plain(value: Avro) -> Value {
    match value {
        Avro::Null => Value::Null,
        Avro::Boolean(yes) => yes.into(),
        Avro::Int(number) => number.into(),
        Avro::Long(number) => number.into(),
        Avro::String(text) | Avro::Enum(_, text) => text.into(),
        Avro::TimestampMicros(micros) => Timestamp::from_micros(micros).to_string().into(),
        Avro::Bytes(bytes) => match String::from_utf8(bytes) {
            Ok(text) => text.into(),
            Err(e) => json!({ "hex": hex(e.as_bytes()) }),
        },
        Avro::Union(_, inner) => plain(*inner),
        Avro::Array(items) => items.into_iter().map(plain).collect(),
        Avro::Map(pairs) => object(pairs),
        Avro::Record(fields) => object(fields),
        // Types that no schema of ours uses.
        other => format!("{other:?}").into(),
    }
}

fn object(pairs: impl IntoIterator<Item = (String, Avro)>) -> Value {
    let pairs = pairs.into_iter().map(|(name, value)| (name, plain(value)));
    Value::Object(pairs.collect::<Map<_, _>>())
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::Wire;
    use crate::record::{Header, Origin, Signal};

    #[test]
    fn every_topic_has_records() {
        for topic in topic::ALL {
            assert!(formats(topic.name).is_some(), "{}", topic.name);
        }
        assert!(matches!(
            to_json("usage", &[0xc3, 1, 0, 0, 0, 0, 0, 0, 0, 0]),
            Err(DecodeError::UnknownTopic(_))
        ));
    }

    #[test]
    fn shows_times_and_bytes_for_people() {
        let dead = Dead {
            origin: Origin::default(),
            reason: "broken".to_owned(),
            at: Timestamp::from_seconds(0),
            key: Some(b"acme".to_vec()),
            value: Some(vec![0xff, 0x00]),
            headers: vec![Header {
                name: "h".to_owned(),
                value: None,
            }],
        };
        let mut bytes = Vec::new();
        dead.encode(&mut bytes).unwrap();
        let expected = json!({ "record": "dead", "value": {
            "origin": { "topic": "", "partition": 0, "offset": 0 },
            "reason": "broken",
            "at": "1970-01-01T00:00:00Z",
            "key": "acme",
            "value": { "hex": "ff00" },
            "headers": [{ "name": "h", "value": null }],
        }});
        assert_eq!(to_json("weir.dead.v1", &bytes).unwrap(), expected);
    }

    #[test]
    fn refuses_records_of_other_topics() {
        let mut bytes = Vec::new();
        Layout::default().encode(&mut bytes).unwrap();
        assert!(to_json("weir.policies.v1", &bytes).is_ok());
        assert!(matches!(
            to_json("weir.signals.v1", &bytes),
            Err(DecodeError::UnknownSchema(_))
        ));
        assert!(matches!(
            Signal::decode(&bytes),
            Err(DecodeError::UnknownSchema(_))
        ));
    }
}
