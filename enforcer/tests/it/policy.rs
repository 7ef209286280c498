//! The policy file, at start and while running.

use std::fs;

use bus::Bus;
use bus::consumer::{Event, Start, Subscription};
use enforcer::BuildError;
use schemas::codec::Wire;
use schemas::record::{PolicyRecord, Recorded};
use schemas::topic::{self, Topic};

use crate::home::{Home, POLICY, eventually};

/// The versions that markers named, partition by partition, in order.
async fn marked<E>(bus: &Bus, topic: &Topic<Recorded<E>>) -> Vec<Vec<i64>>
where
    Recorded<E>: Wire,
{
    let subscription = Subscription {
        group: format!("look-at-{}", topic.name()),
        topics: vec![topic.spec()],
        start: Start::Stored,
        batch_records_max: 100,
    };
    let mut consumer = bus.consume(subscription).unwrap();
    let partitions = usize::try_from(bus.partitions(topic.spec())).unwrap();
    let mut versions = vec![Vec::new(); partitions];
    let mut caught_up = 0;
    while caught_up < partitions {
        match consumer.next().await {
            Event::Assigned(assigned) => assigned.start(&[]),
            Event::Records(batch) => {
                for record in &batch.records {
                    let value = record.value.as_deref().unwrap();
                    let Recorded::Marker(marker) = Recorded::<E>::decode(value).unwrap() else {
                        panic!("an event that nobody sent")
                    };
                    let index = usize::try_from(batch.partition.index).unwrap();
                    versions[index].push(marker.policy.unwrap().version);
                }
            }
            Event::CaughtUp(_) => caught_up += 1,
            Event::Revoked(revoked) => revoked.done(),
            Event::Failed(error) => panic!("{error}"),
        }
    }
    consumer.close().await;
    versions
}

/// The keys under which the log keeps versions, with their numbers.
async fn kept(bus: &Bus) -> Vec<(String, i64)> {
    let all = bus.read_all(&topic::POLICIES).await.unwrap();
    let versions = all.into_iter().filter_map(|(key, record)| match record {
        PolicyRecord::Policy(policy) => Some((key, policy.version)),
        PolicyRecord::Layout(_) | PolicyRecord::Order(_) => None,
    });
    versions.collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_built_enforcer_has_published_and_marked_its_policy() {
    let home = Home::new(POLICY).await;
    drop(home.build().await.unwrap());
    let named = |key: &str, number| (key.to_owned(), number);
    assert_eq!(
        kept(&home.bus).await,
        [named("policy", 1), named("version/1", 1)]
    );
    assert_eq!(marked(&home.bus, &topic::USAGE).await, [[1], [1], [1]]);
    assert_eq!(marked(&home.bus, &topic::AUTH).await, [[1], [1], [1]]);
    assert_eq!(marked(&home.bus, &topic::CSP).await, [[1], [1], [1]]);
    assert_eq!(marked(&home.bus, &topic::PARTIALS).await, [[1], [1], [1]]);
    // The same text again is the same version; another one counts up.
    drop(home.build().await.unwrap());
    home.write(&POLICY.replace("100", "200"));
    drop(home.build().await.unwrap());
    assert_eq!(
        kept(&home.bus).await,
        [
            named("policy", 2),
            named("version/1", 1),
            named("version/2", 2)
        ]
    );
    assert_eq!(marked(&home.bus, &topic::USAGE).await, [[1, 1, 2]; 3]);
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_starts_without_a_policy_that_is_right() {
    let home = Home::new("[[limit]]\nname = \"a\"\nhrad = 3\n").await;
    let path = home.path();
    let error = |built: Result<_, BuildError>| built.err().unwrap().to_string();
    let path = path.display();
    let told = error(home.build().await);
    let first = told.lines().nth(1).unwrap();
    assert_eq!(
        first,
        format!(
            "{path}:1:1: this limit has no `hard`, the number from which on calls are refused: write `hard = 60000`"
        )
    );
    assert!(
        told.ends_with(&format!(
            "{path}:3:1: unknown field `hrad` of a limit; did you mean `hard`?"
        )),
        "{told}"
    );
    home.write("");
    assert!(error(home.build().await).contains(":1:1: the policy is empty"));
    fs::remove_file(home.path()).unwrap();
    let told = error(home.build().await);
    assert!(
        told.starts_with(&format!("the policy {path} cannot be read: No such file")),
        "{told}"
    );
    fs::write(home.path(), [0xff, 0xfe]).unwrap();
    assert!(error(home.build().await).contains("is not text in UTF-8 (byte 0)"));
    assert_eq!(kept(&home.bus).await, []);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_edit_takes_effect_and_a_broken_one_does_not() {
    let home = Home::new(POLICY).await;
    let enforcer = home.start().await;
    let shown = enforcer.get("/v1/policy").await;
    assert_eq!(
        (&shown["version"], &shown["source"]),
        (&1.into(), &POLICY.into())
    );
    assert_eq!(shown["limits"][0]["soft"][0]["threshold"], 80);
    assert!(shown["refused"].is_null());

    let broken = POLICY.replace("\"sliding 60s\"", "\"sliding 60\"");
    home.write(&broken);
    let refused = eventually("the broken edit is refused", async || {
        let shown = enforcer.get("/v1/policy").await;
        shown["refused"].is_object().then_some(shown)
    })
    .await;
    assert_eq!(
        (&refused["version"], &refused["source"]),
        (&1.into(), &POLICY.into())
    );
    let problem = format!(
        "{}:5:10: `60` is no span of time: a whole number and s, m, h or d, such as 60s",
        home.path().display()
    );
    assert_eq!(refused["refused"]["problems"], serde_json::json!([problem]));
    assert!((enforcer.metric("weir_enforcer_policy_refused_total") - 1.0).abs() < 0.1);

    home.write(&POLICY.replace("100", "200"));
    let shown = eventually("the edit is in force", async || {
        let shown = enforcer.get("/v1/policy").await;
        (shown["version"] == 2).then_some(shown)
    })
    .await;
    assert_eq!(shown["limits"][0]["hard"], 200);
    assert!(shown["refused"].is_null());
    assert_eq!(shown["reason"], "edited while running");
    eventually("every partition is marked", async || {
        (marked(&home.bus, &topic::USAGE).await == [[1, 2]; 3]).then_some(())
    })
    .await;

    fs::remove_file(home.path()).unwrap();
    eventually("the file's absence is told", async || {
        let shown = enforcer.get("/v1/policy").await;
        shown["refused"].is_object().then_some(())
    })
    .await;
    enforcer.stop().await;
}

/// What is written down is what the table of fields says.
#[track_caller]
fn check_docs(file: &str, made: &str, command: &str) {
    let path = format!("{}/../docs/{file}", env!("CARGO_MANIFEST_DIR"));
    let text = fs::read_to_string(&path).unwrap();
    assert!(
        text.contains(made.trim_end()),
        "docs/{file} is not what `{command}` prints; put that there"
    );
}

#[test]
fn the_reference_and_the_schema_are_written_down() {
    let reference = enforcer::policy::reference();
    check_docs("policy.md", &reference, "weir policy schema --markdown");
    let schema = serde_json::to_string_pretty(&enforcer::policy::json_schema()).unwrap();
    check_docs("policy.schema.json", &schema, "weir policy schema");
}
