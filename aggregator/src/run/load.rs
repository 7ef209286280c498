//! Taking partitions over where their snapshots end.

use std::sync::Arc;
use std::time::Duration;

use bus::Partition;
use futures_util::future::BoxFuture;
use futures_util::{FutureExt as _, StreamExt as _, TryStreamExt as _, stream};
use tokio::sync::OnceCell;

use super::{CountError, Parts};
use crate::engine::{Engine, ShardId};
use crate::past::Past;
use crate::wire;

/// Snapshots that are read at the same time: as many as there are processors, and a few where these wait for a disk or
/// a server. Each is held in memory twice, as bytes and as what they say.
const LOADS_MIN: usize = 4;

/// From one try to the next while the server of a bucket is away.
const AWAY_PAUSE: Duration = Duration::from_secs(1);

/// The engines of partitions, each as its newest snapshot has it, or at the beginning of its log. Waits for a server
/// that is away: to begin without its snapshots would be to count wrongly.
pub(super) async fn load(
    parts: &Parts,
    partitions: &[Partition],
) -> Result<Vec<(Partition, Engine)>, CountError> {
    let mut told = String::new();
    loop {
        match load_all(parts, partitions).await {
            Err(CountError::Snapshot(error)) if error.passes() => {
                let error = error.to_string();
                // The same once.
                if error != told {
                    tracing::warn!(error, "partitions wait for their snapshots");
                    told = error;
                }
                tokio::time::sleep(AWAY_PAUSE).await;
            }
            loaded => return loaded,
        }
    }
}

async fn load_all(
    parts: &Parts,
    partitions: &[Partition],
) -> Result<Vec<(Partition, Engine)>, CountError> {
    let processors = std::thread::available_parallelism().map_or(1, usize::from);
    let past = OnceCell::new();
    let load = |partition: &Partition| load_one(parts, *partition, &past).boxed();
    let loads: Vec<BoxFuture<'_, _>> = partitions.iter().map(load).collect();
    let loads = stream::iter(loads).buffer_unordered(processors.max(LOADS_MIN));
    loads.try_collect().await
}

/// `past`: read once, when the first partition without a snapshot needs it.
async fn load_one(
    parts: &Parts,
    partition: Partition,
    past: &OnceCell<Arc<Past>>,
) -> Result<(Partition, Engine), CountError> {
    let spec = wire::TOPICS
        .into_iter()
        .find(|spec| spec.name == partition.topic);
    let kind = wire::kind_of(partition.topic);
    let (spec, kind) = spec
        .zip(kind)
        .expect("only topics that are counted are read");
    let shard = ShardId {
        kind,
        partition: partition.index,
        partitions: parts.bus.partitions(spec),
    };
    let settings = parts.config.settings();
    let loaded = parts.snapshots.load(partition, shard, settings).await?;
    let engine = match loaded {
        Some(engine) => engine,
        None => {
            let read = async || wire::past(&parts.bus).await.map(Arc::new);
            let past = past.get_or_try_init(read).await?;
            Engine::begin(shard, settings, Arc::clone(past))
        }
    };
    Ok((partition, engine))
}
