use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::Amount;
use crate::subject::Subject;
use crate::time::Timestamp;

/// What a key or token may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Report events, and ask for checks.
    Ingest,
    /// Ask for checks only.
    Gateway,
    /// Everything on the management plane.
    Operator,
    /// Read everything on the management plane.
    Auditor,
    /// Read what is its own tenant's on the management plane.
    Tenant,
}

impl Role {
    /// As policy, queries and people call it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Ingest => "ingest",
            Self::Gateway => "gateway",
            Self::Operator => "operator",
            Self::Auditor => "auditor",
            Self::Tenant => "tenant",
        }
    }
}

/// A key or token by its public id, never the secret itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Key {
    pub id: String,
    /// SHA-256 of the secret, in lowercase hex.
    pub sha256: String,
    pub role: Role,
    /// The one tenant it speaks for; absent: the whole platform.
    pub tenant: Option<String>,
    pub created_at: Timestamp,
    pub expires_at: Option<Timestamp>,
    pub revoked: bool,
    /// What a person called it.
    pub note: String,
}

/// What a person or system ordered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Command {
    pub id: String,
    /// `raise`, `clear`, `block`, `unblock`, `top_up`, `set_tier`, …
    pub kind: String,
    pub subject: Subject,
    pub at: Timestamp,
    pub actor: String,
    pub reason: String,
    pub limit: Option<String>,
    pub amount: Option<Amount>,
    pub until: Option<Timestamp>,
    /// What else the kind takes, by name.
    pub arguments: BTreeMap<String, String>,
}
