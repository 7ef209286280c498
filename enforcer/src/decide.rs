//! From crossings to decisions: what stands for each subject is a function of the crossings heard of, the policy in
//! force, and the time. Pure: time is an argument, and what is to be told comes back as [`Output`]s.
//!
//! A decision is said again only when it says something else than the log already holds, so hearing the same signals
//! twice changes nothing.
//!
//! # When a block ends
//! `until` is the moment at which the sum falls below the limit if nothing more comes. It is never too late: a sum
//! falls by time alone, and a limit that is raised or dropped is re-judged at once. It is too early by what was still
//! on its way when the block began, until the aggregator says the crossing again with a later end: then the decision
//! keeps its id and gets a later `until`, or stands anew if it had ended. In between, a gateway's own count of what it
//! admits holds the line.

mod command;
#[cfg(test)]
mod model;
mod rules;
#[cfg(test)]
mod tests;
mod word;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use schemas::orders::Order;
use schemas::policy::{Policy, Window};
use schemas::subject::Subject;
use schemas::time::Timestamp;

use crate::alert::{self, Alert};
use crate::decision::{BLOCKED, Cause, Crossing, Decision, Signal, Verdict, decision_id};
use command::OrderBook;
use rules::Rules;
use word::{Heard, Word};

/// Why something was said.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Reason {
    /// A sum crossed its hard level, upward or downward.
    Crossing,
    /// A cause ended by itself.
    Expiry,
    /// The policy changed.
    Policy,
    /// Somebody ordered it.
    Command,
    /// Half of the time to live is over.
    Reassert,
    /// This process answers for the subject from now on.
    Takeover,
}

/// What is to be told to the log, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Output {
    Put(Decision, Reason),
    /// Nothing stands for the subject any more.
    Lift(Subject, Reason),
    Alert(Alert),
    /// An order holds from here on.
    Order(Box<Order>),
    /// An order holds no more since then.
    OrderEnded(Box<Order>, Timestamp),
}

/// What a signal came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Outcome {
    /// Another decision, or none any more.
    Decided,
    /// Nothing that a gateway has to know: a soft level, a group of reports, a limit that the policy does not give
    /// weight to any more, a fall of what does not stand.
    Told,
    /// Nothing new: older than what is known, or the same again.
    Stale,
    /// It had ended by itself before it was read: old traffic that was replayed.
    Ended,
}

/// All subjects that this process answers for.
pub(crate) struct Decider {
    rules: Rules,
    ttl: Duration,
    subjects: BTreeMap<Subject, Standing>,
    book: OrderBook,
    /// When which subject needs [`Decider::advance`] next; one entry for each subject that ever does.
    wakes: BTreeSet<(Timestamp, Subject)>,
    /// The highest number that a decision was given here or taken over with.
    seq: i64,
}

/// One subject.
#[derive(Default)]
struct Standing {
    /// By limit.
    words: BTreeMap<String, Word>,
    /// What the log holds.
    said: Option<Decision>,
    /// The subject's entry in `wakes`.
    wakes_at: Option<Timestamp>,
}

impl Decider {
    /// `ttl` is how long a gateway may rely on a decision, in whole seconds.
    pub(crate) fn new(policy: Policy, ttl: Duration) -> Self {
        Self {
            rules: Rules::new(policy),
            ttl,
            subjects: BTreeMap::new(),
            book: OrderBook::default(),
            wakes: BTreeSet::new(),
            seq: 0,
        }
    }

    /// Subjects for which a decision stands.
    pub(crate) fn standing(&self) -> usize {
        let said = |standing: &&Standing| standing.said.is_some();
        self.subjects.values().filter(said).count()
    }

    /// Takes one signal, in the order of its partition. Alerts are told even of one that was heard before: whether
    /// the first one reached the log is not known after a crash, and one alert is one by its id.
    pub(crate) fn hear(
        &mut self,
        signal: &Signal,
        now: Timestamp,
        out: &mut Vec<Output>,
    ) -> Outcome {
        match signal {
            Signal::CspGroup(group) => {
                out.extend(alert::new_group(group).map(Output::Alert));
                Outcome::Told
            }
            Signal::Cleared(cleared) => {
                out.push(Output::Alert(alert::cleared(cleared)));
                Outcome::Told
            }
            Signal::Crossing(crossing) if crossing.soft.is_some() => {
                if crossing.up {
                    out.push(Output::Alert(alert::crossed(crossing, None)));
                }
                Outcome::Told
            }
            Signal::Crossing(crossing) if crossing.up => self.rise(crossing, now, out),
            Signal::Crossing(crossing) => self.fall(crossing, now, out),
        }
    }

