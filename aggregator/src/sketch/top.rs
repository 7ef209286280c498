//! Which ids come most, by Space-Saving (Metwally, Agrawal, El Abbadi: "Efficient computation of frequent and top-k
//! elements in data streams", 2005), with weights.
//!
//! An id that comes when all slots are taken takes that of the id with the least count, and goes on from its count: that
//! is by how much it may be counted too high. So no count is too low; none is too high by more than its own error,
//! which is at most the sum of all that came divided by the number of slots; and an id without a slot has come for no
//! more than that, either.
//!
//! The paper's lists of equal counts need weights of one. Here the least is found by a heap of what counts *were*: they only
//! grow, so the least that still is what it was is the least of all, and an id that has its slot never moves anything.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use hashbrown::{HashMap, HashTable};
use serde::{Deserialize, Serialize};

use super::id_hash;
use crate::room::Room;

/// An id and its hash.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Id<'a> {
    pub(crate) name: &'a str,
    pub(crate) hash: u64,
}

impl<'a> Id<'a> {
    pub(crate) fn new(name: &'a str) -> Self {
        let hash = id_hash(name);
        Self { name, hash }
    }
}

/// What belongs to each id of a list.
pub(crate) trait Payload: Default {
    /// Begins anew, for another id.
    fn clear(&mut self);

    /// Bytes that it takes beside itself.
    fn heap_bytes(&self) -> usize;
}

impl Payload for () {
    fn clear(&mut self) {}

    fn heap_bytes(&self) -> usize {
        0
    }
}

/// An id that is told apart.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Slot<P> {
    hash: u64,
    pub(crate) name: String,
    /// At most [`Slot::error`] too high.
    pub(crate) count: u64,
    pub(crate) error: u64,
    /// Of this id since it has the slot.
    pub(crate) payload: P,
}

impl<P: Payload> Slot<P> {
    fn new(id: Id<'_>, count: u64, error: u64) -> Self {
        Self {
            hash: id.hash,
            name: id.name.into(),
            count,
            error,
            payload: P::default(),
        }
    }

    /// Gives it to another id. In a flood of new ids this is what each event costs, so memory is kept for the next one.
    fn pass_to(&mut self, id: Id<'_>) {
        self.hash = id.hash;
        self.name.clear();
        self.name.push_str(id.name);
        self.payload.clear();
    }

    /// What it takes in memory: with its places in the index, which is at most half empty, and in the heap.
    fn new_bytes(name: &str) -> usize {
        size_of::<Self>() + 2 * (size_of::<u32>() + 1) + size_of::<Least>() + name.len()
    }

    fn bytes(&self) -> usize {
        Self::new_bytes(&self.name) + self.payload.heap_bytes()
    }
}

/// What the count of the slot at a place was once.
type Least = Reverse<(u64, u32)>;

/// The ids that come most.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(from = "Stored<P>")]
pub(crate) struct Top<P: Payload> {
    slots: Vec<Slot<P>>,
    /// Of all weights.
    sum: u64,
    /// An id had to go: another one that is not here may have come before.
    has_replaced: bool,
    /// Places of slots, found by the hash.
    #[serde(skip)]
    index: HashTable<u32>,
    /// Once an id had to go: one for each slot.
    #[serde(skip)]
    least: BinaryHeap<Least>,
}

/// What a snapshot keeps: the rest follows from it.
#[derive(Deserialize)]
struct Stored<P> {
    slots: Vec<Slot<P>>,
    sum: u64,
    has_replaced: bool,
}

impl<P: Payload> From<Stored<P>> for Top<P> {
    fn from(stored: Stored<P>) -> Self {
        let slots = stored.slots;
        let mut index = HashTable::with_capacity(slots.len());
        for (place, slot) in (0..).zip(&slots) {
            index.insert_unique(slot.hash, place, |place: &u32| slots[*place as usize].hash);
        }
        Self {
            slots,
            sum: stored.sum,
            has_replaced: stored.has_replaced,
            index,
            least: BinaryHeap::new(),
        }
    }
}

