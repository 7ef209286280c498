//! Usage per minute and combination of dimensions, second by second: absolute sums, told again when they change.
//!
//! A cell stays in memory for as long as an event may still come for it, since an absolute value that began anew
//! would replace a larger one. When that is, the tenant's time says; see [`Rollups::forget`].

mod seconds;

use std::fmt;
use std::hash::BuildHasher as _;
use std::sync::Arc;

use hashbrown::DefaultHashBuilder;
use schemas::subject::Identity;
use schemas::time::Timestamp;
use serde::{Deserialize, Serialize};

use crate::config::RollupDimension;
use crate::dense::{Dense, Named, item_bytes};
use crate::event::{Event, Output, Rollup};
use crate::room::Room;
use seconds::Seconds;

pub(crate) use seconds::Sums;

pub(crate) const MINUTE_SECONDS: i64 = 60;

/// How many parts [`Dims`] have: the tenant, and seven ids.
const PARTS: usize = 8;
const LENGTH_BYTES: usize = size_of::<u16>();
/// Of more cells that changed than this, those that wait for longest are told first.
const TURN_CELLS: usize = 1_000;
/// A cell waits for about so many turns at the most.
const TURNS: usize = 8;
/// What a shared piece of memory takes besides its contents.
const SHARED_BYTES: usize = 2 * size_of::<usize>();

/// By what usage is told apart in the store: the tenant, and key, user, route, provider, model, account, source.
///
/// There are millions of them, most of them made for one event, so each is one piece of memory: for each part its
/// length and one (0: absent) as a `u16`, then the parts one after the other.
#[derive(Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(from = "StoredDims", into = "StoredDims")]
pub(crate) struct Dims(Arc<[u8]>);

/// By which ids usage is told apart, in the order of [`Dims::ids`]; by the tenant it always is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Breakdown([bool; PARTS - 1]);

impl Breakdown {
    /// By the tenant alone.
    const NONE: Self = Self([false; PARTS - 1]);

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
            let length = u16::from_le_bytes(length.try_into().expect("it has its width"));
            let (text, after) = rest.split_at(usize::from(length.checked_sub(1)?));
            rest = after;
            Some(std::str::from_utf8(text).expect("it was written as text"))
        })
    }
}

/// Writes the bytes of [`Dims`] with these parts into `packed` (cleared first).
fn pack(parts: [Option<&str>; PARTS], packed: &mut Vec<u8>) {
    packed.clear();
    for part in parts {
        let length = part.map_or(0, |text| text.len() + 1);
        let length = u16::try_from(length).expect("an id is far shorter than 64 KiB");
        packed.extend_from_slice(&length.to_le_bytes());
    }
    for text in parts.into_iter().flatten() {
        packed.extend_from_slice(text.as_bytes());
    }
}

impl From<StoredDims> for Dims {
    fn from(stored: StoredDims) -> Self {
        let [a, b, c, d, e, f, g] = stored.ids.each_ref().map(Option::as_deref);
        let parts = [Some(&*stored.tenant), a, b, c, d, e, f, g];
        let mut packed = Vec::new();
        pack(parts, &mut packed);
        Self(packed.into())
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

/// What one combination of dimensions used in one minute.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Cell {
    dims: Dims,
    /// Minutes since 1970.
    minute: i64,
    seconds: Seconds,
    /// The record that changed it last.
    offset: i64,
    /// Changed since it was told.
    is_dirty: bool,
}

impl Cell {
    /// What a cell takes in memory with one small second.
    fn new_bytes(dims: &[u8]) -> usize {
        item_bytes::<Self>() + SHARED_BYTES + dims.len()
    }

