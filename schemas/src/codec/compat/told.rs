//! Alerts, and what is set aside.

use super::*;

#[test]
fn what_is_told_and_set_aside() {
    let alert = Alert {
        id: "a_1".to_owned(),
        kind: AlertKind::Cleared,
        tenant: None,
        subject: tenant(),
        title: "acme".to_owned(),
        body: "acme".to_owned(),
        at: at(0),
        limit: None,
        level: None,
        used: None,
        max: None,
        decision: None,
        until: None,
    };
    let full = Alert {
        kind: AlertKind::Hard,
        tenant: text("acme"),
        limit: text("tokens-a-minute"),
        level: text("hard"),
        used: Some(Amount(60_000)),
        max: Some(Amount(60_000)),
        decision: text("d_1"),
        until: Some(at(60)),
        ..alert.clone()
    };
    check(full, alert);
    let header = |value: Option<Vec<u8>>| Header {
        name: "content-type".to_owned(),
        value,
    };
    let dead = |bytes: Option<Vec<u8>>| Dead {
        origin: origin(),
        reason: "not JSON".to_owned(),
        at: at(0),
        key: bytes.clone(),
        value: bytes.clone(),
        headers: vec![header(bytes)],
    };
    check(dead(Some(vec![0xff, 0x00])), dead(None));
}

#[test]
fn what_was_cleared() {
    let cleared = |before, reason: &str| Cleared {
        id: "x_2".to_owned(),
        subject: tenant(),
        limit: "tokens-a-minute".to_owned(),
        policy_version: 3,
        meter: Meter::Tokens,
        window: Window::Sliding { seconds: 60 },
        at: at(0),
        before: Amount(before),
        after: Amount(0),
        max: Amount(60_000),
        command: "c_1".to_owned(),
        reason: reason.to_owned(),
        origin: origin(),
    };
    check(cleared(61_200, "false alarm"), cleared(0, ""));
}
