//! Asks Weir what it knows, over HTTP, for one look of the view.

use serde_json::Value;

use super::client::Client;
use super::play::{Played, Totals};
use super::receiver::{Received, Receiver};

/// Tenants whose limits are shown: the busiest of the trace.
const TENANTS: [&str; 5] = [
    "tenant-00",
    "tenant-01",
    "tenant-02",
    "tenant-03",
    "tenant-05",
];

/// One look at everything.
#[derive(Clone, Debug, Default)]
pub(super) struct State {
    pub(super) totals: Totals,
    pub(super) counted: u64,
    pub(super) late: u64,
    pub(super) duplicate: u64,
    pub(super) dead: u64,
    pub(super) tokens: u64,
    pub(super) cost_usd: String,
    pub(super) bars: Vec<Bar>,
    pub(super) standing: Vec<Standing>,
    pub(super) groups: Vec<Group>,
    pub(super) alerts: Received,
}

/// How near a subject is to a limit.
#[derive(Clone, Debug)]
pub(super) struct Bar {
    pub(super) subject: String,
    pub(super) limit: String,
    pub(super) used: u64,
    pub(super) max: u64,
}

/// A decision that stands.
#[derive(Clone, Debug)]
pub(super) struct Standing {
    pub(super) subject: String,
    pub(super) verdict: String,
    pub(super) status: String,
    pub(super) retry_after: String,
    pub(super) limit: String,
}

/// A kind of violation that browsers report.
#[derive(Clone, Debug)]
pub(super) struct Group {
    pub(super) directive: String,
    pub(super) blocked_host: String,
    pub(super) count: u64,
}

pub(super) async fn look(
    client: &Client,
    played: &Played,
    receiver: &Receiver,
) -> anyhow::Result<State> {
    let metrics = client.metrics().await?;
    let events = |outcome: &str| sum(&metrics, &format!("weir_aggregator_events_{outcome}_total"));
    let tokens = client
        .ask("/v1/usage?subject=platform&meter=tokens")
        .await?;
    let cost = client.ask("/v1/usage?subject=platform&meter=cost").await?;
    let decisions = client.ask("/v1/decisions?standing=true").await?;
    let groups = client.ask("/v1/csp/groups").await?;
    let mut bars = Vec::new();
    for tenant in TENANTS {
        let limits = client
            .ask(&format!("/v1/limits?subject=tenant/{tenant}"))
            .await?;
        bars.extend(
            list(&limits)
                .iter()
                .filter(|l| l["meter"] == "tokens")
                .map(bar),
        );
    }
    Ok(State {
        totals: played.totals(),
        counted: events("counted"),
        late: events("late"),
        duplicate: events("duplicate"),
        dead: events("dead"),
        tokens: tokens.pointer("/series/0/total").map_or(0, number),
        cost_usd: cost
            .pointer("/series/0/cost_usd")
            .map_or_else(String::new, word),
        bars,
        standing: list(&decisions)
            .iter()
            .filter(|d| d["verdict"] != "allow")
            .map(standing)
            .collect(),
        groups: list(&groups).iter().map(group).collect(),
        alerts: receiver.received(),
    })
}

/// The sum of a metric over all its labels.
fn sum(metrics: &str, name: &str) -> u64 {
    let lines = metrics.lines().filter(|line| line.starts_with(name));
    let values = lines.filter_map(|line| line.rsplit_once(' '));
    values
        .filter_map(|(_, value)| value.parse::<u64>().ok())
        .sum()
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

fn word(value: &Value) -> String {
    value
        .as_str()
        .map_or_else(|| value.to_string(), str::to_owned)
}

/// A whole number, which travels as a string where it may be large.
fn number(value: &Value) -> u64 {
    value
        .as_u64()
        .or_else(|| value.as_str()?.parse().ok())
        .unwrap_or(0)
}

fn bar(limit: &Value) -> Bar {
    Bar {
        subject: word(&limit["subject"]),
        limit: word(&limit["name"]),
        used: number(&limit["used"]),
        max: number(&limit["max"]),
    }
}

fn standing(decision: &Value) -> Standing {
    Standing {
        subject: word(&decision["subject"]),
        verdict: word(&decision["verdict"]),
        status: word(&decision["status"]),
        retry_after: word(&decision["retry_after_s"]),
        limit: decision
            .pointer("/causes/0/limit")
            .map_or_else(String::new, word),
    }
}

fn group(group: &Value) -> Group {
    Group {
        directive: word(&group["directive"]),
        blocked_host: word(&group["blocked_host"]),
        count: number(&group["count"]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_a_metric_over_its_labels() {
        let metrics = "# TYPE a counter\na_total{partition=\"0\"} 2\na_total{partition=\"1\"} 40\nab_total 7\n";
        assert_eq!(sum(metrics, "a_total"), 42);
        assert_eq!(sum(metrics, "c_total"), 0);
    }
}
