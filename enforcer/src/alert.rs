//! What people are told: one alert for each crossing, in words and numbers that a person reads. Pure.

mod cleared;
mod numbers;
mod request;

use schemas::policy::{Mode, Window};
use schemas::subject::Subject;
use schemas::time::Timestamp;
use uuid::Uuid;

use crate::decision::{Crossing, CspGroup, Decision, Verdict};
use numbers::{amounts, percent};

pub(crate) use cleared::cleared;
pub(crate) use request::request;

/// The namespace of alerts' ids.
const ALERTS: Uuid = Uuid::from_u128(0x2b64_90d1_3e87_4f1a_b7c5_5ad8_e0f4_1963);

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum AlertKind {
    /// A soft level was crossed upward: nothing is refused yet.
    Soft,
    /// The hard level was crossed upward.
    Hard,
    /// A refusal was lifted before its time.
    Lifted,
    /// Browsers report a kind of violation not seen before.
    CspGroup,
    /// A tenant asks for more.
    Asked,
    /// A tenant's request is answered.
    Answered,
    /// What was counted of a limit was cleared.
    Cleared,
}

/// Something that a person is to be told, once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Alert {
    /// The same in every run of one log.
    pub(crate) id: String,
    pub(crate) kind: AlertKind,
    pub(crate) subject: Subject,
    /// One line.
    pub(crate) title: String,
    /// A few lines: what happened, what follows, until when.
    pub(crate) body: String,
    pub(crate) at: Timestamp,
    pub(crate) limit: Option<String>,
    pub(crate) level: Option<String>,
    pub(crate) used: Option<i128>,
    pub(crate) max: Option<i128>,
    pub(crate) decision: Option<String>,
    pub(crate) until: Option<Timestamp>,
}

/// The alert of an upward crossing. `decision` is what stands because of it, if anything does.
pub(crate) fn crossed(crossing: &Crossing, decision: Option<&Decision>) -> Alert {
    let Crossing {
        subject,
        limit,
        window,
        ..
    } = crossing;
    let numbers = amounts(&crossing.meter, crossing.sum, crossing.max);
    let left = numbers::amount(&crossing.meter, (crossing.max - crossing.sum).max(0));
    let title = match &crossing.soft {
        Some(_) if *window == Window::Wallet => {
            format!("{subject} has {left} left in {limit} ({numbers} spent)")
        }
        None if *window == Window::Wallet => {
            format!("{subject} has nothing left in {limit} ({numbers} spent)")
        }
        Some(_) => {
            let percent = percent(crossing.sum, crossing.max);
            format!("{subject} has used {percent} % of {limit} ({numbers} in {window})")
        }
        None => format!("{subject} has reached {limit} ({numbers} in {window})"),
    };
    let until = decision.map_or(crossing.falls_at, |decision| decision.until);
    let follows = match &crossing.soft {
        Some(level) => soft_consequence(crossing, level),
        None => hard_consequence(crossing, decision),
    };
    Alert {
        id: id("crossing", &crossing.id),
        kind: if crossing.soft.is_some() {
            AlertKind::Soft
        } else {
            AlertKind::Hard
        },
        subject: subject.clone(),
        body: format!("{title}, at {}.\n{follows}", crossing.at),
        title,
        at: crossing.at,
        limit: Some(limit.clone()),
        level: Some(crossing.soft.clone().unwrap_or_else(|| "hard".to_owned())),
        used: Some(crossing.sum),
        max: Some(crossing.max),
        decision: decision.map(|decision| decision.id.clone()),
        until,
    }
}

fn soft_consequence(crossing: &Crossing, level: &str) -> String {
    let from = numbers::amount(&crossing.meter, crossing.max);
    if crossing.window == Window::Wallet && crossing.mode.refuses() {
        return format!(
            "That is its soft level {level}. Nothing is refused yet; once nothing is left, calls are refused until it is \
             topped up."
        );
    }
    match crossing.mode {
        Mode::Open => format!(
            "That is its soft level {level}. The limit is in mode open: it refuses nothing, also from {from} on."
        ),
        Mode::Block | Mode::Strict => format!(
            "That is its soft level {level}. Nothing is refused yet; from {from} on, calls are refused."
        ),
    }
}

fn hard_consequence(crossing: &Crossing, decision: Option<&Decision>) -> String {
    let end = |until: Option<Timestamp>| match until {
        None if crossing.window == Window::Wallet => "until it is topped up".to_owned(),
        Some(until) => format!("until {until}, if nothing more is counted"),
        None => "until somebody lifts it".to_owned(),
    };
    match decision {
        Some(decision) if Verdict::Allow < decision.verdict => {
            let status = decision
                .status
                .map_or(String::new(), |status| format!(" with {status}"));
            format!("Calls are refused{status} {}.", end(decision.until))
        }
        Some(decision) => format!(
            "The limit is in mode open: nothing is refused. In mode block, calls would be refused {}.",
            end(decision.until)
        ),
        None => match crossing.falls_at {
            Some(fell_at) => format!(
                "Nothing is refused for it: the policy has changed, or it was over by {fell_at}."
            ),
            None => "Nothing is refused for it: the policy has changed since.".to_owned(),
        },
    }
}

