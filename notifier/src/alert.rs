//! An alert as the notifier thinks of it.

use schemas::subject::Subject;
use schemas::time::Timestamp;

/// What happened, in one word.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Kind {
    Soft,
    Hard,
    Lifted,
    CspGroup,
    Asked,
    Answered,
    Cleared,
}

impl Kind {
    pub(crate) const ALL: [Kind; 7] = [
        Kind::Soft,
        Kind::Hard,
        Kind::Lifted,
        Kind::CspGroup,
        Kind::Asked,
        Kind::Answered,
        Kind::Cleared,
    ];

    /// What they are called.
    pub(crate) const NAMES: [&'static str; Kind::ALL.len()] = {
        let mut names = [""; Kind::ALL.len()];
        let mut n = 0;
        while n < names.len() {
            names[n] = Kind::ALL[n].name();
            n += 1;
        }
        names
    };

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Kind::Soft => "soft",
            Kind::Hard => "hard",
            Kind::Lifted => "lifted",
            Kind::CspGroup => "csp_group",
            Kind::Asked => "asked",
            Kind::Answered => "answered",
            Kind::Cleared => "cleared",
        }
    }

    /// All names in a sentence, for who asked for another.
    pub(crate) fn any_of_them() -> String {
        let [others @ .., last] = Self::NAMES;
        format!("{} or {last}", others.join(", "))
    }

    pub(crate) fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.name() == name)
    }
}

/// Something that people are to be told, once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Alert {
    /// The same in every run of one log.
    pub(crate) id: String,
    pub(crate) kind: Kind,
    /// `None` for scopes wider than a tenant.
    pub(crate) tenant: Option<String>,
    pub(crate) subject: Subject,
    pub(crate) title: String,
    pub(crate) body: String,
    /// Event time of what happened.
    pub(crate) at: Timestamp,
    pub(crate) limit: Option<String>,
    pub(crate) level: Option<String>,
    pub(crate) used: Option<i128>,
    pub(crate) max: Option<i128>,
    pub(crate) decision: Option<String>,
    pub(crate) until: Option<Timestamp>,
}

impl Alert {
    /// Who its messages are counted for; empty for scopes wider than a tenant.
    pub(crate) fn tenant_key(&self) -> &str {
        self.tenant.as_deref().unwrap_or_default()
    }
}

#[cfg(test)]
pub(crate) mod testing {
    use super::*;

    /// A hard crossing of `acme` at `at`.
    pub(crate) fn alert(id: &str, at: Timestamp) -> Alert {
        Alert {
            id: id.to_owned(),
            kind: Kind::Hard,
            tenant: Some("acme".to_owned()),
            subject: Subject::tenant("acme"),
            title: format!("acme is refused ({id})"),
            body: "60000 of 60000 tokens in 60 s are used.".to_owned(),
            at,
            limit: Some("tokens-a-minute".to_owned()),
            level: Some("100%".to_owned()),
            used: Some(60_000),
            max: Some(60_000),
            decision: Some("d-1".to_owned()),
            until: Some(Timestamp::from_seconds(at.second() + 60)),
        }
    }
}
