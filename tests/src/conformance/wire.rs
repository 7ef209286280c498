//! Requests in the protocol's own words: what client libraries hide, or would never send.

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use bytes::{Buf, Bytes, BytesMut};
use kafka_protocol::messages::fetch_request::{FetchPartition, FetchTopic};
use kafka_protocol::messages::fetch_response::PartitionData;
use kafka_protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
use kafka_protocol::messages::produce_response::PartitionProduceResponse;
use kafka_protocol::messages::{
    ApiKey, FetchRequest, ProduceRequest, RequestHeader, RequestKind, ResponseHeader, ResponseKind,
    TopicName,
};
use kafka_protocol::protocol::{Decodable, Encodable, Request, StrBytes};
use kafka_protocol::records::{
    Compression, NO_PARTITION_LEADER_EPOCH, Record, RecordBatchEncoder, RecordEncodeOptions,
    TimestampType,
};

use super::lab::{Lab, SOON};

/// As long as is listened to a server that should say nothing.
const SILENCE: Duration = Duration::from_millis(400);
/// The newest version whose topics have names, not ids.
const FETCH_VERSION: i16 = 12;
const PRODUCE_VERSION: i16 = 9;
/// Of the format that is current.
const MAGIC: i8 = 2;

/// A connection on which requests are sent one by one.
pub(super) struct Wire {
    stream: TcpStream,
    sent: i32,
    answered: i32,
}

