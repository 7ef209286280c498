//! The sums of a minute's seconds. Most minutes have one second, with an event or two: it lies in the cell itself, in
//! numbers as small as hold it; what does not fit is kept whole.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::event::Amounts;

/// Sums of one second.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Sums {
    pub(crate) events: i64,
    pub(crate) requests: i128,
    pub(crate) input_tokens: i128,
    pub(crate) output_tokens: i128,
    /// Pico-dollars.
    pub(crate) cost: i128,
    pub(crate) failures: i128,
    pub(crate) violations: i128,
    pub(crate) units: BTreeMap<Box<str>, i128>,
}

impl Sums {
    fn add(&mut self, amounts: &Amounts<'_>) {
        self.events += 1;
        self.requests += i128::from(amounts.requests);
        self.input_tokens += i128::from(amounts.input_tokens);
        self.output_tokens += i128::from(amounts.output_tokens);
        self.cost += i128::from(amounts.cost);
        self.failures += i128::from(amounts.failures);
        self.violations += i128::from(amounts.violations);
        for (name, amount) in amounts.units.into_iter().flatten() {
            match self.units.get_mut(name.as_str()) {
                Some(sum) => *sum += i128::from(*amount),
                None => {
                    self.units.insert(name.as_str().into(), (*amount).into());
                }
            }
        }
    }
}

/// [`Sums`] of no units, none of which is large.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Small {
    input_tokens: u64,
    output_tokens: u64,
    cost: u64,
    events: u32,
    requests: u32,
    failures: u32,
    violations: u32,
}

impl Small {
    /// The sums with these amounts added; `None` when they are no longer small.
    fn plus(self, amounts: &Amounts<'_>) -> Option<Self> {
        let count = |sum: u32, amount: i64| sum.checked_add(u32::try_from(amount).ok()?);
        let large = |sum: u64, amount: i64| sum.checked_add(u64::try_from(amount).ok()?);
        if amounts.units.is_some_and(|units| !units.is_empty()) {
            return None;
        }
        Some(Self {
            input_tokens: large(self.input_tokens, amounts.input_tokens)?,
            output_tokens: large(self.output_tokens, amounts.output_tokens)?,
            cost: large(self.cost, amounts.cost)?,
            events: self.events.checked_add(1)?,
            requests: count(self.requests, amounts.requests)?,
            failures: count(self.failures, amounts.failures)?,
            violations: count(self.violations, amounts.violations)?,
        })
    }
}

