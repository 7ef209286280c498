//! For tests: the naive reference that counters and engines are held against, made of lists and loops, and makers of
//! policies.

use std::collections::BTreeSet;
use std::time::Duration;

use chrono_tz::Tz;
use proptest::prelude::ProptestConfig;
use schemas::calendar::bounds;
use schemas::policy::{HARD, Limit, Mode, Policy, Stale, Stream, Window};
use schemas::record::{
    Amount, LimitRecord, OverrideRecord, PolicyVersion, SetRecord, SoftLevel, TenantRecord,
};
use schemas::subject::{Identity, Subject};
use schemas::time::Timestamp;

use crate::config::RollupDimension;
use crate::counter::{Change, Direction};
use crate::engine::{Engine, Settings, ShardId};
use crate::event::{Amounts, Event};
use crate::owner::Patience;
use crate::plan::Kind;
use crate::rollup::Breakdown;
use crate::seen::SeenBounds;
use crate::window::Terms;

/// Cases of each property test: `MODEL_CASES`, or `default`. `make soak` asks for 100,000.
pub(crate) fn cases(default: u32) -> ProptestConfig {
    let asked = std::env::var("MODEL_CASES");
    ProptestConfig::with_cases(asked.map_or(default, |cases| cases.parse().unwrap()))
}

/// A policy of limits, one a line: `name subject meter [tier=…] [NAME=threshold…] hard=threshold : window`; and what it
/// says of tenants: `tenant ID [tier=…] [zone=…]`, or of all of them: `all zone=…`; or of one subject: `override SUBJECT
/// LIMIT hard=…`; and its sets: `set NAME DIMENSION ID…`.
pub(crate) fn policy(version: i64, text: &str) -> Policy {
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
    let (limits, settings): (Vec<_>, Vec<_>) = lines.partition(|line| line.contains(" : "));
    let value = |line: &str, name: &str| {
        let mut words = line.split_ascii_whitespace();
        words.find_map(|word| Some(word.strip_prefix(name)?.strip_prefix('=')?.to_owned()))
    };
    let tenants = settings.iter().filter_map(|line| {
        let id = line
            .strip_prefix("tenant ")?
            .split_ascii_whitespace()
            .next()?;
        let (tier, zone) = (value(line, "tier"), value(line, "zone"));
        Some((id.to_owned(), TenantRecord { tier, zone }))
    });
    let overrides = settings.iter().filter_map(|line| {
        let words: Vec<&str> = line.strip_prefix("override ")?.split(' ').collect();
        Some(OverrideRecord {
            subject: Subject::parse(words[0]).unwrap(),
            limit: words[1].to_owned(),
            hard: value(line, HARD).map(|hard| Amount(hard.parse().unwrap())),
            soft: Vec::new(),
            mode: None,
            reason: None,
        })
    });
    let sets = settings.iter().filter_map(|line| {
        let mut words = line.strip_prefix("set ")?.split(' ').map(str::to_owned);
        Some(SetRecord {
            name: words.next()?,
            dimension: words.next()?,
            ids: words.collect(),
        })
    });
    let all = settings.iter().find(|line| line.starts_with("all "));
    let record = PolicyVersion {
        version,
        at: Timestamp::from_seconds(0),
        author: String::new(),
        reason: String::new(),
        source: String::new(),
        limits: limits.into_iter().map(limit_record).collect(),
        overrides: overrides.collect(),
        tenants: tenants.collect(),
        default_tier: None,
        default_zone: all.and_then(|line| value(line, "zone")),
        weights: Vec::new(),
        sets: sets.collect(),
    };
    Policy::try_from(&record).unwrap()
}

fn limit_record(line: &str) -> LimitRecord {
    let (head, window) = line.split_once(" : ").unwrap();
    let words: Vec<&str> = head.split_ascii_whitespace().collect();
    let named = |word: &&str| {
        word.split_once('=')
            .map(|(n, v)| (n.to_owned(), v.to_owned()))
    };
    let values: Vec<(String, String)> = words.iter().filter_map(named).collect();
    let levels = values.iter().filter(|(name, _)| name != "tier");
    let (hard, soft): (Vec<_>, Vec<_>) = levels.partition(|(name, _)| name == HARD);
    let soft = soft.into_iter().map(|(name, threshold)| SoftLevel {
        name: name.clone(),
        threshold: Amount(threshold.parse().unwrap()),
    });
    let tier = values.iter().find(|(name, _)| name == "tier");
    LimitRecord {
        name: words[0].to_owned(),
        subject: words[1].to_owned(),
        meter: words[2].parse().unwrap(),
        window: window.parse().unwrap(),
        soft: soft.collect(),
        hard: Amount(hard[0].1.parse().unwrap()),
        keep: None,
        mode: Mode::Block,
        stale: Stale::LastKnown,
        tier: tier.map(|(_, name)| name.clone()),
        status: None,
        headers: true,
    }
}

/// A [`Change`] as a value: limit, level, direction, when, sum, when it falls.
pub(crate) type Told = (
    String,
    String,
    Direction,
    Timestamp,
    i128,
    Option<Timestamp>,
);

