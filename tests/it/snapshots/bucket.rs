//! What only a bucket can do: be shared by machines, be out of reach, and be the wrong one.

use std::ffi::OsString;

use tests::client::Client;
use tests::eventually;
use tests::figures::{Figures, conserved, events};
use tests::kafka::Kafka;
use tests::postgres::Postgres;
use tests::process::{Process, Signal};
use tests::role::Role;
use tests::s3::S3;
use tests::trace;
use tests::weir::{Options, Weir, command};

use super::{CONFIG, Home, STOP_WITHIN, USAGE, WITHIN, post, records, snapshots};

const AWAY: &str = "the server does not answer";

/// A configuration with snapshots in the bucket of the server that `section` names.
fn in_bucket(section: &str) -> String {
    format!("{CONFIG}snapshots = \"s3://{}\"\n{section}", S3::BUCKET)
}

async fn nothing_differs(client: &Client) {
    let expected = trace::expected();
    eventually("the recount's figures", WITHIN, async || {
        let figures = Figures::read(client, &expected).await;
        match figures.differences(&expected) {
            none if none.is_empty() => Ok(()),
            found => Err(found.join("\n")),
        }
    })
    .await;
}

async fn is_counted(client: &Client, expected: usize) {
    eventually("all is counted", WITHIN, async || {
        let metrics = client.metrics().await;
        conserved(&metrics, USAGE)?;
        let counted = events(&metrics, USAGE, "counted");
        (counted == expected as f64)
            .then_some(())
            .ok_or_else(|| counted.to_string())
    })
    .await;
}

async fn is_said(what: &str, said: impl Fn() -> String, part: &str) {
    eventually(what, WITHIN, async || {
        let said = said();
        said.contains(part).then_some(()).ok_or(said)
    })
    .await;
}

// === Shared ===

#[tokio::test(flavor = "multi_thread")]
async fn two_processes_hand_partitions_over_through_a_bucket() {
    let (kafka, postgres, home) = tokio::join!(Kafka::start(), Postgres::start(), Home::bucket());
    let url = postgres.fresh_database().await;
    let config = format!("[store]\nurl = \"{url}\"\n{}", home.config(CONFIG));
    let start = async |service: &'static str| {
        let options = Options {
            command: service,
            ..Options::up(trace::LIMIT)
        };
        Weir::start(options.with_config(&config).on(Some(kafka.bootstrap()))).await
    };
    let enforcer = start("enforcer").await;
    let ingest = start("ingest").await;
    let mut first = start("aggregator").await;
    let client = enforcer.client_at(&ingest);
    let all = trace::events();
    let part = all.len().div_ceil(3);
    let mut parts = all.chunks(part);

    post(&client, parts.next().expect("a first part")).await;
    is_counted(&enforcer.client_at(&first), part).await;
    let second = start("aggregator").await;
    post(&client, parts.next().expect("a second part")).await;
    assert!(first.terminate(STOP_WITHIN).is_some_and(|s| s.success()));
    post(&client, parts.next().expect("a third part")).await;
    let client = enforcer.client_at(&second);
    nothing_differs(&client).await;
    // The ledger of what was counted is in the snapshots: it holds what the first has counted.
    is_counted(&client, all.len()).await;
}

// === Out of reach ===

#[tokio::test]
async fn counting_goes_on_while_the_server_is_away() {
    let Home::Bucket(mut s3) = Home::bucket().await else {
        unreachable!("it was asked for");
    };
    let config = in_bucket(&s3.section());
    let mut weir = Weir::start(Options::up(trace::LIMIT).with_config(&config)).await;
    let all = trace::events();
    let (before, after) = all.split_at(all.len() / 2);
    let client = weir.client();
    let objects = s3.objects();
    let is_saved = async |expected: usize| {
        eventually("all is in snapshots", WITHIN, async || {
            let held = records(&snapshots(&objects));
            (expected <= held)
                .then_some(())
                .ok_or_else(|| held.to_string())
        })
        .await;
    };
    post(&client, before).await;
    is_saved(before.len()).await;

    s3.stop();
    post(&client, after).await;
    is_counted(&client, all.len()).await;
    eventually("a failure is counted", WITHIN, async || {
        let metrics = client.metrics().await;
        match metrics.sum("weir_aggregator_snapshot_failures_total", &[]) {
            0.0 => Err("none".to_owned()),
            _ => Ok(()),
        }
    })
    .await;
    is_said("why is told", || weir.output(), AWAY).await;
    s3.start_again().await;
    // Nothing more comes: what was not saved is tried again all the same.
    is_saved(all.len()).await;

    assert!(weir.terminate(STOP_WITHIN).is_some_and(|s| s.success()));
    s3.stop();
    let log = weir.data_folder().with_file_name("weir.log");
    let said = || {
        let text = std::fs::read_to_string(&log).expect("its log");
        text.split_once(" stopped")
            .map_or(text.clone(), |(_, later)| later.to_owned())
    };
    let come_back = async {
        is_said("it waits", said, "partitions wait for their snapshots").await;
        s3.start_again().await;
    };
    tokio::join!(weir.start_again(), come_back);
    let client = weir.client();
    is_counted(&client, all.len()).await;
    nothing_differs(&client).await;
    s3.stop();
    weir.kill9();
}

