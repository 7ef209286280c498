//! The conformance suite on both homes of the log, with librdkafka and the protocol itself, with the Java client, and
//! with franz-go. `make conformance` shows the tables.
//!
//! `CASE=part-of-a-name` runs some of the cases of librdkafka only; `BOOTSTRAP=host:port` runs everything on the log
//! that is there, of one broker, whichever it is.

use std::thread;

use tests::conformance::programs::Client;
use tests::conformance::table::table;
use tests::conformance::{Home, Lab, Report, home, run};
use tests::embedded::Embedded;
use tests::kafka::Kafka;

#[test]
fn conformance_librdkafka() {
    let only = std::env::var("CASE").unwrap_or_default();
    check("librdkafka, kcat and the protocol", |lab, home| {
        run(lab, home, &only)
    });
}

#[test]
fn conformance_java() {
    check("Java client", |lab, home| Client::Java.run(lab, home));
}

#[test]
fn conformance_go() {
    check("franz-go", |lab, home| Client::Go.run(lab, home));
}

/// Runs a set on every home at once, shows how it went, and fails if anything failed.
#[expect(
    clippy::print_stdout,
    reason = "the tables are what the suite is run for"
)]
fn check(title: &str, run: impl Fn(&Lab, Home) -> Report + Sync) {
    let reports = on_every_home(run);
    let columns: Vec<_> = reports
        .iter()
        .map(|(home, report)| (home.as_str(), report))
        .collect();
    let table = table(title, &columns);
    println!("{table}");
    let failed: usize = reports
        .iter()
        .map(|(_, report)| report.failed().count())
        .sum();
    assert!(failed == 0, "{failed} cases failed: see the table");
    let passed: usize = reports.iter().map(|(_, report)| report.passed()).sum();
    assert!(passed > 0, "no case has this name");
}

fn on_every_home(run: impl Fn(&Lab, Home) -> Report + Sync) -> Vec<(String, Report)> {
    if let Ok(given) = std::env::var("BOOTSTRAP") {
        let home = home(&given).unwrap_or_else(|e| panic!("nothing to test at {given}: {e:#}"));
        let report = run(&Lab::elsewhere(&given), home);
        return vec![(given, report)];
    }
    thread::scope(|scope| {
        let embedded = scope.spawn(|| {
            let log = Embedded::start();
            run(&Lab::new(&log.bootstrap()), Home::Embedded)
        });
        let kafka = scope.spawn(|| {
            let runtime = tokio::runtime::Runtime::new().expect("a runtime");
            let kafka = runtime.block_on(Kafka::shared());
            run(&Lab::new(&kafka.bootstrap()), Home::Kafka)
        });
        let joined = |thread: thread::ScopedJoinHandle<'_, Report>| {
            thread.join().expect("no panic: its reason stands above")
        };
        vec![
            ("embedded".to_owned(), joined(embedded)),
            ("Kafka".to_owned(), joined(kafka)),
        ]
    })
}
