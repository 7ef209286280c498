//! Producers that number their batches, and batches that are none.

use anyhow::{Context, ensure};
use bytes::{Bytes, BytesMut};
use kafka_protocol::ResponseError as E;
use kafka_protocol::messages::InitProducerIdRequest;
use kafka_protocol::messages::produce_response::PartitionProduceResponse;
use kafka_protocol::records::Compression;
use rdkafka::Offset;

use super::admin;
use super::lab::Lab;
use super::wire::{
    ANYBODY, Wire, Writer, batch, check_code, encode, fetch_request, produce_request,
};

/// Kafka recognises a producer's last five batches.
const REMEMBERED: i32 = 5;
const HOUR_MS: i64 = 3_600_000;

/// A topic, a connection, and a producer id that is new to both.
struct Scene {
    topic: String,
    wire: Wire,
    id: i64,
}

impl Scene {
    fn new(lab: &Lab) -> anyhow::Result<Self> {
        let topic = lab.topic(1, &[("retention.ms", "-1")])?;
        let mut wire = Wire::connect(lab)?;
        let id = new_id(&mut wire)?;
        Ok(Self { topic, wire, id })
    }

    /// Sends `count` records of this epoch, numbered from `sequence`.
    fn send(
        &mut self,
        epoch: i16,
        sequence: i32,
        count: usize,
    ) -> anyhow::Result<PartitionProduceResponse> {
        let writer = Writer {
            id: self.id,
            epoch,
            sequence,
        };
        self.wire
            .produce(&self.topic, batch(writer, &vec!["v"; count], 1)?)
    }

    /// Fails unless it lies at `offset`.
    fn lies_at(&mut self, batch: (i16, i32, usize), offset: i64) -> anyhow::Result<()> {
        let (epoch, sequence, count) = batch;
        let produced = self.send(epoch, sequence, count)?;
        check_code(produced.error_code, 0).with_context(|| format!("{batch:?}"))?;
        let found = produced.base_offset;
        ensure!(found == offset, "{batch:?} lies at {found}, not {offset}");
        Ok(())
    }

    /// Fails unless it is refused so.
    fn is_refused(&mut self, batch: (i16, i32, usize), error: E) -> anyhow::Result<()> {
        let (epoch, sequence, count) = batch;
        let produced = self.send(epoch, sequence, count)?;
        check_code(produced.error_code, error.code()).with_context(|| format!("{batch:?}"))
    }

    fn ends_at(&mut self, offset: i64) -> anyhow::Result<()> {
        let end = self
            .wire
            .fetch(&fetch_request(&self.topic, 0))?
            .high_watermark;
        ensure!(end == offset, "the log ends at {end}, not {offset}");
        Ok(())
    }
}

fn new_id(wire: &mut Wire) -> anyhow::Result<i64> {
    let answer = wire.ask(
        4,
        &InitProducerIdRequest::default().with_transactional_id(None),
    )?;
    check_code(answer.error_code, 0)?;
    ensure!(answer.producer_epoch == 0, "{answer:?}");
    Ok(answer.producer_id.0)
}

pub(super) fn ids(lab: &Lab) -> anyhow::Result<()> {
    let mut wire = Wire::connect(lab)?;
    let mut last = -1;
    for _ in 0..20 {
        let id = new_id(&mut wire)?;
        ensure!(id > last, "{id} after {last}");
        last = id;
    }
    Ok(())
}

pub(super) fn duplicates(lab: &Lab) -> anyhow::Result<()> {
    let mut scene = Scene::new(lab)?;
    for n in 0..REMEMBERED {
        scene.lies_at((0, 2 * n, 2), i64::from(2 * n))?;
    }
    for n in (0..REMEMBERED).rev() {
        scene.lies_at((0, 2 * n, 2), i64::from(2 * n))?;
    }
    scene.ends_at(10)?;
    scene.lies_at((0, 10, 2), 10)?;
    scene.is_refused((0, 0, 2), E::OutOfOrderSequenceNumber)?;
    scene.ends_at(12)
}

pub(super) fn gaps(lab: &Lab) -> anyhow::Result<()> {
    let mut scene = Scene::new(lab)?;
    scene.lies_at((0, 0, 3), 0)?;
    scene.is_refused((0, 4, 1), E::OutOfOrderSequenceNumber)?;
    // Neither the same batch nor the next one.
    scene.is_refused((0, 0, 2), E::OutOfOrderSequenceNumber)?;
    scene.is_refused((0, 1, 2), E::OutOfOrderSequenceNumber)?;
    scene.lies_at((0, 3, 1), 3)?;
    scene.ends_at(4)
}

pub(super) fn epochs(lab: &Lab) -> anyhow::Result<()> {
    let mut scene = Scene::new(lab)?;
    scene.lies_at((0, 0, 3), 0)?;
    scene.is_refused((1, 3, 1), E::OutOfOrderSequenceNumber)?;
    scene.lies_at((1, 0, 1), 3)?;
    scene.is_refused((0, 3, 1), E::InvalidProducerEpoch)?;
    scene.is_refused((0, 0, 3), E::InvalidProducerEpoch)?;
    scene.lies_at((1, 0, 1), 3)?;
    scene.lies_at((1, 1, 1), 4)?;
    scene.ends_at(5)
}

