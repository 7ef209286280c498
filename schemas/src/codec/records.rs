//! Which schema belongs to which record, and which records to which topic's values.

use std::sync::LazyLock;

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::format::{Format, split, unknown};
use super::{DecodeError, EncodeError, Wire};
use crate::record::{
    Alert, Auth, Cleared, Command, Crossing, Csp, CspGroup, Dead, Decision, Key, Layout, Marker,
    Order, Partial, PolicyRecord, PolicyVersion, Ranking, Recorded, Refusal, Rollup, Share, Signal,
    Sketch, Spread, Usage,
};

/// A record with an Avro schema of its own.
pub trait Record: Serialize + DeserializeOwned + Send + 'static {
    fn format() -> &'static Format;
}

macro_rules! records {
    ($($record:ty => $name:literal, former [$($former:literal),*];)*) => {
        $(impl Record for $record {
            fn format() -> &'static Format {
                static FORMAT: LazyLock<Format> = LazyLock::new(|| {
                    let current = include_str!(concat!("../../avro/", $name, ".avsc"));
                    let former = [$(include_str!(concat!("../../avro/former/", $former, ".avsc"))),*];
                    Format::new($name, current, &former)
                });
                &FORMAT
            }
        })*

        const SCHEMAS: &[(&str, &str)] = &[
            $(($name, include_str!(concat!("../../avro/", $name, ".avsc")))),*
        ];

        #[cfg(test)]
        pub(super) fn formats() -> Vec<&'static Format> {
            vec![$(<$record>::format()),*]
        }
    };
}

records! {
    Usage => "usage", former [];
    Auth => "auth", former [];
    Csp => "csp", former [];
    Partial => "partial", former [];
    Marker => "marker", former ["marker_1", "marker_2", "marker_3", "marker_4"];
    PolicyVersion => "policy_version", former ["policy_version_1", "policy_version_2", "policy_version_3", "policy_version_4"];
    Layout => "layout", former [];
    Order => "order", former ["order_1", "order_2"];
    Key => "key", former [];
    Command => "command", former [];
    Crossing => "crossing", former ["crossing_1"];
    CspGroup => "csp_group", former [];
    Cleared => "cleared", former [];
    Rollup => "rollup", former [];
    Spread => "spread", former [];
    Ranking => "ranking", former [];
    Decision => "decision", former ["decision_1"];
    Refusal => "refusal", former [];
    Share => "share", former [];
    Alert => "alert", former ["alert_1", "alert_2"];
    Dead => "dead", former [];
}

/// Every record's name and the Avro schema that writes it, as JSON.
#[must_use]
pub fn schemas() -> &'static [(&'static str, &'static str)] {
    SCHEMAS
}

impl<R: Record> Wire for R {
    fn encode(&self, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        R::format().encode(self, out)
    }

    fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        R::format().decode(bytes)
    }
}

/// Reads an `A` or a `B`, by the fingerprint.
fn either<A: Record, B: Record, T>(
    bytes: &[u8],
    a: impl FnOnce(A) -> T,
    b: impl FnOnce(B) -> T,
) -> Result<T, DecodeError> {
    let (fingerprint, _) = split(bytes)?;
    if A::format().version(fingerprint).is_some() {
        A::decode(bytes).map(a)
    } else if B::format().version(fingerprint).is_some() {
        B::decode(bytes).map(b)
    } else {
        Err(unknown(fingerprint))
    }
}

impl<E: Record> Wire for Recorded<E> {
    fn encode(&self, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        match self {
            Recorded::Event(event) => event.encode(out),
            Recorded::Marker(marker) => marker.encode(out),
        }
    }

    fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        either(bytes, Recorded::Event, Recorded::Marker)
    }
}

impl Wire for Signal {
    fn encode(&self, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        match self {
            Signal::Crossing(crossing) => crossing.encode(out),
            Signal::CspGroup(group) => group.encode(out),
            Signal::Cleared(cleared) => cleared.encode(out),
        }
    }

    fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let (fingerprint, _) = split(bytes)?;
        if Cleared::format().version(fingerprint).is_some() {
            return Cleared::decode(bytes).map(Signal::Cleared);
        }
        either(bytes, Signal::Crossing, Signal::CspGroup)
    }
}

impl Wire for Sketch {
    fn encode(&self, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        match self {
            Sketch::Spread(spread) => spread.encode(out),
            Sketch::Ranking(ranking) => ranking.encode(out),
        }
    }

    fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        either(bytes, Sketch::Spread, Sketch::Ranking)
    }
}

impl Wire for PolicyRecord {
    fn encode(&self, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        match self {
            PolicyRecord::Policy(policy) => policy.encode(out),
            PolicyRecord::Layout(layout) => layout.encode(out),
            PolicyRecord::Order(order) => order.encode(out),
        }
    }

    fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let (fingerprint, _) = split(bytes)?;
        if Order::format().version(fingerprint).is_some() {
            return Order::decode(bytes).map(PolicyRecord::Order);
        }
        either(bytes, PolicyRecord::Policy, PolicyRecord::Layout)
    }
}
