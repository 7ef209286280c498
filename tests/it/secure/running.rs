//! Whole processes over TLS and SASL: an event in, a decision out, and rights that come and go meanwhile.

use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions, AlterConfig, ResourceSpecifier};
use rdkafka::client::DefaultClientContext;
use reqwest::Method;
use serde_json::json;
use tests::client::{Client, send};
use tests::events::usage;
use tests::eventually;
use tests::figures::{conserved, events};
use tests::kafka::secure::Operation::{self, Read, Write};
use tests::kafka::secure::{PASSWORD, Resource, Secure};
use tests::trace;
use tests::weir::{Options, Weir};

use super::rights::grant_documented;
use super::{SOON, run_command};

const USAGE: &str = "weir.usage.v1";
const DENIED: &str = "weir_bus_denied";

/// As `user`, with everything logged that might hold a secret.
async fn run(kafka: &Secure, command: &'static str, user: &str, mechanism: &str) -> Weir {
    // Of its own: several start at once.
    let password = kafka.folder().join(format!("{command}.password"));
    std::fs::write(&password, format!("{PASSWORD}\n")).expect("the password's file");
    let config = format!(
        "[telemetry]\nfilter = \"info,weir=debug,bus=debug\"\n\
         [kafka.tls]\nca = \"{}\"\n\
         [kafka.sasl]\nmechanism = \"{mechanism}\"\nusername = \"{user}\"\npassword_file = \"{}\"\n",
        kafka.ca().display(),
        password.display(),
    );
    let options = Options {
        command,
        ..Options::up(trace::LIMIT)
    };
    Weir::start(options.with_config(&config).on(Some(kafka.sasl()))).await
}

#[track_caller]
fn check_no_secret(weir: &Weir) {
    assert!(!weir.output().contains(PASSWORD), "a password in the log");
}

fn lines_with(weir: &Weir, part: &str) -> usize {
    weir.output()
        .lines()
        .filter(|line| line.contains(part))
        .count()
}

pub(super) async fn everything_in_one_process(kafka: &Secure) {
    shorten(kafka).await;
    let weir = run(kafka, "up", "weir", "SCRAM-SHA-512").await;
    told_and_mended(kafka, &weir);
    refused_after_an_event(&weir.client(), &weir.client(), "first").await;
    cannot_write_for_a_while(kafka, &weir).await;
    let topic = ("topic weir.usage.v1", Resource::Topic(USAGE));
    cannot_read_for_a_while(kafka, &weir, topic).await;
    let topic = (
        "topic weir.decisions.v1",
        Resource::Topic("weir.decisions.v1"),
    );
    cannot_read_for_a_while(kafka, &weir, topic).await;
    refused_after_an_event(&weir.client(), &weir.client(), "last").await;
    check_no_secret(&weir);
}

/// Gives a topic that nobody uses a setting that breaks a promise.
async fn shorten(kafka: &Secure) {
    let admin: AdminClient<DefaultClientContext> = ClientConfig::new()
        .set("bootstrap.servers", kafka.admin())
        .create()
        .expect("a client");
    let change = AlterConfig::new(ResourceSpecifier::Topic("weir.commands.v1"))
        .set("message.timestamp.type", "LogAppendTime")
        .set("retention.ms", "1000");
    let changed = admin.alter_configs([&change], &AdminOptions::new()).await;
    assert!(changed.is_ok_and(|topics| topics.iter().all(Result::is_ok)));
}

/// Both values are named, and the command mends it.
fn told_and_mended(kafka: &Secure, weir: &Weir) {
    let output = weir.output();
    let line = output
        .lines()
        .find(|line| line.contains("retention.ms is `1000`, not `-1`"));
    run_command(kafka, "kafka-configs.sh", line.expect("a line about it"));
}

/// One event spends a tenant's limit, and the gateway refuses it.
async fn refused_after_an_event(intake: &Client, asking: &Client, tenant: &str) {
    let spent = usage(tenant, &json!({ "input_tokens": 60_000, "requests": 0 }));
    intake.post(&[spent]).await;
    eventually("the refusal", SOON, async || {
        match asking.forward_auth(tenant).await.status {
            429 => Ok(()),
            status => Err(status.to_string()),
        }
    })
    .await;
}

