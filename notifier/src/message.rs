//! What is said: one alert, or many in a digest, as plain text and as JSON. Pure.

use std::fmt::Write as _;

use schemas::record::Amount;
use schemas::time::Timestamp;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::alert::Alert;

/// Alerts that a digest spells out; the rest is a number.
pub(crate) const LISTED_MAX: usize = 50;

/// One message of one channel. The same in every try.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Message {
    /// By which a receiver recognises a second copy. Only letters, digits and `_`.
    pub(crate) id: String,
    /// `weir.alert.hard`, …, `weir.alert.digest`.
    pub(crate) kind: String,
    /// Event time; of a digest, its newest alert's.
    pub(crate) at: Timestamp,
    /// One line.
    pub(crate) title: String,
    pub(crate) text: String,
    pub(crate) data: Value,
}

impl Message {
    pub(crate) fn of_alert(alert: &Alert, channel: &str) -> Self {
        Self {
            id: message_id(&alert.id, channel),
            kind: format!("weir.alert.{}", alert.kind.name()),
            at: alert.at,
            title: one_line(&alert.title),
            text: text_of(alert),
            data: data_of(alert),
        }
    }

    /// `alerts`: up to [`LISTED_MAX`] of the `count` that were folded, oldest first.
    pub(crate) fn of_digest(digest: &str, channel: &str, alerts: &[Alert], count: usize) -> Self {
        debug_assert!(alerts.len() <= count);
        let newest = alerts.iter().map(|alert| alert.at).max();
        let tenant = alerts.first().and_then(|alert| alert.tenant.clone());
        let about = tenant.as_deref().unwrap_or("the platform");
        let noun = if count == 1 { "alert" } else { "alerts" };
        let title = one_line(&format!("{count} more {noun} about {about}"));
        let mut text = format!("{title}, folded into this message:\n\n");
        for alert in alerts {
            push_line(&mut text, &format!("{}  {}", alert.at, alert.title));
        }
        if alerts.len() < count {
            push_line(&mut text, &format!("and {} more", count - alerts.len()));
        }
        let listed: Vec<Value> = alerts.iter().map(data_of).collect();
        Self {
            id: message_id(digest, channel),
            kind: "weir.alert.digest".to_owned(),
            at: newest.unwrap_or_default(),
            data: json!({
                "id": digest, "tenant": tenant, "title": title, "count": count, "alerts": listed,
            }),
            title,
            text,
        }
    }

    /// The body of a webhook.
    pub(crate) fn to_json(&self) -> Vec<u8> {
        json!({ "type": self.kind, "timestamp": self.at.to_string(), "data": self.data })
            .to_string()
            .into_bytes()
    }
}

/// An integer as JSON: a number while every reader takes it exactly, else a string.
pub(crate) fn json_integer(value: i128) -> Value {
    Amount(value).to_json()
}

/// A hash, since ids of alerts and names of channels may hold what no header takes.
fn message_id(id: &str, channel: &str) -> String {
    let mut hash = Sha256::new();
    hash.update((id.len() as u64).to_be_bytes());
    hash.update(id);
    hash.update(channel);
    let mut out = String::from("msg_");
    for byte in &hash.finalize()[..16] {
        push(&mut out, format_args!("{byte:02x}"));
    }
    out
}

fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

fn push(out: &mut String, text: std::fmt::Arguments<'_>) {
    let written = out.write_fmt(text);
    debug_assert!(written.is_ok(), "writing to a string cannot fail");
}

fn push_line(out: &mut String, line: &str) {
    push(out, format_args!("{line}\n"));
}

fn text_of(alert: &Alert) -> String {
    let mut text = format!("{}\n\n", alert.body.trim_end());
    push_line(&mut text, &format!("subject:  {}", alert.subject));
    push_line(&mut text, &format!("at:       {}", alert.at));
    if let Some(limit) = &alert.limit {
        push_line(&mut text, &format!("limit:    {limit}"));
    }
    if let Some(decision) = &alert.decision {
        push_line(&mut text, &format!("decision: {decision}"));
    }
    if let Some(until) = alert.until {
        push_line(&mut text, &format!("until:    {until}"));
    }
    push_line(&mut text, &format!("alert:    {}", alert.id));
    text
}

