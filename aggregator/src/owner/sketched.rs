//! The sketches of a tenant. See [`crate::sketch`].

use schemas::policy::Stream;
use schemas::time::Timestamp;

use super::{Owner, Patience};
use crate::event::Event;
use crate::room::Room;
use crate::sketch::{Hours, News};

impl Owner {
    /// Adds an event that was counted, the record at `offset`, to the sketches.
    pub(crate) fn sketch(
        &mut self,
        stream: Stream,
        event: &Event<'_>,
        offset: i64,
        room: &mut Room,
    ) -> News {
        let hours = self.sketches.get_or_insert_with(|| {
            room.charge(Hours::new_bytes());
            Box::default()
        });
        hours.add(stream, event, offset, room)
    }

    /// Closes what nothing came for in too long. To be called before an event is taken note of.
    pub(super) fn close_sketches(&mut self, now: Timestamp, patience: Patience) {
        if self.is_idle(now, patience.idle)
            && let Some(hours) = &mut self.sketches
        {
            hours.close(self.newest);
        }
    }

    /// The sketches, if there are any.
    pub(crate) fn sketches(&mut self) -> Option<&mut Hours> {
        self.sketches.as_deref_mut()
    }

    /// Drops the sketches that can change no more and were told, as at append time `now`.
    pub(crate) fn forget_sketches(&mut self, now: Timestamp, patience: Patience) {
        let floor = self.sketch_floor(now, patience);
        if let Some(hours) = &mut self.sketches {
            hours.forget(floor);
        }
    }

    /// What the sketches take in memory that may still change at append time `now`.
    pub(crate) fn sketch_bytes(&self, now: Timestamp, patience: Patience) -> usize {
        let hours = self.sketches.as_ref();
        hours.map_or(0, |hours| hours.bytes(self.sketch_floor(now, patience)))
    }

    /// The time before which every event is late; `None` when all hours are closed for want of events.
    fn sketch_floor(&self, now: Timestamp, patience: Patience) -> Option<Timestamp> {
        (!self.is_idle(now, patience.idle)).then(|| self.floor(now, patience))
    }
}
