//! kill -9 at random points while events come in: after the last restart every figure is that of the recount, as if
//! nothing had happened. `WEIR_KILLS` sets how often (10 unless it does).

use std::time::Duration;

use tests::client::Client;
use tests::eventually;
use tests::figures::{Figures, conserved};
use tests::scene::{Log, Scene, Store};
use tests::setting;
use tests::trace;
use tests::weir::{Options, Weir};

/// Of several batches one is interrupted.
const BATCHES_PER_KILL: usize = 4;
const KILLS: usize = 10;
/// Longer than a batch takes, so that some kills hit a request and others what comes after it.
const KILL_AFTER_MAX_MS: u64 = 60;
/// So often that some restarts go on from a snapshot, and others from the log alone.
const CONFIG: &str = "[aggregator]\nsnapshot_interval_s = 1\n";
const COUNTED_WITHIN: Duration = Duration::from_secs(120);

async fn check(log: Log) {
    let mut scene = Scene::start(
        log,
        Store::Sqlite,
        Options::up(trace::LIMIT).with_config(CONFIG),
    )
    .await;
    let expected = trace::expected();
    let events = trace::events();
    let batch = events.len() / (BATCHES_PER_KILL * setting("WEIR_KILLS", KILLS)) + 1;
    for (index, batch) in events.chunks(batch).enumerate() {
        if index % BATCHES_PER_KILL == 1 {
            kill_during(&mut scene.weir, batch).await;
        }
        post(&scene.weir.client(), batch).await;
    }
    let client = scene.weir.client();
    eventually(
        "the recount's figures",
        COUNTED_WITHIN,
        async || match Figures::read(&client, &expected)
            .await
            .differences(&expected)
        {
            none if none.is_empty() => Ok(()),
            found => Err(format!(
                "{} differences: {:#?}",
                found.len(),
                &found[..found.len().min(5)]
            )),
        },
    )
    .await;
    conserved(&client.metrics().await, "weir.usage.v1").expect("every event has an outcome");
}

/// Posts `batch` and kills Weir at some moment of it; then starts it again.
async fn kill_during(weir: &mut Weir, batch: &[String]) {
    let client = weir.client();
    let after = Duration::from_millis(rand::random_range(0..KILL_AFTER_MAX_MS));
    tokio::select! {
        // Whether it was taken is not known to a client whose server died: it will send it again.
        _ = client.try_post(batch.join("\n")) => tokio::time::sleep(after / 4).await,
        () = tokio::time::sleep(after) => {}
    }
    weir.kill9();
    weir.start_again().await;
}

/// Posts as an honest client does: again and again, until it is told that all is taken.
async fn post(client: &Client, batch: &[String]) {
    eventually("a batch is taken", Duration::from_secs(60), async || {
        let answer = client.try_post(batch.join("\n")).await?;
        (answer.status == 202)
            .then_some(())
            .ok_or_else(|| answer.text())
    })
    .await;
}

#[tokio::test]
async fn nothing_is_lost_or_doubled_on_the_embedded_log() {
    check(Log::Embedded).await;
}

#[tokio::test]
async fn nothing_is_lost_or_doubled_on_kafka() {
    check(Log::Kafka).await;
}
