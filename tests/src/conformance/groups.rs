//! Consumer groups: sharing partitions, coming and going.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer, ConsumerContext, Rebalance};
use rdkafka::error::KafkaError;
use rdkafka::types::RDKafkaErrorCode as Code;
use rdkafka::{ClientContext, Message, Offset, TopicPartitionList};

use super::lab::{Lab, SOON, Settings, clock};

const STEP: Duration = Duration::from_millis(20);

/// Counts how often partitions were given or taken, and notes which were taken.
#[derive(Clone, Default)]
struct Rebalances(Arc<Mutex<(usize, BTreeSet<i32>)>>);

impl Rebalances {
    fn count(&self) -> usize {
        self.0.lock().expect("no panic while held").0
    }

    /// The partitions that were taken since the last call.
    fn taken(&self) -> BTreeSet<i32> {
        std::mem::take(&mut self.0.lock().expect("no panic while held").1)
    }
}

impl ClientContext for Rebalances {
    fn log(&self, _: rdkafka::config::RDKafkaLogLevel, _: &str, _: &str) {}
    fn error(&self, _: KafkaError, _: &str) {}
}

impl ConsumerContext for Rebalances {
    fn pre_rebalance(&self, _: &BaseConsumer<Self>, rebalance: &Rebalance<'_>) {
        let mut noted = self.0.lock().expect("no panic while held");
        noted.0 += 1;
        if let Rebalance::Revoke(list) = rebalance {
            noted
                .1
                .extend(list.elements().iter().map(|e| e.partition()));
        }
    }
}

struct Member {
    consumer: BaseConsumer<Rebalances>,
    rebalances: Rebalances,
}

/// Where the records of a topic were read, and how often.
type Seen = HashMap<(i32, i64), usize>;

impl Member {
    fn join(lab: &Lab, group: &str, topic: &str, settings: Settings<'_>) -> anyhow::Result<Self> {
        let rebalances = Rebalances::default();
        let config = lab.consumer_config(group, settings);
        let consumer: BaseConsumer<Rebalances> = config.create_with_context(rebalances.clone())?;
        consumer.subscribe(&[topic])?;
        Ok(Self {
            consumer,
            rebalances,
        })
    }

    fn partitions(&self) -> BTreeSet<i32> {
        let assignment = self.consumer.assignment();
        assignment.map_or_else(
            |_| BTreeSet::new(),
            |list| list.elements().iter().map(|e| e.partition()).collect(),
        )
    }

    /// Reads and commits what there is.
    fn turn(&self, seen: &mut Seen) -> anyhow::Result<()> {
        match self.consumer.poll(STEP) {
            Some(Ok(message)) => {
                *seen
                    .entry((message.partition(), message.offset()))
                    .or_default() += 1;
                self.consumer.store_offset_from_message(&message)?;
            }
            Some(Err(e)) => bail!("instead of a record: {e}"),
            None => {}
        }
        Ok(())
    }
}

fn turn_until(
    what: &str,
    members: &[&Member],
    seen: &mut Seen,
    holds: impl Fn(&Seen) -> bool,
) -> anyhow::Result<()> {
    let deadline = clock() + 2 * SOON;
    while !holds(seen) {
        for member in members {
            member.turn(seen).context(what.to_owned())?;
        }
        let have: Vec<_> = members.iter().map(|m| m.partitions()).collect();
        ensure!(
            clock() < deadline,
            "{what}: members have {have:?}, {} records",
            seen.len()
        );
    }
    Ok(())
}

fn share(a: &Member, b: &Member) -> bool {
    let (a, b) = (a.partitions(), b.partitions());
    a.len() == 2 && b.len() == 2 && a.is_disjoint(&b)
}

