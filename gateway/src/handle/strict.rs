//! Requests under limits in mode `strict`: what fits is reserved or spent, and what is spent is told to the log.

use std::sync::Arc;
use std::time::Duration;

use schemas::subject::Subject;
use schemas::time::Timestamp;
use smallvec::SmallVec;
use thiserror::Error;
use uuid::Uuid;

use super::{Handle, kind, uses_something};
use crate::check::{Answer, Purpose, Told, View};
use crate::ledger::{Commit, Ending, Line, Outcome};
use crate::place::{Accounts, Name};
use crate::plan::Planned;
use crate::reply::Reply;
use crate::reports::{Kind, Receipt, Report};
use crate::request::{Ask, Consume};
use crate::reservation::Reservation;
use crate::window::Item;

/// Room that is held.
#[derive(Clone, Debug)]
pub struct Held {
    pub reservation: Reservation,
    pub reply: Arc<Reply>,
}

/// Why nothing is held.
#[derive(Clone, Debug, Error)]
pub enum NotHeld {
    #[error("refused")]
    Refused(Arc<Reply>),
    #[error("the reservation of this request_id has ended: {0:?}")]
    Ended(Ending),
}

/// A commit that is counted.
#[derive(Clone, Debug)]
pub struct Committed {
    pub commit: Commit,
    /// When the log has it.
    pub receipt: Receipt,
}

impl Handle {
    /// Judges a request whose limits may be strict, and counts it if it is admitted. `None`: none of them is.
    pub(super) async fn spend(&self, ask: &Ask) -> Option<Arc<Reply>> {
        let shared = self.shared();
        let now = shared.clock.now();
        let view = shared.gate.view(now);
        if !shared.gate.has_strict(&view) {
            return None;
        }
        let mut ask = ask.clone();
        ask.weigh(view.policy());
        let strict = shared.gate.strict_of(&view, &ask.request(), now).strict;
        if strict.is_empty() {
            return None;
        }
        let keeps = strict.iter().any(|item| item.limit.rule.counts());
        Some(self.spend_under((&view, now), ask, keeps, None).await)
    }

    /// Judges a request that has its weight and falls under strict limits, of which some keep what is spent, or all are
    /// on what is in flight. `places`: what it holds of these already.
    pub(super) async fn spend_under(
        &self,
        moment: (&View, Timestamp),
        ask: Ask,
        keeps: bool,
        places: Option<&Accounts>,
    ) -> Arc<Reply> {
        if keeps {
            self.spend_now(moment, ask, places).await
        } else {
            self.pass(moment, ask, places).await
        }
    }

    async fn spend_now(
        &self,
        (view, now): (&View, Timestamp),
        mut ask: Ask,
        places: Option<&Accounts>,
    ) -> Arc<Reply> {
        let shared = self.shared();
        let request_id = ask.request_id.take();
        let mut answer = shared.gate.judge(view, &ask.request(), now, Purpose::Check);
        let id = Reservation::id_of(&ask.identity(), request_id.as_deref());
        let mut in_flight = places.map_or_else(SmallVec::new, |_| answer.set_in_flight_aside());
        let mut repeated = false;
        let mut accounts = self.accounts(&answer, &ask, now);
        let told = if ask.consume.is_empty() || !answer.goes_on() {
            let fits = shared.ledger.look(&mut accounts, now).await;
            fits.map_or(Told::Nothing, |_| Told::Fits)
        } else {
            let remember = request_id.is_some();
            let spent = shared.ledger.spend(id, remember, &mut accounts, now);
            let outcome = spent.await;
            repeated = matches!(outcome, Some(Outcome::Admitted { repeated: true, .. }));
            told(outcome)
        };
        take_over(&mut answer.strict, &accounts);
        if let Some(places) = places {
            take_over(&mut in_flight, places);
            answer.strict.append(&mut in_flight);
        }
        let told = if repeated { Told::Fits } else { told };
        if repeated {
            answer.strict_fit();
            shared.metrics.repeated_checks.inc();
        }
        shared.gate.conclude(&mut answer, told, now);
        let request_id = request_id.unwrap_or_else(|| Uuid::from_u128(id).to_string());
        let reply = Reply::new(&answer, view, &ask, request_id, now);
        shared.metrics.checked(&reply);
        if !repeated {
            let report = Report {
                request_id: reply.request_id.clone(),
                at: accounts.at,
                ask,
                kind: Kind::Admitted,
            };
            self.report_strict(&answer, &reply, report, format!("{id:032x}"));
        }
        Arc::new(reply)
    }