async fn cannot_write_for_a_while(kafka: &Secure, weir: &Weir) {
    let client = weir.client();
    let usage_topic = Resource::Topic(USAGE);
    let post = async || {
        let event = usage("writer", &json!({ "requests": 1 }));
        client.try_post(event).await.map(|answer| answer.status)
    };
    kafka.revoke("User:weir", Write, usage_topic);
    eventually("nothing is taken", SOON, async || match post().await? {
        503 => Ok(()),
        status => Err(status.to_string()),
    })
    .await;
    denied(&client, Write, "topic weir.usage.v1", 1.0).await;
    ready(&client, 503).await;
    // Asked again and again, it is said once.
    for _ in 0..5 {
        assert_eq!(post().await, Ok(503));
    }
    assert_eq!(
        lines_with(weir, "is not allowed to Write on topic weir.usage.v1"),
        1
    );
    kafka.grant("User:weir", Write, usage_topic);
    eventually("events are taken again", SOON, async || {
        match post().await? {
            202 => Ok(()),
            status => Err(status.to_string()),
        }
    })
    .await;
    denied(&client, Write, "topic weir.usage.v1", 0.0).await;
    ready(&client, 200).await;
}

/// What comes in meanwhile is read afterwards, all of it and once.
async fn cannot_read_for_a_while(
    kafka: &Secure,
    weir: &Weir,
    (name, resource): (&str, Resource<'_>),
) {
    let client = weir.client();
    kafka.revoke("User:weir", Read, resource);
    denied(&client, Read, name, 1.0).await;
    ready(&client, 503).await;
    for _ in 0..3 {
        client
            .post(&[usage("reader", &json!({ "requests": 1 }))])
            .await;
    }
    assert_eq!(
        lines_with(weir, &format!("is not allowed to Read on {name}")),
        1
    );
    kafka.grant("User:weir", Read, resource);
    denied(&client, Read, name, 0.0).await;
    ready(&client, 200).await;
    eventually("every event's outcome", SOON, async || {
        let metrics = client.metrics().await;
        conserved(&metrics, USAGE)?;
        let of = |outcome| events(&metrics, USAGE, outcome);
        let (accepted, taken) = (of("accepted"), metrics.sum("weir_ingest_events_total", &[]));
        (of("counted") == accepted && 0.0 < accepted)
            .then_some(())
            .ok_or_else(|| format!("{accepted} accepted of {taken}"))
    })
    .await;
}

async fn denied(client: &Client, operation: Operation, resource: &str, expected: f64) {
    let operation = format!("{operation:?}");
    let labels = [("operation", operation.as_str()), ("resource", resource)];
    eventually("the metric", SOON, async || {
        let found = client.metrics().await.sum(DENIED, &labels);
        (found == expected)
            .then_some(())
            .ok_or_else(|| format!("{operation} {resource}: {found}"))
    })
    .await;
}

async fn ready(client: &Client, expected: u16) {
    eventually("readiness", SOON, async || {
        let answer = send(client.management(Method::GET, "/ready")).await?;
        (answer.status == expected)
            .then_some(())
            .ok_or_else(|| answer.text())
    })
    .await;
}

/// Each has what the documentation says that it needs. That is enough to work, and nobody asks for more.
pub(super) async fn every_service_with_its_own_rights(kafka: &Secure) {
    let services = ["enforcer", "aggregator", "notifier", "ingest", "gateway"];
    for service in services {
        grant_documented(kafka, &format!("User:{service}"), service);
    }
    let enforcer = run(kafka, "enforcer", "enforcer", "PLAIN").await;
    let (aggregator, notifier, ingest, gateway) = tokio::join!(
        run(kafka, "aggregator", "aggregator", "PLAIN"),
        run(kafka, "notifier", "notifier", "PLAIN"),
        run(kafka, "ingest", "ingest", "PLAIN"),
        run(kafka, "gateway", "gateway", "PLAIN"),
    );
    let (intake, asking) = (enforcer.client_at(&ingest), enforcer.client_at(&gateway));
    refused_after_an_event(&intake, &asking, "apart").await;
    let told = enforcer.client_at(&notifier);
    eventually("the alert", SOON, async || {
        let alerts = told
            .list("/v1/alerts", &[("subject", "tenant/apart")])
            .await;
        match alerts.len() {
            1 => Ok(()),
            alerts => Err(format!("{alerts} alerts")),
        }
    })
    .await;
    for weir in [&enforcer, &aggregator, &notifier, &ingest, &gateway] {
        let denied = enforcer.client_at(weir).metrics().await.sum(DENIED, &[]);
        assert_eq!(
            (denied, lines_with(weir, "is not allowed to")),
            (0.0, 0),
            "{}",
            weir.output()
        );
        check_no_secret(weir);
    }
}
