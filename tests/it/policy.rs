//! The policy file, edited while Weir runs.

use std::time::Duration;

use serde_json::json;
use tests::client::Client;
use tests::eventually;
use tests::weir::{Options, Weir};

const SOON: Duration = Duration::from_secs(30);

fn policy(hard: &str) -> String {
    format!(
        "[[limit]]\nname = \"requests\"\nsubject = \"tenant/*\"\nmeter = \"requests\"\n\
         window = \"sliding 60s\"\nhard = {hard}\nmode = \"block\"\n"
    )
}

/// The number that the gateway holds `tenant` to.
async fn max(client: &Client) -> Option<u64> {
    let answer = client
        .check(&json!({ "tenant": "acme", "consume": {} }))
        .await;
    answer["limits"][0]["max"].as_u64()
}

/// Waits until the gateway holds tenants to `hard`.
pub(crate) async fn becomes(client: &Client, hard: u64) {
    eventually("the edit takes effect", SOON, async || {
        match max(client).await {
            Some(seen) if seen == hard => Ok(()),
            seen => Err(format!("{seen:?}, not {hard}")),
        }
    })
    .await;
}

#[tokio::test]
async fn a_good_edit_takes_effect_and_a_broken_one_changes_nothing() {
    let weir = Weir::start(Options::up(&policy("50"))).await;
    let client = weir.client();
    becomes(&client, 50).await;

    weir.edit_policy(&policy("20"));
    becomes(&client, 20).await;

    weir.edit_policy(&policy("\"many\""));
    let log = eventually("the broken edit is refused", SOON, async || {
        let log = weir.output();
        if log.contains("6:8") {
            Ok(log)
        } else {
            Err("nothing in the log".to_owned())
        }
    })
    .await;
    assert!(
        log.contains("many"),
        "the refusal names what is wrong:\n{log}"
    );
    assert_eq!(max(&client).await, Some(20));

    // Good again: whatever the broken edit may have left behind is gone.
    weir.edit_policy(&policy("30"));
    becomes(&client, 30).await;
}

#[tokio::test]
async fn what_is_counted_stays_counted_over_an_edit() {
    let weir = Weir::start(Options::up(&policy("50"))).await;
    let client = weir.client();
    for _ in 0..10 {
        assert_eq!(client.forward_auth("acme").await.status, 200);
    }
    weir.edit_policy(&policy("10"));
    eventually("the tighter limit holds", SOON, async || {
        match client.forward_auth("acme").await.status {
            429 => Ok(()),
            status => Err(format!("{status}")),
        }
    })
    .await;
}
