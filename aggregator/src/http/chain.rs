//! Where the number of a limit comes from: every word that was said of it for a subject, from wide to narrow. The last
//! one holds.

use schemas::money::format_usd;
use schemas::orders::{Held, InForce, Order};
use schemas::policy::{Limit, Meter};
use schemas::record::Amount;
use schemas::subject::Subject;
use serde_json::{Value, json};

/// The words that `held` came of, as `GET /v1/limits` shows them.
pub(super) fn chain(in_force: InForce<'_>, held: &Held<'_>, on: &Subject) -> Vec<Value> {
    let written = held.written;
    let general = in_force.policy.limits.iter().find(|limit| {
        limit.tier.is_none() && limit.name == written.name && limit.pattern.accepts(on)
    });
    let general = general.map(|limit| word("policy", limit.pattern.as_str(), limit));
    let mut chain: Vec<Value> = general.into_iter().collect();
    if let Some(tier) = &written.tier {
        let mut word = word("tier", written.pattern.as_str(), written);
        word["tier"] = json!(tier);
        if let Some(order) = in_force.tier_order(on) {
            add_order(&mut word, order);
        }
        chain.push(word);
    }
    if let Some(overridden) = held.overridden {
        let limit = overridden.numbers.on(written);
        chain.push(word("override", on.as_str(), &limit));
    }
    if let Some(order) = held.order {
        let mut word = word("command", order.subject.as_str(), &held.limit);
        add_order(&mut word, order);
        chain.push(word);
    }
    chain
}

fn add_order(word: &mut Value, order: &Order) {
    word["command"] = json!(order.command);
    word["until"] = json!(order.until.map(|until| until.to_string()));
}

/// `subject`: of whom it is said.
fn word(from: &str, subject: &str, limit: &Limit) -> Value {
    let hard = limit.hard();
    let mut word = json!({
        "from": from,
        "subject": subject,
        "max": Amount(hard).to_json_of(&limit.meter),
        "mode": limit.mode,
    });
    if limit.meter == Meter::Cost {
        word["max_usd"] = json!(format_usd(hard));
    }
    word
}
