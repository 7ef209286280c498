//! The loop's own state, and what it does with each input.

mod once;
mod publish;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::Ordering;

use bus::consumer::{Assigned, Batch, Consumer, Event, Partition, Revoked};
use futures_util::FutureExt as _;
use schemas::subject::Subject;
use schemas::topic::{COMMANDS, SIGNALS};
use tokio_util::sync::CancellationToken;

use crate::command::Command;
use crate::decide::{Decider, Output};
use crate::decision::Origin;
use crate::file;
use crate::policy::{self, FILE, Version};
use crate::service::{Parts, Refusal, RunError};
use crate::tell::{Teller, Told};
use crate::watch::{Look, Watch};
use crate::wire::{self, Dead, Followed};
use once::Waiting;
use publish::Draft;

/// Outputs that are sent together; what more there is waits for their acknowledgement.
const OUTPUTS_MAX: usize = 5_000;

pub(super) struct Desk<'a> {
    parts: &'a Parts,
    pub(super) consumer: Consumer,
    decider: Decider,
    waiting: Waiting,
    /// The partitions of signals and commands that it reads.
    own: BTreeSet<Partition>,
    teller: Teller,
    watch: Watch,
    /// The text of the policy file when it was obeyed last.
    obeyed_text: String,
    /// The newest version seen while reading `weir.policies.v1` for the first time; it is obeyed once all is read.
    read_so_far: Option<Version>,
    caught_up: bool,
    /// The highest version that was published or seen.
    last_version: u64,
}

/// What a batch of signals came to.
#[derive(Default)]
struct Taken {
    outputs: Vec<Output>,
    dead: Vec<Dead>,
    /// Offsets to commit once the rest is acknowledged.
    next_offsets: BTreeMap<Partition, i64>,
}

impl<'a> Desk<'a> {
    pub(super) fn new(
        parts: &'a Parts,
        consumer: Consumer,
        text: String,
        stop: CancellationToken,
    ) -> Self {
        let policy = parts.board.read().in_force.policy.clone();
        parts.metrics.policy_in_force(policy.version);
        Self {
            parts,
            consumer,
            waiting: Waiting::default(),
            own: BTreeSet::new(),
            teller: Teller {
                bus: parts.bus.clone(),
                metrics: parts.metrics.clone(),
                stop,
            },
            watch: Watch::new(text.clone()),
            obeyed_text: text,
            read_so_far: None,
            caught_up: false,
            last_version: policy.version,
            decider: Decider::new(policy, parts.config.ttl()),
        }
    }

    // === Signals ===

    /// Takes an event, and those that are there already.
    pub(super) async fn take(&mut self, event: Event) -> Result<Told, RunError> {
        let mut taken = Taken::default();
        let mut turn = None;
        let mut next = Some(event);
        while let Some(event) = next.take() {
            match event {
                Event::Records(batch) => self.hear(&batch, &mut taken),
                Event::CaughtUp(_) => {}
                event => {
                    turn = Some(event);
                    break;
                }
            }
            if taken.outputs.len() < OUTPUTS_MAX {
                next = self.consumer.next().now_or_never();
            }
        }
        self.obey_waiting(&mut taken).await;
        if self.settle(taken).await? == Told::Stopped {
            return Ok(Told::Stopped);
        }
        match turn {
            Some(Event::Assigned(assigned)) => self.take_over(assigned).await,
            Some(Event::Revoked(revoked)) => {
                self.hand_over(revoked);
                Ok(Told::All)
            }
            Some(Event::Failed(error)) => Err(RunError::Read(error)),
            _ => Ok(Told::All),
        }
    }

