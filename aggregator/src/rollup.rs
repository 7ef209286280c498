//! Usage per minute and combination of dimensions, second by second: absolute sums, told again when they change.
//!
//! A cell stays in memory for as long as an event may still come for it, since an absolute value that began anew
//! would replace a larger one. When that is, the tenant's time says; see [`Rollups::forget`].

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use hashbrown::hash_map::EntryRef;
use hashbrown::{Equivalent, HashMap};
use schemas::subject::Identity;
use schemas::time::Timestamp;
use serde::{Deserialize, Serialize};

use crate::config::RollupDimension;
use crate::event::{Amounts, Event, Output, Rollup};

pub(crate) const MINUTE_SECONDS: i64 = 60;

/// How many parts [`Dims`] have: the tenant, and seven ids.
const PARTS: usize = 8;
const LENGTH_BYTES: usize = size_of::<u32>();

/// By what usage is told apart in the store: the tenant, and key, user, route, provider, model, account, source.
///
/// There are millions of them, most of them made for one event, so each is one piece of memory: for each part its
/// length and one (0: absent) as a `u32`, then the parts one after the other.
#[derive(Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(from = "StoredDims", into = "StoredDims")]
pub(crate) struct Dims(Arc<[u8]>);

/// By which ids usage is told apart, in the order of [`Dims::ids`]; by the tenant it always is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Breakdown([bool; PARTS - 1]);

impl Breakdown {
    pub(crate) fn new(by: &[RollupDimension]) -> Self {
        Self(RollupDimension::ALL.map(|dimension| by.contains(&dimension)))
    }

    fn parts<'a>(self, tenant: &'a str, identity: &Identity<'a>) -> [Option<&'a str>; PARTS] {
        let Self([key, user, route, provider, model, account, source]) = self;
        let id = |is_told: bool, id: Option<&'a str>| id.filter(|_| is_told);
        [
            Some(tenant),
            id(key, identity.key),
            id(user, identity.user),
            id(route, identity.route),
            id(provider, identity.provider),
            id(model, identity.model),
            id(account, identity.account),
            id(source, identity.source),
        ]
    }
}

/// What a snapshot keeps.
#[derive(Serialize, Deserialize)]
struct StoredDims {
    tenant: Box<str>,
    ids: [Option<Box<str>>; 7],
}

impl Dims {
    pub(crate) fn tenant(&self) -> &str {
        self.parts()[0].expect("there always is a tenant")
    }

    /// Key, user, route, provider, model, account, source.
    pub(crate) fn ids(&self) -> [Option<&str>; 7] {
        let [_, ids @ ..] = self.parts();
        ids
    }

    fn parts(&self) -> [Option<&str>; PARTS] {
        let (lengths, mut rest) = self.0.split_at(PARTS * LENGTH_BYTES);
        std::array::from_fn(|part| {
            let length = &lengths[part * LENGTH_BYTES..][..LENGTH_BYTES];
            let length = u32::from_le_bytes(length.try_into().expect("it has its width"));
            let (text, after) = rest.split_at(length.checked_sub(1)? as usize);
            rest = after;
            Some(std::str::from_utf8(text).expect("it was written as text"))
        })
    }
}

/// The bytes of [`Dims`] with these parts.
fn pack(parts: [Option<&str>; PARTS]) -> Vec<u8> {
    let texts = parts.iter().flatten();
    let mut packed =
        Vec::with_capacity(PARTS * LENGTH_BYTES + texts.clone().map(|t| t.len()).sum::<usize>());
    for part in parts {
        let length = part.map_or(0, |text| text.len() + 1);
        let length = u32::try_from(length).expect("an id is far shorter than 4 GiB");
        packed.extend_from_slice(&length.to_le_bytes());
    }
    for text in texts {
        packed.extend_from_slice(text.as_bytes());
    }
    packed
}

impl From<StoredDims> for Dims {
    fn from(stored: StoredDims) -> Self {
        let [a, b, c, d, e, f, g] = stored.ids.each_ref().map(Option::as_deref);
        Self(pack([Some(&*stored.tenant), a, b, c, d, e, f, g]).into())
    }
}

impl From<Dims> for StoredDims {
    fn from(dims: Dims) -> Self {
        Self {
            tenant: dims.tenant().into(),
            ids: dims.ids().map(|id| id.map(Into::into)),
        }
    }
}

impl fmt::Debug for Dims {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.parts()).finish()
    }
}

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

#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
struct CellKey {
    dims: Dims,
    /// Minutes since 1970.
    minute: i64,
}

