//! Own windows that somebody clears.

use schemas::orders::Change;

use super::*;

/// An order that clears `limit` for `subject`, of this number.
fn clear(seq: i64, subject: &str, limit: &str) -> Order {
    Order {
        command: format!("c{seq}"),
        seq,
        subject: Subject::parse(subject).unwrap(),
        at: at(1),
        until: Some(at(100)),
        change: Change::Cleared {
            limit: limit.to_owned(),
            reason: "test".to_owned(),
        },
    }
}

#[test]
fn what_is_cleared_begins_anew_once() {
    let limits = [
        "rate tenant/* requests 2 sliding 60s",
        "same tenant/* requests 3 sliding 60s",
        "hourly tenant/* requests 5 sliding 1h",
    ];
    let gate = gate(limits.map(limit).to_vec());
    let other = Ask::default().with(Dimension::Tenant, "other");
    for ask in [acme(), other.clone()] {
        for _ in 0..2 {
            check(&gate, &ask, 0, "allow 200 - charged");
        }
        check(&gate, &ask, 1, "block 429 60");
    }
    let order = clear(7, "tenant/acme", "rate");
    assert!(gate.put_order(order.clone()));
    check(&gate, &other, 1, "block 429 60");
    check(&gate, &acme(), 2, "allow 200 - charged");
    // Read again, or an older one: nothing.
    assert!(!gate.put_order(order));
    assert!(!gate.put_order(clear(6, "tenant/acme", "rate")));
    check(&gate, &acme(), 2, "allow 200 - charged");
    check(&gate, &acme(), 2, "block 429 61");
    // What looks at the same sums was cleared with it, what has another window was not.
    assert!(gate.put_order(clear(8, "tenant/acme", "rate")));
    check(&gate, &acme(), 2, "allow 200 - charged");
    check(&gate, &acme(), 2, "block 429 3638");
    assert!(gate.put_order(clear(9, "tenant/acme", "hourly")));
    check(&gate, &acme(), 2, "allow 200 - charged");
}

#[test]
fn what_stood_before_a_gateway_was_clears_nothing_there() {
    let freshness = Freshness::new(at(0), Duration::from_secs(30));
    let gate = Gate::new([1, 2], 1 << 20, freshness);
    gate.set_policy(Policy {
        version: 5,
        limits: vec![limit("rate tenant/* requests 1 sliding 60s")],
        ..Policy::default()
    });
    check(&gate, &acme(), 0, "allow 200 - stale:0 charged");
    assert!(gate.put_order(clear(7, "tenant/acme", "rate")));
    check(&gate, &acme(), 1, "block 429 60 stale:1");
}
