//! What commands do, and what they leave alone.

use std::time::Duration;

use schemas::orders::Numbers;
use schemas::policy::Limit;

use super::*;
use crate::alert::AlertKind;
use crate::command::Back;
use crate::decide::tests::{at, crossing, limit, policy};
use crate::decision::{Decision, Signal};

/// `rpm` is 100 for each tenant.
struct Scene {
    decider: Decider,
    offset: i64,
    now: i64,
}

impl Scene {
    fn new() -> Self {
        let policy = policy(1, vec![limit("rpm", Mode::Block)]);
        Self {
            decider: Decider::new(policy, Duration::from_secs(300)),
            offset: 0,
            now: 1,
        }
    }

    /// `KIND SUBJECT [ARGUMENT] [until N]`, named `c` and its place in the log; what is told of it.
    fn command(&mut self, text: &str) -> String {
        self.offset += 1;
        self.again(self.offset, text)
    }

    fn again(&mut self, offset: i64, text: &str) -> String {
        let (text, until) = match text.split_once(" until ") {
            Some((text, until)) => (text, Some(at(until.parse().unwrap()))),
            None => (text, None),
        };
        let command = Command {
            id: format!("c{offset}"),
            subject: Subject::parse(text.split(' ').nth(1).unwrap()).unwrap(),
            at: at(self.now),
            actor: "ops".to_owned(),
            reason: "test".to_owned(),
            until,
            action: action(text),
        };
        let origin = Origin {
            topic: "weir.commands.v1".to_owned(),
            partition: 0,
            offset,
        };
        let mut out = Vec::new();
        self.decider
            .command(&command, &origin, at(self.now), &mut out);
        told(&out)
    }

    fn hear(&mut self, text: &str) -> String {
        let mut out = Vec::new();
        let signal = Signal::Crossing(crossing(text));
        self.decider.hear(&signal, at(self.now), &mut out);
        told(&out)
    }

    fn tick(&mut self, now: i64, ours: bool) -> String {
        self.now = now;
        let mut out = Vec::new();
        self.decider.end_orders(at(now), |_| ours, &mut out);
        self.decider.advance(at(now), &mut out);
        told(&out)
    }
}

/// `COMMAND EARLIER NUMBER [UNTIL]`: undoing a raise, which had replaced an earlier one.
fn undo_back(words: &[&str]) -> Action {
    let limit = || "rpm".to_owned();
    let numbers = Numbers {
        hard: Some(words[2].parse().unwrap()),
        ..Numbers::default()
    };
    let back = Back {
        command: words[1].to_owned(),
        until: words.get(3).map(|end| at(end.parse().unwrap())),
        change: Change::Numbers {
            limit: limit(),
            numbers,
        },
    };
    Action::Undo {
        command: words[0].to_owned(),
        what: Undone::Raise { limit: limit() },
        back: Some(Box::new(back)),
    }
}

/// What `KIND SUBJECT [ARGUMENT]` orders.
fn action(text: &str) -> Action {
    let words: Vec<&str> = text.split(' ').collect();
    let rpm = || "rpm".to_owned();
    let numbers = || Numbers {
        hard: Some(words[2].parse().unwrap()),
        ..Numbers::default()
    };
    let undo = |what| Action::Undo {
        command: words[2].to_owned(),
        what,
        back: None,
    };
    let wallet = || "wallet".to_owned();
    match words[0] {
        "raise" => Action::Raise {
            limit: rpm(),
            numbers: numbers(),
        },
        "clear" => Action::Clear { limit: rpm() },
        "raise-wallet" => Action::Raise {
            limit: wallet(),
            numbers: Numbers::default(),
        },
        "top-up" => Action::TopUp {
            limit: wallet(),
            amount: words[2].parse().unwrap(),
        },
        "undo-top-up" => undo(Undone::TopUp {
            limit: wallet(),
            amount: words[3].parse().unwrap(),
        }),
        "ask" => Action::Ask {
            limit: rpm(),
            numbers: numbers(),
        },
        "approve" => Action::Approve {
            request: "c1".to_owned(),
            limit: rpm(),
            numbers: numbers(),
        },
        "decline" => Action::Decline {
            request: "c1".to_owned(),
            limit: rpm(),
        },
        "tier" => Action::SetTier {
            tier: words[2].to_owned(),
        },
        "block" => Action::Block,
        "unblock" => Action::Unblock,
        "undo-raise" => undo(Undone::Raise {
            limit: "rpm".to_owned(),
        }),
        "undo-raise-back" => undo_back(&words[2..]),
        "undo-block" => undo(Undone::Block),
        other => panic!("{other}"),
    }
}

fn told(out: &[Output]) -> String {
    let lines = out.iter().filter_map(|output| match output {
        Output::Put(decision, _) => Some(said(decision)),
        Output::Lift(subject, _) => Some(format!("lift {subject}")),
        Output::Order(order) => Some(format!("order {}", order.key())),
        Output::OrderEnded(order, at) => Some(format!("end {}@{}", order.command, at.second())),
        Output::Alert(alert) => {
            let is_requests = matches!(alert.kind, AlertKind::Asked | AlertKind::Answered);
            is_requests.then(|| format!("{:?}", alert.kind))
        }
    });
    lines.collect::<Vec<_>>().join("; ")
}

