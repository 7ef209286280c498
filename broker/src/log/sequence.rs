//! Idempotent producers: a retry of a stored batch is recognised, a gap or an old epoch refused.

use std::collections::{HashMap, VecDeque};

use serde::{Deserialize, Serialize};

use super::batch::Header;

/// Kafka promises to recognise a retry among a producer's last five batches.
const BATCHES_KEPT: usize = 5;
/// A producer that wrote nothing for this long is forgotten.
const IDLE_MAX_MS: i64 = 24 * 60 * 60 * 1000;

/// What to do with a batch from a producer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    Append,
    /// It is in the log already, at this offset.
    Duplicate {
        base_offset: i64,
    },
    /// Something between it and the last batch is missing.
    OutOfOrder,
    /// A newer epoch of the same producer has written.
    Fenced,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Written {
    first: i32,
    last: i32,
    base_offset: i64,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Producer {
    epoch: i16,
    written: VecDeque<Written>,
    seen_ms: i64,
}

/// The last batches of every producer of one partition.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Producers(HashMap<i64, Producer>);

impl Producers {
    /// Judges a batch that is about to be appended.
    pub(crate) fn judge(&self, header: &Header) -> Verdict {
        let Some(producer) = self.0.get(&header.producer_id) else {
            // Never seen here, or forgotten: any sequence may start.
            return Verdict::Append;
        };
        if header.producer_epoch < producer.epoch {
            return Verdict::Fenced;
        }
        if header.producer_epoch > producer.epoch {
            return if header.base_sequence == 0 {
                Verdict::Append
            } else {
                Verdict::OutOfOrder
            };
        }
        let (first, last) = (header.base_sequence, last_sequence(header));
        let same = |w: &&Written| w.first == first && w.last == last;
        if let Some(written) = producer.written.iter().find(same) {
            return Verdict::Duplicate {
                base_offset: written.base_offset,
            };
        }
        match producer.written.back() {
            Some(newest) if first != after(newest.last) => Verdict::OutOfOrder,
            _ => Verdict::Append,
        }
    }

    /// Notes a batch that is in the log.
    pub(crate) fn note(&mut self, header: &Header, now_ms: i64) {
        if header.producer_id < 0 || header.is_control() {
            return;
        }
        let producer = self.0.entry(header.producer_id).or_default();
        if header.producer_epoch != producer.epoch {
            producer.epoch = header.producer_epoch;
            producer.written.clear();
        }
        producer.seen_ms = now_ms;
        // A checkpoint may know what is read again behind it.
        let is_known = |w: &Written| w.base_offset == header.base_offset;
        if producer.written.iter().any(is_known) {
            return;
        }
        producer.written.push_back(Written {
            first: header.base_sequence,
            last: last_sequence(header),
            base_offset: header.base_offset,
        });
        if producer.written.len() > BATCHES_KEPT {
            producer.written.pop_front();
        }
    }

    pub(crate) fn forget_idle(&mut self, now_ms: i64) {
        self.0
            .retain(|_, producer| now_ms - producer.seen_ms < IDLE_MAX_MS);
    }
}

/// Sequences wrap from `i32::MAX` to 0.
fn last_sequence(header: &Header) -> i32 {
    header.base_sequence.wrapping_add(header.last_delta) & i32::MAX
}

fn after(sequence: i32) -> i32 {
    sequence.wrapping_add(1) & i32::MAX
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::testing::batch_of;

    /// Plays batches `epoch:first+count`; a new one goes to the next offset. Expects the verdicts.
    #[track_caller]
    fn check(script: &str, expected: &str) {
        let mut producers = Producers::default();
        let mut next = 0;
        let mut verdicts = vec![];
        for step in script.split_whitespace() {
            let (epoch, range) = step.split_once(':').unwrap();
            let (first, count) = range.split_once('+').unwrap();
            let mut header = Header::parse(&batch_of(&[("k", None)], 7)).unwrap();
            header.producer_epoch = epoch.parse().unwrap();
            header.base_sequence = first.parse().unwrap();
            header.last_delta = count.parse::<i32>().unwrap() - 1;
            header.base_offset = next;
            let verdict = producers.judge(&header);
            verdicts.push(match verdict {
                Verdict::Append => {
                    producers.note(&header, 0);
                    next = header.next_offset();
                    "ok".to_owned()
                }
                Verdict::Duplicate { base_offset } => format!("dup@{base_offset}"),
                Verdict::OutOfOrder => "gap".to_owned(),
                Verdict::Fenced => "fenced".to_owned(),
            });
        }
        assert_eq!(verdicts.join(" "), expected, "{script}");
    }

    #[test]
    fn sequences() {
        check("0:0+3 0:3+2 0:5+1", "ok ok ok");
        check("0:0+3 0:0+3 0:3+2 0:0+3", "ok dup@0 ok dup@0");
        check("0:0+3 0:4+1 0:3+1", "ok gap ok");
        check("0:0+3 0:0+2", "ok gap");
        check("0:0+3 0:1+2", "ok gap");
        check(
            "0:0+1 0:1+1 0:2+1 0:3+1 0:4+1 0:0+1 0:5+1 0:0+1",
            "ok ok ok ok ok dup@0 ok gap",
        );
        check("0:0+1 1:0+1 0:1+1 1:1+1", "ok ok fenced ok");
        check("0:0+1 1:5+1", "ok gap");
        check("3:9+1 3:10+1", "ok ok");
        check("0:2147483646+2 0:0+1 0:1+1", "ok ok ok");
        check("0:2147483647+3 0:2+1", "ok ok");
    }

    #[test]
    fn an_idle_producer_is_forgotten_and_a_busy_one_is_not() {
        let header = Header::parse(&batch_of(&[("k", None)], 7)).unwrap();
        let mut producers = Producers::default();
        producers.note(&header, 1_000);
        producers.forget_idle(1_000 + IDLE_MAX_MS - 1);
        assert_eq!(
            producers.judge(&header),
            Verdict::Duplicate { base_offset: 0 }
        );
        producers.forget_idle(1_000 + IDLE_MAX_MS);
        assert_eq!(producers.judge(&header), Verdict::Append);
    }

    #[test]
    fn batches_without_a_producer_leave_no_trace() {
        let header = Header::parse(&batch_of(&[("k", None)], -1)).unwrap();
        let mut producers = Producers::default();
        producers.note(&header, 0);
        assert_eq!(producers, Producers::default());
        assert_eq!(producers.judge(&header), Verdict::Append);
    }
}
