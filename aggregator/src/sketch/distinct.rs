//! How many different things there are: exactly while they are few, by HyperLogLog from then on.
//!
//! The estimator is that of Apache DataSketches, with 2^10 registers; the standard error is 1.04 / 32, a little over 3 %
//! (Flajolet et al. 2007). Of its estimates the one is taken that follows from the registers alone: what comes twice or in
//! another order, here or on the way of a merge, changes nothing.

use datasketches::hash::value::raw_bytes;
use datasketches::hll::{Coupon, HllSketch, HllType, HllUnion};
use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::top::Payload;

/// Up to so many are told apart exactly, by 64-bit hashes: from the next one on DataSketches takes registers, which are
/// not much larger and have one form, however they came to be.
pub(crate) const FEW_MAX: usize = 96;
/// Binary logarithm of the number of registers.
const PRECISION: u8 = 10;
/// Of an estimate, relative to it: 1.04 / sqrt(2^10).
pub(crate) const STANDARD_ERROR: f64 = 1.04 / 32.0;

/// What registers take, a byte each, with what is about them.
const MANY_BYTES: usize = size_of::<HllSketch>() + (1 << PRECISION);

/// What the bytes of one begin with.
const FEW: u8 = 0;
const MANY: u8 = 1;
/// In the bytes of registers, as DataSketches lays them out: where the two sums of 2^-register lie.
const SUMS_AT: usize = 16;
const REGISTERS_AT: usize = 40;

/// A set of hashes, of which only the size can be asked.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "Vec<u8>", into = "Vec<u8>")]
pub(crate) enum Distinct {
    /// In order.
    Few(Vec<u64>),
    Many(Box<HllSketch>),
}

/// Equal sketches have equal registers, and no register is a float.
impl Eq for Distinct {}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("the bytes of a distinct count are damaged, or of another version of Weir's")]
pub(crate) struct DamagedSketch;

impl Default for Distinct {
    fn default() -> Self {
        Self::Few(Vec::new())
    }
}

impl Distinct {
    /// Adds what has this hash, and says whether that may have changed the count.
    pub(crate) fn insert(&mut self, hash: u64) -> bool {
        match self {
            Self::Few(hashes) => match hashes.binary_search(&hash) {
                Ok(_) => false,
                Err(_) if hashes.len() == FEW_MAX => {
                    let mut sketch = many(hashes);
                    sketch.update_with_coupon(coupon(hash));
                    *self = Self::Many(Box::new(sketch));
                    true
                }
                Err(place) => {
                    if hashes.len() == hashes.capacity() {
                        hashes.reserve_exact(hashes.len().max(1));
                    }
                    hashes.insert(place, hash);
                    true
                }
            },
            Self::Many(sketch) => {
                // Counts up with every change of a register; what comes of a merge has no such count.
                let before = sketch.estimate();
                sketch.update_with_coupon(coupon(hash));
                before < sketch.estimate()
            }
        }
    }

    /// How many bytes more it takes beside itself once it has this hash.
    pub(crate) fn growth(&self, hash: u64) -> usize {
        match self {
            Self::Few(hashes) if hashes.binary_search(&hash).is_ok() => 0,
            Self::Few(hashes) if hashes.len() == FEW_MAX => MANY_BYTES - few_bytes(FEW_MAX),
            Self::Few(hashes) => few_bytes(hashes.len() + 1) - few_bytes(hashes.len()),
            Self::Many(_) => 0,
        }
    }

    /// How many there are: exact up to [`FEW_MAX`], with a relative [`STANDARD_ERROR`] above.
    pub(crate) fn count(&self) -> u64 {
        match self {
            Self::Few(hashes) => hashes.len() as u64,
            Self::Many(sketch) => sketch.composite_estimate().round() as u64,
        }
    }

    /// The standard error of the count.
    pub(crate) fn standard_error(&self) -> u64 {
        match self {
            Self::Few(_) => 0,
            Self::Many(_) => (self.count() as f64 * STANDARD_ERROR).ceil() as u64,
        }
    }

    /// Adds all that `other` has.
    pub(crate) fn merge(&mut self, other: &Self) {
        match (&mut *self, other) {
            (_, Self::Few(hashes)) => {
                for hash in hashes {
                    self.insert(*hash);
                }
            }
            (Self::Few(hashes), Self::Many(sketch)) => {
                let mut sketch = sketch.clone();
                for hash in hashes.iter() {
                    sketch.update_with_coupon(coupon(*hash));
                }
                *self = Self::Many(sketch);
            }
            (Self::Many(sketch), Self::Many(other)) => {
                let mut union = HllUnion::new(PRECISION).expect("a precision that it takes");
                union.update(sketch);
                union.update(other);
                **sketch = union.to_sketch(HllType::Hll8);
            }
        }
    }

