//! Whether both sides hold the same, record by record.

use std::collections::VecDeque;

use anyhow::bail;
use bus::Record;
use bus::inspect::{Inspector, RawReader, Slice, Span};
use sha2::{Digest, Sha256};

use super::plan::Plan;

/// As many offsets before the end of a copy are compared before it goes on.
const BEGINNING: i64 = 200;

/// A partition that is the same on both sides.
pub(super) struct Compared {
    pub(super) topic: String,
    pub(super) partition: i32,
    pub(super) next: i64,
    /// On both sides, fillers not counted.
    pub(super) records: i64,
    /// At the target.
    pub(super) fillers: i64,
    checksum: [u8; 32],
}

impl Compared {
    /// SHA-256 of all records on both sides, in hexadecimal digits.
    pub(super) fn checksum(&self) -> String {
        self.checksum.iter().map(|b| format!("{b:02x}")).collect()
    }
}

/// Reads both sides.
pub(super) struct Comparer {
    from: Side,
    to: Side,
}

/// The records of one partition, one after another.
struct Side {
    reader: RawReader,
    waiting: VecDeque<Record>,
}

impl Side {
    async fn start(&mut self, topic: &str, partition: i32, span: Span) -> anyhow::Result<()> {
        self.waiting.clear();
        let slice = Slice {
            partition,
            from: span.start,
            to: span.end,
        };
        Ok(self.reader.start(topic, &[slice]).await?)
    }

    async fn peek(&mut self) -> anyhow::Result<Option<&Record>> {
        if self.waiting.is_empty() {
            let records = self.reader.next().await?;
            self.waiting.extend(records.into_iter().map(|(_, r)| r));
        }
        Ok(self.waiting.front())
    }
}

impl Comparer {
    pub(super) fn new(from: &Inspector, to: &Inspector) -> anyhow::Result<Self> {
        let side = |inspector: &Inspector| {
            anyhow::Ok(Side {
                reader: inspector.reader()?,
                waiting: VecDeque::new(),
            })
        };
        Ok(Self {
            from: side(from)?,
            to: side(to)?,
        })
    }

    /// Whether what lies at the target can be the beginning of a copy.
    pub(super) async fn check_beginning(&mut self, plan: &Plan) -> anyhow::Result<()> {
        for (partition, original, copy) in plan.spans() {
            let from = copy.end - BEGINNING;
            let within = |span: Span| Span {
                start: span.start.max(from).min(copy.end),
                end: span.end.min(copy.end),
            };
            self.check(plan, partition, within(original), within(copy))
                .await?;
        }
        Ok(())
    }

    /// Compares all that both sides hold.
    pub(super) async fn check_all(
        &mut self,
        plan: &Plan,
        to: &Inspector,
    ) -> anyhow::Result<Vec<Compared>> {
        let topic = plan.topic();
        let copies = to.spans(topic, plan.copied.len()).await?;
        let mut compared = Vec::new();
        for ((partition, original, _), copy) in plan.spans().zip(copies) {
            if original.end != copy.end {
                bail!(
                    "{topic} partition {partition} ends at {} at the target, not at {}: something else writes there",
                    copy.end,
                    original.end
                );
            }
            compared.push(self.check(plan, partition, original, copy).await?);
        }
        Ok(compared)
    }

    /// Compares the records of both spans.
    async fn check(
        &mut self,
        plan: &Plan,
        partition: i32,
        original: Span,
        copy: Span,
    ) -> anyhow::Result<Compared> {
        let topic = plan.topic();
        self.from.start(topic, partition, original).await?;
        self.to.start(topic, partition, copy).await?;
        let mut digest = Sha256::new();
        let (mut records, mut fillers) = (0, 0);
        loop {
            let (ours, theirs) = (self.from.peek().await?, self.to.peek().await?);
            let difference = match (ours, theirs) {
                (None, None) => break,
                (Some(a), Some(b)) if a.offset == b.offset => {
                    let difference = difference(a, b);
                    add(&mut digest, a);
                    records += i64::from(!a.is_filler());
                    fillers += i64::from(b.is_filler());
                    self.from.waiting.pop_front();
                    self.to.waiting.pop_front();
                    difference
                }
                (Some(a), b) if b.is_none_or(|b| a.offset < b.offset) => {
                    let offset = a.offset;
                    self.from.waiting.pop_front();
                    (!may_lack(plan, partition, offset, copy))
                        .then(|| format!("the target has nothing at offset {offset}"))
                }
                (_, Some(b)) => {
                    let may_be_extra =
                        b.is_filler() || plan.is_compacted() || b.offset < original.start;
                    fillers += i64::from(b.is_filler());
                    let offset = b.offset;
                    self.to.waiting.pop_front();
                    (!may_be_extra)
                        .then(|| format!("only the target has a record at offset {offset}"))
                }
                (Some(_), None) => None,
            };
            if let Some(difference) = difference {
                bail!(
                    "{topic} partition {partition}: {difference}; the target is no copy of this log: delete the topic \
                     there, or copy to another place"
                );
            }
        }
        Ok(Compared {
            topic: topic.to_owned(),
            partition,
            next: original.end,
            records,
            fillers,
            checksum: digest.finalize().into(),
        })
    }
}

