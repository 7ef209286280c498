//! The few numbers that are read from the client library's statistics, which come once a second.

use std::collections::HashMap;
use std::time::Duration;

use serde::Deserialize;

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Statistics {
    brokers: HashMap<String, Server>,
    topics: HashMap<String, TopicNumbers>,
}

#[derive(Debug, Deserialize)]
struct Server {
    nodeid: i32,
    /// Microseconds since it last said anything; below zero: it never did.
    #[serde(default = "never")]
    rxidle: i64,
}

const fn never() -> i64 {
    -1
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct TopicNumbers {
    /// Also holds the partition -1, which is the library's own.
    partitions: HashMap<i32, PartitionNumbers>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct PartitionNumbers {
    /// The server it is read from, -1 when there is none.
    broker: i32,
    /// Records that wait in this process.
    fetchq_cnt: i64,
    hi_offset: i64,
    /// Where the first transaction begins that is still open: nothing from there on is handed out yet.
    ls_offset: i64,
    /// Where the last report of the partition's end was made.
    eof_offset: i64,
}

impl Statistics {
    pub(crate) fn parse(json: &[u8]) -> Result<Self, serde_json::Error> {
        serde_json::from_slice(json)
    }

    /// The offset after the last record of a partition, if known.
    pub(crate) fn end_offset(&self, topic: &str, partition: i32) -> Option<i64> {
        let numbers = self.topics.get(topic)?.partitions.get(&partition)?;
        (0 <= numbers.hi_offset).then_some(numbers.hi_offset)
    }

    /// Whether everything before `end` was handed out that can be: no record waits, and the end was seen there or later,
    /// or where an open transaction begins.
    pub(crate) fn is_read_to(&self, topic: &str, partition: i32, end: i64) -> bool {
        let numbers = self
            .topics
            .get(topic)
            .and_then(|topic| topic.partitions.get(&partition));
        numbers.is_some_and(|n| {
            let last = end.min(n.ls_offset);
            end <= n.hi_offset && last <= n.eof_offset && n.fetchq_cnt == 0
        })
    }

    /// Whether each of a topic's partitions is read from a server that said something within `within`. One whose
    /// records wait in this process counts as well: nothing more is asked for meanwhile.
    pub(crate) fn is_fresh(&self, topic: &str, partitions: i32, within: Duration) -> bool {
        let Some(topic) = self.topics.get(topic) else {
            return false;
        };
        (0..partitions).all(|index| {
            let numbers = topic.partitions.get(&index);
            numbers.is_some_and(|n| 0 < n.fetchq_cnt || self.heard_from(n.broker, within))
        })
    }

    /// A server can be listed twice, once more as the group's coordinator. Below zero is no server: a partition without
    /// a leader has it, and so has an address that was only given to begin with.
    fn heard_from(&self, server: i32, within: Duration) -> bool {
        if server < 0 {
            return false;
        }
        let micros_max = i64::try_from(within.as_micros()).unwrap_or(i64::MAX);
        let mut listed = self.brokers.values().filter(|s| s.nodeid == server);
        listed.any(|s| (0..micros_max).contains(&s.rxidle))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two partitions, one of them on a server that last spoke `idle` microseconds ago with `waiting` records here.
    fn statistics(idle: i64, waiting: i64) -> Statistics {
        let json = format!(
            r#"{{"name": "x", "brokers": {{
                "a:1/1": {{"nodeid": 1, "state": "UP", "rxidle": 1000}},
                "b:1/2": {{"nodeid": 2, "state": "UP", "rxidle": {idle}}},
                "GroupCoordinator": {{"nodeid": 2, "rxidle": -1}},
                "c:1/bootstrap": {{"nodeid": -1, "rxidle": 1000}}
            }}, "topics": {{"t": {{"partitions": {{
                "-1": {{"broker": -1}},
                "0": {{"broker": 1, "fetchq_cnt": 0, "hi_offset": 7}},
                "1": {{"broker": 2, "fetchq_cnt": {waiting}, "hi_offset": -1001}},
                "2": {{"broker": -1, "fetchq_cnt": 0, "hi_offset": 7}}
            }}}}}}}}"#
        );
        Statistics::parse(json.as_bytes()).unwrap()
    }

    #[track_caller]
    fn check(idle: i64, waiting: i64, partitions: i32, fresh: bool) {
        let within = Duration::from_secs(3);
        let found = statistics(idle, waiting).is_fresh("t", partitions, within);
        assert_eq!(found, fresh);
    }

    #[test]
    fn fresh_is_heard_from_everywhere() {
        check(0, 0, 2, true);
        check(2_999_999, 0, 2, true);
        check(3_000_000, 0, 2, false);
        check(3_000_000, 0, 1, true);
        check(3_000_000, 5, 2, true);
        check(-1, 0, 2, false);
        check(0, 0, 3, false);
    }

    #[track_caller]
    fn check_read((hi, ls, eof, waiting): (i64, i64, i64, i64), end: i64, expected: bool) {
        let json = format!(
            r#"{{"topics": {{"t": {{"partitions": {{"0": {{"hi_offset": {hi}, "ls_offset": {ls},
                "eof_offset": {eof}, "fetchq_cnt": {waiting}}}}}}}}}}}"#
        );
        let statistics = Statistics::parse(json.as_bytes()).unwrap();
        assert_eq!(statistics.is_read_to("t", 0, end), expected);
    }

    #[test]
    fn all_is_read_where_the_end_was_seen() {
        check_read((7, 7, 7, 0), 7, true);
        check_read((9, 9, 8, 0), 7, true);
        check_read((7, 7, 7, 1), 7, false);
        check_read((7, 7, 5, 0), 7, false);
        // A server that knows less than was there at the start.
        check_read((5, 5, 5, 0), 7, false);
        check_read((7, 5, 5, 0), 7, true);
        check_read((7, 5, 4, 0), 7, false);
        check_read((-1001, -1001, -1001, 0), 7, false);
        assert!(!statistics(0, 0).is_read_to("u", 0, 1));
    }

    #[test]
    fn end_offsets_are_known_or_not() {
        let statistics = statistics(0, 0);
        assert_eq!(statistics.end_offset("t", 0), Some(7));
        assert_eq!(statistics.end_offset("t", 1), None);
        assert_eq!(statistics.end_offset("t", 3), None);
        assert_eq!(statistics.end_offset("u", 0), None);
        assert!(!statistics.is_fresh("u", 1, Duration::from_secs(3)));
    }
}
