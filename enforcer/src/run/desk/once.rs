//! Commands that count once though their senders may have put them into the log twice, entries of wallets and answers to
//! requests: the store says which record of an id was the first to be obeyed. They wait for the store; deciding does not.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use bus::consumer::Partition;
use schemas::time::Timestamp;
use tokio::time::{sleep, timeout};

use super::{Desk, Taken};
use crate::command::Command;
use crate::decide::Outcome;
use crate::decision::Origin;

/// How long the store may take to answer before the command is put off.
const WITHIN: Duration = Duration::from_secs(1);

/// Between two tries while the store does not answer.
const PAUSE: Duration = Duration::from_secs(5);

/// Commands that wait for the store before deciding waits as well: by then nobody can have sent more through this
/// process, which asks the store before it takes a command.
const WAITING_MAX: usize = 10_000;

/// Commands that were read and not obeyed yet, in the order in which they were read.
#[derive(Default)]
pub(super) struct Waiting {
    waiting: VecDeque<Single>,
    /// Offsets that could be committed if nothing of their partitions waited.
    next_offsets: BTreeMap<Partition, i64>,
    /// The store did not answer: not asked again before then.
    again_at: Option<Timestamp>,
}

struct Single {
    partition: Partition,
    origin: Origin,
    command: Command,
}

impl Waiting {
    pub(super) fn put(&mut self, partition: Partition, origin: Origin, command: Command) {
        self.waiting.push_back(Single {
            partition,
            origin,
            command,
        });
    }

    /// What can be committed now, when all before `next_offsets` was taken: nothing of a partition of which a command
    /// waits.
    pub(super) fn settle(
        &mut self,
        next_offsets: BTreeMap<Partition, i64>,
    ) -> BTreeMap<Partition, i64> {
        self.next_offsets.extend(next_offsets);
        let waiting = &self.waiting;
        let is_free = |partition: &Partition, _: &mut i64| {
            waiting.iter().all(|single| single.partition != *partition)
        };
        self.next_offsets.extract_if(.., is_free).collect()
    }

    /// Somebody else answers for these partitions, and reads again what was not committed.
    pub(super) fn hand_over(&mut self, theirs: &[Partition]) {
        self.waiting
            .retain(|single| !theirs.contains(&single.partition));
        self.next_offsets
            .retain(|partition, _| !theirs.contains(partition));
    }
}

impl Desk<'_> {
    /// Obeys the commands that wait, in their order, as far as the store answers.
    pub(super) async fn obey_waiting(&mut self, taken: &mut Taken) {
        let now = self.parts.clock.now();
        if self.waiting.again_at.is_some_and(|at| now < at)
            && self.waiting.waiting.len() < WAITING_MAX
        {
            return;
        }
        while let Some(single) = self.waiting.waiting.pop_front() {
            match self.is_first(&single).await {
                Some(is_first) => self.obey_single(&single, is_first, taken),
                None => {
                    self.waiting.waiting.push_front(single);
                    self.waiting.again_at = Some(self.parts.clock.now().plus(PAUSE));
                    if self.waiting.waiting.len() < WAITING_MAX {
                        return;
                    }
                    tokio::select! {
                        () = sleep(PAUSE) => {}
                        () = self.teller.stop.cancelled() => return,
                    }
                }
            }
        }
        self.waiting.again_at = None;
    }

    /// `None`: the store does not answer.
    async fn is_first(&self, single: &Single) -> Option<bool> {
        let id = &single.command.id;
        let asked = timeout(WITHIN, self.parts.store.is_first(id, &single.origin)).await;
        let error = match asked {
            Ok(Ok(is_first)) => return Some(is_first),
            Ok(Err(error)) => error.to_string(),
            Err(_) => format!("no answer within {WITHIN:?}"),
        };
        self.parts.metrics.store_error();
        tracing::warn!(command = id, error, "a command waits for the store");
        None
    }

    fn obey_single(&mut self, single: &Single, is_first: bool, taken: &mut Taken) {
        let Single {
            command, origin, ..
        } = single;
        if is_first {
            self.obey_command(command, origin, taken);
            return;
        }
        self.parts.metrics.command(Outcome::Stale);
        tracing::warn!(
            command = command.id,
            "a command of this id was obeyed already; it is passed over"
        );
    }
}

#[cfg(test)]
mod tests {
    use schemas::topic::COMMANDS;

    use super::*;
    use crate::command::Action;

    fn partition(index: i32) -> Partition {
        Partition {
            topic: COMMANDS.name(),
            index,
        }
    }

    fn put(waiting: &mut Waiting, index: i32, offset: i64) {
        let command = Command {
            id: offset.to_string(),
            subject: schemas::subject::Subject::tenant("acme"),
            at: Timestamp::default(),
            actor: String::new(),
            reason: String::new(),
            until: None,
            action: Action::Block,
        };
        let origin = Origin {
            topic: COMMANDS.name().to_owned(),
            partition: index,
            offset,
        };
        waiting.put(partition(index), origin, command);
    }

    #[track_caller]
    fn check(waiting: &mut Waiting, taken: &[(i32, i64)], expected: &[(i32, i64)]) {
        let offsets = |of: &[(i32, i64)]| -> BTreeMap<Partition, i64> {
            of.iter()
                .map(|(index, next)| (partition(*index), *next))
                .collect()
        };
        assert_eq!(waiting.settle(offsets(taken)), offsets(expected));
    }

    #[test]
    fn nothing_is_committed_of_a_partition_of_which_a_command_waits() {
        let mut waiting = Waiting::default();
        check(&mut waiting, &[(0, 5), (1, 7)], &[(0, 5), (1, 7)]);
        put(&mut waiting, 1, 7);
        check(&mut waiting, &[(0, 6), (1, 8)], &[(0, 6)]);
        check(&mut waiting, &[(1, 9)], &[]);
        waiting.waiting.clear();
        check(&mut waiting, &[], &[(1, 9)]);
        // What is another's now is not committed here.
        put(&mut waiting, 1, 9);
        check(&mut waiting, &[(1, 10)], &[]);
        waiting.hand_over(&[partition(1)]);
        check(&mut waiting, &[(0, 7)], &[(0, 7)]);
    }
}
