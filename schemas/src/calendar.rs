//! Days, weeks and months in a time zone, with the length that the zone gives them: days of 23 and 25 hours where
//! clocks change. A midnight that clocks skip begins at the moment of the change, one that comes twice begins the
//! first time.

use chrono::{DateTime, Datelike, Days, Months, NaiveDate, NaiveTime, TimeZone};
use chrono_tz::Tz;

use crate::policy::Period;
use crate::time::Timestamp;

/// The period that holds `at`: its start, and the start of the next. All of time for an instant beyond the years
/// that a calendar can show.
#[must_use]
pub fn bounds(period: Period, zone: Tz, at: Timestamp) -> (Timestamp, Timestamp) {
    bounds_in_range(period, zone, at).unwrap_or((Timestamp::MIN, Timestamp::MAX))
}

fn bounds_in_range(period: Period, zone: Tz, at: Timestamp) -> Option<(Timestamp, Timestamp)> {
    let date = at.to_utc()?.with_timezone(&zone).date_naive();
    let mut first = first_day(period, date)?;
    let mut start = start_of(zone, first)?;
    // Where clocks go back over midnight, an evening hour comes once more after the next day has begun: it belongs
    // to that next day, since days do not overlap.
    loop {
        let next = next_first_day(period, first)?;
        let end = start_of(zone, next)?;
        if at < end {
            return Some((start, end));
        }
        (first, start) = (next, end);
    }
}

fn first_day(period: Period, date: NaiveDate) -> Option<NaiveDate> {
    match period {
        Period::Day => Some(date),
        Period::Week => days_before(date, date.weekday().num_days_from_monday()),
        Period::WeekFromSunday => days_before(date, date.weekday().num_days_from_sunday()),
        Period::Month => date.with_day(1),
    }
}

fn days_before(date: NaiveDate, days: u32) -> Option<NaiveDate> {
    date.checked_sub_days(Days::new(days.into()))
}

fn next_first_day(period: Period, first: NaiveDate) -> Option<NaiveDate> {
    match period {
        Period::Day => first.checked_add_days(Days::new(1)),
        Period::Week | Period::WeekFromSunday => first.checked_add_days(Days::new(7)),
        Period::Month => first.checked_add_months(Months::new(1)),
    }
}

/// The first instant of `date` in `zone`.
fn start_of(zone: Tz, date: NaiveDate) -> Option<Timestamp> {
    let midnight = date.and_time(NaiveTime::MIN);
    let start = match zone.from_local_datetime(&midnight).earliest() {
        Some(start) => start.timestamp(),
        None => end_of_gap(zone, date)?,
    };
    Some(Timestamp::from_seconds(start))
}

/// The second at which clocks of `zone` jump over the midnight that begins `date`, found by halving the days around
/// it: in that time clocks only jump forward.
fn end_of_gap(zone: Tz, date: NaiveDate) -> Option<i64> {
    const REACH_SECONDS: i64 = 26 * 3_600;
    let midnight = date.and_time(NaiveTime::MIN);
    let reads_before = |second: i64| {
        let utc = DateTime::from_timestamp(second, 0)?;
        Some(utc.with_timezone(&zone).naive_local() < midnight)
    };
    let middle = midnight.and_utc().timestamp();
    let (mut before, mut after) = (middle - REACH_SECONDS, middle + REACH_SECONDS);
    while before + 1 < after {
        let half = before + (after - before) / 2;
        if reads_before(half)? {
            before = half;
        } else {
            after = half;
        }
    }
    Some(after)
}

#[cfg(test)]
mod table;
#[cfg(test)]
mod tests {
    use super::*;

    /// `at` lies in the period from `start` of `hours` hours.
    #[track_caller]
    fn check(zone: &str, period: Period, at: &str, start: &str, hours: i64) {
        let at = Timestamp::parse(at).unwrap();
        let (from, to) = bounds(period, zone.parse().unwrap(), at);
        assert_eq!(from.to_string(), start);
        assert_eq!((to.as_micros() - from.as_micros()) / 3_600_000_000, hours);
        assert!(from <= at && at < to);
    }

    #[test]
    fn days_have_the_length_their_zone_gives_them() {
        use Period::Day;
        check(
            "UTC",
            Day,
            "2023-11-16T18:17:03.979960Z",
            "2023-11-16T00:00:00Z",
            24,
        );
        check(
            "Europe/Berlin",
            Day,
            "2023-03-26T12:00:00Z",
            "2023-03-25T23:00:00Z",
            23,
        );
        check(
            "Europe/Berlin",
            Day,
            "2023-10-29T12:00:00Z",
            "2023-10-28T22:00:00Z",
            25,
        );
        check(
            "America/New_York",
            Day,
            "2024-03-10T05:00:00Z",
            "2024-03-10T05:00:00Z",
            23,
        );
        check(
            "America/New_York",
            Day,
            "2024-03-10T04:59:59.999999Z",
            "2024-03-09T05:00:00Z",
            24,
        );
        check(
            "Asia/Kolkata",
            Day,
            "2024-01-01T18:30:00Z",
            "2024-01-01T18:30:00Z",
            24,
        );
    }

