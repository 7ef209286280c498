//! `weir explain`: why somebody was refused, for people.

use clap::Args;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::Value;

use super::policy::client::Server;
use super::say;

#[derive(Debug, Args)]
pub(super) struct ExplainArgs {
    /// The decision's id, as refusals (X-Weir-Decision), alerts and /v1/decisions have it
    decision: String,
    /// Events shown of each cause, at most
    #[arg(long, value_name = "N", default_value_t = 10)]
    events: usize,
    /// As JSON, for programs
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    server: Server,
}

impl ExplainArgs {
    pub(super) async fn run(self) -> anyhow::Result<()> {
        let id = utf8_percent_encode(&self.decision, NON_ALPHANUMERIC);
        let path = format!("/v1/decisions/{id}/explanation?events={}", self.events);
        let told = self.server.client()?.get(&path).await?;
        if self.json {
            return say(&told.to_string());
        }
        say(&lines(&told).join("\n"))
    }
}

/// An explanation, a line for each thing that it tells.
fn lines(told: &Value) -> Vec<String> {
    let mut lines = vec![decision(&told["decision"])];
    for cause in list(&told["causes"]) {
        lines.extend(of_cause(cause).into_iter().map(|line| format!("  {line}")));
    }
    let requests = &told["refused"]["requests"];
    lines.push(match text(&told["refused"]["last_at"]) {
        None => "no gateway has told of a request that it refused for it".to_owned(),
        Some(last) => format!("requests refused for it: {requests}, the last at {last}"),
    });
    let since = since(&told["since"]);
    lines.push(match since.is_empty() {
        true => "nobody has touched it since".to_owned(),
        false => "since then:".to_owned(),
    });
    lines.extend(since.into_iter().map(|line| format!("  {line}")));
    lines
}

fn decision(decision: &Value) -> String {
    let subject = word(&decision["subject"]);
    let status = match &decision["status"] {
        Value::Null => String::new(),
        status => format!(" with {status}"),
    };
    let verdict = word(&decision["verdict"]);
    let issued = word(&decision["issued_at"]);
    let end = match (text(&decision["ended_at"]), text(&decision["ended_by"])) {
        (Some(at), Some(why)) => format!("it ended at {at} ({why})"),
        (Some(at), None) => format!("it ended at {at}"),
        (None, _) => match text(&decision["until"]) {
            Some(until) => format!("it stands until {until}"),
            None => "it stands until somebody lifts it".to_owned(),
        },
    };
    format!("{subject}: {verdict}{status}, since {issued}; {end}")
}

fn of_cause(cause: &Value) -> Vec<String> {
    if cause["command"].is_object() {
        return vec![format!("by command {}", command(&cause["command"]))];
    }
    let amount = |name: &str| {
        let usd = text(&cause[format!("{name}_usd")]);
        usd.map_or_else(|| word(&cause[name]), |usd| format!("{usd} USD"))
    };
    let (used, max) = (amount("used"), amount("max"));
    let mut lines = vec![format!(
        "limit {}: {used} of {max} {} in {}, mode {}",
        word(&cause["limit"]),
        word(&cause["meter"]),
        word(&cause["window"]),
        word(&cause["mode"]),
    )];
    let then = number(&cause["then"]);
    lines.push(match cause["policy"].is_object() {
        true => format!("  by {}: {then}", version(&cause["policy"])),
        false => format!(
            "  by version {} of the policy, which the log keeps no more",
            cause["policy_version"]
        ),
    });
    lines.push(format!("  now: {}", number(&cause["now"])));
    lines.extend(evidence(&cause["evidence"]));
    lines
}

/// The numbers of a limit, and whose order they are.
fn number(limit: &Value) -> String {
    if !limit.is_object() {
        return "no such limit".to_owned();
    }
    let hard =
        text(&limit["hard_usd"]).map_or_else(|| word(&limit["hard"]), |usd| format!("{usd} USD"));
    let mode = word(&limit["mode"]);
    let tier = text(&limit["tier"]).map_or(String::new(), |tier| format!(" of tier {tier}"));
    let order = text(&limit["ordered_by"]);
    let order = order.map_or(String::new(), |order| format!(", ordered by {order}"));
    format!("hard {hard}, mode {mode}{tier}{order}")
}

