//! Units of one limit on one subject that gateways have lent one another.
//!
//! A lease ends by the borrower's clock, counted from when it asked; the lender has the units back by its own clock,
//! counted from when it answered, a whole window later: so what was admitted by them counts nowhere any more. Only
//! lengths are measured, each by one clock, and the answer comes after the question. What is returned before says that
//! it was not used, and is had back at once. A record that is lost makes units lie idle, never two of one.

use std::sync::Arc;
use std::time::Duration;

use schemas::subject::Subject;
use schemas::time::Timestamp;
use smallvec::SmallVec;

use super::members::MemberId;

/// For how long lent units may be used. Asked for again after half of that.
pub(crate) const LEASE: Duration = Duration::from_secs(30);

/// Between asking and asking again, at least; doubled while nobody has anything.
const ASK_EVERY_MICROS: i64 = 50_000;
const ASK_EVERY_MAX_MICROS: i64 = 1_000_000;

/// No member's id.
const NOBODY: MemberId = 0;

/// Whose units.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Account {
    pub(crate) limit: String,
    pub(crate) subject: Subject,
}

/// What a gateway has of one account, and has used of it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Stand {
    /// Its own part.
    pub(crate) base: u64,
    pub(crate) used: u64,
    pub(crate) now: Timestamp,
}

/// A gift, as the borrower has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Borrowed {
    pub(crate) from: MemberId,
    /// All that is lent, with what was lent before.
    pub(crate) units: u64,
    pub(crate) seq: u64,
    pub(crate) until: Timestamp,
}

/// A gift, as the lender has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Lent {
    pub(crate) to: MemberId,
    pub(crate) units: u64,
    pub(crate) seq: u64,
    /// From here on they are the lender's again.
    pub(crate) until: Timestamp,
}

/// What a borrower does with its leases now and then.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Tend {
    Nothing,
    Renew,
    /// Nothing is kept of these gifts: from whom, and its number.
    Return(Vec<(MemberId, u64)>),
}

#[derive(Debug, Default)]
pub(crate) struct Leases {
    borrowed: SmallVec<[Borrowed; 1]>,
    lent: SmallVec<[Lent; 1]>,
    asked_at: Option<Timestamp>,
    ask_every: i64,
    /// Known where anything is borrowed.
    account: Option<Arc<Account>>,
}

impl Leases {
    /// Units of others that may be used.
    pub(crate) fn borrowed(&self, now: Timestamp) -> u64 {
        let leases = self.borrowed.iter().filter(|lease| now < lease.until);
        leases.map(|lease| lease.units).sum()
    }

    /// Units that others may use, or that may count at them.
    pub(crate) fn lent(&self, now: Timestamp) -> u64 {
        let leases = self.lent.iter().filter(|lease| now < lease.until);
        leases.map(|lease| lease.units).sum()
    }

    /// How much may be used in all.
    pub(crate) fn room(&self, base: u64, now: Timestamp) -> u64 {
        let all = base.saturating_add(self.borrowed(now));
        all.saturating_sub(self.lent(now))
    }

    pub(crate) fn account(&self) -> Option<&Arc<Account>> {
        self.account.as_ref()
    }

    /// How many more units to ask the others for, having `amount` to admit of `hard` in all; `None` where it is too
    /// soon to ask again, or there is nothing to ask for.
    pub(crate) fn ask(&mut self, stand: Stand, amount: u64, hard: u64) -> Option<u64> {
        let Stand { base, used, now } = stand;
        let missing = hard.saturating_sub(self.room(base, now));
        let soon = self
            .asked_at
            .is_some_and(|at| now.as_micros() < at.as_micros().saturating_add(self.ask_every));
        if missing == 0 || soon {
            return None;
        }
        self.asked(now);
        Some(amount.max(used).max(base).max(1).min(missing))
    }

    fn asked(&mut self, now: Timestamp) {
        self.asked_at = Some(now);
        self.ask_every = (self.ask_every * 2).clamp(ASK_EVERY_MICROS, ASK_EVERY_MAX_MICROS);
    }

