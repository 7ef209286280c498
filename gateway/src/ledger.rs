//! What is reserved and what is spent under limits in mode `strict`: used, what is outstanding, and what is asked
//! never come to more than a limit's number.
//!
//! A reservation holds its estimate in every account of its request, or in none. It ends once: committed (what was
//! really spent is counted from then on, be it less or more), released, or by itself at its time. What is told of it
//! afterwards changes nothing, but for one thing: what was spent counts, also after a release or the end of its time,
//! and also for a reservation that nobody here knows. Windows are the gateway's own ([`crate::window`]), so that no span
//! of a window's length ever holds more than was admitted by its limit. Of a limit on what is in flight only what is
//! outstanding counts: every end of a reservation gives its places back.
//!
//! Memory is bounded, and a bound never forgets what counts: reservations that have ended are forgotten first, the
//! oldest before all; with nothing left to forget, nothing new is reserved ([`Outcome::Full`]).

mod account;
mod cleared;
#[cfg(test)]
mod model;
pub mod restore;
#[cfg(test)]
mod tests;

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::time::Duration;

use hashbrown::HashMap;
use schemas::time::Timestamp;

pub use account::Line;
pub(crate) use account::OUTSTANDING_RETRY;
pub use cleared::Mark;

use account::Account;

/// Tells one reservation from another.
pub type Id = u128;

/// How a reservation ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    Committed(Commit),
    Released,
    Expired,
}

/// What is to be said of a commit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Commit {
    /// Why nothing was held for it any more.
    pub late: Option<Late>,
    /// Whether more was spent than was reserved.
    pub over: bool,
}

/// Why a commit came too late to be held to its limit. It counts nevertheless.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Late {
    Released,
    Expired,
    /// Nobody here knows the reservation: it was made elsewhere, or before a restart.
    Unknown,
}

/// What came of asking for room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// There is room, and it is held or spent now; or was already, when `repeated`.
    Admitted {
        expires_at: Timestamp,
        repeated: bool,
    },
    /// A limit has no room. The lines say which.
    Refused,
    /// The reservation of this id has ended.
    Ended(Ending),
    /// The ledger has no memory for more.
    Full,
}

/// What the ledger may hold.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    pub accounts_max: usize,
    /// Those that have ended and are remembered among them.
    pub reservations_max: usize,
    /// For how long the end of a reservation is remembered.
    pub remembered: Duration,
}

/// How many of each there have been, and what there is now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    pub accounts: usize,
    pub outstanding: usize,
    pub expired: u64,
}

#[derive(Debug)]
enum State {
    /// By account.
    Held(Vec<(u128, u64)>),
    Ended(Ending),
}

#[derive(Debug)]
struct Reservation {
    expires_at: Timestamp,
    state: State,
}

/// All accounts and reservations of one process.
#[derive(Debug)]
pub struct Ledger {
    bounds: Bounds,
    /// Never goes back.
    now: Timestamp,
    accounts: HashMap<u128, Account, foldhash::fast::RandomState>,
    reservations: HashMap<Id, Reservation, foldhash::fast::RandomState>,
    /// When reservations end by themselves. One that has ended before stays until then.
    expiring: BinaryHeap<Reverse<(Timestamp, Id)>>,
    /// Those that have ended, and when that is forgotten; the oldest first.
    ended: VecDeque<(Timestamp, Id)>,
    expired: u64,
    /// Accounts that were cleared, as long as what was before might be counted there.
    cleared: HashMap<u128, Mark, foldhash::fast::RandomState>,
}

// === impl Ledger ===

impl Ledger {
    #[must_use]
    pub fn new(bounds: Bounds) -> Self {
        Self {
            bounds,
            now: Timestamp::MIN,
            accounts: HashMap::default(),
            reservations: HashMap::default(),
            expiring: BinaryHeap::new(),
            ended: VecDeque::new(),
            expired: 0,
            cleared: HashMap::default(),
        }
    }

    /// Holds the amounts of `lines` until `ttl` from now, in all accounts or none. Asked again for the same `id`, it
    /// says what became of that one.
    pub fn reserve(
        &mut self,
        id: Id,
        lines: &mut [Line],
        ttl: Duration,
        now: Timestamp,
    ) -> Outcome {
        self.advance(now);
        if let Some(known) = self.known(id) {
            self.weigh(lines);
            return known;
        }
        if !self.weigh(lines) {
            return Outcome::Refused;
        }
        if !self.has_room(lines.iter()) {
            return Outcome::Full;
        }
        let expires_at = self.now.plus(ttl);
        for line in lines.iter_mut() {
            let account = self.account(line);
            account.outstanding += u128::from(line.amount);
            line.tally.used += u128::from(line.amount);
        }
        let held = lines.iter().map(|line| (line.key, line.amount)).collect();
        self.insert(id, expires_at, State::Held(held));
        self.expiring.push(Reverse((expires_at, id)));
        Outcome::Admitted {
            expires_at,
            repeated: false,
        }
    }

