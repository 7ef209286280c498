//! Events of the log, as far as it takes to tell which of them a sum was made of.

use bus::Record;
use schemas::cloudevents::{self, Event, Rules};
use schemas::codec::{Wire as _, decode_usage};
use schemas::orders::Order;
use schemas::policy::{Meter, Stream};
use schemas::record::{AuthRecord, CspRecord, Outcome, Recorded};
use schemas::subject::{Dimension, Identity, Pattern, Sets, Subject, SubjectError};
use schemas::time::Timestamp;
use schemas::topic::{self, TopicSpec};

use crate::explain::{Happened, Seen};

/// How Avro's single-object encoding begins.
const AVRO: [u8; 2] = [0xc3, 0x01];
/// What the Kafka binding of CloudEvents puts before the names of attributes in headers.
const ATTRIBUTE_PREFIX: &str = "ce_";

/// Where the events of a meter are.
pub(crate) const fn events_of(meter: &Meter) -> TopicSpec {
    match meter.stream() {
        Stream::Usage => topic::USAGE.spec(),
        Stream::Auth => topic::AUTH.spec(),
        Stream::Csp => topic::CSP.spec(),
    }
}

/// Which events are looked for.
#[derive(Clone, Debug)]
pub(crate) struct Sought {
    subject: Subject,
    pattern: Pattern,
    meter: Meter,
}

impl Sought {
    /// Those that add to `meter` of `subject`, under a policy with `sets`.
    ///
    /// # Errors
    /// When the subject names a set that is none of these.
    pub(crate) fn new(subject: &Subject, meter: &Meter, sets: &Sets) -> Result<Self, SubjectError> {
        Ok(Self {
            pattern: Pattern::parse_with(subject.as_str(), sets)?,
            subject: subject.clone(),
            meter: meter.clone(),
        })
    }

    /// What a record of the meter's topic is to the sum. What nobody can read, and markers but those that clear something
    /// of the subject, make no difference to it.
    pub(crate) fn read(&self, partition: i32, record: &Record) -> Option<Seen> {
        match recorded(&self.meter, record)? {
            Recorded::Event(event) => {
                let happened = self.happened(&event, partition, record.offset);
                happened.map(Seen::Happened)
            }
            Recorded::Marker(marker) => {
                let wire = marker.order.filter(|order| !order.ended)?;
                let order = Order::try_from(&*wire).ok()?;
                let is_about = order.clears().is_some() && order.subject == self.subject;
                // One that comes again when it has ended clears nothing more.
                let stands = is_about && !order.has_ended(record.appended_at);
                stands.then(|| Seen::Cleared(Box::new(order)))
            }
        }
    }

    fn happened(&self, event: &Event, partition: i32, offset: i64) -> Option<Happened> {
        let (identity, amount) = match event {
            Event::Usage(usage) => (usage.identity(), usage.amount(&self.meter)),
            Event::Auth(auth) => {
                let failed = auth.outcome == Outcome::Failure;
                (auth.identity(), failed.into())
            }
            Event::Csp(csp) => {
                let identity = Identity {
                    tenant: Some(&csp.tenant),
                    ..Identity::default()
                };
                (identity, 1)
            }
        };
        let is_about = self.pattern.subject_of(&identity).as_ref() == Some(&self.subject);
        if !is_about || amount <= 0 {
            return None;
        }
        let (source, id) = event.source_and_id();
        let by = Dimension::ALL.into_iter().skip(1);
        Some(Happened {
            source: source.to_owned(),
            id: id.to_owned(),
            tenant: event.tenant().to_owned(),
            at: event.at(),
            amount,
            by: by
                .filter_map(|dimension| Some((dimension, identity.get(dimension)?.to_owned())))
                .collect(),
            partition,
            offset,
        })
    }
}

/// When what a record of the meter's topic tells of happened; `None` for a marker.
pub(crate) fn happened_at(meter: &Meter, record: &Record) -> Option<Timestamp> {
    match recorded(meter, record)? {
        Recorded::Event(event) => Some(event.at()),
        Recorded::Marker(_) => None,
    }
}

fn recorded(meter: &Meter, record: &Record) -> Option<Recorded<Event>> {
    let value = record.value.as_deref()?;
    if !value.starts_with(&AVRO) {
        return event_of_json(record, value).map(Recorded::Event);
    }
    Some(match meter.stream() {
        Stream::Usage => match decode_usage(value).ok()? {
            Recorded::Event(usage) => Recorded::Event(Event::Usage(usage.into_owned())),
            Recorded::Marker(marker) => Recorded::Marker(marker),
        },
        Stream::Auth => match AuthRecord::decode(value).ok()? {
            Recorded::Event(auth) => Recorded::Event(Event::Auth(auth)),
            Recorded::Marker(marker) => Recorded::Marker(marker),
        },
        Stream::Csp => match CspRecord::decode(value).ok()? {
            Recorded::Event(csp) => Recorded::Event(Event::Csp(csp)),
            Recorded::Marker(marker) => Recorded::Marker(marker),
        },
    })
}

