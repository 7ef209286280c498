//! Shares limits with the other gateways on the log.

use std::sync::atomic::Ordering;
use std::time::Duration;

use bus::{Delivery, Followed, Producer};
use schemas::topic;

use crate::config::Config;
use crate::handle::Handle;
use crate::metrics::level;
use crate::share::{Party, Told};
use crate::wire::{self, Share};

/// How long the last word may take to be acknowledged.
const LEAVE: Duration = Duration::from_secs(1);

pub(super) struct Sharing<'a> {
    handle: &'a Handle,
    producer: Producer,
    name: String,
    party: Party,
}

impl<'a> Sharing<'a> {
    pub(super) fn new(handle: &'a Handle, producer: Producer, config: &Config) -> Self {
        let me = rand::random();
        Self {
            handle,
            producer,
            name: config.name.clone(),
            party: Party::new(me, &handle.shared().gate),
        }
    }

    /// Whether anybody may wait for an answer.
    pub(super) fn has_others(&self) -> bool {
        !self.party.is_settled() || 1 < self.party.present()
    }

    pub(super) fn tick(&mut self) {
        let shared = self.handle.shared();
        let now = shared.clock.now();
        for told in self.party.tick(&shared.gate, now) {
            self.tell(&told);
        }
    }

    pub(super) fn set_gauges(&self) {
        let shared = self.handle.shared();
        let (now, metrics) = (shared.clock.now(), &shared.metrics);
        let held = shared.gate.windows.held(now);
        let units = |units: u64| level(usize::try_from(units).unwrap_or(usize::MAX));
        metrics.share_members.set(level(self.party.present()));
        metrics.share_borrowed.set(units(held.borrowed));
        metrics.share_lent.set(units(held.lent));
        let overshoot = self.party.overshoot(&shared.gate, now);
        metrics.share_overshoot.set(overshoot);
    }

    pub(super) fn followed(&mut self, followed: Followed<Share>) {
        let (told, offset) = match followed {
            Followed::Put { value, offset, .. } => match wire::told(value) {
                Ok(told) => (told, offset),
                Err(error) => return self.unusable(&error.to_string(), offset),
            },
            Followed::Lifted { key, offset, .. } => match wire::left(&key) {
                Some(told) => (told, offset),
                None => return,
            },
            Followed::Unreadable { reason, offset, .. } => {
                return self.unusable(&reason, offset);
            }
            // Nothing is given or received meanwhile, and each keeps what it has: so it need not be told.
            Followed::CaughtUp | Followed::Lost | Followed::Back => return,
        };
        let shared = self.handle.shared();
        let before = (self.party.is_settled(), self.party.present());
        let out = self
            .party
            .read(&shared.gate, told, offset, shared.clock.now());
        for told in out {
            self.tell(&told);
        }
        let after = (self.party.is_settled(), self.party.present());
        if before != after {
            let (settled, gateways) = after;
            tracing::info!(gateways, settled, "limits are shared");
        }
        if self.party.is_settled() {
            shared.has_share.store(true, Ordering::Release);
        }
    }

    fn unusable(&self, reason: &str, offset: i64) {
        self.handle.shared().metrics.unusable("share");
        tracing::warn!(offset, reason, "what a gateway told of shares is not read");
    }

    /// What the log does not take is lost, and no unit is had twice for that.
    fn tell(&self, told: &Told) -> Option<Delivery> {
        let (topic, key) = (&topic::SHARES, wire::share_key(told));
        let sent = match wire::share(&self.name, told) {
            Some(share) => self.producer.enqueue(topic, &key, &share),
            None => self.producer.enqueue_lift(topic, &key),
        };
        match sent {
            // Whether it has arrived is seen when it is read.
            Ok(delivery) => {
                self.handle.shared().metrics.share_told(told.say.kind());
                Some(delivery)
            }
            Err(error) => {
                tracing::debug!(%error, "the log does not take what is told of shares");
                None
            }
        }
    }

    /// Says that this gateway ends in order. One that cannot say so is gone to the others a little later.
    pub(super) async fn leave(&self) {
        if let Some(delivery) = self.tell(&self.party.leave()) {
            let told = tokio::time::timeout(LEAVE, delivery).await;
            tracing::debug!(?told, "left those that share limits");
        }
    }
}