    fn hear(&mut self, batch: &Batch, taken: &mut Taken) {
        let now = self.parts.clock.now();
        let metrics = &self.parts.metrics;
        let is_command = batch.partition.topic == COMMANDS.name();
        for record in &batch.records {
            let heard = match is_command {
                true => wire::command(record).map(|command| {
                    let origin = wire::origin_of(record, batch.partition);
                    match command.action.counts_once() {
                        true => self.waiting.put(batch.partition, origin, command),
                        false => self.obey_command(&command, &origin, taken),
                    }
                }),
                false => wire::signal(record).map(|signal| {
                    let outcome = self.decider.hear(&signal, now, &mut taken.outputs);
                    metrics.signal(outcome);
                }),
            };
            match heard {
                Ok(()) => {}
                Err(reason) => {
                    let Partition { topic, index } = batch.partition;
                    let offset = record.offset;
                    tracing::error!(
                        topic,
                        partition = index,
                        offset,
                        reason,
                        "a record cannot be read; it goes to the dead"
                    );
                    taken
                        .dead
                        .push(wire::dead(record, batch.partition, reason, now));
                    match is_command {
                        true => metrics.unreadable_command(),
                        false => metrics.unreadable_signal(),
                    }
                }
            }
        }
        if let Some(last) = batch.records.last() {
            taken.next_offsets.insert(batch.partition, last.offset + 1);
        }
    }

    fn obey_command(&mut self, command: &Command, origin: &Origin, taken: &mut Taken) {
        let now = self.parts.clock.now();
        let outcome = self
            .decider
            .command(command, origin, now, &mut taken.outputs);
        self.parts.metrics.command(outcome);
        tracing::info!(
            command = command.id,
            kind = command.action.kind(),
            ?outcome,
            "a command is obeyed"
        );
    }

    /// Tells what came of signals, then commits them.
    async fn settle(&mut self, taken: Taken) -> Result<Told, RunError> {
        if self.tell(&taken.outputs).await? == Told::Stopped
            || self.teller.dead(&taken.dead).await? == Told::Stopped
        {
            return Ok(Told::Stopped);
        }
        for (partition, next_offset) in self.waiting.settle(taken.next_offsets) {
            self.consumer.commit(partition, next_offset);
        }
        Ok(Told::All)
    }

    async fn tell(&mut self, outputs: &[Output]) -> Result<Told, RunError> {
        let told = self.teller.outputs(outputs).await?;
        if !outputs.is_empty() {
            self.parts.metrics.standing(self.decider.standing());
        }
        Ok(told)
    }

    // === Who answers for what ===

    /// Learns what stands before the first signal of a partition is read.
    async fn take_over(&mut self, assigned: Assigned) -> Result<Told, RunError> {
        let bus = &self.parts.bus;
        let known = async { tokio::try_join!(wire::standing(bus), wire::orders(bus)) };
        let (standing, orders) = tokio::select! {
            known = known => known?,
            () = self.teller.stop.cancelled() => return Ok(Told::Stopped),
        };
        self.decider.take_orders(orders);
        self.own.extend(assigned.partitions());
        let ours = standing.into_iter().filter(|decision| {
            let home = self.home(&decision.subject);
            assigned.partitions().contains(&home)
        });
        let ours: Vec<_> = ours.collect();
        let now = self.parts.clock.now();
        let mut outputs = Vec::new();
        let decisions = ours.len();
        for decision in ours {
            self.decider.take_over(decision, now, &mut outputs);
        }
        let told = self.tell(&outputs).await?;
        let partitions = assigned.partitions().len();
        tracing::info!(partitions, decisions, "deciding for partitions of signals");
        self.parts.metrics.standing(self.decider.standing());
        assigned.start(&[]);
        self.parts.ready.store(true, Ordering::Relaxed);
        Ok(told)
    }

    fn hand_over(&mut self, revoked: Revoked) {
        let theirs = revoked.partitions().to_vec();
        self.waiting.hand_over(&theirs);
        self.own.retain(|partition| !theirs.contains(partition));
        let bus = &self.parts.bus;
        self.decider
            .release(|subject| theirs.contains(&home(bus, subject)));
        self.parts.metrics.standing(self.decider.standing());
        revoked.done();
    }

    fn home(&self, subject: &Subject) -> Partition {
        home(&self.parts.bus, subject)
    }

    // === Time ===

    pub(super) async fn tick(&mut self) -> Result<Told, RunError> {
        let mut taken = Taken::default();
        let now = self.parts.clock.now();
        let (own, bus) = (&self.own, &self.parts.bus);
        let is_ours = |subject: &Subject| own.contains(&home(bus, subject));
        self.decider.end_orders(now, is_ours, &mut taken.outputs);
        self.decider.advance(now, &mut taken.outputs);
        self.obey_waiting(&mut taken).await;
        self.settle(taken).await
    }

    // === Policy ===

