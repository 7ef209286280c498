//! The sketches of a tenant, one set for each hour of event time.
//!
//! Hours follow one another and do not slide: what was counted as different cannot be taken away again, so a sliding span
//! would need a sketch for each of its slices, merged with every question. Whoever asks for several hours gets theirs
//! merged, with the same error.
//!
//! An hour is open for as long as an event of it is not late. After a day without an event the tenant's hours are closed:
//! what comes for them later is in no sketch.

use schemas::policy::{Meter, Stream};
use schemas::subject::{Dimension, Identity};
use schemas::time::Timestamp;
use serde::{Deserialize, Serialize};

use super::{Distinct, Id, Payload, Top};
use crate::event::{Event, Output, Ranking, Spread};
use crate::room::Room;

pub(crate) const HOUR_SECONDS: i64 = 3_600;
/// Ids for each of which it is counted how many others came with it, in one hour of one tenant.
const SPREAD_IDS_MAX: usize = 512;
/// Ids of one list of those that come most.
const RANKED_IDS_MAX: usize = 64;

/// How many different ids of one dimension come with each of another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Pairing {
    of: Dimension,
    per: Dimension,
}

/// Which ids of a dimension come most, by a meter.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Measure {
    by: Dimension,
    meter: Meter,
}

static PAIRINGS_OF_AUTH: [Pairing; 2] = [
    Pairing {
        of: Dimension::Source,
        per: Dimension::Account,
    },
    Pairing {
        of: Dimension::Account,
        per: Dimension::Source,
    },
];

static PAIRINGS_OF_USAGE: [Pairing; 1] = [Pairing {
    of: Dimension::User,
    per: Dimension::Key,
}];

/// Tokens have none of their own: whoever uses most of them is among those that cost most.
static MEASURES: [Measure; 3] = [
    Measure {
        by: Dimension::User,
        meter: Meter::Requests,
    },
    Measure {
        by: Dimension::User,
        meter: Meter::Cost,
    },
    Measure {
        by: Dimension::Source,
        meter: Meter::Requests,
    },
];

fn pairings(stream: Stream) -> &'static [Pairing] {
    match stream {
        Stream::Usage => &PAIRINGS_OF_USAGE,
        Stream::Auth => &PAIRINGS_OF_AUTH,
        Stream::Csp => &[],
    }
}

fn measures(stream: Stream) -> &'static [Measure] {
    match stream {
        Stream::Usage => &MEASURES,
        Stream::Auth | Stream::Csp => &[],
    }
}

/// Whether it is counted how many of one dimension come with each id of another.
pub(crate) fn is_paired(of: Dimension, per: Dimension) -> bool {
    let mut all = PAIRINGS_OF_AUTH.iter().chain(&PAIRINGS_OF_USAGE);
    all.any(|pairing| *pairing == Pairing { of, per })
}

/// Whether it is told who of a dimension comes most by a meter.
pub(crate) fn is_measured(by: Dimension, meter: &Meter) -> bool {
    let mut all = MEASURES.iter();
    all.any(|measure| measure.by == by && measure.meter == *meter)
}

/// The ids of an event, each hashed once.
struct Ids<'a> {
    key: Option<Id<'a>>,
    user: Option<Id<'a>>,
    account: Option<Id<'a>>,
    source: Option<Id<'a>>,
}

impl<'a> Ids<'a> {
    fn new(stream: Stream, identity: &Identity<'a>) -> Self {
        let id = |of: Stream, id: Option<&'a str>| id.filter(|_| of == stream).map(Id::new);
        Self {
            key: id(Stream::Usage, identity.key),
            user: id(Stream::Usage, identity.user),
            account: id(Stream::Auth, identity.account),
            source: identity.source.map(Id::new),
        }
    }

    fn get(&self, dimension: Dimension) -> Option<Id<'a>> {
        match dimension {
            Dimension::Key => self.key,
            Dimension::User => self.user,
            Dimension::Account => self.account,
            Dimension::Source => self.source,
            _ => None,
        }
    }
}

