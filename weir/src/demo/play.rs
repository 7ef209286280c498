//! Plays the trace: each call asks first, as a gateway would, and reports what it used when it was admitted. Beside it
//! somebody tries passwords, and browsers report violations.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::Context;
use bus::clock::{Clock, SystemClock};
use parking_lot::Mutex;
use schemas::time::Timestamp;
use serde_json::{Value, json};
use tokio::time::Instant;

use super::client::Client;

/// 57 minutes of a public LLM service's production traffic; see the README beside it for its source and licence.
const TRACE: &str = include_str!("../../../tests/data/llm-trace/events.ndjson");
/// How often what is due is sent.
const BEAT: Duration = Duration::from_millis(50);
/// Beats between two tries of the attacker, and between two reports of a browser.
const ATTACK_BEATS: u32 = 4;
const VIOLATION_BEATS: u32 = 37;
const ATTACKED_TENANT: &str = "tenant-04";
const ATTACKED_ACCOUNT: &str = "alice";

/// What has been played so far.
#[derive(Debug, Default)]
pub(super) struct Played(Mutex<Totals>);

#[derive(Clone, Debug, Default)]
pub(super) struct Totals {
    pub(super) admitted: u64,
    /// Calls refused, by tenant and by the limit that refused.
    pub(super) refused: BTreeMap<(String, String), u64>,
    pub(super) sign_ins_tried: u64,
    pub(super) sign_ins_refused: u64,
    /// When the first refusal came, after the start.
    pub(super) first_refusal: Option<Duration>,
    pub(super) finished: bool,
}

impl Totals {
    pub(super) fn refused(&self) -> u64 {
        self.refused.values().sum()
    }
}

impl Played {
    pub(super) fn totals(&self) -> Totals {
        self.0.lock().clone()
    }
}

struct Call {
    /// After the trace's first call.
    due: Duration,
    event: Value,
}

fn trace(speed: u32) -> anyhow::Result<Vec<Call>> {
    let mut first = None;
    let mut calls = Vec::new();
    for (number, line) in TRACE.lines().enumerate() {
        let event: Value =
            serde_json::from_str(line).with_context(|| format!("trace line {number}"))?;
        let at = event
            .get("time")
            .and_then(Value::as_str)
            .and_then(Timestamp::parse);
        let at = at.with_context(|| format!("trace line {number} has no time"))?;
        let due = at.since(*first.get_or_insert(at)) / speed;
        calls.push(Call { due, event });
    }
    Ok(calls)
}

/// Plays the whole trace once; the attack and the reports go on as long.
pub(super) async fn play(client: &Client, played: &Played, speed: u32) -> anyhow::Result<()> {
    let mut calls = trace(speed)?.into_iter().peekable();
    let start = Instant::now();
    let mut beats = tokio::time::interval(BEAT);
    for beat in 0_u32.. {
        beats.tick().await;
        let mut events = Vec::new();
        while let Some(call) = calls.next_if(|call| call.due <= start.elapsed()) {
            events.extend(ask(client, played, call.event, start).await?);
        }
        if beat % ATTACK_BEATS == 0 {
            events.extend(try_password(client, played, beat).await?);
        }
        if beat % VIOLATION_BEATS == 0 {
            client
                .violation("tenant-02", &violation(beat / VIOLATION_BEATS))
                .await?;
        }
        if !events.is_empty() {
            client.report(&events).await?;
        }
        if calls.peek().is_none() {
            break;
        }
    }
    played.0.lock().finished = true;
    Ok(())
}

/// Asks whether one call of the trace may be made; if so, the event that reports it.
async fn ask(
    client: &Client,
    played: &Played,
    mut event: Value,
    start: Instant,
) -> anyhow::Result<Option<Value>> {
    let tenant = event["subject"].as_str().unwrap_or_default().to_owned();
    let data = &event["data"];
    let answer = client
        .check(&json!({
            "tenant": tenant, "key": data["key"], "user": data["user"], "route": data["route"],
            "provider": data["provider"], "model": data["model"],
        }))
        .await?;
    let mut totals = played.0.lock();
    if answer["verdict"] != "allow" {
        let limit = answer
            .pointer("/causes/0/limit")
            .and_then(Value::as_str)
            .unwrap_or("?");
        *totals
            .refused
            .entry((tenant, limit.to_owned()))
            .or_default() += 1;
        totals.first_refusal.get_or_insert(start.elapsed());
        return Ok(None);
    }
    totals.admitted += 1;
    event["time"] = json!(SystemClock.now().to_string());
    event["data"]["request_id"] = answer["request_id"].clone();
    // The gateway has counted the request when it admitted it.
    event["data"]["requests"] = json!(0);
    Ok(Some(event))
}

/// One try at an account's password, which fails; none once the account is blocked.
async fn try_password(
    client: &Client,
    played: &Played,
    beat: u32,
) -> anyhow::Result<Option<Value>> {
    let look = json!({ "tenant": ATTACKED_TENANT, "account": ATTACKED_ACCOUNT, "consume": {} });
    let answer = client.check(&look).await?;
    let mut totals = played.0.lock();
    totals.sign_ins_tried += 1;
    if answer["verdict"] != "allow" {
        totals.sign_ins_refused += 1;
        return Ok(None);
    }
    Ok(Some(json!({
        "specversion": "1.0", "type": "auth", "source": "demo/sign-in", "id": format!("try-{beat}"),
        "subject": ATTACKED_TENANT, "time": SystemClock.now().to_string(),
        "data": { "account": ATTACKED_ACCOUNT, "source": "203.0.113.7", "outcome": "failure", "surface": "web" },
    })))
}

fn violation(number: u32) -> Value {
    let blocked = match number % 3 {
        0 => "https://cdn.tracker.example/t.js",
        1 => "inline",
        _ => "https://fonts.example/f.woff2",
    };
    let directive = if number % 3 == 2 {
        "font-src"
    } else {
        "script-src-elem"
    };
    json!({ "csp-report": {
        "document-uri": "https://shop.example/checkout", "violated-directive": directive,
        "effective-directive": directive, "blocked-uri": blocked, "disposition": "enforce",
    } })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_whole_trace_is_there_in_order() {
        let calls = trace(60).unwrap();
        assert_eq!(calls.len(), 8_819);
        assert!(calls.is_sorted_by_key(|call| call.due));
        assert_eq!(calls.last().map(|call| call.due.as_secs()), Some(57));
    }
}
