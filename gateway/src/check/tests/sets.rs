//! Limits, decisions and orders on sets: several ids are one subject.

use schemas::orders::{About, Change, Numbers};

use super::*;
use crate::plan::tests::{limit_with, sets};
use crate::share::lease::Account;

const SLOW: &str = "slow model slow-* opus";
const VIPS: &str = "vips user u1 u2";

fn policy(version: u64, texts: &[&str], limits: &[&str]) -> Policy {
    let sets = sets(texts);
    Policy {
        version,
        limits: limits.iter().map(|text| limit_with(text, &sets)).collect(),
        sets,
        ..Policy::default()
    }
}

fn gate_of(texts: &[&str], limits: &[&str]) -> Gate {
    let gate = gate(Vec::new());
    gate.set_policy(policy(6, texts, limits));
    gate
}

fn model(model: &str) -> Ask {
    acme().with(Dimension::Model, model)
}

const ADMITTED: &str = "allow 200 - charged";

#[test]
fn ids_of_a_set_share_a_window() {
    let gate = gate_of(&[SLOW], &["rate model/{slow} requests 2 sliding 60s"]);
    check(&gate, &model("opus"), 0, ADMITTED);
    check(&gate, &model("slow-1"), 0, ADMITTED);
    check(&gate, &model("slow-2"), 0, "block 429 61");
    check(&gate, &model("opus"), 0, "block 429 61");
    for other in ["haiku", "opus-2", "slow", "{slow}"] {
        check(&gate, &model(other), 0, ADMITTED);
    }
    check(&gate, &acme(), 0, ADMITTED);
    check(&gate, &model("opus"), 61, ADMITTED);
}

#[test]
fn each_user_has_a_window_of_its_own_on_a_set() {
    let limits = ["rate tenant/*/user/*/model/{slow} requests 1 sliding 60s"];
    let gate = gate_of(&[SLOW], &limits);
    let ask = |user: &str, id: &str| model(id).with(Dimension::User, user);
    check(&gate, &ask("u1", "opus"), 0, ADMITTED);
    check(&gate, &ask("u1", "slow-1"), 0, "block 429 61");
    check(&gate, &ask("u2", "slow-1"), 0, ADMITTED);
    let view = gate.view(at(0));
    let asked = ask("u1", "slow-1");
    let answer = gate.check(&view, &asked.request(), at(0));
    let subject = answer.refused_subject(&asked.identity()).unwrap();
    assert_eq!(subject.as_str(), "tenant/acme/user/u1/model/{slow}");
}

#[test]
fn a_set_that_gets_other_ids_keeps_its_window() {
    let rate = ["rate model/{slow} requests 2 sliding 60s"];
    let gate = gate_of(&["slow model opus"], &rate);
    check(&gate, &model("opus"), 0, ADMITTED);
    check(&gate, &model("haiku"), 0, ADMITTED);
    gate.set_policy(policy(7, &["slow model opus haiku"], &rate));
    check(&gate, &model("haiku"), 0, ADMITTED);
    check(&gate, &model("opus"), 0, "block 429 61");
    gate.set_policy(policy(8, &["slow model haiku"], &rate));
    check(&gate, &model("opus"), 0, ADMITTED);
    check(&gate, &model("haiku"), 0, "block 429 61");
}

#[test]
fn a_decision_on_a_set_refuses_its_ids_and_no_others() {
    // No limit is on it.
    let gate = gate_of(&[SLOW, VIPS], &[]);
    put(&gate, block("model/{slow}", "gone", Some(500)));
    let refused = "block 429 500 d-gone";
    check(&gate, &model("opus"), 0, refused);
    check(&gate, &model("slow-1"), 0, refused);
    for other in ["haiku", "slow", "{slow}"] {
        check(&gate, &model(other), 0, ADMITTED);
    }
    check(&gate, &acme(), 0, ADMITTED);
    // It is found as long as the policy has the set, by the ids that this has.
    gate.set_policy(policy(7, &["slow model haiku"], &[]));
    check(&gate, &model("opus"), 0, ADMITTED);
    check(&gate, &model("haiku"), 0, refused);
    gate.set_policy(policy(8, &[VIPS], &[]));
    check(&gate, &model("haiku"), 0, ADMITTED);
    gate.set_policy(policy(9, &[SLOW], &[]));
    check(&gate, &model("opus"), 0, refused);
    assert_eq!(
        gate.lift(&Subject::parse("model/{slow}").unwrap(), 1),
        Applied::Lifted
    );
    check(&gate, &model("opus"), 0, ADMITTED);
}

