//! A compacted topic from its start to now, and on.

mod reader;

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

use rdkafka::ClientConfig;
use schemas::codec::Wire;
use tokio::sync::mpsc;

use crate::access::Access;
use crate::error::BusError;
use crate::metrics::Metrics;
use reader::Reader;

/// Batches that a follower may be behind its thread; when they are full the thread waits.
const BATCHES_MAX: usize = 16;

/// What a follower sees, partition by partition in the log's order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Followed<V> {
    /// `value` stands under `key` from here on.
    Put {
        key: String,
        value: V,
        partition: i32,
        offset: i64,
    },
    /// Nothing stands under `key` any more.
    Lifted {
        key: String,
        partition: i32,
        offset: i64,
    },
    /// A record that is none of this topic's; what stood under its key still does.
    Unreadable {
        key: String,
        partition: i32,
        offset: i64,
        reason: String,
    },
    /// Everything that the topic held when following began has been seen. Once.
    CaughtUp,
    /// The log has said nothing for a while: what was seen may be out of date. Only after `CaughtUp`.
    Lost,
    /// The log answers again; what was missed comes now.
    Back,
}

/// Follows one topic on a thread of its own. Dropping it ends the thread.
pub struct Follower<V> {
    feed: mpsc::Receiver<Result<Vec<Followed<V>>, BusError>>,
    waiting: VecDeque<Followed<V>>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

/// What is followed.
pub(crate) struct Following {
    pub(crate) topic: &'static str,
    pub(crate) partitions: i32,
    pub(crate) lost_after: std::time::Duration,
    pub(crate) access: Arc<Access>,
}

impl<V: Wire> Follower<V> {
    pub(crate) fn start(
        following: Following,
        client: &ClientConfig,
        metrics: &Metrics,
    ) -> Result<Self, BusError> {
        let (sender, feed) = mpsc::channel(BATCHES_MAX);
        let stop = Arc::new(AtomicBool::new(false));
        let name = format!("follow-{}", following.topic);
        let reader = Reader::new(following, client, metrics, sender, Arc::clone(&stop))?;
        let thread = std::thread::Builder::new()
            .name(name)
            .spawn(move || reader.run())
            .map_err(|error| BusError::Fatal(format!("cannot start a thread: {error}")))?;
        Ok(Self {
            feed,
            waiting: VecDeque::new(),
            stop,
            thread: Some(thread),
        })
    }

    /// The next thing seen. May be dropped while waiting without losing anything.
    ///
    /// # Errors
    /// When following cannot go on. Later calls give [`BusError::Closed`].
    pub async fn next(&mut self) -> Result<Followed<V>, BusError> {
        loop {
            if let Some(followed) = self.waiting.pop_front() {
                return Ok(followed);
            }
            match self.feed.recv().await {
                Some(batch) => self.waiting = batch?.into(),
                None => return Err(BusError::Closed),
            }
        }
    }
}

impl<V> Drop for Follower<V> {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Release);
        // The thread may wait for room: with the channel closed it stops waiting.
        self.feed.close();
        while self.feed.try_recv().is_ok() {}
        if self
            .thread
            .take()
            .is_some_and(|thread| thread.join().is_err())
        {
            tracing::error!("a thread that followed a topic panicked");
        }
    }
}
