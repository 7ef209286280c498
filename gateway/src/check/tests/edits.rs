//! The policy is edited while requests are judged, as fast as they can be: each is judged by one version, whole.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use super::*;
use crate::reply::Reply;

/// Checks of each thread, unless `EDIT_CHECKS` says otherwise.
const CHECKS: usize = 20_000;
const CHECKERS: usize = 2;

/// A version says its number in each of its limits, and every other one has a limit more.
fn version(number: u64) -> Policy {
    let patterns = ["tenant/*", "tenant/*/user/*", "tenant/*/key/*"];
    let limits = patterns.iter().take(2 + (number % 2) as usize);
    let limits = limits.enumerate().map(|(place, pattern)| {
        let hard = number * 1_000_000;
        limit(&format!("l{place} {pattern} requests {hard} sliding 60s"))
    });
    Policy {
        version: number,
        limits: limits.collect(),
        ..Policy::default()
    }
}

/// Asks, and says by which version it was judged.
#[track_caller]
fn judged_by(gate: &Gate, ask: &Ask) -> u64 {
    let now = at(1);
    let view = gate.view(now);
    let answer = gate.check(&view, &ask.request(), now);
    let reply = Reply::new(&answer, &view, ask, String::new(), now);
    let version = reply.policy_version;
    let limits: Vec<_> = reply.limits.iter().map(|left| left.limit.max).collect();
    let expected = vec![i128::from(version) * 1_000_000; 2 + (version % 2) as usize];
    assert_eq!(limits, expected, "version {version} was half there");
    version
}

#[test]
fn no_request_is_judged_by_half_a_policy() {
    let checks = std::env::var("EDIT_CHECKS").map_or(CHECKS, |checks| checks.parse().unwrap());
    let gate = gate(Vec::new());
    gate.set_policy(version(1));
    let ask = acme().with(Dimension::User, "u").with(Dimension::Key, "k");
    let done = AtomicUsize::new(0);
    let check_all = || {
        let mut seen = BTreeSet::new();
        for _ in 0..checks {
            let version = judged_by(&gate, &ask);
            assert!(
                seen.last().is_none_or(|last| *last <= version),
                "it went back"
            );
            seen.insert(version);
        }
        done.fetch_add(1, Ordering::Relaxed);
        seen.len()
    };
    thread::scope(|scope| {
        let checkers: Vec<_> = (0..CHECKERS).map(|_| scope.spawn(check_all)).collect();
        let mut edits = 1;
        while done.load(Ordering::Relaxed) < CHECKERS {
            edits += 1;
            gate.set_policy(version(edits));
            thread::yield_now();
        }
        for checker in checkers {
            let versions = checker.join().unwrap();
            assert!(1 < versions, "none was edited meanwhile");
        }
        assert_eq!(judged_by(&gate, &ask), edits);
    });
}
