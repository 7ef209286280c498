//! `weir policy test`: cases that live beside the policy, played through the cores that work for real.

mod case;
mod stage;

use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use clap::Args;
use gateway::cache;
use gateway::ledger::Commit;
use gateway::reply::Reply;
use schemas::cloudevents::{Rules, read_event};
use schemas::policy::Policy;
use schemas::record::{Alert, AlertKind};
use schemas::time::Timestamp;
use serde_json::json;

use super::read_policy;
use crate::cli::say;
use case::{Act, Case, Expected, Step, Verdict};
use stage::Stage;

/// How the names of files with cases end.
const ENDING: &str = ".test.toml";

#[derive(Debug, Args)]
pub(in crate::cli) struct TestArgs {
    /// Files of cases, or folders with files whose names end in .test.toml
    #[arg(required = true, value_name = "PATH")]
    paths: Vec<PathBuf>,
    /// Try this policy, and not those that the files name
    #[arg(long, value_name = "FILE")]
    policy: Option<PathBuf>,
    /// One JSON object a case
    #[arg(long)]
    json: bool,
}

pub(super) fn test(args: &TestArgs) -> anyhow::Result<()> {
    let mut files = Vec::new();
    for path in &args.paths {
        files.extend(files_of(path)?);
    }
    let (mut passed, mut failed) = (0, 0);
    for path in files {
        let file = case::read(&path)?;
        let (_, policy) = read_policy(args.policy.as_ref().unwrap_or(&file.policy))?;
        for case in &file.cases {
            let failures = play(case, &policy)?;
            if failures.is_empty() {
                passed += 1;
            } else {
                failed += 1;
            }
            tell(args.json, &path, case, &failures)?;
        }
    }
    if !args.json {
        say(&format!("{passed} passed, {failed} failed"))?;
    }
    if failed != 0 {
        bail!("{failed} of {} cases failed", passed + failed);
    }
    Ok(())
}

/// The file itself, or those of a folder by name.
fn files_of(path: &Path) -> anyhow::Result<Vec<PathBuf>> {
    if !path.is_dir() {
        return Ok(vec![path.to_owned()]);
    }
    let shown = path.display();
    let entries = path.read_dir();
    let mut files = Vec::new();
    for entry in entries.with_context(|| format!("cannot read {shown}"))? {
        let path = entry?.path();
        if path.to_string_lossy().ends_with(ENDING) {
            files.push(path);
        }
    }
    files.sort();
    if files.is_empty() {
        bail!("{shown} holds no cases: files whose names end in {ENDING}");
    }
    Ok(files)
}

/// What is otherwise than a step has it.
struct Failure {
    line: usize,
    text: String,
}

fn tell(is_json: bool, path: &Path, case: &Case, failures: &[Failure]) -> anyhow::Result<()> {
    let shown = path.display();
    if is_json {
        let failures = failures.iter();
        let failures: Vec<_> = failures
            .map(|failure| json!({ "line": failure.line, "text": failure.text }))
            .collect();
        let case = json!({
            "file": shown.to_string(),
            "line": case.line,
            "case": case.name,
            "passed": failures.is_empty(),
            "failures": failures,
        });
        return say(&case.to_string());
    }
    let word = if failures.is_empty() { "ok  " } else { "FAIL" };
    say(&format!("{word}  {}", case.name))?;
    for Failure { line, text } in failures {
        say(&format!("      {shown}:{line}: {text}"))?;
    }
    Ok(())
}

/// Plays a case from an empty state on. Of each step the first failure is told.
fn play(case: &Case, policy: &Policy) -> anyhow::Result<Vec<Failure>> {
    let mut stage = Stage::new(policy)?;
    let mut runs: Vec<Run<'_>> = case.steps.iter().map(Run::new).collect();
    let mut failures: Vec<Failure> = case
        .steps
        .iter()
        .filter_map(|step| unknown_limit(policy, step))
        .collect();
    // By time; of what happens at the same time, the step that stands first.
    let mut moments: Vec<(Timestamp, usize, u32)> = Vec::new();
    for (place, step) in case.steps.iter().enumerate() {
        moments.extend((0..step.times).map(|nth| (step.at(nth), place, nth)));
    }
    moments.sort_unstable();
    for (number, (at, place, nth)) in (0..).zip(moments) {
        stage.pass(at)?;
        runs[place].happen(&mut stage, (nth, number), at)?;
    }
    failures.extend(runs.into_iter().filter_map(Run::finish));
    failures.sort_by_key(|failure| failure.line);
    Ok(failures)
}

/// A limit that a step expects and that the policy does not have.
fn unknown_limit(policy: &Policy, step: &Step) -> Option<Failure> {
    let name = step.expected.limit.as_ref()?;
    policy.limit(name).is_none().then(|| Failure {
        line: step.line,
        text: format!("the policy has no limit `{name}`"),
    })
}

/// A step while its case is played.
struct Run<'c> {
    step: &'c Step,
    admitted: u32,
    alerts: Vec<String>,
    wrong: Option<String>,
}

impl<'c> Run<'c> {
    fn new(step: &'c Step) -> Self {
        Self {
            step,
            admitted: 0,
            alerts: Vec::new(),
            wrong: None,
        }
    }

