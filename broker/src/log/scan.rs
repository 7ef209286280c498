//! Walking the batches of a segment file, and what to make of bytes that are none.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use super::batch::{self, BatchError, HEADER_BYTES, Header};

/// Read at once. A batch may be larger: it is checked piece by piece, so that a damaged length costs no memory.
const WINDOW_BYTES: u64 = 256 << 10;
/// A search for the next intact batch gives up after checking this many bytes of what only looked like one.
const SEARCH_BYTES_MAX: u64 = 1 << 30;

/// Why the intact part of a segment ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Flaw {
    #[error("no batch starts there")]
    NoBatch,
    #[error(transparent)]
    Batch(#[from] BatchError),
    #[error("the batch starts at offset {found}, which must be {first} to {last}")]
    Offset { found: i64, first: i64, last: i64 },
}

/// The first byte of a segment that is not part of an intact batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Damage {
    pub(crate) at: u64,
    /// The offset after the last intact batch before it.
    pub(crate) next: i64,
    pub(crate) flaw: Flaw,
}

/// Reads a file up to `end`, forward and by pieces. Its batches lie before offset `before`.
pub(crate) struct Scan<'a> {
    file: &'a File,
    end: u64,
    before: i64,
    held_from: u64,
    held: Vec<u8>,
}

