//! Counters whose numbers this gateway shares with others: how much of one it may use, and what it lends and borrows.

use std::sync::Arc;
use std::time::Duration;

use schemas::time::Timestamp;

pub(super) use crate::share::lease::Leases;
use crate::share::lease::{Account, Borrowed, Lent, Stand, Tend};
use crate::share::members::MemberId;

use super::counter::{Ask, Taken};
use super::{Item, Rule, Shard, Windows, shard_of, table_key};

/// Counters of one shard of which units may be lent at a time. Beyond that nothing more is lent or asked for.
const LEASES_MAX: usize = 2_048;

/// When there may be more for who has used its share up: others are asked meanwhile.
const SHORT_MICROS: i64 = 1_000_000;

/// What one gateway has of a limit's number.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Part {
    /// Its own, without what is lent.
    pub base: u64,
    /// Out: whether more of the limit would have admitted the request.
    pub short: bool,
    /// Out: how many units to ask the others for, where it is time for that.
    pub asks: Option<u64>,
}

/// A counter, and this gateway's own part of its number.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Place {
    pub(crate) key: u128,
    pub(crate) rule: Rule,
    pub(crate) base: u64,
    /// How long what is admitted may count.
    pub(crate) span: Duration,
}

/// Units that are lent, in all counters.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Held {
    pub(crate) borrowed: u64,
    pub(crate) lent: u64,
}

impl Windows {
    /// Lends `gift.to` up to `gift.units` more; returns all that is lent to it now.
    pub(crate) fn lend(&self, place: &Place, gift: Lent, now: Timestamp) -> Option<u64> {
        let mut shard = self.shards[shard_of(place.key)].0.lock();
        let stand = shard.stand(place, now);
        let units = gift.units;
        let leases = shard.leases_of(place.key)?;
        leases.lend(stand, units, gift)
    }

    /// Takes a gift in.
    pub(crate) fn borrow(&self, key: u128, account: &Arc<Account>, gift: Borrowed, now: Timestamp) {
        let mut shard = self.shards[shard_of(key)].0.lock();
        if let Some(leases) = shard.leases_of(key) {
            leases.borrow(account, gift, now);
        }
    }

    /// Gives back up to `units` of what was borrowed from `to`.
    pub(crate) fn give_back(
        &self,
        place: &Place,
        to: MemberId,
        units: u64,
        now: Timestamp,
    ) -> Option<(u64, u64)> {
        let mut shard = self.shards[shard_of(place.key)].0.lock();
        let stand = shard.stand(place, now);
        let leases = shard.leases.get_mut(&table_key(place.key))?;
        leases.give_back(stand, to, units)
    }

    /// The borrower `by` keeps `units` of the gift `seq`.
    pub(crate) fn returned(&self, key: u128, by: MemberId, seq: u64, units: u64) {
        let mut shard = self.shards[shard_of(key)].0.lock();
        if let Some(leases) = shard.leases.get_mut(&table_key(key)) {
            leases.returned(by, seq, units);
        }
    }

    /// What becomes of the leases of one counter.
    pub(crate) fn tend(&self, place: &Place, now: Timestamp) -> Tend {
        let mut shard = self.shards[shard_of(place.key)].0.lock();
        let stand = shard.stand(place, now);
        let leases = shard.leases.get_mut(&table_key(place.key));
        leases.map_or(Tend::Nothing, |leases| leases.tend(stand))
    }

    /// The accounts that anything is borrowed of.
    pub(crate) fn borrowing(&self, now: Timestamp) -> Vec<Arc<Account>> {
        let mut accounts = Vec::new();
        for shard in &self.shards {
            let shard = shard.0.lock();
            let leases = shard.leases.values();
            let borrowing = leases.filter(|leases| 0 < leases.borrowed(now));
            accounts.extend(borrowing.filter_map(|leases| leases.account().cloned()));
        }
        accounts
    }

    /// What this gateway lent comes back by time alone: it goes on under another name.
    pub(crate) fn orphan(&self) {
        for shard in &self.shards {
            let mut shard = shard.0.lock();
            shard.leases.values_mut().for_each(Leases::orphan);
        }
    }

    /// All that is lent now.
    pub(crate) fn held(&self, now: Timestamp) -> Held {
        let mut held = Held::default();
        for shard in &self.shards {
            for leases in shard.0.lock().leases.values() {
                held.borrowed += leases.borrowed(now);
                held.lent += leases.lent(now);
            }
        }
        held
    }
}

impl Shard {
    /// How much of the number of `key` may be used here in all.
    #[inline]
    pub(super) fn room(&self, key: u128, base: u64, now: Timestamp) -> u64 {
        if self.leases.is_empty() {
            return base;
        }
        let leases = self.leases.get(&table_key(key));
        leases.map_or(base, |leases| leases.room(base, now))
    }

    /// Tells what a share has to do with what came of `item`. Others are asked for more when it was too small, and
    /// when three quarters of it are used: before that is necessary, if they answer in time.
    #[inline]
    pub(super) fn tell<L: AsRef<Rule>>(
        &mut self,
        item: &mut Item<'_, L>,
        ask: Ask,
        taken: Taken,
        now: Timestamp,
    ) {
        let (Some(share), Some(room)) = (&mut item.share, ask.room) else {
            return;
        };
        share.short = taken.short;
        share.asks = None;
        if taken.short {
            let soon = Timestamp::from_micros(now.as_micros().saturating_add(SHORT_MICROS));
            let frees_at = taken.tally.frees_at.map_or(soon, |at| at.min(soon));
            item.tally.frees_at = Some(frees_at);
        }
        let used = u64::try_from(taken.tally.used).unwrap_or(u64::MAX);
        let low = ask.charges && room.saturating_mul(3) < used.saturating_mul(4);
        if ask.amount == 0 || !item.refuses || !(taken.short || low) {
            return;
        }
        let hard = u64::try_from(item.limit.as_ref().hard()).unwrap_or(u64::MAX);
        let stand = Stand {
            base: share.base,
            used,
            now,
        };
        if hard <= room {
            return;
        }
        let leases = self.leases_of(item.key);
        share.asks = leases.and_then(|leases| leases.ask(stand, ask.amount, hard));
    }

    /// The leases of a counter, unless there are too many already.
    fn leases_of(&mut self, key: u128) -> Option<&mut Leases> {
        let key = table_key(key);
        if LEASES_MAX <= self.leases.len() && !self.leases.contains_key(&key) {
            return None;
        }
        Some(self.leases.entry(key).or_default())
    }

    fn stand(&mut self, place: &Place, now: Timestamp) -> Stand {
        let looks = Ask {
            amount: 0,
            refuses: false,
            charges: false,
            zone: chrono_tz::Tz::UTC,
            room: None,
        };
        let counter = self.counters.get_mut(table_key(place.key));
        let used = counter.map_or(0, |counter| {
            let before = counter.heap_bytes();
            let taken = counter.take(&place.rule, looks, now);
            self.bytes = self.bytes + counter.heap_bytes() - before;
            u64::try_from(taken.tally.used).unwrap_or(u64::MAX)
        });
        Stand {
            base: place.base,
            used,
            now,
        }
    }
}
