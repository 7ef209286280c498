//! The ledger from the log: what was spent under strict limits before this process was, as far back as any of their
//! windows reaches. Until it is read, nothing is admitted under them.

use std::time::Duration;

use bus::inspect::{Inspector, Slice};
use bus::{Bus, BusError};
use schemas::time::Timestamp;
use schemas::topic;
use tokio::time::sleep;

use crate::handle::Handle;
use crate::ledger::restore::Restoring;
use crate::wire::{self, Spent};

/// Between looking whether decisions and policy were read, and looking again.
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// Between one try and the next.
const PAUSE: Duration = Duration::from_secs(1);
/// A record is in the log by this much before the time that its event tells, at the most: clocks differ.
const SKEW: Duration = Duration::from_secs(60);

/// Ends when the ledger is complete.
pub(super) async fn rebuild(handle: &Handle, bus: &Bus) {
    while !handle.shared().gate.freshness.is_ready() {
        sleep(LOOK_EVERY).await;
    }
    while let Err(error) = read_back(handle, bus).await {
        tracing::warn!(%error, "what was spent under strict limits cannot be read back; trying again");
        sleep(PAUSE).await;
    }
}

async fn read_back(handle: &Handle, bus: &Bus) -> Result<(), BusError> {
    let shared = handle.shared();
    let now = shared.clock.now();
    let mut restoring = Restoring::new(now);
    let from = shared.gate.strict_reaches_to(&shared.gate.view(now), now);
    if let Some(from) = from {
        let read = read(handle, &bus.inspect().await?, from, &mut restoring).await?;
        tracing::info!(%from, read, "what was spent under strict limits is read back");
    }
    shared.ledger.finish(restoring);
    Ok(())
}

/// Reads all usage since `from`, and says how many events of it settle reservations.
async fn read(
    handle: &Handle,
    log: &Inspector,
    from: Timestamp,
    restoring: &mut Restoring,
) -> Result<usize, BusError> {
    let name = topic::USAGE.name();
    let topics = log.topics(&[name]).await?;
    let Some(usage) = topics.first() else {
        return Ok(0);
    };
    let starts = log.offsets_at(usage, from.minus(SKEW)).await?;
    let bounds = (0..).zip(starts.iter().zip(&usage.spans));
    let slices: Vec<Slice> = bounds
        .map(|(partition, (start, span))| Slice {
            partition,
            from: *start.max(&span.start),
            to: span.end,
        })
        .collect();
    let mut reader = log.reader()?;
    reader.start(name, &slices).await?;
    let mut settled = 0;
    loop {
        let records = reader.next().await?;
        if records.is_empty() {
            return Ok(settled);
        }
        for (_, record) in records {
            if let Some(spent) = record.value.as_deref().and_then(wire::spent) {
                restore(handle, restoring, &spent);
                settled += 1;
            }
        }
    }
}

fn restore(handle: &Handle, restoring: &mut Restoring, spent: &Spent) {
    let shared = handle.shared();
    let view = shared.gate.view(spent.at);
    let lines = handle.lines(&view, &spent.ask);
    shared.ledger.restore(restoring, spent.id, spent.at, lines);
}