    /// Happens for the `nth` time; it is the `number`th moment of its case.
    fn happen(
        &mut self,
        stage: &mut Stage,
        (nth, number): (u32, u64),
        at: Timestamp,
    ) -> anyhow::Result<()> {
        match &self.step.act {
            Act::Check(ask) => {
                let reply = stage.check(ask, at)?;
                self.answered(&reply, (nth, at));
            }
            Act::Reserve(reserve) => match stage.reserve(reserve, at) {
                Ok(reply) => self.answered(&reply, (nth, at)),
                Err(error) => self.fail(error, (nth, at)),
            },
            Act::Commit(name, actual) => match stage.commit(name, actual, at)? {
                Ok(commit) => {
                    if let Some(wrong) = settles_otherwise(&self.step.expected, commit) {
                        self.fail(wrong, (nth, at));
                    }
                }
                Err(error) => self.fail(error, (nth, at)),
            },
            Act::Release(name) => {
                if let Err(error) = stage.release(name, at) {
                    self.fail(error, (nth, at));
                }
            }
            Act::Report(kind, tenant, data) => {
                let event = case::event((kind, tenant), data, number, at);
                match read_event(&event, &Rules::at(at)) {
                    Ok(event) => stage.report(event, at)?,
                    Err(error) => {
                        let wrong = format!("no event that Weir takes: {error}");
                        self.wrong.get_or_insert(wrong);
                    }
                }
            }
            Act::Order(command) => {
                if let Err(error) = stage.order(command, number, at)? {
                    self.wrong.get_or_insert(error);
                }
            }
            Act::Wait => {}
        }
        self.alerts.extend(stage.take_alerts().iter().map(name));
        Ok(())
    }

    /// The gateway has answered the `nth` call.
    fn answered(&mut self, reply: &Reply, moment: (u32, Timestamp)) {
        self.admitted += u32::from(!reply.is_refused());
        if let Some(wrong) = differs(&self.step.expected, reply) {
            self.fail(wrong, moment);
        }
    }

    /// Something is wrong; of a step the first is told.
    fn fail(&mut self, wrong: String, (nth, at): (u32, Timestamp)) {
        if self.wrong.is_none() {
            self.wrong = Some(self.place(nth, at) + &wrong);
        }
    }

    fn place(&self, nth: u32, at: Timestamp) -> String {
        match self.step.times {
            1 => format!("at {at}: "),
            times => format!("call {} of {times} at {at}: ", nth + 1),
        }
    }

    fn finish(self) -> Option<Failure> {
        let Expected {
            admitted, alerts, ..
        } = &self.step.expected;
        let admitted = admitted.filter(|admitted| *admitted != self.admitted);
        let admitted = admitted.map(|expected| {
            format!(
                "{expected} of {} calls are to be admitted, not {}",
                self.step.times, self.admitted
            )
        });
        let alerts = alerts.as_ref().filter(|alerts| **alerts != self.alerts);
        let alerts =
            alerts.map(|expected| format!("alerts {expected:?} expected, not {:?}", self.alerts));
        Some(Failure {
            line: self.step.line,
            text: self.wrong.or(admitted).or(alerts)?,
        })
    }
}

/// How an alert is written: `rpm 80%`, `rpm hard`, `lifted`.
fn name(alert: &Alert) -> String {
    let limit = alert.limit.as_deref().unwrap_or_default();
    match alert.kind {
        AlertKind::Hard => format!("{limit} hard"),
        AlertKind::Soft => format!("{limit} {}", alert.level.as_deref().unwrap_or_default()),
        AlertKind::Lifted => format!("{limit} lifted").trim_start().to_owned(),
        AlertKind::CspGroup => "csp group".to_owned(),
        AlertKind::Asked => format!("{limit} asked"),
        AlertKind::Answered => format!("{limit} answered"),
        AlertKind::Cleared => format!("{limit} cleared"),
    }
}

/// How a commit is answered otherwise than is expected.
fn settles_otherwise(expected: &Expected, commit: Commit) -> Option<String> {
    let said = [
        ("late", expected.late, commit.late.is_some()),
        ("over", expected.over, commit.over),
    ];
    let wrong = said
        .into_iter()
        .filter_map(|(what, expected, is)| Some((what, expected?, is)))
        .filter(|(_, expected, is)| expected != is);
    let wrong: Vec<String> = wrong
        .map(|(what, expected, is)| format!("{what} {expected} expected, not {is}"))
        .collect();
    (!wrong.is_empty()).then(|| wrong.join("; "))
}

/// How an answer differs from what is expected.
fn differs(expected: &Expected, reply: &Reply) -> Option<String> {
    let verdict = match reply.verdict {
        cache::Verdict::Allow => Verdict::Allow,
        cache::Verdict::Throttle => Verdict::Throttle,
        cache::Verdict::Challenge => Verdict::Challenge,
        cache::Verdict::Block => Verdict::Block,
    };
    let refusing: Vec<&str> = reply.refusing().map(|cause| cause.limit.as_str()).collect();
    let mut wanted = Vec::new();
    if let Some(expected) = expected.verdict.filter(|expected| *expected != verdict) {
        wanted.push(format!("verdict {expected:?}").to_lowercase());
    }
    if let Some(expected) = expected.status.filter(|expected| *expected != reply.status) {
        wanted.push(format!("status {expected}"));
    }
    if let Some(expected) = &expected.limit
        && !refusing.contains(&expected.as_str())
    {
        wanted.push(format!("limit {expected}"));
    }
    if let Some(expected) = expected.retry_after_s
        && reply.retry_after_s != Some(expected)
    {
        wanted.push(format!("retry after {expected} s"));
    }
    if wanted.is_empty() {
        return None;
    }
    let mut got = format!("{} {}", reply.verdict, reply.status);
    if !refusing.is_empty() {
        got = format!("{got} by {}", refusing.join(", "));
    }
    if let Some(seconds) = reply.retry_after_s {
        got = format!("{got}, retry after {seconds} s");
    }
    Some(format!("{} expected, not {got}", wanted.join(", ")))
}
