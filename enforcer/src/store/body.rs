use schemas::policy::{Meter, Mode, Window};
use schemas::time::Timestamp;
use serde::{Deserialize, Serialize};

use crate::decision::{Cause, Decision};

/// What a decision says, as a row keeps it. Times are microseconds since 1970; amounts are text, since JSON's numbers
/// are not exact.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Body {
    pub(crate) verdict: String,
    pub(crate) status: Option<u16>,
    pub(crate) until: Option<Timestamp>,
    pub(crate) terminal: bool,
    pub(crate) causes: Vec<CauseBody>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct CauseBody {
    pub(crate) limit: String,
    pub(crate) policy_version: u64,
    pub(crate) meter: Meter,
    pub(crate) window: Window,
    pub(crate) mode: Mode,
    pub(crate) verdict: String,
    #[serde(with = "digits")]
    pub(crate) used: i128,
    #[serde(with = "digits")]
    pub(crate) max: i128,
    pub(crate) reset_at: Option<Timestamp>,
    pub(crate) crossing: String,
    pub(crate) topic: String,
    pub(crate) partition: i32,
    pub(crate) offset: i64,
}

impl Body {
    pub(super) fn of(decision: &Decision) -> Self {
        Self {
            verdict: decision.verdict.name().to_owned(),
            status: decision.status,
            until: decision.until,
            terminal: decision.terminal,
            causes: decision.causes.iter().map(CauseBody::of).collect(),
        }
    }
}

impl CauseBody {
    pub(crate) fn of(cause: &Cause) -> Self {
        Self {
            limit: cause.limit.clone(),
            policy_version: cause.policy_version,
            meter: cause.meter.clone(),
            window: cause.window,
            mode: cause.mode,
            verdict: cause.verdict.name().to_owned(),
            used: cause.used,
            max: cause.max,
            reset_at: cause.reset_at,
            crossing: cause.crossing.clone(),
            topic: cause.origin.topic.clone(),
            partition: cause.origin.partition,
            offset: cause.origin.offset,
        }
    }
}

/// A whole number as text.
mod digits {
    use serde::{Deserialize as _, Deserializer, Serializer, de};

    pub(super) fn serialize<S: Serializer>(
        number: &i128,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.collect_str(number)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<i128, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(de::Error::custom)
    }
}
