//! `weir aggregator replay`: the bundled trace under a policy that did not hold when it came, against the recount.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use schemas::time::Timestamp;
use serde_json::Value;
use tests::kafka::Kafka;
use tests::trace::{self, Expected, Windows};
use tests::weir::{Options, Weir, command};

use crate::transfer::copies::spans;

/// What holds while the events come: no limit at all.
const NO_LIMIT: &str = "zone = \"UTC\"\n";
/// The recount's limit, with a soft level, and one over all tenants.
const DRAFT: &str = r#"
[[limit]]
name = "tokens"
subject = "tenant/*"
meter = "tokens"
window = "sliding 60s"
soft = ["80%"]
hard = 60000
mode = "block"

[[limit]]
name = "all"
subject = "platform"
meter = "requests"
window = "calendar day"
hard = 1000
mode = "open"
"#;
const BATCH: usize = 500;
const STOP_WITHIN: Duration = Duration::from_secs(20);

/// What the command said, as JSON.
struct Told(Vec<Value>);

impl Told {
    fn by(command: &mut Command) -> Self {
        let output = command.output().expect("weir runs");
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{errors}");
        let text = String::from_utf8(output.stdout).expect("text");
        let lines = text.lines().map(serde_json::from_str);
        Self(lines.collect::<Result<_, _>>().expect("one JSON a line"))
    }

    fn of<'a>(&'a self, kind: &'a str) -> impl Iterator<Item = &'a Value> {
        self.0.iter().filter(move |line| line["kind"] == kind)
    }

    fn ledger(&self) -> [u64; 5] {
        let ledger = self.of("ledger").next().expect("the ledger");
        ["accepted", "counted", "late", "duplicate", "dead"]
            .map(|name| ledger[name].as_u64().expect("a count"))
    }

    /// The upward crossings of the recount's limit by tenant, as far as crossings tell.
    fn windows(&self, expected: &Expected) -> BTreeMap<String, Windows> {
        let mut seconds: BTreeMap<String, Vec<i64>> = BTreeMap::new();
        for crossing in self.of("crossing") {
            let is_counted = crossing["limit"] == "tokens" && crossing["level"] == "hard";
            if is_counted && crossing["direction"] == "up" {
                let subject = crossing["subject"].as_str().expect("a subject");
                seconds
                    .entry(subject.to_owned())
                    .or_default()
                    .push(second(&crossing["at"]));
                assert!(second(&crossing["at"]) < second(&crossing["falls_at"]));
            }
        }
        let windows = expected.windows.iter().map(|(tenant, windows)| {
            let mut seconds = seconds.remove(&trace::subject(tenant)).unwrap_or_default();
            seconds.sort_unstable();
            let found = Windows {
                upward_crossings: seconds.len(),
                first_crossing_s: seconds.first().copied(),
                last_crossing_s: seconds.last().copied(),
                // Crossings do not tell it.
                peak_tokens_60s: windows.peak_tokens_60s,
            };
            (tenant.clone(), found)
        });
        windows.collect()
    }
}

fn second(time: &Value) -> i64 {
    let time = time.as_str().and_then(Timestamp::parse);
    time.expect("a time").second()
}

fn replay(from: &str, policy: &Path) -> Command {
    let mut replay = command("aggregator");
    replay
        .args(["replay", "--from", from, "--policy"])
        .arg(policy);
    replay
}

/// Nothing differs from the recount, and the parts agree with one another.
#[track_caller]
fn check(told: &Told, expected: &Expected) {
    assert_eq!(told.windows(expected), expected.windows);
    let events = u64::try_from(expected.events).expect("a count");
    assert_eq!(told.ledger(), [events, events, 0, 0, 0]);
    let sum = |limit: &str, level: &str| {
        let mut limits = told.of("limit");
        let found = limits.find(|line| line["limit"] == limit && line["level"] == level);
        found
            .unwrap_or_else(|| panic!("no sum of {limit} {level}"))
            .clone()
    };
    let windows = expected.windows.values();
    let crossings: usize = windows.clone().map(|w| w.upward_crossings).sum();
    let subjects = windows.filter(|w| w.upward_crossings != 0).count();
    let hard = sum("tokens", "hard");
    assert_eq!(hard["crossings"], crossings);
    assert_eq!(hard["subjects"], subjects);
    assert!(hard["over_s"].as_f64().is_some_and(|over| 0.0 < over));
    assert!(crossings as u64 <= sum("tokens", "80%")["crossings"].as_u64().expect("a count"));
    let all = sum("all", "hard");
    assert_eq!(
        (&all["crossings"], &all["subjects"]),
        (&1.into(), &1.into())
    );
}

