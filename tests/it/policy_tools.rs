//! `weir policy`: cases, dry runs, and versions of a running Weir, by the commands that people use.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use schemas::time::Timestamp;
use serde_json::Value;
use tests::installed::project;
use tests::trace;
use tests::weir::{Options, Weir, command};

use crate::policy::becomes;

fn policy(hard: u32) -> String {
    format!(
        "[[limit]]\nname = \"requests\"\nsubject = \"tenant/*\"\nmeter = \"requests\"\n\
         window = \"sliding 60s\"\nhard = {hard}\n"
    )
}

/// `weir policy NAME …`.
fn tool(arguments: &[&str]) -> Command {
    let mut tool = command("policy");
    tool.args(arguments);
    tool
}

fn said(output: &Output) -> String {
    let both = [&output.stdout, &output.stderr];
    both.map(|text| String::from_utf8_lossy(text)).concat()
}

/// Runs it, and gives what it printed where it ended with `status`.
#[track_caller]
fn run(command: &mut Command, status: i32) -> String {
    let output = command.output().expect("weir runs");
    assert_eq!(output.status.code(), Some(status), "{}", said(&output));
    said(&output)
}

fn seeds() -> PathBuf {
    project().join("tests/data/policy")
}

#[test]
fn the_cases_that_this_project_began_with() {
    let told = run(tool(&["test"]).arg(seeds()), 0);
    assert!(told.ends_with("0 failed\n"), "{told}");
    assert_eq!(
        told.lines().filter(|line| line.starts_with("ok")).count(),
        22
    );
    let told = run(tool(&["test", "--json"]).arg(seeds()), 0);
    let lines = told.lines().map(serde_json::from_str::<Value>);
    assert!(lines.map(Result::unwrap).all(|case| case["passed"] == true));
}

/// One case of one step against a limit of 2 requests a minute; what the failing command says.
#[track_caller]
fn fails(step: &str, expected: &str) {
    let folder = tempfile::tempdir().expect("a folder");
    fs::write(folder.path().join("policy.toml"), policy(2)).expect("the policy");
    let case = format!("[[case]]\nname = \"c\"\nsteps = [\n{step},\n]\n");
    fs::write(folder.path().join("c.test.toml"), case).expect("the case");
    let told = run(tool(&["test"]).arg(folder.path()), 1);
    assert!(told.contains(expected), "{expected} is not in:\n{told}");
}

#[test]
fn a_case_that_does_not_hold_is_told() {
    let three = "{ check = { tenant = 'a' }, times = 3";
    fails(
        &format!("{three}, verdict = 'allow' }}"),
        "c.test.toml:4: call 3 of 3 at 2026-01-05T00:00:00Z: verdict allow expected, not block 429 by requests, retry \
         after 61 s",
    );
    fails(
        &format!("{three}, admitted = 3 }}"),
        "c.test.toml:4: 3 of 3 calls are to be admitted, not 2",
    );
    fails(
        "{ check = { tenant = 'a' }, limit = 'requests', status = 429, retry_after_s = 5 }",
        "status 429, limit requests, retry after 5 s expected, not allow 200",
    );
    fails(
        &format!("{three}, alerts = [] }}"),
        "alerts [] expected, not [\"requests hard\"]",
    );
    fails(
        "{ check = { tenant = 'a' }, limit = 'rpm' }",
        "the policy has no limit `rpm`",
    );
    let reserve = "{ reserve = { id = 'r', tenant = 'a' }, status = 201 },\n";
    fails(
        &format!("{reserve}{{ commit = {{ id = 'r' }}, late = true, over = true }}"),
        "c.test.toml:5: at 2026-01-05T00:00:00Z: late true expected, not false; over true expected, not false",
    );
    fails(
        &format!("{reserve}{{ release = {{ id = 's' }} }}"),
        "c.test.toml:5: at 2026-01-05T00:00:00Z: no step before this one holds a reservation `s`",
    );
    fails(
        "{ reserve = { tenant = 'a' }, times = 2, status = 429 }",
        "call 1 of 2 at 2026-01-05T00:00:00Z: status 429 expected, not allow 201",
    );
}