impl Scan<'_> {
    pub(crate) fn new(file: &File, end: u64, before: i64) -> Scan<'_> {
        Scan {
            file,
            end,
            before,
            held_from: 0,
            held: vec![],
        }
    }

    /// Gives every intact batch from `at` on to `note`, with its position, until the end or the first flaw.
    /// The first batch must not start before offset `next`, nor any before the end of the one before it.
    pub(crate) fn walk(
        &mut self,
        mut at: u64,
        mut next: i64,
        note: &mut dyn FnMut(&Header, u64),
    ) -> io::Result<Option<Damage>> {
        while at < self.end {
            match self.check(at, next)? {
                Ok(header) => {
                    note(&header, at);
                    at += header.bytes as u64;
                    next = header.next_offset();
                }
                Err(flaw) => return Ok(Some(Damage { at, next, flaw })),
            }
        }
        Ok(None)
    }

    /// Where, after the damage, the next intact batch starts, if there is any.
    pub(crate) fn next_intact(&mut self, after: &Damage) -> io::Result<Option<u64>> {
        let mut checked = 0;
        let mut at = after.at + 1;
        while at + HEADER_BYTES as u64 <= self.end && checked < SEARCH_BYTES_MAX {
            let header = self.header(at)?;
            let Some(header) = header.filter(|h| self.looks_right(h, after.next)) else {
                at += 1;
                continue;
            };
            if at + header.bytes as u64 <= self.end {
                checked += header.bytes as u64;
                if self.check(at, after.next)?.is_ok() {
                    return Ok(Some(at));
                }
            }
            at += 1;
        }
        Ok(None)
    }

    /// Whether it is worth computing a checksum.
    fn looks_right(&self, header: &Header, next: i64) -> bool {
        header.magic == 2
            && header.codec().is_some()
            && header.count <= header.last_delta.saturating_add(1)
            && (next..self.before).contains(&header.base_offset)
    }

    fn header(&mut self, at: u64) -> io::Result<Option<Header>> {
        Ok(Header::parse(self.get(at, HEADER_BYTES as u64)?))
    }

    fn check(&mut self, at: u64, next: i64) -> io::Result<Result<Header, Flaw>> {
        if self.end - at < HEADER_BYTES as u64 {
            return Ok(Err(BatchError::Truncated.into()));
        }
        let Some(header) = self.header(at)? else {
            return Ok(Err(Flaw::NoBatch));
        };
        if header.magic != 2 {
            return Ok(Err(BatchError::Magic(header.magic).into()));
        }
        let batch_end = at + header.bytes as u64;
        if batch_end > self.end {
            return Ok(Err(BatchError::Truncated.into()));
        }
        let mut crc = 0;
        let mut from = at + batch::CRC_FROM as u64;
        while from < batch_end {
            let piece = self.get(from, (batch_end - from).min(WINDOW_BYTES))?;
            crc = crc32c::crc32c_append(crc, piece);
            from += piece.len() as u64;
        }
        Ok(match header {
            _ if crc != header.crc => Err(BatchError::Crc.into()),
            _ if header.codec().is_none() => Err(BatchError::Codec.into()),
            _ if header.base_offset < next || header.last_offset() >= self.before => {
                Err(Flaw::Offset {
                    found: header.base_offset,
                    first: next,
                    last: self.before - 1,
                })
            }
            _ => Ok(header),
        })
    }

    /// `bytes` bytes, at most a window, that lie before the end.
    fn get(&mut self, at: u64, bytes: u64) -> io::Result<&[u8]> {
        let held = self.held_from..self.held_from + self.held.len() as u64;
        if at < held.start || at + bytes > held.end {
            let size = WINDOW_BYTES.min(self.end - at);
            self.held.resize(size as usize, 0);
            self.held_from = at;
            self.file.read_exact_at(&mut self.held, at)?;
        }
        let from = (at - self.held_from) as usize;
        Ok(&self.held[from..from + bytes as usize])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::testing::batch_of;

    fn batch_at(offset: i64, value: &str) -> Vec<u8> {
        let mut batch = batch_of(&[("k", Some(value))], -1);
        batch::place(&mut batch, offset);
        batch
    }

    /// Scans `content`; expects the offsets before the damage, the damage, and where an intact batch follows.
    #[track_caller]
    fn check(content: &[u8], offsets: &[i64], damage: Option<(u64, Flaw)>, intact: Option<u64>) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("segment");
        std::fs::write(&path, content).unwrap();
        let file = File::open(&path).unwrap();
        let mut scan = Scan::new(&file, content.len() as u64, 100);
        let mut seen = vec![];
        let found = scan
            .walk(0, 0, &mut |header, _| seen.push(header.base_offset))
            .unwrap();
        assert_eq!(seen, offsets);
        assert_eq!(found.map(|d| (d.at, d.flaw)), damage);
        let follows = found.and_then(|d| scan.next_intact(&d).unwrap());
        assert_eq!(follows, intact);
    }

    #[test]
    fn damage_is_told_from_what_is_intact_around_it() {
        let (zero, one, two) = (batch_at(0, "a"), batch_at(1, "b"), batch_at(2, "c"));
        let first = zero.len() as u64;
        let mut bad = one.clone();
        *bad.last_mut().unwrap() ^= 1;
        let crc = Flaw::Batch(BatchError::Crc);
        let cut = Flaw::Batch(BatchError::Truncated);
        check(&[], &[], None, None);
        check(&[&zero[..], &one, &two].concat(), &[0, 1, 2], None, None);
        check(&[&zero[..], &bad].concat(), &[0], Some((first, crc)), None);
        check(
            &[&zero[..], &bad, &two].concat(),
            &[0],
            Some((first, crc)),
            Some(2 * first),
        );
        check(
            &[&zero[..], &one[..9]].concat(),
            &[0],
            Some((first, cut)),
            None,
        );
        check(
            &[&zero[..], &one[..30], &two].concat(),
            &[0],
            Some((first, crc)),
            Some(first + 30),
        );
        let zeros = vec![0; 5000];
        check(
            &[&zero[..], &zeros, &two].concat(),
            &[0],
            Some((first, Flaw::NoBatch)),
            Some(first + 5000),
        );
        let back = Flaw::Offset {
            found: 0,
            first: 1,
            last: 99,
        };
        check(
            &[&zero[..], &zero].concat(),
            &[0],
            Some((first, back)),
            None,
        );
        let far = Flaw::Offset {
            found: 100,
            first: 1,
            last: 99,
        };
        let beyond = [&zero[..], &batch_at(100, "d"), &batch_at(99, "e")].concat();
        check(&beyond, &[0], Some((first, far)), Some(2 * first));
    }

    #[test]
    fn a_batch_larger_than_the_window_is_checked_whole() {
        let large = batch_at(0, &"x".repeat(3 * WINDOW_BYTES as usize));
        let mut bad = large.clone();
        let at = bad.len() - 2;
        bad[at] ^= 1;
        check(&large, &[0], None, None);
        check(&bad, &[], Some((0, Flaw::Batch(BatchError::Crc))), None);
    }

    #[test]
    fn a_damaged_length_makes_no_room() {
        let mut bad = batch_at(0, "a");
        bad[8..12].copy_from_slice(&i32::MAX.to_be_bytes());
        check(
            &bad,
            &[],
            Some((0, Flaw::Batch(BatchError::Truncated))),
            None,
        );
    }
}
