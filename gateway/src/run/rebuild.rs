//! The ledger from the log: what was spent under strict limits before this process was, as far back as any of their
//! windows reaches. Until it is read, nothing is admitted under them.

use std::time::Duration;

use bus::inspect::{Inspector, RawReader, Slice};
use bus::{Bus, BusError};
use futures_util::FutureExt;
use schemas::time::Timestamp;
use schemas::topic;
use tokio::time::sleep;

use crate::handle::Handle;
use crate::ledger::Line;
use crate::ledger::restore::Restoring;
use crate::place::redis::{Known, Past};
use crate::place::{Accounts, Place, ProcessLedger};
use crate::wire::{self, Spent};

/// Between looking whether decisions and policy were read, and looking again.
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// Between one try and the next.
const PAUSE: Duration = Duration::from_secs(1);
/// A record is in the log by this much before the time that its event tells, at the most: clocks differ.
const SKEW: Duration = Duration::from_secs(60);

/// Ends when the ledger in the process is complete; keeps the one in Redis for ever.
pub(super) async fn rebuild(handle: &Handle, bus: &Bus) {
    while !handle.shared().gate.freshness.is_ready() {
        sleep(LOOK_EVERY).await;
    }
    match &handle.shared().ledger {
        Place::Process(ledger) => {
            let mut restoring = Restoring::new(handle.shared().clock.now());
            while let Err(error) = recount(handle, ledger, bus, &mut restoring).await {
                tracing::warn!(%error, "what was spent under strict limits cannot be read back; trying again");
                sleep(PAUSE).await;
            }
            ledger.finish(restoring);
        }
        Place::Redis(ledger) => {
            let known = Known {
                past: &|| past(handle, bus).boxed(),
                clearing: &|| handle.cleared(),
            };
            match ledger.keep(&known).await {}
        }
    }
}

/// Takes in to `restoring`, which is one for all tries: the ledger knows what came in by a try that failed, and leaves it
/// out of the next.
async fn recount(
    handle: &Handle,
    ledger: &ProcessLedger,
    bus: &Bus,
    restoring: &mut Restoring,
) -> Result<(), BusError> {
    let now = handle.shared().clock.now();
    for clearing in handle.cleared() {
        ledger.note_cleared(&clearing);
    }
    read_back(handle, bus, now, |spent, accounts| {
        ledger.restore(restoring, spent.id, spent.at, accounts.lines);
    })
    .await
}

/// All that was spent and may count still, in the order of time.
async fn past(handle: &Handle, bus: &Bus) -> Result<Vec<Past>, BusError> {
    let now = handle.shared().clock.now();
    let mut all = Vec::new();
    read_back(handle, bus, now, |spent, mut accounts| {
        let (id, at) = (spent.id, spent.at);
        let counts = |line: &Line| line.rule.reaches(at, line.zone, now);
        let kept: Vec<bool> = accounts.lines.iter().map(counts).collect();
        let mut keep = kept.iter();
        accounts.lines.retain(|_| keep.next() == Some(&true));
        let mut keep = kept.iter();
        accounts.names.retain(|_| keep.next() == Some(&true));
        all.push(Past { id, at, accounts });
    })
    .await?;
    all.sort_by_key(|past| past.at);
    Ok(all)
}

/// Reads all usage that strict limits may still count at `now`, and hands on the events that settle reservations.
async fn read_back(
    handle: &Handle,
    bus: &Bus,
    now: Timestamp,
    mut take: impl FnMut(&Spent, Accounts),
) -> Result<(), BusError> {
    let gate = &handle.shared().gate;
    let Some(from) = gate.strict_reaches_to(&gate.view(now), now) else {
        return Ok(());
    };
    let log = bus.inspect().await?;
    let mut settled = 0;
    if let Some(mut reader) = reader(&log, from).await? {
        loop {
            let records = reader.next().await?;
            if records.is_empty() {
                break;
            }
            for (_, record) in records {
                if let Some(spent) = record.value.as_deref().and_then(wire::spent) {
                    take(&spent, handle.accounts_of(&gate.view(now), &spent.ask, now));
                    settled += 1;
                }
            }
        }
    }
    tracing::info!(%from, settled, "what was spent under strict limits is read back");
    Ok(())
}

/// Of all usage since `from`.
async fn reader(log: &Inspector, from: Timestamp) -> Result<Option<RawReader>, BusError> {
    let name = topic::USAGE.name();
    let topics = log.topics(&[name]).await?;
    let Some(usage) = topics.first() else {
        return Ok(None);
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
    Ok(Some(reader))
}
