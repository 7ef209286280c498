//! The policy is applied again and again while requests are judged, as fast as they come: each is judged by one version,
//! whole, and says by which.
//!
//! `EDIT_CHECKS` (20,000 unless it does) sets how many requests each of the connections sends.

use std::thread;

use bus::clock::Stopwatch;
use serde::Deserialize;
use serde_json::json;
use tests::pipelined::{AHEAD, Pipeline};
use tests::setting;
use tests::weir::{Options, Weir};

const CHECKS: usize = 20_000;
const CONNECTIONS: usize = 2;
/// Above what is ever asked.
const BASE: i64 = 1_000_000_000_000;

/// A version says its number in each of its limits, and every other one has a limit more.
fn version(number: i64) -> String {
    let subjects = ["tenant/*", "tenant/*/user/*", "tenant/*/key/*"];
    let limits = subjects.iter().take(2 + (number % 2) as usize).enumerate();
    let limit = |(place, subject): (usize, &&str)| {
        format!(
            "[[limit]]\nname = \"l{place}\"\nsubject = \"{subject}\"\nmeter = \"requests\"\n\
             window = \"sliding 60s\"\nhard = {}\n",
            BASE + number
        )
    };
    limits.map(limit).collect()
}

#[derive(Deserialize)]
struct Checked {
    policy_version: i64,
    limits: Vec<Left>,
}

#[derive(Deserialize)]
struct Left {
    max: i64,
}

/// Checks until it is done; by how many versions it was judged.
fn check(mut connection: Pipeline, checks: usize) -> usize {
    let mut newest = 0;
    let mut versions = 0;
    for _ in 0..checks.div_ceil(AHEAD) {
        connection.round(|body| {
            let checked: Checked = serde_json::from_slice(body).expect("an answer");
            let number = checked.policy_version;
            let found: Vec<i64> = checked.limits.iter().map(|left| left.max).collect();
            let expected = vec![BASE + number; 2 + (number % 2) as usize];
            assert_eq!(found, expected, "version {number} was half there");
            assert!(newest <= number, "{number} after {newest}");
            versions += usize::from(newest < number);
            newest = number;
        });
    }
    versions
}

#[expect(clippy::print_stderr, reason = "the figure is what it is run for")]
#[tokio::test(flavor = "multi_thread")]
async fn no_request_is_judged_by_half_a_policy() {
    let checks = setting("EDIT_CHECKS", CHECKS);
    let weir = Weir::start(Options::up(&version(1))).await;
    let client = weir.client();
    let ask = json!({ "tenant": "acme", "user": "u", "key": "k", "consume": {} });
    let connection = || {
        Pipeline::new(
            client.data_address(),
            "/v1/check",
            client.ingest_key(),
            &ask,
        )
    };
    let connections: Vec<Pipeline> = (0..CONNECTIONS).map(|_| connection()).collect();
    let watch = Stopwatch::start();
    let checkers: Vec<_> = connections
        .into_iter()
        .map(|connection| thread::spawn(move || check(connection, checks)))
        .collect();
    let mut number = 1;
    while checkers.iter().any(|checker| !checker.is_finished()) {
        number += 1;
        let text = version(number);
        assert_eq!(client.apply(&text).await, number);
    }
    let seconds = watch.elapsed().as_secs_f64();
    for checker in checkers {
        let versions = checker.join().expect("every answer is of one version");
        assert!(1 < versions, "none was applied meanwhile");
    }
    let rate = (checks.div_ceil(AHEAD) * AHEAD * CONNECTIONS) as f64 / seconds;
    eprintln!("{rate:.0} checks a second over HTTP while {number} versions were applied");
}
