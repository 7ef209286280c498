//! One replay at a time.

use std::time::Duration;

use anyhow::Context;
use bus::{Consumer, Event, Partition, Revoked, Start, Subscription};
use schemas::topic::DEAD;

use crate::cli::log::dead::Dump;
use crate::cli::log::place::Home;

/// The group that lets one replay at a time work.
const GROUP: &str = "weir-log-replay";
/// Longer than a group takes to forget a member that was killed.
const CLAIM_WITHIN: Duration = Duration::from_secs(30);

/// Waits until this is the only replay at work.
pub(super) async fn claim(home: &Home) -> anyhow::Result<Consumer> {
    let end = Dump::new(home).await?.end();
    let mut consumer = home.log.consume(Subscription {
        group: GROUP.to_owned(),
        topics: vec![DEAD.spec()],
        start: Start::Stored,
        batch_records_max: 1,
    })?;
    let assigned = async {
        loop {
            match consumer.next().await {
                Event::Assigned(assigned) => return Ok(assigned),
                Event::Failed(error) => return Err(error),
                _ => {}
            }
        }
    };
    let assigned = tokio::time::timeout(CLAIM_WITHIN, assigned).await;
    let assigned = assigned.context("another `weir log replay` is at work on this log")??;
    let (topic, index) = (DEAD.name(), 0);
    assigned.start(&[(Partition { topic, index }, Some(end))]);
    Ok(consumer)
}

/// Resolves when another replay gets the partition.
pub(super) async fn taken(claim: &mut Consumer) -> anyhow::Result<Revoked> {
    loop {
        match claim.next().await {
            Event::Revoked(revoked) => return Ok(revoked),
            Event::Failed(error) => return Err(error.into()),
            _ => {}
        }
    }
}