/// What came with an id.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Members {
    distinct: Distinct,
    /// Events with an id that there was no room for.
    missed: u64,
    /// The record that changed it last.
    offset: i64,
    /// Changed since it was told.
    is_dirty: bool,
}

impl Payload for Members {
    fn clear(&mut self) {
        self.distinct.clear();
        self.missed = 0;
        self.is_dirty = false;
    }

    fn heap_bytes(&self) -> usize {
        self.distinct.heap_bytes()
    }
}

/// The ids of one pairing.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Pairs {
    top: Top<Members>,
    /// Places that changed; some may be another id's by now.
    dirty: Vec<u32>,
}

impl Pairs {
    /// Says whether there is something to be told, and was nothing before.
    fn add(&mut self, (of, per): (Id<'_>, Id<'_>), offset: i64, room: &mut Room) -> bool {
        let place = self.top.add(per, 1, SPREAD_IDS_MAX, room);
        let members = self.top.payload_mut(place);
        let growth = members.distinct.growth(of.hash);
        if 0 < growth && !room.admits_sketched(growth) {
            room.note_displaced();
            members.missed += 1;
        } else if !members.distinct.insert(of.hash) {
            return false;
        }
        members.offset = offset;
        // One alone is no spread, and nearly every id has one.
        if members.is_dirty || members.distinct.count() < 2 {
            return false;
        }
        members.is_dirty = true;
        self.dirty.push(place);
        self.dirty.len() == 1
    }

    fn flush(&mut self, mut tell: impl FnMut(&str, u64, &Members)) {
        for place in self.dirty.drain(..) {
            if std::mem::take(&mut self.top.payload_mut(place).is_dirty) {
                let slot = self.top.slot(place);
                tell(&slot.name, slot.error + slot.payload.missed, &slot.payload);
            }
        }
    }
}

/// The ids of one measure.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Ranks {
    top: Top<()>,
    /// The record that changed it last.
    offset: i64,
    /// Changed since it was told.
    is_dirty: bool,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Hour {
    /// Since 1970.
    number: i64,
    /// By the pairings of the stream, which may be fewer.
    pairs: [Pairs; PAIRINGS_OF_AUTH.len()],
    /// By the measures of the stream, which may be none.
    ranks: [Ranks; MEASURES.len()],
}

/// Of what there is something to be told, and was nothing before.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct News {
    pub(crate) spreads: bool,
    pub(crate) rankings: bool,
}

impl Hour {
    fn bytes(&self) -> usize {
        let pairs = self.pairs.iter().map(|pairs| pairs.top.bytes());
        let ranks = self.ranks.iter().map(|ranks| ranks.top.bytes());
        size_of::<Self>() + pairs.sum::<usize>() + ranks.sum::<usize>()
    }

    fn start(&self) -> Timestamp {
        Timestamp::from_seconds(self.number.saturating_mul(HOUR_SECONDS))
    }

    fn end(&self) -> Timestamp {
        Timestamp::from_seconds((self.number + 1).saturating_mul(HOUR_SECONDS))
    }

    fn is_open(&self, first_open: i64, floor: Option<Timestamp>) -> bool {
        first_open <= self.number && floor.is_some_and(|floor| floor < self.end())
    }

    fn is_dirty(&self) -> bool {
        self.pairs.iter().any(|pairs| !pairs.dirty.is_empty())
            || self.ranks.iter().any(|ranks| ranks.is_dirty)
    }

    fn add(&mut self, stream: Stream, event: &Event<'_>, offset: i64, room: &mut Room) -> News {
        let mut news = News::default();
        let ids = Ids::new(stream, &event.identity);
        for (pairing, pairs) in pairings(stream).iter().zip(&mut self.pairs) {
            if let (Some(of), Some(per)) = (ids.get(pairing.of), ids.get(pairing.per)) {
                news.spreads |= pairs.add((of, per), offset, room);
            }
        }
        for (measure, ranks) in measures(stream).iter().zip(&mut self.ranks) {
            let Some(id) = ids.get(measure.by) else {
                continue;
            };
            let weight = u64::try_from(event.amounts.of(&measure.meter)).unwrap_or(0);
            if weight != 0 {
                ranks.top.add(id, weight, RANKED_IDS_MAX, room);
                ranks.offset = offset;
                news.rankings |= !std::mem::replace(&mut ranks.is_dirty, true);
            }
        }
        news
    }