/// An alert as webhooks and `GET /v1/alerts` show it.
pub(crate) fn data_of(alert: &Alert) -> Value {
    json!({
        "id": alert.id,
        "kind": alert.kind.name(),
        "tenant": alert.tenant,
        "subject": alert.subject.as_str(),
        "title": alert.title,
        "body": alert.body,
        "at": alert.at.to_string(),
        "limit": alert.limit,
        "level": alert.level,
        "used": alert.used.map(json_integer),
        "max": alert.max.map(json_integer),
        "decision": alert.decision,
        "until": alert.until.map(|until| until.to_string()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::alert::testing;

    #[test]
    fn an_alert_becomes_text_and_json() {
        let alert = testing::alert("a1", Timestamp::from_seconds(1_700_000_000));
        let message = Message::of_alert(&alert, "ops");
        assert_eq!(message.kind, "weir.alert.hard");
        assert_eq!(message.title, "acme is refused (a1)");
        assert_eq!(
            message.text,
            "60000 of 60000 tokens in 60 s are used.\n\n\
             subject:  tenant/acme\nat:       2023-11-14T22:13:20Z\nlimit:    tokens-a-minute\n\
             decision: d-1\nuntil:    2023-11-14T22:14:20Z\nalert:    a1\n"
        );
        let body: Value = serde_json::from_slice(&message.to_json()).unwrap();
        assert_eq!(body["type"], "weir.alert.hard");
        assert_eq!(body["timestamp"], "2023-11-14T22:13:20Z");
        assert_eq!(body["data"]["used"], 60_000);
        assert_eq!(body["data"]["subject"], "tenant/acme");
    }

    #[test]
    fn a_message_has_one_id_per_channel() {
        let alert = testing::alert("a1", Timestamp::from_seconds(0));
        let id = |channel| Message::of_alert(&alert, channel).id;
        assert_eq!(id("ops"), id("ops"));
        assert_ne!(id("ops"), id("mail"));
        assert_ne!(message_id("a", "bc"), message_id("ab", "c"));
        assert_eq!(id("ops").len(), 36);
        assert!(
            id("a\r\nb")
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b == b'_')
        );
    }

    #[test]
    fn a_title_stays_on_one_line() {
        let mut alert = testing::alert("a1", Timestamp::from_seconds(0));
        alert.title = "one\r\nBcc: all@example.com".to_owned();
        assert_eq!(
            Message::of_alert(&alert, "ops").title,
            "one Bcc: all@example.com"
        );
    }

    #[test]
    fn a_digest_says_how_many_and_lists_them() {
        let alerts: Vec<Alert> = (1..=3)
            .map(|n| testing::alert(&format!("a{n}"), Timestamp::from_seconds(n)))
            .collect();
        let digest = Message::of_digest("digest/a1", "ops", &alerts, 7);
        assert_eq!(digest.title, "7 more alerts about acme");
        assert_eq!(digest.at, Timestamp::from_seconds(3));
        assert_eq!(
            digest.text,
            "7 more alerts about acme, folded into this message:\n\n\
             1970-01-01T00:00:01Z  acme is refused (a1)\n1970-01-01T00:00:02Z  acme is refused (a2)\n\
             1970-01-01T00:00:03Z  acme is refused (a3)\nand 4 more\n"
        );
        assert_eq!(digest.data["count"], 7);
        assert_eq!(digest.data["alerts"][2]["id"], "a3");
    }

    #[test]
    fn great_integers_travel_as_strings() {
        assert_eq!(json_integer(1 << 53), json!(9_007_199_254_740_992_i64));
        assert_eq!(json_integer((1 << 53) + 1), json!("9007199254740993"));
        assert_eq!(json_integer(-(1 << 53) - 1), json!("-9007199254740993"));
        assert_eq!(json_integer(i128::MAX), json!(i128::MAX.to_string()));
    }
}