fn said(decision: &Decision) -> String {
    let causes: Vec<&str> = decision
        .causes
        .iter()
        .map(|c| c.crossing.as_str())
        .collect();
    let status = decision.status.unwrap_or(200);
    let terminal = if decision.terminal { " terminal" } else { "" };
    format!("{status} {}{terminal}", causes.join("+"))
}

const ORDER: &str = "order override/tenant/acme#rpm";

#[test]
fn a_raise_lifts_what_stood_below_it_until_it_ends() {
    let mut scene = Scene::new();
    assert_eq!(scene.hear("rpm+1..60"), "429 rpm1");
    let lifted = format!("{ORDER}; lift tenant/acme");
    assert_eq!(scene.command("raise tenant/acme 200 until 30"), lifted);
    // Said again after a crash: told again, and nothing else.
    assert_eq!(scene.again(1, "raise tenant/acme 200 until 30"), ORDER);
    assert_eq!(scene.tick(29, true), "");
    assert_eq!(scene.tick(30, true), "429 rpm1; end c1@30");
    assert_eq!(scene.tick(31, true), "");
    assert_eq!(scene.again(1, "raise tenant/acme 200 until 30"), "");
}

#[test]
fn another_tenants_raise_changes_nothing() {
    let mut scene = Scene::new();
    scene.hear("rpm+1..60");
    let other = scene.command("raise tenant/other 200");
    assert_eq!(other, "order override/tenant/other#rpm");
    // Nor does one whose path only begins alike.
    let alike = scene.command("raise tenant/acm 200");
    assert_eq!(alike, "order override/tenant/acm#rpm");
}

#[test]
fn who_does_not_answer_for_a_subject_leaves_its_end_to_others() {
    let mut scene = Scene::new();
    scene.command("raise tenant/acme 200 until 30");
    assert_eq!(scene.tick(30, false), "");
    assert_eq!(scene.tick(31, true), "end c1@30");
}

#[test]
fn an_undone_raise_blocks_again() {
    let mut scene = Scene::new();
    scene.hear("rpm+1..60");
    scene.command("raise tenant/acme 200");
    assert_eq!(scene.command("undo-raise tenant/acme c9"), "");
    assert_eq!(
        scene.command("undo-raise tenant/acme c1"),
        "429 rpm1; end c1@1"
    );
    assert_eq!(scene.again(3, "undo-raise tenant/acme c1"), "");
}

#[test]
fn undoing_brings_back_what_was_replaced() {
    let mut scene = Scene::new();
    scene.command("raise tenant/acme 200");
    scene.command("raise tenant/acme 300");
    let order = "order override/tenant/acme#rpm";
    assert_eq!(
        scene.command("undo-raise-back tenant/acme c2 c1 200"),
        order
    );
    // It is the first again, and can be undone as such; what it took back cannot.
    assert_eq!(scene.command("undo-raise-back tenant/acme c2 c1 200"), "");
    assert_eq!(scene.command("undo-raise tenant/acme c1"), "end c1@1");
    // One that has ended since is not brought back.
    scene.command("raise tenant/acme 300");
    assert_eq!(
        scene.command("undo-raise-back tenant/acme c6 c1 200 1"),
        "end c6@1"
    );
}

#[test]
fn a_later_raise_stands_against_the_undoing_of_an_earlier_one() {
    let mut scene = Scene::new();
    scene.command("raise tenant/acme 200");
    scene.command("raise tenant/acme 300");
    assert_eq!(scene.again(1, "raise tenant/acme 200"), "");
    assert_eq!(scene.command("undo-raise tenant/acme c1"), "");
}

#[test]
fn a_block_stands_beside_limits_and_above_them() {
    let mut scene = Scene::new();
    assert_eq!(scene.command("block tenant/acme"), "403 c1 terminal");
    assert_eq!(scene.again(1, "block tenant/acme"), "");
    assert_eq!(scene.hear("rpm+1..60"), "403 c1+rpm1 terminal");
    assert_eq!(scene.command("unblock tenant/acme"), "429 rpm1");
    assert_eq!(scene.command("unblock tenant/acme"), "");
}

#[test]
fn a_block_ends_in_time_and_a_later_one_takes_its_place() {
    let mut scene = Scene::new();
    assert_eq!(scene.command("block tenant/acme until 60"), "403 c1");
    assert_eq!(scene.command("block tenant/acme until 30"), "403 c2");
    assert_eq!(scene.command("undo-block tenant/acme c1"), "");
    assert_eq!(scene.tick(29, true), "");
    assert_eq!(scene.tick(30, true), "lift tenant/acme");
    scene.command("block tenant/acme until 60");
    assert_eq!(
        scene.command("undo-block tenant/acme c4"),
        "lift tenant/acme"
    );
}

