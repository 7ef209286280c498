//! Usage per minute and combination of dimensions, second by second: absolute sums, told again when they change.
//!
//! A cell stays in memory for as long as an event may still come for it, since an absolute value that began anew
//! would replace a larger one. When that is, the tenant's time says; see [`Rollups::forget`].

use std::collections::BTreeMap;
use std::sync::Arc;

use hashbrown::hash_map::EntryRef;
use hashbrown::{Equivalent, HashMap};
use schemas::subject::Identity;
use schemas::time::Timestamp;
use serde::{Deserialize, Serialize};

use crate::event::{Amounts, Event, Output, Rollup};

pub(crate) const MINUTE_SECONDS: i64 = 60;

/// By what usage is told apart in the store. The order is that of the ids.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(crate) struct Dims {
    pub(crate) tenant: Box<str>,
    /// Key, user, route, provider, model, account, source.
    pub(crate) ids: [Option<Box<str>>; 7],
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
    dims: Arc<Dims>,
    /// Minutes since 1970.
    minute: i64,
}

/// A [`CellKey`] on loan, with the same hash: looking up makes no copy.
#[derive(Hash)]
struct CellRef<'a> {
    tenant: &'a str,
    ids: [Option<&'a str>; 7],
    minute: i64,
}

impl Equivalent<CellKey> for CellRef<'_> {
    fn equivalent(&self, key: &CellKey) -> bool {
        let mut ids = self.ids.iter().zip(&key.dims.ids);
        self.minute == key.minute
            && *self.tenant == *key.dims.tenant
            && ids.all(|(ours, theirs)| *ours == theirs.as_deref())
    }
}

impl From<&CellRef<'_>> for CellKey {
    fn from(key: &CellRef<'_>) -> Self {
        Self {
            dims: Arc::new(Dims {
                tenant: key.tenant.into(),
                ids: key.ids.map(|id| id.map(Into::into)),
            }),
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
    pub(crate) fn add(&mut self, event: &Event<'_>, offset: i64) {
        let second = event.at.second();
        let key = CellRef {
            tenant: event.tenant,
            ids: ids_of(&event.identity),
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
            cell.is_dirty || floor_of(&key.dims.tenant) < Timestamp::from_seconds(end)
        });
    }

    pub(crate) fn len(&self) -> usize {
        self.cells.len()
    }
}

fn ids_of<'a>(identity: &Identity<'a>) -> [Option<&'a str>; 7] {
    [
        identity.key,
        identity.user,
        identity.route,
        identity.provider,
        identity.model,
        identity.account,
        identity.source,
    ]
}
