//! Hands reports to the log, and keeps those that it does not take.

use std::collections::VecDeque;
use std::time::Duration;

use bus::{Delivery, Producer, SendError};
use futures_util::StreamExt;
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use schemas::topic;
use tokio::time::{Instant, sleep_until};

use crate::config::Config;
use crate::handle::Handle;
use crate::reports::{Kind, Report};
use crate::wire::{self, Outgoing};

/// Reports that are handed to the log at a time.
const REPORTS_A_TURN: usize = 256;
/// Pause after the log did not take a report.
const PAUSE: Duration = Duration::from_millis(500);
/// How long reports may take to be acknowledged at the end.
const DRAIN: Duration = Duration::from_secs(4);

/// What the log said of one report.
pub(super) struct Sent {
    report: Report,
    outcome: Result<(), SendError>,
}

pub(super) struct Sender<'a> {
    handle: &'a Handle,
    producer: Producer,
    gateway: String,
    in_flight: FuturesUnordered<BoxFuture<'static, Sent>>,
    in_flight_max: usize,
    /// Nothing is sent before.
    paused_until: Option<Instant>,
}

impl<'a> Sender<'a> {
    pub(super) fn new(handle: &'a Handle, producer: Producer, config: &Config) -> Self {
        Self {
            handle,
            producer,
            gateway: config.name.clone(),
            in_flight: FuturesUnordered::new(),
            in_flight_max: config.reports_in_flight_max,
            paused_until: None,
        }
    }

    /// Resolves when there are reports to send and room for them.
    pub(super) fn work(&self) -> impl Future<Output = ()> + use<'a> {
        let has_room = self.in_flight.len() < self.in_flight_max;
        let (reports, paused_until) = (&self.handle.shared().reports, self.paused_until);
        async move {
            if !has_room {
                return std::future::pending().await;
            }
            if let Some(until) = paused_until {
                sleep_until(until).await;
            }
            reports.some().await;
        }
    }

    /// What the log says next of a report; `None` while it has none to speak of.
    pub(super) async fn sent(&mut self) -> Option<Sent> {
        self.in_flight.next().await
    }

    pub(super) fn send(&mut self) {
        self.paused_until = None;
        let room = self.in_flight_max - self.in_flight.len();
        let mut reports =
            VecDeque::from(self.handle.shared().reports.take(room.min(REPORTS_A_TURN)));
        while let Some(report) = reports.pop_front() {
            let Some(outgoing) = wire::outgoing(&self.gateway, &report) else {
                self.handle.shared().metrics.reports_tenantless.inc();
                continue;
            };
            match self.enqueue(outgoing) {
                Ok(delivery) => self.in_flight.push(Box::pin(async {
                    let outcome = delivery.await.map(|_| ());
                    Sent { report, outcome }
                })),
                Err(error) => {
                    let full = error.is_retriable();
                    self.settle(Sent {
                        report,
                        outcome: Err(error),
                    });
                    if full {
                        break;
                    }
                }
            }
        }
        while let Some(report) = reports.pop_back() {
            self.keep(report);
        }
    }

    fn enqueue(&self, outgoing: Outgoing) -> Result<Delivery, SendError> {
        match outgoing {
            Outgoing::Usage(key, usage) => self.producer.enqueue(&topic::USAGE, &key, &usage),
            Outgoing::Refusal(key, refusal) => {
                self.producer.enqueue(&topic::REFUSALS, &key, &refusal)
            }
        }
    }

    /// A report that may be in the log although that did not say so is sent again: its readers know it by its id.
    pub(super) fn settle(&mut self, Sent { report, outcome }: Sent) {
        match outcome {
            Ok(()) => {
                self.handle.shared().metrics.report_sent(&report.kind);
                if let Kind::Spent { receipt, .. } = &report.kind {
                    receipt.give();
                }
            }
            Err(error) if error.is_retriable() => {
                self.paused_until = Some(Instant::now() + PAUSE);
                self.keep(report);
            }
            Err(error) => {
                self.handle.shared().metrics.report_dropped(&report.kind);
                tracing::warn!(%error, "the log will never take this report");
            }
        }
    }

    fn keep(&self, report: Report) {
        if let Some(dropped) = self.handle.shared().reports.push_back_front(report) {
            self.handle.shared().metrics.report_dropped(&dropped.kind);
        }
    }

    /// Sends what waits, for as long as the log may take at the end.
    pub(super) async fn drain(&mut self) {
        let end = Instant::now() + DRAIN;
        loop {
            if self.handle.shared().reports.is_empty() && self.in_flight.is_empty() {
                return;
            }
            let work = self.work();
            tokio::select! {
                () = sleep_until(end) => break,
                Some(sent) = self.in_flight.next() => self.settle(sent),
                () = work => self.send(),
            }
        }
        let left = self.handle.shared().reports.take(usize::MAX);
        let lost = left.len() + self.in_flight.len();
        left.iter()
            .for_each(|report| self.handle.shared().metrics.report_dropped(&report.kind));
        tracing::error!(
            reports = lost,
            "stopped before the log acknowledged all reports"
        );
    }
}
