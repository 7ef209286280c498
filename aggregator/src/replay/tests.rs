use std::time::Duration;

use schemas::codec::Wire as _;
use schemas::partition::partition_of;
use schemas::record::{Direction, Marker, PolicyVersion, Recorded, UsageRecord};
use schemas::subject::Subject;
use schemas::topic::USAGE;

use super::*;
use crate::model::policy;

const PARTITIONS: i32 = 2;

fn at(second: i64) -> Timestamp {
    Timestamp::from_seconds(1_800_000_000 + second)
}

/// A dry run, and the next offset of its records.
struct Past {
    replay: Replay,
    next: i64,
    found: Vec<Found>,
}

impl Past {
    fn new(limits: &str) -> Self {
        let replay = Replay::new(&Config::default(), &policy(1, limits), |_| PARTITIONS);
        Self {
            replay: replay.unwrap(),
            next: 0,
            found: Vec::new(),
        }
    }

    fn take(&mut self, index: i32, second: i64, value: Vec<u8>) {
        let record = Record {
            offset: self.next,
            appended_at: at(second),
            key: None,
            value: Some(value.into()),
            headers: Vec::new(),
        };
        self.next += 1;
        let topic = USAGE.name();
        let partition = Partition { topic, index };
        self.replay
            .take(partition, &record, &mut self.found)
            .unwrap();
    }

    /// A request of `tenant` that happened when it came.
    fn request(&mut self, tenant: &str, id: &str, second: i64) {
        let time = at(second);
        let event = format!(
            r#"{{"specversion":"1.0","id":"{id}","source":"app","type":"usage","subject":"{tenant}","time":"{time}",
               "data":{{"input_tokens":1}}}}"#
        );
        let index = partition_of(tenant.as_bytes(), PARTITIONS);
        self.take(index, second, event.into_bytes());
    }

    /// What was found since this was asked last: subject, limit, direction and second of crossings.
    fn crossings(&mut self) -> Vec<String> {
        let told = self.found.drain(..).map(|found| match found {
            Found::Crossing(crossing) => {
                let way = match crossing.direction {
                    Direction::Up => "up",
                    Direction::Down => "down",
                };
                let second = crossing.at.second() - at(0).second();
                format!("{} {} {way} {second}", crossing.subject, crossing.limit)
            }
            Found::Prolonged(crossing) => {
                format!("{} {} goes on", crossing.subject, crossing.limit)
            }
            Found::Dead { offset, reason, .. } => format!("dead {offset} {reason}"),
        });
        told.collect()
    }
}

/// Two tenants of different partitions.
fn tenants() -> (String, String) {
    let name = |number: i32| format!("t{number}");
    let in_partition = |wanted: i32| {
        let mut names = (0..).map(name);
        names.find(|name| partition_of(name.as_bytes(), PARTITIONS) == wanted)
    };
    (in_partition(0).unwrap(), in_partition(1).unwrap())
}

#[test]
fn scopes_wider_than_a_tenant_are_counted_over_partitions() {
    let (a, b) = tenants();
    let mut past = Past::new("all platform requests hard=3 : sliding 60s");
    past.request(&a, "1", 0);
    past.request(&b, "1", 10);
    assert_eq!(past.crossings(), [""; 0]);
    past.request(&a, "2", 20);
    assert_eq!(past.crossings(), ["platform all up 20"]);
    past.replay.pass(at(7_200), &mut past.found).unwrap();
    assert_eq!(past.crossings(), ["platform all down 61"]);
    let summary = past.replay.finish();
    assert_eq!(summary.ledger.counted, 3);
    let expected = LevelSummary {
        limit: "all".to_owned(),
        level: "hard".to_owned(),
        crossings: 1,
        subjects: 1,
        over: Duration::from_secs(41),
        standing: 0,
    };
    assert_eq!(summary.levels, [expected]);
    let refused = RefusedSummary {
        subject: Subject::platform(),
        limit: "all".to_owned(),
        first: at(20),
        times: 1,
        over: Duration::from_secs(41),
        standing: false,
    };
    assert_eq!(summary.refused, [refused]);
}