impl Wire {
    pub(super) fn connect(lab: &Lab) -> anyhow::Result<Self> {
        let stream = TcpStream::connect(&lab.bootstrap)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(SOON))?;
        Ok(Self {
            stream,
            sent: 0,
            answered: 0,
        })
    }

    /// Sends without waiting for the answer.
    pub(super) fn send<R: Request>(&mut self, version: i16, request: &R) -> anyhow::Result<()> {
        let api = ApiKey::try_from(R::KEY).map_err(|()| anyhow::anyhow!("no such API"))?;
        self.sent += 1;
        let mut frame = head(api, version, self.sent)?;
        request.encode(&mut frame, version)?;
        self.write(frame)
    }

    /// The answer to the oldest request that has none.
    pub(super) fn receive<R: Request>(&mut self, version: i16) -> anyhow::Result<R::Response> {
        let api = ApiKey::try_from(R::KEY).map_err(|()| anyhow::anyhow!("no such API"))?;
        let mut body = self.body(api, version)?;
        let response = R::Response::decode(&mut body, version)?;
        ensure!(
            body.is_empty(),
            "{api:?} version {version}: {body:?} too much"
        );
        Ok(response)
    }

    /// Sends, and waits for the answer.
    pub(super) fn ask<R: Request>(
        &mut self,
        version: i16,
        request: &R,
    ) -> anyhow::Result<R::Response> {
        self.send(version, request)?;
        self.receive::<R>(version)
            .with_context(|| format!("API {} version {version}", R::KEY))
    }

    /// As [`Wire::ask`], of an API that is known only when it runs.
    pub(super) fn ask_any(
        &mut self,
        api: ApiKey,
        version: i16,
        request: &RequestKind,
    ) -> anyhow::Result<ResponseKind> {
        self.sent += 1;
        let mut frame = head(api, version, self.sent)?;
        request.encode(&mut frame, version)?;
        self.write(frame)?;
        let mut body = self.body(api, version)?;
        let response = ResponseKind::decode(api, &mut body, version)?;
        ensure!(body.is_empty(), "{body:?} too much");
        Ok(response)
    }

    /// Sends the header of a request that has no body.
    pub(super) fn send_head(&mut self, api: i16, version: i16) -> anyhow::Result<()> {
        self.sent += 1;
        let mut frame = BytesMut::zeroed(4);
        frame.extend_from_slice(&api.to_be_bytes());
        frame.extend_from_slice(&version.to_be_bytes());
        frame.extend_from_slice(&self.sent.to_be_bytes());
        // No client id, and tagged fields for those who expect them.
        frame.extend_from_slice(&[0xff, 0xff, 0]);
        self.write(frame)
    }

    fn write(&mut self, mut frame: BytesMut) -> anyhow::Result<()> {
        let length = (frame.len() - 4) as u32;
        frame[..4].copy_from_slice(&length.to_be_bytes());
        Ok(self.stream.write_all(&frame)?)
    }

    fn body(&mut self, api: ApiKey, version: i16) -> anyhow::Result<Bytes> {
        let mut length = [0; 4];
        self.stream.read_exact(&mut length).context("no answer")?;
        let mut frame = vec![0; u32::from_be_bytes(length) as usize];
        self.stream.read_exact(&mut frame)?;
        let mut frame = Bytes::from(frame);
        let header = ResponseHeader::decode(&mut frame, api.response_header_version(version))?;
        self.answered += 1;
        ensure!(
            header.correlation_id == self.answered,
            "answer {} where {} was due",
            header.correlation_id,
            self.answered
        );
        Ok(frame)
    }

    /// Fails if anything arrives within a moment.
    pub(super) fn expect_silence(&mut self) -> anyhow::Result<()> {
        self.stream.set_read_timeout(Some(SILENCE))?;
        let heard = self.stream.peek(&mut [0]);
        self.stream.set_read_timeout(Some(SOON))?;
        match heard {
            Err(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => Ok(()),
            Ok(0) => bail!("it was closed, where nothing should have happened"),
            Ok(_) => bail!("an answer came too early"),
            Err(e) => Err(e.into()),
        }
    }

    /// Fails unless the other side closes without a word.
    pub(super) fn expect_closed(mut self) -> anyhow::Result<()> {
        let mut rest = vec![];
        match self.stream.read_to_end(&mut rest) {
            Ok(_) => ensure!(rest.is_empty(), "it answered {rest:?}"),
            Err(e) if e.kind() == ErrorKind::ConnectionReset => {}
            Err(e) => return Err(e).context("it did not close"),
        }
        Ok(())
    }

    /// Sends one batch to partition 0; what became of it.
    pub(super) fn produce(
        &mut self,
        topic: &str,
        batch: Bytes,
    ) -> anyhow::Result<PartitionProduceResponse> {
        let response = self.ask(PRODUCE_VERSION, &produce_request(topic, batch))?;
        let topic = response.responses.into_iter().next().context("no topic")?;
        let mut partitions = topic.partition_responses.into_iter();
        partitions.next().context("no partition")
    }

    /// Sends a batch that must be taken; its offset.
    pub(super) fn append(&mut self, topic: &str, batch: Bytes) -> anyhow::Result<i64> {
        let produced = self.produce(topic, batch)?;
        check_code(produced.error_code, 0)?;
        Ok(produced.base_offset)
    }

    pub(super) fn send_fetch(&mut self, request: &FetchRequest) -> anyhow::Result<()> {
        self.send(FETCH_VERSION, request)
    }

    /// What a fetch of one partition gave.
    pub(super) fn fetched(&mut self) -> anyhow::Result<PartitionData> {
        let mut all = self.fetched_all()?;
        ensure!(all.len() == 1, "{} partitions", all.len());
        all.pop().context("no partition")
    }

    /// What a fetch gave, partition by partition.
    pub(super) fn fetched_all(&mut self) -> anyhow::Result<Vec<PartitionData>> {
        let response = self.receive::<FetchRequest>(FETCH_VERSION)?;
        check_code(response.error_code, 0)?;
        let topics = response.responses.into_iter();
        Ok(topics.flat_map(|t| t.partitions).collect())
    }

    pub(super) fn fetch(&mut self, request: &FetchRequest) -> anyhow::Result<PartitionData> {
        self.send_fetch(request)?;
        self.fetched()
    }
}

/// Room for the length, and the header of a request.
fn head(api: ApiKey, version: i16, correlation_id: i32) -> anyhow::Result<BytesMut> {
    let header = RequestHeader::default()
        .with_request_api_key(api as i16)
        .with_request_api_version(version)
        .with_correlation_id(correlation_id)
        .with_client_id(Some(text("wire")));
    let mut frame = BytesMut::zeroed(4);
    header.encode(&mut frame, api.request_header_version(version))?;
    Ok(frame)
}

