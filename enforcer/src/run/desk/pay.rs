//! Entries of wallets. They add up, so each must count once though its sender may have put it into the log twice: the
//! store says which record of an id was the first to be obeyed. An entry waits for the store; deciding does not.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use bus::consumer::Partition;
use schemas::time::Timestamp;
use tokio::time::{sleep, timeout};

use super::{Desk, Taken};
use crate::command::Command;
use crate::decide::Outcome;
use crate::decision::Origin;

/// How long the store may take to answer before the entry is put off.
const WITHIN: Duration = Duration::from_secs(1);

/// Between two tries while the store does not answer.
const PAUSE: Duration = Duration::from_secs(5);

/// Entries that wait for the store before deciding waits as well: by then nobody can have sent more through this
/// process, which asks the store before it takes a command.
const WAITING_MAX: usize = 10_000;

/// Entries that were read and not obeyed yet, in the order in which they were read.
#[derive(Default)]
pub(super) struct Payments {
    waiting: VecDeque<Payment>,
    /// Offsets that could be committed if nothing of their partitions waited.
    next_offsets: BTreeMap<Partition, i64>,
    /// The store did not answer: not asked again before then.
    again_at: Option<Timestamp>,
}

struct Payment {
    partition: Partition,
    origin: Origin,
    command: Command,
}

impl Payments {
    pub(super) fn put(&mut self, partition: Partition, origin: Origin, command: Command) {
        self.waiting.push_back(Payment {
            partition,
            origin,
            command,
        });
    }

    /// What can be committed now, when all before `next_offsets` was taken: nothing of a partition of which an entry
    /// waits.
    pub(super) fn settle(
        &mut self,
        next_offsets: BTreeMap<Partition, i64>,
    ) -> BTreeMap<Partition, i64> {
        self.next_offsets.extend(next_offsets);
        let waiting = &self.waiting;
        let is_free = |partition: &Partition, _: &mut i64| {
            waiting
                .iter()
                .all(|payment| payment.partition != *partition)
        };
        self.next_offsets.extract_if(.., is_free).collect()
    }

    /// Somebody else answers for these partitions, and reads again what was not committed.
    pub(super) fn hand_over(&mut self, theirs: &[Partition]) {
        self.waiting
            .retain(|payment| !theirs.contains(&payment.partition));
        self.next_offsets
            .retain(|partition, _| !theirs.contains(partition));
    }
}

impl Desk<'_> {
    /// Obeys the entries that wait, in their order, as far as the store answers.
    pub(super) async fn pay(&mut self, taken: &mut Taken) {
        let now = self.parts.clock.now();
        if self.payments.again_at.is_some_and(|at| now < at)
            && self.payments.waiting.len() < WAITING_MAX
        {
            return;
        }
        while let Some(payment) = self.payments.waiting.pop_front() {
            match self.is_first(&payment).await {
                Some(is_first) => self.obey_payment(&payment, is_first, taken),
                None => {
                    self.payments.waiting.push_front(payment);
                    self.payments.again_at = Some(self.parts.clock.now().plus(PAUSE));
                    if self.payments.waiting.len() < WAITING_MAX {
                        return;
                    }
                    tokio::select! {
                        () = sleep(PAUSE) => {}
                        () = self.teller.stop.cancelled() => return,
                    }
                }
            }
        }
        self.payments.again_at = None;
    }

    /// `None`: the store does not answer.
    async fn is_first(&self, payment: &Payment) -> Option<bool> {
        let id = &payment.command.id;
        let asked = timeout(
            WITHIN,
            self.parts.store.is_first_payment(id, &payment.origin),
        )
        .await;
        let error = match asked {
            Ok(Ok(is_first)) => return Some(is_first),
            Ok(Err(error)) => error.to_string(),
            Err(_) => format!("no answer within {WITHIN:?}"),
        };
        self.parts.metrics.store_error();
        tracing::warn!(
            command = id,
            error,
            "an entry of a wallet waits for the store"
        );
        None
    }

    fn obey_payment(&mut self, payment: &Payment, is_first: bool, taken: &mut Taken) {
        let Payment {
            command, origin, ..
        } = payment;
        if is_first {
            self.obey_command(command, origin, taken);
            return;
        }
        self.parts.metrics.command(Outcome::Stale);
        tracing::warn!(
            command = command.id,
            "an entry of this id was counted already; it is passed over"
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

    fn put(payments: &mut Payments, index: i32, offset: i64) {
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
        payments.put(partition(index), origin, command);
    }

    #[track_caller]
    fn check(payments: &mut Payments, taken: &[(i32, i64)], expected: &[(i32, i64)]) {
        let offsets = |of: &[(i32, i64)]| -> BTreeMap<Partition, i64> {
            of.iter()
                .map(|(index, next)| (partition(*index), *next))
                .collect()
        };
        assert_eq!(payments.settle(offsets(taken)), offsets(expected));
    }

    #[test]
    fn nothing_is_committed_of_a_partition_of_which_an_entry_waits() {
        let mut payments = Payments::default();
        check(&mut payments, &[(0, 5), (1, 7)], &[(0, 5), (1, 7)]);
        put(&mut payments, 1, 7);
        check(&mut payments, &[(0, 6), (1, 8)], &[(0, 6)]);
        check(&mut payments, &[(1, 9)], &[]);
        payments.waiting.clear();
        check(&mut payments, &[], &[(1, 9)]);
        // What is another's now is not committed here.
        put(&mut payments, 1, 9);
        check(&mut payments, &[(1, 10)], &[]);
        payments.hand_over(&[partition(1)]);
        check(&mut payments, &[(0, 7)], &[(0, 7)]);
    }
}