/// One member, then two, then one: every record is read, and after a clean hand-over none twice.
fn grows_and_shrinks(lab: &Lab, strategy: &str) -> anyhow::Result<()> {
    let (topic, group) = (lab.topic(4, &[])?, lab.name("group"));
    let settings = [
        ("partition.assignment.strategy", strategy),
        ("enable.auto.offset.store", "false"),
        ("enable.auto.commit", "true"),
        ("auto.commit.interval.ms", "200"),
    ];
    let mut seen = Seen::new();
    lab.send(&topic, 4, 400, &[])?;
    let a = Member::join(lab, &group, &topic, &settings)?;
    turn_until("alone", &[&a], &mut seen, |s| {
        a.partitions().len() == 4 && s.len() == 400
    })?;
    let b = Member::join(lab, &group, &topic, &settings)?;
    turn_until("together", &[&a, &b], &mut seen, |_| share(&a, &b))?;
    lab.send(&topic, 4, 400, &[])?;
    turn_until("both read", &[&a, &b], &mut seen, |s| s.len() == 800)?;
    match b.consumer.commit_consumer_state(CommitMode::Sync) {
        Ok(()) | Err(KafkaError::ConsumerCommit(Code::NoOffset)) => {}
        Err(e) => bail!("the last commit: {e}"),
    }
    drop(b);
    turn_until("alone again", &[&a], &mut seen, |_| {
        a.partitions().len() == 4
    })?;
    lab.send(&topic, 4, 400, &[])?;
    turn_until("all read", &[&a], &mut seen, |s| s.len() == 1200)?;
    let twice = seen.values().filter(|n| **n > 1).count();
    ensure!(twice == 0, "{twice} records were read twice");
    Ok(())
}

pub(super) fn range(lab: &Lab) -> anyhow::Result<()> {
    grows_and_shrinks(lab, "range")
}

pub(super) fn cooperative(lab: &Lab) -> anyhow::Result<()> {
    grows_and_shrinks(lab, "cooperative-sticky")
}

/// Of the partitions of two members those move that the third gets, and no other; they come back when it goes.
pub(super) fn third_cooperative(lab: &Lab) -> anyhow::Result<()> {
    let (topic, group) = (lab.topic(6, &[])?, lab.name("group"));
    let settings = [("partition.assignment.strategy", "cooperative-sticky")];
    let join = || Member::join(lab, &group, &topic, &settings);
    let (a, b) = (join()?, join()?);
    let spread = |members: &[&Member], each: usize| {
        let all: BTreeSet<i32> = members.iter().flat_map(|m| m.partitions()).collect();
        all.len() == 6 && members.iter().all(|m| m.partitions().len() == each)
    };
    let mut seen = Seen::new();
    turn_until("two", &[&a, &b], &mut seen, |_| spread(&[&a, &b], 3))?;
    let before = [a.partitions(), b.partitions()];
    let _ = (a.rebalances.taken(), b.rebalances.taken());
    let c = join()?;
    turn_until("three", &[&a, &b, &c], &mut seen, |_| {
        spread(&[&a, &b, &c], 2)
    })?;
    for (member, before) in [&a, &b].into_iter().zip(&before) {
        let (now, taken) = (member.partitions(), member.rebalances.taken());
        let moved: BTreeSet<i32> = before.difference(&now).copied().collect();
        ensure!(
            taken == moved,
            "of {before:?} {taken:?} were taken, {moved:?} went"
        );
        ensure!(
            moved.is_subset(&c.partitions()),
            "{moved:?} did not go to the third"
        );
    }
    let kept = [a.partitions(), b.partitions()];
    drop(c);
    turn_until("two again", &[&a, &b], &mut seen, |_| spread(&[&a, &b], 3))?;
    for (member, kept) in [&a, &b].into_iter().zip(&kept) {
        let taken = member.rebalances.taken();
        ensure!(taken.is_empty(), "{taken:?} were taken when the third went");
        ensure!(
            kept.is_subset(&member.partitions()),
            "of {kept:?} something is gone"
        );
    }
    Ok(())
}

/// The first one's client says that it is over; the second has what the first had.
pub(super) fn same_instance(lab: &Lab) -> anyhow::Result<()> {
    let (topic, group) = (lab.topic(2, &[])?, lab.name("group"));
    let join = || Member::join(lab, &group, &topic, &[("group.instance.id", "one")]);
    let first = join()?;
    turn_until("the first", &[&first], &mut Seen::new(), |_| {
        first.partitions().len() == 2
    })?;
    let second = join()?;
    let deadline = clock() + 2 * SOON;
    while first.consumer.client().fatal_error().is_none() {
        let _ = first.consumer.poll(STEP);
        second.turn(&mut Seen::new())?;
        ensure!(
            clock() < deadline,
            "the first still believes that it is the one"
        );
    }
    let (code, why) = first
        .consumer
        .client()
        .fatal_error()
        .unwrap_or((Code::Unknown, String::new()));
    ensure!(code == Code::FencedInstanceId, "{code:?}: {why}");
    turn_until("the second", &[&second], &mut Seen::new(), |_| {
        second.partitions().len() == 2
    })
}