    #[test]
    fn a_midnight_that_is_skipped_begins_at_the_jump() {
        use Period::Day;
        check(
            "America/Sao_Paulo",
            Day,
            "2018-11-04T12:00:00Z",
            "2018-11-04T03:00:00Z",
            23,
        );
        check(
            "Africa/Cairo",
            Day,
            "2023-04-28T12:00:00Z",
            "2023-04-27T22:00:00Z",
            23,
        );
        check(
            "Pacific/Apia",
            Day,
            "2011-12-30T09:59:59Z",
            "2011-12-29T10:00:00Z",
            24,
        );
        check(
            "Pacific/Apia",
            Day,
            "2011-12-30T10:00:00Z",
            "2011-12-30T10:00:00Z",
            24,
        );
    }

    #[test]
    fn an_evening_that_comes_twice_belongs_to_one_day() {
        use Period::Day;
        check(
            "America/Havana",
            Day,
            "2023-11-05T04:30:00Z",
            "2023-11-05T04:00:00Z",
            25,
        );
        check(
            "America/Havana",
            Day,
            "2023-11-05T05:30:00Z",
            "2023-11-05T04:00:00Z",
            25,
        );
        check(
            "America/Sao_Paulo",
            Day,
            "2018-02-18T02:30:00Z",
            "2018-02-17T02:00:00Z",
            25,
        );
        check(
            "America/St_Johns",
            Day,
            "2008-11-02T02:30:59Z",
            "2008-11-02T02:30:00Z",
            25,
        );
        check(
            "America/St_Johns",
            Day,
            "2008-11-02T02:40:00Z",
            "2008-11-02T02:30:00Z",
            25,
        );
    }

    #[test]
    fn weeks_begin_on_their_day_and_months_on_their_first() {
        check(
            "Europe/Berlin",
            Period::Week,
            "2023-03-26T12:00:00Z",
            "2023-03-19T23:00:00Z",
            167,
        );
        check(
            "UTC",
            Period::Week,
            "2024-01-01T00:00:00Z",
            "2024-01-01T00:00:00Z",
            168,
        );
        // The same Sunday as above, which ends one week and begins the other.
        check(
            "Europe/Berlin",
            Period::WeekFromSunday,
            "2023-03-26T12:00:00Z",
            "2023-03-25T23:00:00Z",
            167,
        );
        check(
            "UTC",
            Period::WeekFromSunday,
            "2024-01-06T23:59:59.999999Z",
            "2023-12-31T00:00:00Z",
            168,
        );
        check(
            "UTC",
            Period::Month,
            "2024-02-29T23:59:59Z",
            "2024-02-01T00:00:00Z",
            29 * 24,
        );
        check(
            "Europe/Berlin",
            Period::Month,
            "2023-03-01T00:00:00Z",
            "2023-02-28T23:00:00Z",
            743,
        );
        check(
            "Australia/Lord_Howe",
            Period::Month,
            "2023-04-05T00:00:00Z",
            "2023-03-31T13:00:00Z",
            720,
        );
    }

    #[test]
    fn an_instant_beyond_all_calendars_has_a_period_too() {
        let all = (Timestamp::MIN, Timestamp::MAX);
        assert_eq!(bounds(Period::Day, Tz::UTC, Timestamp::MAX), all);
        assert_eq!(bounds(Period::Month, Tz::UTC, Timestamp::MIN), all);
    }

    /// `at` lies in the period from `first` to `next`.
    #[track_caller]
    fn check_bounds(period: Period, zone: &str, at: &str, first: &str, next: &str) {
        let at = Timestamp::parse(at).unwrap();
        let (start, end) = bounds(period, zone.parse().unwrap(), at);
        assert_eq!([start.to_string(), end.to_string()], [first, next]);
    }

    #[test]
    #[rustfmt::skip]
    fn periods_end_where_the_next_begin() {
        use Period::{Day, Month, Week};
        check_bounds(Day, "Asia/Kathmandu", "2024-02-29T18:14:00Z", "2024-02-28T18:15:00Z", "2024-02-29T18:15:00Z");
        // Days of 23 and of 25 hours.
        check_bounds(Day, "Europe/Berlin", "2024-03-31T12:00:00Z", "2024-03-30T23:00:00Z", "2024-03-31T22:00:00Z");
        check_bounds(Day, "Europe/Berlin", "2024-10-27T12:00:00Z", "2024-10-26T22:00:00Z", "2024-10-27T23:00:00Z");
        // Clocks that go forward over midnight: the day begins at 01:00.
        check_bounds(Day, "Asia/Beirut", "2024-03-31T12:00:00Z", "2024-03-30T22:00:00Z", "2024-03-31T21:00:00Z");
        // Clocks that go back over midnight: the first of the two.
        check_bounds(Day, "America/Havana", "2024-11-03T12:00:00Z", "2024-11-03T04:00:00Z", "2024-11-04T05:00:00Z");
        // A day that was left out.
        check_bounds(Day, "Pacific/Apia", "2011-12-30T09:00:00Z", "2011-12-29T10:00:00Z", "2011-12-30T10:00:00Z");
        check_bounds(Week, "UTC", "2024-12-31T10:00:00Z", "2024-12-30T00:00:00Z", "2025-01-06T00:00:00Z");
        check_bounds(Week, "UTC", "2025-01-05T23:00:00Z", "2024-12-30T00:00:00Z", "2025-01-06T00:00:00Z");
        check_bounds(Month, "America/New_York", "2024-03-01T04:59:59Z", "2024-02-01T05:00:00Z", "2024-03-01T05:00:00Z");
        check_bounds(Month, "UTC", "2024-12-31T23:59:59Z", "2024-12-01T00:00:00Z", "2025-01-01T00:00:00Z");
    }
}
