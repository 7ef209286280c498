//! People are told by webhook and mail: each thing once, also when nobody listens at first.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::{Value, json};
use tests::client::Client;
use tests::events::usage;
use tests::eventually;
use tests::receiver::{Receiver, SECRET, eager_channel};
use tests::smtp::Smtp;
use tests::weir::{Options, Weir};

const POLICY: &str = r#"
[[limit]]
name = "tokens"
subject = "tenant/*"
meter = "tokens"
window = "sliding 10m"
soft = ["80%"]
hard = 1000
mode = "block"
"#;
const SOON: Duration = Duration::from_secs(60);

fn config(webhook: &str, smtp: u16) -> String {
    let hook = eager_channel(webhook);
    format!(
        r#"{hook}
[[notifier.channel]]
name = "post"
kind = "mail"
smtp = "127.0.0.1:{smtp}"
from = "Weir <weir@example.test>"
to = ["ops@example.test"]
"#
    )
}

/// Uses 850 and then 1000 of `tenant`'s 1000 tokens: 80 % and 100 %.
async fn cross_both_levels(client: &Client, tenant: &str) {
    for tokens in [850, 150] {
        client
            .post(&[usage(tenant, &json!({ "input_tokens": tokens }))])
            .await;
    }
}

/// Each alert of `tenant` with how many tries each of its deliveries has taken.
async fn attempts(client: &Client, tenant: &str) -> Vec<u64> {
    let subject = format!("tenant/{tenant}");
    let alerts = client.list("/v1/alerts", &[("subject", &subject)]).await;
    let deliveries = alerts
        .iter()
        .filter_map(|alert| alert["deliveries"].as_array())
        .flatten();
    deliveries
        .map(|delivery| delivery["attempts"].as_u64().unwrap_or(0))
        .collect()
}

/// How often each thing was told: by tenant and kind.
type Told = BTreeMap<(String, String), usize>;

fn told_by_webhook(receiver: &Receiver) -> Told {
    let mut told = Told::new();
    for webhook in receiver.received() {
        assert!(webhook.is_signed_with(SECRET), "signed: {webhook:?}");
        let data: Value = webhook.json()["data"].clone();
        let part = |name: &str| data[name].as_str().unwrap_or_default().to_owned();
        *told.entry((part("tenant"), part("kind"))).or_default() += 1;
    }
    told
}

fn told_by_mail(smtp: &Smtp) -> Told {
    let mut told = Told::new();
    for mail in smtp.mails() {
        let subject = mail
            .lines()
            .find(|line| line.starts_with("Subject:"))
            .expect("a subject");
        let tenant = ["acme", "marker"]
            .into_iter()
            .find(|tenant| subject.contains(tenant));
        let kind = if subject.contains("has reached") {
            "hard"
        } else {
            "soft"
        };
        let tenant = tenant.expect("a tenant in the subject").to_owned();
        *told.entry((tenant, kind.to_owned())).or_default() += 1;
    }
    told
}

#[tokio::test]
async fn each_crossing_is_told_once_though_nobody_listens_at_first() {
    let (mut receiver, mut smtp) = (Receiver::down(), Smtp::down());
    let config = config(&receiver.url(), smtp.port());
    let weir = Weir::start(Options::up(POLICY).with_config(&config)).await;
    let client = weir.client();

    cross_both_levels(&client, "acme").await;
    eventually("several tries in vain", SOON, async || {
        match attempts(&client, "acme").await {
            tries if tries.len() == 4 && tries.iter().all(|tries| 3 <= *tries) => Ok(()),
            tries => Err(format!("{tries:?}")),
        }
    })
    .await;
    receiver.start().await;
    smtp.start().await;

    // What comes later and has arrived shows that nothing else of what came before is under way.
    cross_both_levels(&client, "marker").await;
    let levels = ["acme", "marker"]
        .map(|tenant| ["soft", "hard"].map(|kind| (tenant.to_owned(), kind.to_owned())));
    let once: Told = levels
        .into_iter()
        .flatten()
        .map(|thing| (thing, 1))
        .collect();
    eventually("all is told", SOON, async || {
        let told = [told_by_webhook(&receiver), told_by_mail(&smtp)];
        if told.iter().all(|told| told.len() == once.len()) {
            Ok(())
        } else {
            Err(format!("{told:?}"))
        }
    })
    .await;
    assert_eq!(told_by_webhook(&receiver), once);
    assert_eq!(told_by_mail(&smtp), once);
}

#[tokio::test]
async fn the_alert_names_the_decision_that_refuses() {
    let mut receiver = Receiver::down();
    receiver.start().await;
    let weir = Weir::start(Options::up(POLICY).with_config(&config(&receiver.url(), 1))).await;
    let client = weir.client();
    cross_both_levels(&client, "acme").await;
    let alert = eventually("the alert of 100 %", SOON, async || {
        let alerts: Vec<Value> = receiver
            .received()
            .iter()
            .map(|webhook| webhook.json())
            .collect();
        let hard = alerts
            .iter()
            .find(|alert| alert["data"]["kind"] == "hard")
            .cloned();
        hard.ok_or_else(|| format!("{alerts:?}"))
    })
    .await;
    let refused = eventually("the refusal", SOON, async || {
        match client.forward_auth("acme").await {
            answer if answer.status == 429 => Ok(answer),
            answer => Err(answer.status.to_string()),
        }
    })
    .await;
    assert_eq!(
        alert["data"]["decision"].as_str(),
        refused.header("x-weir-decision")
    );
}
