//! Days, weeks and months as a tenant's time zone has them, with days of 23 and 25 hours.

use chrono::{DateTime, Datelike, Days, Months, NaiveDate, NaiveTime, TimeDelta, TimeZone, Utc};
use chrono_tz::Tz;
use schemas::policy::Period;
use schemas::time::Timestamp;

/// The first and the first later instant of the period that holds `at`. A time that no calendar can show (262,000
/// years away) has a period without end.
#[must_use]
pub fn span(period: Period, zone: Tz, at: Timestamp) -> (Timestamp, Timestamp) {
    local_span(period, zone, at).unwrap_or((Timestamp::MIN, Timestamp::MAX))
}

fn local_span(period: Period, zone: Tz, at: Timestamp) -> Option<(Timestamp, Timestamp)> {
    let today = at.to_utc()?.with_timezone(&zone).date_naive();
    let (first, next) = match period {
        Period::Day => (today, today.succ_opt()?),
        Period::Week => {
            let days_since_monday = today.weekday().num_days_from_monday();
            let monday = today.checked_sub_days(Days::new(days_since_monday.into()))?;
            (monday, monday.checked_add_days(Days::new(7))?)
        }
        Period::Month => {
            let first = today.with_day(1)?;
            (first, first.checked_add_months(Months::new(1))?)
        }
    };
    Some((midnight(zone, first)?, midnight(zone, next)?))
}

/// The first instant of `day`. Where clocks go forward over midnight that is the first one after the gap; a zone
/// that moved over the date line has left out a whole day.
fn midnight(zone: Tz, day: NaiveDate) -> Option<Timestamp> {
    let midnight = day.and_time(NaiveTime::MIN);
    let quarters = (0..=4 * 26_i64).map(|n| midnight + TimeDelta::minutes(15 * n));
    let mut existing = quarters.filter_map(|local| zone.from_local_datetime(&local).earliest());
    let first: DateTime<Utc> = existing.next()?.with_timezone(&Utc);
    Some(Timestamp::from_micros(first.timestamp_micros()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(period: Period, zone: &str, at: &str, first: &str, next: &str) {
        let at = Timestamp::parse(at).unwrap();
        let (start, end) = span(period, zone.parse().unwrap(), at);
        assert_eq!(start.to_string(), first);
        assert_eq!(end.to_string(), next);
        assert!(start <= at && at < end);
    }

    #[test]
    #[rustfmt::skip]
    fn follows_the_zone() {
        use Period::*;
        check(Day, "UTC", "2024-02-29T23:59:59.999999Z", "2024-02-29T00:00:00Z", "2024-03-01T00:00:00Z");
        check(Day, "UTC", "2024-03-01T00:00:00Z", "2024-03-01T00:00:00Z", "2024-03-02T00:00:00Z");
        check(Day, "Asia/Kathmandu", "2024-02-29T18:14:00Z", "2024-02-28T18:15:00Z", "2024-02-29T18:15:00Z");
        // Days of 23 and of 25 hours.
        check(Day, "Europe/Berlin", "2024-03-31T12:00:00Z", "2024-03-30T23:00:00Z", "2024-03-31T22:00:00Z");
        check(Day, "Europe/Berlin", "2024-10-27T12:00:00Z", "2024-10-26T22:00:00Z", "2024-10-27T23:00:00Z");
        // Clocks that go forward over midnight: the day begins at 01:00.
        check(Day, "Asia/Beirut", "2024-03-31T12:00:00Z", "2024-03-30T22:00:00Z", "2024-03-31T21:00:00Z");
        // Clocks that go back over midnight: the first of the two.
        check(Day, "America/Havana", "2024-11-03T12:00:00Z", "2024-11-03T04:00:00Z", "2024-11-04T05:00:00Z");
        // A day that was left out.
        check(Day, "Pacific/Apia", "2011-12-30T09:00:00Z", "2011-12-29T10:00:00Z", "2011-12-30T10:00:00Z");
        check(Week, "UTC", "2024-12-31T10:00:00Z", "2024-12-30T00:00:00Z", "2025-01-06T00:00:00Z");
        check(Week, "UTC", "2025-01-05T23:00:00Z", "2024-12-30T00:00:00Z", "2025-01-06T00:00:00Z");
        check(Month, "America/New_York", "2024-03-01T04:59:59Z", "2024-02-01T05:00:00Z", "2024-03-01T05:00:00Z");
        check(Month, "UTC", "2024-12-31T23:59:59Z", "2024-12-01T00:00:00Z", "2025-01-01T00:00:00Z");
    }

    #[test]
    fn a_time_beyond_all_calendars_has_a_period_without_end() {
        let (start, end) = span(Period::Day, Tz::UTC, Timestamp::MAX);
        assert_eq!((start, end), (Timestamp::MIN, Timestamp::MAX));
    }
}