    fn rise(&mut self, crossing: &Crossing, now: Timestamp, out: &mut Vec<Output>) -> Outcome {
        if crossing.falls_at.is_some_and(|end| end <= now) {
            out.push(Output::Alert(alert::crossed(crossing, None)));
            return Outcome::Ended;
        }
        let standing = self.subjects.entry(crossing.subject.clone()).or_default();
        let mut heard = Heard::Changed;
        let mut told_before = false;
        standing
            .words
            .entry(crossing.limit.clone())
            .and_modify(|word| {
                let evidence = word.evidence.as_ref();
                told_before = evidence.is_some_and(|cause| cause.crossing == crossing.id);
                heard = word.hear(crossing);
            })
            .or_insert_with(|| Word::new(crossing));
        let decided = self.decide(&crossing.subject, now, Reason::Crossing, out);
        // A crossing that is said again with another end was told when it was said first. A stale one may not have
        // been: what came of it before a crash is not known.
        if !told_before || heard == Heard::Stale {
            let alert = alert::crossed(crossing, self.decision_by(crossing));
            out.push(Output::Alert(alert));
        }
        heard.outcome(decided)
    }

    /// What stands because of the limit that was crossed.
    fn decision_by(&self, crossing: &Crossing) -> Option<&Decision> {
        let said = self.subjects.get(&crossing.subject)?.said.as_ref()?;
        let mut causes = said.causes.iter();
        causes
            .any(|cause| cause.limit == crossing.limit)
            .then_some(said)
    }

    fn fall(&mut self, crossing: &Crossing, now: Timestamp, out: &mut Vec<Output>) -> Outcome {
        let standing = self.subjects.get_mut(&crossing.subject);
        let Some(word) = standing.and_then(|s| s.words.get_mut(&crossing.limit)) else {
            return Outcome::Told;
        };
        if word.hear(crossing) == Heard::Stale {
            return Outcome::Stale;
        }
        let said = self.said(&crossing.subject);
        let decided = self.decide(&crossing.subject, now, Reason::Crossing, out);
        if let Some(said) = said.filter(|said| said.stands_at(crossing.at)) {
            self.tell_lifted(&said, crossing.at, out);
        }
        if decided {
            Outcome::Decided
        } else {
            Outcome::Told
        }
    }

    /// Obeys another version of the policy from here on.
    pub(crate) fn obey(&mut self, policy: Policy, now: Timestamp, out: &mut Vec<Output>) {
        self.rules.obey(policy);
        let subjects: Vec<Subject> = self.subjects.keys().cloned().collect();
        for subject in subjects {
            let said = self.said(&subject);
            self.decide(&subject, now, Reason::Policy, out);
            if let Some(said) = said.filter(|said| said.stands_at(now)) {
                self.tell_lifted(&said, now, out);
            }
        }
    }

    /// Takes over a subject for which the log holds `decision`. What lasts is said again at once, so that whatever a
    /// former owner still writes is overruled.
    pub(crate) fn take_over(&mut self, decision: Decision, now: Timestamp, out: &mut Vec<Output>) {
        let subject = decision.subject.clone();
        self.seq = self.seq.max(decision.seq);
        let words = decision
            .causes
            .iter()
            .map(|c| (c.limit.clone(), Word::of_cause(c)));
        let standing = Standing {
            words: words.collect(),
            said: Some(decision),
            wakes_at: None,
        };
        let before = self.subjects.insert(subject.clone(), standing);
        if let Some(at) = before.and_then(|before| before.wakes_at) {
            self.wakes.remove(&(at, subject.clone()));
        }
        if !self.decide(&subject, now, Reason::Takeover, out) {
            self.reassert(&subject, now, Reason::Takeover, out);
        }
    }

    /// Forgets the subjects that another process answers for from now on. Says nothing.
    pub(crate) fn release(&mut self, is_theirs: impl Fn(&Subject) -> bool) {
        self.subjects.retain(|subject, _| !is_theirs(subject));
        self.wakes.retain(|(_, subject)| !is_theirs(subject));
    }

    /// Does what is due: causes that ended by themselves, decisions to be said again.
    pub(crate) fn advance(&mut self, now: Timestamp, out: &mut Vec<Output>) {
        let due = self.wakes.iter().take_while(|(at, _)| *at <= now);
        let due: Vec<Subject> = due.map(|(_, subject)| subject.clone()).collect();
        for subject in due {
            if !self.decide(&subject, now, Reason::Expiry, out) {
                self.reassert(&subject, now, Reason::Reassert, out);
            }
        }
    }

    /// When [`Decider::advance`] is next of use.
    #[cfg(test)]
    fn wakes_at(&self) -> Option<Timestamp> {
        self.wakes.first().map(|(at, _)| *at)
    }

    fn said(&self, subject: &Subject) -> Option<Decision> {
        self.subjects
            .get(subject)
            .and_then(|standing| standing.said.clone())
    }

