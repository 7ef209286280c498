//! An answer that stands on its own: what is remembered, written as JSON or headers, and told to a tower layer.

use schemas::policy::{Stream, Window};
use schemas::problem;
use schemas::time::Timestamp;

use crate::cache::Verdict;
use crate::check::{Answer, CauseOf, LimitOf, View, Why, seconds_until};
use crate::request::Ask;

/// Waiting longer than this is no retry any more.
const RETRY_SECONDS_MAX: u64 = 60;

const PAYMENT_REQUIRED: u16 = 402;

/// The answer to one request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply {
    pub request_id: String,
    pub verdict: Verdict,
    /// 200, or the HTTP status of the refusal.
    pub status: u16,
    /// Whole seconds, rounded up; `None` where nothing refuses or waiting does not help.
    pub retry_after_s: Option<u64>,
    /// The id of the decision that it rests on.
    pub decision: Option<String>,
    pub causes: Vec<CauseOf>,
    pub limits: Vec<Left>,
    /// For how many whole seconds what it rests on has been out of date.
    pub stale_s: Option<u64>,
    /// Refused only because the view is stale.
    pub closed: bool,
    /// The version of the policy that it was judged by, whole; zero where the gateway has none yet.
    pub policy_version: u64,
}

/// How much of one limit is left.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Left {
    pub limit: LimitOf,
    /// Whole seconds, rounded up, until more is left than now.
    pub reset_s: Option<u64>,
}

impl Reply {
    #[must_use]
    pub fn new(
        answer: &Answer<'_>,
        view: &View,
        ask: &Ask,
        request_id: String,
        now: Timestamp,
    ) -> Self {
        let identity = ask.identity();
        let limits = answer
            .limits(&identity, view.policy())
            .into_iter()
            .map(|limit| Left {
                reset_s: limit.reset_at.map(|at| seconds_until(at, now)),
                limit,
            });
        Self {
            request_id,
            verdict: answer.verdict(),
            status: answer.status(),
            retry_after_s: answer.retry_after_s(),
            decision: answer.decision().map(|decision| decision.id.clone()),
            causes: answer.causes(&identity, view.policy_version()),
            limits: limits.collect(),
            stale_s: answer.stale().map(|age| age.as_secs()),
            closed: matches!(answer.why(), Some(Why::Closed(_))),
            policy_version: view.policy_version(),
        }
    }

    #[must_use]
    pub fn is_refused(&self) -> bool {
        self.verdict.refuses()
    }

    /// Whether it is refused and a retry within a minute cannot help.
    #[must_use]
    pub fn is_final(&self) -> bool {
        let soon = self
            .retry_after_s
            .is_some_and(|seconds| seconds <= RETRY_SECONDS_MAX);
        self.is_refused() && (!soon || self.status == PAYMENT_REQUIRED)
    }

    /// The causes that refuse, those in mode `open` left out.
    pub fn refusing(&self) -> impl Iterator<Item = &CauseOf> {
        let refused = self.is_refused();
        let causes = self.causes.iter();
        causes.filter(move |cause| refused && cause.mode.refuses())
    }

    /// The problem type of a refusal: what was used up, how the client behaves, or what Weir itself lacks.
    #[must_use]
    pub fn problem_type(&self) -> &'static str {
        let mut refusing = self.refusing();
        if self.closed {
            problem::TEMPORARY_REDUCED_CAPACITY
        } else if refusing.any(|cause| cause.meter.stream() == Stream::Usage) {
            problem::QUOTA_EXCEEDED
        } else {
            problem::ABNORMAL_USAGE_DETECTED
        }
    }

    /// The refusal in a sentence.
    #[must_use]
    pub fn detail(&self) -> String {
        let mut detail = match self.refusing().next() {
            _ if self.closed => "what this limit would say is not known for the moment".to_owned(),
            Some(cause) => format!(
                "limit `{}` on {}: {} of {} {} {}",
                cause.limit,
                cause.subject,
                crate::json::amount(&cause.meter, cause.used),
                crate::json::amount(&cause.meter, cause.max),
                cause.meter.name(),
                match cause.window {
                    Window::Concurrent => "in flight".to_owned(),
                    window => format!("used, {window}"),
                },
            ),
            None => "refused by a decision that stands".to_owned(),
        };
        if let Some(seconds) = self.retry_after_s {
            detail.push_str(&format!("; try again in {seconds} seconds"));
        }
        detail
    }
}