    /// Reserves and commits in one. Without an `id` it is not remembered.
    pub fn spend(&mut self, id: Option<Id>, lines: &mut [Line], now: Timestamp) -> Outcome {
        self.advance(now);
        let known = id.and_then(|id| self.known(id));
        let fits = self.weigh(lines);
        match known {
            Some(Outcome::Ended(Ending::Committed(_))) => {
                return Outcome::Admitted {
                    expires_at: self.now,
                    repeated: true,
                };
            }
            Some(known) => return known,
            None if !fits => return Outcome::Refused,
            None if !self.has_room(counted(lines)) => return Outcome::Full,
            None => {}
        }
        self.count(lines);
        if let Some(id) = id {
            self.end(id, self.now, Ending::Committed(Commit::default()));
        }
        Outcome::Admitted {
            expires_at: self.now,
            repeated: false,
        }
    }

    /// Says what spending `lines` would meet, and whether they fit. Nothing changes.
    pub fn look(&mut self, lines: &mut [Line], now: Timestamp) -> bool {
        self.advance(now);
        self.weigh(lines)
    }

    /// Counts what was really spent, in place of what was held. The first end of a reservation rules, but what was
    /// spent counts once, whatever came before. Whether this is the first commit is the second part of the answer.
    pub fn commit(&mut self, id: Id, lines: &mut [Line], now: Timestamp) -> (Commit, bool) {
        self.advance(now);
        let reservation = self.reservations.get_mut(&id);
        let late = match reservation.map(|reservation| &mut reservation.state) {
            Some(State::Ended(Ending::Committed(commit))) => return (*commit, false),
            Some(State::Ended(Ending::Released)) => Some(Late::Released),
            Some(State::Ended(Ending::Expired)) => Some(Late::Expired),
            Some(State::Held(_)) => None,
            None => Some(Late::Unknown),
        };
        let over = late.is_none() && self.is_over(id, lines);
        self.let_go(id);
        self.count(lines);
        let commit = Commit { late, over };
        let expires_at = self
            .reservations
            .get(&id)
            .map_or(self.now, |r| r.expires_at);
        self.end(id, expires_at, Ending::Committed(commit));
        (commit, true)
    }

    /// Gives back what was held. `None`: nobody here knows the reservation.
    pub fn release(&mut self, id: Id, now: Timestamp) -> Option<(Ending, bool)> {
        self.advance(now);
        let reservation = self.reservations.get(&id)?;
        if let State::Ended(ending) = reservation.state {
            return Some((ending, false));
        }
        let expires_at = reservation.expires_at;
        self.let_go(id);
        self.end(id, expires_at, Ending::Released);
        Some((Ending::Released, true))
    }

    /// Counts what was spent at `at`, before this ledger was: in the order of time, as far as that is known.
    pub(crate) fn restore(&mut self, line: &Line, at: Timestamp) {
        let account = self
            .accounts
            .entry(line.key)
            .or_insert_with(|| Account::new(line, at));
        account.charge(line, at);
    }

    /// Remembers that `id` was committed, and says whether that is news: else it is counted already.
    pub(crate) fn restore_id(&mut self, id: Id, at: Timestamp) -> bool {
        let committed = |r: &Reservation| matches!(r.state, State::Ended(Ending::Committed(_)));
        if self.reservations.get(&id).is_some_and(committed) {
            return false;
        }
        self.let_go(id);
        self.end(id, at, Ending::Committed(Commit::default()));
        true
    }

    /// Ends what ends by itself, and forgets what holds nothing any more.
    pub fn sweep(&mut self, now: Timestamp) {
        self.advance(now);
        let second = self.now.second();
        self.accounts.retain(|_, account| !account.is_idle(second));
        let now = self.now;
        self.cleared.retain(|_, mark| now < mark.until);
    }

    #[must_use]
    pub fn counts(&self) -> Counts {
        Counts {
            accounts: self.accounts.len(),
            outstanding: self.reservations.len() - self.ended_len(),
            expired: self.expired,
        }
    }

    /// Used and outstanding of one account.
    #[must_use]
    pub fn balance(&mut self, line: &Line, now: Timestamp) -> (u128, u128) {
        self.advance(now);
        let now = self.now;
        let Some(account) = self.accounts.get_mut(&line.key) else {
            return (0, 0);
        };
        (account.look(line, now).used, account.outstanding)
    }

