//! What is shipped for running Weir on several machines: the compose file and what it mounts.

use std::collections::BTreeSet;
use std::fs;
use std::process::Command;

use reqwest::Method;
use serde_json::Value;
use tests::client::send;
use tests::installed::{program, project};
use tests::process::free_port;
use tests::weir::{Options, Weir, command};

fn read(path: &str) -> String {
    fs::read_to_string(project().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

#[test]
fn the_compose_file_is_one() {
    let mut compose = Command::new(program("docker-compose", &[]));
    let output = compose
        .current_dir(project())
        .args(["config", "--services"])
        .output();
    let output = output.expect("docker-compose runs");
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let services = String::from_utf8(output.stdout).expect("names");
    let services: BTreeSet<&str> = services.lines().collect();
    let stores = ["kafka", "postgres", "redis", "prometheus", "grafana"];
    let own = ["ingest", "aggregator", "enforcer", "notifier", "gateway"];
    assert_eq!(services, stores.into_iter().chain(own).collect());
}

#[test]
fn the_policy_it_starts_with_is_good() {
    let output = command("policy")
        .arg("check")
        .arg(project().join("docker/policy.toml"))
        .output();
    let output = output.expect("weir runs");
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
}

/// A service that gets as far as looking for the log has understood its configuration.
#[test]
fn the_configuration_it_mounts_is_understood() {
    let folder = tempfile::tempdir().expect("a folder");
    let config = read("docker/weir.toml").replace("0.0.0.0:8080", "127.0.0.1:0");
    let config = config.replace("0.0.0.0:8081", "127.0.0.1:0");
    let file = folder.path().join("weir.toml");
    fs::write(&file, config + "\n[kafka]\nready_within = \"1s\"\n").expect("a configuration");
    let bootstrap = format!("127.0.0.1:{}", free_port());
    let mut gateway = command("gateway");
    gateway
        .arg("--config")
        .arg(file)
        .arg("--data")
        .arg(folder.path().join("data"));
    let output = gateway
        .args(["--kafka", &bootstrap])
        .output()
        .expect("weir runs");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(
        !output.status.success() && said.contains(&bootstrap),
        "{said}"
    );
}

/// A panel that asks for a metric that nobody counts would stay empty for ever.
#[tokio::test]
async fn the_dashboard_asks_for_what_is_counted() {
    let text = read("docker/grafana/dashboards/weir.json");
    let dashboard: Value = serde_json::from_str(&text).expect("JSON");
    let panels = dashboard["panels"].as_array().expect("panels").iter();
    let targets = panels.flat_map(|panel| panel["targets"].as_array().expect("targets"));
    let asked: Vec<&str> = targets
        .filter_map(|target| target["expr"].as_str())
        .collect();
    let words = asked
        .iter()
        .flat_map(|expr| expr.split(|c: char| !c.is_alphanumeric() && c != '_'));
    let metrics = words.filter(|word| word.starts_with("weir_"));
    let metrics: BTreeSet<&str> = metrics
        .map(|word| word.trim_end_matches("_bucket").trim_end_matches("_total"))
        .collect();

    let weir = Weir::start(Options::up(&read("docker/policy.toml"))).await;
    let request = weir.client().management(Method::GET, "/metrics");
    let scrape = send(request).await.expect("an answer").text();
    let homes = [
        "bus",
        "ingest",
        "aggregator",
        "enforcer",
        "notifier",
        "gateway",
    ];
    let named: String = homes
        .map(|home| read(&format!("{home}/src/metrics.rs")))
        .concat();
    // What nothing was counted in yet is in no scrape; it is named in the source then.
    let is_counted = |metric: &str| {
        scrape.contains(&format!("# TYPE {metric} ")) || named.contains(&format!("\"{metric}\""))
    };
    let unknown: Vec<&&str> = metrics
        .iter()
        .filter(|metric| !is_counted(metric))
        .collect();
    assert!(unknown.is_empty(), "nobody counts {unknown:?}");
}
