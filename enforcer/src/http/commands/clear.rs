//! What is not counted for a subject cannot be cleared for it.

use std::collections::BTreeSet;

use schemas::orders::InForce;
use schemas::problem::FieldError;
use schemas::time::Timestamp;

use super::{Refused, Shared, unprocessable};
use crate::command::{Action, Draft, Drafted};
use crate::http::log_away;
use crate::wire;

impl Shared {
    /// Refuses to clear a limit that is not of the tier that the subject is in: which one that is, the log says.
    pub(super) async fn check_clearing(
        &self,
        draft: &Draft,
        now: Timestamp,
    ) -> Result<(), Refused> {
        let Drafted::On {
            subject,
            action: Action::Clear { limit },
        } = &draft.order
        else {
            return Ok(());
        };
        let policy = self.board.read().in_force.policy.clone();
        let mut named = policy.limits.iter().filter(|own| own.name == *limit);
        if named.all(|own| own.tier.is_none() && own.replaced_in.is_empty()) {
            return Ok(());
        }
        let orders = wire::orders(&self.bus).await.map_err(|error| {
            tracing::warn!(%error, "orders cannot be read");
            log_away()
        })?;
        let in_force = InForce {
            policy: &policy,
            orders: &orders,
            now,
        };
        if in_force.series_named(limit, subject).next().is_some() {
            return Ok(());
        }
        let tier = in_force.tier(subject);
        let tier = tier.map_or("no tier".to_owned(), |tier| format!("tier `{tier}`"));
        let own = in_force.limits_on(subject);
        let own: BTreeSet<String> = own.map(|held| format!("`{}`", held.limit.name)).collect();
        let own: Vec<String> = own.into_iter().collect();
        let detail = match own.as_slice() {
            [] => format!("`{subject}` is in {tier}, where nothing is counted for it"),
            own => format!(
                "`{subject}` is in {tier}, where `{limit}` is not counted: name one of {}",
                own.join(", ")
            ),
        };
        let pointer = "/limit".to_owned();
        Err(unprocessable(vec![FieldError { pointer, detail }]))
    }
}