impl<P: Payload + PartialEq> PartialEq for Top<P> {
    fn eq(&self, other: &Self) -> bool {
        (&self.slots, self.sum, self.has_replaced) == (&other.slots, other.sum, other.has_replaced)
    }
}

impl<P: Payload + Eq> Eq for Top<P> {}

impl<P: Payload> Default for Top<P> {
    fn default() -> Self {
        Self {
            slots: Vec::new(),
            sum: 0,
            has_replaced: false,
            index: HashTable::new(),
            least: BinaryHeap::new(),
        }
    }
}

impl<P: Payload> Top<P> {
    /// Counts `weight` for an id, and returns its place. One that is new takes another's place where there are
    /// `slots_max`, or no room for one more; the first of a list is never refused.
    pub(crate) fn add(
        &mut self,
        id: Id<'_>,
        weight: u64,
        slots_max: usize,
        room: &mut Room,
    ) -> u32 {
        self.sum = self.sum.saturating_add(weight);
        let slots = &self.slots;
        let found = self
            .index
            .find(id.hash, |place| slots[*place as usize].hash == id.hash);
        if let Some(place) = found {
            let slot = &mut self.slots[*place as usize];
            slot.count = slot.count.saturating_add(weight);
            return *place;
        }
        let bytes = Slot::<P>::new_bytes(id.name);
        if self.slots.is_empty() {
            room.charge(bytes);
            self.push(id, weight)
        } else if self.slots.len() < slots_max && room.admits_sketched(bytes) {
            self.push(id, weight)
        } else {
            room.note_displaced();
            self.replace(id, weight, room)
        }
    }

    fn push(&mut self, id: Id<'_>, weight: u64) -> u32 {
        let place = u32::try_from(self.slots.len()).expect("slots are few");
        // One that could not be here until now may have come before.
        let error = self.missing_max();
        let count = weight.saturating_add(error);
        self.slots.push(Slot::new(id, count, error));
        self.list(place);
        if !self.least.is_empty() {
            self.least.push(Reverse((count, place)));
        }
        place
    }

    fn replace(&mut self, id: Id<'_>, weight: u64, room: &mut Room) -> u32 {
        let place = self.least_place();
        self.has_replaced = true;
        let slot = &mut self.slots[place as usize];
        let (before, hash, least) = (slot.bytes(), slot.hash, slot.count);
        slot.pass_to(id);
        (slot.count, slot.error) = (least.saturating_add(weight), least);
        room.resize(before, slot.bytes());
        let listed = self.index.find_entry(hash, |listed| *listed == place);
        listed.expect("every slot is listed").remove();
        self.list(place);
        place
    }

    fn list(&mut self, place: u32) {
        let slots = &self.slots;
        let hash = |place: &u32| slots[*place as usize].hash;
        self.index.insert_unique(hash(&place), place, hash);
    }

    /// The place of the least count; the first of several.
    fn least_place(&mut self) -> u32 {
        if self.least.is_empty() {
            let counts = (0..).zip(&self.slots);
            self.least = counts
                .map(|(place, slot)| Reverse((slot.count, place)))
                .collect();
        }
        loop {
            let mut least = self.least.peek_mut().expect("there is a slot");
            let Reverse((was, place)) = *least;
            let is = self.slots[place as usize].count;
            if was == is {
                return place;
            }
            *least = Reverse((is, place));
        }
    }

    pub(crate) fn slot(&self, place: u32) -> &Slot<P> {
        &self.slots[place as usize]
    }

    pub(crate) fn payload_mut(&mut self, place: u32) -> &mut P {
        &mut self.slots[place as usize].payload
    }

    /// For how much an id that is not here may have come.
    pub(crate) fn missing_max(&self) -> u64 {
        let least = || self.slots.iter().map(|slot| slot.count).min();
        self.has_replaced.then(least).flatten().unwrap_or(0)
    }