impl From<Small> for Sums {
    fn from(small: Small) -> Self {
        Self {
            events: small.events.into(),
            requests: small.requests.into(),
            input_tokens: small.input_tokens.into(),
            output_tokens: small.output_tokens.into(),
            cost: small.cost.into(),
            failures: small.failures.into(),
            violations: small.violations.into(),
            units: BTreeMap::new(),
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
enum Held {
    Small(Small),
    Whole(Box<Sums>),
}

impl Held {
    /// Adds amounts, and returns by how many bytes it takes more beside itself.
    fn add(&mut self, amounts: &Amounts<'_>) -> usize {
        match self {
            Self::Whole(sums) => {
                let before = units_bytes(sums);
                sums.add(amounts);
                units_bytes(sums) - before
            }
            Self::Small(small) => match small.plus(amounts) {
                Some(sums) => {
                    *small = sums;
                    0
                }
                None => {
                    let mut sums = Sums::from(*small);
                    sums.add(amounts);
                    *self = Self::Whole(Box::new(sums));
                    self.heap_bytes()
                }
            },
        }
    }

    fn sums(&self) -> Sums {
        match self {
            Self::Small(small) => (*small).into(),
            Self::Whole(sums) => (**sums).clone(),
        }
    }

    /// Bytes that it takes beside itself.
    fn heap_bytes(&self) -> usize {
        match self {
            Self::Small(_) => 0,
            Self::Whole(sums) => size_of::<Sums>() + units_bytes(sums),
        }
    }
}

/// What the units of one second take.
fn units_bytes(sums: &Sums) -> usize {
    let unit = |name: &str| size_of::<(Box<str>, i128)>() + name.len();
    sums.units.keys().map(|name| unit(name)).sum()
}

/// A second of the minute, and what happened in it.
type Second = (u8, Held);

/// What happened in a minute, second by second.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Seconds {
    /// What comes in order goes here.
    newest: Second,
    /// The others, in order.
    older: Option<Box<Older>>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Older(Vec<Second>);

impl Older {
    fn insert(&mut self, place: usize, second: Second) {
        if self.0.len() == self.0.capacity() {
            self.0.reserve_exact((self.0.len() / 2).max(1));
        }
        self.0.insert(place, second);
    }
}

const NOTHING: Held = Held::Small(Small {
    input_tokens: 0,
    output_tokens: 0,
    cost: 0,
    events: 0,
    requests: 0,
    failures: 0,
    violations: 0,
});

impl Default for Seconds {
    /// A minute in which nothing has happened yet.
    fn default() -> Self {
        Self {
            newest: (0, NOTHING),
            older: None,
        }
    }
}

impl Seconds {
    /// Adds what happened in `second`, and returns by how many bytes it takes more beside itself.
    pub(super) fn add(&mut self, second: u8, amounts: &Amounts<'_>) -> usize {
        if self.newest.1 == NOTHING {
            self.newest.0 = second;
        }
        if self.newest.0 == second {
            return self.newest.1.add(amounts);
        }
        let mut grown = 0;
        let older = self.older.get_or_insert_with(|| {
            grown += size_of::<Older>();
            Box::default()
        });
        if self.newest.0 < second {
            let before = std::mem::replace(&mut self.newest, (second, NOTHING));
            older.insert(older.0.len(), before);
            return grown + size_of::<Second>() + self.newest.1.add(amounts);
        }
        let place = match older.0.binary_search_by_key(&second, |(second, _)| *second) {
            Ok(place) => place,
            Err(place) => {
                older.insert(place, (second, NOTHING));
                grown += size_of::<Second>();
                place
            }
        };
        grown + older.0[place].1.add(amounts)
    }

    /// Each second's sums, in order.
    pub(super) fn sums(&self) -> Vec<(u8, Sums)> {
        let older = self.older.iter().flat_map(|older| &older.0);
        let all = older.chain([&self.newest]);
        all.map(|(second, held)| (*second, held.sums())).collect()
    }

    /// Bytes that it takes beside itself.
    pub(super) fn heap_bytes(&self) -> usize {
        let older = self.older.as_ref().map_or(0, |older| {
            let held = older.0.iter().map(|(_, held)| held.heap_bytes());
            size_of::<Older>() + size_of_val(&*older.0) + held.sum::<usize>()
        });
        self.newest.1.heap_bytes() + older
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::model::cases;

    proptest! {
        #![proptest_config(cases(300))]

        #[test]
        fn sums_agree_with_whole_numbers(
            events in prop::collection::vec(
                (0..4_u8, prop_oneof![0..3_i64, Just(i64::MAX), Just(i64::from(u32::MAX))], any::<bool>()),
                1..40,
            ),
        ) {
            let units = BTreeMap::from([("images".to_owned(), 7)]);
            let (mut seconds, mut expected) = (Seconds::default(), BTreeMap::<u8, Sums>::new());
            for (second, amount, has_units) in events {
                let amounts = Amounts {
                    requests: amount,
                    input_tokens: amount,
                    output_tokens: 1,
                    cost: amount,
                    failures: 2,
                    violations: amount,
                    units: has_units.then_some(&units),
                };
                let before = seconds.heap_bytes();
                let grown = seconds.add(second, &amounts);
                prop_assert_eq!(before + grown, seconds.heap_bytes());
                expected.entry(second).or_default().add(&amounts);
                let expected: Vec<_> = expected.clone().into_iter().collect();
                prop_assert_eq!(seconds.sums(), expected);
            }
            let stored = postcard::to_stdvec(&seconds).unwrap();
            prop_assert_eq!(postcard::from_bytes::<Seconds>(&stored).unwrap(), seconds);
        }
    }
}
