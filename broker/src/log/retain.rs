//! Deleting from the start of a log: by age, by size, or because an administrator says so.

use std::io;

use super::recover::START_FILE;
use super::{PartitionLog, Segment};
use crate::files;

impl PartitionLog {
    /// Makes `offset` (or the end, for -1) the first that can be read. Returns the new start.
    pub(crate) fn delete_before(&mut self, offset: i64) -> io::Result<i64> {
        let end = self.visible_end();
        let to = if offset < 0 { end } else { offset.min(end) };
        if to <= self.start {
            return Ok(self.start);
        }
        if self.save_start(to).is_err() {
            // On a full disk: whole segments need no such note, and make room for it.
            let whole = self.segments.iter().rfind(|s| s.base <= to);
            self.start = whole.map_or(self.start, |s| self.start.max(s.base));
            self.drop_before_start()?;
            self.save_start(to)?;
        }
        self.start = to;
        self.drop_before_start()?;
        Ok(self.start)
    }

    fn save_start(&self, to: i64) -> io::Result<()> {
        files::replace(&self.folder.join(START_FILE), to.to_string().as_bytes())
    }

    /// Starts a new segment if the active one has been open long enough, so that retention and
    /// compaction, which leave the active segment alone, get to its records.
    pub(crate) fn roll_if_due(&mut self, now_ms: i64) -> io::Result<()> {
        let settings = &self.settings;
        let mut age_max = settings.segment_ms;
        if settings.compact {
            age_max = age_max.min(settings.compaction_lag_max_ms);
        }
        let is_due = self.segments.last().is_some_and(|active| {
            let expired = settings.delete && is_expired(active, settings.retention_ms, now_ms);
            active.bytes > 0 && (now_ms - active.created_ms > age_max || expired)
        });
        if is_due { self.roll(now_ms) } else { Ok(()) }
    }

    /// Drops the oldest closed segments that `retention.ms` and `retention.bytes` no longer cover.
    pub(crate) fn retain(&mut self, now_ms: i64) -> io::Result<()> {
        self.producers.forget_idle(now_ms);
        if !self.settings.delete {
            return Ok(());
        }
        let total: u64 = self.segments.iter().map(|s| s.bytes).sum();
        let mut excess = match u64::try_from(self.settings.retention_bytes) {
            Ok(bytes_max) => total.saturating_sub(bytes_max),
            Err(_) => 0,
        };
        for pair in self.segments.windows(2) {
            let (oldest, following) = (&pair[0], &pair[1]);
            let is_excess = excess > 0 && excess >= oldest.bytes;
            if !is_excess && !is_expired(oldest, self.settings.retention_ms, now_ms) {
                break;
            }
            excess = excess.saturating_sub(oldest.bytes);
            self.start = self.start.max(following.base);
        }
        self.drop_before_start()
    }

    fn drop_before_start(&mut self) -> io::Result<()> {
        let kept_from = self.segments.iter().rposition(|s| s.base <= self.start);
        let dropped = kept_from.unwrap_or(0);
        if dropped == 0 {
            return Ok(());
        }
        for _ in 0..dropped {
            self.segments[0].remove()?;
            let removed = self.segments.remove(0);
            self.handles.forget(removed.id);
        }
        files::sync_folder(&self.folder)
    }
}

/// By the newest record's timestamp, as in Kafka.
fn is_expired(segment: &Segment, retention_ms: i64, now_ms: i64) -> bool {
    retention_ms >= 0 && segment.max_timestamp < now_ms - retention_ms
}
