//! What a gateway says to a request, and why.

use std::mem;
use std::sync::Arc;
use std::time::Duration;

use schemas::policy::{Meter, Mode, Policy, Stale, Window};
use schemas::subject::{Identity, Subject};
use schemas::time::Timestamp;
use smallvec::SmallVec;

use super::Obeyed;
use crate::cache::{Cause, Standing, Verdict};
use crate::plan::Planned;
use crate::window::Item;

/// A closed limit is tried again after this: whether the view is fresh again cannot be known beforehand.
const CLOSED_RETRY: Duration = Duration::from_secs(5);

const TOO_MANY_REQUESTS: u16 = 429;
const UNAVAILABLE: u16 = 503;

/// What a refusal rests on.
#[derive(Clone, Debug)]
pub enum Why<'v> {
    /// A decision that stands.
    Decision(Arc<Standing>),
    /// The gateway's own count.
    Window(&'v Planned),
    /// The view is stale, and the limit chose to be closed then.
    Closed(&'v Planned),
}

/// The refusal that rules.
#[derive(Clone, Debug)]
struct Ruling<'v> {
    verdict: Verdict,
    status: u16,
    /// [`Timestamp::MAX`] where waiting does not help.
    ends_at: Timestamp,
    why: Why<'v>,
}

/// The answer to one request.
#[derive(Clone, Debug)]
pub struct Answer<'v> {
    ruling: Option<Ruling<'v>>,
    closed: Option<&'v Planned>,
    standings: SmallVec<[Arc<Standing>; 1]>,
    /// What the gateway's own windows say.
    pub(super) counted: SmallVec<[Item<'v, Planned>; 2]>,
    /// What a ledger is to say, and says.
    pub(crate) strict: SmallVec<[Item<'v, Planned>; 1]>,
    /// Latest end of all refusals.
    ends_at: Option<Timestamp>,
    retry_after_s: Option<u64>,
    stale: Option<Duration>,
    pub(super) charged: bool,
}

/// One reason for a verdict; in mode `open`, for what it would have been.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CauseOf {
    pub limit: String,
    pub subject: Subject,
    pub meter: Meter,
    pub window: Window,
    pub mode: Mode,
    pub used: i128,
    pub max: i128,
    pub reset_at: Option<Timestamp>,
    pub policy_version: i64,
}

/// How much of one limit is left.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LimitOf {
    pub name: String,
    pub subject: Subject,
    pub meter: Meter,
    pub window: Window,
    pub max: i128,
    pub remaining: i128,
    /// When there is more left than now.
    pub reset_at: Option<Timestamp>,
    /// Whether headers tell of it.
    pub headers: bool,
}

// === impl Answer: how it comes to be ===

impl<'v> Answer<'v> {
    pub(super) fn new(stale: Option<Duration>) -> Self {
        Self {
            ruling: None,
            closed: None,
            standings: SmallVec::new(),
            counted: SmallVec::new(),
            strict: SmallVec::new(),
            ends_at: None,
            retry_after_s: None,
            stale,
            charged: false,
        }
    }

    /// A decision stands for the request.
    pub(super) fn stand(&mut self, standing: Arc<Standing>, obeyed: Obeyed) {
        self.stale = self.stale.max(obeyed.overdue);
        if obeyed.refuses {
            let ends_at = standing.until.filter(|_| !standing.terminal);
            self.refuse(Ruling {
                verdict: standing.verdict,
                status: standing.status,
                ends_at: ends_at.unwrap_or(Timestamp::MAX),
                why: Why::Decision(Arc::clone(&standing)),
            });
        }
        self.standings.push(standing);
    }

    /// The view is stale and `planned` closed.
    pub(super) fn close(&mut self, planned: &'v Planned) {
        self.closed.get_or_insert(planned);
    }

    pub(super) fn is_refused(&self) -> bool {
        self.ruling.is_some() || self.closed.is_some()
    }

    /// Whether nothing refuses so far, so that a ledger is to be asked.
    pub(crate) fn goes_on(&self) -> bool {
        let fits = |item: &Item<'_, Planned>| !(item.full && item.refuses);
        !self.is_refused() && self.counted.iter().all(fits)
    }

