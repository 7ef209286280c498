//! `weir log`: look at the log on either home, mend what is dead, move it.

use clap::Subcommand;

mod dead;
mod decode;
mod list;
mod offsets;
pub(super) mod place;
mod replay;
pub(super) mod table;
mod tail;
mod transfer;
mod verify;

/// Every command works on the embedded log (--data, whether a `weir up` runs there or not) and on a Kafka cluster
/// (--kafka), unless it says otherwise.
#[derive(Debug, Subcommand)]
pub(super) enum LogCommand {
    /// List topics with what they hold; with names, their partitions
    Ls(list::LsArgs),
    /// Show records decoded, as one JSON object a line
    ///
    /// The newest ones, or all from an offset or a time on. What cannot be decoded is shown as base64 with the reason.
    Tail(tail::TailArgs),
    /// Show how far each consumer group is, and what the counters' snapshots hold
    Offsets(offsets::OffsetsArgs),
    /// Check the log's files in a data folder that no process holds
    ///
    /// Reads everything and changes nothing. Ends with an error when something is wrong that opening the folder would
    /// not mend.
    Verify(verify::VerifyArgs),
    /// List dead records: those that nobody could read, where they came from and why
    Dead(dead::DeadArgs),
    /// Put dead records back where they came from, each once, after the cause is mended
    ///
    /// Key, value and headers are the original ones. A note in `weir.dead.v1` before and after each record keeps any
    /// from being put back twice, also when this is run again or killed in the middle.
    Replay(replay::ReplayArgs),
    /// Copy a Kafka cluster's topics of Weir into a data folder
    ///
    /// The copy is exact: offsets, times and headers are kept, and compared at the end. Stop Weir first. Killed in the
    /// middle, it goes on where it was when run again.
    Import(transfer::ImportArgs),
    /// Copy the log of a data folder to a Kafka cluster
    ///
    /// The copy is exact: offsets, times and headers are kept, and compared at the end. Stop Weir first. Killed in the
    /// middle, it goes on where it was when run again.
    Export(transfer::ExportArgs),
}

impl LogCommand {
    pub(super) async fn run(self) -> anyhow::Result<()> {
        let done = match self {
            Self::Ls(args) => list::ls(args).await,
            Self::Tail(args) => tail::tail(args).await,
            Self::Offsets(args) => offsets::offsets(args).await,
            Self::Verify(args) => verify::verify(args).await,
            Self::Dead(args) => dead::list(args).await,
            Self::Replay(args) => replay::replay(args).await,
            Self::Import(args) => transfer::import(args).await,
            Self::Export(args) => transfer::export(args).await,
        };
        unless_unheard(done)
    }
}

/// What came of a command, unless it ended because whoever read its output had seen enough, `head` for one.
pub(super) fn unless_unheard(done: anyhow::Result<()>) -> anyhow::Result<()> {
    match done {
        Err(error) if is_broken_pipe(&error) => Ok(()),
        done => done,
    }
}

fn is_broken_pipe(error: &anyhow::Error) -> bool {
    let io = error.downcast_ref::<std::io::Error>();
    io.is_some_and(|error| error.kind() == std::io::ErrorKind::BrokenPipe)
}
