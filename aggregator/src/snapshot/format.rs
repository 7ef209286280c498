//! The bytes of a snapshot: a header (magic, version of the layout, checksum and length of the rest), then the state in
//! `postcard`.

use std::io;

use bus::Partition;
use schemas::orders::{Order, Orders};
use schemas::policy::Policy;
use schemas::record::{self, OrderError, PolicyError, PolicyVersion};
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::engine::{Engine, Settings, ShardId, State};

const MAGIC: [u8; 8] = *b"WEIRSNAP";
/// Of the layout: any change of what is encoded makes it another one.
const VERSION: u32 = 6;
pub(super) const HEADER_BYTES: usize = MAGIC.len() + 4 + 4 + 8;

/// Why one snapshot is not used.
#[derive(Debug, Error)]
pub(super) enum Damage {
    #[error("it cannot be read: {0}")]
    Io(#[from] io::Error),
    #[error("it is no snapshot, or only the beginning of one")]
    Header,
    #[error("its layout is version {0}, and this program reads version {VERSION}")]
    Version(u32),
    #[error("its checksum does not fit")]
    Checksum,
    #[error("its contents do not fit: {0}")]
    Contents(#[from] postcard::Error),
    #[error("its policy cannot be obeyed: {0}")]
    Policy(#[from] PolicyError),
    #[error(transparent)]
    Order(#[from] OrderError),
    #[error("it is of another partition, or of a topic with another number of them")]
    Foreign,
}

#[derive(Serialize)]
struct Saved<'a> {
    topic: &'a str,
    partition: i32,
    partitions: i32,
    /// Absent before the first policy.
    policy: Option<PolicyVersion>,
    orders: Vec<record::Order>,
    state: &'a State,
}

#[derive(Deserialize)]
struct Loaded {
    topic: String,
    partition: i32,
    partitions: i32,
    policy: Option<PolicyVersion>,
    orders: Vec<record::Order>,
    state: State,
}

/// The bytes of a snapshot of `engine`.
pub(crate) fn encode(partition: Partition, engine: &Engine) -> Result<Vec<u8>, postcard::Error> {
    let policy = engine.policy();
    let saved = Saved {
        topic: partition.topic,
        partition: partition.index,
        partitions: engine.shard().partitions,
        policy: (policy.version != 0).then(|| PolicyVersion::from(policy)),
        orders: engine
            .orders()
            .into_iter()
            .map(record::Order::from)
            .collect(),
        state: engine.state(),
    };
    let mut bytes = postcard::to_extend(&saved, vec![0; HEADER_BYTES])?;
    let body = &bytes[HEADER_BYTES..];
    let (checksum, length) = (crc32c::crc32c(body), body.len() as u64);
    bytes[..8].copy_from_slice(&MAGIC);
    bytes[8..12].copy_from_slice(&VERSION.to_le_bytes());
    bytes[12..16].copy_from_slice(&checksum.to_le_bytes());
    bytes[16..24].copy_from_slice(&length.to_le_bytes());
    Ok(bytes)
}

/// The engine of a shard as it was when `bytes` were made of it.
pub(super) fn decode(
    bytes: &[u8],
    partition: Partition,
    shard: ShardId,
    settings: Settings,
) -> Result<Engine, Damage> {
    let (header, body) = bytes.split_at_checked(HEADER_BYTES).ok_or(Damage::Header)?;
    let word = |at: usize| u32::from_le_bytes([0, 1, 2, 3].map(|i| header[at + i]));
    let length = u64::from(word(16)) | u64::from(word(20)) << 32;
    if header[..8] != MAGIC || length != body.len() as u64 {
        return Err(Damage::Header);
    }
    if word(8) != VERSION {
        return Err(Damage::Version(word(8)));
    }
    if word(12) != crc32c::crc32c(body) {
        return Err(Damage::Checksum);
    }
    let loaded: Loaded = postcard::from_bytes(body)?;
    let here = (partition.topic, partition.index, shard.partitions);
    if (loaded.topic.as_str(), loaded.partition, loaded.partitions) != here {
        return Err(Damage::Foreign);
    }
    let policy = match &loaded.policy {
        Some(version) => Policy::try_from(version)?,
        None => Policy::default(),
    };
    let orders = loaded.orders.iter().map(Order::try_from);
    let orders: Orders = orders.collect::<Result<_, _>>()?;
    Ok(Engine::restore(
        shard,
        settings,
        (policy, orders),
        loaded.state,
    ))
}