#[test]
fn a_decision_on_what_is_called_like_a_set_is_not_on_the_set() {
    let gate = gate_of(&[SLOW], &[]);
    put(&gate, block("model/%7Bslow}", "own", Some(500)));
    check(&gate, &model("{slow}"), 0, "block 429 500 d-own");
    check(&gate, &model("opus"), 0, ADMITTED);
}

#[test]
fn decisions_name_sets_beside_ids() {
    let gate = gate_of(&[SLOW, VIPS], &[]);
    let subject = "tenant/acme/user/{vips}/model/{slow}";
    put(&gate, block(subject, "both", Some(500)));
    put(&gate, block("tenant/beta/model/{slow}", "one", None));
    let ask = |tenant: &str, user: &str, model: &str| {
        Ask::default()
            .with(Dimension::Tenant, tenant)
            .with(Dimension::User, user)
            .with(Dimension::Model, model)
    };
    check(&gate, &ask("acme", "u1", "opus"), 0, "block 429 500 d-both");
    check(
        &gate,
        &ask("acme", "u2", "slow-"),
        0,
        "block 429 500 d-both",
    );
    check(&gate, &ask("acme", "u3", "opus"), 0, ADMITTED);
    check(&gate, &ask("acme", "u1", "haiku"), 0, ADMITTED);
    check(&gate, &ask("gamma", "u1", "opus"), 0, ADMITTED);
    check(&gate, &ask("beta", "u9", "opus"), 0, "block 429 - d-one");
    check(&gate, &ask("beta", "u9", "haiku"), 0, ADMITTED);
    // Those that have ended are forgotten, and asked about no more.
    (0..cache::SHARDS).for_each(|part| gate.sweep(part, at(500)));
    assert_eq!(gate.decisions().len(), 1);
    check(&gate, &ask("acme", "u1", "opus"), 501, ADMITTED);
}

#[test]
fn an_order_on_a_set_gives_it_other_numbers() {
    let limits = [
        "rate tenant/*/model/{slow} requests 1 sliding 60s",
        "each tenant/*/model/* requests 3 sliding 60s",
    ];
    let gate = gate_of(&[SLOW], &limits);
    let order = |seq, subject: &str, limit: &str, hard| Order {
        command: format!("c{seq}"),
        seq,
        subject: Subject::parse(subject).unwrap(),
        at: at(0),
        until: None,
        change: Change::Numbers {
            limit: limit.to_owned(),
            numbers: Numbers {
                hard: Some(hard),
                ..Numbers::default()
            },
        },
    };
    gate.put_order(order(1, "tenant/acme/model/{slow}", "rate", 2));
    check(&gate, &model("opus"), 0, ADMITTED);
    check(&gate, &model("slow-1"), 0, ADMITTED);
    check(&gate, &model("slow-1"), 0, "block 429 61");
    let beta = |id: &str| {
        Ask::default()
            .with(Dimension::Tenant, "beta")
            .with(Dimension::Model, id)
    };
    check(&gate, &beta("opus"), 0, ADMITTED);
    check(&gate, &beta("slow-1"), 0, "block 429 61");
    // One on an id of the set is on that id.
    gate.put_order(order(2, "tenant/acme/model/opus", "rate", 100));
    check(&gate, &model("opus"), 0, "block 429 61");
    gate.put_order(order(3, "tenant/acme", "rate", 100));
    check(&gate, &model("slow-9"), 0, "block 429 61");
    gate.end_order(&OrderKey {
        subject: Subject::parse("tenant/acme/model/{slow}").unwrap(),
        about: About::Numbers("rate".to_owned()),
    });
    check(&gate, &model("slow-9"), 0, ADMITTED);
}

#[test]
fn what_is_counted_for_a_set_has_one_place() {
    let limits = [
        "rate tenant/*/model/{slow} requests 9 sliding 60s",
        "all model/{slow} requests 9 sliding 60s",
    ];
    let gate = gate_of(&[SLOW], &limits);
    let view = gate.view(at(0));
    let keys = |id: &str| {
        let asked = model(id);
        let answer = gate.check(&view, &asked.request(), at(0));
        let counted = answer.counted.iter();
        counted.map(|item| item.key).collect::<Vec<_>>()
    };
    let opus = keys("opus");
    assert_eq!((opus.len(), &opus), (2, &keys("slow-7")));
    let place = |limit: &str, subject: &str| {
        let account = Account {
            limit: limit.to_owned(),
            subject: Subject::parse(subject).unwrap(),
        };
        gate.place_of(&account, at(0)).map(|place| place.key)
    };
    assert_eq!(place("rate", "tenant/acme/model/{slow}"), Some(opus[0]));
    assert_eq!(place("all", "model/{slow}"), Some(opus[1]));
    assert_eq!(place("all", "model/opus"), None);
    assert_eq!(place("all", "model/{other}"), None);
    assert_eq!(place("rate", "model/{slow}"), None);
}