    /// Brings what the log holds for `subject` in line with what is known. True when that took a word.
    fn decide(
        &mut self,
        subject: &Subject,
        now: Timestamp,
        why: Reason,
        out: &mut Vec<Output>,
    ) -> bool {
        let Some(standing) = self.subjects.get_mut(subject) else {
            return false;
        };
        standing.words.retain(|_, word| word.advance(now));
        let due = due(&self.rules, subject, standing, now);
        let changed = match (due, &standing.said) {
            (None, None) => false,
            (Some(due), Some(said)) if due.says_the_same_as(said) => false,
            (None, Some(_)) => {
                standing.said = None;
                out.push(Output::Lift(subject.clone(), why));
                true
            }
            (Some(due), _) => {
                let due = Decision {
                    seq: next_seq(&mut self.seq, now),
                    issued_at: now,
                    ttl_seconds: u32::try_from(self.ttl.as_secs()).unwrap_or(u32::MAX),
                    ..due
                };
                out.push(Output::Put(due.clone(), why));
                standing.said = Some(due);
                true
            }
        };
        self.schedule(subject);
        changed
    }

    /// Says again what stands, if it lasts so long that a gateway would doubt it and it is time to.
    fn reassert(&mut self, subject: &Subject, now: Timestamp, why: Reason, out: &mut Vec<Output>) {
        let ttl = self.ttl;
        let Some(standing) = self.subjects.get_mut(subject) else {
            return;
        };
        let Some(said) = &mut standing.said else {
            return;
        };
        let due = reasserts_at(said, ttl).is_some_and(|at| at <= now || why == Reason::Takeover);
        if due {
            said.seq = next_seq(&mut self.seq, now);
            said.issued_at = now;
            out.push(Output::Put(said.clone(), why));
        }
        self.schedule(subject);
    }

    /// Renews the subject's entry in `wakes`; forgets a subject of which nothing is left.
    fn schedule(&mut self, subject: &Subject) {
        let Some(standing) = self.subjects.get_mut(subject) else {
            return;
        };
        if let Some(old) = standing.wakes_at.take() {
            self.wakes.remove(&(old, subject.clone()));
        }
        if standing.words.is_empty() && standing.said.is_none() {
            self.subjects.remove(subject);
            return;
        }
        let words = standing.words.values().filter_map(Word::wakes_at);
        let again = standing
            .said
            .as_ref()
            .and_then(|said| reasserts_at(said, self.ttl));
        if let Some(at) = words.chain(again).min() {
            standing.wakes_at = Some(at);
            self.wakes.insert((at, subject.clone()));
        }
    }

    /// Tells that a refusal ended before its time.
    fn tell_lifted(&self, said: &Decision, at: Timestamp, out: &mut Vec<Output>) {
        let stands = self
            .subjects
            .get(&said.subject)
            .and_then(|s| s.said.as_ref());
        let refuses = |decision: &Decision| Verdict::Allow < decision.verdict;
        if refuses(said) && !stands.is_some_and(refuses) {
            out.push(Output::Alert(alert::lifted(said, at)));
        }
    }
}

/// The decision that the words on `subject` make under the policy in force; when and as which it is said is left to
/// the caller.
fn due(rules: &Rules, subject: &Subject, standing: &Standing, now: Timestamp) -> Option<Decision> {
    let evidence = standing
        .words
        .values()
        .filter_map(|word| word.evidence.as_ref());
    let mut causes: Vec<(Cause, u16)> = evidence
        .filter_map(|cause| {
            let judgement = rules.judge(subject, cause, now)?;
            let cause = Cause {
                mode: judgement.mode,
                ..cause.clone()
            };
            Some((cause, judgement.status))
        })
        .collect();
    // Longest first, where never is longest; then as the severest come first, the limits' names break ties.
    let end = |cause: &Cause| cause.reset_at.unwrap_or(Timestamp::MAX);
    causes.sort_by(|(a, _), (b, _)| {
        let severity = b.obeyed().cmp(&a.obeyed());
        severity
            .then(end(b).cmp(&end(a)))
            .then_with(|| a.limit.cmp(&b.limit))
    });
    let (first, status) = causes.first()?;
    let (verdict, until) = (first.obeyed(), first.reset_at);
    // Whom a person blocked for good need not ask again; nor who has to pay first.
    let is_for_good = first.limit == BLOCKED || first.window == Window::Wallet;
    let terminal = is_for_good && until.is_none() && Verdict::Allow < verdict;
    let status = (Verdict::Allow < verdict).then_some(*status);
    let causes: Vec<Cause> = causes.into_iter().map(|(cause, _)| cause).collect();
    Some(Decision {
        id: decision_id(subject, &causes),
        subject: subject.clone(),
        verdict,
        causes,
        status,
        until,
        terminal,
        seq: 0,
        issued_at: Timestamp::MIN,
        ttl_seconds: 0,
    })
}

/// One more than the last, and never less than the time in milliseconds: so numbers go on counting up for a subject
/// whose decision was lifted and its number forgotten, also in another process.
fn next_seq(last: &mut i64, now: Timestamp) -> i64 {
    *last = last.saturating_add(1).max(now.as_millis());
    *last
}

/// When a decision is to be said again: at half of its time to live, unless it has ended within that time anyway.
fn reasserts_at(said: &Decision, ttl: Duration) -> Option<Timestamp> {
    let expires_at = said.issued_at.plus(ttl);
    let lasts = said.until.is_none_or(|until| expires_at < until);
    lasts.then(|| said.issued_at.plus(ttl / 2))
}
