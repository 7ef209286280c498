//! What commands do to what stands: orders that give a subject other limits, and blocks.

use std::collections::BTreeSet;
use std::ops::Bound;

use schemas::orders::{About, Change, Numbers, Order, OrderKey, Orders, Paid};
use schemas::policy::{Meter, Mode, Window};
use schemas::subject::Subject;
use schemas::time::Timestamp;

use super::word::{Heard, Word};
use super::{Decider, Outcome, Output, Reason};
use crate::alert;
use crate::command::{Action, Command, Undone};
use crate::decision::{BLOCKED, Crossing, Origin};

/// The orders that are known, and when the next of them ends.
#[derive(Debug, Default)]
pub(super) struct OrderBook {
    ends: BTreeSet<(Timestamp, OrderKey)>,
    /// Ended by time here, and not yet in the log.
    ended: Vec<Order>,
}

impl Decider {
    /// Takes one command, in the order of its partition. One that was taken before changes nothing, and what follows
    /// from it is told again: whether it reached the log is not known after a crash.
    pub(crate) fn command(
        &mut self,
        command: &Command,
        origin: &Origin,
        now: Timestamp,
        out: &mut Vec<Output>,
    ) -> Outcome {
        let order = |change| Order {
            command: command.id.clone(),
            seq: origin.offset,
            subject: command.subject.clone(),
            at: command.at,
            until: command.until,
            change,
        };
        match &command.action {
            Action::Raise { limit, numbers } => {
                let (limit, numbers) = (limit.clone(), numbers.clone());
                self.order(order(Change::Numbers { limit, numbers }), now, out)
            }
            Action::Clear { limit } => {
                let (limit, reason) = (limit.clone(), command.reason.clone());
                self.order(order(Change::Cleared { limit, reason }), now, out)
            }
            Action::TopUp { limit, amount } => {
                self.pay(command, (origin.offset, limit, *amount), now, out)
            }
            Action::SetTier { tier } => self.order(order(Change::Tier(tier.clone())), now, out),
            Action::Ask { .. } | Action::Decline { .. } => self.tell_request(command, out),
            Action::Approve { limit, numbers, .. } => {
                let (limit, numbers) = (limit.clone(), numbers.clone());
                self.tell_request(command, out);
                self.order(order(Change::Numbers { limit, numbers }), now, out)
            }
            Action::Block => self.block(command, origin, now, out),
            Action::Unblock => self.unblock(command, origin, now, out),
            Action::Undo {
                command: id,
                what,
                back,
            } => {
                let about = match what {
                    Undone::Raise { limit } => About::Numbers(limit.clone()),
                    Undone::TopUp { limit, amount } => {
                        let back = amount.saturating_neg();
                        return self.pay(command, (origin.offset, limit, back), now, out);
                    }
                    Undone::SetTier => About::Tier,
                    Undone::Block if self.is_blocked_by(&command.subject, id) => {
                        return self.unblock(command, origin, now, out);
                    }
                    Undone::Block => return Outcome::Stale,
                };
                let subject = command.subject.clone();
                let key = OrderKey { subject, about };
                let again = back.as_deref().map(|back| Order {
                    command: back.command.clone(),
                    until: back.until,
                    ..order(back.change.clone())
                });
                self.undo_order(&key, (id, again), now, out)
            }
        }
    }

    // === Orders ===

    fn order(&mut self, order: Order, now: Timestamp, out: &mut Vec<Output>) -> Outcome {
        if order.has_ended(now) {
            return Outcome::Ended;
        }
        let held = self.rules.orders.get(&order.key());
        // What was paid in is not lost to an order from when the limit is no wallet any more.
        if held.is_some_and(|held| order.seq < held.seq || paid(held).is_some()) {
            return Outcome::Stale;
        }
        out.push(Output::Order(Box::new(order.clone())));
        self.learn(order, now, out);
        Outcome::Decided
    }

