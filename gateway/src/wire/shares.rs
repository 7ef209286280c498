//! What gateways that share limits tell one another.

use schemas::record::{ShareItem, ShareKind};
use schemas::subject::{Subject, SubjectError};
use schemas::time::Timestamp;
use thiserror::Error;

pub(crate) use schemas::record::Share;

use crate::share::lease::Account;
use crate::share::members::MemberId;
use crate::share::{Say, Told, Units};

/// A record of `weir.shares.v1` that says nothing.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub(crate) enum BadShare {
    #[error("`{0}` is no member's id (32 hex digits)")]
    Member(String),
    #[error("a {0:?} names nobody that it is for")]
    To(ShareKind),
    #[error("{0} is no number of units, or of a gift")]
    Units(i64),
    #[error(transparent)]
    Subject(#[from] SubjectError),
}

/// The key under which a member's signs of life stand, and nothing once it has left.
pub(crate) fn member_key(member: MemberId) -> String {
    format!("{member:032x}")
}

/// What stands under `key`, and under no other.
pub(crate) fn share_key(told: &Told) -> String {
    let member = member_key(told.from);
    match &told.say {
        Say::Beat { .. } | Say::Ack { .. } | Say::Left => member,
        Say::Want { .. } => format!("{member}/want"),
        Say::Gift { to, .. } => format!("{member}/gift/{to:032x}"),
        Say::Return { to, .. } => format!("{member}/return/{to:032x}"),
    }
}

/// What a record tells.
pub(crate) fn told(share: Share) -> Result<Told, BadShare> {
    let to = || match &share.to {
        Some(to) => member(to),
        None => Err(BadShare::To(share.kind)),
    };
    let items = || share.items.iter().map(units).collect::<Result<_, _>>();
    let asked_at = share.asked_at;
    let say = match share.kind {
        ShareKind::Beat => Say::Beat { seen: share.seen },
        ShareKind::Ack => Say::Ack { seen: share.seen },
        ShareKind::Want => Say::Want {
            asked_at,
            items: items()?,
        },
        ShareKind::Gift => Say::Gift {
            to: to()?,
            asked_at,
            items: items()?,
        },
        ShareKind::Return => Say::Return {
            to: to()?,
            items: items()?,
        },
    };
    Ok(Told {
        from: member(&share.member)?,
        say,
    })
}

/// What the end of a member's key tells; `None` for other keys.
pub(crate) fn left(key: &str) -> Option<Told> {
    Some(Told {
        from: member(key).ok()?,
        say: Say::Left,
    })
}

/// The record that tells it; `None` for a member's end, which is told by its key without a value.
pub(crate) fn share(name: &str, told: &Told) -> Option<Share> {
    let empty = Share {
        member: member_key(told.from),
        name: name.to_owned(),
        kind: ShareKind::Beat,
        to: None,
        seen: 0,
        asked_at: Timestamp::from_micros(0),
        items: Vec::new(),
    };
    let all = |items: &[Units]| items.iter().map(item).collect();
    Some(match &told.say {
        Say::Left => return None,
        Say::Beat { seen } => Share {
            seen: *seen,
            ..empty
        },
        Say::Ack { seen } => Share {
            kind: ShareKind::Ack,
            seen: *seen,
            ..empty
        },
        Say::Want { asked_at, items } => Share {
            kind: ShareKind::Want,
            asked_at: *asked_at,
            items: all(items),
            ..empty
        },
        Say::Gift {
            to,
            asked_at,
            items,
        } => Share {
            kind: ShareKind::Gift,
            to: Some(member_key(*to)),
            asked_at: *asked_at,
            items: all(items),
            ..empty
        },
        Say::Return { to, items } => Share {
            kind: ShareKind::Return,
            to: Some(member_key(*to)),
            items: all(items),
            ..empty
        },
    })
}

fn member(text: &str) -> Result<MemberId, BadShare> {
    let id = MemberId::from_str_radix(text, 16).ok();
    id.filter(|_| text.len() == 32)
        .ok_or_else(|| BadShare::Member(text.to_owned()))
}

fn units(item: &ShareItem) -> Result<Units, BadShare> {
    let whole = |number: i64| u64::try_from(number).map_err(|_| BadShare::Units(number));
    Ok(Units {
        account: Account {
            limit: item.limit.clone(),
            subject: Subject::parse(&item.subject)?,
        },
        units: whole(item.units)?,
        seq: whole(item.seq)?,
    })
}

fn item(units: &Units) -> ShareItem {
    ShareItem {
        limit: units.account.limit.clone(),
        subject: units.account.subject.as_str().to_owned(),
        units: super::whole(units.units),
        seq: super::whole(units.seq),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn some() -> Vec<Units> {
        let account = Account {
            limit: "rate".to_owned(),
            subject: Subject::tenant("acme"),
        };
        vec![Units {
            account,
            units: 25,
            seq: 3,
        }]
    }

    #[test]
    fn what_is_told_is_read() {
        let asked_at = Timestamp::from_seconds(7);
        let says = [
            Say::Beat { seen: 4 },
            Say::Ack { seen: 5 },
            Say::Want {
                asked_at,
                items: some(),
            },
            Say::Gift {
                to: 9,
                asked_at,
                items: some(),
            },
            Say::Return {
                to: 9,
                items: some(),
            },
        ];
        for say in says {
            let before = Told { from: 1, say };
            let record = share("g1", &before).unwrap();
            assert_eq!(told(record), Ok(before));
        }
        let before = Told {
            from: 1,
            say: Say::Left,
        };
        assert_eq!(share("g1", &before), None);
        assert_eq!(left(&share_key(&before)), Some(before));
    }

    #[track_caller]
    fn check_bad(change: impl FnOnce(&mut Share), expected: &str) {
        let gift = Told {
            from: 1,
            say: Say::Gift {
                to: 9,
                asked_at: Timestamp::from_seconds(7),
                items: some(),
            },
        };
        let mut record = share("g1", &gift).unwrap();
        change(&mut record);
        assert_eq!(told(record).unwrap_err().to_string(), expected);
    }

    #[test]
    fn what_says_nothing_is_refused() {
        check_bad(
            |share| share.member = "me".to_owned(),
            "`me` is no member's id (32 hex digits)",
        );
        check_bad(
            |share| share.to = None,
            "a Gift names nobody that it is for",
        );
        check_bad(
            |share| share.items[0].units = -1,
            "-1 is no number of units, or of a gift",
        );
        assert_eq!(left("00000000000000000000000000000001/want"), None);
    }
}
