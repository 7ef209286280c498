//! What may happen to an engine.

use std::time::Duration;

use proptest::prelude::*;
use proptest::sample::select;
use schemas::orders::{Change, Numbers, Order, Paid};
use schemas::subject::Subject;
use schemas::time::Timestamp;

pub(super) const POLICIES: [&str; 18] = [
    "",
    "a tenant/* tokens half=10 hard=20 : sliding 10s",
    "a tenant/* tokens half=15 hard=30 : sliding 10s
     b tenant/*/user/* tokens hard=12 : sliding 1s
     c tenant/* requests hard=5 : calendar day",
    "renamed tenant/* tokens hard=20 : sliding 10s
     b tenant/*/user/* tokens hard=8 : sliding 20m
     d tenant/t1 tokens hard=20 : bucket 1/s burst 20",
    "a tenant/* tokens half=10 hard=20 : sliding 10s
     d tenant/* tokens hard=15 : bucket 1/s burst 15
     c tenant/* requests most=4 hard=8 : calendar day",
    "c tenant/* requests most=4 hard=8 : calendar day
     e tenant/*/user/* requests hard=9 : calendar week from sunday
     all zone=America/New_York
     tenant t2 zone=Pacific/Apia",
    "c tenant/* requests most=4 hard=8 : calendar day
     e tenant/*/user/* requests hard=9 : calendar week from sunday
     f tenant/* tokens hard=40 : calendar week
     tenant t1 zone=Pacific/Apia
     tenant t2 tier=gold",
    "a tenant/* tokens tier=gold half=10 hard=20 : sliding 10s
     a tenant/* tokens hard=12 : sliding 10s
     g tenant/* requests hard=10 : sliding 12h
     tenant t1 tier=gold zone=Australia/Lord_Howe",
    "a tenant/* tokens hard=20 : sliding 10s
     a2 tenant/* tokens hard=20 : sliding 10s
     g tenant/* requests hard=6 : sliding 12h
     h tenant/* tokens hard=50 : calendar month
     d tenant/* tokens hard=15 : bucket 1/s burst 15
     tenant t3 tier=gold",
    // Windows that share slices, some of which come and go.
    "a tenant/* tokens half=10 hard=20 : sliding 10s
     i tenant/* tokens hard=12 : sliding 4s
     j tenant/* tokens hard=30 : sliding 30s
     b tenant/*/user/* tokens hard=8 : sliding 20m
     k tenant/*/user/* tokens hard=15 : sliding 5m",
    "j tenant/* tokens half=15 hard=30 : sliding 30s
     a tenant/* tokens hard=20 : sliding 10s
     l tenant/* tokens hard=40 : sliding 20m
     k tenant/*/user/* tokens hard=15 : sliding 5m
     m tenant/*/user/* tokens hard=20 : sliding 40m
     tenant t2 tier=gold",
    "i tenant/* tokens tier=gold hard=12 : sliding 4s
     a tenant/* tokens hard=20 : sliding 10s
     j tenant/* tokens hard=30 : sliding 30s
     h tenant/* tokens hard=50 : calendar month
     b tenant/*/user/* tokens hard=8 : sliding 20m
     m tenant/*/user/* tokens hard=20 : sliding 40m
     tenant t2 tier=gold
     tenant t1 zone=America/New_York",
    // Wallets, one of which two limits look at.
    "w tenant/* tokens half=10 hard=30 : wallet
     v tenant/*/user/* requests hard=4 : wallet
     a tenant/* tokens hard=20 : sliding 10s",
    "w2 tenant/* tokens hard=25 : wallet
     w tenant/* tokens half=20 hard=40 : wallet
     v tenant/*/user/* requests tier=gold hard=6 : wallet
     v tenant/*/user/* requests hard=3 : wallet
     tenant t1 tier=gold zone=Pacific/Apia",
    // Other numbers for single subjects, of which one has an order's as well; and what is in flight, which nobody
    // counts here.
    "a tenant/* tokens half=10 hard=20 : sliding 10s
     b tenant/*/user/* tokens hard=8 : sliding 20m
     c tenant/* requests hard=5 : calendar day
     f tenant/*/user/* requests hard=1 : concurrent
     override tenant/t1 a hard=12
     override tenant/t2/user/u1 b hard=20
     override tenant/t2/user/u1 f hard=2",
    "a tenant/* tokens half=10 hard=20 : sliding 10s
     a tenant/* tokens tier=gold hard=30 : sliding 10s
     b tenant/*/user/* tokens hard=8 : sliding 20m
     override tenant/t1 a hard=40
     override tenant/t2 a hard=7
     override tenant/t1/user/u2 b hard=3
     tenant t2 tier=gold",
    // A set of users, which gets another id.
    "a tenant/* tokens half=10 hard=20 : sliding 10s
     b tenant/*/user/* tokens hard=8 : sliding 20m
     s tenant/*/user/{us} tokens half=6 hard=12 : sliding 20m
     set us user u1",
    "b tenant/*/user/* tokens hard=8 : sliding 20m
     s tenant/*/user/{us} tokens hard=16 : sliding 20m
     s tenant/*/user/{us} tokens tier=gold hard=30 : sliding 20m
     c tenant/*/user/{us} requests hard=5 : calendar day
     override tenant/t2/user/{us} s hard=9
     tenant t3 tier=gold
     set us user u*",
];

pub(super) const TENANTS: [&str; 3] = ["t1", "t2", "t3"];
pub(super) const USERS: [&str; 2] = ["u1", "u2"];

#[derive(Clone, Debug)]
pub(super) enum Op {
    Call {
        tenant: usize,
        user: usize,
        /// Events of one tenant with one id are one.
        id: u8,
        /// Before its append time; below zero: ahead of it.
        behind_us: i64,
        tokens: i64,
    },
    Policy(usize),
    /// An order on a subject about a limit, or about its tier; it ends where there is no number.
    Order {
        subject: &'static str,
        limit: Option<&'static str>,
        number: Option<u8>,
    },
    /// A limit of one subject is cleared; or the order that did so last comes once more.
    Clear {
        subject: &'static str,
        limit: &'static str,
        again: bool,
    },
    Tick,
    /// So much append time passes.
    Silence {
        seconds: u64,
    },
    /// Append times go back, as when another server of the log with another clock takes over.
    Back {
        seconds: u64,
    },
    Restart,
    Forget,
    Flush,
}

impl Op {
    /// The order of this number.
    pub(super) fn order(&self, seq: i64) -> Order {
        let Op::Order {
            subject,
            limit,
            number,
        } = *self
        else {
            panic!("{self:?} is no order");
        };
        let number = number.unwrap_or(1);
        let change = match limit {
            None if number.is_multiple_of(3) => Change::Tier("none".to_owned()),
            None => Change::Tier("gold".to_owned()),
            Some(limit) => Change::Numbers {
                limit: limit.to_owned(),
                numbers: Numbers {
                    hard: Some(number.into()),
                    // What is paid into a wallet, or taken back; no other limit looks at it.
                    paid: Paid {
                        sum: i128::from(number) - 10,
                        by: vec![format!("c{seq}")],
                    },
                    ..Numbers::default()
                },
            },
        };
        Order {
            command: format!("c{seq}"),
            seq,
            subject: Subject::parse(subject).unwrap(),
            at: Timestamp::from_seconds(0),
            until: None,
            change,
        }
    }

    /// The order that clears, given at `at`: the next one, or the last one again.
    pub(super) fn clearing(&self, seq: &mut i64, last: &mut Option<Order>, at: Timestamp) -> Order {
        let Op::Clear {
            subject,
            limit,
            again,
        } = *self
        else {
            panic!("{self:?} clears nothing");
        };
        if let Some(last) = last.clone().filter(|_| again) {
            return last;
        }
        *seq += 1;
        let order = Order {
            command: format!("c{seq}"),
            seq: *seq,
            subject: Subject::parse(subject).unwrap(),
            at,
            until: Some(at.plus(Duration::from_secs(1_000))),
            change: Change::Cleared {
                limit: limit.to_owned(),
                reason: String::new(),
            },
        };
        *last = Some(order.clone());
        order
    }

    /// Whether it is an order's end.
    pub(super) fn ends(&self) -> bool {
        matches!(self, Op::Order { number: None, .. })
    }
}

const SUBJECTS: [&str; 6] = [
    "tenant/t1",
    "tenant/t2",
    "tenant/t1/user/u1",
    "tenant/t1/user/u2",
    "tenant/t2/user/u1",
    "tenant/t1/user/{us}",
];
const LIMITS: [&str; 13] = [
    "a", "b", "c", "d", "e", "g", "i", "j", "k", "m", "w", "v", "s",
];

fn clear() -> impl Strategy<Value = Op> {
    let again = prop::bool::weighted(0.1);
    (select(&SUBJECTS[..]), select(&LIMITS[..]), again).prop_map(|(subject, limit, again)| {
        Op::Clear {
            subject,
            limit,
            again,
        }
    })
}

fn order() -> impl Strategy<Value = Op> {
    let limit = prop::option::weighted(0.75, select(&LIMITS[..]));
    let number = prop::option::weighted(0.8, 1..40_u8);
    (select(&SUBJECTS[..]), limit, number).prop_map(|(subject, limit, number)| Op::Order {
        subject,
        limit,
        number,
    })
}

/// Where an event's time lies behind its append time by what is decided at exactly there, or by decades.
const EDGES: [i64; 8] = [
    -300_000_000,
    -300_000_001,
    600_000_000,
    600_000_001,
    60_000_000,
    1_000_000_000_000_000,
    -1_000_000_000_000_000,
    i64::MIN / 2,
];

pub(super) fn op() -> impl Strategy<Value = Op> {
    let behind = prop_oneof![
        6 => 0..3_000_000_i64,
        2 => 0..15_000_000_i64,
        1 => -400_000_000..900_000_000_i64,
        1 => select(&EDGES[..]),
    ];
    let id = prop_oneof![3 => any::<u8>(), 1 => 0..8_u8];
    let call = (0..3_usize, 0..2_usize, id, behind, 0..9_i64);
    let call = call.prop_map(|(tenant, user, id, behind_us, tokens)| Op::Call {
        tenant,
        user,
        id,
        behind_us,
        tokens,
    });
    prop_oneof![
        20 => call,
        1 => (0..POLICIES.len()).prop_map(Op::Policy),
        2 => order(),
        2 => clear(),
        2 => Just(Op::Tick),
        4 => (0..5_u64).prop_map(|seconds| Op::Silence { seconds }),
        1 => (0..2_000_u64).prop_map(|seconds| Op::Silence { seconds }),
        1 => (0..110_000_u64).prop_map(|seconds| Op::Silence { seconds }),
        1 => (0..700_u64).prop_map(|seconds| Op::Back { seconds }),
        1 => Just(Op::Restart),
        1 => Just(Op::Forget),
        1 => Just(Op::Flush),
    ]
}
