//! What the owner of a broker decides: where it keeps its data, where it listens, and its bounds.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

/// When an acknowledged write is forced from the page cache to the disk.
///
/// All three survive the death of the process (`kill -9`): a write is in the page cache before it
/// is acknowledged. They differ in what a power cut or a crash of the machine may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fsync {
    /// Before every acknowledgement; readers see a record only once it is on the disk.
    Always,
    /// In the background, at most this long after the write.
    Every(Duration),
    /// When the kernel likes, and at a clean shutdown.
    Never,
}

/// Everything a broker needs to know before it opens. All bounds are hard.
#[derive(Clone, Debug)]
pub struct Config {
    /// The folder that holds everything; created if it is missing, locked while open.
    pub data_dir: PathBuf,
    /// A loopback address; port 0 takes a free one (see [`Broker::address`](crate::Broker::address)).
    pub listen: SocketAddr,
    /// When writes reach the disk.
    pub fsync: Fsync,
    /// How often retention and compaction look for work.
    pub upkeep_every: Duration,
    /// How long the first member of an empty group waits for others to join with it.
    pub join_delay: Duration,
    /// A connection that sends nothing for this long is closed.
    pub connection_idle_max: Duration,
    /// More connections than this are closed as they arrive.
    pub connections_max: usize,
    /// A larger request closes its connection.
    pub request_bytes_max: usize,
    /// Requests read and not yet answered, all connections together; readers wait beyond it.
    pub in_flight_bytes_max: usize,
    /// One fetch answer carries no more, whatever its sender asks for (but always one batch).
    pub fetch_bytes_max: usize,
    /// Segment files that are kept open, beside one for each connection that is being answered.
    pub files_max: usize,
    /// Partitions of all topics together; a topic beyond it is refused.
    pub partitions_max: usize,
    /// Consumer groups with members or committed offsets; a group beyond it is refused.
    pub groups_max: usize,
}

impl Config {
    /// The defaults for a log in `data_dir`: a free loopback port, and a sync every 50 ms.
    pub fn new(data_dir: impl Into<PathBuf>) -> Config {
        Config {
            data_dir: data_dir.into(),
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
            fsync: Fsync::Every(Duration::from_millis(50)),
            upkeep_every: Duration::from_secs(5),
            join_delay: Duration::from_millis(50),
            connection_idle_max: Duration::from_secs(600),
            connections_max: 1024,
            request_bytes_max: 64 << 20,
            in_flight_bytes_max: 256 << 20,
            fetch_bytes_max: 64 << 20,
            files_max: 256,
            partitions_max: 10_000,
            groups_max: 10_000,
        }
    }
}
