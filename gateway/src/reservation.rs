//! A reservation's id, which says by itself whose it is and what it holds: what was spent under it is counted also
//! where nobody remembers it.
//!
//! `NAME.DETAILS`: the name tells it from others and is the id of the usage event that settles it; the details are JSON
//! in base64. It is no secret and proves nothing. Who may commit is for the caller's key to say.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use schemas::subject::{Dimension, ID_BYTES_MAX, Identity};
use schemas::time::Timestamp;
use serde::{Deserialize, Serialize};
use thiserror::Error;
use uuid::Uuid;

use crate::ledger::Id;
use crate::request::{Ask, Consume};

/// The namespace of ids that are made of a request's own.
const NAMESPACE: Uuid = Uuid::from_u128(0x7765_6972_2d72_6573_6572_7661_7469_6f6e);

/// Longer than any that was ever made: ids of all dimensions, and units.
const TOKEN_BYTES_MAX: usize = 16 << 10;

/// One reservation as its id tells of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reservation {
    pub id: Id,
    pub expires_at: Timestamp,
    /// Who asked, and what for.
    pub ask: Ask,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("this is no reservation's id: use the one that the reservation was answered with, whole")]
pub struct BadReservation;

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Details {
    /// By the dimension's name.
    ids: Vec<(String, String)>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    tier: Option<String>,
    estimate: Consume,
}

impl Reservation {
    /// Of a request with an id of its own: asked again it is the same reservation. Otherwise a new one.
    #[must_use]
    pub fn id_of(identity: &Identity<'_>, request_id: Option<&str>) -> Id {
        let Some(request_id) = request_id else {
            return Uuid::now_v7().as_u128();
        };
        let mut text = request_id.to_owned();
        for dimension in Dimension::ALL {
            if let Some(id) = identity.get(dimension) {
                text.push('\n');
                text.push_str(dimension.name());
                text.push('\n');
                text.push_str(id);
            }
        }
        Uuid::new_v5(&NAMESPACE, text.as_bytes()).as_u128()
    }

    /// What tells it from all others, also from a later one under the same request's id.
    #[must_use]
    pub fn name(&self) -> String {
        format!("{:032x}-{:x}", self.id, self.expires_at.as_micros())
    }

    #[must_use]
    pub fn token(&self) -> String {
        let ids = Dimension::ALL.into_iter().filter_map(|dimension| {
            let id = self.ask.id(dimension)?;
            Some((dimension.name().to_owned(), id.to_owned()))
        });
        let details = Details {
            ids: ids.collect(),
            tier: self.ask.tier.clone(),
            estimate: self.ask.consume.clone(),
        };
        // Text and numbers always fit JSON.
        let json = serde_json::to_vec(&details).unwrap_or_default();
        format!("{}.{}", self.name(), URL_SAFE_NO_PAD.encode(json))
    }

    /// # Errors
    /// When `token` was not made by [`Reservation::token`].
    pub fn parse(token: &str) -> Result<Self, BadReservation> {
        let parsed = (token.len() <= TOKEN_BYTES_MAX).then(|| parse(token));
        parsed.flatten().ok_or(BadReservation)
    }
}

fn parse(token: &str) -> Option<Reservation> {
    let (name, details) = token.split_once('.')?;
    let (id, expires_at) = name.split_once('-')?;
    let json = URL_SAFE_NO_PAD.decode(details).ok()?;
    let details: Details = serde_json::from_slice(&json).ok()?;
    let mut ask = Ask::default().using(details.estimate);
    ask.tier = details.tier;
    for (name, id) in details.ids {
        let dimension = Dimension::named(&name)?;
        let fits = !id.is_empty() && id.len() <= ID_BYTES_MAX;
        ask.set(dimension, Some(id).filter(|_| fits));
    }
    let reservation = Reservation {
        id: Id::from_str_radix(id, 16).ok()?,
        expires_at: Timestamp::from_micros(i64::from_str_radix(expires_at, 16).ok()?),
        ask,
    };
    // One text for one reservation: else two of them would settle it twice.
    (reservation.name() == name).then_some(reservation)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reservation() -> Reservation {
        let estimate = Consume {
            cost: Some(3_800_000_000),
            tokens: Some(500),
            ..Consume::ONE_REQUEST
        };
        Reservation {
            id: 7,
            expires_at: Timestamp::from_seconds(1_700_000_060),
            ask: Ask::default()
                .with(Dimension::Tenant, "acme/é")
                .with(Dimension::Route, "POST /v1/chat")
                .using(estimate),
        }
    }

    #[test]
    fn an_id_says_all_of_it() {
        let token = reservation().token();
        assert_eq!(Reservation::parse(&token), Ok(reservation()));
        let of_urls = |b: u8| b.is_ascii_alphanumeric() || b"-._".contains(&b);
        assert!(token.bytes().all(of_urls), "{token}");
    }

    #[test]
    fn refuses_what_was_not_made_here() {
        let token = reservation().token();
        let (name, details) = token.split_once('.').unwrap();
        for wrong in [
            String::new(),
            name.to_owned(),
            format!("{name}."),
            format!("0{token}"),
            format!("{}.{details}", name.to_uppercase().replace('0', "+0")),
            token[..token.len() - 2].to_owned(),
            format!("7-9.{details}"),
            "x".repeat(TOKEN_BYTES_MAX + 1),
        ] {
            assert_eq!(Reservation::parse(&wrong), Err(BadReservation), "{wrong}");
        }
    }

    #[test]
    fn one_request_has_one_reservation() {
        let of = |tenant, request_id| {
            let identity = Identity {
                tenant: Some(tenant),
                ..Identity::default()
            };
            Reservation::id_of(&identity, request_id)
        };
        assert_eq!(of("acme", Some("r")), of("acme", Some("r")));
        assert_ne!(of("acme", Some("r")), of("acme", Some("s")));
        assert_ne!(of("acme", Some("r")), of("other", Some("r")));
        assert_ne!(of("acme", None), of("acme", None));
    }
}