    /// Obeys what `weir.policies.v1` says, whoever wrote it.
    pub(super) async fn follow(&mut self, seen: Followed) -> Result<Told, RunError> {
        match seen {
            Followed::Policy(version) if self.caught_up => self.obey(*version).await,
            Followed::Policy(version) => {
                self.read_so_far = Some(*version);
                Ok(Told::All)
            }
            Followed::Kept(version) => {
                self.keep(&version);
                Ok(Told::All)
            }
            Followed::CaughtUp => {
                self.caught_up = true;
                match self.read_so_far.take() {
                    Some(version) => self.obey(version).await,
                    None => Ok(Told::All),
                }
            }
            Followed::Order(order) if !self.is_own(&order.subject) => {
                let mut outputs = Vec::new();
                let now = self.parts.clock.now();
                self.decider.learn(*order, now, &mut outputs);
                self.tell(&outputs).await
            }
            Followed::OrderEnded(key) if !self.is_own(&key.subject) => {
                let mut outputs = Vec::new();
                let now = self.parts.clock.now();
                self.decider.forget(&key, now, &mut outputs);
                self.tell(&outputs).await
            }
            // Own orders are known before the log tells of them, and may have been changed again since.
            Followed::Order(_) | Followed::OrderEnded(_) | Followed::Other => Ok(Told::All),
        }
    }

    /// Whether this process answers for `subject`.
    fn is_own(&self, subject: &Subject) -> bool {
        self.own.contains(&self.home(subject))
    }

    async fn obey(&mut self, version: Version) -> Result<Told, RunError> {
        let number = version.policy.version;
        self.keep(&version);
        let held = self.parts.board.read().in_force.clone();
        // What this process published holds at once; what came before it is still read afterwards.
        if held == version || number < held.policy.version {
            return Ok(Told::All);
        }
        let mut outputs = Vec::new();
        let now = self.parts.clock.now();
        self.decider.obey(version.policy.clone(), now, &mut outputs);
        self.parts.board.write().in_force = version;
        self.parts.metrics.policy_in_force(number);
        self.tell(&outputs).await
    }

    fn keep(&mut self, version: &Version) {
        let number = version.policy.version;
        self.last_version = self.last_version.max(number);
        let mut board = self.parts.board.write();
        board.versions.insert(number, version.head());
    }

    /// Looks at the policy file. False: it has changed and may still be written to.
    pub(super) async fn look(&mut self) -> Result<(bool, Told), RunError> {
        let seen = file::read(&self.parts.policy).await;
        match self.watch.look(seen) {
            Look::Same => Ok((true, Told::All)),
            Look::Unsettled => Ok((false, Told::All)),
            Look::Changed(Ok(text)) => Ok((true, self.edited(text).await?)),
            Look::Changed(Err(reason)) => {
                let path = self.parts.policy.display();
                let lines = vec![format!("{path}: {reason}")];
                self.refuse(Refusal { lines });
                Ok((true, Told::All))
            }
        }
    }

    async fn edited(&mut self, text: String) -> Result<Told, RunError> {
        let policy = match policy::read(&text) {
            Ok(policy) => policy,
            Err(problems) => {
                self.refuse(Refusal::of(&self.parts.policy, &problems));
                return Ok(Told::All);
            }
        };
        self.parts.board.write().refused = None;
        if self.obeyed_text == text {
            return Ok(Told::All);
        }
        self.obeyed_text.clone_from(&text);
        let draft = Draft {
            policy,
            author: FILE.to_owned(),
            reason: "edited while running".to_owned(),
            source: text,
        };
        self.publish(draft).await
    }

    fn refuse(&self, refusal: Refusal) {
        let held = self.parts.board.read().in_force.policy.version;
        tracing::warn!(
            version = held,
            "the edited policy is refused, the one before it holds:\n{refusal}"
        );
        self.parts.metrics.policy_refused();
        self.parts.board.write().refused = Some((self.parts.clock.now(), refusal));
    }
}

/// The partition of signals that `subject`'s come through.
fn home(bus: &bus::Bus, subject: &Subject) -> Partition {
    Partition {
        topic: SIGNALS.name(),
        index: bus.partition_of(SIGNALS.spec(), &subject.partition_key()),
    }
}
