//! Samples of orders.

use super::{at, tenant, text};
use crate::record::{Amount, Marker, Order, PolicyVersion, SoftLevel};
use crate::time::Timestamp;

pub(super) fn order() -> Order {
    Order {
        until: Some(at(60)),
        limit: text("tokens-a-minute"),
        hard: Some(Amount(120_000)),
        soft: vec![SoftLevel {
            name: "80%".to_owned(),
            threshold: Amount(96_000),
        }],
        mode: text("open"),
        paid_in: Some(Amount(-5)),
        paid_by: vec!["c_1".to_owned()],
        tier: text("pro"),
        cleared: text("tokens-a-minute"),
        reason: text("false alarm"),
        ended: true,
        ..bare_order()
    }
}

pub(super) fn bare_order() -> Order {
    Order {
        command: "c_1".to_owned(),
        seq: 17,
        subject: tenant(),
        at: at(0),
        until: None,
        limit: None,
        hard: None,
        soft: Vec::new(),
        mode: None,
        paid_in: None,
        paid_by: Vec::new(),
        tier: None,
        cleared: None,
        reason: None,
        ended: false,
    }
}

pub(super) fn marker(
    policy: Option<PolicyVersion>,
    tick: Option<Timestamp>,
    order: Option<Order>,
) -> Marker {
    Marker {
        policy,
        tick,
        order: order.map(Box::new),
    }
}
