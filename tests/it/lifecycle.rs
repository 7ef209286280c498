//! How Weir starts and stops, and what it says when it cannot.

use std::collections::BTreeMap;
use std::fs;
use std::net::TcpListener;
use std::path::Path;
use std::process::{Command, Output};
use std::time::Duration;

use serde_json::json;
use tests::client::Client;
use tests::events::usage;
use tests::eventually;
use tests::process::free_port;
use tests::weir::{Options, Weir, command};

const POLICY: &str = "[[limit]]\nname = \"tokens\"\nsubject = \"tenant/*\"\nmeter = \"tokens\"\n\
                      window = \"sliding 60s\"\nhard = 1000\nmode = \"block\"\n";
const STOP_WITHIN: Duration = Duration::from_secs(10);
const SOON: Duration = Duration::from_secs(30);

/// `weir up` in `folder`, on free ports and with this policy, but for what `flags` say; an empty value takes one away.
fn up(folder: &Path, policy: &str, flags: &[(&str, &str)]) -> Command {
    let [data, file] = ["data", "policy.toml"].map(|name| folder.join(name).display().to_string());
    fs::write(&file, policy).expect("a policy");
    let mut all = BTreeMap::from([
        ("--data", data.as_str()),
        ("--policy", &file),
        ("--port-data", "0"),
        ("--port-management", "0"),
        ("--port-log", "0"),
    ]);
    all.extend(flags.iter().copied());
    let mut command = command("up");
    for (flag, value) in all.into_iter().filter(|(_, value)| !value.is_empty()) {
        command.args([flag, value]);
    }
    command
}

/// It ends by itself, unsuccessfully, and says `reasons`.
#[track_caller]
fn check_refuses(command: &mut Command, reasons: &[&str]) {
    let Output { status, stderr, .. } = command.output().expect("weir runs");
    let said = String::from_utf8_lossy(&stderr);
    assert!(!status.success(), "it ran: {said}");
    for reason in reasons {
        assert!(said.contains(reason), "`{said}` does not say `{reason}`");
    }
}

async fn tokens(client: &Client) -> u64 {
    let query = [("subject", "tenant/acme"), ("meter", "tokens")];
    let usage = client.get("/v1/usage", &query).await;
    usage["series"][0]["total"].as_u64().unwrap_or(0)
}

#[tokio::test]
async fn a_stop_drains_and_a_start_goes_on() {
    let mut weir = Weir::start(Options::up(POLICY)).await;
    let client = weir.client();
    let events: Vec<String> = (0..500)
        .map(|_| usage("acme", &json!({ "input_tokens": 1 })))
        .collect();
    client.post(&events).await;
    let status = weir
        .terminate(STOP_WITHIN)
        .expect("it stops within ten seconds");
    assert!(status.success(), "{status}: {}", weir.output());
    assert!(!weir.data_folder().join("listening.json").exists());

    weir.start_again().await;
    let client = weir.client();
    eventually(
        "all that was taken is counted",
        SOON,
        async || match tokens(&client).await {
            500 => Ok(()),
            tokens => Err(format!("{tokens} tokens")),
        },
    )
    .await;
}

#[tokio::test]
async fn one_folder_has_one_holder() {
    let weir = Weir::start(Options::up(POLICY)).await;
    let folder = tempfile::tempdir().expect("a folder");
    let data = weir.data_folder().display().to_string();
    let mut second = up(folder.path(), POLICY, &[("--data", &data)]);
    check_refuses(
        &mut second,
        &[&data, &format!("held by process {}", weir.id())],
    );
    // The first one is none the worse for it.
    assert_eq!(weir.client().forward_auth("acme").await.status, 200);
}

#[test]
fn a_busy_port_is_named() {
    let taken = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = taken.local_addr().expect("its address");
    for flag in ["--port-data", "--port-management", "--port-log"] {
        let folder = tempfile::tempdir().expect("a folder");
        let mut command = up(
            folder.path(),
            POLICY,
            &[(flag, &address.port().to_string())],
        );
        check_refuses(&mut command, &[&address.to_string(), flag]);
    }
}

#[test]
fn a_folder_that_cannot_be_written_is_named() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut command = up(folder.path(), POLICY, &[]);
    // Nobody, and root neither, can make a folder where a file is.
    fs::write(folder.path().join("data"), "a file").expect("a file in the folder's place");
    check_refuses(&mut command, &["cannot make the data folder", "--data"]);
}

#[test]
fn a_log_that_is_down_is_named() {
    let folder = tempfile::tempdir().expect("a folder");
    let bootstrap = format!("127.0.0.1:{}", free_port());
    let config = folder.path().join("weir.toml").display().to_string();
    fs::write(&config, "[kafka]\nready_within = \"2s\"\n").expect("a config");
    let flags = [
        ("--kafka", bootstrap.as_str()),
        ("--config", &config),
        ("--port-log", ""),
    ];
    check_refuses(&mut up(folder.path(), POLICY, &flags), &[&bootstrap]);
}

#[test]
fn a_policy_with_a_typo_is_refused_with_line_and_reason() {
    let folder = tempfile::tempdir().expect("a folder");
    let policy = POLICY.replace("window", "windw");
    check_refuses(
        &mut up(folder.path(), &policy, &[]),
        &["policy.toml", "5:", "windw", "window"],
    );
}

#[test]
fn a_configuration_with_a_typo_is_refused() {
    let folder = tempfile::tempdir().expect("a folder");
    let config = folder.path().join("weir.toml").display().to_string();
    fs::write(&config, "[lisen]\n").expect("a config");
    let mut command = up(folder.path(), POLICY, &[("--config", &config)]);
    check_refuses(&mut command, &["weir.toml", "lisen"]);
}