/// Whether the target may have thrown away its copy of `offset` since an earlier run finished it.
fn may_lack(plan: &Plan, partition: i32, offset: i64, copy: Span) -> bool {
    let index = usize::try_from(partition).ok();
    let was_there = index.and_then(|index| plan.copied.get(index));
    let was_finished = plan.is_lasting && was_there.is_some_and(|was| offset < was.end);
    was_finished && (plan.is_compacted() || offset < copy.start)
}

/// How two records of one offset differ, if they do.
fn difference(ours: &Record, theirs: &Record) -> Option<String> {
    let part = if ours.key != theirs.key {
        "keys"
    } else if ours.value != theirs.value {
        "values"
    } else if ours.headers != theirs.headers {
        "headers"
    } else if millis(ours) != millis(theirs) {
        "times"
    } else {
        return None;
    };
    Some(format!("the {part} at offset {} differ", ours.offset))
}

/// A copy cannot have the time 0, see [`bus::inspect::RawWriter::put`].
fn millis(record: &Record) -> i64 {
    record.appended_at.as_millis().max(1)
}

fn add(digest: &mut Sha256, record: &Record) {
    digest.update(record.offset.to_be_bytes());
    digest.update(millis(record).to_be_bytes());
    let mut part = |bytes: Option<&[u8]>| {
        // So that no two records read the same.
        let length = bytes.map_or(u64::MAX, |bytes| bytes.len() as u64);
        digest.update(length.to_be_bytes());
        digest.update(bytes.unwrap_or_default());
    };
    part(record.key.as_deref());
    part(record.value.as_deref());
    for (name, value) in &record.headers {
        part(Some(name.as_bytes()));
        part(value.as_deref());
    }
    // No header's value is as long as that.
    part(None);
}

#[cfg(test)]
mod tests {
    use schemas::time::Timestamp;

    use super::*;

    fn record() -> Record {
        Record {
            offset: 3,
            appended_at: Timestamp::from_millis(5),
            key: Some("k".into()),
            value: Some("v".into()),
            headers: vec![("h".to_owned(), None)],
        }
    }

    fn checksum(record: &Record) -> [u8; 32] {
        let mut digest = Sha256::new();
        add(&mut digest, record);
        digest.finalize().into()
    }

    /// Both the comparison and the checksum notice `change`.
    #[track_caller]
    fn check(change: impl Fn(&mut Record), expected: &str) {
        let mut other = record();
        change(&mut other);
        let found = difference(&record(), &other).unwrap_or_default();
        assert!(found.contains(expected), "{found}");
        assert_ne!(checksum(&record()), checksum(&other));
    }

    #[test]
    fn every_part_of_a_record_counts() {
        assert_eq!(difference(&record(), &record()), None);
        assert_eq!(checksum(&record()), checksum(&record()));
        check(|r| r.key = None, "keys at offset 3");
        check(|r| r.value = Some("".into()), "values");
        check(|r| r.headers[0].1 = Some("".into()), "headers");
        check(|r| r.headers.clear(), "headers");
        check(|r| r.appended_at = Timestamp::from_millis(6), "times");
    }

    #[test]
    fn the_parts_do_not_run_together() {
        let other = Record {
            key: Some("kv".into()),
            value: Some("".into()),
            ..record()
        };
        assert_ne!(checksum(&record()), checksum(&other));
    }
}
