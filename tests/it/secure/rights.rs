//! What was granted, and what was not.

use bus::{Event, Start, Subscription};
use schemas::topic::{ALERTS, ALL};
use tests::eventually;
use tests::installed::project;
use tests::kafka::secure::Operation::{self, Create, Describe, DescribeConfigs, Read, Write};
use tests::kafka::secure::{Resource, Secure};

use super::{SOON, check_text, connect, run_command, user};

const SERVICES: [&str; 5] = ["enforcer", "aggregator", "notifier", "ingest", "gateway"];

/// What the table in `docs/operations.md` says that `service` needs.
fn documented(service: &str) -> Vec<(Operation, Resource<'static>)> {
    let path = project().join("docs/operations.md");
    let text = std::fs::read_to_string(path)
        .expect("the documentation")
        .leak();
    let mut rights = vec![
        (Describe, Resource::Topics("weir.")),
        (DescribeConfigs, Resource::Topics("weir.")),
    ];
    let mut found = 0;
    for line in text.lines() {
        let cells: Vec<&'static str> = line.split('|').map(str::trim).collect();
        let [_, name, reads, writes, groups, _] = cells[..] else {
            continue;
        };
        if name != service && name != "all" {
            continue;
        }
        found += 1;
        let names = |cell: &'static str| cell.split('`').skip(1).step_by(2);
        rights.extend(names(reads).map(|name| (Read, Resource::Topic(name))));
        rights.extend(names(writes).map(|name| (Write, Resource::Topic(name))));
        rights.extend(names(groups).map(|name| (Read, Resource::Group(name))));
    }
    assert_eq!(found, 2, "{service} is not in the table");
    rights
}

/// Grants what `service` needs, and nothing else.
pub(super) fn grant_documented(kafka: &Secure, principal: &str, service: &str) {
    for (operation, resource) in documented(service) {
        kafka.grant(principal, operation, resource);
    }
}

/// Grants what `weir up` needs.
pub(super) fn grant_all(kafka: &Secure, principal: &str) {
    for service in SERVICES {
        grant_documented(kafka, principal, service);
    }
}

/// There is nothing yet: the error has the commands of an administrator, and the one that grants does what it says.
pub(super) async fn missing_topics(kafka: &Secure) {
    let error = connect(user(kafka, "enforcer")).await;
    let Err(text) = error else {
        panic!("made topics without a right to")
    };
    let count = format!("{} topics do not show", ALL.len());
    let expected = [
        count.as_str(),
        "User:enforcer is not allowed to Create on topics weir.*",
        "--create --if-not-exists --topic weir.decisions.v1 --partitions 12 --replication-factor 1",
        "--config cleanup.policy=compact",
    ];
    check_text("no topics", &text, &expected);
    run_command(kafka, "kafka-acls.sh", &text);
    grant_documented(kafka, "User:enforcer", "enforcer");
    eventually("the topics are made", SOON, async || {
        connect(user(kafka, "enforcer")).await.map(drop)
    })
    .await;
}

/// Topics are there; each user lacks one thing.
pub(super) async fn at_start(kafka: &Secure) {
    let weir = Resource::Topics("weir.");
    kafka.grant("User:blind", Create, weir);
    kafka.grant("User:deaf", Describe, weir);
    kafka.grant("User:mute", Describe, weir);
    kafka.grant("User:mute", Read, Resource::Topic("weir.policies.v1"));
    check(
        kafka,
        "nobody",
        &["--operation Create --operation Describe"],
    )
    .await;
    let seen = &[
        "User:blind is not allowed to Describe on topic weir.",
        "kafka-acls.sh",
    ];
    check(kafka, "blind", seen).await;
    let read = &[
        "User:deaf is not allowed to Read on topic weir.policies.v1",
        "--operation Read --topic weir.policies.v1",
    ];
    check(kafka, "deaf", read).await;
    let mute = connect(user(kafka, "mute")).await.expect("it may read");
    let ended = tokio::time::timeout(SOON, mute.failure()).await;
    let text = ended.expect("it cannot send").to_string();
    check_text("mute", &text, &["IdempotentWrite", "stopped"]);
}

async fn check(kafka: &Secure, name: &str, parts: &[&str]) {
    // A new grant takes its time to be known.
    eventually(name, SOON, async || {
        match connect(user(kafka, name)).await {
            Ok(_) => Err("connected".to_owned()),
            Err(text) if parts.iter().all(|part| text.contains(part)) => {
                check_text(name, &text, parts);
                Ok(())
            }
            Err(text) => Err(text),
        }
    })
    .await;
}

/// A member that its group does not take waits, says so, and begins when it is let in.
pub(super) async fn of_a_group(kafka: &Secure) {
    let principal = "User:alone";
    kafka.grant(principal, Read, Resource::Topics("weir."));
    kafka.grant(principal, Write, Resource::Topics("weir."));
    let bus = eventually("alone", SOON, async || connect(user(kafka, "alone")).await).await;
    let mut member = bus
        .consume(Subscription {
            group: "lonely".to_owned(),
            topics: vec![ALERTS.spec()],
            start: Start::Committed,
            batch_records_max: 10,
        })
        .expect("a member");
    let text = eventually("the refusal", SOON, async || {
        let denials = bus.denials();
        let first = denials.first().map(ToString::to_string);
        first.ok_or_else(|| "nothing is denied".to_owned())
    })
    .await;
    let expected = [
        "User:alone is not allowed to Read on group lonely",
        "--group lonely",
    ];
    check_text("a group", &text, &expected);
    kafka.grant(principal, Read, Resource::Group("lonely"));
    let first = tokio::time::timeout(SOON, member.next()).await;
    assert!(matches!(first, Ok(Event::Assigned(_))), "{first:?}");
    assert!(bus.denials().is_empty());
    member.close().await;
}
