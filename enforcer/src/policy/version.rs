use schemas::policy::Policy;
use schemas::time::Timestamp;

/// One version of the policy, as it stands in the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Version {
    /// What it says; its `version` is this one's number.
    pub(crate) policy: Policy,
    pub(crate) at: Timestamp,
    pub(crate) author: String,
    pub(crate) reason: String,
    /// The text it was read from.
    pub(crate) source: String,
}

impl Version {
    /// Whether `source`, which was read as `policy`, is this version's.
    pub(crate) fn is_of(&self, source: &str, policy: &Policy) -> bool {
        let numbered = Policy {
            version: self.policy.version,
            ..policy.clone()
        };
        self.source == source && self.policy == numbered
    }
}
