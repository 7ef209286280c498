//! What was read against what was promised.

use std::collections::HashMap;
use std::fmt;

use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::{Message, Offset, TopicPartitionList};

use super::{Acknowledged, PATIENCE, Place, Value};

/// A record where it lies: partition, offset, value.
pub type Read = (i32, i64, Value);

/// All that is in the topic, in the order it is there, up to the end at the time of the call.
///
/// # Panics
/// When it cannot be read, or a record is none that a producer here has written.
#[must_use]
pub fn read_all(place: &Place) -> Vec<Read> {
    let consumer: BaseConsumer = place
        .client()
        .set("group.id", format!("{}-check", place.group))
        .set("check.crcs", "true")
        .set("enable.auto.commit", "false")
        .create()
        .expect("a consumer");
    let ends = place.ends();
    let mut list = TopicPartitionList::new();
    for (partition, _) in (0..).zip(&ends).filter(|(_, end)| **end > 0) {
        list.add_partition_offset(&place.topic, partition, Offset::Beginning)
            .expect("an offset");
    }
    consumer.assign(&list).expect("an assignment");
    let mut left = ends.iter().filter(|end| **end > 0).count();
    let mut read = vec![];
    while left > 0 {
        // An error is told once and does not end it: the next poll goes on.
        let Ok(message) = consumer.poll(PATIENCE).expect("more records") else {
            continue;
        };
        let (partition, offset) = (message.partition(), message.offset());
        let end = ends[partition as usize];
        if offset < end {
            read.push((partition, offset, value(message.payload())));
        }
        if offset + 1 == end {
            left -= 1;
        }
    }
    read
}

fn value(payload: Option<&[u8]>) -> Value {
    let text = std::str::from_utf8(payload.expect("a value")).expect("text");
    let (producer, number) = text.split_once('/').expect("a producer and a number");
    (
        producer.parse().expect("a producer"),
        number.parse().expect("a number"),
    )
}

/// The figures of a trial. All but the first two must be 0.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Account {
    pub acknowledged: u64,
    pub read: u64,
    /// Acknowledged, and not where it was said to be.
    pub lost: u64,
    pub doubled: u64,
    /// Read after a later record of its producer and partition.
    pub disordered: u64,
    /// Offsets that are missing between others.
    pub gaps: u64,
    /// Up to five of what is wrong.
    examples: Vec<String>,
}

impl Account {
    /// Compares.
    #[must_use]
    pub fn of(read: &[Read], acknowledged: &Acknowledged) -> Self {
        let mut account = Self::default();
        let mut places: HashMap<u64, Vec<Option<i64>>> = HashMap::new();
        let mut newest: HashMap<(i32, u64), u64> = HashMap::new();
        let mut next: HashMap<i32, i64> = HashMap::new();
        for &(partition, offset, (producer, number)) in read {
            account.read += 1;
            let next = next.entry(partition).or_default();
            if offset != *next {
                account.gaps += 1;
                account.example(format!("{next} is followed by {offset} in {partition}"));
            }
            *next = offset + 1;
            let of_producer = places.entry(producer).or_default();
            let at = number as usize;
            of_producer.resize(of_producer.len().max(at + 1), None);
            let name = format!("{producer}/{number}");
            if let Some(first) = of_producer[at].replace(offset) {
                account.doubled += 1;
                account.example(format!("{name} is at {first} and {offset} in {partition}"));
            } else {
                let before = newest.insert((partition, producer), number);
                if before.is_some_and(|before| before > number) {
                    account.disordered += 1;
                    account.example(format!("{name} comes after {before:?} in {partition}"));
                }
            }
        }
        account.compare(&places, acknowledged);
        account
    }

    fn compare(&mut self, places: &HashMap<u64, Vec<Option<i64>>>, acknowledged: &Acknowledged) {
        let promised = acknowledged.0.offsets.lock().expect("no panic while held");
        for (producer, offsets) in &*promised {
            for (number, promised) in offsets.iter().enumerate().filter(|(_, o)| **o >= 0) {
                self.acknowledged += 1;
                let found = places.get(producer).and_then(|p| *p.get(number)?);
                if found != Some(*promised) {
                    self.lost += 1;
                    self.example(format!(
                        "{producer}/{number}: {promised} promised, {found:?}"
                    ));
                }
            }
        }
    }

    fn example(&mut self, text: String) {
        if self.examples.len() < 5 {
            self.examples.push(text);
        }
    }

    /// # Panics
    /// When a figure is not as it must be.
    #[track_caller]
    pub fn expect_exact(&self) {
        let faults = [self.lost, self.doubled, self.disordered, self.gaps];
        assert_eq!(faults, [0; 4], "{self}; {:#?}", self.examples);
    }
}

impl fmt::Display for Account {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            acknowledged,
            read,
            lost,
            doubled,
            disordered,
            gaps,
            ..
        } = self;
        write!(
            f,
            "{acknowledged} acknowledged, {read} read, {lost} lost, {doubled} doubled, {disordered} out of order, {gaps} gaps"
        )
    }
}
