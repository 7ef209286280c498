//! A command as people send it: JSON, read into what is ordered or into everything that is wrong with it.

mod clear;
mod request;
mod wallet;

use std::collections::BTreeSet;
use std::time::Duration;

use schemas::money::parse_usd;
use schemas::orders::Numbers;
use schemas::policy::{Limit, Meter, Mode, Policy, Window, parse_span};
use schemas::problem::FieldError;
use schemas::subject::Subject;
use schemas::time::Timestamp;
use serde_json::{Map, Value};

use super::{Action, KINDS};
use crate::policy::{did_you_mean, meant_dimension, meant_set};

/// The longest reason that is taken, in bytes.
const REASON_BYTES_MAX: usize = 1_000;
/// The longest id that is taken, in bytes.
const ID_BYTES_MAX: usize = 128;

/// What was sent, checked by itself and against the policy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Draft {
    /// The sender's own name for it, by which a repetition is known.
    pub(crate) id: Option<String>,
    pub(crate) reason: String,
    pub(crate) until: Option<Timestamp>,
    pub(crate) order: Drafted,
}

/// What is ordered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Drafted {
    On {
        subject: Subject,
        action: Action,
    },
    /// Undo the command of this id: what that was is not in the draft.
    Undo {
        command: String,
    },
    /// Answer the request of this id.
    Answer {
        request: String,
        approves: bool,
    },
}

/// Reads a command that is given at `now`, while `policy` is in force.
///
/// # Errors
/// Everything that is wrong, each with a JSON pointer to it.
pub(crate) fn read(
    body: &Value,
    policy: &Policy,
    now: Timestamp,
) -> Result<Draft, Vec<FieldError>> {
    let Some(fields) = body.as_object() else {
        let detail = "a command is an object such as {\"kind\": \"block\", \"subject\": \"tenant/acme\", \"reason\": \"…\"}";
        return Err(vec![FieldError {
            pointer: String::new(),
            detail: detail.to_owned(),
        }]);
    };
    let mut reader = Reader {
        fields,
        policy,
        now,
        wrong: Vec::new(),
    };
    let draft = reader.whole();
    match draft {
        Some(draft) if reader.wrong.is_empty() => Ok(draft),
        _ => Err(reader.wrong),
    }
}

struct Reader<'a> {
    fields: &'a Map<String, Value>,
    policy: &'a Policy,
    now: Timestamp,
    wrong: Vec<FieldError>,
}

impl<'a> Reader<'a> {
    fn whole(&mut self) -> Option<Draft> {
        let kind = self.kind()?;
        let own: &[&str] = match kind {
            "raise" => &["subject", "limit", "hard", "mode", "until", "for"],
            "clear" => &["subject", "limit"],
            "top_up" => &["subject", "amount", "limit"],
            "set_tier" => &["subject", "tier", "until", "for"],
            "block" => &["subject", "until", "for"],
            "unblock" => &["subject"],
            "ask" => &["subject", "limit", "hard", "until", "for"],
            "approve" => &["request", "until", "for"],
            "decline" => &["request"],
            _ => &["command"],
        };
        self.refuse_unknown(kind, own);
        let id = self.id();
        let reason = self.reason();
        let mut until = self.until();
        let order = match kind {
            "clear" => self.clear().map(|(drafted, ends)| {
                until = Some(ends);
                drafted
            }),
            "undo" => self.needed("command").map(|command| Drafted::Undo {
                command: command.to_owned(),
            }),
            "approve" | "decline" => self.answer(kind, until),
            kind => self.on(kind),
        };
        Some(Draft {
            id,
            reason: reason?,
            until,
            order: order?,
        })
    }

    fn on(&mut self, kind: &str) -> Option<Drafted> {
        let subject = self.subject();
        if matches!(kind, "set_tier" | "block") {
            self.refuse_unknown_set(subject.as_ref());
        }
        let action = match kind {
            "raise" => self.raise(subject.as_ref()),
            "top_up" => self.top_up(subject.as_ref()),
            "set_tier" => self.tier(subject.as_ref()),
            "ask" => self.ask(subject.as_ref()),
            "block" => Some(Action::Block),
            _ => Some(Action::Unblock),
        };
        Some(Drafted::On {
            subject: subject?,
            action: action?,
        })
    }

    fn say(&mut self, field: &str, detail: impl Into<String>) {
        self.wrong.push(FieldError {
            pointer: format!("/{}", field.replace('~', "~0").replace('/', "~1")),
            detail: detail.into(),
        });
    }