pub(crate) fn told(change: &Change<'_>) -> Told {
    let limit = change.limit.name.clone();
    let level = change.level.name.clone();
    (
        limit,
        level,
        change.direction,
        change.at,
        change.sum,
        change.falls_at,
    )
}

/// A counter that keeps every amount and adds them up each time.
#[derive(Clone, Debug)]
pub(crate) struct NaiveCounter {
    pub(crate) terms: Terms,
    amounts: Vec<(Timestamp, i128)>,
    head: Timestamp,
    /// Limit and level.
    pub(crate) standing: BTreeSet<(String, String)>,
}

/// Longer than any window of the tests.
const FOREVER: Duration = Duration::from_secs(100 * 86_400);

impl NaiveCounter {
    pub(crate) fn new(terms: Terms, at: Timestamp) -> Self {
        Self {
            terms,
            amounts: Vec::new(),
            head: at,
            standing: BTreeSet::new(),
        }
    }

    pub(crate) fn sum(&self) -> i128 {
        self.sum_at(self.head)
    }

    fn sum_at(&self, head: Timestamp) -> i128 {
        match self.terms.window {
            Window::Sliding { seconds } => {
                let width = i64::from(self.terms.window.slice_seconds().unwrap());
                let slice = |at: Timestamp| at.second().div_euclid(width);
                let oldest = slice(head) - i64::from(seconds) / width;
                let counts = |at: Timestamp| oldest <= slice(at) && slice(at) <= slice(head);
                self.amounts
                    .iter()
                    .filter(|(at, _)| counts(*at))
                    .map(|(_, a)| a)
                    .sum()
            }
            Window::Calendar(period) => {
                let (start, end) = bounds(period, self.terms.zone, head);
                let counts = |at: Timestamp| start <= at && at < end;
                self.amounts
                    .iter()
                    .filter(|(at, _)| counts(*at))
                    .map(|(_, a)| a)
                    .sum()
            }
            Window::Wallet => self.amounts.iter().map(|(_, a)| a).sum(),
            Window::Concurrent => 0,
            Window::Bucket {
                amount, seconds, ..
            } => {
                let scale = i128::from(seconds) * 1_000_000;
                let (mut units, mut last) = (0_i128, Timestamp::MIN);
                let drained = |from: Timestamp, to: Timestamp| match from {
                    Timestamp::MIN => 0,
                    _ => i128::from(to.as_micros() - from.as_micros()) * i128::from(amount),
                };
                for (at, added) in &self.amounts {
                    let at = last.max(*at);
                    units = (units - drained(last, at)).max(0) + added * scale;
                    last = at;
                }
                let left = (units - drained(last, head.max(last))).max(0);
                (left + scale - 1) / scale
            }
        }
    }

    /// The sum only falls while nothing comes: halves the time up to `by`.
    fn first_below(&self, threshold: i128, by: Timestamp) -> Option<Timestamp> {
        if threshold <= self.sum_at(by) {
            return None;
        }
        let (mut at_least, mut below) = (self.head.as_micros(), by.as_micros());
        while at_least + 1 < below {
            let half = at_least + (below - at_least) / 2;
            if self.sum_at(Timestamp::from_micros(half)) < threshold {
                below = half;
            } else {
                at_least = half;
            }
        }
        Some(Timestamp::from_micros(below))
    }

    /// When the sum falls below `threshold` if nothing more comes.
    pub(crate) fn falls_below(&self, threshold: i128) -> Option<Timestamp> {
        self.first_below(threshold, self.head.plus(FOREVER))
    }

    pub(crate) fn fall(&mut self, limits: &[&Limit], by: Timestamp, out: &mut Vec<Told>) {
        if by <= self.head {
            return;
        }
        loop {
            let levels = limits
                .iter()
                .flat_map(|l| l.levels.iter().map(|v| (l.name.clone(), v)));
            let stand = levels.filter(|(limit, level)| {
                self.standing.contains(&(limit.clone(), level.name.clone()))
            });
            let falls = stand.filter_map(|(limit, level)| {
                let at = self.first_below(level.threshold, by)?;
                Some((
                    at,
                    std::cmp::Reverse(level.threshold),
                    limit,
                    level.name.clone(),
                ))
            });
            let Some((at, _, limit, level)) = falls.min() else {
                return;
            };
            // Two levels may fall at one moment: then the head is there already.
            self.head = self.head.max(at);
            self.standing.remove(&(limit.clone(), level.clone()));
            out.push((limit, level, Direction::Down, at, self.sum(), None));
            let sum = self.sum();
            for limit in limits {
                for level in limit.levels.iter().rev() {
                    let name = (limit.name.clone(), level.name.clone());
                    if sum < level.threshold && self.standing.remove(&name) {
                        out.push((name.0, name.1, Direction::Down, at, sum, None));
                    }
                }
            }
        }
    }