/// A producer that is not known, or no longer, may begin anywhere; one whose records are gone is still known.
pub(super) fn forgotten(lab: &Lab) -> anyhow::Result<()> {
    let mut scene = Scene::new(lab)?;
    scene.lies_at((4, 17, 2), 0)?;
    scene.lies_at((4, 19, 1), 2)?;
    let low = admin::delete_before(lab, &scene.topic, Offset::End)?;
    ensure!(low == Ok(3), "{low:?}");
    scene.is_refused((4, 30, 1), E::OutOfOrderSequenceNumber)?;
    scene.lies_at((4, 20, 1), 3)?;
    scene.lies_at((4, 20, 1), 3)
}

fn changed(batch: &Bytes, change: impl FnOnce(&mut BytesMut)) -> Bytes {
    let mut changed = BytesMut::from(&batch[..]);
    change(&mut changed);
    changed.freeze()
}

pub(super) fn no_batches(lab: &Lab) -> anyhow::Result<()> {
    let topic = lab.topic(1, &[("retention.ms", "-1")])?;
    let mut wire = Wire::connect(lab)?;
    let good = batch(ANYBODY, &["a", "b"], 1)?;
    let twice = changed(&good, |b| b.extend_from_slice(&good));
    for (what, batch, error) in [
        (
            "a bit is wrong",
            changed(&good, |b| b[70] ^= 1),
            E::CorruptMessage,
        ),
        (
            "an old format",
            changed(&good, |b| b[16] = 1),
            E::InvalidRecord,
        ),
        ("two batches", twice, E::InvalidRecord),
        ("nothing at all", Bytes::new(), E::InvalidRecord),
        ("cut off", good.slice(..good.len() - 1), E::InvalidRecord),
    ] {
        let produced = wire.produce(&topic, batch).context(what)?;
        check_code(produced.error_code, error.code()).context(what)?;
    }
    let offset = wire.append(&topic, good)?;
    ensure!(offset == 0, "something was stored before it: {offset}");
    Ok(())
}

/// zstd came with version 7 of produce.
pub(super) fn zstd_since(lab: &Lab) -> anyhow::Result<()> {
    let topic = lab.topic(1, &[("retention.ms", "-1")])?;
    let mut wire = Wire::connect(lab)?;
    let batch = encode(ANYBODY, &[("v", 1)], Compression::Zstd)?;
    for version in 3..=9 {
        let answer = wire.ask(version, &produce_request(&topic, batch.clone()))?;
        let code = answer.responses[0].partition_responses[0].error_code;
        let expected = if version < 7 {
            E::UnsupportedCompressionType.code()
        } else {
            0
        };
        check_code(code, expected).with_context(|| format!("version {version}"))?;
    }
    Ok(())
}

pub(super) fn timestamps(lab: &Lab) -> anyhow::Result<()> {
    let bounds = [
        ("retention.ms", "-1"),
        ("message.timestamp.before.max.ms", "36000000"),
        ("message.timestamp.after.max.ms", "36000000"),
    ];
    let topic = lab.topic(1, &bounds)?;
    let mut wire = Wire::connect(lab)?;
    let now = now_ms()?;
    for (hours, code) in [
        (0, 0),
        (9, 0),
        (-9, 0),
        (11, E::InvalidTimestamp.code()),
        (-11, E::InvalidTimestamp.code()),
    ] {
        let batch = encode(
            ANYBODY,
            &[("a", now), ("b", now + hours * HOUR_MS)],
            Compression::Lz4,
        )?;
        let produced = wire.produce(&topic, batch)?;
        check_code(produced.error_code, code).with_context(|| format!("{hours} hours"))?;
    }
    let by_default = lab.topic(1, &[("retention.ms", "-1")])?;
    let produced = wire.produce(&by_default, batch(ANYBODY, &["a"], now + 2 * HOUR_MS)?)?;
    check_code(produced.error_code, E::InvalidTimestamp.code()).context("by default")
}

#[expect(
    clippy::disallowed_methods,
    reason = "the server judges timestamps by its own clock, which is this machine's"
)]
fn now_ms() -> anyhow::Result<i64> {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH)?;
    Ok(since.as_millis() as i64)
}

pub(super) fn acks(lab: &Lab) -> anyhow::Result<()> {
    let topic = lab.topic(1, &[("retention.ms", "-1")])?;
    let mut wire = Wire::connect(lab)?;
    let request = |topic, acks| -> anyhow::Result<_> {
        Ok(produce_request(topic, batch(ANYBODY, &["v"], 1)?).with_acks(acks))
    };
    for (acks, code) in [(1, 0), (-1, 0), (2, E::InvalidRequiredAcks.code())] {
        let answer = wire.ask(9, &request(&topic, acks)?)?;
        let partition = &answer.responses[0].partition_responses[0];
        check_code(partition.error_code, code).with_context(|| format!("acks={acks}"))?;
    }
    wire.send(9, &request(&topic, 0)?)?;
    wire.expect_silence()?;
    // The answer that comes is that of the fetch: there is none of a write that wants none.
    let mut unanswered = Wire::connect(lab)?;
    unanswered.send(9, &request(&topic, 0)?)?;
    drop(wire);
    let mut reader = Wire::connect(lab)?;
    super::lab::until("both were stored", || {
        Ok(reader.fetch(&fetch_request(&topic, 0))?.high_watermark == 4)
    })?;
    // Who wants no answer learns of a failure all the same.
    let mut failing = Wire::connect(lab)?;
    failing.send(9, &request("missing", 0)?)?;
    failing.expect_closed()
}
