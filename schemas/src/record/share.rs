use serde::{Deserialize, Serialize};

use crate::time::Timestamp;

/// A value of `weir.shares.v1`: what one gateway tells the others of how they share limits. A gateway's key without a
/// value says that it has left.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Share {
    /// The gateway that tells it: one of its lives, from a start to an end.
    pub member: String,
    /// What it is called by people.
    pub name: String,
    pub kind: ShareKind,
    /// The gateway that it is for; absent: all.
    pub to: Option<String>,
    /// The offset up to which the teller had read this topic.
    pub seen: i64,
    /// By the asker's clock, when it asked. A gift repeats it.
    pub asked_at: Timestamp,
    pub items: Vec<ShareItem>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ShareKind {
    /// It is there, every second.
    Beat,
    /// It reckons with everyone who came before `seen`.
    Ack,
    /// It asks for so many more units.
    Want,
    /// It lends so many units in all.
    Gift,
    /// It keeps so many of the units that it was lent.
    Return,
}

/// Units of one limit on one subject.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShareItem {
    pub limit: String,
    pub subject: String,
    pub units: i64,
    /// Of a gift: greater than that of the lender's every earlier one. A return repeats it.
    pub seq: i64,
}
