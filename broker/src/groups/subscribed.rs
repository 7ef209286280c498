//! What the members of a group read, as consumers tell one another through their group.

use std::collections::HashSet;

use bytes::Buf;

/// The type of the protocol that consumers speak among themselves.
pub(crate) const CONSUMER: &str = "consumer";

/// The topics that members of a group have subscribed to.
#[derive(Debug)]
pub(crate) enum Subscribed {
    Topics(HashSet<String>),
    /// Somebody's words are not understood, or not known yet: it may be any.
    Unknown,
}

impl Subscribed {
    /// Of members who said this of themselves to their leader.
    pub(crate) fn by<'a>(mut members: impl Iterator<Item = &'a [u8]>) -> Subscribed {
        let mut topics = HashSet::new();
        let understood = members.try_for_each(|metadata| {
            topics.extend(parse(metadata)?);
            Some(())
        });
        understood.map_or(Subscribed::Unknown, |()| Subscribed::Topics(topics))
    }

    pub(crate) fn has(&self, topic: &str) -> bool {
        match self {
            Subscribed::Topics(topics) => topics.contains(topic),
            Subscribed::Unknown => true,
        }
    }
}

/// The topics of a subscription: a version, a count, and names. What newer versions add comes after them.
fn parse(mut metadata: &[u8]) -> Option<Vec<String>> {
    let _version = metadata.try_get_i16().ok()?;
    let count = metadata.try_get_i32().ok()?;
    // No room is made for what is only announced.
    let mut topics = vec![];
    for _ in 0..count {
        let length = usize::from(metadata.try_get_u16().ok()?);
        let (name, rest) = metadata.split_at_checked(length)?;
        topics.push(String::from_utf8(name.to_vec()).ok()?);
        metadata = rest;
    }
    Some(topics)
}

#[cfg(test)]
mod tests {
    use bytes::{Bytes, BytesMut};
    use kafka_protocol::messages::ConsumerProtocolSubscription;
    use kafka_protocol::protocol::{Encodable, StrBytes};

    use super::*;

    fn subscription(version: i16, topics: &[&'static str]) -> Bytes {
        let topics = topics.iter().map(|t| StrBytes::from_static_str(t));
        let subscription = ConsumerProtocolSubscription::default().with_topics(topics.collect());
        let mut bytes = BytesMut::from(&version.to_be_bytes()[..]);
        subscription.encode(&mut bytes, version).unwrap();
        bytes.freeze()
    }

    #[test]
    fn topics_of_all_members_in_every_version() {
        for version in 0..=3 {
            let members = [
                subscription(version, &["a", "b"]),
                subscription(version, &["c"]),
            ];
            let subscribed = Subscribed::by(members.iter().map(|m| &m[..]));
            let has = ["a", "b", "c", "d"].map(|topic| subscribed.has(topic));
            assert_eq!(has, [true, true, true, false], "version {version}");
        }
    }

    #[test]
    fn nobody_reads_nothing() {
        assert!(!Subscribed::by(std::iter::empty()).has("a"));
    }

    #[test]
    fn words_that_are_not_understood_may_mean_any_topic() {
        let good = subscription(1, &["a"]);
        let endless = [&[0, 0][..], &i32::MAX.to_be_bytes()].concat();
        let cut = (0..9).map(|n| &good[..n]);
        for bad in cut.chain([&endless[..]]) {
            let subscribed = Subscribed::by([&good[..], bad].into_iter());
            assert!(subscribed.has("x"), "{bad:?}");
        }
    }
}
