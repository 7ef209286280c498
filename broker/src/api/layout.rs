//! A look at a request before it is decoded: are its counts and lengths possible?
//!
//! The decoder makes room for as many elements as a list announces before it reads them. Forty bytes that announce two
//! thousand million topics would end the whole process, which is also that of the application around this log.

/// All lists of a request together have at most so many elements.
const ELEMENTS_MAX: usize = 200_000;

/// How a value lies in a request.
#[derive(Clone, Copy, Debug)]
pub(super) enum Shape {
    /// So many bytes.
    Fixed(usize),
    /// A string, perhaps null.
    Text,
    /// Bytes, perhaps null.
    Bytes,
    /// A list of structures, perhaps null.
    List(&'static [Field]),
    /// A list of plain values, perhaps null.
    Items(&'static Shape),
}

/// A value, and the versions that have it.
#[derive(Clone, Copy, Debug)]
pub(super) enum Field {
    /// This version and later ones.
    From(i16, Shape),
    /// Up to and with this version.
    Until(i16, Shape),
    /// From the first version to the second.
    Between(i16, i16, Shape),
}

impl Field {
    fn shape(&self, version: i16) -> Option<Shape> {
        let (is_there, shape) = match *self {
            Field::From(first, shape) => (version >= first, shape),
            Field::Until(last, shape) => (version <= last, shape),
            Field::Between(first, last, shape) => ((first..=last).contains(&version), shape),
        };
        is_there.then_some(shape)
    }
}

/// What is left of `body` after a request of these fields; `None` if it ends too early or announces too much.
/// `flexible` versions have compact lengths, and tagged fields at the end of every structure.
pub(super) fn skip<'a>(
    fields: &[Field],
    version: i16,
    flexible: bool,
    body: &'a [u8],
) -> Option<&'a [u8]> {
    let mut walk = Walk {
        rest: body,
        version,
        flexible,
        elements_left: ELEMENTS_MAX,
    };
    walk.structure(fields)?;
    Some(walk.rest)
}

struct Walk<'a> {
    rest: &'a [u8],
    version: i16,
    flexible: bool,
    elements_left: usize,
}

impl Walk<'_> {
    fn structure(&mut self, fields: &[Field]) -> Option<()> {
        for field in fields {
            if let Some(shape) = field.shape(self.version) {
                self.value(&shape)?;
            }
        }
        if self.flexible {
            self.tagged()
        } else {
            Some(())
        }
    }

    fn value(&mut self, shape: &Shape) -> Option<()> {
        match shape {
            Shape::Fixed(bytes) => self.take(*bytes).map(drop),
            Shape::Text => {
                let length = if self.flexible {
                    self.compact()?
                } else {
                    self.short()?
                };
                self.take(length).map(drop)
            }
            Shape::Bytes => {
                let length = self.length()?;
                self.take(length).map(drop)
            }
            Shape::List(fields) => self.elements(|walk| walk.structure(fields)),
            Shape::Items(shape) => self.elements(|walk| walk.value(shape)),
        }
    }

    fn elements(&mut self, mut element: impl FnMut(&mut Self) -> Option<()>) -> Option<()> {
        let count = self.length()?;
        self.elements_left = self.elements_left.checked_sub(count)?;
        (0..count).try_for_each(|_| element(self))
    }

    fn tagged(&mut self) -> Option<()> {
        let count = self.varint()?;
        for _ in 0..count {
            self.varint()?;
            let bytes = self.varint()?;
            self.take(bytes)?;
        }
        Some(())
    }

    fn take(&mut self, bytes: usize) -> Option<&[u8]> {
        let (taken, rest) = self.rest.split_at_checked(bytes)?;
        self.rest = rest;
        Some(taken)
    }

    /// The length of bytes or of a list; null counts as 0.
    fn length(&mut self) -> Option<usize> {
        if self.flexible {
            return self.compact();
        }
        match i32::from_be_bytes(self.take(4)?.try_into().ok()?) {
            -1 => Some(0),
            length => usize::try_from(length).ok(),
        }
    }

    fn short(&mut self) -> Option<usize> {
        match i16::from_be_bytes(self.take(2)?.try_into().ok()?) {
            -1 => Some(0),
            length => usize::try_from(length).ok(),
        }
    }

    /// A compact length is one more than it says, and 0 is null.
    fn compact(&mut self) -> Option<usize> {
        Some(self.varint()?.saturating_sub(1))
    }

    /// An unsigned integer of at most 32 bits.
    fn varint(&mut self) -> Option<usize> {
        let mut value = 0_u64;
        for shift in (0..35).step_by(7) {
            let byte = self.take(1)?[0];
            value |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return u32::try_from(value).ok().map(|v| v as usize);
            }
        }
        None
    }
}
