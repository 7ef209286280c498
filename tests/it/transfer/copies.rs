//! Logs as an independent client sees them.

use std::collections::BTreeMap;
use std::time::Duration;

use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::message::{BorrowedMessage, Headers, Message};
use rdkafka::{ClientConfig, Offset, TopicPartitionList};

const WITHIN: Duration = Duration::from_secs(10);
/// What stands for a record that the original does not have.
const FILLER: &str = "weir-filler";
/// One record a request, and one request at a time: slow enough to be killed in the middle.
pub(crate) const SLOWLY: &str = "[kafka.settings]\n\
    \"producer.batch.num.messages\" = \"1\"\n\
    \"producer.max.in.flight.requests.per.connection\" = \"1\"\n";

pub(crate) fn client(bootstrap: &str, group: &str) -> BaseConsumer {
    ClientConfig::new()
        .set("bootstrap.servers", bootstrap)
        .set("group.id", group)
        .set("enable.partition.eof", "true")
        .set("enable.auto.commit", "false")
        .set("auto.offset.reset", "error")
        .create()
        .expect("a client")
}

/// The first and the next offset of every partition of Weir's topics.
pub(crate) fn spans(bootstrap: &str) -> BTreeMap<(String, i32), (i64, i64)> {
    let client = client(bootstrap, "look");
    let metadata = client.fetch_metadata(None, WITHIN).expect("metadata");
    let ours = metadata.topics().iter();
    let ours = ours.filter(|topic| topic.name().starts_with("weir."));
    let mut spans = BTreeMap::new();
    for topic in ours {
        for partition in topic.partitions() {
            let (name, index) = (topic.name(), partition.id());
            let span = client.fetch_watermarks(name, index, WITHIN);
            spans.insert((name.to_owned(), index), span.expect("offsets"));
        }
    }
    spans
}

/// How many offsets Weir's topics hold; topics that are just being made count nothing.
pub(crate) fn records_in(bootstrap: &str) -> i64 {
    let client = client(bootstrap, "look");
    let metadata = client.fetch_metadata(None, WITHIN).expect("metadata");
    let mut sum = 0;
    for topic in metadata.topics() {
        if !topic.name().starts_with("weir.") {
            continue;
        }
        for partition in topic.partitions() {
            let span = client.fetch_watermarks(topic.name(), partition.id(), WITHIN);
            sum += span.map_or(0, |(start, end)| end - start);
        }
    }
    sum
}

/// A record with all that a copy must keep.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Copy {
    pub(crate) offset: i64,
    time: Option<i64>,
    key: Option<Vec<u8>>,
    value: Option<Vec<u8>>,
    headers: Vec<(String, Option<Vec<u8>>)>,
}

impl Copy {
    fn new(message: &BorrowedMessage<'_>) -> Self {
        let owned = |bytes: Option<&[u8]>| bytes.map(<[u8]>::to_vec);
        let headers = message.headers().map(|headers| {
            let pair = |header: rdkafka::message::Header<'_, &[u8]>| {
                (header.key.to_owned(), owned(header.value))
            };
            headers.iter().map(pair).collect()
        });
        Self {
            offset: message.offset(),
            time: message.timestamp().to_millis(),
            key: owned(message.key()),
            value: owned(message.payload()),
            headers: headers.unwrap_or_default(),
        }
    }

    /// A header's value, as text.
    pub(crate) fn header(&self, name: &str) -> Option<String> {
        let (_, value) = self.headers.iter().find(|(header, _)| header == name)?;
        String::from_utf8(value.clone()?).ok()
    }

    pub(crate) fn is_filler(&self) -> bool {
        self.headers.iter().any(|(name, _)| name == FILLER)
    }
}

/// All records of a partition, to its end.
pub(crate) fn read(bootstrap: &str, topic: &str, partition: i32) -> Vec<Copy> {
    let client = client(bootstrap, "look");
    let (start, _) = client
        .fetch_watermarks(topic, partition, WITHIN)
        .expect("offsets");
    let mut list = TopicPartitionList::new();
    list.add_partition_offset(topic, partition, Offset::Offset(start))
        .expect("a place");
    client.assign(&list).expect("an assignment");
    let mut all = Vec::new();
    loop {
        match client.poll(WITHIN) {
            Some(Ok(message)) => all.push(Copy::new(&message)),
            Some(Err(KafkaError::PartitionEOF(_))) => return all,
            Some(Err(error)) => panic!("{topic}/{partition}: {error}"),
            None => panic!("{topic}/{partition} says nothing"),
        }
    }
}
