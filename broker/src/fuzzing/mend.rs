//! Checksums made right: a fuzzer cannot guess them, and behind them lies what is to be tried.

use crate::log::batch::{self, Header};

/// A segment file whose every batch, up to the first bytes that cannot be one, has the checksum it should have.
pub(super) fn segment(bytes: &[u8]) -> Vec<u8> {
    let mut mended = bytes.to_vec();
    let mut at = 0;
    while let Some(header) = whole_batch(&mended[at..]) {
        batch::seal(&mut mended[at..at + header.bytes]);
        at += header.bytes;
    }
    mended
}

/// The same for batches anywhere in a request.
pub(super) fn produced(bytes: &[u8]) -> Vec<u8> {
    let mut mended = bytes.to_vec();
    let mut at = 0;
    while at < mended.len() {
        match whole_batch(&mended[at..]) {
            Some(header) => {
                batch::seal(&mut mended[at..at + header.bytes]);
                at += header.bytes;
            }
            None => at += 1,
        }
    }
    mended
}

fn whole_batch(from: &[u8]) -> Option<Header> {
    Header::parse(from).filter(|h| h.magic == 2 && h.bytes <= from.len())
}

/// Every line with the checksum of what follows its ninth byte.
pub(super) fn lines(bytes: &[u8]) -> Vec<u8> {
    let mut mended = vec![];
    for line in bytes.split_inclusive(|b| *b == b'\n') {
        let json = line.get(9..).unwrap_or_default();
        let plain = json.strip_suffix(b"\n").unwrap_or(json);
        mended.extend_from_slice(format!("{:08x} ", crc32c::crc32c(plain)).as_bytes());
        mended.extend_from_slice(json);
    }
    mended
}
