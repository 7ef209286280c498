//! Mirrors standing decisions to Redis, for gateways that read neither the log nor HTTP.
//!
//! Under `weir:decision:<subject>` stands a decision's JSON. The key expires when the decision ends, and is deleted
//! when it is lifted. Changes are told by subject and looked up when their turn comes, so that a subject that changes
//! often is written once, and the newest wins. After every (re)connection everything is written anew, and what
//! stands no more is deleted. The mirror is never asked by this gateway, and its absence disturbs nothing.

use std::collections::HashSet;
use std::time::Duration;

use ::redis::aio::MultiplexedConnection;
use ::redis::{AsyncConnectionConfig, Client, Pipeline, RedisError};
use parking_lot::Mutex;
use schemas::subject::Subject;
use schemas::time::Timestamp;
use tokio::sync::Notify;

use crate::cache;
use crate::check::Feed;
use crate::handle::Handle;
use crate::json;

const PREFIX: &str = "weir:decision:";

/// Commands that travel together.
const BATCH_MAX: usize = 256;
/// Changed subjects that are kept apart; when there are more, everything is written anew.
const CHANGED_MAX: usize = 65_536;
const CONNECT_WITHIN: Duration = Duration::from_secs(5);
const ANSWER_WITHIN: Duration = Duration::from_secs(5);
const PAUSE_MIN: Duration = Duration::from_millis(200);
const PAUSE_MAX: Duration = Duration::from_secs(10);

/// Subjects whose decisions changed since they were last written.
#[derive(Default)]
pub(crate) struct Changes {
    waiting: Mutex<Waiting>,
    some: Notify,
}

#[derive(Default)]
struct Waiting {
    subjects: HashSet<Subject>,
    /// Too many changed to tell: write everything.
    all: bool,
}

/// What is to be written next.
#[derive(Debug, PartialEq, Eq)]
enum Next {
    All,
    Some(Vec<Subject>),
}

impl Changes {
    pub(crate) fn note(&self, subject: Subject) {
        let mut waiting = self.waiting.lock();
        if waiting.all {
            return;
        }
        waiting.subjects.insert(subject);
        if CHANGED_MAX < waiting.subjects.len() {
            waiting.all = true;
            waiting.subjects = HashSet::new();
        }
        self.some.notify_one();
    }

    /// Everything is to be written.
    pub(crate) fn note_all(&self) {
        let mut waiting = self.waiting.lock();
        waiting.all = true;
        waiting.subjects = HashSet::new();
        self.some.notify_one();
    }

    async fn next(&self) -> Next {
        loop {
            if let Some(next) = self.take() {
                return next;
            }
            self.some.notified().await;
        }
    }

    fn take(&self) -> Option<Next> {
        let mut waiting = self.waiting.lock();
        if waiting.all {
            waiting.all = false;
            return Some(Next::All);
        }
        let batch: Vec<Subject> = waiting.subjects.iter().take(BATCH_MAX).cloned().collect();
        for subject in &batch {
            waiting.subjects.remove(subject);
        }
        (!batch.is_empty()).then_some(Next::Some(batch))
    }
}

/// Keeps Redis in step until it is dropped.
pub(crate) struct Mirror {
    client: Client,
    handle: Handle,
}

impl Mirror {
    /// # Errors
    /// When `url` is no address of a Redis server. Nothing is connected yet.
    pub(crate) fn new(url: &str, handle: Handle) -> Result<Self, RedisError> {
        Ok(Self {
            client: Client::open(url)?,
            handle,
        })
    }

    /// Never returns: what fails is tried again.
    pub(crate) async fn run(self, changes: &Changes) {
        let mut pause = PAUSE_MIN;
        loop {
            let Err(error) = self.keep_up(changes, &mut pause).await;
            self.handle.shared().metrics.mirror_failures.inc();
            tracing::warn!(%error, "redis is not up to date; trying again");
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(PAUSE_MAX);
        }
    }