    /// As records and snapshots keep it: 0 and the hashes, little endian and in order; or 1 and the compact form of
    /// DataSketches.
    pub(crate) fn to_bytes(&self) -> Vec<u8> {
        match self {
            Self::Few(hashes) => {
                let hashes = hashes.iter().flat_map(|hash| hash.to_le_bytes());
                [FEW].into_iter().chain(hashes).collect()
            }
            Self::Many(sketch) => {
                let mut bytes = sketch.serialize();
                bytes.insert(0, MANY);
                bytes
            }
        }
    }

    pub(crate) fn from_bytes(bytes: &[u8]) -> Result<Self, DamagedSketch> {
        match bytes.split_first() {
            Some((&FEW, hashes)) => few(hashes),
            Some((&MANY, image)) => {
                let sketch = HllSketch::deserialize(image).map_err(|_| DamagedSketch)?;
                let is_ours = sketch.lg_config_k() == PRECISION
                    && sketch.target_type() == HllType::Hll8
                    && has_sums(image);
                is_ours
                    .then(|| Self::Many(Box::new(sketch)))
                    .ok_or(DamagedSketch)
            }
            _ => Err(DamagedSketch),
        }
    }
}

impl Payload for Distinct {
    fn clear(&mut self) {
        match self {
            Self::Few(hashes) => hashes.clear(),
            Self::Many(_) => *self = Self::default(),
        }
    }

    fn heap_bytes(&self) -> usize {
        match self {
            Self::Few(hashes) => few_bytes(hashes.len()),
            Self::Many(_) => MANY_BYTES,
        }
    }
}

impl From<Distinct> for Vec<u8> {
    fn from(distinct: Distinct) -> Self {
        distinct.to_bytes()
    }
}

impl TryFrom<Vec<u8>> for Distinct {
    type Error = DamagedSketch;

    fn try_from(bytes: Vec<u8>) -> Result<Self, DamagedSketch> {
        Self::from_bytes(&bytes)
    }
}

/// What a list of so many hashes takes, which doubles when it is full.
fn few_bytes(len: usize) -> usize {
    match len {
        0 => 0,
        len => len.next_power_of_two() * size_of::<u64>(),
    }
}

fn few(bytes: &[u8]) -> Result<Distinct, DamagedSketch> {
    let (hashes, rest) = bytes.as_chunks();
    let hashes: Vec<u64> = hashes
        .iter()
        .map(|hash| u64::from_le_bytes(*hash))
        .collect();
    let is_sound = rest.is_empty() && hashes.len() <= FEW_MAX && hashes.is_sorted_by(|a, b| a < b);
    is_sound
        .then_some(Distinct::Few(hashes))
        .ok_or(DamagedSketch)
}

fn many(hashes: &[u64]) -> HllSketch {
    let sketch = HllSketch::new(PRECISION, HllType::Hll8);
    let mut sketch = sketch.expect("a precision that it takes");
    for hash in hashes {
        sketch.update_with_coupon(coupon(*hash));
    }
    sketch
}

/// As bytes: how std feeds a number to a hash is not the same on every machine.
fn coupon(hash: u64) -> Coupon {
    Coupon::from_value(raw_bytes::from_slice(&hash.to_le_bytes()))
}