#[test]
fn a_case_that_cannot_be_played_is_told() {
    fails(
        "{ chekc = { tenant = 'a' } }",
        "c.test.toml:4: unknown field `chekc`",
    );
    fails(
        "{ check = { tenan = 'a' } }",
        "c.test.toml:4: check/tenan is no field of a check",
    );
    fails(
        "{ usage = { cost_usd = '1' } }",
        "c.test.toml:4: `usage` names no `tenant`",
    );
    fails(
        "{ usage = { tenant = 'a', cost = 1 } }",
        "no event that Weir takes",
    );
    fails(
        "{ usage = { tenant = 'a' }, verdict = 'allow' }",
        "only a `check` or a `reserve` is answered",
    );
    fails(
        "{ check = { tenant = 'a' }, late = true }",
        "only a `commit` comes late",
    );
    fails(
        "{ reserve = { tenant = 'a', estimat = 'all' } }",
        "c.test.toml:4: reserve/estimat is no field",
    );
    fails(
        "{ commit = { actual = { tokens = 1 } } }",
        "c.test.toml:4: `commit` names a reservation: write `id = \"a\"`",
    );
    fails(
        "{ commit = { id = 'a', tokens = 1 } }",
        "c.test.toml:4: commit/tokens is no field of a commit",
    );
    fails(
        "{ release = { id = 'a', actual = {} } }",
        "c.test.toml:4: release/actual is no field of a release",
    );
    fails(
        "{ check = { tenant = 'a' }, at = 'soon' }",
        "c.test.toml:4: write a time as",
    );
    fails(
        "{ check = { tenant = 'a' }, times = 0 }",
        "`times` must be at least 1",
    );
    fails("{ check = {}, usage = {} }", "a step is one of");
}

#[test]
fn a_file_is_compared_with_another() {
    let folder = tempfile::tempdir().expect("a folder");
    let (old, new) = (
        folder.path().join("old.toml"),
        folder.path().join("new.toml"),
    );
    fs::write(&old, policy(50)).expect("the policy");
    fs::write(&new, policy(70)).expect("the policy");
    let plan = |file: &Path| {
        let mut plan = tool(&["plan"]);
        plan.arg(file).arg("--against").arg(&old);
        plan
    };
    assert!(run(&mut plan(&old), 0).starts_with("changes nothing against "));
    let told = run(&mut plan(&new), 2);
    assert!(told.contains("~ limit requests: hard 50 -> 70"), "{told}");
    let told: Value = serde_json::from_str(&run(plan(&new).arg("--json"), 2)).expect("JSON");
    assert_eq!(told["limits"][0]["fields"][0]["to"], "70");
    fs::write(&new, "[[limit]]\n").expect("the policy");
    assert!(run(&mut plan(&new), 1).contains("new.toml:1:1: this limit has no `hard`"));
}

