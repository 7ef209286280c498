//! Scopes wider than a tenant (`platform`, `source/*`, …). Their events are spread over many shards. Each of those keeps
//! its own sums, slice by slice ([`Contributions`]), and tells them as absolute values; the shard to which the scope
//! belongs puts them together ([`Parts`]).
//!
//! Both ends keep the newest [`slices_kept`] slices of a scope. An event older than that against the newest of its
//! scope in its shard is too old for every window that the slices feed, except a calendar's: there it is left out when
//! it is more than a day older. A scope that a shard has not touched for a while is forgotten there, by append time.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use hashbrown::{Equivalent, HashMap};
use schemas::policy::Meter;
use schemas::subject::Subject;
use schemas::time::Timestamp;
use serde::{Deserialize, Serialize};

use crate::event::{Output, Partial, PartialSum};
use crate::room::Room;

/// An own sum that was not touched for this long ends: what comes later begins anew.
const CONTRIBUTION_SPAN: Duration = Duration::from_secs(86_400);

/// Another shard's sums are remembered for longer than its log keeps events (a week), so that even if it counts all
/// of them again nothing here is counted twice.
const PART_SPAN: Duration = Duration::from_secs(8 * 86_400);

/// How many slices before its newest are kept: the longest window of this width of slices, or for minutes a day.
const fn slices_kept(slice_seconds: u32) -> i64 {
    match slice_seconds {
        60 => 1_440,
        3_600 => 720,
        _ => 600,
    }
}

/// What a scope's slices take in memory besides themselves: key, places in maps, which are half empty.
const SLICES_BYTES: usize = 2 * (size_of::<FeedKey>() + size_of::<Slices>()) + 64;

/// Sums of one meter of one scope, in slices of one width.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
struct FeedKey {
    scope: Subject,
    meter: Meter,
    slice_seconds: u32,
}

/// A [`FeedKey`] on loan, with the same hash.
#[derive(Hash)]
pub(crate) struct FeedRef<'a> {
    pub(crate) scope: &'a str,
    pub(crate) meter: &'a Meter,
    pub(crate) slice_seconds: u32,
}

impl Equivalent<FeedKey> for FeedRef<'_> {
    fn equivalent(&self, key: &FeedKey) -> bool {
        self.scope == key.scope.as_str()
            && *self.meter == key.meter
            && self.slice_seconds == key.slice_seconds
    }
}

/// An absolute sum, and the record that changed it last.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Slice {
    index: i64,
    sum: i128,
    offset: i64,
}

/// Sums of neighbouring slices, oldest first; those without any are left out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Slices {
    slices: VecDeque<Slice>,
    /// Append time of the last change.
    touched: Timestamp,
}

impl Slices {
    fn new(now: Timestamp) -> Self {
        Self {
            slices: VecDeque::new(),
            touched: now,
        }
    }

    /// The slice `index`, made if need be; `None` when it is older than what is kept.
    fn slice(&mut self, index: i64, kept: i64) -> Option<&mut Slice> {
        let newest = self.slices.back().map_or(index, |slice| slice.index);
        if index < newest.saturating_sub(kept) {
            return None;
        }
        let place = match self
            .slices
            .binary_search_by_key(&index, |slice| slice.index)
        {
            Ok(place) => place,
            Err(place) => {
                let (sum, offset) = (0, -1);
                self.slices.insert(place, Slice { index, sum, offset });
                place
            }
        };
        self.slices.get_mut(place)
    }

    /// What it takes in memory, without slices that are older than what is kept.
    fn bytes(&self, kept: i64) -> usize {
        let newest = self.slices.back().map_or(0, |slice| slice.index);
        let old = self.slices.iter();
        let old = old.take_while(|slice| slice.index < newest.saturating_sub(kept));
        SLICES_BYTES + (self.slices.len() - old.count()) * size_of::<Slice>()
    }

    fn trim(&mut self, kept: i64) {
        let newest = self.slices.back().map_or(0, |slice| slice.index);
        while let Some(oldest) = self.slices.front() {
            if newest.saturating_sub(kept) <= oldest.index {
                break;
            }
            self.slices.pop_front();
        }
    }
}

