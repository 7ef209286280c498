//! Subjects as 128-bit keyed hashes, so that a check builds no path and compares no text.
//!
//! Each id is hashed once per request, however many limits and decisions may concern it: the hash of a subject is
//! the wrapping sum of the hashes of its ids, each under a key of its dimension. The keys come from a seed that is
//! drawn at start and never leaves the process, so nobody can look for subjects that collide; by chance, two of a
//! million subjects do so with a probability below 10^-26.

use schemas::subject::{Dimension, Identity, Named, Subject};
use siphasher::sip128::SipHasher13;

const DIMENSIONS: usize = Dimension::ALL.len();

/// A set of dimensions: what subjects of one form have in common. `platform` is the empty one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Shape(u16);

/// Shapes there are: every set of dimensions.
pub(crate) const SHAPES: usize = 1 << DIMENSIONS;

impl Shape {
    pub const PLATFORM: Shape = Shape(0);

    #[must_use]
    pub fn of(dimensions: impl IntoIterator<Item = Dimension>) -> Self {
        let bits = dimensions
            .into_iter()
            .fold(0, |bits, dimension| bits | 1 << dimension as u16);
        Self(bits)
    }

    /// Whether it has every dimension of `other`.
    #[must_use]
    pub const fn covers(self, other: Shape) -> bool {
        self.0 & other.0 == other.0
    }

    /// Whether a subject of this form lies in one of `other`'s: whether its path begins with the other's dimensions.
    /// Nothing but `platform` lies in `platform`.
    #[must_use]
    pub(crate) const fn begins_with(self, other: Shape) -> bool {
        let up_to_last = match other.0.checked_ilog2() {
            Some(last) => u16::MAX >> (u16::BITS - 1 - last),
            None => u16::MAX,
        };
        self.0 & up_to_last == other.0
    }

    #[must_use]
    pub(crate) const fn with(self, other: Shape) -> Self {
        Self(self.0 | other.0)
    }

    pub(crate) const fn index(self) -> usize {
        self.0 as usize
    }

    pub(crate) fn from_index(index: usize) -> Self {
        debug_assert!(index < SHAPES, "shape {index} has unknown dimensions");
        Self(index as u16)
    }

    /// Positions in [`Dimension::ALL`], ascending.
    fn positions(self) -> impl Iterator<Item = usize> {
        let mut bits = self.0;
        std::iter::from_fn(move || {
            let position = bits.trailing_zeros() as usize;
            bits &= bits.wrapping_sub(1);
            (position < DIMENSIONS).then_some(position)
        })
    }
}

/// A set that subjects name in place of an id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct SetId {
    position: u8,
    pub(crate) hash: u128,
}

impl SetId {
    pub(crate) fn dimension(self) -> Dimension {
        Dimension::ALL[usize::from(self.position)]
    }
}

/// What subjects have in common: their shape, and the sets that they name.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Form {
    pub(crate) shape: Shape,
    pub(crate) sets: Box<[SetId]>,
}

/// The keys of one process.
#[derive(Clone, Debug)]
pub struct Hasher {
    ids: [SipHasher13; DIMENSIONS],
    sets: SipHasher13,
    limits: SipHasher13,
    requests: SipHasher13,
}

impl Hasher {
    /// `seed` is to be random and to stay secret.
    #[must_use]
    pub fn new(seed: [u64; 2]) -> Self {
        let keyed = |n: u64| SipHasher13::new_with_keys(seed[0], seed[1].wrapping_add(n));
        Self {
            ids: std::array::from_fn(|position| keyed(position as u64)),
            limits: keyed(DIMENSIONS as u64),
            requests: keyed(DIMENSIONS as u64 + 1),
            sets: keyed(DIMENSIONS as u64 + 2),
        }
    }

    /// The shape and hash of a subject.
    #[must_use]
    pub fn subject(&self, subject: &Subject) -> (Shape, u128) {
        let (form, hash) = self.form(subject);
        (form.shape, hash)
    }

    /// The form and hash of a subject.
    pub(crate) fn form(&self, subject: &Subject) -> (Form, u128) {
        let hashes = self.named(subject);
        let parts = subject.parts();
        let sets = parts.iter().filter_map(|(dimension, named)| match named {
            Named::Set(name) => Some(self.set(*dimension, name)),
            Named::Id(_) => None,
        });
        let form = Form {
            shape: hashes.shape,
            sets: sets.collect(),
        };
        (form, hashes.all())
    }

    /// The hashes of what a subject names.
    pub(crate) fn named(&self, subject: &Subject) -> Hashes {
        let mut hashes = Hashes::default();
        for (dimension, named) in subject.parts() {
            let position = dimension as usize;
            hashes.shape.0 |= 1 << position;
            hashes.ids[position] = match named {
                Named::Id(id) => self.id(position, &id),
                Named::Set(name) => self.set(dimension, &name).hash,
            };
        }
        hashes
    }

    /// A set by its name and dimension.
    pub(crate) fn set(&self, dimension: Dimension, name: &str) -> SetId {
        let text = format!("{}/{name}", dimension.name());
        SetId {
            position: dimension as u8,
            hash: self.sets.hash(text.as_bytes()).as_u128(),
        }
    }

    /// What tells the counters of one limit from those of another: added to the hash of a subject.
    #[must_use]
    pub fn limit(&self, text: &str) -> u128 {
        self.limits.hash(text.as_bytes()).as_u128()
    }