#[tokio::test(flavor = "multi_thread")]
async fn versions_are_applied_compared_and_taken_back() {
    let mut weir = Weir::start(Options::up(&policy(50))).await;
    let data = weir.data_folder();
    let file = data.with_extension("draft");
    fs::write(&file, policy(20)).expect("the draft");
    let on = |arguments: &[&str]| {
        let mut tool = tool(arguments);
        tool.arg("--data").arg(&data);
        tool
    };
    let told = run(on(&["plan"]).arg(&file), 2);
    assert!(
        told.starts_with("changes against version 1:\n~ limit requests: hard 50 -> 20"),
        "{told}"
    );
    let apply = |reason: &str| {
        let mut apply = on(&["apply", "--reason", reason]);
        apply.arg(&file);
        apply
    };
    let told = run(&mut apply("too much"), 0);
    assert!(told.ends_with("version 2 holds\n"), "{told}");
    assert!(run(&mut apply("again"), 0).ends_with("version 2 holds, as before\n"));
    let client = weir.client();
    becomes(&client, 20).await;

    // Planned against a version that no longer holds.
    fs::write(&file, policy(30)).expect("the draft");
    let told = run(apply("late").args(["--of", "1"]), 1);
    assert!(
        told.contains("refused with 412: version 2 holds by now"),
        "{told}"
    );
    let told = run(&mut on(&["rollback", "1", "--reason", "too little"]), 0);
    assert!(told.ends_with("version 3 holds\n"), "{told}");
    becomes(&client, 50).await;
    let told = run(&mut on(&["history", "--limit", "2"]), 0);
    let lines: Vec<&str> = told.lines().collect();
    assert_eq!(lines.len(), 3, "{told}");
    assert!(
        lines[1].contains("operator-") && lines[1].ends_with("too little"),
        "{told}"
    );
    let told = run(&mut on(&["diff", "--from", "2"]), 0);
    assert!(
        told.starts_with("from version 2 to 3:\n~ limit requests: hard 20 -> 50"),
        "{told}"
    );
    assert_eq!(run(&mut on(&["show", "--version", "2"]), 0), policy(20));

    // A tenant is told nothing.
    let tenant = weir.create_key("tenant", Some("acme")).await;
    let told = run(&mut on(&["history", "--token", &tenant]), 1);
    assert!(told.contains("refused with 403"), "{told}");

    // The file says 50, as it did; what was applied stays through a restart.
    fs::write(&file, policy(40)).expect("the draft");
    run(&mut apply("for good"), 0);
    weir.kill9();
    weir.start_again().await;
    assert!(run(&mut on(&["show"]), 0).contains("hard = 40"));
    assert!(weir.terminate(std::time::Duration::from_secs(20)).is_some());
    let told = run(&mut on(&["show"]), 1);
    assert!(told.contains("no Weir runs on"), "{told}");
}

#[test]
fn past_events_tell_who_would_have_been_refused() {
    let folder = tempfile::tempdir().expect("a folder");
    let (file, draft) = (folder.path().join("past"), folder.path().join("draft.toml"));
    fs::write(&file, trace::events().join("\n")).expect("the events");
    let tokens = "[[limit]]\nname = \"tokens\"\nsubject = \"tenant/*\"\nmeter = \"tokens\"\n\
                  window = \"sliding 60s\"\nsoft = [\"80%\"]\nhard = 60000\n";
    fs::write(&draft, tokens).expect("the draft");
    let simulate = || {
        let mut simulate = tool(&["simulate"]);
        simulate.arg(&draft).arg("--from").arg(&file);
        simulate
    };
    let told = run(simulate().arg("--json"), 0);
    let lines = told.lines().map(serde_json::from_str::<Value>);
    let lines: Vec<Value> = lines.collect::<Result<_, _>>().expect("one JSON a line");
    let second = |time: &Value| {
        time.as_str()
            .and_then(Timestamp::parse)
            .map(|at| at.second())
    };
    let expected = trace::expected();
    for (tenant, windows) in &expected.windows {
        let subject = trace::subject(tenant);
        let found = lines
            .iter()
            .find(|line| line["subject"] == subject.as_str());
        let first = found.and_then(|line| second(&line["first"]));
        assert_eq!(first, windows.first_crossing_s, "{subject}");
        let times = found.and_then(|line| line["times"].as_u64()).unwrap_or(0);
        assert_eq!(times, windows.upward_crossings as u64, "{subject}");
    }
    let ledger = lines.last().expect("a last line");
    assert_eq!(ledger["counted"], expected.events);
    let told = run(&mut simulate(), 0);
    assert!(told.starts_with("SUBJECT "), "{told}");

    // A limit that only records refuses nobody.
    fs::write(&draft, format!("{tokens}mode = \"open\"\n")).expect("the draft");
    assert!(run(&mut simulate(), 0).starts_with("nobody would have been refused"));
}