    /// Takes out the limits on what is in flight.
    pub(crate) fn set_in_flight_aside(&mut self) -> SmallVec<[Item<'v, Planned>; 1]> {
        let strict = mem::take(&mut self.strict).into_iter();
        let (counting, in_flight) = strict.partition(|item| item.limit.rule.counts());
        self.strict = counting;
        in_flight
    }

    /// Whether no strict limit refuses.
    pub(super) fn strict_has_room(&self) -> bool {
        let mut strict = self.strict.iter();
        strict.all(|item| !(item.full && item.refuses))
    }

    /// The ledger has admitted it: what it is full of is the request's own.
    pub(crate) fn strict_fit(&mut self) {
        for item in &mut self.strict {
            item.full = false;
        }
    }

    /// The ledger does not answer: its limits refuse, but for those that would rather stay open then.
    pub(crate) fn close_strict(&mut self) {
        let mut closed = self.strict.iter();
        if let Some(item) = closed.find(|item| item.limit.limit.stale != Stale::Open) {
            self.close(item.limit);
        }
    }

    /// Everything has been told.
    pub(super) fn settle(&mut self, now: Timestamp) {
        let refusing: SmallVec<[Ruling<'v>; 1]> = self
            .own()
            .filter(|item| item.full && item.refuses)
            .map(|item| Ruling {
                verdict: Verdict::Block,
                status: item.limit.limit.status.unwrap_or(TOO_MANY_REQUESTS),
                ends_at: item.tally.frees_at.unwrap_or(Timestamp::MAX),
                why: Why::Window(item.limit),
            })
            .collect();
        for ruling in refusing {
            self.refuse(ruling);
        }
        if let (None, Some(planned)) = (&self.ruling, self.closed) {
            self.refuse(Ruling {
                verdict: Verdict::Block,
                status: UNAVAILABLE,
                ends_at: now.plus(CLOSED_RETRY),
                why: Why::Closed(planned),
            });
        }
        let ends_at = self.ends_at.filter(|at| *at != Timestamp::MAX);
        self.retry_after_s = ends_at.map(|at| seconds_until(at, now).max(1));
    }

    /// What was counted here or in the ledger.
    fn own(&self) -> impl Iterator<Item = &Item<'v, Planned>> {
        self.counted.iter().chain(&self.strict)
    }

    fn refuse(&mut self, ruling: Ruling<'v>) {
        self.ends_at = self.ends_at.max(Some(ruling.ends_at));
        let rank = |ruling: &Ruling<'_>| (ruling.verdict, ruling.ends_at);
        match &self.ruling {
            Some(before) if rank(&ruling) <= rank(before) => {}
            _ => self.ruling = Some(ruling),
        }
    }
}

// === impl Answer: what it says ===