    fn text(&mut self, field: &str) -> Option<&'a str> {
        let value = self.fields.get(field).filter(|value| !value.is_null())?;
        let text = value.as_str().filter(|text| !text.contains('\0'));
        if text.is_none() {
            self.say(field, "must be text");
        }
        text
    }

    fn needed(&mut self, field: &str) -> Option<&'a str> {
        if self.fields.get(field).is_none_or(Value::is_null) {
            self.say(field, "is missing");
            return None;
        }
        self.text(field)
    }

    fn kind(&mut self) -> Option<&'static str> {
        let kind = self.needed("kind")?;
        let known = KINDS.into_iter().find(|known| *known == kind);
        if known.is_none() {
            let hint = did_you_mean(kind, KINDS.into_iter());
            let kinds = KINDS.join(", ");
            self.say(
                "kind",
                format!("`{kind}` is no kind of command: use {kinds}{hint}"),
            );
        }
        known
    }

    fn refuse_unknown(&mut self, kind: &str, own: &[&str]) {
        let known = || {
            ["kind", "reason", "id"]
                .into_iter()
                .chain(own.iter().copied())
        };
        for field in self.fields.keys() {
            if !known().any(|known| known == field) {
                let hint = did_you_mean(field, known());
                self.say(field, format!("`{kind}` has no such field{hint}"));
            }
        }
    }

    fn id(&mut self) -> Option<String> {
        let id = self.text("id")?;
        if !is_id(id) {
            let text =
                format!("an id has 1 to {ID_BYTES_MAX} of a-z, A-Z, 0-9, `-`, `_`, `.` and `:`");
            self.say("id", text);
        }
        Some(id.to_owned())
    }

    fn reason(&mut self) -> Option<String> {
        let reason = self.needed("reason")?.trim();
        if reason.is_empty() || REASON_BYTES_MAX < reason.len() {
            let text = format!(
                "a reason has 1 to {REASON_BYTES_MAX} bytes: say why, for those who ask later"
            );
            self.say("reason", text);
        }
        Some(reason.to_owned())
    }

    /// When it ends by itself.
    fn until(&mut self) -> Option<Timestamp> {
        let until = match (self.text("until"), self.text("for")) {
            (Some(_), Some(_)) => {
                self.say("for", "say either `until` or `for`, not both");
                None
            }
            (Some(until), None) => {
                let read = Timestamp::parse(until);
                if read.is_none() {
                    self.say("until", "must be a time such as 2026-12-24T18:00:00Z");
                }
                read
            }
            (None, Some(span)) => match parse_span(span) {
                Ok(seconds) => Some(self.now.plus(Duration::from_secs(seconds.into()))),
                Err(error) => {
                    self.say("for", error.to_string());
                    None
                }
            },
            (None, None) => None,
        }?;
        if until <= self.now {
            let field = if self.fields.contains_key("for") {
                "for"
            } else {
                "until"
            };
            self.say(field, "must lie in the future");
        }
        Some(until)
    }

    fn subject(&mut self) -> Option<Subject> {
        let path = self.needed("subject")?;
        match Subject::parse(path) {
            Ok(subject) => Some(subject),
            Err(error) => {
                let hint = meant_dimension(&error);
                self.say("subject", format!("{error}{hint}"));
                None
            }
        }
    }

    /// Nothing is in a set that the policy does not have. What was ordered while it had one can be ended without it.
    fn refuse_unknown_set(&mut self, subject: Option<&Subject>) {
        let sets = &self.policy.sets;
        if let Some(Err(error)) = subject.map(|subject| sets.check(subject)) {
            self.say("subject", format!("{error}{}", meant_set(&error, sets)));
        }
    }

    fn raise(&mut self, subject: Option<&Subject>) -> Option<Action> {
        let limit = self.limit(subject);
        self.refuse_wallet(limit);
        let hard = self.hard(limit);
        let mode = self.mode(limit);
        if !["hard", "mode"]
            .iter()
            .any(|field| self.fields.contains_key(*field))
        {
            self.say(
                "hard",
                "is missing: the number that the limit is to have (or give another `mode`)",
            );
        }
        Some(Action::Raise {
            limit: limit?.name.clone(),
            numbers: Numbers {
                hard,
                mode,
                ..Numbers::default()
            },
        })
    }

    /// The limit by its name, as it is counted for the subject or for what lies in it.
    fn limit(&mut self, subject: Option<&Subject>) -> Option<&'a Limit> {
        let name = self.needed("limit")?;
        let named = self.named(name)?;
        let subject = subject?;
        let mut all = named.iter().copied();
        let found = all.find(|limit| limit.pattern.is_in(subject));
        if found.is_none() {
            let patterns = patterns_of(&named);
            self.say(
                "subject",
                format!(
                    "limit `{name}` is on `{patterns}`, and not counted for `{subject}` or in it"
                ),
            );
        }
        found
    }

    /// The limits of this name, general and of tiers.
    fn named(&mut self, name: &str) -> Option<Vec<&'a Limit>> {
        let limits = self.policy.limits.iter();
        let named: Vec<&Limit> = limits.clone().filter(|own| own.name == name).collect();
        if named.is_empty() {
            let hint = did_you_mean(name, limits.map(|own| own.name.as_str()));
            let version = self.policy.version;
            self.say(
                "limit",
                format!("version {version} of the policy has no limit `{name}`{hint}"),
            );
            return None;
        }
        Some(named)
    }

    fn hard(&mut self, limit: Option<&Limit>) -> Option<i128> {
        let value = self.fields.get("hard")?;
        let limit = limit?;
        let read = match &limit.meter {
            Meter::Cost => value
                .as_str()
                .and_then(|text| parse_usd(text.strip_suffix("USD").unwrap_or(text).trim()).ok())
                .map(i128::from)
                .ok_or("is text such as \"20 USD\""),
            _ => value
                .as_i64()
                .map(i128::from)
                .ok_or("is a whole number, such as 60000"),
        };
        let wrong = match read {
            Err(text) => format!("`hard` of {} {text}", limit.meter.name()),
            Ok(hard) if hard <= 0 => {
                "must be above zero; to refuse everything, order `block`".to_owned()
            }
            Ok(hard) => match limit.window {
                Window::Bucket { burst, .. } if i128::from(burst) < hard => {
                    format!("is above the {burst} that the limit's bucket holds")
                }
                _ => return Some(hard),
            },
        };
        self.say("hard", wrong);
        None
    }

    /// A ledger holds what the policy makes strict, and knows nothing of what was used of anything else.
    fn mode(&mut self, limit: Option<&Limit>) -> Option<Mode> {
        let name = self.text("mode")?;
        let mode = serde_json::from_value(Value::from(name)).ok();
        if mode.is_none() {
            let hint = did_you_mean(name, ["open", "block", "strict"].into_iter());
            self.say("mode", format!("`{name}` is no mode of a limit{hint}"));
        }
        let named = limit.map(|limit| limit.name.as_str());
        let is_in_flight = limit.is_some_and(|limit| limit.window == Window::Concurrent);
        if is_in_flight && mode.is_some_and(|mode| mode != Mode::Strict) {
            self.say(
                "mode",
                "what is in flight is known only of what is reserved, so the mode stays `strict`",
            );
        }
        let mut own = self.policy.limits.iter();
        let is_strict = own.any(|l| Some(l.name.as_str()) == named && l.mode == Mode::Strict);
        if let (Some(Mode::Strict), Some(limit), false) = (mode, named, is_strict) {
            self.say(
                "mode",
                format!(
                    "`{limit}` is not strict in the policy, so no ledger knows what was used of it: make it strict there"
                ),
            );
        }
        mode
    }

    fn tier(&mut self, subject: Option<&Subject>) -> Option<Action> {
        let tier = self.needed("tier")?;
        let known = tiers(self.policy);
        if !known.contains(tier) {
            let hint = did_you_mean(tier, known.iter().copied());
            let version = self.policy.version;
            self.say(
                "tier",
                format!("version {version} of the policy has no tier `{tier}`{hint}"),
            );
        }
        if subject.is_some_and(|subject| subject.tenant_id().is_none()) {
            self.say(
                "subject",
                "a tier is a tenant's, or a user's or key's of one: begin with `tenant/`",
            );
        }
        Some(Action::SetTier {
            tier: tier.to_owned(),
        })
    }
}

/// The tiers that the policy speaks of.
fn tiers(policy: &Policy) -> BTreeSet<&str> {
    let limits = policy
        .limits
        .iter()
        .filter_map(|limit| limit.tier.as_deref());
    let tenants = policy
        .tenants
        .values()
        .filter_map(|tenant| tenant.tier.as_deref());
    limits
        .chain(tenants)
        .chain(policy.default_tier.as_deref())
        .collect()
}

pub(crate) fn is_id(id: &str) -> bool {
    let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.' | b':');
    (1..=ID_BYTES_MAX).contains(&id.len()) && id.bytes().all(plain)
}

/// What limits are on, each pattern once.
fn patterns_of(limits: &[&Limit]) -> String {
    let patterns: BTreeSet<&str> = limits.iter().map(|own| own.pattern.as_str()).collect();
    let patterns: Vec<&str> = patterns.into_iter().collect();
    patterns.join("`, `")
}

#[cfg(test)]
mod tests;
