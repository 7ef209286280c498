//! Limits on sets: ids that are counted together are refused together, and no others; an edit of the ids takes effect
//! while Weir runs, and keeps what was counted.

use std::time::Duration;

use serde_json::{Value, json};
use tests::client::Client;
use tests::events::usage;
use tests::eventually;
use tests::weir::{Options, Weir};

const SOON: Duration = Duration::from_secs(60);
const SET: &str = "model/{slow}";

fn policy(ids: &str, hard: i64) -> String {
    format!(
        "[set.slow]\ndimension = \"model\"\nids = {ids}\n\
         [[limit]]\nname = \"slow\"\nsubject = \"model/{{slow}}\"\nmeter = \"tokens\"\nwindow = \"sliding 10m\"\n\
         hard = {hard}\n\
         [[limit]]\nname = \"each\"\nsubject = \"tenant/*/user/*/model/{{slow}}\"\nmeter = \"requests\"\n\
         window = \"sliding 10m\"\nhard = 3\n"
    )
}

/// What only looks.
fn look(tenant: &str, model: &str) -> Value {
    json!({ "tenant": tenant, "model": model, "consume": {} })
}

async fn becomes(client: &Client, (tenant, model): (&str, &str), status: u64) {
    eventually(&format!("{tenant} {model}: {status}"), SOON, async || {
        let answer = client.check(&look(tenant, model)).await;
        match answer["status"] == status {
            true => Ok(()),
            false => Err(answer.to_string()),
        }
    })
    .await;
}

/// As they are answered now.
#[track_caller]
fn are(client: &Client, asked: &[(&str, &str, u64)]) -> impl Future<Output = ()> {
    let place = std::panic::Location::caller();
    async move {
        for (tenant, model, status) in asked {
            let answer = client.check(&look(tenant, model)).await;
            assert_eq!(answer["status"], *status, "{tenant} {model} at {place}");
        }
    }
}

async fn use_tokens(client: &Client, tenant: &str, model: &str, tokens: i64) {
    let data = json!({ "model": model, "input_tokens": tokens });
    client.post(&[usage(tenant, &data)]).await;
}

/// The gateway's own windows.
async fn one_window_for_all_ids(client: &Client) {
    let call = |user: &str, model: &str| json!({ "tenant": "own", "user": user, "model": model });
    let asked = [
        ("u", "opus", 200),
        ("u", "slow-1", 200),
        ("u", "slow-2", 200),
        ("u", "opus", 429),
        ("u", "slow-3", 429),
        ("u", "haiku", 200),
        ("v", "opus", 200),
    ];
    for (user, model, status) in asked {
        let answer = client.check(&call(user, model)).await;
        assert_eq!(answer["status"], status, "{user} {model}: {answer}");
    }
}

/// The sum at which the limit with this number was reached.
async fn crossed_at(client: &Client, hard: i64) -> Value {
    eventually(&format!("the crossing of {hard}"), SOON, async || {
        let query = [("subject", SET), ("limit", "slow")];
        let crossings = client.list("/v1/signals", &query).await;
        let mut reached = crossings.iter().filter(|c| c["direction"] == "up");
        let found = reached.find(|crossing| crossing["max"] == hard);
        match found {
            Some(crossing) => Ok(crossing["sum"].clone()),
            None => Err(format!("{crossings:?}")),
        }
    })
    .await
}

#[tokio::test]
async fn ids_of_a_set_are_one_subject() {
    let weir = Weir::start(Options::up(&policy("[\"slow-*\", \"opus\"]", 1_000))).await;
    let client = weir.client();
    one_window_for_all_ids(&client).await;

    use_tokens(&client, "acme", "slow-1", 600).await;
    use_tokens(&client, "acme", "haiku", 5_000).await;
    use_tokens(&client, "beta", "opus", 400).await;
    becomes(&client, ("gamma", "opus"), 429).await;
    let others = [
        ("gamma", "slow-1", 429),
        // Nobody has used it.
        ("gamma", "slow-9", 429),
        ("gamma", "haiku", 200),
        ("gamma", "{slow}", 200),
    ];
    are(&client, &others).await;
    assert_eq!(crossed_at(&client, 1_000).await, 1_000);
    eventually("what is used of the set", SOON, async || {
        let limits = client.get("/v1/limits", &[("subject", SET)]).await;
        match limits[0]["used"] == 1_000 && limits[0]["name"] == "slow" {
            true => Ok(()),
            false => Err(limits.to_string()),
        }
    })
    .await;

    // One more id, and then another number: what was counted is still there.
    weir.edit_policy(&policy("[\"slow-*\", \"opus\", \"haiku\"]", 1_000));
    becomes(&client, ("gamma", "haiku"), 429).await;
    weir.edit_policy(&policy("[\"slow-*\", \"opus\", \"haiku\"]", 1_500));
    becomes(&client, ("gamma", "opus"), 200).await;
    becomes(&client, ("gamma", "haiku"), 200).await;
    let block = json!({ "kind": "block", "subject": "tenant/beta/model/{slow}", "reason": "test" });
    client.ordered(&block).await;
    becomes(&client, ("beta", "slow-1"), 403).await;
    let others = [
        ("beta", "haiku", 403),
        ("beta", "sonnet", 200),
        ("gamma", "slow-1", 200),
    ];
    are(&client, &others).await;
    use_tokens(&client, "acme", "haiku", 500).await;
    becomes(&client, ("gamma", "slow-1"), 429).await;
    are(
        &client,
        &[("gamma", "haiku", 429), ("gamma", "sonnet", 200)],
    )
    .await;
    assert_eq!(crossed_at(&client, 1_500).await, 1_500);
}
