//! The closed slices of sliding windows, a few bytes each: there may be hundreds for each of thousands of counters.
//!
//! Oldest first, each is its amount and its gap (how many slices later the next newer one lies, closed or open), as
//! numbers of seven bits a byte. A gap of one, which most are, is a bit of the amount's number. So the oldest is taken
//! off and a newer one put on without touching the others.

use std::ops::Range;

use serde::{Deserialize, Serialize};

const INLINE_BYTES: usize = 14;
const GROWTH_BYTES: usize = 32;
/// Two slices of the largest amounts and gaps.
const ENCODED_BYTES: usize = 2 * (19 + 3);

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(from = "Vec<u8>", into = "Vec<u8>")]
#[expect(
    clippy::box_collection,
    reason = "a vector of its own would take eight bytes more of every counter, and most need none"
)]
pub(super) enum Packed {
    Inline { len: u8, bytes: [u8; INLINE_BYTES] },
    Heap(Box<Vec<u8>>),
}

/// One closed slice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Closed {
    pub(super) gap: u16,
    pub(super) amount: i128,
}

impl Closed {
    /// How many bytes it takes.
    pub(super) fn bytes(self) -> usize {
        Encoded::of(&[self]).len
    }
}

/// The bytes of one or two slices.
struct Encoded {
    bytes: [u8; ENCODED_BYTES],
    len: usize,
}

impl Encoded {
    fn of(slices: &[Closed]) -> Self {
        let mut encoded = Self {
            bytes: [0; ENCODED_BYTES],
            len: 0,
        };
        for slice in slices {
            let is_apart = slice.gap != 1;
            encoded.number(slice.amount.unsigned_abs() << 1 | u128::from(is_apart));
            if is_apart {
                encoded.number(slice.gap.into());
            }
        }
        encoded
    }

    fn number(&mut self, mut number: u128) {
        loop {
            let rest = number >> 7;
            let more = if rest == 0 { 0 } else { 0x80 };
            self.bytes[self.len] = (number & 0x7f) as u8 | more;
            self.len += 1;
            if rest == 0 {
                return;
            }
            number = rest;
        }
    }
}

/// Takes a number off the front; `None` when there is none.
fn number(bytes: &mut &[u8]) -> Option<u128> {
    let (&first, rest) = bytes.split_first()?;
    *bytes = rest;
    let mut number = u128::from(first & 0x7f);
    let (mut last, mut shift) = (first, 7);
    while last & 0x80 != 0 && shift < 128 {
        let (&next, rest) = bytes.split_first()?;
        *bytes = rest;
        number |= u128::from(next & 0x7f) << shift;
        (last, shift) = (next, shift + 7);
    }
    Some(number)
}

impl Packed {
    pub(super) const fn new() -> Self {
        Self::Inline {
            len: 0,
            bytes: [0; INLINE_BYTES],
        }
    }

    fn bytes(&self) -> &[u8] {
        match self {
            Self::Inline { len, bytes } => &bytes[..usize::from(*len)],
            Self::Heap(bytes) => bytes,
        }
    }

    /// Bytes that it takes beside itself, as far as what it holds decides that.
    pub(super) fn heap_bytes(&self) -> usize {
        match self.bytes().len() {
            ..=INLINE_BYTES => 0,
            len => len + size_of::<Vec<u8>>(),
        }
    }

    /// Bytes of all slices.
    pub(super) fn len(&self) -> usize {
        self.bytes().len()
    }

    /// The slices, oldest first, each with where its bytes lie.
    pub(super) fn iter(&self) -> impl Iterator<Item = (Range<usize>, Closed)> {
        let mut start = 0;
        self.iter_from(0).map(move |(end, slice)| {
            let range = start..end;
            start = end;
            (range, slice)
        })
    }

    /// The slices from that on whose bytes begin at `start`, oldest first, each with where its bytes end.
    pub(super) fn iter_from(&self, start: usize) -> impl Iterator<Item = (usize, Closed)> {
        let bytes = self.bytes();
        let mut rest = &bytes[start..];
        std::iter::from_fn(move || {
            let first = number(&mut rest)?;
            let gap = match first & 1 {
                0 => 1,
                _ => u16::try_from(number(&mut rest)?).ok()?,
            };
            let amount = (first >> 1).cast_signed();
            Some((bytes.len() - rest.len(), Closed { gap, amount }))
        })
    }

    pub(super) fn push(&mut self, slice: Closed) {
        let end = self.bytes().len();
        self.replace(end..end, &[slice]);
    }

    pub(super) fn drop_front(&mut self, bytes: usize) {
        self.replace(0..bytes, &[]);
    }