/// The alert that `decision`, which refused, was lifted at `at`, before its time.
pub(crate) fn lifted(decision: &Decision, at: Timestamp) -> Alert {
    let subject = &decision.subject;
    let limits: Vec<&str> = decision
        .causes
        .iter()
        .map(|cause| cause.limit.as_str())
        .collect();
    let limits = limits.join(", ");
    let planned = match decision.until {
        Some(until) => format!("It would have ended by itself at {until}."),
        None => "It would not have ended by itself.".to_owned(),
    };
    let title = format!("{subject} is no longer refused ({limits})");
    Alert {
        id: id("lifted", &decision.id),
        kind: AlertKind::Lifted,
        subject: subject.clone(),
        body: format!("{title}, from {at} on.\n{planned}"),
        title,
        at,
        limit: decision.causes.first().map(|cause| cause.limit.clone()),
        level: None,
        used: None,
        max: None,
        decision: Some(decision.id.clone()),
        until: decision.until,
    }
}

/// The alert of a group's first report; later ones only tell the count.
pub(crate) fn new_group(group: &CspGroup) -> Option<Alert> {
    if !group.new {
        return None;
    }
    let subject = Subject::tenant(&group.tenant);
    let CspGroup {
        directive,
        blocked_host,
        document_uri,
        at,
        ..
    } = group;
    Some(Alert {
        id: id("csp-group", &group.id),
        kind: AlertKind::CspGroup,
        title: format!(
            "{subject}: browsers report something new: {directive} blocked {blocked_host}"
        ),
        body: format!(
            "A page of {subject} tried to load from {blocked_host}, which its content security policy does not allow \
             ({directive}). First seen on {document_uri} at {at}.\nIf the page is meant to do so, allow the source; \
             otherwise somebody may have put it there."
        ),
        subject,
        at: *at,
        limit: None,
        level: None,
        used: None,
        max: None,
        decision: None,
        until: None,
    })
}

fn id(kind: &str, of: &str) -> String {
    Uuid::new_v5(&ALERTS, format!("{kind}\n{of}").as_bytes()).to_string()
}

#[cfg(test)]
mod tests {
    use schemas::policy::{Meter, Window};

    use super::*;
    use crate::decision::Origin;

    fn crossing(meter: Meter, soft: Option<&str>, sum: i128, max: i128) -> Crossing {
        Crossing {
            id: "c1".to_owned(),
            subject: Subject::tenant("acme"),
            limit: "a-minute".to_owned(),
            policy_version: 1,
            meter,
            window: Window::Sliding { seconds: 60 },
            mode: Mode::Block,
            soft: soft.map(str::to_owned),
            threshold: 0,
            up: true,
            at: Timestamp::from_seconds(60),
            sum,
            max,
            falls_at: Some(Timestamp::from_seconds(90)),
            origin: Origin {
                topic: "t".to_owned(),
                partition: 0,
                offset: 1,
            },
        }
    }

    #[track_caller]
    fn check(crossing: &Crossing, title: &str, body: &str) {
        let alert = crossed(crossing, None);
        assert_eq!(alert.title, title);
        assert_eq!(alert.body, body);
        assert_eq!(alert.until, crossing.falls_at);
    }

    #[test]
    fn says_what_was_used_of_what() {
        check(
            &crossing(Meter::Tokens, Some("80%"), 49_200, 60_000),
            "tenant/acme has used 82 % of a-minute (49,200 of 60,000 tokens in sliding 60s)",
            "tenant/acme has used 82 % of a-minute (49,200 of 60,000 tokens in sliding 60s), at \
             1970-01-01T00:01:00Z.\nThat is its soft level 80%. Nothing is refused yet; from 60,000 tokens on, calls \
             are refused.",
        );
        check(
            &crossing(Meter::Cost, None, 20_500_000_000_000, 20_000_000_000_000),
            "tenant/acme has reached a-minute (20.5 of 20 USD in sliding 60s)",
            "tenant/acme has reached a-minute (20.5 of 20 USD in sliding 60s), at 1970-01-01T00:01:00Z.\nNothing is \
             refused for it: the policy has changed, or it was over by 1970-01-01T00:01:30Z.",
        );
    }

    #[test]
    fn one_crossing_is_one_alert() {
        let soft = crossing(Meter::Tokens, Some("80%"), 5, 6);
        let again = Crossing {
            sum: 6,
            ..soft.clone()
        };
        let other = Crossing {
            id: "c2".to_owned(),
            ..soft.clone()
        };
        assert_eq!(crossed(&soft, None).id, crossed(&again, None).id);
        assert_ne!(crossed(&soft, None).id, crossed(&other, None).id);
    }

    #[test]
    fn only_a_groups_first_report_is_told() {
        let group = CspGroup {
            id: "g".to_owned(),
            tenant: "acme".to_owned(),
            directive: "script-src-elem".to_owned(),
            blocked_host: "evil.example".to_owned(),
            document_uri: "https://acme.example/pay".to_owned(),
            at: Timestamp::from_seconds(0),
            new: true,
        };
        let alert = new_group(&group).unwrap();
        assert_eq!(
            alert.title,
            "tenant/acme: browsers report something new: script-src-elem blocked evil.example"
        );
        assert_eq!(
            new_group(&CspGroup {
                new: false,
                ..group
            }),
            None
        );
    }
}