    fn flush_spreads(&mut self, tenant: &str, stream: Stream, out: &mut Vec<Output>) {
        let hour = self.start();
        for (pairing, pairs) in pairings(stream).iter().zip(&mut self.pairs) {
            pairs.flush(|id, missed_max, members| {
                out.push(Output::Spread(Spread {
                    tenant: tenant.to_owned(),
                    of: pairing.of,
                    per: pairing.per,
                    id: id.to_owned(),
                    hour,
                    count: members.distinct.count(),
                    missed_max,
                    sketch: members.distinct.to_bytes(),
                    offset: members.offset,
                }));
            });
        }
    }

    fn flush_rankings(&mut self, tenant: &str, stream: Stream, out: &mut Vec<Output>) {
        let hour = self.start();
        for (measure, ranks) in measures(stream).iter().zip(&mut self.ranks) {
            if std::mem::take(&mut ranks.is_dirty) {
                out.push(Output::Ranking(Ranking {
                    tenant: tenant.to_owned(),
                    by: measure.by,
                    meter: measure.meter.clone(),
                    hour,
                    ranked: ranks.top.ranked(),
                    offset: ranks.offset,
                }));
            }
        }
    }
}

/// The hours of a tenant for which events may come.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Hours {
    /// In order.
    hours: Vec<Hour>,
    /// The first hour that is not closed for want of events.
    first_open: i64,
}

impl Hours {
    /// What it takes in memory without hours.
    pub(crate) const fn new_bytes() -> usize {
        size_of::<Self>()
    }

    /// Adds an event, which was the record at `offset`.
    pub(crate) fn add(
        &mut self,
        stream: Stream,
        event: &Event<'_>,
        offset: i64,
        room: &mut Room,
    ) -> News {
        let number = number(event.at);
        if number < self.first_open {
            return News::default();
        }
        let place = match self.hours.iter().rposition(|hour| hour.number <= number) {
            Some(place) if self.hours[place].number == number => place,
            before => {
                let hour = Hour {
                    number,
                    ..Hour::default()
                };
                room.charge(size_of::<Hour>());
                let place = before.map_or(0, |place| place + 1);
                self.hours.insert(place, hour);
                place
            }
        };
        self.hours[place].add(stream, event, offset, room)
    }

    /// Closes all hours up to that of `newest`, the tenant's newest event, which was too long ago.
    pub(crate) fn close(&mut self, newest: Timestamp) {
        self.first_open = self.first_open.max(number(newest) + 1);
    }

    /// Tells the spreads that changed since they were last told.
    pub(crate) fn flush_spreads(&mut self, tenant: &str, stream: Stream, out: &mut Vec<Output>) {
        for hour in &mut self.hours {
            hour.flush_spreads(tenant, stream, out);
        }
    }

    /// Tells the rankings that changed since they were last told.
    pub(crate) fn flush_rankings(&mut self, tenant: &str, stream: Stream, out: &mut Vec<Output>) {
        for hour in &mut self.hours {
            hour.flush_rankings(tenant, stream, out);
        }
    }

    /// Drops the hours that can change no more and were told: for which every event is late by `floor`, or all of them.
    pub(crate) fn forget(&mut self, floor: Option<Timestamp>) {
        let first_open = self.first_open;
        self.hours
            .retain(|hour| hour.is_dirty() || hour.is_open(first_open, floor));
        if self.hours.is_empty() {
            self.hours = Vec::new();
        }
    }

    /// What it takes in memory with the hours for which an event may still come; see [`Hours::forget`].
    pub(crate) fn bytes(&self, floor: Option<Timestamp>) -> usize {
        let hours = self.hours.iter();
        let open = hours.filter(|hour| hour.is_open(self.first_open, floor));
        Self::new_bytes() + open.map(Hour::bytes).sum::<usize>()
    }
}

fn number(at: Timestamp) -> i64 {
    at.second().div_euclid(HOUR_SECONDS)
}