/// An event that a foreign producer wrote, in either form of CloudEvents' Kafka binding.
fn event_of_json(record: &Record, value: &[u8]) -> Option<Event> {
    let rules = Rules::at(record.appended_at);
    let mut attributes = Vec::new();
    for (name, text) in &record.headers {
        if let Some(name) = name.strip_prefix(ATTRIBUTE_PREFIX) {
            let text = std::str::from_utf8(text.as_deref().unwrap_or_default());
            attributes.push((name, text.ok()?));
        }
    }
    let is_binary = attributes.iter().any(|(name, _)| *name == "specversion");
    let read = match is_binary {
        true => cloudevents::read_binary(attributes, value, &rules),
        false => cloudevents::read_event(value, &rules),
    };
    read.ok()
}

#[cfg(test)]
mod tests {
    use schemas::orders::Change;
    use schemas::record::{self, Marker, Usage};
    use schemas::subject::IdSet;

    use super::*;

    fn usage(tenant: &str, user: &str, input_tokens: i64) -> Record {
        let usage = Usage {
            event_source: "app".to_owned(),
            event_id: "e1".to_owned(),
            tenant: tenant.to_owned(),
            at: Timestamp::from_seconds(60),
            user: Some(user.to_owned()),
            requests: 1,
            input_tokens,
            ..Usage::default()
        };
        let mut value = Vec::new();
        Recorded::Event(usage).encode(&mut value).unwrap();
        record(value)
    }

    fn record(value: Vec<u8>) -> Record {
        Record {
            offset: 7,
            appended_at: Timestamp::from_seconds(61),
            key: None,
            value: Some(value.into()),
            headers: Vec::new(),
        }
    }

    /// Under a policy with a set of users.
    fn sought(subject: &str, meter: &Meter) -> Sought {
        let mut set = IdSet::new(Dimension::User);
        set.add("u *").unwrap();
        let mut sets = Sets::default();
        sets.add("us".to_owned(), set);
        Sought::new(&Subject::parse(subject).unwrap(), meter, &sets).unwrap()
    }

    #[track_caller]
    fn check(subject: &str, meter: Meter, record: &Record, amount: Option<i128>) {
        let sought = sought(subject, &meter);
        let Some(Seen::Happened(happened)) = sought.read(3, record) else {
            assert_eq!(amount, None);
            return;
        };
        assert_eq!(Some(happened.amount), amount);
        assert_eq!((happened.partition, happened.offset), (3, 7));
        assert_eq!((&*happened.source, &*happened.id), ("app", "e1"));
    }

    /// A marker of an order on `tenant/acme` that ends at second `until`.
    fn marker(change: Change, until: i64, ended: bool) -> Record {
        let order = Order {
            command: "c1".to_owned(),
            seq: 1,
            subject: Subject::tenant("acme"),
            at: Timestamp::from_seconds(60),
            until: Some(Timestamp::from_seconds(until)),
            change,
        };
        let order = record::Order {
            ended,
            ..record::Order::from(&order)
        };
        let marker = Marker {
            policy: None,
            tick: None,
            order: Some(Box::new(order)),
        };
        let mut value = Vec::new();
        let marker: Recorded<Usage> = Recorded::Marker(marker);
        marker.encode(&mut value).unwrap();
        record(value)
    }

    #[test]
    fn a_marker_that_clears_is_seen_where_it_is_about_the_subject() {
        let check = |subject: &str, record: &Record, is_seen: bool| {
            let sought = sought(subject, &Meter::Tokens);
            let seen = sought.read(3, record);
            assert_eq!(matches!(seen, Some(Seen::Cleared(_))), is_seen, "{seen:?}");
        };
        let cleared = || Change::Cleared {
            limit: "tpm".to_owned(),
            reason: "test".to_owned(),
        };
        check("tenant/acme", &marker(cleared(), 100, false), true);
        check("tenant/other", &marker(cleared(), 100, false), false);
        check("tenant/acme/user/u", &marker(cleared(), 100, false), false);
        check("tenant/acme", &marker(cleared(), 100, true), false);
        check("tenant/acme", &marker(cleared(), 61, false), false);
        let tier = Change::Tier("pro".to_owned());
        check("tenant/acme", &marker(tier, 100, false), false);
    }

    #[test]
    fn only_what_adds_to_the_sum_is_evidence() {
        let event = usage("acme", "u 1", 5);
        check("tenant/acme", Meter::Tokens, &event, Some(5));
        check("tenant/acme/user/u 1", Meter::Requests, &event, Some(1));
        check("platform", Meter::Requests, &event, Some(1));
        check("tenant/acme/user/{us}", Meter::Tokens, &event, Some(5));
        check("tenant/acme/user/u 2", Meter::Tokens, &event, None);
        check("tenant/acm", Meter::Tokens, &event, None);
        check("tenant/acme/key/k", Meter::Tokens, &event, None);
        check("tenant/acme", Meter::Cost, &event, None);
        check(
            "tenant/acme",
            Meter::Tokens,
            &record(vec![0xc3, 1, 0]),
            None,
        );
        let other = usage("acme", "v", 5);
        check("tenant/acme/user/{us}", Meter::Tokens, &other, None);
        let json = br#"{"specversion":"1.0","id":"e1","source":"app","type":"usage","subject":"acme","data":{"input_tokens":9}}"#;
        check(
            "tenant/acme",
            Meter::Tokens,
            &record(json.to_vec()),
            Some(9),
        );
    }
}