/// Whether the sums of 2^-register, which the estimate is made of, can be those of any registers.
fn has_sums(image: &[u8]) -> bool {
    if image.len() < REGISTERS_AT + (1 << PRECISION) {
        // Not as many yet that they lie in registers.
        return true;
    }
    let (sums, _) = image[SUMS_AT..REGISTERS_AT].as_chunks();
    let (low, high) = (f64::from_le_bytes(sums[0]), f64::from_le_bytes(sums[1]));
    let registers = f64::from(1 << PRECISION);
    0.0 <= low && 0.0 <= high && 0.0 < low + high && low + high <= registers
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;
    use crate::model::cases;
    use crate::sketch::id_hash;

    fn of(hashes: impl IntoIterator<Item = u64>) -> Distinct {
        let mut distinct = Distinct::default();
        for hash in hashes {
            distinct.insert(hash);
        }
        distinct
    }

    fn reborn(distinct: &Distinct) -> Distinct {
        let stored = postcard::to_stdvec(distinct).unwrap();
        postcard::from_bytes(&stored).unwrap()
    }

    /// Relative errors of the counts of `seeds` sets of `size` addresses, sorted by how large they are.
    fn errors(size: u64, seeds: u64) -> Vec<f64> {
        let error = |seed| {
            let distinct = of((0..size).map(|n| id_hash(&format!("{seed}.{n}"))));
            distinct.count() as f64 / size as f64 - 1.0
        };
        let mut errors: Vec<f64> = (0..seeds).map(error).collect();
        errors.sort_by(|a, b| a.abs().total_cmp(&b.abs()));
        errors
    }

    /// The mean error is next to nothing, the standard error what is stated, and one set in a thousand is no farther
    /// off than 3.3 times that, as in a normal distribution, with a fifth for the seeds.
    #[track_caller]
    fn check_error(size: u64) {
        const SEEDS: u64 = 1_000;
        let errors = errors(size, SEEDS);
        let count = errors.len() as f64;
        let mean = errors.iter().sum::<f64>() / count;
        let standard = (errors.iter().map(|e| e * e).sum::<f64>() / count).sqrt();
        let worst = errors[errors.len() * 999 / 1_000].abs();
        let figures =
            format!("of {size}: mean {mean:.4}, standard {standard:.4}, worst {worst:.4}");
        assert!(mean.abs() < STANDARD_ERROR / 5.0, "{figures}");
        assert!(standard < STANDARD_ERROR * 1.1, "{figures}");
        assert!(worst < STANDARD_ERROR * 3.3 * 1.2, "{figures}");
    }

    #[test]
    fn the_stated_error_holds() {
        for size in [100, 300, 1_000, 3_000, 10_000] {
            check_error(size);
        }
    }

    #[test]
    fn a_few_are_counted_exactly() {
        assert_eq!(Distinct::default().count(), 0);
        for size in 1..=FEW_MAX as u64 {
            assert_eq!(errors(size, 20).last(), Some(&0.0), "{size}");
        }
    }

    #[test]
    fn hashes_are_the_same_everywhere_and_for_ever() {
        let hashes = ["", "u_1", "203.0.113.7"].map(id_hash);
        assert_eq!(
            hashes,
            [
                18_284_819_326_403_881_601,
                15_333_672_871_622_304_826,
                3_511_764_217_443_189_257
            ]
        );
        let distinct = of((0..1_000_u32).map(|n| id_hash(&n.to_string())));
        let checksum = crc32c::crc32c(&distinct.to_bytes());
        assert_eq!((distinct.count(), checksum), (984, 1_956_921_622));
    }

    #[test]
    fn memory_is_bounded() {
        let mut distinct = Distinct::default();
        for n in 0..100_000_u32 {
            distinct.insert(id_hash(&n.to_string()));
            assert!(distinct.heap_bytes() <= 1_024 + 256);
        }
        assert!(distinct.to_bytes().len() <= 1 + 40 + 1_024);
    }

    #[test]
    fn damaged_bytes_are_refused() {
        let bytes = of((0..1_000_u32).map(|n| id_hash(&n.to_string()))).to_bytes();
        let with = |at: usize, byte: u8| {
            let mut bytes = bytes.clone();
            bytes[at] = byte;
            bytes
        };
        let nan: Vec<u8> = [&bytes[..17], &f64::NAN.to_le_bytes(), &bytes[25..]].concat();
        let damaged = [
            Vec::new(),
            vec![2],
            vec![FEW, 1, 2, 3],
            [[FEW].as_slice(), &[7; 16]].concat(),
            vec![FEW; 1 + 8 * (FEW_MAX + 1)],
            vec![MANY],
            bytes[..bytes.len() - 1].to_vec(),
            with(4, 11),
            with(8, 0),
            nan,
        ];
        for bytes in damaged {
            assert_eq!(
                Distinct::from_bytes(&bytes),
                Err(DamagedSketch),
                "{bytes:?}"
            );
        }
        assert!(Distinct::from_bytes(&bytes).is_ok());
    }

    proptest! {
        #![proptest_config(cases(200))]

        /// What comes twice, in another order, after a restart or by a merge: the count follows from the set.
        #[test]
        fn it_agrees_with_a_set(
            parts in prop::collection::vec((prop_oneof![0..20_u32, 0..400_u32], 0..600_u32), 1..5),
            twice in any::<bool>(),
            restart_at in 0..600_u32,
        ) {
            let mut set = BTreeSet::new();
            let mut merged = Distinct::default();
            for (first, size) in parts {
                let mut part = Distinct::default();
                for n in first..first + size {
                    let hash = id_hash(&n.to_string());
                    let is_new = set.insert(hash);
                    let was = part.count();
                    let (before, growth) = (part.heap_bytes(), part.growth(hash));
                    let changed = part.insert(hash);
                    prop_assert_eq!(before + growth, part.heap_bytes());
                    prop_assert!(changed || part.count() == was);
                    prop_assert!(!twice || !part.insert(hash));
                    prop_assert!(is_new || set.contains(&hash));
                    if n == restart_at {
                        let before = part.to_bytes().len();
                        part = reborn(&part);
                        prop_assert_eq!(part.to_bytes().len(), before);
                    }
                }
                let alone = reborn(&part);
                prop_assert_eq!(&alone, &part);
                prop_assert_eq!(alone.heap_bytes(), part.heap_bytes());
                merged.merge(&part);
            }
            let whole = of(set.iter().copied());
            prop_assert_eq!(merged.count(), whole.count());
            if set.len() <= FEW_MAX {
                prop_assert_eq!(merged.count(), set.len() as u64);
            }
        }
    }
}
