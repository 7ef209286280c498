//! Answers, refusals and decisions as JSON.

use schemas::money::format_usd;
use schemas::policy::Meter;
use schemas::time::Timestamp;
use serde::Serialize;

use crate::cache::Standing;
use crate::check::CauseOf;
use crate::ledger::{Commit, Ending, Late};
use crate::reply::Reply;

/// The largest whole number below which all are exact in a double.
const EXACT_MAX: i128 = 1 << 53;

/// The answer of `POST /v1/check`.
#[must_use]
pub fn answer(reply: &Reply) -> Vec<u8> {
    to_vec(&Answer::of(reply))
}

/// The answer of `POST /v1/reservations` that holds something.
#[must_use]
pub fn held(id: &str, expires_at: Timestamp, reply: &Reply) -> Vec<u8> {
    #[derive(Serialize)]
    struct Held<'a> {
        id: &'a str,
        expires_at: String,
        #[serde(flatten)]
        answer: Answer<'a>,
    }
    to_vec(&Held {
        id,
        expires_at: expires_at.to_string(),
        answer: Answer::of(reply),
    })
}

/// How a reservation has ended.
#[must_use]
pub fn ended(id: &str, ending: Ending) -> Vec<u8> {
    #[derive(Serialize)]
    struct Ended<'a> {
        id: &'a str,
        state: &'static str,
        /// Why nothing was held for the commit any more.
        late: Option<&'static str>,
        /// More was spent than was reserved.
        over: bool,
    }
    let (state, commit) = match ending {
        Ending::Committed(commit) => ("committed", commit),
        Ending::Released => ("released", Commit::default()),
        Ending::Expired => ("expired", Commit::default()),
    };
    to_vec(&Ended {
        id,
        state,
        late: commit.late.map(|late| match late {
            Late::Released => "released",
            Late::Expired => "expired",
            Late::Unknown => "unknown",
        }),
        over: commit.over,
    })
}

#[derive(Serialize)]
struct Answer<'a> {
    verdict: &'static str,
    status: u16,
    retry_after_s: Option<u64>,
    request_id: &'a str,
    decision: Option<&'a str>,
    causes: Vec<Cause<'a>>,
    limits: Vec<Limit<'a>>,
    policy_version: u64,
    stale: bool,
}

impl<'a> Answer<'a> {
    fn of(reply: &'a Reply) -> Self {
        Self {
            verdict: reply.verdict.name(),
            status: reply.status,
            retry_after_s: reply.retry_after_s,
            request_id: &reply.request_id,
            decision: reply.decision.as_deref(),
            causes: reply.causes.iter().map(cause).collect(),
            limits: reply.limits.iter().map(limit).collect(),
            policy_version: reply.policy_version,
            stale: reply.stale_s.is_some(),
        }
    }
}

/// A refusal as problem details (RFC 9457), with what a client can act on.
#[must_use]
pub fn problem(reply: &Reply) -> Vec<u8> {
    #[derive(Serialize)]
    struct Problem<'a> {
        #[serde(rename = "type")]
        kind: &'static str,
        title: &'static str,
        status: u16,
        detail: String,
        #[serde(rename = "violated-policies")]
        violated_policies: Vec<&'a str>,
        retry_after_s: Option<u64>,
        request_id: &'a str,
        decision: Option<&'a str>,
        causes: Vec<Cause<'a>>,
        policy_version: u64,
    }
    let kind = reply.problem_type();
    to_vec(&Problem {
        kind,
        title: match kind {
            schemas::problem::QUOTA_EXCEEDED => "Quota exceeded",
            schemas::problem::TEMPORARY_REDUCED_CAPACITY => "Temporarily reduced capacity",
            _ => "Abnormal usage detected",
        },
        status: reply.status,
        detail: reply.detail(),
        violated_policies: reply.refusing().map(|cause| cause.limit.as_str()).collect(),
        retry_after_s: reply.retry_after_s,
        request_id: &reply.request_id,
        decision: reply.decision.as_deref(),
        causes: reply.refusing().map(cause).collect(),
        policy_version: reply.policy_version,
    })
}

