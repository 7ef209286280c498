//! Commands to records of `weir.commands.v1` and back.

use std::collections::BTreeMap;

use bus::SendError;
use bus::consumer::Record;
use bus::producer::{Delivery, Producer};
use schemas::codec::Wire as _;
use schemas::orders::{Change, Numbers};
use schemas::policy::Mode;
use schemas::record::{self, Amount};
use schemas::time::Timestamp;
use schemas::topic;
use serde_json::Value;

use crate::command::{Action, Back, Command, Undone};

const MODE: &str = "mode";
const TIER: &str = "tier";
const COMMAND: &str = "command";
const KIND: &str = "kind";
const BACK: &str = "back";
const BACK_UNTIL: &str = "back_until";

/// Reads one record of `weir.commands.v1`; the error says what is wrong with it.
pub(crate) fn command(record: &Record) -> Result<Command, String> {
    let value = record.value.as_deref().ok_or("a command without a value")?;
    let wire = record::Command::decode(value).map_err(|error| error.to_string())?;
    let action = action(&wire)?;
    Ok(Command {
        // PostgreSQL keeps no such character.
        id: wire.id.replace('\0', ""),
        subject: wire.subject,
        at: wire.at,
        actor: wire.actor.replace('\0', ""),
        reason: wire.reason.replace('\0', ""),
        until: wire.until,
        action,
    })
}

fn action(wire: &record::Command) -> Result<Action, String> {
    let limit = || wire.limit.clone().ok_or("it names no limit");
    let amount = || wire.amount.map(|amount| amount.0).ok_or("it has no amount");
    let argument = |name: &str| {
        let value = wire.arguments.get(name).cloned();
        value.ok_or(format!("it has no `{name}`"))
    };
    Ok(match wire.kind.as_str() {
        "raise" => Action::Raise {
            limit: limit()?,
            numbers: Numbers {
                hard: wire.amount.map(|amount| amount.0),
                mode: wire
                    .arguments
                    .get(MODE)
                    .map(|mode| mode_named(mode))
                    .transpose()?,
                ..Numbers::default()
            },
        },
        "clear" => {
            // Without an end it would be kept for ever.
            wire.until.ok_or("it has no end")?;
            let is_tenants = wire.subject.tenant_id().is_some();
            match is_tenants {
                true => Action::Clear { limit: limit()? },
                false => return Err(format!("`{}` is wider than a tenant", wire.subject)),
            }
        }
        "top_up" => Action::TopUp {
            limit: limit()?,
            amount: amount()?,
        },
        "set_tier" => Action::SetTier {
            tier: argument(TIER)?,
        },
        "block" => Action::Block,
        "unblock" => Action::Unblock,
        "ask" => Action::Ask {
            limit: limit()?,
            numbers: hard(amount()?),
        },
        "approve" => Action::Approve {
            request: argument(COMMAND)?,
            limit: limit()?,
            numbers: hard(amount()?),
        },
        "decline" => Action::Decline {
            request: argument(COMMAND)?,
            limit: limit()?,
        },
        "undo" => Action::Undo {
            command: argument(COMMAND)?,
            what: match argument(KIND)?.as_str() {
                "raise" => Undone::Raise { limit: limit()? },
                "top_up" => Undone::TopUp {
                    limit: limit()?,
                    amount: amount()?,
                },
                "set_tier" => Undone::SetTier,
                "block" => Undone::Block,
                other => return Err(format!("a command of kind `{other}` cannot be undone")),
            },
            back: back(wire)?.map(Box::new),
        },
        other => return Err(format!("`{other}` is no kind of command")),
    })
}

/// What the command that is undone had replaced.
fn back(wire: &record::Command) -> Result<Option<Back>, String> {
    let argument = |name: &str| wire.arguments.get(name);
    let Some(command) = argument(BACK) else {
        return Ok(None);
    };
    let until = argument(BACK_UNTIL).map(|text| {
        let until = Timestamp::parse(text);
        until.ok_or(format!("`{text}` is no time"))
    });
    let change = match (&wire.limit, argument(TIER)) {
        (Some(limit), None) => Change::Numbers {
            limit: limit.clone(),
            numbers: Numbers {
                hard: wire.amount.map(|amount| amount.0),
                mode: argument(MODE).map(|mode| mode_named(mode)).transpose()?,
                ..Numbers::default()
            },
        },
        (None, Some(tier)) => Change::Tier(tier.clone()),
        _ => return Err("what it brings back is neither a number nor a tier".to_owned()),
    };
    Ok(Some(Back {
        command: command.clone(),
        until: until.transpose()?,
        change,
    }))
}

fn hard(number: i128) -> Numbers {
    Numbers {
        hard: Some(number),
        ..Numbers::default()
    }
}

fn mode_named(name: &str) -> Result<Mode, String> {
    let mode = serde_json::from_value(Value::from(name));
    mode.map_err(|_| format!("`{name}` is no mode"))
}

/// Sends a command to the log.
pub(crate) fn enqueue_command(
    producer: &Producer,
    command: &Command,
) -> Result<Delivery, SendError> {
    let key = command.subject.partition_key();
    producer.enqueue(&topic::COMMANDS, &key, &command_record(command))
}

