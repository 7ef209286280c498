//! The conformance suite on both homes of the log.
//!
//! `CASE=part-of-a-name` runs some of the cases only; `BOOTSTRAP=host:port` runs them on a cluster that is there.

use tests::conformance::{Home, Report, run};
use tests::embedded::Embedded;
use tests::kafka::Kafka;

#[test]
fn conformance_embedded() {
    let log = Embedded::start();
    check(&run(&log.bootstrap(), Home::Embedded, &case()));
}

#[tokio::test]
async fn conformance_kafka() {
    let bootstrap = match std::env::var("BOOTSTRAP") {
        Ok(given) => given,
        Err(_) => Kafka::shared().await.bootstrap(),
    };
    check(&run(&bootstrap, Home::Kafka, &case()));
}

fn case() -> String {
    std::env::var("CASE").unwrap_or_default()
}

#[track_caller]
fn check(report: &Report) {
    let failed: String = report
        .failed
        .iter()
        .map(|(name, why)| format!("\n  {name}: {why}"))
        .collect();
    let (passed, failures) = (report.passed.len(), report.failed.len());
    assert!(
        failures == 0,
        "{passed} cases passed, {failures} failed:{failed}"
    );
    assert!(passed > 0, "no case has this name");
}