#[test]
fn a_file() {
    let folder = tempfile::tempdir().expect("a folder");
    let (file, policy) = (
        folder.path().join("past.ndjson"),
        folder.path().join("draft.toml"),
    );
    fs::write(&policy, DRAFT).expect("the draft");
    let expected = trace::expected();
    let mut events = trace::events();
    fs::write(&file, events.join("\n")).expect("the events");
    let file = file.to_str().expect("a path");
    let whole = Told::by(replay(file, &policy).arg("--json"));
    check(&whole, &expected);

    // What came twice, too late or as nonsense is told as such and changes nothing else.
    let (twice, late) = (
        events[0].clone(),
        events[1].replacen("\"id\":\"", "\"id\":\"late-", 1),
    );
    events.insert(1, twice);
    events.extend([late, "nonsense".to_owned()]);
    fs::write(file, events.join("\n")).expect("the events");
    let more = Told::by(replay(file, &policy).arg("--json"));
    let counted = expected.events as u64;
    assert_eq!(more.ledger(), [counted + 3, counted, 1, 1, 1]);
    assert_eq!(more.windows(&expected), expected.windows);
    let dead: Vec<&Value> = more.of("dead").collect();
    assert_eq!(dead.len(), 1);
    assert_eq!(dead[0]["line"], events.len());

    // Half of the time has a part of the events, and for people there are lines to read.
    let middle: Value = serde_json::from_str(&events[counted as usize / 2]).expect("an event");
    let middle = middle["time"].as_str().expect("its time");
    let before = Told::by(replay(file, &policy).args(["--json", "--until", middle]));
    let after = Told::by(replay(file, &policy).args(["--json", "--since", middle]));
    assert_eq!(before.ledger()[1] + after.ledger()[1], counted);
    let output = replay(file, &policy).output().expect("weir runs");
    let text = String::from_utf8(output.stdout).expect("text");
    assert!(
        text.contains("tokens hard up: ") && text.contains("TIME OVER"),
        "{text}"
    );
    let total = format!(
        "{} accepted = {counted} counted + 1 late + 1 duplicate + 1 dead",
        counted + 3
    );
    assert!(text.trim_end().ends_with(&total), "{text}");
}

#[test]
fn what_cannot_be_replayed_is_told() {
    let folder = tempfile::tempdir().expect("a folder");
    let policy = folder.path().join("draft.toml");
    fs::write(&policy, "[[limit]]\nname = 7\n").expect("the draft");
    let place = folder.path().to_str().expect("a path");
    let fails = |command: &mut Command, why: &str| {
        let output = command.output().expect("weir runs");
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success() && errors.contains(why), "{errors}");
    };
    fails(&mut replay(place, &policy), "draft.toml:2:");
    fs::write(&policy, DRAFT).expect("the draft");
    fails(&mut replay(place, &policy), "holds no embedded log");
    fails(
        &mut replay("nowhere", &policy),
        "no data folder, no file, and no address",
    );
    fails(&mut command("aggregator"), "--kafka");
}

async fn with_trace(kafka: Option<String>) -> Weir {
    let weir = Weir::start(Options::up(NO_LIMIT).on(kafka)).await;
    for batch in trace::events().chunks(BATCH) {
        weir.client().post(batch).await;
    }
    weir
}

/// Nothing was written where events, sums and crossings are.
fn ends(bootstrap: &str) -> BTreeMap<(String, i32), (i64, i64)> {
    let mut ends = spans(bootstrap);
    ends.retain(|(topic, _), _| {
        ["usage", "auth", "csp", "partials", "signals"]
            .iter()
            .any(|name| *topic == format!("weir.{name}.v1"))
    });
    ends
}

#[tokio::test(flavor = "multi_thread")]
async fn a_folder() {
    let mut weir = with_trace(None).await;
    let data = weir.data_folder();
    let policy = data.with_extension("draft");
    fs::write(&policy, DRAFT).expect("the draft");
    let (data, expected) = (data.to_str().expect("a path").to_owned(), trace::expected());
    let before = ends(&weir.bootstrap());
    let told = Told::by(replay(&data, &policy).arg("--json"));
    check(&told, &expected);
    assert_eq!(ends(&weir.bootstrap()), before);
    assert!(weir.terminate(STOP_WITHIN).is_some_and(|s| s.success()));
    let again = Told::by(replay(&data, &policy).arg("--json"));
    assert_eq!(again.0, told.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster() {
    let kafka = Kafka::start().await;
    let weir = with_trace(Some(kafka.bootstrap())).await;
    let policy = weir.data_folder().with_extension("draft");
    fs::write(&policy, DRAFT).expect("the draft");
    let before = ends(&kafka.bootstrap());
    let told = Told::by(replay(&kafka.bootstrap(), &policy).arg("--json"));
    check(&told, &trace::expected());
    assert_eq!(ends(&kafka.bootstrap()), before);
}