pub(super) fn text(of: &str) -> StrBytes {
    StrBytes::from_string(of.to_owned())
}

pub(super) fn topic_name(of: &str) -> TopicName {
    TopicName(text(of))
}

#[track_caller]
pub(super) fn check_code(found: i16, expected: i16) -> anyhow::Result<()> {
    use kafka_protocol::ResponseError;
    let name = |code| {
        ResponseError::try_from_code(code).map_or("no error".to_owned(), |e| format!("{e:?}"))
    };
    let at = std::panic::Location::caller();
    ensure!(
        found == expected,
        "{} ({found}), not {} ({expected}), at {}:{}",
        name(found),
        name(expected),
        at.file(),
        at.line()
    );
    Ok(())
}

pub(super) fn produce_request(topic: &str, batch: Bytes) -> ProduceRequest {
    let data = PartitionProduceData::default().with_records(Some(batch));
    let topic = TopicProduceData::default()
        .with_name(topic_name(topic))
        .with_partition_data(vec![data]);
    ProduceRequest::default()
        .with_acks(-1)
        .with_timeout_ms(SOON.as_millis() as i32)
        .with_topic_data(vec![topic])
}

/// A fetch of partition 0 that does not wait.
pub(super) fn fetch_request(topic: &str, offset: i64) -> FetchRequest {
    let partition = FetchPartition::default()
        .with_fetch_offset(offset)
        .with_partition_max_bytes(1 << 20);
    let topic = FetchTopic::default()
        .with_topic(topic_name(topic))
        .with_partitions(vec![partition]);
    FetchRequest::default()
        .with_max_bytes(16 << 20)
        .with_topics(vec![topic])
}

/// Who writes a batch.
#[derive(Clone, Copy, Debug)]
pub(super) struct Writer {
    pub(super) id: i64,
    pub(super) epoch: i16,
    /// Of the first record.
    pub(super) sequence: i32,
}

/// A writer without a name: nothing of it is checked.
pub(super) const ANYBODY: Writer = Writer {
    id: -1,
    epoch: -1,
    sequence: -1,
};

/// A batch of records with these values and one timestamp; the key is the value's first letter.
pub(super) fn batch(writer: Writer, values: &[&str], timestamp: i64) -> anyhow::Result<Bytes> {
    let timed: Vec<_> = values.iter().map(|value| (*value, timestamp)).collect();
    encode(writer, &timed, Compression::None)
}

/// A batch of values with their timestamps.
pub(super) fn encode(
    writer: Writer,
    values: &[(&str, i64)],
    compression: Compression,
) -> anyhow::Result<Bytes> {
    let record = |(index, (value, timestamp)): (usize, &(&str, i64))| Record {
        transactional: false,
        control: false,
        delete_horizon: false,
        partition_leader_epoch: NO_PARTITION_LEADER_EPOCH,
        producer_id: writer.id,
        producer_epoch: writer.epoch,
        timestamp_type: TimestampType::Creation,
        offset: index as i64,
        sequence: writer.sequence.wrapping_add(index as i32),
        timestamp: *timestamp,
        key: value.get(..1).map(|key| Bytes::from(key.to_owned())),
        value: Some(Bytes::from((*value).to_owned())),
        headers: Default::default(),
    };
    let records: Vec<_> = values.iter().enumerate().map(record).collect();
    let options = RecordEncodeOptions {
        version: MAGIC,
        compression,
    };
    let mut encoded = BytesMut::new();
    RecordBatchEncoder::encode(&mut encoded, &records, &options)?;
    Ok(encoded.freeze())
}

/// The base offset, the size in bytes and the codec of each whole batch.
pub(super) fn batches(mut bytes: Bytes) -> Vec<(i64, usize, i16)> {
    let mut found = vec![];
    while bytes.len() > 23 {
        let length = 12 + (&bytes[8..12]).get_u32() as usize;
        if length > bytes.len() {
            break;
        }
        let codec = (&bytes[21..23]).get_i16() & 7;
        found.push(((&bytes[..8]).get_i64(), length, codec));
        bytes.advance(length);
    }
    found
}
