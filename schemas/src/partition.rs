//! Where a key lives: murmur2 as Java's Kafka client computes it, over the number of partitions that the topic was
//! made with. Part of the contract with foreign producers (`partitioner=murmur2_random` in librdkafka).

const SEED: u32 = 0x9747_b28c;
const M: u32 = 0x5bd1_e995;

/// The partition of `key` among `partitions`.
///
/// # Panics
/// When `partitions` is not positive: a topic without partitions is a bug of ours.
#[must_use]
pub fn partition_of(key: &[u8], partitions: i32) -> i32 {
    assert!(
        0 < partitions,
        "a topic has at least one partition, not {partitions}"
    );
    let positive = murmur2(key) & 0x7fff_ffff;
    (positive % partitions.unsigned_abs()) as i32
}

/// MurmurHash2, 32 bits, with the seed of Kafka's default partitioner.
fn murmur2(data: &[u8]) -> u32 {
    let mut hash = SEED ^ data.len() as u32;
    let mut chunks = data.chunks_exact(4);
    for chunk in &mut chunks {
        let mut k = u32::from_le_bytes([chunk[0], chunk[1], chunk[2], chunk[3]]);
        k = k.wrapping_mul(M);
        k ^= k >> 24;
        hash = hash.wrapping_mul(M) ^ k.wrapping_mul(M);
    }
    let tail = chunks.remainder();
    if !tail.is_empty() {
        for (i, byte) in tail.iter().enumerate() {
            hash ^= u32::from(*byte) << (8 * i);
        }
        hash = hash.wrapping_mul(M);
    }
    hash ^= hash >> 13;
    hash = hash.wrapping_mul(M);
    hash ^ (hash >> 15)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The values of Kafka's own `UtilsTest.testMurmur2`.
    #[test]
    fn agrees_with_the_java_client() {
        let check =
            |key: &str, hash: i32| assert_eq!(murmur2(key.as_bytes()) as i32, hash, "{key}");
        check("21", -973_932_308);
        check("foobar", -790_332_482);
        check("a-little-bit-long-string", -985_981_536);
        check("a-little-bit-longer-string", -1_486_304_829);
        check(
            "lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8",
            -58_897_971,
        );
        check("abc", 479_470_107);
    }

    #[test]
    fn stays_in_range() {
        for key in 0..1_000_u32 {
            let partition = partition_of(&key.to_be_bytes(), 7);
            assert!((0..7).contains(&partition));
        }
    }
}