    /// Puts up to two slices in the place of those whose bytes these are.
    pub(super) fn replace(&mut self, range: Range<usize>, slices: &[Closed]) {
        let encoded = Encoded::of(slices);
        let new = &encoded.bytes[..encoded.len];
        let len = self.bytes().len() - range.len() + new.len();
        match self {
            Self::Inline { len: before, bytes } if len <= INLINE_BYTES => {
                bytes.copy_within(range.end..usize::from(*before), range.start + new.len());
                bytes[range.start..][..new.len()].copy_from_slice(new);
                *before = len as u8;
            }
            Self::Inline { .. } => {
                let mut bytes = Vec::with_capacity(len.max(GROWTH_BYTES));
                bytes.extend_from_slice(&self.bytes()[..range.start]);
                bytes.extend_from_slice(new);
                bytes.extend_from_slice(&self.bytes()[range.end..]);
                *self = Self::Heap(Box::new(bytes));
            }
            Self::Heap(_) if len == 0 => *self = Self::new(),
            Self::Heap(bytes) if new.is_empty() => drop(bytes.drain(range)),
            Self::Heap(bytes) if range.start == bytes.len() => {
                if bytes.capacity() < len {
                    // Not twice as much: a window's slices are as many as they are.
                    bytes.reserve_exact(new.len().max(GROWTH_BYTES));
                }
                bytes.extend_from_slice(new);
            }
            Self::Heap(bytes) => drop(bytes.splice(range, new.iter().copied())),
        }
    }
}

impl PartialEq for Packed {
    fn eq(&self, other: &Self) -> bool {
        self.bytes() == other.bytes()
    }
}

impl Eq for Packed {}

impl From<Vec<u8>> for Packed {
    fn from(vec: Vec<u8>) -> Self {
        let mut bytes = [0; INLINE_BYTES];
        match bytes.get_mut(..vec.len()) {
            Some(place) => {
                place.copy_from_slice(&vec);
                let len = vec.len() as u8;
                Self::Inline { len, bytes }
            }
            None => Self::Heap(Box::new(vec)),
        }
    }
}

impl From<Packed> for Vec<u8> {
    fn from(packed: Packed) -> Self {
        packed.bytes().to_vec()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::model::cases;

    fn slice() -> impl Strategy<Value = Closed> {
        let amount = prop_oneof![
            4 => 0..5_000_i128,
            1 => 0..=i128::MAX,
            1 => Just(i128::MAX),
        ];
        (1..1_000_u16, amount).prop_map(|(gap, amount)| Closed { gap, amount })
    }

    #[test]
    fn what_differs_is_not_equal() {
        let mut one = Packed::new();
        one.push(Closed { gap: 1, amount: 1 });
        assert_ne!(one, Packed::new());
    }

    /// Slices that come one after the other, as most do, leave little room unused, and seldom move.
    #[test]
    fn memory_grows_by_little_at_a_time() {
        let mut packed = Packed::new();
        let (mut room, mut moves) = (0, 0);
        for n in 0..1_000 {
            let amount = 1 << (n % 40);
            packed.push(Closed { gap: 1, amount });
            if let Packed::Heap(bytes) = &packed {
                assert!(bytes.capacity() - bytes.len() <= GROWTH_BYTES);
                moves += usize::from(bytes.capacity() != room);
                room = bytes.capacity();
            }
        }
        assert!(
            0 < moves && moves <= packed.len() / (GROWTH_BYTES - 6),
            "{moves}"
        );
    }

    proptest! {
        #![proptest_config(cases(300))]

        #[test]
        fn it_agrees_with_a_list(
            ops in prop::collection::vec((any::<prop::sample::Index>(), 0..6_u8, slice(), slice()), 0..60),
        ) {
            let (mut packed, mut list) = (Packed::new(), Vec::new());
            for (index, op, a, b) in ops {
                let was_inline = matches!(packed, Packed::Inline { .. });
                let ranges: Vec<_> = packed.iter().map(|(range, _)| range).collect();
                let place = index.index(list.len() + 1);
                let here = ranges.get(place).cloned();
                match (op, here) {
                    (0, Some(range)) => {
                        packed.drop_front(range.end);
                        list.drain(..=place);
                    }
                    (1, Some(range)) => {
                        packed.replace(range, &[a]);
                        list[place] = a;
                    }
                    (2, Some(range)) => {
                        packed.replace(range.start..range.start, &[a]);
                        list.insert(place, a);
                    }
                    (3, Some(range)) => {
                        packed.replace(range, &[a, b]);
                        list[place] = a;
                        list.insert(place + 1, b);
                    }
                    _ => {
                        packed.push(a);
                        list.push(a);
                    }
                }
                let found: Vec<Closed> = packed.iter().map(|(_, slice)| slice).collect();
                prop_assert_eq!(&found, &list);
                let bytes: usize = list.iter().map(|slice| slice.bytes()).sum();
                let fits = bytes <= INLINE_BYTES;
                let heap_bytes = if fits { 0 } else { bytes + size_of::<Vec<u8>>() };
                prop_assert_eq!(packed.heap_bytes(), heap_bytes);
                let is_inline = matches!(packed, Packed::Inline { .. });
                prop_assert_eq!(is_inline, bytes == 0 || (was_inline && fits));
                let stored = Vec::from(packed.clone());
                let loaded = Packed::from(stored);
                prop_assert_eq!(loaded.heap_bytes(), packed.heap_bytes());
                prop_assert_eq!(&loaded, &packed);
            }
        }
    }
}