    /// What its slots take in memory.
    pub(crate) fn bytes(&self) -> usize {
        self.slots.iter().map(Slot::bytes).sum()
    }

    pub(crate) fn ranked(&self) -> Ranked {
        let entries = self.slots.iter().map(|slot| RankedEntry {
            id: slot.name.clone(),
            count: slot.count.into(),
            error: slot.error.into(),
        });
        let mut ranked = Ranked {
            entries: entries.collect(),
            missing_max: self.missing_max().into(),
            sum: self.sum.into(),
        };
        ranked.sort();
        ranked
    }
}

/// A list as it is told, the largest count first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Ranked {
    pub(crate) entries: Vec<RankedEntry>,
    /// For how much an id that is not here may have come.
    pub(crate) missing_max: u128,
    /// Of all that came, exactly.
    pub(crate) sum: u128,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct RankedEntry {
    pub(crate) id: String,
    /// At most `error` too high, and never too low.
    pub(crate) count: u128,
    pub(crate) error: u128,
}

impl Ranked {
    /// Adds a list of something else: of another hour. An id that only one has may have come in the other, too.
    pub(crate) fn merge(&mut self, other: Self) {
        let mut others: HashMap<String, RankedEntry> = other
            .entries
            .into_iter()
            .map(|entry| (entry.id.clone(), entry))
            .collect();
        for entry in &mut self.entries {
            let missing = (other.missing_max, other.missing_max);
            let (count, error) = others
                .remove(&entry.id)
                .map_or(missing, |entry| (entry.count, entry.error));
            entry.count += count;
            entry.error += error;
        }
        for (_, mut entry) in others {
            entry.count += self.missing_max;
            entry.error += self.missing_max;
            self.entries.push(entry);
        }
        self.missing_max += other.missing_max;
        self.sum += other.sum;
        self.sort();
    }

