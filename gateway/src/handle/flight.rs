//! Calls of which the gateway sees the end: they take their places under limits on what is in flight.

use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use schemas::time::Timestamp;
use tokio::runtime;
use uuid::Uuid;

use super::Handle;
use super::strict::take_over;
use crate::check::{Answer, View};
use crate::ledger::{Id, Outcome};
use crate::place::Accounts;
use crate::reply::Reply;
use crate::request::Ask;

/// What a call is told, and what it holds while it lasts.
pub struct Entered {
    pub reply: Arc<Reply>,
    /// To be kept until the call has ended. `None` where it was refused, or no limit is on what is in flight.
    pub flight: Option<Flight>,
}

/// A call in flight. Dropped, it gives its places back: at once where the ledger is in the process; where it is in
/// Redis, as soon as that answers.
pub struct Flight {
    /// `None`: it holds nothing.
    handle: Option<Handle>,
    id: Id,
}

impl Handle {
    /// As [`Handle::ask`], for a caller who sees the end of the call: an admitted one takes its places under limits on
    /// what is in flight, until its [`Flight`] is dropped. They come back by themselves after `ttl`, for when it never is.
    pub async fn enter(&self, ask: Ask, ttl: Duration) -> Entered {
        let shared = self.shared();
        let now = shared.clock.now();
        let view = shared.gate.view(now);
        if !shared.gate.has_strict(&view) {
            return Entered::without_places(self.remembered(ask));
        }
        let mut weighed = ask.clone();
        weighed.weigh(view.policy());
        let mut answer = shared.gate.strict_of(&view, &weighed.request(), now);
        if answer.strict.is_empty() {
            return Entered::without_places(self.remembered(ask));
        }
        let in_flight = answer.set_in_flight_aside();
        let keeps = !answer.strict.is_empty();
        let moment = (&view, now);
        if in_flight.is_empty() || ask.consume.is_empty() {
            let reply = self.spend_under(moment, weighed, keeps, None).await;
            return Entered::without_places(reply);
        }
        answer.strict = in_flight;
        let mut places = self.accounts(&answer, &weighed, now);
        let id = Uuid::now_v7().as_u128();
        // Who hangs up before the ledger has answered gives back what it may have taken.
        let mut flight = Flight {
            handle: Some(self.clone()),
            id,
        };
        let taken = shared.ledger.reserve(id, &mut places, ttl, now).await;
        match taken {
            Some(Outcome::Admitted { .. }) => {
                let reply = self
                    .spend_under(moment, weighed, keeps, Some(&places))
                    .await;
                let flight = (!reply.is_refused()).then_some(flight);
                Entered { reply, flight }
            }
            Some(Outcome::Refused) => {
                flight.handle = None;
                Entered::without_places(self.refuse(moment, weighed, Some(&places)).await)
            }
            // It does not answer, or has no memory for more.
            Some(Outcome::Ended(_) | Outcome::Full) | None => {
                answer.close_strict();
                let reply = match answer.goes_on() {
                    true => self.ask(ask).await,
                    false => self.refuse(moment, weighed, None).await,
                };
                Entered::without_places(reply)
            }
        }
    }

    /// Refuses a request that has no place: by what the ledger said of `places`, or since it said nothing. Counts it
    /// nowhere.
    async fn refuse(
        &self,
        (view, now): (&View, Timestamp),
        mut ask: Ask,
        places: Option<&Accounts>,
    ) -> Arc<Reply> {
        let shared = self.shared();
        let mut accounts = self.accounts_of(view, &ask, now);
        shared.ledger.look(&mut accounts, now).await;
        for place in places.iter().flat_map(|places| &places.lines) {
            let mut lines = accounts.lines.iter_mut();
            if let Some(line) = lines.find(|line| line.key == place.key) {
                (line.tally, line.full) = (place.tally, place.full);
            }
        }
        let tell = |answer: &mut Answer<'_>| {
            take_over(&mut answer.strict, &accounts);
            if places.is_none() {
                answer.close_strict();
            }
        };
        let request_id = ask.request_id.take();
        let request_id = request_id.unwrap_or_else(|| Uuid::now_v7().to_string());
        let answer = shared.gate.pass(view, &ask.request(), now, tell);
        self.answer(&answer, (view, now), ask, request_id)
    }
}

impl Entered {
    const fn without_places(reply: Arc<Reply>) -> Self {
        Self {
            reply,
            flight: None,
        }
    }
}

impl Drop for Flight {
    fn drop(&mut self) {
        let (Some(handle), id) = (self.handle.take(), self.id) else {
            return;
        };
        let is_shared = handle.shared().ledger.is_shared();
        let land = async move {
            let shared = handle.shared();
            shared.ledger.release(id, shared.clock.now()).await;
        };
        if !is_shared {
            land.now_or_never();
        } else if let Ok(runtime) = runtime::Handle::try_current() {
            runtime.spawn(land);
        }
    }
}