// === impl Contributions ===

/// One event shard's own sums for wider scopes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Contributions {
    feeds: HashMap<FeedKey, Slices>,
    /// Slices that changed since they were told; one may be here twice.
    dirty: Vec<(FeedKey, i64)>,
}

/// When and by which record something is added.
#[derive(Clone, Copy)]
pub(crate) struct Moment {
    pub(crate) at: Timestamp,
    pub(crate) offset: i64,
    /// Append time.
    pub(crate) now: Timestamp,
}

impl Contributions {
    pub(crate) fn add(
        &mut self,
        feed: &FeedRef<'_>,
        amount: i128,
        moment: Moment,
        room: &mut Room,
    ) {
        let index = moment.at.second().div_euclid(feed.slice_seconds.into());
        let known = self.feeds.get(feed);
        let is_new = known.is_none_or(|own| CONTRIBUTION_SPAN < moment.now.since(own.touched));
        if is_new && !room.admits_scope(SLICES_BYTES + size_of::<Slice>()) {
            return;
        }
        let own = match self.feeds.get_mut(feed) {
            Some(own) => own,
            None => {
                let scope = Subject::parse(feed.scope).expect("a pattern writes whole subjects");
                let key = FeedKey {
                    scope,
                    meter: feed.meter.clone(),
                    slice_seconds: feed.slice_seconds,
                };
                self.feeds.entry(key).or_insert(Slices::new(moment.now))
            }
        };
        if is_new {
            *own = Slices::new(moment.now);
        }
        let before = own.slices.len();
        let Some(slice) = own.slice(index, slices_kept(feed.slice_seconds)) else {
            return;
        };
        slice.sum += amount;
        slice.offset = moment.offset;
        own.touched = moment.now;
        if !is_new && before < own.slices.len() {
            room.charge(size_of::<Slice>());
        }
        let (key, _) = self
            .feeds
            .get_key_value(feed)
            .expect("it was found or made");
        let change = (key.clone(), index);
        if self.dirty.last() != Some(&change) {
            self.dirty.push(change);
        }
    }

    /// Tells every slice that changed, in the order of the records that changed them last: who has seen one of them
    /// has seen all that came before it.
    pub(crate) fn flush(&mut self, out: &mut Vec<Output>) {
        let mut dirty: Vec<(Slice, FeedKey)> = Vec::with_capacity(self.dirty.len());
        for (key, index) in self.dirty.drain(..) {
            let own = self.feeds.get(&key).map(|own| &own.slices);
            let place = own.and_then(|s| s.binary_search_by_key(&index, |slice| slice.index).ok());
            if let Some((own, place)) = own.zip(place) {
                dirty.push((own[place], key));
            }
        }
        let order = |(slice, key): &(Slice, FeedKey)| {
            let meter = key.meter.name().to_owned();
            (slice.offset, key.scope.clone(), meter, key.slice_seconds)
        };
        dirty.sort_by_cached_key(order);
        dirty.dedup();
        for (slice, key) in dirty {
            if let Some(own) = self.feeds.get_mut(&key) {
                own.trim(slices_kept(key.slice_seconds));
            }
            let start = slice.index.saturating_mul(key.slice_seconds.into());
            out.push(Output::Partial(PartialSum {
                scope: key.scope,
                meter: key.meter,
                slice: Timestamp::from_seconds(start),
                slice_seconds: key.slice_seconds,
                sum: slice.sum,
                offset: slice.offset,
            }));
        }
    }

    /// Drops what no limit asks for any more, told or not.
    pub(crate) fn retain(&mut self, is_asked_for: impl Fn(&Subject, &Meter, u32) -> bool) {
        let asked = |key: &FeedKey| is_asked_for(&key.scope, &key.meter, key.slice_seconds);
        self.feeds.retain(|key, _| asked(key));
    }

    /// Drops what [`Contributions::add`] would begin anew.
    pub(crate) fn forget(&mut self, now: Timestamp) {
        if self.dirty.is_empty() {
            let span = CONTRIBUTION_SPAN;
            self.feeds.retain(|_, own| now.since(own.touched) <= span);
        }
    }

