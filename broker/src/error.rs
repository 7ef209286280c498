//! Why a broker did not open, or did not end well.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;

/// Why [`Broker::open`](crate::Broker::open) failed. Nothing is left bound or locked.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The broker has neither TLS nor authentication, so it serves its own machine only.
    #[error(
        "refusing to listen on {address}: this log has no TLS and no authentication, so it serves \
         loopback addresses only; use 127.0.0.1, or a Kafka cluster for several machines"
    )]
    NotLoopback {
        /// The address that was asked for.
        address: SocketAddr,
    },
    /// Usually a port in use.
    #[error("cannot listen on {address}: {source}; choose another port, or 0 for a free one")]
    Bind {
        /// The address that was asked for.
        address: SocketAddr,
        /// What the system said.
        source: io::Error,
    },
    /// The folder cannot be created, read or written.
    #[error("cannot use the data folder {}: {source}; it must be writable by this user", path.display())]
    Folder {
        /// The folder or file in question.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Another broker has the folder open.
    #[error(
        "the data folder {} is held by process {}; stop it, or use another folder",
        path.display(),
        pid.map_or_else(|| "(unknown)".to_owned(), |pid| pid.to_string())
    )]
    Held {
        /// The data folder.
        path: PathBuf,
        /// The holder, as it wrote itself down.
        pid: Option<u32>,
    },
    /// A file is not what this broker writes. A torn end of a log is not damage: it is cut off.
    #[error("{} is damaged: {reason}; restore it from a backup, or move the folder away", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// A segment is damaged where records were safe once. Opening it would give them up, and that
    /// is for a person to decide.
    #[error(
        "{} is damaged at byte {position}: {reason}; restore it from a backup, or, to give those \
         records up, {way_out}",
        path.display()
    )]
    DamagedLog {
        /// The segment file.
        path: PathBuf,
        /// Where the intact part ends.
        position: u64,
        /// What is wrong there.
        reason: String,
        /// What to do to open the log without the records, and which they are.
        way_out: String,
    },
}

impl OpenError {
    pub(crate) fn folder(path: impl Into<PathBuf>, source: io::Error) -> OpenError {
        OpenError::Folder {
            path: path.into(),
            source,
        }
    }
}

/// Why [`Broker::run`](crate::Broker::run) did not end cleanly.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The last sync failed, so what the page cache held may not be on the disk.
    #[error("cannot flush {} at shutdown: {source}", path.display())]
    Flush {
        /// The folder or file that could not be synced.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}