fn evidence(evidence: &Value) -> Vec<String> {
    let (from, sum, total) = (
        word(&evidence["from"]),
        word(&evidence["sum"]),
        &evidence["total"],
    );
    let mut lines = vec![format!(
        "  events that count from {from} on: {total}, together {sum}"
    )];
    let cleared = text(&evidence["cleared"]["command"]);
    lines.extend(cleared.map(|command| {
        let at = word(&evidence["cleared"]["at"]);
        format!("    without what came before {at}, when {command} cleared it")
    }));
    for event in list(&evidence["events"]) {
        let by = event["by"].as_object().into_iter().flatten();
        let by: Vec<String> = by
            .map(|(name, id)| format!("{name} {}", word(id)))
            .collect();
        lines.push(format!(
            "    {}  {}  {} {}  {}",
            word(&event["at"]),
            word(&event["amount"]),
            word(&event["source"]),
            word(&event["id"]),
            by.join(", "),
        ));
    }
    if evidence["more"] != 0 {
        lines.push(format!("    and {} more before", evidence["more"]));
    }
    lines.extend(text(&evidence["missing"]).map(|missing| format!("    {missing}")));
    lines
}

fn since(since: &Value) -> Vec<String> {
    let commands = list(&since["commands"]).map(|given| {
        let at = word(&given["at"]);
        format!("{at} {}", command(given))
    });
    let mut lines: Vec<String> = commands.collect();
    for changed in list(&since["versions"]) {
        let changes: Vec<String> = list(&changed["changes"]).map(word).collect();
        let at = word(&changed["at"]);
        lines.push(format!("{at} {}: {}", version(changed), changes.join("; ")));
    }
    // Times sort as text.
    lines.sort();
    lines
}

fn command(given: &Value) -> String {
    let (id, kind, subject) = (
        word(&given["id"]),
        word(&given["kind"]),
        word(&given["subject"]),
    );
    let to = ["hard", "mode", "tier", "command", "until"];
    let to = to.into_iter().filter(|name| !given[name].is_null());
    let to: String = to
        .map(|name| format!(", {name} {}", word(&given[name])))
        .collect();
    let (actor, reason) = (word(&given["actor"]), word(&given["reason"]));
    format!("{id}: {kind} {subject}{to}, by {actor}: {reason}")
}

/// A version of the policy; who made it and why is not told to everybody.
fn version(version: &Value) -> String {
    let number = &version["version"];
    match (text(&version["author"]), text(&version["reason"])) {
        (Some(author), Some(reason)) => {
            format!("version {number} of the policy, by {author}: {reason}")
        }
        _ => format!("version {number} of the policy"),
    }
}

fn list(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

fn text(value: &Value) -> Option<&str> {
    value.as_str()
}

/// A value as a word of a line.
fn word(value: &Value) -> String {
    value
        .as_str()
        .map_or_else(|| value.to_string(), str::to_owned)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn an_explanation_is_told_in_lines() {
        let told = json!({
            "decision": { "subject": "tenant/acme", "verdict": "block", "status": 429, "issued_at": "T1",
                          "until": "T2", "ended_at": null, "ended_by": null },
            "causes": [{
                "limit": "tpm", "meter": "tokens", "window": "sliding 60s", "mode": "block", "used": 120, "max": 100,
                "policy_version": 1,
                "policy": { "version": 1, "author": "ops", "reason": "first" },
                "then": { "hard": 100, "mode": "block", "tier": null, "ordered_by": null },
                "now": { "hard": 500, "mode": "block", "tier": "pro", "ordered_by": "c1" },
                "evidence": { "from": "T0", "cleared": { "at": "T0.5", "command": "c0" }, "total": 3, "sum": 120, "more": 2, "missing": null, "events": [
                    { "at": "T1", "amount": 20, "source": "app", "id": "e3", "by": { "user": "u" } },
                ] },
            }],
            "refused": { "requests": 7, "last_at": "T3" },
            "since": {
                "commands": [{ "id": "c1", "kind": "raise", "subject": "tenant/acme", "at": "T5", "hard": 500,
                               "actor": "ops", "reason": "launch" }],
                "versions": [{ "version": 2, "at": "T4", "author": "ops", "reason": "more",
                               "changes": ["~ limit tpm: hard 100 -> 150"] }],
            },
        });
        let expected = [
            "tenant/acme: block with 429, since T1; it stands until T2",
            "  limit tpm: 120 of 100 tokens in sliding 60s, mode block",
            "    by version 1 of the policy, by ops: first: hard 100, mode block",
            "    now: hard 500, mode block of tier pro, ordered by c1",
            "    events that count from T0 on: 3, together 120",
            "      without what came before T0.5, when c0 cleared it",
            "      T1  20  app e3  user u",
            "      and 2 more before",
            "requests refused for it: 7, the last at T3",
            "since then:",
            "  T4 version 2 of the policy, by ops: more: ~ limit tpm: hard 100 -> 150",
            "  T5 c1: raise tenant/acme, hard 500, by ops: launch",
        ];
        assert_eq!(lines(&told), expected);
    }
}
