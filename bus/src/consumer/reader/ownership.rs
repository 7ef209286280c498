//! Changes of ownership: told to the service, answered by it, agreed with the group.

use std::collections::BTreeMap;
use std::sync::Arc;

use rdkafka::consumer::Consumer as _;
use rdkafka::{Offset, TopicPartitionList};

use super::{Phase, Reader, fatal};
use crate::clock::Stopwatch;
use crate::consumer::context::Change;
use crate::consumer::partition::OpenPartition;
use crate::consumer::signals::Answer;
use crate::consumer::{Assigned, Event, Revoked, Start, Turn};
use crate::error::BusError;
use crate::record::Partition;

impl Reader {
    pub(super) fn take_change(&mut self) -> Result<(), BusError> {
        if let Phase::Revoking { since, .. } = &self.phase
            && self.hand_over_within <= since.elapsed()
        {
            let waited = self.hand_over_within;
            tracing::warn!(
                group = self.subscription.group,
                "gave partitions away after {waited:?} without the service's word"
            );
            self.metrics.error("hand_over");
            self.give_back()?;
        }
        if !matches!(self.phase, Phase::Reading) {
            return Ok(());
        }
        match self.consumer.context().next_change() {
            None => Ok(()),
            Some(Change::Assign(named)) => self.begin_assigning(&named),
            Some(Change::Revoke) => self.begin_revoking(),
        }
    }

    fn begin_assigning(&mut self, named: &[(String, i32)]) -> Result<(), BusError> {
        self.metrics.rebalance("assigned");
        let topics = &self.subscription.topics;
        let ours = |(name, index): &(String, i32)| {
            let spec = topics.iter().find(|spec| spec.name == name)?;
            Some(Partition {
                topic: spec.name,
                index: *index,
            })
        };
        let partitions: Arc<[Partition]> = named.iter().filter_map(ours).collect();
        self.group_granted(&partitions);
        if partitions.is_empty() {
            return self.assign(&partitions, &[], &BTreeMap::new());
        }
        self.tell_grown(&partitions);
        let turn = self.next_turn();
        self.outbox.push_back(Event::Assigned(Assigned {
            partitions: Arc::clone(&partitions),
            turn: self.turn(turn),
        }));
        self.phase = Phase::Assigning { turn, partitions };
        Ok(())
    }

    /// Added partitions are read like the others, for a foreign producer may write there; they are no reason to stop.
    fn tell_grown(&self, partitions: &[Partition]) {
        for spec in &self.subscription.topics {
            let ours = partitions.iter().filter(|p| p.topic == spec.name);
            let found = ours.map(|p| p.index + 1).max().unwrap_or(0);
            if let Some(made) = self.made.known(spec.name).filter(|made| *made < found) {
                self.metrics.grown(spec.name, made, found);
            }
        }
    }

    fn begin_revoking(&mut self) -> Result<(), BusError> {
        let lost = self.consumer.assignment_lost();
        self.metrics
            .rebalance(if lost { "lost" } else { "revoked" });
        if self.open.is_empty() {
            return self.give_back();
        }
        let turn = self.next_turn();
        self.outbox.push_back(Event::Revoked(Revoked {
            partitions: self.open.iter().map(|open| open.partition).collect(),
            lost,
            turn: self.turn(turn),
        }));
        if lost {
            return self.give_back();
        }
        let since = Stopwatch::start();
        self.phase = Phase::Revoking { turn, since };
        Ok(())
    }

    pub(super) fn take_answer(&mut self, answers: BTreeMap<u64, Answer>) -> Result<(), BusError> {
        for (answered, answer) in answers {
            match &self.phase {
                Phase::Assigning { turn, partitions } if *turn == answered => {
                    let offsets = match answer {
                        Answer::Start(offsets) => offsets,
                        Answer::Done | Answer::Dropped => Vec::new(),
                    };
                    self.phase = Phase::Locating {
                        partitions: Arc::clone(partitions),
                        offsets,
                        asked: None,
                    };
                }
                Phase::Revoking { turn, .. } if *turn == answered => self.give_back()?,
                // Too late: the time for the hand-over has passed, or the partitions were lost.
                _ => {}
            }
        }
        Ok(())
    }

    /// Begins to read at `offsets`, or else where the group stood.
    pub(super) fn assign(
        &mut self,
        partitions: &[Partition],
        offsets: &[(Partition, Option<i64>)],
        committed: &BTreeMap<Partition, Offset>,
    ) -> Result<(), BusError> {
        self.forget_denied();
        let mut list = TopicPartitionList::with_capacity(partitions.len());
        self.open.clear();
        self.to_read.clear();
        for (place, partition) in partitions.iter().enumerate() {
            let answer = offsets.iter().find(|(of, _)| of == partition);
            let next = answer.and_then(|(_, offset)| *offset);
            // Below zero the client library has signs of its own: "the end", for one.
            if let Some(negative) = next.filter(|next| *next < 0) {
                return Err(self.impossible(*partition, negative));
            }
            let start = match (answer, self.subscription.start) {
                (Some((_, Some(offset))), _) => Offset::Offset(*offset),
                (Some((_, None)), _) | (None, Start::Stored) => Offset::Beginning,
                (None, Start::Committed) => {
                    committed.get(partition).copied().unwrap_or(Offset::Stored)
                }
            };
            list.add_partition_offset(partition.topic, partition.index, start)
                .map_err(|error| fatal(&error))?;
            let signals = (&self.signals, place);
            let stood = match start {
                Offset::Offset(offset) => Some(offset),
                _ => None,
            };
            let open = OpenPartition::open(&self.consumer, *partition, (next, stood), signals)?;
            self.open.push(open);
            self.to_read.push_back(place);
        }
        self.consumer.assign(&list).map_err(|error| fatal(&error))?;
        self.phase = Phase::Reading;
        Ok(())
    }

    /// Reads nothing more and lets the group go on.
    fn give_back(&mut self) -> Result<(), BusError> {
        self.forget_open();
        self.phase = Phase::Reading;
        self.consumer.unassign().map_err(|error| fatal(&error))
    }

    pub(super) fn forget_open(&mut self) {
        self.forget_denied();
        for open in self.open.drain(..) {
            self.metrics.forget(open.partition);
        }
        self.to_read.clear();
    }

    fn next_turn(&mut self) -> u64 {
        self.turns += 1;
        self.turns
    }

    fn turn(&self, number: u64) -> Turn {
        Turn {
            signals: Arc::clone(&self.signals),
            number,
        }
    }
}
