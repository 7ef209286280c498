//! How gateways share limits that each of them counts by itself, without an arbiter.
//!
//! Each gateway has an equal part of every number, known from who is there ([`members`]): nothing is kept for that. It
//! admits while what it counts is within its part. One that runs low asks; the others lend it what they do not use
//! ([`lease`]). Parts and loans never come to more than the number, whatever is delayed or lost: who gives lowers its
//! own before it tells, and has it back only when what was admitted by it has left the window. So what all admit in any
//! span of a window never exceeds its limit, while nobody comes anew.
//!
//! Whoever comes while others are there lowers their parts at once, and has its own when all have said so. What they
//! had admitted or lent beyond their new parts it does not know, nor what one admitted that had gone before it came. So
//! for the length of a loan and a window the sum may exceed the limit by the new one's part ([`Party::overshoot`]
//! tells). When one goes, the parts of the others grow after as long a time.
//!
//! The idea is the escrow of O'Neil (1986) and the demarcation protocol of Barbará and García-Molina (1992), with the
//! leases of Gray and Cheriton (1989), which Doorman has for rates.

pub(crate) mod lease;
pub(crate) mod members;
#[cfg(test)]
mod model;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use schemas::time::Timestamp;

use crate::check::{Gate, Wanting};
use lease::{Account, Borrowed, LEASE, Lent, Tend};
use members::{Heard, MemberId, Members, Word};

/// Between one sign of life and the next.
const BEAT: Duration = Duration::from_secs(1);
/// A sign of life that has not come back from the log is given again after this.
const BEAT_LOST: Duration = Duration::from_secs(3);
/// Between looking after leases.
const TEND: Duration = Duration::from_secs(1);
/// Accounts in one record.
const ITEMS_MAX: usize = 500;

/// What one gateway tells the others.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Told {
    pub(crate) from: MemberId,
    pub(crate) say: Say,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Say {
    /// It is there, and has read the log up to `seen`.
    Beat { seen: i64 },
    /// It reckons with everyone who came up to `seen`.
    Ack { seen: i64 },
    /// It has ended in order.
    Left,
    /// It asks for so many more units.
    Want {
        asked_at: Timestamp,
        items: Vec<Units>,
    },
    /// It lends so many units in all.
    Gift {
        to: MemberId,
        /// As in what it answers: by the borrower's clock.
        asked_at: Timestamp,
        items: Vec<Units>,
    },
    /// It keeps so many units of gifts.
    Return { to: MemberId, items: Vec<Units> },
}

/// Units of one account.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Units {
    pub(crate) account: Account,
    pub(crate) units: u64,
    /// Of the gift.
    pub(crate) seq: u64,
}

/// One gateway among those that share.
#[derive(Debug)]
pub(crate) struct Party {
    me: MemberId,
    members: Members,
    /// Of gifts.
    seq: u64,
    /// When the last sign of life was given, and where the one before it stood in the log.
    beat: Option<(Timestamp, Option<i64>)>,
    tended_at: Option<Timestamp>,
}

// === impl Party ===

impl Party {
    /// Has nothing yet. `me` is to be random, and new at each start.
    pub(crate) fn new(me: MemberId, gate: &Gate) -> Self {
        let members = Members::new(me);
        gate.set_split(members.split());
        Self {
            me,
            members,
            seq: 0,
            beat: None,
            tended_at: None,
        }
    }

    /// Whether this gateway has its share.
    pub(crate) const fn is_settled(&self) -> bool {
        self.members.is_settled()
    }

    /// Gateways that are there, this one included once it has come.
    pub(crate) fn present(&self) -> usize {
        self.members.present()
    }

    /// What all together may admit beyond a limit at the most, in parts of it: for the longest window that is shared.
    pub(crate) fn overshoot(&self, gate: &Gate, now: Timestamp) -> f64 {
        let span = gate.span_max();
        span.map_or(0.0, |span| self.members.overshoot(span, now))
    }

    /// This gateway ends in order.
    pub(crate) const fn leave(&self) -> Told {
        self.says(Say::Left)
    }

    const fn says(&self, say: Say) -> Told {
        Told { from: self.me, say }
    }
}

// === impl Party: what time brings ===

impl Party {
    /// Time has passed: what is to be told now, in this order.
    pub(crate) fn tick(&mut self, gate: &Gate, now: Timestamp) -> Vec<Told> {
        let mut out = Vec::new();
        if self.beats(now) {
            let seen = self.members.read();
            self.beat = Some((now, self.members.own_beat()));
            out.push(self.says(Say::Beat { seen }));
        }
        let wanting = gate.wanting();
        if 1 < self.present() {
            self.want(wanting, now, &mut out);
        }
        if self.tended_at.is_none_or(|at| TEND <= now.since(at)) {
            self.tended_at = Some(now);
            self.tend(gate, now, &mut out);
            self.forget(gate, now);
        }
        out
    }

    /// Whether a sign of life is due: a second after the last, once that has been read in the log. So one that reads
    /// nothing, or whose records do not arrive, falls silent.
    fn beats(&self, now: Timestamp) -> bool {
        let Some((at, before)) = self.beat else {
            return true;
        };
        let is_back = self.members.own_beat() != before;
        let pause = if is_back { BEAT } else { BEAT_LOST };
        pause <= now.since(at)
    }

    fn want(&self, wanting: Vec<Wanting>, now: Timestamp, out: &mut Vec<Told>) {
        let items = wanting.into_iter().map(|Wanting { account, units }| Units {
            account,
            units,
            seq: 0,
        });
        let items: Vec<Units> = items.collect();
        for items in items.chunks(ITEMS_MAX) {
            out.push(self.says(Say::Want {
                asked_at: now,
                items: items.to_vec(),
            }));
        }
    }

