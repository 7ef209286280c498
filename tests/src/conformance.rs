//! What a log must do to be Kafka to its clients: named cases that run against any bootstrap address.
//!
//! A case that holds on one home only says why. Cases make their own topics and groups, under names that no other run
//! uses, and leave them behind.

mod admin;
mod cases;
mod cleanup;
mod epochs;
mod fetching;
mod groups;
mod idempotence;
mod kcat;
mod lab;
mod member;
mod members;
pub mod programs;
mod raw;
mod reading;
mod refusals;
pub mod table;
mod versions;
mod wire;
mod writing;

use std::collections::{HashMap, VecDeque};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::thread;
use std::time::Duration;

pub use cases::CASES;
pub use lab::Lab;
pub use versions::home;

/// A log that the suite runs on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Home {
    Embedded,
    Kafka,
}

/// Where a case holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Holds {
    Everywhere,
    /// By design, for this reason.
    Only(Home, &'static str),
}

/// One thing that a log must do.
pub struct Case {
    pub name: &'static str,
    pub holds: Holds,
    run: fn(&Lab) -> anyhow::Result<()>,
}

impl Case {
    /// Why it does not hold on this home, if it does not.
    fn left_out(&self, home: Home) -> Option<&'static str> {
        match self.holds {
            Holds::Only(other, why) if other != home => Some(why),
            _ => None,
        }
    }
}

const fn case(name: &'static str, run: fn(&Lab) -> anyhow::Result<()>) -> Case {
    Case {
        name,
        holds: Holds::Everywhere,
        run,
    }
}

const fn only(
    home: Home,
    why: &'static str,
    name: &'static str,
    run: fn(&Lab) -> anyhow::Result<()>,
) -> Case {
    Case {
        name,
        holds: Holds::Only(home, why),
        run,
    }
}

const NO_TRANSACTIONS: &str = "the embedded log has no transactions: nothing of ours needs them";
const NO_KIP_848: &str = "the embedded log has classic groups only, which are librdkafka's default";
const NO_ACLS: &str = "the embedded log serves one machine and knows no principals";

/// Cases at a time: most of them wait most of their time.
const AT_ONCE: usize = 6;
/// A case that takes longer, beside what it waits for upkeep, hangs.
const PATIENCE: Duration = Duration::from_secs(120);

/// How a case ended on one home.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    Passed,
    /// With the reason.
    Failed(String),
    /// By design; with the reason.
    LeftOut(&'static str),
}

/// How a run went: every case, in the order of the list.
#[derive(Clone, Debug, Default)]
pub struct Report(pub Vec<(&'static str, Outcome)>);

impl Report {
    #[must_use]
    pub fn passed(&self) -> usize {
        let outcomes = self.0.iter();
        outcomes.filter(|(_, o)| *o == Outcome::Passed).count()
    }

    /// The cases that failed, and why.
    pub fn failed(&self) -> impl Iterator<Item = (&'static str, &str)> {
        self.0.iter().filter_map(|(name, outcome)| match outcome {
            Outcome::Failed(why) => Some((*name, why.as_str())),
            _ => None,
        })
    }

    /// The reasons why cases were left out.
    pub fn left_out(&self) -> impl Iterator<Item = &'static str> {
        self.0.iter().filter_map(|(_, outcome)| match outcome {
            Outcome::LeftOut(why) => Some(*why),
            _ => None,
        })
    }
}

/// Runs every case whose name contains `only` and that holds on this home.
///
/// # Panics
/// When a thread cannot be started.
#[must_use]
pub fn run(lab: &Lab, home: Home, only: &str) -> Report {
    let chosen: Vec<&Case> = CASES
        .iter()
        .filter(|case| case.name.contains(only))
        .collect();
    let waiting: VecDeque<&Case> = chosen
        .iter()
        .filter(|case| case.left_out(home).is_none())
        .copied()
        .collect();
    let (waiting, outcomes) = (Mutex::new(waiting), Mutex::new(HashMap::new()));
    thread::scope(|scope| {
        for _ in 0..AT_ONCE {
            scope.spawn(|| {
                loop {
                    let next = waiting.lock().expect("no panic while held").pop_front();
                    let Some(case) = next else { break };
                    let outcome = try_case(lab, case);
                    let mut outcomes = outcomes.lock().expect("no panic while held");
                    outcomes.insert(case.name, outcome);
                }
            });
        }
    });
    let mut outcomes = outcomes.into_inner().expect("no panic while held");
    let outcome = |case: &&Case| match case.left_out(home) {
        Some(why) => (case.name, Outcome::LeftOut(why)),
        None => {
            let unknown = || Outcome::Failed("it was never run".to_owned());
            let outcome = outcomes.remove(case.name);
            (case.name, outcome.unwrap_or_else(unknown))
        }
    };
    Report(chosen.iter().map(outcome).collect())
}

/// Runs one case; a panic or a hang is a failure like any other.
fn try_case(lab: &Lab, case: &'static Case) -> Outcome {
    let (done, result) = std::sync::mpsc::channel();
    let patience = PATIENCE + lab.upkeep;
    let lab = lab.clone();
    thread::spawn(move || {
        let result = catch_unwind(AssertUnwindSafe(|| (case.run)(&lab)));
        let result = result.unwrap_or_else(|_| Err(anyhow::anyhow!("it panicked: see above")));
        let _ = done.send(result.map_err(|e| format!("{e:#}")));
    });
    match result.recv_timeout(patience) {
        Ok(Ok(())) => Outcome::Passed,
        Ok(Err(why)) => Outcome::Failed(why),
        Err(_) => Outcome::Failed(format!("no end within {patience:?}")),
    }
}
