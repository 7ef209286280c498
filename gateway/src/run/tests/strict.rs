//! Strict limits over restarts: what was spent is read back from the log.

use super::*;
use crate::handle::{Held, NotHeld};
use crate::request::Consume;

impl Scene {
    /// The gateway ends, in order, and another takes its place.
    async fn restart(&mut self) {
        self.stop.cancel();
        self.running.join_next().await.unwrap().unwrap().unwrap();
        let service = gateway(&self.bus).await;
        self.handle = service.handle();
        self.ready = Box::new(service.readiness());
        self.stop = CancellationToken::new();
        self.run(service).await;
    }

    async fn reserve(&self, requests: u64) -> Result<Held, NotHeld> {
        let consume = requests_of(requests);
        let ask = Ask::default()
            .with(Dimension::Tenant, "acme")
            .using(consume);
        self.handle.reserve(ask, Duration::from_secs(60)).await
    }

    async fn commit(&self, held: &Held, requests: u64) {
        let actual = requests_of(requests);
        let committed = self.handle.commit(&held.reservation, &actual).await;
        committed.receipt.given().await;
    }

    /// How much a reservation may still hold.
    async fn left(&self) -> u64 {
        let mut left = 0;
        while let Ok(held) = self.reserve(left + 1).await {
            self.handle.release(&held.reservation).await;
            left += 1;
        }
        left
    }
}

fn requests_of(requests: u64) -> Consume {
    Consume {
        requests: Some(requests),
        ..Consume::default()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_forgets_nothing_that_was_spent() {
    let (mut scene, service) = Scene::new().await;
    scene.put_policy_in(Mode::Strict, 1, 20).await;
    scene.run(service).await;
    for _ in 0..3 {
        assert!(!scene.ask("acme").is_refused());
    }
    let committed = scene.reserve(7).await.unwrap();
    let late = scene.reserve(5).await.unwrap();
    let dropped = scene.reserve(5).await.unwrap();
    assert_eq!(scene.left().await, 0);
    scene.commit(&committed, 4).await;
    // Told twice, it is in the log twice.
    scene.commit(&committed, 4).await;
    assert_eq!(scene.left().await, 3);

    scene.restart().await;
    // What was never committed is not spent.
    assert_eq!(scene.left().await, 13);
    scene.commit(&committed, 4).await;
    assert_eq!(scene.left().await, 13);
    scene.commit(&late, 6).await;
    assert_eq!(scene.left().await, 7);
    assert!(scene.handle.release(&dropped.reservation).await.is_none());

    scene.restart().await;
    assert_eq!(scene.left().await, 7);
    let usage = events(scene.logged(&topic::USAGE, 7).await);
    let mut names: Vec<(String, i64)> = usage
        .into_iter()
        .map(|(_, usage)| {
            assert_eq!(usage.event_source, "weir-reservations");
            assert_eq!(usage.reservation, Some(usage.event_id.clone()));
            (usage.event_id, usage.requests)
        })
        .collect();
    names.sort_unstable();
    names.dedup();
    // By its own deduplication the aggregator counts what the ledger does.
    assert_eq!(names.iter().map(|(_, requests)| requests).sum::<i64>(), 13);
    scene.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_cleared_stays_cleared_over_a_restart() {
    let (mut scene, service) = Scene::new().await;
    scene.put_policy_in(Mode::Strict, 1, 20).await;
    scene.run(service).await;
    let held = scene.reserve(5).await.unwrap();
    let spent = scene.reserve(9).await.unwrap();
    scene.commit(&spent, 9).await;
    assert_eq!(scene.left().await, 6);
    let order = schemas::orders::Order {
        command: "c1".to_owned(),
        seq: 3,
        subject: Subject::tenant("acme"),
        at: SystemClock.now(),
        until: Some(SystemClock.now().plus(Duration::from_secs(4_000))),
        change: schemas::orders::Change::Cleared {
            limit: "rate".to_owned(),
            reason: "test".to_owned(),
        },
    };
    let key = order.key().to_string();
    let record = PolicyRecord::Order((&order).into());
    let producer = scene.bus.producer();
    let sent = producer.send(&topic::POLICIES, &key, &record);
    sent.await.unwrap();
    for _ in 0..2_000 {
        if scene.left().await == 15 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(scene.left().await, 15);
    // What was held is spent after it.
    scene.commit(&held, 4).await;
    assert_eq!(scene.left().await, 16);
    // The same again says nothing new.
    let again = producer.send(&topic::POLICIES, &key, &record);
    again.await.unwrap();
    drop(producer);

    scene.restart().await;
    assert_eq!(scene.left().await, 16);
    scene.end().await;
}
