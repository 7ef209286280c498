use serde::{Deserialize, Serialize};

use super::{Order, PolicyVersion};
use crate::time::Timestamp;

/// A record among the events that changes how those after it are counted. A change of policy and the passing of
/// time enter the log as records, so that every run of one log cuts at the same places.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Marker {
    /// The policy that holds from here on.
    pub policy: Option<PolicyVersion>,
    /// No event came for a while: event time has moved on to here.
    pub tick: Option<Timestamp>,
    /// An order that holds from here on, or has ended.
    pub order: Option<Box<Order>>,
}

/// A value of a topic of events: an event, or a marker among them.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(
    clippy::large_enum_variant,
    reason = "nearly every value is an event, which is as large"
)]
pub enum Recorded<E> {
    Event(E),
    Marker(Marker),
}
