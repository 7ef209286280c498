//! What a command had replaced, found in the trail.

use schemas::orders::{Change, Numbers};
use schemas::policy::Mode;
use schemas::time::Timestamp;
use serde_json::Value;

use crate::command::Back;
use crate::store::Given;

/// The newest command before `undone` of its kind on the same thing, unless that was undone itself or has ended by
/// `now`: then the one before that, and so on. `trail` is in any order.
pub(super) fn earlier(undone: &Given, trail: &[Given], now: Timestamp) -> Option<Back> {
    let is_undone = |given: &Given| {
        let mut undoings = trail.iter().filter(|other| other.kind == "undo");
        undoings.any(|undo| undo.body.command.as_deref() == Some(&given.id))
    };
    let same = trail.iter().filter(|given| {
        orders(given) == orders(undone)
            && given.subject == undone.subject
            && given.body.limit == undone.body.limit
            && place(given) < place(undone)
            && given.body.until.is_none_or(|until| now < until)
            && !is_undone(given)
    });
    let newest = same.max_by_key(|given| place(given))?;
    Some(Back {
        command: newest.id.clone(),
        until: newest.body.until,
        change: change(newest)?,
    })
}

/// What its kind changes: an approved request changes what a raise does.
fn orders(given: &Given) -> &str {
    match given.kind.as_str() {
        "approve" => "raise",
        kind => kind,
    }
}

fn place(given: &Given) -> (Timestamp, &str) {
    (given.at, &given.id)
}

fn change(given: &Given) -> Option<Change> {
    let body = &given.body;
    match given.kind.as_str() {
        "raise" | "approve" => Some(Change::Numbers {
            limit: body.limit.clone()?,
            numbers: Numbers {
                hard: body.hard.as_deref().and_then(|hard| hard.parse().ok()),
                mode: body.mode.as_deref().and_then(mode),
                ..Numbers::default()
            },
        }),
        "set_tier" => Some(Change::Tier(body.tier.clone()?)),
        _ => None,
    }
}

fn mode(name: &str) -> Option<Mode> {
    serde_json::from_value(Value::from(name)).ok()
}

#[cfg(test)]
mod tests {
    use crate::store::GivenBody;

    use super::*;

    /// `ID KIND ARGUMENT [until N]`, in the order in which they were given.
    fn trail(commands: &[&str]) -> Vec<Given> {
        let given = |(second, text): (i64, &&str)| {
            let words: Vec<&str> = text.split(' ').collect();
            let mut body = GivenBody::default();
            match words[1] {
                "raise" | "approve" => {
                    body.limit = Some("rpm".to_owned());
                    body.hard = Some(words[2].to_owned());
                }
                "set_tier" => body.tier = Some(words[2].to_owned()),
                _ => body.command = Some(words[2].to_owned()),
            }
            let until = words.get(4).map(|second| second.parse().unwrap());
            body.until = until.map(Timestamp::from_seconds);
            Given {
                id: words[0].to_owned(),
                kind: words[1].to_owned(),
                subject: "tenant/acme".to_owned(),
                at: Timestamp::from_seconds(second),
                actor: "ops".to_owned(),
                reason: "test".to_owned(),
                body,
            }
        };
        (1..).zip(commands).map(given).collect()
    }

    /// What undoing the last of these commands brings back at second 100.
    #[track_caller]
    fn check(commands: &[&str], expected: Option<&str>) {
        let trail = trail(commands);
        let undone = trail.last().unwrap();
        let back = earlier(undone, &trail, Timestamp::from_seconds(100));
        assert_eq!(back.map(|back| back.command).as_deref(), expected);
    }

    #[test]
    fn what_was_replaced_comes_back() {
        check(&["a raise 200"], None);
        check(&["a raise 200", "b raise 300"], Some("a"));
        check(&["a approve 200", "b raise 300"], Some("a"));
        check(&["a raise 200", "b approve 300"], Some("a"));
        check(&["a raise 200 until 99", "b raise 300"], None);
        check(&["a raise 200 until 101", "b raise 300"], Some("a"));
        check(&["a raise 200", "b raise 300", "c raise 400"], Some("b"));
        check(
            &["a raise 200", "b raise 300", "u undo b", "c raise 400"],
            Some("a"),
        );
        check(&["a raise 200", "u undo a", "b raise 300"], None);
        check(&["a raise 200", "b set_tier pro"], None);
        check(
            &["a set_tier free", "b raise 9", "c set_tier pro"],
            Some("a"),
        );
    }

    #[test]
    fn it_comes_back_as_it_was() {
        let trail = trail(&["a raise 200 until 200", "b raise 300"]);
        let back = earlier(&trail[1], &trail, Timestamp::from_seconds(100)).unwrap();
        assert_eq!(back.until, Some(Timestamp::from_seconds(200)));
        let numbers = Numbers {
            hard: Some(200),
            ..Numbers::default()
        };
        let limit = "rpm".to_owned();
        assert_eq!(back.change, Change::Numbers { limit, numbers });
    }
}