/// A decision that stands, for gateways that read it from Redis.
#[must_use]
pub fn decision(standing: &Standing) -> Vec<u8> {
    #[derive(Serialize)]
    struct Decision<'a> {
        id: &'a str,
        subject: &'a str,
        verdict: &'static str,
        status: u16,
        until: Option<String>,
        terminal: bool,
        seq: i64,
        issued_at: String,
        causes: Vec<Cause<'a>>,
    }
    let causes = standing.causes.iter().map(|cause| Cause {
        limit: &cause.limit,
        subject: standing.subject.as_str(),
        meter: cause.meter.name(),
        window: cause.window.to_string(),
        mode: cause.mode,
        used: Amount(&cause.meter, cause.used),
        max: Amount(&cause.meter, cause.max),
        reset_at: cause.reset_at.map(|at| at.to_string()),
        policy_version: cause.policy_version,
    });
    to_vec(&Decision {
        id: &standing.id,
        subject: standing.subject.as_str(),
        verdict: standing.verdict.name(),
        status: standing.status,
        until: standing.until.map(|at| at.to_string()),
        terminal: standing.terminal,
        seq: standing.seq,
        issued_at: standing.issued_at.to_string(),
        causes: causes.collect(),
    })
}

/// An amount for people: money in dollars.
#[must_use]
pub fn amount(meter: &Meter, amount: i128) -> String {
    match meter {
        Meter::Cost => format!("{} USD", format_usd(amount)),
        _ => amount.to_string(),
    }
}

#[derive(Serialize)]
struct Cause<'a> {
    limit: &'a str,
    subject: &'a str,
    meter: &'a str,
    window: String,
    mode: schemas::policy::Mode,
    used: Amount<'a>,
    max: Amount<'a>,
    reset_at: Option<String>,
    policy_version: i64,
}

#[derive(Serialize)]
struct Limit<'a> {
    name: &'a str,
    subject: &'a str,
    meter: &'a str,
    max: Amount<'a>,
    remaining: Amount<'a>,
    reset_s: Option<u64>,
}

fn cause(cause: &CauseOf) -> Cause<'_> {
    Cause {
        limit: &cause.limit,
        subject: cause.subject.as_str(),
        meter: cause.meter.name(),
        window: cause.window.to_string(),
        mode: cause.mode,
        used: Amount(&cause.meter, cause.used),
        max: Amount(&cause.meter, cause.max),
        reset_at: cause.reset_at.map(|at| at.to_string()),
        policy_version: cause.policy_version,
    }
}

fn limit(left: &crate::reply::Left) -> Limit<'_> {
    let limit = &left.limit;
    Limit {
        name: &limit.name,
        subject: limit.subject.as_str(),
        meter: limit.meter.name(),
        max: Amount(&limit.meter, limit.max),
        remaining: Amount(&limit.meter, limit.remaining),
        reset_s: left.reset_s,
    }
}

/// A number while that is exact in a double, a string beyond; pico-dollars are a string always.
struct Amount<'a>(&'a Meter, i128);

impl Serialize for Amount<'_> {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match i64::try_from(self.1) {
            Ok(exact) if *self.0 != Meter::Cost && self.1.abs() <= EXACT_MAX => {
                serializer.serialize_i64(exact)
            }
            _ => serializer.collect_str(&self.1),
        }
    }
}