    /// Takes a gift in, unless a later one of that lender was taken.
    pub(crate) fn borrow(&mut self, account: &Arc<Account>, gift: Borrowed, now: Timestamp) {
        if gift.until <= now {
            return;
        }
        let known = self.borrowed.iter().position(|b| b.from == gift.from);
        let before = self.borrowed(now);
        match known {
            Some(place) if gift.seq <= self.borrowed[place].seq => return,
            Some(place) => self.borrowed[place] = gift,
            None => self.borrowed.push(gift),
        }
        self.account.get_or_insert_with(|| Arc::clone(account));
        if before < self.borrowed(now) {
            self.ask_every = 0;
        }
    }

    /// Lends `to` up to `units` more, from the own part only, and what was lent before once more. Half of what is not
    /// used, or nearly all where nothing is. Returns all that is lent now.
    pub(crate) fn lend(&mut self, stand: Stand, units: u64, mut gift: Lent) -> Option<u64> {
        let now = stand.now;
        self.lent.retain(|lease| now < lease.until);
        let lent = self.lent(now);
        let more = units
            .min(self.spare(stand))
            .min(stand.base.saturating_sub(lent));
        let known = self.lent.iter().position(|lease| lease.to == gift.to);
        let before = known.map_or(0, |place| self.lent[place].units);
        let all = before + more;
        if all == 0 || stand.base < lent {
            return None;
        }
        gift.units = all;
        gift.until = gift
            .until
            .max(known.map_or(gift.until, |place| self.lent[place].until));
        match known {
            Some(place) => self.lent[place] = gift,
            None => self.lent.push(gift),
        }
        Some(all)
    }

    /// What can be given away.
    fn spare(&self, Stand { base, used, now }: Stand) -> u64 {
        let free = self.room(base, now).saturating_sub(used);
        if used == 0 { free - free / 8 } else { free / 2 }
    }

    /// This gateway goes on under another name: what it lent comes back by time alone.
    pub(crate) fn orphan(&mut self) {
        for lease in &mut self.lent {
            lease.to = NOBODY;
        }
    }

    /// The borrower keeps `units` of the gift `seq`.
    pub(crate) fn returned(&mut self, by: MemberId, seq: u64, units: u64) {
        let mut lent = self.lent.iter_mut();
        if let Some(lease) = lent.find(|lease| lease.to == by && lease.seq == seq) {
            lease.units = lease.units.min(units);
        }
    }

    /// Gives up to `units` back `to` whom they were borrowed from, of what can be given away. Returns the gift's number
    /// and what is kept of it.
    pub(crate) fn give_back(
        &mut self,
        stand: Stand,
        to: MemberId,
        units: u64,
    ) -> Option<(u64, u64)> {
        let spare = self.spare(stand).min(units);
        let mut borrowed = self.borrowed.iter_mut();
        let lease = borrowed.find(|lease| lease.from == to && stand.now < lease.until)?;
        let back = spare.min(lease.units);
        lease.units -= back;
        (0 < back).then_some((lease.seq, lease.units))
    }

    /// What is needed is asked for again when half of its time has passed; what is not is returned then.
    pub(crate) fn tend(&mut self, stand: Stand) -> Tend {
        let Stand { base, used, now } = stand;
        let half = now.plus(LEASE / 2);
        let held = |lease: &Borrowed| now < lease.until && 0 < lease.units;
        let mut borrowed = self.borrowed.iter();
        if !borrowed.any(|lease| held(lease) && lease.until < half) {
            return Tend::Nothing;
        }
        if base < used.saturating_add(self.lent(now)) {
            self.asked(now);
            return Tend::Renew;
        }
        let returned = self.borrowed.iter_mut().filter(|lease| held(lease));
        let returned = returned.map(|lease| {
            lease.units = 0;
            (lease.from, lease.seq)
        });
        Tend::Return(returned.collect())
    }

    /// Forgets what has ended; says whether anything is left. A gift that was given back is remembered until it would
    /// have ended: it might be read once more.
    pub(crate) fn tidy(&mut self, now: Timestamp) -> bool {
        self.borrowed.retain(|lease| now < lease.until);
        self.lent.retain(|lease| now < lease.until);
        let asked = self.asked_at.is_some_and(|at| now < at.plus(LEASE));
        !self.borrowed.is_empty() || !self.lent.is_empty() || asked
    }
}