    async fn keep_up(
        &self,
        changes: &Changes,
        pause: &mut Duration,
    ) -> Result<std::convert::Infallible, RedisError> {
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(CONNECT_WITHIN))
            .set_response_timeout(Some(ANSWER_WITHIN));
        let mut connection = self
            .client
            .get_multiplexed_async_connection_with_config(&config)
            .await?;
        // What was taken and could not be written before is written now as well.
        changes.note_all();
        loop {
            match changes.next().await {
                Next::All => self.write_all(&mut connection).await?,
                Next::Some(subjects) => self.write(&mut connection, &subjects).await?,
            }
            *pause = PAUSE_MIN;
        }
    }

    async fn write(
        &self,
        connection: &mut MultiplexedConnection,
        subjects: &[Subject],
    ) -> Result<(), RedisError> {
        let gate = &self.handle.shared().gate;
        let now = self.handle.shared().clock.now();
        let mut pipeline = ::redis::pipe();
        for subject in subjects {
            match gate.standing(subject, now) {
                Some(standing) => put(&mut pipeline, &standing, now),
                None => {
                    pipeline.del(name(subject)).ignore();
                }
            }
        }
        pipeline.query_async(connection).await
    }

    /// Until the decisions were read to their end nothing is deleted, since it may stand.
    async fn write_all(&self, connection: &mut MultiplexedConnection) -> Result<(), RedisError> {
        if self
            .handle
            .shared()
            .gate
            .freshness
            .was_read(Feed::Decisions)
        {
            self.delete_ended(connection).await?;
        }
        for shard in 0..cache::SHARDS {
            let standings = self.handle.shared().gate.decisions().all(shard);
            let subjects: Vec<Subject> = standings.iter().map(|s| s.subject.clone()).collect();
            for batch in subjects.chunks(BATCH_MAX) {
                self.write(connection, batch).await?;
            }
        }
        Ok(())
    }

    async fn delete_ended(&self, connection: &mut MultiplexedConnection) -> Result<(), RedisError> {
        let gate = &self.handle.shared().gate;
        let mut cursor = 0_u64;
        loop {
            let (next, names): (u64, Vec<String>) = ::redis::cmd("SCAN")
                .arg(cursor)
                .arg("MATCH")
                .arg(format!("{PREFIX}*"))
                .arg("COUNT")
                .arg(BATCH_MAX)
                .query_async(connection)
                .await?;
            let now = self.handle.shared().clock.now();
            let stands = |name: &str| {
                let subject = name.strip_prefix(PREFIX).map(Subject::parse);
                let subject = subject.and_then(Result::ok);
                subject.is_some_and(|subject| gate.standing(&subject, now).is_some())
            };
            let mut pipeline = ::redis::pipe();
            for name in names.iter().filter(|name| !stands(name)) {
                pipeline.del(name).ignore();
            }
            if !pipeline.is_empty() {
                pipeline.query_async::<()>(connection).await?;
            }
            cursor = next;
            if cursor == 0 {
                return Ok(());
            }
        }
    }
}

fn name(subject: &Subject) -> String {
    format!("{PREFIX}{subject}")
}

fn put(pipeline: &mut Pipeline, standing: &cache::Standing, now: Timestamp) {
    let set = pipeline
        .cmd("SET")
        .arg(name(&standing.subject))
        .arg(json::decision(standing));
    if let Some(until) = standing.until {
        // Rounded up: a gateway must not admit before the end.
        let millis = until.since(now).as_micros().div_ceil(1_000).max(1);
        set.arg("PX").arg(u64::try_from(millis).unwrap_or(u64::MAX));
    }
    set.ignore();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_subject_that_changed_often_is_told_once() {
        let changes = Changes::default();
        for _ in 0..3 {
            changes.note(Subject::tenant("acme"));
        }
        assert_eq!(
            changes.next().await,
            Next::Some(vec![Subject::tenant("acme")])
        );
        assert_eq!(changes.take(), None);
    }

    #[tokio::test]
    async fn too_many_changes_are_told_as_all() {
        let changes = Changes::default();
        for n in 0..=CHANGED_MAX {
            changes.note(Subject::tenant(&n.to_string()));
        }
        assert_eq!(changes.next().await, Next::All);
        assert_eq!(changes.take(), None);
        changes.note(Subject::tenant("acme"));
        assert_eq!(
            changes.next().await,
            Next::Some(vec![Subject::tenant("acme")])
        );
    }
}
