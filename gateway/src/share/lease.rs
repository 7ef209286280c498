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

#[cfg(test)]
mod tests {
    use super::*;

    const SPAN: Duration = Duration::from_secs(10);

    fn at(second: i64) -> Timestamp {
        Timestamp::from_seconds(second)
    }

    fn stand(base: u64, used: u64, second: i64) -> Stand {
        Stand {
            base,
            used,
            now: at(second),
        }
    }

    fn gift(to: MemberId, seq: u64, second: i64) -> Lent {
        Lent {
            to,
            units: 0,
            seq,
            until: at(second).plus(LEASE).plus(SPAN),
        }
    }

    /// From member 7: units and the gift's number; when it was asked for, and read.
    fn borrow(leases: &mut Leases, (units, seq): (u64, u64), (asked, now): (i64, i64)) {
        let account = Arc::new(Account {
            limit: "rate".to_owned(),
            subject: Subject::tenant("acme"),
        });
        let until = at(asked).plus(LEASE);
        let gift = Borrowed {
            from: 7,
            units,
            seq,
            until,
        };
        leases.borrow(&account, gift, at(now));
    }

    /// What is lent of `base`, with `lent` lent to another before and `used` used, where `units` are asked for.
    #[track_caller]
    fn check_lend(base: u64, lent: u64, used: u64, units: u64, expected: Option<u64>) {
        let mut leases = Leases::default();
        // With nothing used, an eighth is kept: so it is asked for more.
        let before = leases.lend(stand(lent * 2, 0, 0), lent, gift(8, 1, 0));
        assert_eq!(before, (0 < lent).then_some(lent));
        let all = leases.lend(stand(base, used, 0), units, gift(9, 2, 0));
        assert_eq!(all, expected, "{base} {lent} {used} {units}");
    }

    #[test]
    fn lends_what_it_does_not_use() {
        check_lend(25, 0, 0, 100, Some(22));
        check_lend(25, 0, 0, 5, Some(5));
        check_lend(25, 0, 5, 100, Some(10));
        check_lend(25, 0, 24, 100, None);
        check_lend(25, 0, 30, 100, None);
        check_lend(1, 0, 0, 1, Some(1));
        check_lend(0, 0, 0, 1, None);
        check_lend(25, 9, 0, 100, Some(14));
        check_lend(25, 9, 16, 100, None);
        // Members that came have made its part smaller than what it has lent.
        check_lend(5, 9, 0, 100, None);
    }

    #[test]
    fn lends_nothing_that_is_borrowed() {
        let mut leases = Leases::default();
        borrow(&mut leases, (50, 1), (0, 0));
        assert_eq!(leases.room(10, at(0)), 60);
        assert_eq!(leases.lend(stand(10, 0, 0), 100, gift(9, 1, 0)), Some(10));
        assert_eq!(leases.room(10, at(0)), 50);
        assert_eq!(leases.lend(stand(10, 0, 0), 100, gift(8, 2, 0)), None);
    }

    #[test]
    fn a_loan_ends_by_the_borrower_before_the_lender_has_it_back() {
        let (mut lender, mut borrower) = (Leases::default(), Leases::default());
        // Asked at 0, answered at 4, read at 20: each by its own clock.
        assert_eq!(lender.lend(stand(8, 0, 4), 4, gift(9, 1, 4)), Some(4));
        borrow(&mut borrower, (4, 1), (0, 20));
        let rooms = |second| (lender.room(8, at(second)), borrower.room(8, at(second)));
        assert_eq!(rooms(29), (4, 12));
        assert_eq!(rooms(30), (4, 8));
        assert_eq!(rooms(43), (4, 8));
        assert_eq!(rooms(44), (8, 8));
        // Read when its time is over already.
        borrow(&mut borrower, (4, 2), (0, 30));
        assert_eq!(borrower.room(8, at(30)), 8);
    }

    #[test]
    fn what_is_returned_is_the_lenders_at_once_and_only_once() {
        let (mut lender, mut borrower) = (Leases::default(), Leases::default());
        lender.lend(stand(25, 0, 0), 20, gift(9, 1, 0));
        borrow(&mut borrower, (20, 1), (0, 0));
        // Half of what is free, since some of it is used.
        assert_eq!(borrower.give_back(stand(25, 5, 1), 8, 100), None);
        assert_eq!(borrower.give_back(stand(25, 5, 1), 7, 100), Some((1, 0)));
        borrow(&mut borrower, (20, 1), (0, 2));
        assert_eq!(borrower.room(25, at(2)), 25);
        lender.returned(8, 1, 0);
        assert_eq!(lender.room(25, at(2)), 5);
        // Lent anew before that was read: of what is returned, only the last gift is meant.
        assert_eq!(lender.lend(stand(25, 0, 2), 1, gift(9, 2, 2)), Some(21));
        lender.returned(9, 1, 0);
        assert_eq!(lender.room(25, at(2)), 4);
        lender.returned(9, 2, 6);
        assert_eq!(lender.room(25, at(2)), 19);
        // Under another name nobody can return it.
        lender.orphan();
        lender.returned(9, 2, 0);
        assert_eq!(lender.room(25, at(41)), 19);
        assert_eq!(lender.room(25, at(42)), 25);
    }

    #[test]
    fn at_half_its_time_a_loan_is_renewed_or_returned() {
        let mut leases = Leases::default();
        borrow(&mut leases, (20, 3), (0, 0));
        assert_eq!(leases.tend(stand(25, 30, 15)), Tend::Nothing);
        assert_eq!(leases.tend(stand(25, 30, 16)), Tend::Renew);
        assert_eq!(leases.tend(stand(25, 25, 16)), Tend::Return(vec![(7, 3)]));
        assert_eq!(leases.room(25, at(16)), 25);
        assert_eq!(leases.tend(stand(25, 25, 17)), Tend::Nothing);
    }

    #[test]
    fn asks_seldom_while_nobody_has_anything() {
        let mut leases = Leases::default();
        let mut asked = Vec::new();
        for millis in (0..4_000).step_by(10) {
            let stand = Stand {
                base: 25,
                used: 25,
                now: Timestamp::from_micros(millis * 1_000),
            };
            if let Some(units) = leases.ask(stand, 1, 100) {
                asked.push((millis, units));
            }
        }
        let times: Vec<i64> = asked.iter().map(|(millis, _)| *millis).collect();
        assert_eq!(times, [0, 50, 150, 350, 750, 1_550, 2_550, 3_550]);
        assert!(asked.iter().all(|(_, units)| *units == 25));
        assert_eq!(leases.ask(stand(100, 100, 9), 1, 100), None);
    }
}