/// A [`CellKey`] on loan, with the same hash: looking up keeps nothing.
#[derive(Hash)]
struct CellRef<'a> {
    dims: &'a [u8],
    minute: i64,
}

impl Equivalent<CellKey> for CellRef<'_> {
    fn equivalent(&self, key: &CellKey) -> bool {
        self.minute == key.minute && *self.dims == *key.dims.0
    }
}

impl From<&CellRef<'_>> for CellKey {
    fn from(key: &CellRef<'_>) -> Self {
        Self {
            dims: Dims(key.dims.into()),
            minute: key.minute,
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Cell {
    /// By second of the minute, in order.
    seconds: Vec<(u8, Sums)>,
    /// The record that changed it last.
    offset: i64,
    /// Changed since it was told.
    is_dirty: bool,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Rollups {
    cells: HashMap<CellKey, Cell>,
    /// In the order in which they changed.
    dirty: Vec<CellKey>,
}

impl Rollups {
    pub(crate) fn add(&mut self, event: &Event<'_>, by: Breakdown, offset: i64) {
        let second = event.at.second();
        let dims = pack(by.parts(event.tenant, &event.identity));
        let key = CellRef {
            dims: &dims,
            minute: second.div_euclid(MINUTE_SECONDS),
        };
        let mut entry = match self.cells.entry_ref(&key) {
            EntryRef::Occupied(entry) => entry,
            EntryRef::Vacant(entry) => entry.insert_entry(Cell {
                // Most have one second only, and a vector that grows begins with four.
                seconds: Vec::with_capacity(1),
                offset,
                is_dirty: false,
            }),
        };
        if !entry.get().is_dirty {
            entry.get_mut().is_dirty = true;
            self.dirty.push(entry.key().clone());
        }
        let cell = entry.into_mut();
        cell.offset = offset;
        let second = second.rem_euclid(MINUTE_SECONDS) as u8;
        let place = match cell.seconds.binary_search_by_key(&second, |(s, _)| *s) {
            Ok(place) => place,
            Err(place) => {
                cell.seconds.insert(place, (second, Sums::default()));
                place
            }
        };
        cell.seconds[place].1.add(&event.amounts);
    }

    /// Tells every cell that changed since it was last told.
    pub(crate) fn flush(&mut self, out: &mut Vec<Output>) {
        for key in self.dirty.drain(..) {
            let cell = self
                .cells
                .get_mut(&key)
                .expect("a dirty cell is not forgotten");
            cell.is_dirty = false;
            out.push(Output::Rollup(Rollup {
                minute: Timestamp::from_seconds(key.minute * MINUTE_SECONDS),
                dims: key.dims,
                seconds: cell.seconds.clone(),
                offset: cell.offset,
            }));
        }
    }

    /// Drops the cells that can change no more: told, and ended by the time (`floor_of` its tenant) before which
    /// every event is late.
    pub(crate) fn forget(&mut self, floor_of: impl Fn(&str) -> Timestamp) {
        self.cells.retain(|key, cell| {
            let end = (key.minute + 1).saturating_mul(MINUTE_SECONDS);
            cell.is_dirty || floor_of(key.dims.tenant()) < Timestamp::from_seconds(end)
        });
    }

    pub(crate) fn len(&self) -> usize {
        self.cells.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(parts: [Option<&str>; PARTS]) {
        let dims = Dims(pack(parts).into());
        assert_eq!(dims.parts(), parts);
        let stored = postcard::to_stdvec(&dims).unwrap();
        assert_eq!(postcard::from_bytes::<Dims>(&stored).unwrap(), dims);
    }

    #[test]
    fn dims_are_what_was_put_in() {
        let none = [None; PARTS];
        let with = |at: usize, text| {
            let mut parts = none;
            parts[0] = Some("acme");
            parts[at] = Some(text);
            parts
        };
        check(with(0, "ümlaut"));
        check(with(7, "203.0.113.7"));
        // Absent is not empty, and one part's end is not the next one's beginning.
        let all = [with(0, "acme"), with(1, ""), with(1, "a"), with(2, "a")];
        for (i, one) in all.iter().enumerate() {
            check(*one);
            let others = all.iter().skip(i + 1);
            others.for_each(|other| assert_ne!(pack(*one), pack(*other)));
        }
        let mut split = [with(1, "ab"), with(1, "a")];
        split[0][2] = Some("c");
        split[1][2] = Some("bc");
        assert_ne!(pack(split[0]), pack(split[1]));
    }
}
