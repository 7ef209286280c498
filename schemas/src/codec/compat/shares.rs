//! What gateways tell one another.

use super::*;

#[test]
fn shares() {
    let share = |kind, to, items| Share {
        member: "0192f0c1".to_owned(),
        name: "eu-1".to_owned(),
        kind,
        to,
        seen: 7,
        asked_at: at(0),
        items,
    };
    let item = ShareItem {
        limit: "rate".to_owned(),
        subject: "tenant/acme".to_owned(),
        units: 25,
        seq: 3,
    };
    check(
        share(ShareKind::Gift, text("0192f0c2"), vec![item]),
        share(ShareKind::Beat, None, Vec::new()),
    );
}
