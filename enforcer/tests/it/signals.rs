//! Signals in, decisions and alerts out.

use schemas::policy::Mode;
use schemas::record::{Decision, Verdict};
use schemas::topic;

use crate::home::{Enforcer, Home, POLICY, eventually};

/// What stands for `acme` in the log.
async fn standing(home: &Home) -> Option<Decision> {
    let all = home.bus.read_all(&topic::DECISIONS).await.unwrap();
    assert!(all.len() <= 1, "{all:?}");
    all.into_iter().next().map(|(_, decision)| decision)
}

async fn stands(home: &Home) -> Decision {
    eventually("a decision stands", async || standing(home).await).await
}

async fn is_lifted(home: &Home) {
    eventually("nothing stands", async || {
        standing(home).await.is_none().then_some(())
    })
    .await;
}

async fn recorded(enforcer: &Enforcer, query: &str, count: usize) -> serde_json::Value {
    let path = format!("/v1/decisions{query}");
    eventually("the history knows", async || {
        let shown = enforcer.get(&path).await;
        (shown.as_array().unwrap().len() == count).then_some(shown)
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_crossing_blocks_is_told_and_ends_by_itself() {
    let home = Home::new(POLICY).await;
    let enforcer = home.start().await;
    home.cross("80%", 1, 60).await;
    let end = home.cross("hard", 2, 2).await;
    let decision = stands(&home).await;
    assert_eq!(
        (decision.verdict, decision.status),
        (Verdict::Block, Some(429))
    );
    assert_eq!((decision.until, decision.causes.len()), (Some(end), 1));

    let shown = recorded(&enforcer, "?standing=true", 1).await;
    assert_eq!(shown[0]["id"], decision.id);
    assert_eq!(shown[0]["until"], end.to_string());
    assert_eq!(shown[0]["causes"][0]["used"], 100);
    let one = format!("/v1/decisions/{}", decision.id);
    assert_eq!(enforcer.get(&one).await["subject"], "tenant/acme");
    assert_eq!(enforcer.get_as(&one, Some("acme")).await.0, 200);
    assert_eq!(enforcer.get_as(&one, Some("other")).await.0, 404);
    assert_eq!(enforcer.get_as("/v1/decisions/none", None).await.0, 404);
    for path in ["/v1/decisions", "/v1/decisions?subject=tenant/acme"] {
        let (status, others) = enforcer.get_as(path, Some("other")).await;
        assert_eq!((status, others), (200, serde_json::json!([])), "{path}");
    }

    is_lifted(&home).await;
    let shown = eventually("the history knows the end", async || {
        let shown = enforcer.get("/v1/decisions?standing=false").await;
        shown[0]["lifted_at"].is_string().then_some(shown)
    })
    .await;
    assert!(shown[0]["retry_after_s"].is_null());
    let alerts = alerts(&home).await;
    let told: Vec<_> = alerts
        .iter()
        .map(|a| (a.level.as_deref(), a.decision.clone()))
        .collect();
    assert_eq!(
        told,
        [(Some("80%"), None), (Some("hard"), Some(decision.id))]
    );
    enforcer.stop().await;
}

/// Every alert so far; at least one.
async fn alerts(home: &Home) -> Vec<schemas::record::Alert> {
    let mut follower = home.bus.follow(&topic::ALERTS).unwrap();
    let mut alerts = Vec::new();
    loop {
        match follower.next().await.unwrap() {
            bus::Followed::Put { value, .. } => alerts.push(value),
            bus::Followed::CaughtUp => return alerts,
            other => panic!("not among alerts: {other:?}"),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_lasts_is_said_again_also_by_the_next_process() {
    let home = Home::new(POLICY).await;
    let first = home.start().await;
    home.cross("hard", 1, 600).await;
    let decision = stands(&home).await;
    let again = eventually("it is said again", async || {
        standing(&home)
            .await
            .filter(|again| decision.seq < again.seq)
    })
    .await;
    assert_eq!((&again.id, again.until), (&decision.id, decision.until));
    first.stop().await;

    let last = stands(&home).await;
    let second = home.start().await;
    let taken_over = stands(&home).await;
    assert!(last.seq < taken_over.seq, "said again before it was ready");
    assert_eq!(taken_over.id, decision.id);
    let shown = recorded(&second, "", 1).await;
    assert_eq!(
        (&shown[0]["standing"], &shown[0]["seq"]),
        (&true.into(), &decision.seq.into())
    );
    second.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_edit_of_the_policy_lifts_what_it_no_longer_carries() {
    let home = Home::new(POLICY).await;
    let enforcer = home.start().await;
    home.cross("hard", 1, 600).await;
    stands(&home).await;
    home.write(&format!("{POLICY}mode = \"open\"\n"));
    let open = eventually("the block is open", async || {
        standing(&home)
            .await
            .filter(|decision| decision.verdict == Verdict::Allow)
    })
    .await;
    assert_eq!((open.status, open.causes[0].mode), (None, Mode::Open));
    assert_eq!(open.causes[0].verdict, Verdict::Block);
    home.write("zone = \"UTC\"\n");
    is_lifted(&home).await;
    enforcer.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_signal_that_nobody_can_read_stops_nothing() {
    let home = Home::new(POLICY).await;
    let enforcer = home.start().await;
    let raw = bus::RawRecord {
        topic: topic::SIGNALS.name(),
        partition: home.bus.partition_of(topic::SIGNALS.spec(), "acme"),
        key: Some(b"acme"),
        value: Some(b"no signal"),
        headers: &[],
    };
    home.bus.producer().enqueue_raw(raw).unwrap().await.unwrap();
    home.cross("hard", 1, 600).await;
    stands(&home).await;
    let dead = home.bus.read_all(&topic::DEAD).await.unwrap();
    let (from, dead) = dead.first().unwrap();
    assert_eq!(
        (from.as_str(), dead.value.as_deref()),
        (topic::SIGNALS.name(), Some(&b"no signal"[..]))
    );
    let unreadable = "weir_enforcer_signals_total{outcome=\"unreadable\"}";
    assert!((enforcer.metric(unreadable) - 1.0).abs() < 0.1);
    enforcer.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_due_while_the_log_is_away_is_said_when_it_is_back() {
    let mut home = Home::new(POLICY).await;
    let enforcer = home.start().await;
    home.cross("hard", 1, 600).await;
    let before = stands(&home).await;
    home.log_off().await;
    let retries = "weir_enforcer_log_retries_total";
    eventually("saying it again has failed", async || {
        (1.0 <= enforcer.metric(retries)).then_some(())
    })
    .await;
    home.log_on().await;
    let after = eventually("it is said again", async || {
        standing(&home).await.filter(|after| before.seq < after.seq)
    })
    .await;
    assert_eq!((after.id, after.until), (before.id, before.until));
    enforcer.stop().await;
}
