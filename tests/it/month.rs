//! A budget of a calendar month is new when the month is, in the tenant's own zone and to the second: nothing has to
//! happen for it.

use std::time::Duration;

use schemas::time::Timestamp;
use serde_json::{Value, json};
use tests::client::Client;
use tests::eventually;
use tests::wall_clock::WallClock;
use tests::weir::{Options, Weir};

/// Tenants, when their October ends, and when their November does. Clocks change within one or the other in each zone
/// but the first.
const TENANTS: [(&str, &str, &str); 3] = [
    ("auckland", "2026-10-31T11:00:00Z", "2026-11-30T11:00:00Z"),
    ("berlin", "2026-10-31T23:00:00Z", "2026-11-30T23:00:00Z"),
    (
        "los-angeles",
        "2026-11-01T07:00:00Z",
        "2026-12-01T08:00:00Z",
    ),
];
const POLICY: &str = r#"
[[limit]]
name = "money"
subject = "tenant/*"
meter = "cost"
window = "calendar month"
hard = "20 USD"
mode = "block"

[[limit]]
name = "calls"
subject = "tenant/*/user/*"
meter = "requests"
window = "calendar month"
hard = 3
mode = "block"

[tenant.auckland]
zone = "Pacific/Auckland"
[tenant.berlin]
zone = "Europe/Berlin"
[tenant.los-angeles]
zone = "America/Los_Angeles"
"#;
const SECOND: Duration = Duration::from_secs(1);
const SOON: Duration = Duration::from_secs(60);

fn time(text: &str) -> Timestamp {
    Timestamp::parse(text).expect("a time")
}

/// Money of the tenant, which is told by an event and refused by a decision.
fn money(tenant: &str) -> Value {
    json!({ "tenant": tenant, "consume": {} })
}

/// Calls of a user, which the gateway counts itself.
fn calls(tenant: &str) -> Value {
    json!({ "tenant": tenant, "user": "u", "consume": {} })
}

struct Stage {
    clock: WallClock,
    client: Client,
    _weir: Weir,
}

impl Stage {
    async fn start(at: Timestamp) -> Self {
        let clock = WallClock::running_from(at);
        let weir = Weir::start(Options {
            environment: clock.environment(),
            ..Options::up(POLICY)
        });
        let weir = weir.await;
        Self {
            clock,
            client: weir.client(),
            _weir: weir,
        }
    }

    async fn spend(&self, tenant: &str, id: &str) {
        let event = json!({
            "specversion": "1.0", "id": id, "source": "tests", "type": "usage", "subject": tenant,
            "time": self.clock.now().to_string(),
            "data": { "cost_usd": "20.000000000000", "requests": 0 },
        });
        self.client.post(&[event.to_string()]).await;
    }

    /// Waits until the tenant's money is spent, and gives the cause that says so.
    async fn is_spent(&self, tenant: &str) -> Value {
        eventually(&format!("{tenant} has spent its money"), SOON, async || {
            let answer = self.client.check(&money(tenant)).await;
            match answer["verdict"] == "block" {
                true => Ok(answer["causes"][0].clone()),
                false => Err(answer.to_string()),
            }
        })
        .await
    }

    /// The clock stands a second before `end`: both are refused, for a second more.
    async fn check_last_second(&mut self, tenant: &str, end: Timestamp) {
        self.clock.stand_at(end.minus(SECOND));
        for asked in [money(tenant), calls(tenant)] {
            let answer = self.client.check(&asked).await;
            assert_eq!(answer["verdict"], "block", "{asked}: {answer}");
            assert_eq!(answer["retry_after_s"], 1, "{asked}: {answer}");
            for cause in answer["causes"].as_array().expect("causes") {
                assert_eq!(cause["reset_at"], end.to_string(), "{asked}: {answer}");
            }
        }
        let forwarded = self.client.forward_auth(tenant).await;
        let told = (forwarded.status, forwarded.header("retry-after"));
        assert_eq!(told, (429, Some("1")));
    }

    /// The clock runs on from there: refused while it shows the old month, admitted as soon as it shows the new one.
    async fn check_change(&mut self, tenant: &str, end: Timestamp) {
        self.clock.run_from(end.minus(SECOND));
        let mut admitted = [false; 2];
        while admitted != [true; 2] {
            for (asked, admitted) in [money(tenant), calls(tenant)].iter().zip(&mut admitted) {
                let before = self.clock.now();
                let answer = self.client.check(asked).await;
                let after = self.clock.now();
                *admitted = answer["verdict"] == "allow";
                assert!(end <= after || !*admitted, "{after}: {answer}");
                assert!(before < end || *admitted, "{before}: {answer}");
            }
        }
    }
}

#[tokio::test]
async fn a_budget_is_new_in_the_second_in_which_the_month_is() {
    let mut stage = Stage::start(time("2026-10-31T09:30:00Z")).await;
    for (tenant, end, _) in TENANTS {
        for _ in 0..3 {
            let call = json!({ "tenant": tenant, "user": "u", "consume": { "requests": 1 } });
            assert_eq!(stage.client.check(&call).await["verdict"], "allow");
        }
        stage.spend(tenant, "october").await;
        assert_eq!(
            stage.is_spent(tenant).await["reset_at"],
            time(end).to_string()
        );
    }
    for (n, (tenant, end, next_end)) in TENANTS.into_iter().enumerate() {
        stage.check_last_second(tenant, time(end)).await;
        stage.check_change(tenant, time(end)).await;
        // Where it is October still, nothing has changed.
        for (later, ..) in &TENANTS[n + 1..] {
            assert_eq!(stage.is_spent(later).await["used"], "20000000000000");
        }
        // The new month begins with nothing.
        stage.spend(tenant, "november").await;
        let cause = stage.is_spent(tenant).await;
        assert_eq!(cause["used"], "20000000000000", "{cause}");
        assert_eq!(cause["reset_at"], time(next_end).to_string());
    }
}