#[test]
fn a_block_outlasts_a_takeover() {
    let mut scene = Scene::new();
    scene.command("block tenant/acme");
    let standing = scene.decider.said(&Subject::tenant("acme")).unwrap();
    let mut next = Scene::new();
    next.decider.take_over(standing, at(5), &mut Vec::new());
    assert_eq!(next.again(2, "unblock tenant/acme"), "lift tenant/acme");
}

// === Clearing ===

const CLEARED: &str = "order cleared/tenant/acme#rpm";

#[test]
fn what_is_cleared_is_lifted_when_those_who_count_say_so() {
    let mut scene = Scene::new();
    assert_eq!(scene.hear("rpm+1..60"), "429 rpm1");
    assert_eq!(scene.command("clear tenant/acme until 30"), CLEARED);
    // Said again after a crash: told again, and nothing else.
    assert_eq!(scene.again(1, "clear tenant/acme until 30"), CLEARED);
    assert_eq!(scene.hear("rpm-9@5"), "lift tenant/acme");
    // It stands in no other order's way, nor that in its.
    assert_eq!(scene.command("raise tenant/acme 200"), ORDER);
    assert_eq!(scene.command("clear tenant/acme until 40"), CLEARED);
    assert_eq!(scene.again(1, "clear tenant/acme until 30"), "");
    assert_eq!(scene.command("undo-raise tenant/acme c2"), "end c2@1");
    assert_eq!(scene.tick(39, true), "");
    assert_eq!(scene.tick(40, true), "end c3@40");
    assert_eq!(scene.again(3, "clear tenant/acme until 40"), "");
}

// === Wallets ===

const PAID: &str = "order override/tenant/acme#wallet";

impl Scene {
    /// `wallet` starts with 100 for each tenant.
    fn wallet() -> Self {
        let wallet = Limit {
            window: Window::Wallet,
            ..limit("wallet", Mode::Block)
        };
        let policy = policy(1, vec![wallet]);
        Self {
            decider: Decider::new(policy, Duration::from_secs(300)),
            offset: 0,
            now: 1,
        }
    }

    /// So much is spent of what was paid in.
    fn spend(&mut self, number: i64, spent: i128) -> String {
        let crossing = Crossing {
            limit: "wallet".to_owned(),
            window: Window::Wallet,
            sum: spent,
            falls_at: None,
            ..crossing(&format!("rpm+{number}..60"))
        };
        let mut out = Vec::new();
        let signal = Signal::Crossing(crossing);
        self.decider.hear(&signal, at(self.now), &mut out);
        told(&out)
    }

    fn paid(&self) -> i128 {
        let orders = self.decider.rules.orders.iter();
        orders.filter_map(paid).map(|paid| paid.sum).sum()
    }
}

#[test]
fn a_wallet_that_is_used_up_refuses_until_it_is_topped_up() {
    let mut scene = Scene::wallet();
    assert_eq!(scene.spend(1, 100), "402 rpm1 terminal");
    // Another tenant's money is its own.
    let other = scene.command("top-up tenant/other 50");
    assert_eq!(other, "order override/tenant/other#wallet");
    let lifted = format!("{PAID}; lift tenant/acme");
    assert_eq!(scene.command("top-up tenant/acme 50"), lifted);
    assert_eq!(scene.spend(2, 150), "402 rpm2 terminal");
    // Too little.
    assert_eq!(scene.command("top-up tenant/acme -10"), PAID);
    assert_eq!(
        scene.command("top-up tenant/acme 11"),
        format!("{PAID}; lift tenant/acme")
    );
}

#[test]
fn an_entry_counts_once() {
    let mut scene = Scene::wallet();
    scene.command("top-up tenant/acme 50");
    scene.command("top-up tenant/acme 7");
    // Read again after a crash: told again.
    assert_eq!(scene.again(1, "top-up tenant/acme 50"), PAID);
    assert_eq!(scene.again(2, "top-up tenant/acme 7"), PAID);
    assert_eq!(scene.paid(), 57);
    // Its undoing is an entry too, and counts once.
    scene.command("undo-top-up tenant/acme c1 50");
    scene.again(3, "undo-top-up tenant/acme c1 50");
    assert_eq!(scene.paid(), 7);
}

#[test]
fn an_order_of_another_kind_takes_nothing_out_of_a_wallet() {
    let mut scene = Scene::wallet();
    scene.command("top-up tenant/acme 50");
    assert_eq!(scene.command("raise-wallet tenant/acme 9 until 5"), "");
    assert_eq!(scene.tick(6, true), "");
    assert_eq!(scene.paid(), 50);
}

// === Requests ===

#[test]
fn a_request_changes_nothing_until_it_is_approved() {
    let mut scene = Scene::new();
    scene.hear("rpm+1..60");
    assert_eq!(scene.command("ask tenant/acme 200"), "Asked");
    // Read again after a crash: told again, under the same id.
    assert_eq!(scene.again(1, "ask tenant/acme 200"), "Asked");
    assert_eq!(scene.command("decline tenant/acme"), "Answered");
    let approved = scene.command("approve tenant/acme 200 until 30");
    assert_eq!(
        approved,
        "Answered; order override/tenant/acme#rpm; lift tenant/acme"
    );
    assert_eq!(scene.tick(30, true), "429 rpm1; end c3@30");
}