    pub(crate) fn add(
        &mut self,
        limits: &[&Limit],
        at: Timestamp,
        amount: i128,
        out: &mut Vec<Told>,
    ) {
        self.fall(limits, at, out);
        self.head = self.head.max(at);
        // A bucket takes what lies behind it where it is.
        let is_bucket = matches!(self.terms.window, Window::Bucket { .. });
        let place = if is_bucket { self.head } else { at };
        let before = self.sum();
        self.amounts.push((place, amount));
        // What the window has left behind crosses nothing.
        if before < self.sum() {
            self.raise(limits, at, self.sum(), out);
        }
    }

    fn raise(&mut self, limits: &[&Limit], at: Timestamp, sum: i128, out: &mut Vec<Told>) {
        for limit in limits {
            for level in limit.levels.iter().filter(|level| level.threshold <= sum) {
                let name = (limit.name.clone(), level.name.clone());
                if self.standing.insert(name.clone()) {
                    let falls = self.falls_below(level.threshold);
                    out.push((name.0, name.1, Direction::Up, at, sum, falls));
                }
            }
        }
    }

    /// Whether it is a calendar's whose period is over by `floor`, with nothing standing on it.
    pub(crate) fn is_over(&self, floor: Timestamp) -> bool {
        match self.terms.window {
            Window::Calendar(period) => {
                let (_, end) = bounds(period, self.terms.zone, self.head);
                self.standing.is_empty() && end <= floor
            }
            Window::Sliding { .. }
            | Window::Bucket { .. }
            | Window::Wallet
            | Window::Concurrent => false,
        }
    }

    /// Nothing of it counts any more. Returns what counted at `by`, or at its head where that is later.
    pub(crate) fn clear(mut self, (at, by): (Timestamp, Timestamp), out: &mut Vec<Told>) -> i128 {
        let before = self.sum_at(self.head.max(by));
        for (limit, level) in std::mem::take(&mut self.standing) {
            out.push((limit, level, Direction::Down, at, 0, None));
        }
        before
    }

    /// Stands under the second limits instead of the first, as of `at`, when time has passed to `passed`.
    pub(crate) fn reform(
        &mut self,
        (old, new): (&[&Limit], &[&Limit]),
        zone: Tz,
        (at, passed): (Timestamp, Timestamp),
        out: &mut Vec<Told>,
    ) {
        let end = |naive: &Self| match naive.terms.window {
            Window::Calendar(period) => Some(bounds(period, naive.terms.zone, naive.head).1),
            _ => None,
        };
        let before = end(self);
        if zone != self.terms.zone && before.is_some() {
            // What was counted stays, in whatever period its last moment lies now.
            self.amounts = vec![(self.head, self.sum())];
        }
        self.terms.zone = zone;
        let ends_anew = before != end(self);
        let threshold = |limits: &[&Limit], name: &(String, String)| {
            let limit = limits.iter().find(|limit| limit.name == name.0)?;
            let level = limit.levels.iter().find(|level| level.name == name.1)?;
            Some(level.threshold)
        };
        let sum = self.sum_at(self.head.max(passed));
        for name in self.standing.clone() {
            let now = threshold(new, &name);
            if now.is_none_or(|now| sum < now) {
                self.standing.remove(&name);
                out.push((name.0, name.1, Direction::Down, at, sum, None));
            } else if now != threshold(old, &name) || ends_anew {
                self.standing.remove(&name);
            }
        }
        self.raise(new, at, sum, out);
    }
}

// === Engines under test ===

pub(crate) const MINUTE: Duration = Duration::from_secs(60);

pub(crate) fn settings() -> Settings {
    Settings {
        patience: Patience {
            lateness: 10 * MINUTE,
            idle: 24 * 60 * MINUTE,
        },
        ahead_max: 5 * MINUTE,
        seen: SeenBounds {
            span: 24 * 60 * MINUTE,
            entries_max: 1_000,
        },
        groups_max: 3,
        rollup_by: Breakdown::new(&RollupDimension::ALL),
        sketch_usage: true,
        sketch_auth: true,
        state_bytes_max: 1 << 30,
    }
}

pub(crate) fn usage_engine(partition: i32, partitions: i32) -> Engine {
    let shard = ShardId {
        kind: Kind::Events(Stream::Usage),
        partition,
        partitions,
    };
    Engine::new(shard, settings())
}

/// The engine as it is after its snapshot was written and read.
pub(crate) fn reborn(engine: Engine) -> Engine {
    let bytes = postcard::to_allocvec(engine.state()).unwrap();
    let state = postcard::from_bytes(&bytes).unwrap();
    let orders = engine.orders().into_iter().cloned().collect();
    let held = (engine.policy().clone(), orders);
    Engine::restore(engine.shard(), settings(), held, state)
}

/// A call of `tenant`'s `user` that used `tokens`.
pub(crate) fn call<'a>(
    (tenant, user): (&'a str, &'a str),
    id: &'a str,
    at: Timestamp,
    tokens: i64,
) -> Event<'a> {
    Event {
        source: "app",
        id,
        tenant,
        identity: Identity {
            tenant: Some(tenant),
            user: Some(user),
            ..Identity::default()
        },
        at,
        amounts: Amounts {
            requests: 1,
            input_tokens: tokens,
            ..Amounts::default()
        },
        report: None,
    }
}