#[test]
fn time_passes_where_nothing_comes() {
    let (a, b) = tenants();
    let mut past = Past::new("l tenant/* requests hard=2 : sliding 60s");
    past.request(&a, "1", 0);
    past.request(&a, "2", 5);
    assert_eq!(past.crossings(), [format!("tenant/{a} l up 5")]);
    past.request(&b, "1", 3_600);
    assert_eq!(past.crossings(), [format!("tenant/{a} l down 61")]);
}

#[test]
fn what_stands_at_the_end_is_said_to() {
    let (a, _) = tenants();
    let mut past = Past::new("l tenant/* requests 50%=1 hard=2 : sliding 60s");
    past.request(&a, "1", 0);
    past.request(&a, "2", 5);
    past.replay.pass(at(30), &mut past.found).unwrap();
    let levels = past.replay.finish().levels;
    let shown = levels
        .iter()
        .map(|l| (l.level.as_str(), l.standing, l.over.as_secs()));
    assert_eq!(shown.collect::<Vec<_>>(), [("50%", 1, 30), ("hard", 1, 25)]);
}

#[test]
fn what_events_do_not_tell_is_left_out() {
    let (a, _) = tenants();
    let mut past = Past::new(
        "places tenant/* requests hard=1 : concurrent
         l tenant/* requests hard=9 : sliding 60s",
    );
    past.request(&a, "1", 0);
    past.request(&a, "2", 0);
    assert_eq!(past.crossings(), [""; 0]);
    let summary = past.replay.finish();
    let levels: Vec<_> = summary.levels.iter().map(|l| l.limit.as_str()).collect();
    assert_eq!(
        (levels.as_slice(), summary.untold),
        (&["l"][..], vec!["places".to_owned()])
    );
    assert_eq!(summary.refused, []);
}

#[test]
fn the_logs_own_policies_change_nothing() {
    let (a, _) = tenants();
    let mut past = Past::new("draft tenant/* requests hard=2 : sliding 60s");
    let strict = policy(9, "strict tenant/* requests hard=1 : sliding 60s");
    let marker = UsageRecord::Marker(Marker {
        policy: Some(PolicyVersion::from(&strict)),
        tick: None,
        order: None,
    });
    let mut value = Vec::new();
    marker.encode(&mut value).unwrap();
    past.take(0, 0, value);
    past.request(&a, "1", 1);
    past.request(&a, "2", 2);
    assert_eq!(past.crossings(), [format!("tenant/{a} draft up 2")]);
    assert_eq!(past.replay.finish().ledger.markers, 1);
}

#[test]
fn every_record_is_accounted_for() {
    let (a, b) = tenants();
    let mut past = Past::new("l tenant/* requests hard=9 : sliding 60s");
    past.request(&a, "1", 0);
    past.request(&a, "1", 1);
    past.take(0, 2, b"nonsense".to_vec());
    // In a partition that is not its own it is counted nowhere: where it belongs, the log has it once more.
    let event = Recorded::Event(schemas::record::Usage {
        tenant: b,
        event_source: "app".to_owned(),
        event_id: "1".to_owned(),
        at: at(3),
        ..Default::default()
    });
    let mut value = Vec::new();
    event.encode(&mut value).unwrap();
    past.take(0, 3, value);
    let dead = past.crossings();
    assert!(
        dead.len() == 1 && dead[0].starts_with("dead 2 "),
        "{dead:?}"
    );
    let ledger = past.replay.finish().ledger;
    let expected = Ledger {
        accepted: 3,
        counted: 1,
        duplicate: 1,
        dead: 1,
        moved: 1,
        ..Ledger::default()
    };
    assert_eq!(ledger, expected);
}

#[test]
fn an_unknown_partition_is_refused() {
    let replay = Replay::new(&Config::default(), &policy(1, ""), |_| 1);
    let partition = Partition {
        topic: USAGE.name(),
        index: 1,
    };
    let place = (partition, 0);
    let taken = replay
        .unwrap()
        .take_unreadable(place, String::new(), &mut Vec::new());
    assert!(matches!(taken, Err(ReplayError::Unknown(_))));
}