    /// What it takes in memory that is not begun anew.
    pub(crate) fn bytes(&self, now: Timestamp) -> usize {
        let feeds = self.feeds.iter();
        let kept = feeds.filter(|(_, own)| now.since(own.touched) <= CONTRIBUTION_SPAN);
        kept.map(|(key, own)| own.bytes(slices_kept(key.slice_seconds)))
            .sum()
    }

    pub(crate) fn is_dirty(&self) -> bool {
        !self.dirty.is_empty()
    }
}

// === impl Parts ===

/// What the shards of events told about the scopes of this shard.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Parts {
    /// By scope and meter, then by the topic and partition that a part comes from.
    feeds: HashMap<FeedKey, BTreeMap<(String, i32), Slices>>,
}

impl Parts {
    /// Puts a part in the place of the one before it, and returns by how much the scope's sum grows. `None` when it
    /// is not newer. Sums only grow: a smaller one is not newer either.
    pub(crate) fn replace(
        &mut self,
        partial: &Partial<'_>,
        now: Timestamp,
        room: &mut Room,
    ) -> Option<i128> {
        let key = FeedKey {
            scope: partial.scope.clone(),
            meter: partial.meter.clone(),
            slice_seconds: partial.slice_seconds,
        };
        let width = i64::from(partial.slice_seconds);
        let index = partial.slice.second().div_euclid(width);
        let kept = slices_kept(partial.slice_seconds);
        let parts = self.feeds.entry(key).or_default();
        let origin = (partial.topic.to_owned(), partial.partition);
        let mut before = 0;
        let part = match parts.entry(origin) {
            Entry::Vacant(entry) => entry.insert(Slices::new(now)),
            Entry::Occupied(entry) => {
                let part = entry.into_mut();
                match PART_SPAN < now.since(part.touched) {
                    true => *part = Slices::new(now),
                    false => before = part.bytes(kept),
                }
                part
            }
        };
        let slice = part.slice(index, kept)?;
        if partial.offset <= slice.offset || partial.sum < slice.sum {
            return None;
        }
        let grown = partial.sum - slice.sum;
        slice.sum = partial.sum;
        slice.offset = partial.offset;
        part.touched = now;
        part.trim(kept);
        room.resize(before, part.bytes(kept));
        Some(grown)
    }

    /// What it takes in memory that is not begun anew.
    pub(crate) fn bytes(&self, now: Timestamp) -> usize {
        let feeds = self.feeds.iter();
        let parts = feeds.flat_map(|(key, parts)| parts.values().map(move |part| (key, part)));
        let kept = parts.filter(|(_, part)| now.since(part.touched) <= PART_SPAN);
        kept.map(|(key, part)| part.bytes(slices_kept(key.slice_seconds)))
            .sum()
    }

    /// Everything known of the scopes and meters that `takes` accepts: start, sum, in the order of time.
    pub(crate) fn history(
        &self,
        takes: impl Fn(&Subject, &Meter, u32) -> bool,
    ) -> Vec<(Subject, Vec<(Timestamp, i128)>)> {
        let mut histories = Vec::new();
        for (key, parts) in &self.feeds {
            if !takes(&key.scope, &key.meter, key.slice_seconds) {
                continue;
            }
            let mut sums: BTreeMap<i64, i128> = BTreeMap::new();
            for slice in parts.values().flat_map(|part| &part.slices) {
                *sums.entry(slice.index).or_default() += slice.sum;
            }
            let start = |index: i64| index.saturating_mul(key.slice_seconds.into());
            let sums = sums.into_iter();
            let sums = sums.map(|(index, sum)| (Timestamp::from_seconds(start(index)), sum));
            histories.push((key.scope.clone(), sums.collect()));
        }
        histories.sort_by(|a, b| a.0.cmp(&b.0));
        histories
    }

    /// Drops what [`Parts::replace`] would begin anew.
    pub(crate) fn forget(&mut self, now: Timestamp) {
        self.feeds.retain(|_, parts| {
            parts.retain(|_, part| now.since(part.touched) <= PART_SPAN);
            !parts.is_empty()
        });
    }
}