fn static_pair(lab: &Lab, group: &str, topic: &str) -> anyhow::Result<(Member, Member)> {
    let join = |instance| Member::join(lab, group, topic, &[("group.instance.id", instance)]);
    let (a, b) = (join("one")?, join("two")?);
    turn_until("both", &[&a, &b], &mut Seen::new(), |_| share(&a, &b))?;
    Ok((a, b))
}

pub(super) fn static_member_returns(lab: &Lab) -> anyhow::Result<()> {
    let (topic, group) = (lab.topic(4, &[])?, lab.name("group"));
    let (a, b) = static_pair(lab, &group, &topic)?;
    let (before, disturbed) = (a.partitions(), b.rebalances.count());
    drop(a);
    let a = Member::join(lab, &group, &topic, &[("group.instance.id", "one")])?;
    turn_until("it is back", &[&a, &b], &mut Seen::new(), |_| share(&a, &b))?;
    ensure!(
        a.partitions() == before,
        "{before:?} became {:?}",
        a.partitions()
    );
    ensure!(
        b.rebalances.count() == disturbed,
        "the other member was disturbed"
    );
    Ok(())
}

pub(super) fn static_member_dies(lab: &Lab) -> anyhow::Result<()> {
    let (topic, group) = (lab.topic(4, &[])?, lab.name("group"));
    let (a, b) = static_pair(lab, &group, &topic)?;
    // A static member does not leave when it closes: its session runs out.
    drop(a);
    turn_until("all are the other's", &[&b], &mut Seen::new(), |_| {
        b.partitions().len() == 4
    })
}

pub(super) fn listed(lab: &Lab) -> anyhow::Result<()> {
    let (topic, group) = (lab.topic(1, &[])?, lab.name("group"));
    let member = Member::join(lab, &group, &topic, &[("client.id", "somebody")])?;
    turn_until("it joined", &[&member], &mut Seen::new(), |_| {
        member.partitions().len() == 1
    })?;
    let list = lab
        .consumer("observer", &[])
        .fetch_group_list(Some(&group), SOON)?;
    let found = list.groups().first().context("the group is not listed")?;
    ensure!(
        found.state() == "Stable" && found.protocol_type() == "consumer",
        "{found:?}"
    );
    let members: Vec<_> = found.members().iter().map(|m| m.client_id()).collect();
    ensure!(members == ["somebody"], "{members:?}");
    Ok(())
}

pub(super) fn stranger(lab: &Lab) -> anyhow::Result<()> {
    let (topic, group) = (lab.topic(1, &[])?, lab.name("group"));
    let member = Member::join(lab, &group, &topic, &[])?;
    turn_until("it joined", &[&member], &mut Seen::new(), |_| {
        member.partitions().len() == 1
    })?;
    let mut list = TopicPartitionList::new();
    list.add_partition_offset(&topic, 0, Offset::Offset(5))?;
    let committed = lab.consumer(&group, &[]).commit(&list, CommitMode::Sync);
    ensure!(committed.is_err(), "it was accepted");
    Ok(())
}

pub(super) fn kip_848(lab: &Lab) -> anyhow::Result<()> {
    let topic = lab.topic(1, &[])?;
    lab.send(&topic, 1, 1, &[])?;
    let consumer: BaseConsumer = next_generation(lab).create()?;
    consumer.subscribe(&[&topic])?;
    lab.next(&consumer).map(drop)
}

pub(super) fn no_kip_848(lab: &Lab) -> anyhow::Result<()> {
    let topic = lab.topic(1, &[])?;
    let consumer: BaseConsumer = next_generation(lab).create()?;
    consumer.subscribe(&[&topic])?;
    let deadline = clock() + SOON;
    loop {
        match consumer.poll(STEP) {
            Some(Err(_)) => return Ok(()),
            Some(Ok(_)) => bail!("it was accepted"),
            None => ensure!(clock() < deadline, "neither accepted nor refused"),
        }
    }
}

fn next_generation(lab: &Lab) -> rdkafka::ClientConfig {
    lab.client(&[
        ("group.protocol", "consumer"),
        ("group.id", &lab.name("group")),
        ("auto.offset.reset", "earliest"),
    ])
}