    /// Asks once more for what is borrowed and needed, and returns what is not.
    fn tend(&self, gate: &Gate, now: Timestamp, out: &mut Vec<Told>) {
        let mut needed = Vec::new();
        let mut returned = BTreeMap::<MemberId, Vec<Units>>::new();
        for account in gate.windows.borrowing(now) {
            let Some(place) = gate.place_of(&account, now) else {
                continue;
            };
            let account = Account::clone(&account);
            match gate.windows.tend(&place, now) {
                Tend::Nothing => {}
                Tend::Renew => needed.push(Wanting { account, units: 0 }),
                Tend::Return(gifts) => {
                    for (to, seq) in gifts {
                        let account = account.clone();
                        returned.entry(to).or_default().push(Units {
                            account,
                            units: 0,
                            seq,
                        });
                    }
                }
            }
        }
        self.want(needed, now, out);
        for (to, items) in returned {
            out.push(self.says(Say::Return { to, items }));
        }
    }

    fn forget(&mut self, gate: &Gate, now: Timestamp) {
        let before = self.members.split();
        let span = gate.span_max().unwrap_or_default();
        self.members.forget(span, now);
        let split = self.members.split();
        if before != split {
            gate.set_split(split);
        }
    }
}

// === impl Party: what the log brings ===

impl Party {
    /// Takes in a record of the log, in its order. Returns what is to be told of it.
    pub(crate) fn read(
        &mut self,
        gate: &Gate,
        told: Told,
        offset: i64,
        now: Timestamp,
    ) -> Vec<Told> {
        let Told { from, say } = told;
        let was_there = self.members.has(self.me);
        let heard = self.members.hear(from, say.word(), offset, now);
        self.heard(gate, heard);
        // Who came meanwhile waits for a word, too.
        if !was_there && self.members.has(self.me) {
            return vec![self.says(Say::Ack { seen: offset })];
        }
        match say {
            Say::Beat { .. } if heard.came && self.members.has(self.me) => {
                return vec![self.says(Say::Ack { seen: offset })];
            }
            Say::Want { asked_at, items } if from != self.me && self.members.has(from) => {
                return self.answer(gate, from, (asked_at, items), now);
            }
            Say::Gift {
                to,
                asked_at,
                items,
            } if to == self.me => {
                self.borrow(gate, from, (asked_at, items), now);
            }
            Say::Return { to, items } if to == self.me => {
                for item in items {
                    if let Some(place) = gate.place_of(&item.account, now) {
                        let windows = &gate.windows;
                        windows.returned(place.key, from, item.seq, item.units);
                    }
                }
            }
            _ => {}
        }
        Vec::new()
    }

    fn heard(&mut self, gate: &Gate, heard: Heard) {
        if heard.lost {
            // The next of its lives; nobody else's id is so near.
            self.me = self.me.wrapping_add(1);
            self.members.rejoin(self.me);
            self.beat = None;
            gate.windows.orphan();
        }
        if heard.changed {
            gate.set_split(self.members.split());
        }
    }

    /// Gives back to `to` what is its own, and lends it what is not used here.
    fn answer(
        &mut self,
        gate: &Gate,
        to: MemberId,
        (asked_at, items): (Timestamp, Vec<Units>),
        now: Timestamp,
    ) -> Vec<Told> {
        let others = self.present().saturating_sub(1).max(1) as u64;
        let (mut gifts, mut returns) = (Vec::new(), Vec::new());
        for Units { account, units, .. } in items {
            let Some(place) = gate.place_of(&account, now) else {
                continue;
            };
            if let Some((seq, units)) = gate.windows.give_back(&place, to, units, now) {
                let account = account.clone();
                returns.push(Units {
                    account,
                    units,
                    seq,
                });
            }
            self.seq += 1;
            let seq = self.seq;
            let gift = Lent {
                to,
                units: units.div_ceil(others),
                seq,
                until: now.plus(LEASE).plus(place.span),
            };
            if let Some(units) = gate.windows.lend(&place, gift, now) {
                gifts.push(Units {
                    account,
                    units,
                    seq,
                });
            }
        }
        let mut out = Vec::new();
        if !returns.is_empty() {
            out.push(self.says(Say::Return { to, items: returns }));
        }
        if !gifts.is_empty() {
            out.push(self.says(Say::Gift {
                to,
                asked_at,
                items: gifts,
            }));
        }
        out
    }

    fn borrow(
        &self,
        gate: &Gate,
        from: MemberId,
        (asked_at, items): (Timestamp, Vec<Units>),
        now: Timestamp,
    ) {
        let until = asked_at.plus(LEASE);
        for Units {
            account,
            units,
            seq,
        } in items
        {
            let gift = Borrowed {
                from,
                units,
                seq,
                until,
            };
            if let Some(place) = gate.place_of(&account, now) {
                let account = Arc::new(account);
                gate.windows.borrow(place.key, &account, gift, now);
            }
        }
    }
}

impl Say {
    /// As metrics name it.
    pub(crate) const fn kind(&self) -> &'static str {
        match self {
            Self::Beat { .. } => "beat",
            Self::Ack { .. } => "ack",
            Self::Left => "left",
            Self::Want { .. } => "want",
            Self::Gift { .. } => "gift",
            Self::Return { .. } => "return",
        }
    }

    const fn word(&self) -> Word {
        match self {
            Self::Beat { seen } => Word::Beat { seen: *seen },
            Self::Ack { seen } => Word::Ack { seen: *seen },
            Self::Left => Word::Left,
            _ => Word::Other,
        }
    }
}
