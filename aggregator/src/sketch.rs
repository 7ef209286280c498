//! What is counted with a stated error, in bounded memory: how many different things there are ([`Distinct`]), and which
//! come most ([`Top`]). Anomalies are found by these, and limits never.
//!
//! Ids are known by a 64-bit hash whose key is the same everywhere: two runs of one log, on any machine and by any
//! release, must say the same.

mod distinct;
mod hour;
mod top;

use siphasher::sip::SipHasher13;

pub(crate) use distinct::{Distinct, FEW_MAX, STANDARD_ERROR};
pub(crate) use hour::{HOUR_SECONDS, Hours, News, is_measured, is_paired};
pub(crate) use top::{Id, Payload, Ranked, RankedEntry, Top};

/// The hash's key, which is no secret. Who makes ids so that two of them share a hash has them counted as one.
const HASH_KEY: [u8; 16] = *b"weir.sketch.key1";

/// The hash that stands for an id.
pub(crate) fn id_hash(id: &str) -> u64 {
    SipHasher13::new_with_key(&HASH_KEY).hash(id.as_bytes())
}