// It hands out keys while the test waits for a process to end.
#[tokio::test(flavor = "multi_thread")]
async fn a_role_lets_in_who_has_no_key() {
    let (s3, role) = tokio::join!(S3::start(), Role::start());
    let config = in_bucket(&s3.server_section());
    let options = Options {
        environment: role.environment(),
        ..Options::up(trace::LIMIT)
    };
    let mut weir = Weir::start(options.with_config(&config)).await;
    let client = weir.client();
    let all = trace::events();
    post(&client, &all).await;
    is_counted(&client, all.len()).await;
    assert!(weir.terminate(STOP_WITHIN).is_some_and(|s| s.success()));
    let held = records(&snapshots(&s3.objects()));
    assert!(all.len() <= held, "{held} records are in snapshots");
    // The keys do not last: they were asked for again.
    assert!(1 < role.handed_out());

    role.spoil("nobody");
    let refused = ["s3://weir", "403", "[aggregator.s3]"];
    check_refused_in(&role.environment(), &config, &refused);
    role.spoil("two\nlines");
    let told = [
        "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE",
        "not a token alone",
    ];
    check_refused_in(&role.environment(), &config, &told);
}

// === The wrong one ===

/// A start with these settings ends with an error that says so.
#[track_caller]
fn check_refused(settings: &str, expected: &[&str]) {
    check_refused_in(&[], settings, expected);
}

/// The same in this environment.
#[track_caller]
fn check_refused_in(environment: &[(&'static str, OsString)], settings: &str, expected: &[&str]) {
    let folder = tempfile::tempdir().expect("a folder");
    let place = |name: &str| folder.path().join(name);
    std::fs::write(place("weir.toml"), settings).expect("a configuration");
    std::fs::write(place("policy.toml"), trace::LIMIT).expect("a policy");
    let mut up = command("up");
    up.envs(environment.iter().cloned());
    up.arg("--data").arg(place("data"));
    up.arg("--config").arg(place("weir.toml"));
    up.arg("--policy").arg(place("policy.toml"));
    for port in ["--port-data", "--port-management", "--port-log"] {
        up.args([port, "0"]);
    }
    let mut process = Process::start("weir", &mut up, &place("log"), Signal::TERM);
    let ended = process.wait(WITHIN).expect("it does not go on");
    let said = process.output();
    assert!(!ended.success(), "it starts:\n{said}");
    for part in expected {
        assert!(said.contains(part), "`{part}` is not in:\n{said}");
    }
    assert!(!said.contains("hunter2"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_wrong_is_said_at_the_start() {
    let s3 = S3::start().await;
    let with = |bucket: &str, section: &str| {
        format!("[aggregator]\nsnapshots = \"s3://{bucket}/counters\"\n{section}")
    };
    let missing = [
        "s3://nowhere/counters",
        "there is no such bucket",
        "make it",
    ];
    check_refused(&with("nowhere", &s3.section()), &missing);
    let wrong = s3.section_with("hunter2");
    let refused = [
        "s3://weir/counters",
        "the server refuses",
        "[aggregator.s3]",
    ];
    check_refused(&with(S3::BUCKET, &wrong), &refused);
    let unknown = wrong.replace("access_key_id = \"weir\"", "access_key_id = \"nobody\"");
    // What S3 itself calls InvalidAccessKeyId, this server calls by a name of its own.
    let answered = [
        "s3://weir/counters",
        "the server answers with an error",
        "UserNotFound",
    ];
    check_refused(&with(S3::BUCKET, &unknown), &answered);
    let secure = S3::start_secure().await;
    let trusted = format!("ca = \"{}\"\n", secure.authority().display());
    let untrusted = [
        "s3://weir/counters",
        "certificate is not to be trusted",
        "`ca` under [aggregator.s3]",
    ];
    let stranger = secure.section().replace(&trusted, "");
    check_refused(&with(S3::BUCKET, &stranger), &untrusted);
    let nothing = secure.section().replace(&trusted, "ca = \"/dev/null\"\n");
    check_refused(&with(S3::BUCKET, &nothing), &["ca holds no certificate"]);
    let half = "[aggregator.s3]\naccess_key_id = \"weir\"\n";
    check_refused(&with(S3::BUCKET, half), &["WEIR_S3_SECRET_ACCESS_KEY"]);
    check_refused(
        "[aggregator]\nsnapshots = \"gs://weir\"\n",
        &["is no place for snapshots"],
    );
}