    /// Adds an entry to what was paid into a wallet. What follows from an entry that was counted already is told again.
    fn pay(
        &mut self,
        command: &Command,
        (seq, limit, amount): (i64, &str, i128),
        now: Timestamp,
        out: &mut Vec<Output>,
    ) -> Outcome {
        let key = OrderKey {
            subject: command.subject.clone(),
            about: About::Numbers(limit.to_owned()),
        };
        let held = self.rules.orders.get(&key);
        let before = held.and_then(paid).cloned().unwrap_or_default();
        let Some(paid) = before.with(&command.id, amount) else {
            out.extend(held.map(|held| Output::Order(Box::new(held.clone()))));
            return Outcome::Stale;
        };
        if held.is_some_and(|held| seq < held.seq) {
            return Outcome::Stale;
        }
        let order = Order {
            command: command.id.clone(),
            seq,
            subject: key.subject,
            at: command.at,
            until: None,
            change: Change::Numbers {
                limit: limit.to_owned(),
                numbers: Numbers {
                    paid,
                    ..Numbers::default()
                },
            },
        };
        out.push(Output::Order(Box::new(order.clone())));
        self.learn(order, now, out);
        Outcome::Decided
    }

    /// Ends what a command ordered, or puts in its place what it had replaced, unless that has ended by now.
    fn undo_order(
        &mut self,
        key: &OrderKey,
        (command, again): (&str, Option<Order>),
        now: Timestamp,
        out: &mut Vec<Output>,
    ) -> Outcome {
        let held = self.rules.orders.get(key);
        if held.is_none_or(|held| held.command != command) {
            return Outcome::Stale;
        }
        if let Some(again) = again.filter(|again| !again.has_ended(now)) {
            return self.order(again, now, out);
        }
        if let Some(order) = self.forget(key, now, out) {
            out.push(Output::OrderEnded(Box::new(order), now));
        }
        Outcome::Decided
    }

    /// The orders that are known.
    pub(crate) fn orders(&self) -> &Orders {
        &self.rules.orders
    }

    /// Obeys an order that the log holds.
    pub(crate) fn learn(&mut self, order: Order, now: Timestamp, out: &mut Vec<Output>) {
        let key = order.key();
        let until = order.until;
        let before = self.rules.orders.get(&key).and_then(|order| order.until);
        if !self.rules.orders.put(order) {
            return;
        }
        if let Some(before) = before {
            self.book.ends.remove(&(before, key.clone()));
        }
        if let Some(until) = until {
            self.book.ends.insert((until, key.clone()));
        }
        self.reconsider(&key.subject, now, out);
    }

    /// Obeys the order of this key no more.
    pub(crate) fn forget(
        &mut self,
        key: &OrderKey,
        now: Timestamp,
        out: &mut Vec<Output>,
    ) -> Option<Order> {
        self.book.ended.retain(|order| order.key() != *key);
        let order = self.rules.orders.end(key, i64::MAX)?;
        if let Some(until) = order.until {
            self.book.ends.remove(&(until, key.clone()));
        }
        self.reconsider(&key.subject, now, out);
        Some(order)
    }

    /// Takes all orders as the log holds them, instead of what was known. Nothing stands here yet that they concern.
    pub(crate) fn take_orders(&mut self, orders: Orders) {
        let ends = orders
            .iter()
            .filter_map(|order| Some((order.until?, order.key())));
        self.book.ends = ends.collect();
        self.book.ended.clear();
        self.rules.orders = orders;
    }

    /// Ends the orders whose time has come, and tells the log of those that are `ours` to tell.
    pub(crate) fn end_orders(
        &mut self,
        now: Timestamp,
        ours: impl Fn(&Subject) -> bool,
        out: &mut Vec<Output>,
    ) {
        while let Some((_, key)) = self.book.ends.first().filter(|(at, _)| *at <= now).cloned() {
            let order = self.forget(&key, now, out);
            self.book.ended.extend(order);
        }
        let ended = self.book.ended.extract_if(.., |order| ours(&order.subject));
        out.extend(ended.map(|order| {
            let at = order.until.unwrap_or(now);
            Output::OrderEnded(Box::new(order), at)
        }));
    }