    /// Judges a request of whose limits the strict ones are all on what is in flight. Where it holds no `places` there,
    /// nobody says when it ends, so that it takes none: these only look, and all others count it as ever.
    async fn pass(
        &self,
        (view, now): (&View, Timestamp),
        ask: Ask,
        places: Option<&Accounts>,
    ) -> Arc<Reply> {
        let shared = self.shared();
        let mut looked;
        let (seen, answers) = match places {
            Some(places) => (places, true),
            None => {
                looked = self.accounts_of(view, &ask, now);
                let answers = shared.ledger.look(&mut looked, now).await.is_some();
                (&looked, answers)
            }
        };
        let tell = |answer: &mut Answer<'_>| {
            take_over(&mut answer.strict, seen);
            if !answers {
                answer.close_strict();
            }
        };
        self.once((view, now), ask, |ask| {
            shared.gate.pass(view, &ask.request(), now, tell)
        })
    }

    /// Leaves `report` to be told: as what was spent, or as what refused it.
    fn report_strict(&self, answer: &Answer<'_>, reply: &Reply, mut report: Report, name: String) {
        report.kind = match kind(answer, reply, &report.ask) {
            Some(Kind::Admitted) => Kind::Spent {
                reservation: name,
                receipt: Receipt::default(),
            },
            Some(kind) => kind,
            None => return,
        };
        self.report(report);
    }

    /// Holds room for a request under all its limits, for `ttl`, or under none. One with a request id of its own gets
    /// the same reservation when it asks again.
    ///
    /// # Errors
    /// The refusal, or how the reservation of this request id has ended.
    pub async fn reserve(&self, mut ask: Ask, ttl: Duration) -> Result<Held, NotHeld> {
        let shared = self.shared();
        let now = shared.clock.now();
        let view = shared.gate.view(now);
        ask.weigh(view.policy());
        let request_id = ask.request_id.take();
        let id = Reservation::id_of(&ask.identity(), request_id.as_deref());
        let mut answer = shared
            .gate
            .judge(&view, &ask.request(), now, Purpose::Reserve);
        let mut reservation = Reservation {
            id,
            expires_at: now.plus(ttl),
            ask,
        };
        let mut told = Told::Fits;
        if answer.goes_on() {
            let mut accounts = self.accounts(&answer, &reservation.ask, now);
            let reserved = shared.ledger.reserve(id, &mut accounts, ttl, now).await;
            take_over(&mut answer.strict, &accounts);
            match reserved {
                Some(Outcome::Admitted {
                    expires_at,
                    repeated,
                }) => {
                    answer.strict_fit();
                    reservation.expires_at = expires_at;
                    shared.metrics.reserved(repeated);
                }
                Some(Outcome::Ended(ending)) => return Err(NotHeld::Ended(ending)),
                Some(Outcome::Refused) => {}
                Some(Outcome::Full) | None => told = Told::Nothing,
            }
        }
        shared.gate.conclude(&mut answer, told, now);
        let request_id = request_id.unwrap_or_else(|| Uuid::from_u128(id).to_string());
        let reply = Reply::new(&answer, &view, &reservation.ask, request_id, now);
        if !reply.is_refused() {
            let reply = Arc::new(reply);
            return Ok(Held { reservation, reply });
        }
        shared.metrics.reservation("refused");
        let name = reservation.name();
        let report = Report {
            request_id: reply.request_id.clone(),
            at: now,
            ask: reservation.ask,
            kind: Kind::Admitted,
        };
        self.report_strict(&answer, &reply, report, name);
        Err(NotHeld::Refused(Arc::new(reply)))
    }

    /// Counts what was spent under a reservation, in place of its estimate; `actual` says what was other than that.
    /// It counts whatever became of the reservation, and once.
    pub async fn commit(&self, reservation: &Reservation, actual: &Consume) -> Committed {
        let shared = self.shared();
        let now = shared.clock.now();
        let view = shared.gate.view(now);
        let mut ask = reservation.ask.clone();
        ask.set_consume(ask.consume.corrected(actual));
        let mut answer = shared
            .gate
            .judge(&view, &ask.request(), now, Purpose::Reserve);
        let mut accounts = self.accounts(&answer, &ask, now);
        let committed = shared.ledger.commit(reservation.id, &mut accounts, now);
        let (commit, first) = committed.await;
        if first {
            shared.gate.charge(&mut answer, now);
            shared.metrics.committed(commit);
        }
        // Told again, too: the log may not have it yet, and its readers know it by its name.
        let receipt = Receipt::default();
        let reserved = reservation.ask.consume.clone();
        if uses_something(&ask.consume) || uses_something(&reserved) {
            self.report(Report {
                request_id: reservation.name(),
                at: accounts.at,
                ask,
                kind: Kind::Spent {
                    reservation: reservation.name(),
                    receipt: receipt.clone(),
                },
            });
        } else {
            receipt.give();
        }
        Committed { commit, receipt }
    }

    /// Gives back what a reservation holds. The first end rules: this one, or the one before. `None`: nobody here knows
    /// the reservation.
    pub async fn release(&self, reservation: &Reservation) -> Option<Ending> {
        let shared = self.shared();
        let now = shared.clock.now();
        let (ending, first) = shared.ledger.release(reservation.id, now).await?;
        if first {
            shared.metrics.reservation("released");
        }
        Some(ending)
    }

    /// What `ask` adds to the accounts of its strict limits.
    pub(crate) fn accounts_of(&self, view: &View, ask: &Ask, now: Timestamp) -> Accounts {
        let answer = self.shared().gate.strict_of(view, &ask.request(), now);
        self.accounts(&answer, ask, now)
    }

    pub(super) fn accounts(&self, answer: &Answer<'_>, ask: &Ask, now: Timestamp) -> Accounts {
        let strict = answer.strict.iter();
        let lines = strict.clone().map(|item| Line {
            key: item.key,
            rule: item.limit.rule,
            zone: item.zone,
            amount: item.amount,
            tally: item.tally,
            full: false,
        });
        let identity = ask.identity();
        let name = |item: &Item<'_, Planned>| {
            let limit = &item.limit.limit;
            let subject = limit.pattern.subject_of(&identity);
            let subject = subject.as_ref().map_or("", Subject::as_str);
            Name::new(&item.limit.counter(), subject, &limit.meter)
        };
        let shared = self.shared().ledger.is_shared();
        Accounts {
            lines: lines.collect(),
            names: strict.filter(|_| shared).map(name).collect(),
            at: now,
        }
    }
}

fn told(outcome: Option<Outcome>) -> Told {
    match outcome {
        Some(Outcome::Admitted { .. }) => Told::Counts,
        Some(Outcome::Refused) => Told::Fits,
        Some(Outcome::Ended(_) | Outcome::Full) | None => Told::Nothing,
    }
}

/// Takes over what the ledger says of `items`.
pub(super) fn take_over(items: &mut [Item<'_, Planned>], accounts: &Accounts) {
    for (item, line) in items.iter_mut().zip(&accounts.lines) {
        (item.tally, item.full) = (line.tally, line.full);
    }
}