/// Text, numbers and lists of them always fit JSON.
fn to_vec(value: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(value).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use schemas::policy::Mode;
    use schemas::subject::Subject;
    use serde_json::{Value, json};

    use super::*;
    use crate::headers::tests::{refused, reply};

    fn cause_of(meter: &str, mode: Mode, used: i128, max: i128) -> CauseOf {
        CauseOf {
            limit: format!("{meter}-limit"),
            subject: Subject::tenant("acme"),
            meter: meter.parse().unwrap(),
            window: "sliding 60s".parse().unwrap(),
            mode,
            used,
            max,
            reset_at: Some(Timestamp::from_seconds(61)),
            policy_version: 5,
        }
    }

    fn read(bytes: &[u8]) -> Value {
        serde_json::from_slice(bytes).unwrap()
    }

    #[test]
    fn an_answer_has_every_field() {
        let expected = json!({
            "verdict": "allow", "status": 200, "retry_after_s": null, "request_id": "r-1", "decision": null,
            "causes": [], "limits": [], "policy_version": 5, "stale": false,
        });
        assert_eq!(read(&answer(&reply())), expected);
        let refused = Reply {
            causes: vec![cause_of("requests", Mode::Block, 100, 100)],
            stale_s: Some(31),
            ..refused(429, Some(51))
        };
        let expected = json!({
            "verdict": "block", "status": 429, "retry_after_s": 51, "request_id": "r-1", "decision": "d-1",
            "causes": [{
                "limit": "requests-limit", "subject": "tenant/acme", "meter": "requests", "window": "sliding 60s",
                "mode": "block", "used": 100, "max": 100, "reset_at": "1970-01-01T00:01:01Z", "policy_version": 5,
            }],
            "limits": [], "policy_version": 5, "stale": true,
        });
        assert_eq!(read(&answer(&refused)), expected);
    }

    #[test]
    fn amounts_stay_exact() {
        let exact = EXACT_MAX;
        let refused = Reply {
            causes: vec![
                cause_of("tokens", Mode::Block, exact, exact + 1),
                cause_of("cost", Mode::Block, 5, 20_000_000_000_000),
            ],
            ..refused(429, None)
        };
        let causes = &read(&answer(&refused))["causes"];
        assert_eq!(causes[0]["used"], json!(9_007_199_254_740_992_i64));
        assert_eq!(causes[0]["max"], json!("9007199254740993"));
        assert_eq!(causes[1]["used"], json!("5"));
    }

    #[track_caller]
    fn check(reply: &Reply, kind: &str, detail: &str, violated: &[&str]) {
        let problem = read(&problem(reply));
        let told = problem["type"].as_str().unwrap();
        assert_eq!(told.rsplit('#').next(), Some(kind));
        assert_eq!(problem["detail"], json!(detail));
        assert_eq!(problem["violated-policies"], json!(violated));
        assert_eq!(problem["status"], json!(reply.status));
    }

    #[test]
    fn a_problem_says_what_and_until_when() {
        let spent = Reply {
            causes: vec![
                cause_of("cost", Mode::Block, 20_500_000_000_000, 20_000_000_000_000),
                cause_of("requests", Mode::Open, 9, 1),
            ],
            ..refused(429, Some(90))
        };
        check(
            &spent,
            "quota-exceeded",
            "limit `cost-limit` on tenant/acme: 20.5 USD of 20 USD cost used, sliding 60s; try again in 90 seconds",
            &["cost-limit"],
        );
        let guessing = Reply {
            causes: vec![cause_of("failures", Mode::Block, 5, 5)],
            ..refused(429, None)
        };
        check(
            &guessing,
            "abnormal-usage-detected",
            "limit `failures-limit` on tenant/acme: 5 of 5 failures used, sliding 60s",
            &["failures-limit"],
        );
        let banned = refused(403, None);
        check(
            &banned,
            "abnormal-usage-detected",
            "refused by a decision that stands",
            &[],
        );
        let closed = Reply {
            closed: true,
            ..refused(503, Some(5))
        };
        check(
            &closed,
            "temporary-reduced-capacity",
            "what this limit would say is not known for the moment; try again in 5 seconds",
            &[],
        );
    }
}