    /// Judges anew what stands on `subject` and on what lies in it.
    fn reconsider(&mut self, subject: &Subject, now: Timestamp, out: &mut Vec<Output>) {
        let below = format!("{subject}/");
        let from = (Bound::Included(below.as_str()), Bound::Unbounded);
        let inside = self.subjects.range::<str, _>(from);
        let inside = inside.take_while(|(path, _)| path.as_str().starts_with(&below));
        let itself = self.subjects.get_key_value(subject).map(|(path, _)| path);
        let inside = inside.map(|(path, _)| path);
        let subjects: Vec<Subject> = itself.into_iter().chain(inside).cloned().collect();
        for subject in subjects {
            let said = self.said(&subject);
            self.decide(&subject, now, Reason::Command, out);
            if let Some(said) = said.filter(|said| said.stands_at(now)) {
                self.tell_lifted(&said, now, out);
            }
        }
    }

    // === Requests ===

    fn tell_request(&self, command: &Command, out: &mut Vec<Output>) -> Outcome {
        let limit = command.action.limit();
        let meter = limit.and_then(|name| self.rules.meter(name));
        let told = alert::request(command, meter.unwrap_or(&Meter::Requests));
        out.extend(told.map(Output::Alert));
        Outcome::Told
    }

    // === Blocks ===

    fn block(
        &mut self,
        command: &Command,
        origin: &Origin,
        now: Timestamp,
        out: &mut Vec<Output>,
    ) -> Outcome {
        if command.until.is_some_and(|until| until <= now) {
            return Outcome::Ended;
        }
        let block = as_crossing(command, origin, true);
        let standing = self.subjects.entry(command.subject.clone()).or_default();
        let mut heard = Heard::Changed;
        standing
            .words
            .entry(BLOCKED.to_owned())
            .and_modify(|word| heard = word.replace(&block))
            .or_insert_with(|| Word::new(&block));
        self.settle(&command.subject, heard, now, out)
    }

    fn unblock(
        &mut self,
        command: &Command,
        origin: &Origin,
        now: Timestamp,
        out: &mut Vec<Output>,
    ) -> Outcome {
        let standing = self.subjects.get_mut(&command.subject);
        let Some(word) = standing.and_then(|s| s.words.get_mut(BLOCKED)) else {
            return Outcome::Stale;
        };
        let heard = word.hear(&as_crossing(command, origin, false));
        self.settle(&command.subject, heard, now, out)
    }

    fn settle(
        &mut self,
        subject: &Subject,
        heard: Heard,
        now: Timestamp,
        out: &mut Vec<Output>,
    ) -> Outcome {
        let decided = self.decide(subject, now, Reason::Command, out);
        heard.outcome(decided)
    }

    fn is_blocked_by(&self, subject: &Subject, command: &str) -> bool {
        let standing = self.subjects.get(subject);
        let word = standing.and_then(|standing| standing.words.get(BLOCKED));
        let evidence = word.and_then(|word| word.evidence.as_ref());
        evidence.is_some_and(|cause| cause.crossing == command)
    }
}

/// What was paid into the wallet that an order is about; `None` where it is about something else.
fn paid(order: &Order) -> Option<&Paid> {
    match &order.change {
        Change::Numbers { numbers, .. } => Some(&numbers.paid).filter(|paid| !paid.is_none()),
        Change::Tier(_) | Change::Cleared { .. } => None,
    }
}

/// A block, or its end, in the words of a limit's crossing.
fn as_crossing(command: &Command, origin: &Origin, up: bool) -> Crossing {
    Crossing {
        id: command.id.clone(),
        subject: command.subject.clone(),
        limit: BLOCKED.to_owned(),
        policy_version: 0,
        meter: Meter::Requests,
        window: Window::Sliding { seconds: 1 },
        mode: Mode::Block,
        soft: None,
        threshold: 0,
        up,
        at: command.at,
        sum: 0,
        max: 0,
        falls_at: command.until.filter(|_| up),
        origin: origin.clone(),
    }
}

#[cfg(test)]
mod tests;
