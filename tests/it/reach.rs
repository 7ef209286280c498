//! How long it takes until every gateway goes by what was changed: a raise, a tier, a version of the policy.

use std::time::Duration;

use serde_json::{Value, json};
use tests::client::Client;
use tests::events::now;
use tests::waits::Waits;
use tests::weir::{Options, Weir};

const SOON: Duration = Duration::from_secs(60);
/// How often each way is gone.
const TIMES: i64 = 40;

/// Tenants without a tier have `hard`, those in `pro` 5000 and those in `plus` 7000.
fn policy(hard: i64) -> String {
    let limit = |table: &str, hard: i64| {
        format!(
            "[[{table}]]\nname = \"tokens\"\nsubject = \"tenant/*\"\nmeter = \"tokens\"\n\
             window = \"sliding 10m\"\nhard = {hard}\n"
        )
    };
    let tables = [
        ("limit", hard),
        ("tier.pro.limit", 5000),
        ("tier.plus.limit", 7000),
    ];
    tables.map(|(table, hard)| limit(table, hard)).concat()
}

/// What changes how much a tenant may use.
#[derive(Clone, Copy, Debug)]
enum Way {
    Raise,
    SetTier,
    Apply,
}

impl Way {
    /// Goes it for the `n`th time; the number that holds from then on for the tenant of its name.
    async fn go(self, client: &Client, n: i64) -> i64 {
        let tenant = format!("tenant/{self:?}");
        let (command, hard) = match self {
            Way::Raise => {
                let raise = json!({ "kind": "raise", "subject": tenant, "limit": "tokens", "hard": 2000 + n, "reason": "test" });
                (raise, 2000 + n)
            }
            Way::SetTier => {
                let (tier, hard) = [("pro", 5000), ("plus", 7000)][(n % 2) as usize];
                let set = json!({ "kind": "set_tier", "subject": tenant, "tier": tier, "reason": "test" });
                (set, hard)
            }
            Way::Apply => {
                client.apply(&policy(9000 + n)).await;
                return 9000 + n;
            }
        };
        client.ordered(&command).await;
        hard
    }
}

/// The number that a gateway holds this way's tenant to.
async fn max(gateway: &Client, way: Way, consume: Value) -> Value {
    let ask = json!({ "tenant": format!("{way:?}"), "consume": consume });
    gateway.check(&ask).await["limits"][0]["max"].clone()
}

#[expect(clippy::print_stderr, reason = "the figures are what it is run for")]
#[tokio::test]
async fn a_change_reaches_every_gateway_soon() {
    let weir = Weir::start(Options::up(&policy(1000))).await;
    let options = Options {
        command: "gateway",
        ..Options::up("")
    };
    let gateway = Weir::start(options.on(Some(weir.bootstrap()))).await;
    let client = weir.client();
    let both = [client.clone(), weir.client_at(&gateway)];
    for way in [Way::Raise, Way::SetTier, Way::Apply] {
        // A number that nothing is used of is not told: something is.
        for gateway in &both {
            max(gateway, way, json!({ "tokens": 1 })).await;
        }
        let mut took = Vec::new();
        for n in 0..TIMES {
            let since = now();
            let hard = way.go(&client, n).await;
            for gateway in &both {
                while max(gateway, way, json!({})).await != hard {
                    assert!(now().since(since) < SOON, "{way:?}: {hard} never came");
                }
            }
            took.push(now().since(since));
        }
        let took = Waits::new(took);
        eprintln!(
            "{way:?}: asked for until both gateways go by it, {TIMES} times: p50 {:?}, p99 {:?} (goal: 250 ms)",
            took.quantile(50),
            took.quantile(99)
        );
    }
}
