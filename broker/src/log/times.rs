//! How far from the present a record's own time may lie.
//!
//! Retention goes by it: a record of the next century would never leave.

use bytes::Bytes;

use super::batch::Header;
use super::records::Records;
use super::{AppendError, LogSettings};

/// A record without a time of its own.
const NO_TIMESTAMP: i64 = -1;

impl LogSettings {
    /// # Errors
    /// If a record is from too far in the past or in the future, or cannot be read to find out.
    pub(super) fn check_times(
        &self,
        header: &Header,
        batch: &Bytes,
        now_ms: i64,
    ) -> Result<(), AppendError> {
        if self.stamp_on_append {
            return Ok(());
        }
        let latest = now_ms.saturating_add(self.timestamp_after_max_ms);
        let earliest = now_ms.saturating_sub(self.timestamp_before_max_ms);
        let fits =
            |timestamp| timestamp == NO_TIMESTAMP || (earliest..=latest).contains(&timestamp);
        let refused = |timestamp| AppendError::Time { timestamp, now_ms };
        if header.max_timestamp > latest {
            return Err(refused(header.max_timestamp));
        }
        // The header tells the newest record only; most topics do not ask for the oldest.
        if self.timestamp_before_max_ms < i64::MAX {
            for record in Records::of(header, batch)? {
                let timestamp = record?.timestamp;
                if !fits(timestamp) {
                    return Err(refused(timestamp));
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::testing::{BASE_TIMESTAMP, batch_of, settings};

    /// Takes a batch of one record, so long after (or before) it, with these bounds.
    #[track_caller]
    fn check(later_ms: i64, before_max_ms: i64, after_max_ms: i64, is_taken: bool) {
        let settings = LogSettings {
            timestamp_before_max_ms: before_max_ms,
            timestamp_after_max_ms: after_max_ms,
            ..settings()
        };
        let batch = Bytes::from(batch_of(&[("a", Some("1"))], -1));
        let header = Header::parse(&batch).unwrap();
        let checked = settings.check_times(&header, &batch, BASE_TIMESTAMP + later_ms);
        assert_eq!(checked.is_ok(), is_taken, "{checked:?}");
        let stamped = LogSettings {
            stamp_on_append: true,
            ..settings
        };
        let now_ms = BASE_TIMESTAMP + later_ms;
        assert!(stamped.check_times(&header, &batch, now_ms).is_ok());
    }

    #[test]
    fn bounds_are_inclusive() {
        check(0, 0, 0, true);
        check(100, 100, 0, true);
        check(101, 100, 0, false);
        check(-100, 0, 100, true);
        check(-101, 0, 100, false);
        check(i64::MAX - BASE_TIMESTAMP, i64::MAX, 0, true);
        check(-BASE_TIMESTAMP, 0, i64::MAX, true);
    }
}