    fn end(&self) -> Timestamp {
        Timestamp::from_seconds((self.minute + 1).saturating_mul(MINUTE_SECONDS))
    }
}

impl Named for Cell {
    fn hash(&self, hasher: &DefaultHashBuilder) -> u64 {
        cell_hash(hasher, &self.dims.0, self.minute)
    }
}

fn cell_hash(hasher: &DefaultHashBuilder, dims: &[u8], minute: i64) -> u64 {
    hasher.hash_one((minute, dims))
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Rollups {
    cells: Dense<Cell>,
    /// Places of cells, in the order in which they changed.
    dirty: Vec<u32>,
}

impl Rollups {
    /// Adds an event, which was the record at `offset`. `dims` is a place to write to.
    pub(crate) fn add(
        &mut self,
        event: &Event<'_>,
        offset: i64,
        (by, room): (Breakdown, &mut Room),
        dims: &mut Vec<u8>,
    ) {
        let second = event.at.second();
        let minute = second.div_euclid(MINUTE_SECONDS);
        pack(by.parts(event.tenant, &event.identity), dims);
        let place = self.place(dims, minute).unwrap_or_else(|| {
            if by == Breakdown::NONE || !room.admits_detail(Cell::new_bytes(dims)) {
                pack(Breakdown::NONE.parts(event.tenant, &event.identity), dims);
                return self.place(dims, minute).unwrap_or_else(|| {
                    room.charge(Cell::new_bytes(dims));
                    self.make(dims, minute)
                });
            }
            self.make(dims, minute)
        });
        let cell = self.cells.get_mut(place);
        if !cell.is_dirty {
            cell.is_dirty = true;
            self.dirty.push(place);
        }
        cell.offset = offset;
        let second = second.rem_euclid(MINUTE_SECONDS) as u8;
        room.charge(cell.seconds.add(second, &event.amounts));
    }

    fn place(&self, dims: &[u8], minute: i64) -> Option<u32> {
        let hash = cell_hash(self.cells.hasher(), dims, minute);
        let is_it = |cell: &Cell| cell.minute == minute && *cell.dims.0 == *dims;
        self.cells.find(hash, is_it)
    }

    fn make(&mut self, dims: &[u8], minute: i64) -> u32 {
        let hash = cell_hash(self.cells.hasher(), dims, minute);
        let cell = Cell {
            dims: Dims(dims.into()),
            minute,
            seconds: Seconds::default(),
            offset: 0,
            is_dirty: false,
        };
        self.cells.push(hash, cell)
    }

    /// How many cells to tell now so that a value waits for few turns, and cells that change all the time are told
    /// once in as many turns instead of in each: however many events come, a cell is told no more often.
    pub(crate) fn turn(&self) -> usize {
        TURN_CELLS.max(self.dirty.len() / TURNS)
    }

    /// Tells cells that changed since they were last told: `most` of them, those first that wait for longest.
    pub(crate) fn flush(&mut self, most: usize, out: &mut Vec<Output>) {
        for place in self.dirty.drain(..most.min(self.dirty.len())) {
            let cell = self.cells.get_mut(place);
            cell.is_dirty = false;
            out.push(Output::Rollup(Rollup {
                minute: Timestamp::from_seconds(cell.minute * MINUTE_SECONDS),
                dims: cell.dims.clone(),
                seconds: cell.seconds.sums(),
                offset: cell.offset,
            }));
        }
    }

    /// Drops the cells that can change no more: told, and for which no event may come, as `is_open` says of a tenant
    /// and the minute's end.
    pub(crate) fn forget(&mut self, is_open: impl Fn(&str, Timestamp) -> bool) {
        let moves = self
            .cells
            .retain(|cell| cell.is_dirty || is_open(cell.dims.tenant(), cell.end()));
        if let Some(moves) = moves {
            for place in &mut self.dirty {
                *place = moves.of(*place).expect("a dirty cell is kept");
            }
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.cells.len()
    }

    /// What the cells for which an event may still come take in memory.
    pub(crate) fn bytes(&self, is_open: impl Fn(&str, Timestamp) -> bool) -> usize {
        let cells = self.cells.iter().map(|(_, cell)| cell);
        let open = cells.filter(|cell| is_open(cell.dims.tenant(), cell.end()));
        open.map(|cell| Cell::new_bytes(&cell.dims.0) + cell.seconds.heap_bytes())
            .sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packed(parts: [Option<&str>; PARTS]) -> Vec<u8> {
        let mut packed = Vec::new();
        pack(parts, &mut packed);
        packed
    }

    #[track_caller]
    fn check(parts: [Option<&str>; PARTS]) {
        let dims = Dims(packed(parts).into());
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
            others.for_each(|other| assert_ne!(packed(*one), packed(*other)));
        }
        let mut split = [with(1, "ab"), with(1, "a")];
        split[0][2] = Some("c");
        split[1][2] = Some("bc");
        assert_ne!(packed(split[0]), packed(split[1]));
    }
}
