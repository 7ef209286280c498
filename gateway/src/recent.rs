//! Admissions by request id, for a while: a request that is asked about twice gets one answer and is counted once.
//!
//! Only admissions are remembered. A refusal was not counted, and a client that comes back under the same id when
//! its time has come must not be refused again.

use std::collections::VecDeque;
use std::time::Duration;

use hashbrown::HashMap;
use parking_lot::Mutex;
use schemas::time::Timestamp;

const SHARDS: usize = 16;

/// Remembers a bounded number of answers for a bounded time, the oldest forgotten first.
pub struct Recent<T> {
    shards: Box<[Mutex<Shard<T>>]>,
    shard_entries_max: usize,
    kept_for: Duration,
}

struct Shard<T> {
    answers: HashMap<u128, T, foldhash::fast::RandomState>,
    order: VecDeque<(Timestamp, u128)>,
}

impl<T: Clone> Recent<T> {
    #[must_use]
    pub fn new(entries_max: usize, kept_for: Duration) -> Self {
        let shard = || Shard {
            answers: HashMap::default(),
            order: VecDeque::new(),
        };
        Self {
            shards: (0..SHARDS).map(|_| Mutex::new(shard())).collect(),
            shard_entries_max: entries_max.div_ceil(SHARDS),
            kept_for,
        }
    }

    /// What was answered under `key`, or else what `answer` says now, remembered if it says so (its second part).
    /// Of several callers with one key, one answers and the others wait for it.
    pub fn once(&self, key: u128, now: Timestamp, answer: impl FnOnce() -> (T, bool)) -> T {
        let mut shard = self.shards[(key >> 124) as usize].lock();
        shard.forget(now, self.kept_for);
        if let Some(known) = shard.answers.get(&key) {
            return known.clone();
        }
        let (answer, keep) = answer();
        if keep && 0 < self.shard_entries_max {
            while self.shard_entries_max <= shard.order.len() {
                shard.forget_oldest();
            }
            shard.order.push_back((now, key));
            shard.answers.insert(key, answer.clone());
        }
        answer
    }

    /// Answers that are remembered.
    #[must_use]
    pub fn len(&self) -> usize {
        let shards = self.shards.iter();
        shards.map(|shard| shard.lock().answers.len()).sum()
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl<T> Shard<T> {
    fn forget(&mut self, now: Timestamp, kept_for: Duration) {
        while let Some((at, _)) = self.order.front()
            && at.plus(kept_for) <= now
        {
            self.forget_oldest();
        }
    }

    fn forget_oldest(&mut self) {
        if let Some((_, key)) = self.order.pop_front() {
            self.answers.remove(&key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_seconds(seconds)
    }

    #[test]
    fn answers_once_in_its_time() {
        let recent = Recent::new(100, Duration::from_secs(10));
        assert_eq!(recent.once(1, at(0), || ("a", true)), "a");
        assert_eq!(recent.once(1, at(9), || ("b", true)), "a");
        assert_eq!(recent.once(2, at(9), || ("c", true)), "c");
        assert_eq!(recent.once(1, at(10), || ("d", true)), "d");
        assert_eq!(recent.once(1, at(19), || ("e", true)), "d");
    }

    #[test]
    fn remembers_only_what_is_to_be_kept() {
        let recent = Recent::new(100, Duration::from_secs(10));
        assert_eq!(recent.once(1, at(0), || ("refused", false)), "refused");
        assert_eq!(recent.once(1, at(1), || ("admitted", true)), "admitted");
        assert_eq!(recent.once(1, at(2), || ("refused", false)), "admitted");
    }

    #[test]
    fn is_bounded() {
        let recent = Recent::new(SHARDS * 2, Duration::from_secs(10));
        for key in 0..256_u128 {
            recent.once(key << 120, at(0), || (key, true));
            assert!(recent.len() <= SHARDS * 2);
        }
        // The newest of its shard is still there, the oldest is not.
        assert_eq!(recent.once(255 << 120, at(0), || (0, true)), 255);
        assert_eq!(recent.once(0, at(0), || (7, true)), 7);
        let none = Recent::new(0, Duration::from_secs(10));
        none.once(1, at(0), || ((), true));
        assert!(none.is_empty());
    }

    #[test]
    fn one_of_many_answers() {
        let recent = Recent::new(100, Duration::from_secs(10));
        let answered = Mutex::new(0);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    recent.once(1, at(0), || {
                        *answered.lock() += 1;
                        ((), true)
                    })
                });
            }
        });
        assert_eq!(answered.into_inner(), 1);
    }
}
