//! The newest word on one limit of one subject.

use schemas::time::Timestamp;

use super::Outcome;
use crate::decision::{Cause, Crossing, Origin, Verdict};

/// What the aggregator said last of one limit of one subject.
///
/// Signals may come again, after a crash here or in the aggregator. A word therefore outlives what it lifted: it is
/// kept until every crossing heard of has ended by itself, since one that has ended is no evidence any more.
#[derive(Clone, Debug)]
pub(super) struct Word {
    origin: Origin,
    up: bool,
    at: Timestamp,
    /// The standing crossing; absent after a fall.
    pub(super) evidence: Option<Cause>,
    /// `None`: until it falls.
    keep_until: Option<Timestamp>,
}

/// What a word changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Heard {
    /// An older one, or the same again.
    Stale,
    Changed,
}

impl Heard {
    /// What came of it, where it was `decided` anew or not.
    pub(super) const fn outcome(self, decided: bool) -> Outcome {
        match self {
            Self::Stale => Outcome::Stale,
            Self::Changed if decided => Outcome::Decided,
            Self::Changed => Outcome::Told,
        }
    }
}

impl Word {
    /// The first word on a limit: an upward crossing.
    pub(super) fn new(crossing: &Crossing) -> Self {
        Self {
            origin: crossing.origin.clone(),
            up: true,
            at: crossing.at,
            evidence: Some(evidence(crossing)),
            keep_until: crossing.falls_at,
        }
    }

    /// A word known only by the decision that came of it.
    pub(super) fn of_cause(cause: &Cause) -> Self {
        Self {
            origin: cause.origin.clone(),
            up: true,
            at: Timestamp::MIN,
            keep_until: cause.reset_at,
            evidence: Some(cause.clone()),
        }
    }

    /// As [`Word::hear`], but the newer crossing stands even where the older one would outlast it.
    pub(super) fn replace(&mut self, crossing: &Crossing) -> Heard {
        let heard = self.hear(crossing);
        if heard == Heard::Changed {
            self.evidence = Some(evidence(crossing));
        }
        heard
    }

    /// Takes a later signal of the same limit and subject.
    pub(super) fn hear(&mut self, crossing: &Crossing) -> Heard {
        if !self.is_older_than(crossing) {
            return Heard::Stale;
        }
        self.origin = crossing.origin.clone();
        self.up = crossing.up;
        self.at = crossing.at;
        if !crossing.up {
            self.evidence = None;
            self.keep_until.get_or_insert(crossing.at);
            return Heard::Changed;
        }
        let newer = evidence(crossing);
        self.keep_until = later(self.keep_until, newer.reset_at);
        match &self.evidence {
            Some(standing) if outlasts(standing, &newer) => {}
            _ => self.evidence = Some(newer),
        }
        Heard::Changed
    }

    /// Where one record causes both, the fall comes first: time moves on before the event is counted. Records of
    /// different partitions (a limit that was given another meter, or a topic that has grown) are told apart by
    /// event time.
    fn is_older_than(&self, crossing: &Crossing) -> bool {
        let (mine, theirs) = (&self.origin, &crossing.origin);
        if mine.topic == theirs.topic && mine.partition == theirs.partition {
            (mine.offset, self.up) < (theirs.offset, crossing.up)
        } else {
            self.at <= crossing.at
        }
    }

    /// Drops what has ended by itself. False when nothing is left to keep.
    pub(super) fn advance(&mut self, now: Timestamp) -> bool {
        let ended = |end: Option<Timestamp>| end.is_some_and(|end| end <= now);
        self.evidence.take_if(|cause| ended(cause.reset_at));
        !ended(self.keep_until) || self.evidence.is_some()
    }

    /// When [`Word::advance`] is next of use.
    pub(super) fn wakes_at(&self) -> Option<Timestamp> {
        match &self.evidence {
            Some(cause) => cause.reset_at,
            None => self.keep_until,
        }
    }
}

/// A sum falls by the passing of time alone, so of two crossings of one number without a fall between them the one
/// that ends last is the one that stands: a late event of a past month does not end this month's.
fn outlasts(standing: &Cause, newer: &Cause) -> bool {
    let same_number = standing.meter == newer.meter
        && standing.window == newer.window
        && standing.max == newer.max;
    same_number
        && standing.reset_at != newer.reset_at
        && later(standing.reset_at, newer.reset_at) == standing.reset_at
}

/// The later of two ends; `None` is never.
fn later(a: Option<Timestamp>, b: Option<Timestamp>) -> Option<Timestamp> {
    Some(a?.max(b?))
}

fn evidence(crossing: &Crossing) -> Cause {
    Cause {
        limit: crossing.limit.clone(),
        policy_version: crossing.policy_version,
        meter: crossing.meter.clone(),
        window: crossing.window,
        mode: crossing.mode,
        verdict: Verdict::Block,
        used: crossing.sum,
        max: crossing.max,
        reset_at: crossing.falls_at,
        crossing: crossing.id.clone(),
        origin: crossing.origin.clone(),
    }
}
