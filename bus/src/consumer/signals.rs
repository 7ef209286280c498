//! How everybody else wakes the reader's thread.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use parking_lot::{Condvar, Mutex};

use crate::record::Partition;

/// What a service says to a change of ownership.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Answer {
    Start(Vec<(Partition, Option<i64>)>),
    Done,
    Dropped,
}

/// What came in since the thread last looked.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Inbox {
    /// Partitions, by their place in the reader's list, that may have something to read. Each at most once.
    pub(super) ready: Vec<usize>,
    /// The newest commit of each partition.
    pub(super) commits: BTreeMap<Partition, i64>,
    /// The first answer to each turn; there are never more turns open than a few.
    pub(super) answers: BTreeMap<u64, Answer>,
    pub(super) closing: bool,
    woken: bool,
}

#[derive(Debug, Default)]
pub(super) struct Signals {
    inbox: Mutex<Inbox>,
    changed: Condvar,
    /// The thread waits for room in its channel.
    starved: AtomicBool,
}

impl Signals {
    /// Called by the client library's threads while they hold a lock of theirs: must not call the library.
    pub(super) fn ready(&self, place: usize) {
        let mut inbox = self.inbox.lock();
        if !inbox.ready.contains(&place) {
            inbox.ready.push(place);
        }
        self.wake(&mut inbox);
    }

    pub(super) fn commit(&self, partition: Partition, next_offset: i64) {
        self.inbox.lock().commits.insert(partition, next_offset);
    }

    /// Only the first answer to a turn counts.
    pub(super) fn answer(&self, turn: u64, answer: Answer) {
        let mut inbox = self.inbox.lock();
        inbox.answers.entry(turn).or_insert(answer);
        self.wake(&mut inbox);
    }

    pub(super) fn close(&self) {
        let mut inbox = self.inbox.lock();
        inbox.closing = true;
        self.wake(&mut inbox);
    }

    /// The thread is about to wait for room.
    pub(super) fn starve(&self) {
        self.starved.store(true, Ordering::SeqCst);
    }

    pub(super) fn room_made(&self) {
        if self.starved.swap(false, Ordering::SeqCst) {
            self.wake(&mut self.inbox.lock());
        }
    }

    fn wake(&self, inbox: &mut Inbox) {
        inbox.woken = true;
        self.changed.notify_one();
    }

    /// Waits until woken, for `at_most`, and takes everything.
    pub(super) fn take(&self, at_most: Duration) -> Inbox {
        let mut inbox = self.inbox.lock();
        if !inbox.woken && !at_most.is_zero() {
            self.changed.wait_for(&mut inbox, at_most);
        }
        let closing = inbox.closing;
        let taken = std::mem::take(&mut *inbox);
        inbox.closing = closing;
        taken
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    const LONG: Duration = Duration::from_secs(60);

    fn partition(index: i32) -> Partition {
        Partition { topic: "t", index }
    }

    #[test]
    fn everything_is_taken_once_but_closing_stays() {
        let signals = Signals::default();
        signals.ready(3);
        signals.ready(1);
        signals.ready(3);
        signals.commit(partition(0), 5);
        signals.commit(partition(0), 7);
        signals.close();
        let taken = signals.take(LONG);
        assert_eq!(taken.ready, [3, 1]);
        assert_eq!(taken.commits, BTreeMap::from([(partition(0), 7)]));
        assert!(taken.closing);
        let taken = signals.take(Duration::ZERO);
        assert!(taken.ready.is_empty() && taken.commits.is_empty() && taken.closing);
    }

    #[test]
    fn the_first_answer_to_a_turn_counts() {
        let signals = Signals::default();
        signals.answer(1, Answer::Done);
        signals.answer(1, Answer::Dropped);
        signals.answer(2, Answer::Dropped);
        let answers = signals.take(LONG).answers;
        let expected = BTreeMap::from([(1, Answer::Done), (2, Answer::Dropped)]);
        assert_eq!(answers, expected);
    }

    #[test]
    fn room_wakes_only_a_starved_thread() {
        let signals = Arc::new(Signals::default());
        signals.room_made();
        assert!(!signals.take(Duration::ZERO).woken);
        signals.starve();
        let other = Arc::clone(&signals);
        let reader = std::thread::spawn(move || other.take(LONG).woken);
        signals.room_made();
        assert!(reader.join().unwrap());
    }
}
