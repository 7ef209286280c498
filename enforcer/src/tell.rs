//! Writing to the log until it has acknowledged.

use std::time::Duration;

use bus::producer::Delivery;
use bus::{Bus, SendError};
use tokio_util::sync::CancellationToken;

use crate::decide::Output;
use crate::metrics::Metrics;
use crate::policy::Version;
use crate::wire::{self, Dead};

/// Between two tries while the log does not answer.
const PAUSE: Duration = Duration::from_millis(200);

/// How long a stop waits for the log.
const STOP_WITHIN: Duration = Duration::from_secs(3);

/// How telling ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub(crate) enum Told {
    /// The log has acknowledged everything.
    All,
    /// The process stops, and the log did not answer in time.
    Stopped,
}

pub(crate) struct Teller {
    pub(crate) bus: Bus,
    pub(crate) metrics: Metrics,
    pub(crate) stop: CancellationToken,
}

impl Teller {
    /// Decisions, lifts, alerts and orders, in this order. Last of all `weir.policies.v1` learns of orders that clear, and
    /// forgets those that have ended.
    pub(crate) async fn outputs(&self, outputs: &[Output]) -> Result<Told, SendError> {
        let told = self
            .tell(outputs, |output| wire::enqueue(&self.bus, output))
            .await?;
        if told == Told::Stopped {
            return Ok(told);
        }
        let last = outputs.iter().filter_map(|output| match output {
            Output::Order(order) if !order.judges() => Some((order, false)),
            Output::OrderEnded(order, _) => Some((order, true)),
            _ => None,
        });
        let last: Vec<_> = last.collect();
        let told = self
            .tell(&last, |(order, ended)| {
                let delivery = match ended {
                    true => wire::end_order(&self.bus, order),
                    false => wire::put_order(&self.bus, order),
                };
                Ok(vec![delivery?])
            })
            .await?;
        if told == Told::All {
            outputs.iter().for_each(|output| self.metrics.told(output));
        }
        Ok(told)
    }

    pub(crate) async fn dead(&self, dead: &[Dead]) -> Result<Told, SendError> {
        let producer = self.bus.producer();
        self.tell(dead, |dead| Ok(vec![wire::enqueue_dead(&producer, dead)?]))
            .await
    }

    /// A new version of the policy: into `weir.policies.v1`.
    pub(crate) async fn version(&self, version: &Version) -> Result<Told, SendError> {
        let producer = self.bus.producer();
        let told = self
            .tell(&[version], |version| {
                wire::enqueue_version(&producer, version)
            })
            .await?;
        if told == Told::All {
            self.metrics.policy_published();
        }
        Ok(told)
    }

    /// The policy that holds from here on: into every partition of events.
    pub(crate) async fn markers(&self, version: &Version) -> Result<Told, SendError> {
        self.tell(&[version], |version| {
            wire::enqueue_markers(&self.bus, version)
        })
        .await
    }

    /// Sends `items` until all are acknowledged. After a failure everything from the first one that failed is sent
    /// again, also what may have gone through: so what is last in the log is what is last in `items`.
    async fn tell<T>(
        &self,
        items: &[T],
        send: impl Fn(&T) -> Result<Vec<Delivery>, SendError>,
    ) -> Result<Told, SendError> {
        let mut rest = items;
        while !rest.is_empty() {
            let late = async {
                self.stop.cancelled().await;
                tokio::time::sleep(STOP_WITHIN).await;
            };
            let (acknowledged, trouble) = tokio::select! {
                sent = try_all(rest, &send) => sent,
                () = late => return Ok(Told::Stopped),
            };
            rest = &rest[acknowledged..];
            match trouble {
                None => {}
                Some(error) if error.is_retriable() => {
                    self.metrics.log_retry();
                    tracing::debug!(%error, "sending again");
                    tokio::select! {
                        () = tokio::time::sleep(PAUSE) => {}
                        () = self.stop.cancelled() => return Ok(Told::Stopped),
                    }
                }
                Some(error) => return Err(error),
            }
        }
        Ok(Told::All)
    }
}

/// Sends all items at once; says how many, from the first, the log has acknowledged, and what happened to the next.
async fn try_all<T>(
    items: &[T],
    send: &impl Fn(&T) -> Result<Vec<Delivery>, SendError>,
) -> (usize, Option<SendError>) {
    let mut waiting = Vec::with_capacity(items.len());
    let mut trouble = None;
    for item in items {
        match send(item) {
            Ok(deliveries) => waiting.push(deliveries),
            Err(error) => {
                trouble = Some(error);
                break;
            }
        }
    }
    let sent = waiting.len();
    for (acknowledged, deliveries) in waiting.into_iter().enumerate() {
        for delivery in deliveries {
            if let Err(error) = delivery.await {
                return (acknowledged, Some(error));
            }
        }
    }
    (sent, trouble)
}
