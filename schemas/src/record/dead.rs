use serde::{Deserialize, Serialize};

use super::Origin;
use crate::time::Timestamp;

/// A record that nobody could read, byte for byte.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Dead {
    pub origin: Origin,
    /// What was wrong with it, and where.
    pub reason: String,
    pub at: Timestamp,
    #[serde(with = "serde_bytes")]
    pub key: Option<Vec<u8>>,
    #[serde(with = "serde_bytes")]
    pub value: Option<Vec<u8>>,
    pub headers: Vec<Header>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Header {
    pub name: String,
    #[serde(with = "serde_bytes")]
    pub value: Option<Vec<u8>>,
}
