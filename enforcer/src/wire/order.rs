//! Orders: in `weir.policies.v1` while they stand, and among the events that they concern.

use bus::producer::Delivery;
use bus::{Bus, BusError, SendError};
use schemas::orders::{Order, OrderKey, Orders};
use schemas::record::{self, Marker, PolicyRecord, Recorded};
use schemas::time::Timestamp;
use schemas::topic::{self, TopicSpec};

/// The order that stands under `key`, if it is one that can be obeyed.
pub(super) fn order(key: &str, value: &PolicyRecord) -> Option<Order> {
    let PolicyRecord::Order(wire) = value else {
        return None;
    };
    match Order::try_from(wire) {
        Ok(order) if Some(order.key()) == OrderKey::parse(key) => Some(order),
        Ok(_) => {
            tracing::error!(
                key,
                "an order in the log is about something else than its key says"
            );
            None
        }
        Err(error) => {
            tracing::error!(key, %error, "an order in the log cannot be obeyed");
            None
        }
    }
}

/// All orders that stand in the log now.
pub(crate) async fn orders(bus: &Bus) -> Result<Orders, BusError> {
    let all = bus.read_all(&topic::POLICIES).await?;
    Ok(all
        .iter()
        .filter_map(|(key, value)| order(key, value))
        .collect())
}

/// An order holds from here on.
pub(super) fn enqueue_order(bus: &Bus, order: &Order) -> Result<Vec<Delivery>, SendError> {
    let record = record::Order::from(order);
    // Gateways hear of one that clears when those who count know where it lies: [`put_order`] is for after that.
    let mut deliveries = match order.judges() {
        true => vec![put_order(bus, order)?],
        false => Vec::new(),
    };
    deliveries.extend(enqueue_markers(bus, order, record)?);
    Ok(deliveries)
}

/// Puts an order into `weir.policies.v1`.
pub(crate) fn put_order(bus: &Bus, order: &Order) -> Result<Delivery, SendError> {
    let key = order.key().to_string();
    let value = PolicyRecord::Order(record::Order::from(order));
    bus.producer().enqueue(&topic::POLICIES, &key, &value)
}

/// Tells those who count that an order holds no more. It stays in `weir.policies.v1` until they know, so that a crash in
/// between ends it once more.
pub(super) fn enqueue_ended(
    bus: &Bus,
    order: &Order,
    at: Timestamp,
) -> Result<Vec<Delivery>, SendError> {
    let record = record::Order {
        at,
        ended: true,
        ..record::Order::from(order)
    };
    enqueue_markers(bus, order, record)
}

/// Takes an order out of `weir.policies.v1`.
pub(crate) fn end_order(bus: &Bus, order: &Order) -> Result<Delivery, SendError> {
    let key = order.key().to_string();
    bus.producer().enqueue_lift(&topic::POLICIES, &key)
}

/// Into the tenant's partition of each topic of events; for a scope wider than a tenant, whose subjects may lie
/// anywhere, into every partition of partials.
fn enqueue_markers(
    bus: &Bus,
    order: &Order,
    record: record::Order,
) -> Result<Vec<Delivery>, SendError> {
    let marker = Marker {
        policy: None,
        tick: None,
        order: Some(Box::new(record)),
    };
    let key = order.key().to_string();
    let producer = bus.producer();
    let Some(tenant) = order.subject.tenant_id() else {
        let partitions = 0..bus.partitions(topic::PARTIALS.spec());
        let marker = Recorded::Marker(marker);
        return partitions
            .map(|partition| producer.enqueue_to(&topic::PARTIALS, partition, &key, &marker))
            .collect();
    };
    let home = |topic: TopicSpec| bus.partition_of(topic, &tenant);
    let usage = home(topic::USAGE.spec());
    let auth = home(topic::AUTH.spec());
    let csp = home(topic::CSP.spec());
    let of = || marker.clone();
    Ok(vec![
        producer.enqueue_to(&topic::USAGE, usage, &key, &Recorded::Marker(of()))?,
        producer.enqueue_to(&topic::AUTH, auth, &key, &Recorded::Marker(of()))?,
        producer.enqueue_to(&topic::CSP, csp, &key, &Recorded::Marker(of()))?,
    ])
}
