//! Commands on a log and a store of their own.

use bus::consumer::{Event, Start, Subscription};
use schemas::codec::Wire as _;
use schemas::record::{PolicyRecord, Recorded, UsageRecord};
use schemas::topic;
use serde_json::{Value, json};

use crate::home::{Enforcer, Home, POLICY, eventually};

impl Enforcer {
    /// Gives a command as an operator, which must be taken; returns its id.
    async fn order(&self, command: Value) -> String {
        let (status, body) = self.post("/v1/commands", None, &command).await;
        assert_eq!(status, 201, "{body}");
        body["id"].as_str().unwrap().to_owned()
    }

    /// What stands for `tenant/acme`, as the ids of its causes, once it is that.
    async fn stands(&self, expected: &[&str]) {
        eventually(&format!("{expected:?} stand"), async || {
            let standing = self.get("/v1/decisions?standing=true").await;
            let causes = standing[0]["causes"]
                .as_array()
                .cloned()
                .unwrap_or_default();
            let causes: Vec<&str> = causes
                .iter()
                .filter_map(|c| c["crossing"].as_str())
                .collect();
            (causes == expected).then_some(())
        })
        .await;
    }
}

fn raise(id: &str, hard: i64) -> Value {
    json!({"id": id, "kind": "raise", "subject": "tenant/acme", "limit": "rpm", "hard": hard, "for": "1h",
           "reason": "launch day"})
}

/// The keys of all orders that stand.
async fn orders(home: &Home) -> Vec<String> {
    let all = home.bus.read_all(&topic::POLICIES).await.unwrap();
    let orders = all
        .into_iter()
        .filter(|(_, value)| matches!(value, PolicyRecord::Order(_)));
    orders.map(|(key, _)| key).collect()
}

/// The markers of orders among usage, as partition, command and whether it is its end.
async fn markers(home: &Home) -> Vec<(i32, String, bool)> {
    let subscription = Subscription {
        group: "look-at-markers".to_owned(),
        topics: vec![topic::USAGE.spec()],
        start: Start::Stored,
        batch_records_max: 100,
    };
    let mut consumer = home.bus.consume(subscription).unwrap();
    let partitions = home.bus.partitions(topic::USAGE.spec());
    let (mut found, mut caught_up) = (Vec::new(), 0);
    while caught_up < partitions {
        match consumer.next().await {
            Event::Assigned(assigned) => assigned.start(&[]),
            Event::Records(batch) => {
                for record in &batch.records {
                    let value = record.value.as_deref().unwrap();
                    if let Recorded::Marker(marker) = UsageRecord::decode(value).unwrap()
                        && let Some(order) = marker.order
                    {
                        found.push((batch.partition.index, order.command, order.ended));
                    }
                }
            }
            Event::CaughtUp(_) => caught_up += 1,
            Event::Revoked(revoked) => revoked.done(),
            Event::Failed(error) => panic!("{error}"),
        }
    }
    consumer.close().await;
    found
}