    /// What tells orders on one limit from those on another: added to the hash of a subject.
    #[must_use]
    pub(crate) fn name(&self, limit: &str) -> u128 {
        // The text of a counter has more lines.
        self.limits.hash(limit.as_bytes()).as_u128()
    }

    /// What tells one request of a tenant from its others.
    #[must_use]
    pub fn request(&self, tenant: Option<&str>, request_id: &str) -> u128 {
        let tenant = tenant.map_or(0, |id| self.id(Dimension::Tenant as usize, id));
        let request = self.requests.hash(request_id.as_bytes()).as_u128();
        request.wrapping_add(tenant)
    }

    /// The hashes of the ids that `identity` has, of the dimensions in `wanted` only.
    #[must_use]
    pub fn identity(&self, identity: &Identity<'_>, wanted: Shape) -> Hashes {
        let mut hashes = Hashes::default();
        for position in wanted.positions() {
            if let Some(id) = identity.get(Dimension::ALL[position]) {
                hashes.ids[position] = self.id(position, id);
                hashes.shape.0 |= 1 << position;
            }
        }
        hashes
    }

    fn id(&self, position: usize, id: &str) -> u128 {
        self.ids[position].hash(id.as_bytes()).as_u128()
    }
}

/// The hashes of one request's ids.
#[derive(Clone, Copy, Debug, Default)]
pub struct Hashes {
    shape: Shape,
    ids: [u128; DIMENSIONS],
}

impl Hashes {
    /// The hash of the subject of `shape` that the request falls under, if it has all ids of it.
    #[must_use]
    pub fn subject(&self, shape: Shape) -> Option<u128> {
        if !self.shape.covers(shape) {
            return None;
        }
        let ids = shape.positions().map(|position| self.ids[position]);
        Some(ids.fold(0, u128::wrapping_add))
    }

    /// With sets in place of the request's own ids, which lie in them.
    #[must_use]
    pub(crate) fn with(&self, sets: &[SetId]) -> Self {
        let mut hashes = *self;
        for set in sets {
            hashes.ids[usize::from(set.position)] = set.hash;
        }
        hashes
    }

    /// The hash of the subject of all of them.
    fn all(&self) -> u128 {
        self.ids.into_iter().fold(0, u128::wrapping_add)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn identity() -> Identity<'static> {
        Identity {
            tenant: Some("a/b"),
            user: Some("u"),
            route: Some("GET /"),
            ..Identity::default()
        }
    }

    #[track_caller]
    fn check(path: &str, same: bool) {
        let hasher = Hasher::new([1, 2]);
        let (shape, hash) = hasher.subject(&Subject::parse(path).unwrap());
        let all = Shape::of(Dimension::ALL);
        let found = hasher.identity(&identity(), all).subject(shape);
        assert_eq!(found == Some(hash), same, "{path}");
    }

    #[test]
    fn a_request_has_the_hashes_of_its_subjects() {
        check("platform", true);
        check("tenant/a%2Fb", true);
        check("tenant/a%2Fb/user/u", true);
        check("tenant/a%2Fb/user/u/route/GET /", true);
        check("user/u", true);
    }

    #[test]
    fn and_of_no_others() {
        check("tenant/a", false);
        check("tenant/u", false);
        check("tenant/a%2Fb/key/u", false);
        check("tenant/a%2Fb/user/u/model/m", false);
        check("tenant/a%2Fb/route/GET /x", false);
    }

    #[test]
    fn a_set_is_told_from_what_is_called_so() {
        let hasher = Hasher::new([1, 2]);
        let hash = |path: &str| hasher.subject(&Subject::parse(path).unwrap()).1;
        assert_ne!(hash("route/{r}"), hash("route/%7Br}"));
        assert_ne!(hash("route/{r}"), hash("model/{r}"));
        assert_ne!(hash("route/{r}"), hash("route/{s}"));
        let (form, both) = hasher.form(&Subject::parse("user/u/route/{r}").unwrap());
        let hashes = hasher.identity(&identity(), Shape::of(Dimension::ALL));
        assert_ne!(hashes.subject(form.shape), Some(both));
        assert_eq!(hashes.with(&form.sets).subject(form.shape), Some(both));
        let (plain, _) = hasher.form(&Subject::parse("user/u/route/%7Br}").unwrap());
        assert_eq!((plain.shape, plain.sets.len()), (form.shape, 0));
    }

    #[test]
    fn only_wanted_dimensions_are_hashed() {
        let hashes =
            Hasher::new([1, 2]).identity(&identity(), Shape::of([Dimension::User, Dimension::Key]));
        assert!(hashes.subject(Shape::of([Dimension::User])).is_some());
        assert_eq!(hashes.subject(Shape::of([Dimension::Tenant])), None);
        assert_eq!(hashes.subject(Shape::of([Dimension::Key])), None);
        assert_eq!(hashes.subject(Shape::PLATFORM), Some(0));
    }

    #[test]
    fn seeds_and_limits_tell_hashes_apart() {
        let subject = Subject::tenant("acme");
        let (one, other) = (Hasher::new([1, 2]), Hasher::new([1, 3]));
        assert_ne!(one.subject(&subject), other.subject(&subject));
        assert_ne!(one.limit("a"), one.limit("b"));
        assert_ne!(one.limit("acme"), one.subject(&subject).1);
    }
}