    fn sort(&mut self) {
        self.entries
            .sort_by(|a, b| b.count.cmp(&a.count).then_with(|| a.id.cmp(&b.id)));
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;
    use crate::model::cases;

    /// Weights of ids, one a word: `a`, `b*7`.
    fn add(top: &mut Top<()>, script: &str, slots_max: usize) {
        for word in script.split_ascii_whitespace() {
            let (name, weight) = word.split_once('*').unwrap_or((word, "1"));
            let weight = weight.parse().unwrap();
            top.add(Id::new(name), weight, slots_max, &mut Room::default());
        }
    }

    fn shown(ranked: &Ranked) -> String {
        let entry = |entry: &RankedEntry| format!("{} {}-{}", entry.id, entry.count, entry.error);
        let entries: Vec<_> = ranked.entries.iter().map(entry).collect();
        let (missing, sum) = (ranked.missing_max, ranked.sum);
        format!("{} | {missing} of {sum}", entries.join(", "))
    }

    #[track_caller]
    fn check(script: &str, slots_max: usize, expected: &str) {
        let mut top = Top::default();
        add(&mut top, script, slots_max);
        assert_eq!(shown(&top.ranked()), expected);
    }

    #[test]
    fn the_least_makes_room() {
        check("", 2, " | 0 of 0");
        check("a b a", 2, "a 2-0, b 1-0 | 0 of 3");
        check("a b a c", 2, "a 2-0, c 2-1 | 2 of 4");
        // Of equal counts the first slot goes.
        check("a b c", 2, "c 2-1, b 1-0 | 1 of 3");
        check("a*5 b*3 c*1 b*3", 2, "b 7-4, a 5-0 | 5 of 12");
    }

    #[test]
    fn hours_are_merged() {
        let of = |script, slots_max| {
            let mut top = Top::default();
            add(&mut top, script, slots_max);
            top.ranked()
        };
        let mut day = of("a*5 b*3", 2);
        day.merge(of("b*4 c*1", 2));
        assert_eq!(shown(&day), "b 7-0, a 5-0, c 1-0 | 0 of 13");
        // Who is not in a list that had no room for all may have come before, all the same.
        day.merge(of("a*2 d*1 e*1", 2));
        assert_eq!(shown(&day), "b 9-2, a 7-0, c 3-2, e 2-1 | 2 of 17");
    }

    proptest! {
        #![proptest_config(cases(300))]

        /// Against exact counts, with restarts on the way, in one list and in several that are merged.
        #[test]
        fn the_bounds_are_certain(
            events in prop::collection::vec(
                (prop_oneof![0..5_u8, 0..60_u8], prop_oneof![Just(1), 1..100_u64], 0..30_u8, 0..3_usize),
                1..400,
            ),
            slots_max in 1..20_usize,
        ) {
            let mut exact: [BTreeMap<String, u64>; 3] = Default::default();
            let mut tops: [Top<()>; 3] = Default::default();
            let mut room = Room::default();
            for (id, weight, restart, hour) in events {
                let name = format!("u{id}");
                *exact[hour].entry(name.clone()).or_default() += weight;
                let top = &mut tops[hour];
                let place = top.add(Id::new(&name), weight, slots_max, &mut room);
                prop_assert_eq!(&top.slot(place).name, &name);
                if restart == 0 {
                    let stored = postcard::to_stdvec(top).unwrap();
                    *top = postcard::from_bytes(&stored).unwrap();
                }
            }
            let charged: usize = tops.iter().map(Top::bytes).sum();
            prop_assert_eq!(room.bytes(), charged);
            let (mut all, mut merged) = (BTreeMap::new(), Ranked::default());
            for (exact, top) in exact.iter().zip(&tops) {
                let ranked = top.ranked();
                holds(&ranked, exact)?;
                let bound = ranked.sum / slots_max as u128;
                prop_assert!(ranked.missing_max <= bound);
                prop_assert!(ranked.entries.iter().all(|entry| entry.error <= bound));
                prop_assert!(ranked.entries.len() <= slots_max);
                merged.merge(ranked);
                for (name, count) in exact {
                    *all.entry(name.clone()).or_default() += count;
                }
            }
            holds(&merged, &all)?;
        }

        /// A restart at any point, and when the heap is made, change nothing.
        #[test]
        fn a_restart_changes_nothing(
            events in prop::collection::vec((0..40_u8, 1..5_u64, 0..10_u8), 1..300),
            slots_max in 1..20_usize,
        ) {
            let (mut one, mut other) = (Top::<()>::default(), Top::default());
            for (id, weight, restart) in events {
                let name = format!("u{id}");
                for top in [&mut one, &mut other] {
                    top.add(Id::new(&name), weight, slots_max, &mut Room::default());
                }
                if restart == 0 {
                    let stored = postcard::to_stdvec(&other).unwrap();
                    other = postcard::from_bytes(&stored).unwrap();
                    prop_assert_eq!(&stored, &postcard::to_stdvec(&one).unwrap());
                }
                prop_assert_eq!(&one, &other);
            }
        }
    }

    /// No count is too low, none too high by more than its error, and nobody is missing who came for more than is said.
    fn holds(ranked: &Ranked, exact: &BTreeMap<String, u64>) -> Result<(), TestCaseError> {
        prop_assert_eq!(
            ranked.sum,
            exact.values().map(|count| u128::from(*count)).sum()
        );
        for entry in &ranked.entries {
            let exact = u128::from(exact[&entry.id]);
            prop_assert!(exact <= entry.count && entry.count <= exact + entry.error);
        }
        for (name, exact) in exact {
            let is_listed = ranked.entries.iter().any(|entry| entry.id == *name);
            prop_assert!(is_listed || u128::from(*exact) <= ranked.missing_max);
        }
        Ok(())
    }
}