#[tokio::test(flavor = "multi_thread")]
async fn a_raise_lifts_and_its_undoing_blocks_again() {
    let home = Home::new(POLICY).await;
    let enforcer = home.start().await;
    home.cross("hard", 1, 3_000).await;
    enforcer.stands(&["hard-1"]).await;

    let id = enforcer.order(raise("launch", 200)).await;
    assert_eq!(id, "launch");
    enforcer.stands(&[]).await;
    assert_eq!(orders(&home).await, ["override/tenant/acme#rpm"]);
    let partition = home.bus.partition_of(topic::USAGE.spec(), "acme");
    let begins = [(partition, id.clone(), false)];
    assert_eq!(markers(&home).await, begins);

    // Another process knows of it, and of what it undoes.
    enforcer.stop().await;
    let enforcer = home.start().await;
    home.cross("hard", 2, 3_000).await;
    let undo = json!({"kind": "undo", "command": "launch", "reason": "enough"});
    enforcer.order(undo).await;
    enforcer.stands(&["hard-2"]).await;
    eventually("the order has left", async || {
        orders(&home).await.is_empty().then_some(())
    })
    .await;
    let ended = (partition, id, true);
    assert_eq!(markers(&home).await.last(), Some(&ended));
    enforcer.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn undoing_brings_back_what_was_replaced() {
    let home = Home::new(POLICY).await;
    let enforcer = home.start().await;
    let first = enforcer.order(raise("first", 200)).await;
    let second = enforcer.order(raise("second", 300)).await;
    let undo = |of: &str| json!({"kind": "undo", "command": of, "reason": "enough"});
    let (status, answer) = enforcer.post("/v1/commands", None, &undo(&second)).await;
    assert_eq!((status, &answer["back"]), (201, &json!(first)), "{answer}");
    let stands = async |expected: Option<(&str, i128)>| {
        eventually("the order that stands", async || {
            let all = home.bus.read_all(&topic::POLICIES).await.ok()?;
            let mut orders = all.iter().filter_map(|(_, value)| match value {
                PolicyRecord::Order(order) => Some((order.command.as_str(), order.hard?.0)),
                _ => None,
            });
            (orders.next() == expected).then_some(())
        })
        .await;
    };
    stands(Some((&first, 200))).await;
    let (_, answer) = enforcer.post("/v1/commands", None, &undo(&first)).await;
    assert_eq!(answer["back"], Value::Null);
    stands(None).await;
    enforcer.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_order_ends_in_the_log_also_after_a_restart() {
    let home = Home::new(POLICY).await;
    let enforcer = home.start().await;
    let command = json!({"kind": "raise", "subject": "tenant/acme", "limit": "rpm", "hard": 300, "for": "2s",
                         "reason": "a moment"});
    enforcer.order(command).await;
    eventually("it stands", async || {
        (!orders(&home).await.is_empty()).then_some(())
    })
    .await;
    enforcer.stop().await;
    let enforcer = home.start().await;
    eventually("it has left", async || {
        orders(&home).await.is_empty().then_some(())
    })
    .await;
    assert!(markers(&home).await.last().unwrap().2);
    enforcer.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn commands_are_a_trail_that_each_may_read_of_itself() {
    let home = Home::new(POLICY).await;
    let enforcer = home.start().await;
    let block = json!({"kind": "block", "subject": "tenant/other/user/u", "reason": "abuse"});
    let block = enforcer.order(block).await;
    let first = enforcer.order(raise("once", 200)).await;
    // The same again is the same; another one of this id is not.
    assert_eq!(enforcer.order(raise("once", 200)).await, first);
    let (status, _) = enforcer
        .post("/v1/commands", None, &raise("once", 300))
        .await;
    assert_eq!(status, 409);

    let all = eventually("both are in the history", async || {
        let all = enforcer.get("/v1/commands").await;
        (all.as_array().unwrap().len() == 2).then_some(all)
    })
    .await;
    assert_eq!(
        (&all[0]["id"], &all[1]["id"]),
        (&json!(first), &json!(block))
    );
    let raise = &all[0];
    assert_eq!(raise["kind"], "raise");
    assert_eq!(
        (&raise["limit"], &raise["hard"]),
        (&json!("rpm"), &json!(200))
    );
    assert_eq!(
        (&raise["actor"], &raise["reason"]),
        (&json!("operator-1"), &json!("launch day"))
    );
    let blocks = enforcer
        .get("/v1/commands?kind=block&subject=tenant/other")
        .await;
    assert_eq!(blocks.as_array().unwrap().len(), 1);
    assert_eq!(enforcer.get("/v1/commands?limit=1").await, json!([all[0]]));

    let (status, own) = enforcer.get_as("/v1/commands", Some("other")).await;
    assert_eq!((status, &own), (200, &json!([all[1]])));
    let hidden = enforcer
        .get_as("/v1/commands?subject=tenant/acme", Some("other"))
        .await;
    assert_eq!(hidden, (200, json!([])));
    enforcer.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_wrong_is_told_with_pointers_and_changes_nothing() {
    let home = Home::new(POLICY).await;
    let enforcer = home.start().await;
    let wrong = json!({"kind": "raise", "subject": "tenant/acme", "limit": "rmp", "hard": 1, "reason": "r"});
    let (status, body) = enforcer.post("/v1/commands", None, &wrong).await;
    assert_eq!(
        (status, &body["errors"][0]["pointer"]),
        (422, &json!("/limit"))
    );
    assert!(
        body["detail"]
            .as_str()
            .unwrap()
            .contains("did you mean `rpm`?"),
        "{body}"
    );
    let unknown = json!({"kind": "undo", "command": "c9", "reason": "r"});
    let (status, body) = enforcer.post("/v1/commands", None, &unknown).await;
    assert_eq!(
        (status, &body["errors"][0]["pointer"]),
        (422, &json!("/command"))
    );
    let good = enforcer.order(raise("good", 200)).await;
    eventually("the good one is in the history", async || {
        let all = enforcer.get("/v1/commands").await;
        let ids: Vec<&str> = all
            .as_array()?
            .iter()
            .filter_map(|c| c["id"].as_str())
            .collect();
        (ids == [good.as_str()]).then_some(())
    })
    .await;
    enforcer.stop().await;
}