impl Answer<'_> {
    #[must_use]
    pub fn verdict(&self) -> Verdict {
        self.ruling
            .as_ref()
            .map_or(Verdict::Allow, |ruling| ruling.verdict)
    }

    /// 200, or the HTTP status of the refusal.
    #[must_use]
    pub fn status(&self) -> u16 {
        self.ruling.as_ref().map_or(200, |ruling| ruling.status)
    }

    /// Whole seconds, rounded up, after which nothing known now refuses; `None` where nothing does or waiting does
    /// not help.
    #[must_use]
    pub fn retry_after_s(&self) -> Option<u64> {
        self.retry_after_s
    }

    #[must_use]
    pub fn why(&self) -> Option<&Why<'_>> {
        self.ruling.as_ref().map(|ruling| &ruling.why)
    }

    /// The decision that refused; else one that stands and only tells (mode `open`, or left open as stale).
    #[must_use]
    pub fn decision(&self) -> Option<&Standing> {
        match self.why() {
            Some(Why::Decision(standing)) => Some(standing),
            Some(_) => None,
            None => self.standings.first().map(Arc::as_ref),
        }
    }

    /// For how long what the answer rests on has been out of date.
    #[must_use]
    pub fn stale(&self) -> Option<Duration> {
        self.stale
    }

    /// Whether the request was counted in the gateway's own windows.
    #[must_use]
    pub fn is_charged(&self) -> bool {
        self.charged
    }

    /// The subject whose decision or limit refused `identity`.
    #[must_use]
    pub fn refused_subject(&self, identity: &Identity<'_>) -> Option<Subject> {
        match self.why()? {
            Why::Decision(standing) => Some(standing.subject.clone()),
            Why::Window(planned) | Why::Closed(planned) => {
                planned.limit.pattern.subject_of(identity)
            }
        }
    }

    /// Everything that speaks against the request of `identity`, what stands before what was counted here. A limit
    /// that both name is told once, with the later end.
    #[must_use]
    pub fn causes(&self, identity: &Identity<'_>, policy_version: u64) -> Vec<CauseOf> {
        let mut causes: Vec<CauseOf> = Vec::new();
        for standing in &self.standings {
            causes.extend(standing.causes.iter().map(|cause| CauseOf {
                limit: cause.limit.clone(),
                subject: standing.subject.clone(),
                meter: cause.meter.clone(),
                window: cause.window,
                mode: cause.mode,
                used: cause.used,
                max: cause.max,
                reset_at: cause.reset_at,
                policy_version: cause.policy_version,
            }));
        }
        for counted in self.own().filter(|counted| counted.full) {
            let limit = &counted.limit.limit;
            let Some(subject) = limit.pattern.subject_of(identity) else {
                continue;
            };
            let own = CauseOf {
                limit: limit.name.clone(),
                subject,
                meter: limit.meter.clone(),
                window: limit.window,
                mode: limit.mode,
                used: amount(counted.tally.used),
                max: limit.hard(),
                reset_at: counted.tally.frees_at,
                policy_version: i64::try_from(policy_version).unwrap_or(i64::MAX),
            };
            let told = causes
                .iter_mut()
                .find(|cause| cause.limit == own.limit && cause.subject == own.subject);
            match told {
                Some(told) => {
                    told.used = told.used.max(own.used);
                    told.reset_at = told.reset_at.max(own.reset_at);
                }
                None => causes.push(own),
            }
        }
        causes
    }

    /// What is left of the limits of `identity` that were counted here, and of those that a decision refuses for.
    #[must_use]
    pub fn limits(&self, identity: &Identity<'_>, policy: &Policy) -> Vec<LimitOf> {
        let counted = self.own().filter(|counted| {
            // Used elsewhere, perhaps: what was never counted here is not known to be free.
            counted.limit.limit.meter == Meter::Requests || counted.tally.used != 0
        });
        let mut limits: Vec<LimitOf> = counted
            .filter_map(|counted| {
                let limit = &counted.limit.limit;
                Some(LimitOf {
                    name: limit.name.clone(),
                    subject: limit.pattern.subject_of(identity)?,
                    meter: limit.meter.clone(),
                    window: limit.window,
                    max: amount(counted.limit.rule.hard()),
                    remaining: if counted.share.is_some_and(|share| share.short) {
                        0
                    } else {
                        amount(counted.tally.remaining(&counted.limit.rule))
                    },
                    reset_at: counted.tally.frees_at,
                    headers: limit.headers,
                })
            })
            .collect();
        for standing in &self.standings {
            for cause in standing.causes.iter().filter(|c| c.mode.refuses()) {
                let remaining = cause.max.saturating_sub(cause.used).max(0);
                let told = limits
                    .iter_mut()
                    .find(|limit| limit.name == cause.limit && limit.subject == standing.subject);
                match told {
                    Some(told) => {
                        told.remaining = told.remaining.min(remaining);
                        told.reset_at = told.reset_at.max(cause.reset_at);
                    }
                    None => limits.push(LimitOf {
                        name: cause.limit.clone(),
                        subject: standing.subject.clone(),
                        meter: cause.meter.clone(),
                        window: cause.window,
                        max: cause.max,
                        remaining,
                        reset_at: cause.reset_at,
                        headers: is_told(policy, standing, cause),
                    }),
                }
            }
        }
        limits
    }
}

/// Whether callers are told of the limit behind `cause` in headers. One that the policy has no more says nothing against it.
fn is_told(policy: &Policy, standing: &Standing, cause: &Cause) -> bool {
    let limit = policy.limit_on(&standing.subject, &cause.limit);
    limit.is_none_or(|limit| limit.headers)
}

/// Whole seconds from `now` to `at`, rounded up.
#[must_use]
pub fn seconds_until(at: Timestamp, now: Timestamp) -> u64 {
    let wait = at.since(now);
    wait.as_secs() + u64::from(wait.subsec_nanos() != 0)
}

fn amount(count: u128) -> i128 {
    i128::try_from(count).unwrap_or(i128::MAX)
}
