//! The gateway as a service holds it: asks the gate, remembers, counts and reports.

mod cleared;
mod flight;
mod strict;

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use bus::clock::SharedClock;
use futures_util::FutureExt;
use schemas::time::Timestamp;
use uuid::Uuid;

use crate::check::{Answer, Gate, View};
use crate::metrics::Metrics;
use crate::place::Place;
use crate::recent::Recent;
use crate::reply::Reply;
use crate::reports::{Kind, Refused, Report, Reports};
use crate::request::{Ask, Consume};
pub use flight::{Entered, Flight};
pub use strict::{Committed, Held, NotHeld};

/// Answers requests. A clone is the same gateway.
#[derive(Clone)]
pub struct Handle(Arc<Shared>);

pub(crate) struct Shared {
    pub(crate) gate: Gate,
    pub(crate) clock: SharedClock,
    pub(crate) recent: Recent<Arc<Reply>>,
    pub(crate) reports: Reports,
    pub(crate) metrics: Metrics,
    pub(crate) ledger: Place,
    /// Whether this gateway has had its share of limits once, where it shares them.
    pub(crate) has_share: AtomicBool,
}

impl Handle {
    pub(crate) fn new(shared: Shared) -> Self {
        Self(Arc::new(shared))
    }

    pub(crate) fn shared(&self) -> &Shared {
        &self.0
    }

    /// Judges a request: at once, from memory. What it says is reported to the log in its own time.
    ///
    /// A request with an id of its own that was admitted a short while ago gets the same answer again, and is not
    /// counted again.
    ///
    /// For a caller that cannot wait: where the ledger of strict limits is shared, these answer as though it did not.
    /// [`Handle::ask`] waits for it.
    #[must_use]
    pub fn decide(&self, ask: Ask) -> Arc<Reply> {
        if self.0.ledger.is_shared() {
            return self.remembered(ask);
        }
        // In the process it is there at once.
        let spent = self.spend(&ask).now_or_never().flatten();
        spent.unwrap_or_else(|| self.remembered(ask))
    }

    /// As [`Handle::decide`], and asks the ledger of strict limits, wherever it is.
    pub async fn ask(&self, ask: Ask) -> Arc<Reply> {
        match self.spend(&ask).await {
            Some(reply) => reply,
            None => self.remembered(ask),
        }
    }

    fn remembered(&self, mut ask: Ask) -> Arc<Reply> {
        let now = self.0.clock.now();
        let view = self.0.gate.view(now);
        ask.weigh(view.policy());
        let check = |ask: &Ask| self.0.gate.check(&view, &ask.request(), now);
        self.once((&view, now), ask, check)
    }

    /// What `judge` says of `ask`, once under one request id.
    fn once<'v>(
        &self,
        (view, now): (&'v View, Timestamp),
        mut ask: Ask,
        judge: impl FnOnce(&Ask) -> Answer<'v>,
    ) -> Arc<Reply> {
        let Some(request_id) = ask.request_id.take() else {
            let answer = judge(&ask);
            return self.answer(&answer, (view, now), ask, Uuid::now_v7().to_string());
        };
        let tenant = ask.identity().tenant;
        let key = self.0.gate.hasher().request(tenant, &request_id);
        let mut repeated = true;
        let reply = self.0.recent.once(key, now, || {
            repeated = false;
            let counts = !ask.consume.is_empty();
            let answer = judge(&ask);
            let reply = self.answer(&answer, (view, now), ask, request_id);
            let keep = counts && !reply.is_refused();
            (reply, keep)
        });
        if repeated {
            self.0.metrics.repeated_checks.inc();
        }
        reply
    }

    /// What a request is told, and what is told of it.
    fn answer(
        &self,
        answer: &Answer<'_>,
        (view, now): (&View, Timestamp),
        ask: Ask,
        request_id: String,
    ) -> Arc<Reply> {
        let reply = Reply::new(answer, view, &ask, request_id, now);
        self.0.metrics.checked(&reply);
        if let Some(kind) = kind(answer, &reply, &ask) {
            let report = Report {
                request_id: reply.request_id.clone(),
                at: now,
                ask,
                kind,
            };
            self.report(report);
        }
        Arc::new(reply)
    }

    fn report(&self, report: Report) {
        if let Some(dropped) = self.0.reports.push(report) {
            self.0.metrics.report_dropped(&dropped.kind);
        }
    }
}

/// What is to be told of an answer: nothing where the request only looked or used nothing.
pub(crate) fn kind(answer: &Answer<'_>, reply: &Reply, ask: &Ask) -> Option<Kind> {
    if ask.consume.is_empty() {
        return None;
    }
    if !reply.is_refused() {
        return uses_something(&ask.consume).then_some(Kind::Admitted);
    }
    Some(Kind::Refused(Refused {
        subject: answer.refused_subject(&ask.identity())?,
        limits: reply.refusing().map(|cause| cause.limit.clone()).collect(),
        verdict: reply.verdict,
        status: reply.status,
        retry_after_s: reply.retry_after_s,
        decision: reply.decision.clone(),
    }))
}

fn uses_something(consume: &Consume) -> bool {
    let named = [
        consume.requests,
        consume.input_tokens,
        consume.output_tokens,
        consume.tokens,
        consume.cost,
    ];
    let mut amounts = named
        .into_iter()
        .flatten()
        .chain(consume.units.values().copied());
    amounts.any(|amount| amount != 0)
}