fn mode_name(numbers: &Numbers) -> Option<String> {
    let mode = serde_json::to_value(numbers.mode?).ok()?;
    mode.as_str().map(str::to_owned)
}

fn command_record(command: &Command) -> record::Command {
    let (mut amount, mut arguments) = (None, BTreeMap::new());
    let mut argue = |name: &str, value: &str| {
        arguments.insert(name.to_owned(), value.to_owned());
    };
    match &command.action {
        Action::Raise { numbers, .. } => {
            amount = numbers.hard.map(Amount);
            if let Some(mode) = mode_name(numbers) {
                argue(MODE, &mode);
            }
        }
        Action::TopUp { amount: paid, .. } => amount = Some(Amount(*paid)),
        Action::SetTier { tier } => argue(TIER, tier),
        Action::Clear { .. } | Action::Block | Action::Unblock => {}
        Action::Ask { numbers, .. } => amount = numbers.hard.map(Amount),
        Action::Approve {
            request, numbers, ..
        } => {
            amount = numbers.hard.map(Amount);
            argue(COMMAND, request);
        }
        Action::Decline { request, .. } => argue(COMMAND, request),
        Action::Undo {
            command,
            what,
            back,
        } => {
            argue(COMMAND, command);
            if let Some(back) = back {
                argue(BACK, &back.command);
                if let Some(until) = back.until {
                    argue(BACK_UNTIL, &until.to_string());
                }
                match &back.change {
                    Change::Numbers { numbers, .. } => {
                        amount = numbers.hard.map(Amount);
                        if let Some(mode) = mode_name(numbers) {
                            argue(MODE, &mode);
                        }
                    }
                    Change::Tier(tier) => argue(TIER, tier),
                    Change::Cleared { .. } => {}
                }
            }
            if let Undone::TopUp { amount: paid, .. } = what {
                amount = Some(Amount(*paid));
            }
            argue(
                KIND,
                match what {
                    Undone::Raise { .. } => "raise",
                    Undone::TopUp { .. } => "top_up",
                    Undone::SetTier => "set_tier",
                    Undone::Block => "block",
                },
            );
        }
    }
    record::Command {
        id: command.id.clone(),
        kind: command.action.kind().to_owned(),
        subject: command.subject.clone(),
        at: command.at,
        actor: command.actor.clone(),
        reason: command.reason.clone(),
        limit: command.action.limit().map(str::to_owned),
        amount,
        until: command.until,
        arguments,
    }
}

#[cfg(test)]
mod tests {
    use schemas::subject::Subject;

    use super::*;

    #[track_caller]
    fn check(action: Action) {
        let command = super::Command {
            id: "c1".to_owned(),
            subject: Subject::tenant("acme"),
            at: Timestamp::from_seconds(1),
            actor: "ops".to_owned(),
            reason: "why".to_owned(),
            until: Some(Timestamp::from_seconds(2)),
            action,
        };
        let mut bytes = Vec::new();
        command_record(&command).encode(&mut bytes).unwrap();
        let record = Record {
            offset: 0,
            appended_at: Timestamp::default(),
            key: None,
            value: Some(bytes.into()),
            headers: Vec::new(),
        };
        assert_eq!(super::command(&record), Ok(command));
    }

    #[test]
    fn commands_are_read_as_they_were_written() {
        let limit = || "rpm".to_owned();
        let id = || "c0".to_owned();
        let numbers = Numbers {
            hard: Some(i128::MAX),
            mode: Some(Mode::Open),
            ..Numbers::default()
        };
        check(Action::Raise {
            limit: limit(),
            numbers: numbers.clone(),
        });
        check(Action::TopUp {
            limit: limit(),
            amount: -5,
        });
        check(Action::SetTier {
            tier: "pro".to_owned(),
        });
        check(Action::Clear { limit: limit() });
        check(Action::Block);
        check(Action::Ask {
            limit: limit(),
            numbers: hard(7),
        });
        check(Action::Approve {
            request: id(),
            limit: limit(),
            numbers: hard(7),
        });
        check(Action::Decline {
            request: id(),
            limit: limit(),
        });
        check(Action::Unblock);
        for what in [
            Undone::Raise { limit: limit() },
            Undone::TopUp {
                limit: limit(),
                amount: 5,
            },
            Undone::SetTier,
            Undone::Block,
        ] {
            let (command, back) = (id(), None);
            check(Action::Undo {
                command,
                what,
                back,
            });
        }
        let earlier = |change, until| Back {
            command: "earlier".to_owned(),
            until,
            change,
        };
        let (limit, until) = (limit(), Some(Timestamp::from_micros(1_500_001)));
        let what = Undone::Raise {
            limit: limit.clone(),
        };
        let numbers = Change::Numbers { limit, numbers };
        check(Action::Undo {
            command: id(),
            what,
            back: Some(Box::new(earlier(numbers, until))),
        });
        check(Action::Undo {
            command: id(),
            what: Undone::SetTier,
            back: Some(Box::new(earlier(Change::Tier("pro".to_owned()), None))),
        });
    }
}