    fn known(&self, id: Id) -> Option<Outcome> {
        let reservation = self.reservations.get(&id)?;
        Some(match reservation.state {
            State::Held(_) => Outcome::Admitted {
                expires_at: reservation.expires_at,
                repeated: true,
            },
            State::Ended(ending) => Outcome::Ended(ending),
        })
    }

    /// Fills in what the accounts say, and whether all have room.
    fn weigh(&mut self, lines: &mut [Line]) -> bool {
        let mut fits = true;
        for line in lines {
            let now = self.now;
            let account = self.accounts.get_mut(&line.key);
            line.weigh(account, now);
            fits &= !line.full;
        }
        fits
    }

    fn account(&mut self, line: &Line) -> &mut Account {
        let now = self.now;
        self.accounts
            .entry(line.key)
            .or_insert_with(|| Account::new(line, now))
    }

    fn count(&mut self, lines: &mut [Line]) {
        let now = self.now;
        for line in lines {
            if !line.rule.counts() {
                let account = self.accounts.get(&line.key);
                line.tally.used = account.map_or(0, |account| account.outstanding);
                continue;
            }
            let account = self.account(line);
            line.tally = account.charge(line, now);
            line.tally.used += account.outstanding;
        }
    }

    /// Whether more is spent in any account than was held there.
    fn is_over(&self, id: Id, lines: &[Line]) -> bool {
        let Some(State::Held(held)) = self.reservations.get(&id).map(|r| &r.state) else {
            return false;
        };
        let held_in = |key| held.iter().find(|(held, _)| *held == key);
        let held_of = |line: &Line| held_in(line.key).map_or(line.amount, |(_, amount)| *amount);
        counted(lines).any(|line| held_of(line) < line.amount)
    }

    /// Takes what `id` holds out of its accounts.
    fn let_go(&mut self, id: Id) {
        let Some(Reservation {
            state: State::Held(held),
            ..
        }) = self.reservations.get(&id)
        else {
            return;
        };
        for (key, amount) in held {
            if let Some(account) = self.accounts.get_mut(key) {
                debug_assert!(u128::from(*amount) <= account.outstanding);
                account.outstanding -= u128::from(*amount);
            }
        }
    }

    fn end(&mut self, id: Id, expires_at: Timestamp, ending: Ending) {
        let before = self.reservations.get(&id);
        let ended_before = before.is_some_and(|r| matches!(r.state, State::Ended(_)));
        if !ended_before {
            let forgotten_at = self.now.max(expires_at).plus(self.bounds.remembered);
            self.ended.push_back((forgotten_at, id));
        }
        self.insert(id, expires_at, State::Ended(ending));
    }

    fn insert(&mut self, id: Id, expires_at: Timestamp, state: State) {
        let reservation = Reservation { expires_at, state };
        self.reservations.insert(id, reservation);
        while self.bounds.reservations_max < self.reservations.len() && self.forget_oldest() {}
    }

    /// Whether there is memory for one more reservation in these accounts.
    fn has_room<'l>(&mut self, lines: impl Iterator<Item = &'l Line>) -> bool {
        let new = lines
            .filter(|line| !self.accounts.contains_key(&line.key))
            .count();
        if self.bounds.accounts_max < self.accounts.len() + new {
            let second = self.now.second();
            self.accounts.retain(|_, account| !account.is_idle(second));
        }
        self.accounts.len() + new <= self.bounds.accounts_max
            && self.reservations.len() - self.ended_len() < self.bounds.reservations_max
    }

    fn ended_len(&self) -> usize {
        self.ended.len()
    }

    fn forget_oldest(&mut self) -> bool {
        let Some((_, id)) = self.ended.pop_front() else {
            return false;
        };
        self.reservations.remove(&id);
        true
    }

    /// Time passes: what ends by itself ends.
    fn advance(&mut self, now: Timestamp) {
        self.now = self.now.max(now);
        while let Some(Reverse((at, id))) = self.expiring.peek().copied()
            && at <= self.now
        {
            self.expiring.pop();
            let held = self.reservations.get(&id);
            // Forgotten and made anew under its id, it has a later time of its own.
            if held.is_some_and(|r| r.expires_at == at && matches!(r.state, State::Held(_))) {
                self.let_go(id);
                self.end(id, at, Ending::Expired);
                self.expired += 1;
            }
        }
        while let Some((at, _)) = self.ended.front()
            && *at <= self.now
        {
            self.forget_oldest();
        }
    }
}

/// Those in whose accounts something stays when it is spent.
fn counted(lines: &[Line]) -> impl Iterator<Item = &Line> {
    lines.iter().filter(|line| line.rule.counts())
}
