//! The bundled trace as a poor network delivers it: out of order by up to half of what Weir is patient with, and with
//! one event in twenty sent again; and what is right then, by a recount made of lists and loops.

use std::collections::{BTreeMap, HashSet};

use rand::rngs::StdRng;
use rand::seq::SliceRandom;
use rand::{RngExt as _, SeedableRng};
use schemas::time::Timestamp;
use serde_json::Value;

use crate::trace::{self, Expected, Windows};

/// An event comes after none that is newer by more. Weir takes what is up to 600 s late.
const LATE_MAX_US: i64 = 300_000_000;
/// One in so many is sent again.
const TWICE: usize = 20;
/// The limit of the recount, see [`trace::LIMIT`].
const HARD: i128 = 60_000;
const WINDOW_SECONDS: i64 = 60;

/// The trace's events in an order that `seed` decides, some of them twice.
///
/// # Panics
/// When the trace is not there.
#[must_use]
pub fn events(seed: u64) -> Vec<String> {
    let mut random = StdRng::seed_from_u64(seed);
    let mut timed: Vec<(i64, String)> = trace::events()
        .into_iter()
        .map(|event| {
            let late = random.random_range(0..LATE_MAX_US);
            (Event::read(&event).at.as_micros() + late, event)
        })
        .collect();
    timed.sort();
    let mut events: Vec<String> = timed.into_iter().map(|(_, event)| event).collect();
    let mut places: Vec<usize> = (0..events.len()).collect();
    places.shuffle(&mut random);
    places.truncate(events.len() / TWICE);
    places.sort_unstable();
    // From behind, so that places before stay as they are.
    for place in places.into_iter().rev() {
        let later = random.random_range(place + 1..=events.len());
        events.insert(later, events[place].clone());
    }
    events
}

/// What the recount foretells when events come in this order: totals and peaks are the same in any.
///
/// # Panics
/// When the recount is not there.
#[must_use]
pub fn expected(events: &[String]) -> Expected {
    let mut expected = trace::expected();
    let mut seen = HashSet::new();
    let mut counters: BTreeMap<String, Counter> = BTreeMap::new();
    for event in events.iter().map(|event| Event::read(event)) {
        if seen.insert(event.id) {
            let counter = counters.entry(event.tenant).or_default();
            counter.add(event.at, event.tokens);
        }
    }
    for (tenant, windows) in &mut expected.windows {
        let mut seconds = counters.remove(tenant).unwrap_or_default().crossings;
        seconds.sort_unstable();
        *windows = Windows {
            upward_crossings: seconds.len(),
            first_crossing_s: seconds.first().copied(),
            last_crossing_s: seconds.last().copied(),
            ..*windows
        };
    }
    expected
}

struct Event {
    id: (String, String),
    tenant: String,
    at: Timestamp,
    tokens: i128,
}

impl Event {
    fn read(text: &str) -> Self {
        let event: Value = serde_json::from_str(text).expect("an event");
        let text = |name: &str| event[name].as_str().expect("text").to_owned();
        let tokens = |name: &str| i128::from(event["data"][name].as_i64().expect("a count"));
        Self {
            id: (text("source"), text("id")),
            tenant: text("subject"),
            at: Timestamp::parse(&text("time")).expect("a time"),
            tokens: tokens("input_tokens") + tokens("output_tokens"),
        }
    }
}

/// A tenant's tokens: every amount, added up each time that one comes.
#[derive(Default)]
struct Counter {
    amounts: Vec<(i64, i128)>,
    head: i64,
    stands: bool,
    /// The seconds of the events that crossed.
    crossings: Vec<i64>,
}

impl Counter {
    fn add(&mut self, at: Timestamp, tokens: i128) {
        if tokens == 0 {
            return;
        }
        let second = at.second();
        self.head = self.head.max(second);
        // While nothing comes the sum only falls: what is below now has fallen before.
        let before = self.sum();
        self.stands &= HARD <= before;
        self.amounts.push((second, tokens));
        let after = self.sum();
        if before < after && HARD <= after && !self.stands {
            self.stands = true;
            self.crossings.push(second);
        }
    }

    fn sum(&self) -> i128 {
        let counts = |second: i64| self.head - WINDOW_SECONDS <= second && second <= self.head;
        let inside = self.amounts.iter().filter(|(second, _)| counts(*second));
        inside.map(|(_, tokens)| tokens).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn in_the_order_of_times_both_recounts_agree() {
        let windows = expected(&trace::events()).windows;
        assert_eq!(windows, trace::expected().windows);
    }

    #[test]
    fn disorder_keeps_every_event_and_adds_some_twice() {
        let (before, after) = (trace::events(), events(1));
        assert_eq!(after.len(), before.len() + before.len() / TWICE);
        let kept: HashSet<&String> = after.iter().collect();
        assert!(before.iter().all(|event| kept.contains(event)));
        assert_eq!(after, events(1));
        assert_ne!(after, events(2));
    }
}
