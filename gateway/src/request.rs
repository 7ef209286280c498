//! What a gateway asks: who wants to do what, and what it will use.

use std::collections::BTreeMap;

use schemas::policy::{Meter, Policy};
use schemas::subject::{Dimension, Identity};
use serde::{Deserialize, Serialize};

/// What a request will use, by meter. A meter that is absent is not spoken of: limits on it are not judged here.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Consume {
    pub requests: Option<u64>,
    pub input_tokens: Option<u64>,
    pub output_tokens: Option<u64>,
    /// All tokens; where absent, input and output tokens together.
    pub tokens: Option<u64>,
    /// Pico-dollars.
    pub cost: Option<u64>,
    pub units: BTreeMap<String, u64>,
}

impl Consume {
    /// What most requests are: one.
    pub const ONE_REQUEST: Consume = Consume {
        requests: Some(1),
        input_tokens: None,
        output_tokens: None,
        tokens: None,
        cost: None,
        units: BTreeMap::new(),
    };

    /// What was really used, where `actual` speaks of it, and otherwise this.
    #[must_use]
    pub fn corrected(&self, actual: &Consume) -> Consume {
        let tokens = [actual.tokens, actual.input_tokens, actual.output_tokens];
        let of_tokens = if tokens.iter().any(Option::is_some) {
            actual
        } else {
            self
        };
        let mut units = self.units.clone();
        units.extend(actual.units.clone());
        Consume {
            requests: actual.requests.or(self.requests),
            input_tokens: of_tokens.input_tokens,
            output_tokens: of_tokens.output_tokens,
            tokens: of_tokens.tokens,
            cost: actual.cost.or(self.cost),
            units,
        }
    }

    /// Whether it uses nothing, and so only looks.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.requests.is_none() && *self == Consume::default()
    }

    /// What is used of `meter`, if it is spoken of.
    #[must_use]
    pub fn amount(&self, meter: &Meter) -> Option<u64> {
        match meter {
            Meter::Requests => self.requests,
            Meter::InputTokens => self.input_tokens,
            Meter::OutputTokens => self.output_tokens,
            Meter::Tokens => self.tokens.or_else(|| self.both_tokens()),
            Meter::Cost => self.cost,
            Meter::Unit(name) => self.units.get(name).copied(),
            Meter::Failures | Meter::Violations => None,
        }
    }

    fn both_tokens(&self) -> Option<u64> {
        match (self.input_tokens, self.output_tokens) {
            (None, None) => None,
            (input, output) => Some(input.unwrap_or(0).saturating_add(output.unwrap_or(0))),
        }
    }
}

/// A request to be judged, borrowed.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    pub identity: Identity<'a>,
    /// Instead of what the policy says of the tenant's tier.
    pub tier: Option<&'a str>,
    pub consume: &'a Consume,
}

/// A request to be judged, with its ids.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ask {
    ids: [Option<String>; Dimension::ALL.len()],
    pub tier: Option<String>,
    /// Set by [`Ask::using`], which knows that somebody said it.
    pub(crate) consume: Consume,
    /// Whether nobody said how many requests it is: then it is as many as its route weighs.
    weighs: bool,
    /// Made by the gateway, never taken from a client: an admission is not counted twice under one id.
    pub request_id: Option<String>,
}

impl Default for Ask {
    /// One request by nobody, which counts as the weight of its route.
    fn default() -> Self {
        Self {
            ids: Default::default(),
            tier: None,
            consume: Consume::ONE_REQUEST,
            weighs: true,
            request_id: None,
        }
    }
}

impl Ask {
    #[must_use]
    pub fn with(mut self, dimension: Dimension, id: impl Into<String>) -> Self {
        self.set(dimension, Some(id.into()));
        self
    }

    /// It uses this, whatever its route weighs.
    #[must_use]
    pub fn using(mut self, consume: Consume) -> Self {
        self.set_consume(consume);
        self
    }

    pub(crate) fn set_consume(&mut self, consume: Consume) {
        self.consume = consume;
        self.weighs = false;
    }

    /// Where it does not say how many requests it is, it is one, which counts as the weight of its route.
    pub(crate) fn or_one_request(&mut self) {
        if self.consume.requests.is_none() {
            self.consume.requests = Some(1);
            self.weighs = true;
        }
    }

    /// From here on it is as many requests as its route weighs under `policy`, unless it says itself how many it is.
    pub(crate) fn weigh(&mut self, policy: &Policy) {
        if std::mem::take(&mut self.weighs) {
            let weight = policy.weight(self.id(Dimension::Route));
            self.consume.requests = Some(weight.into());
        }
    }

    pub fn set(&mut self, dimension: Dimension, id: Option<String>) {
        self.ids[dimension as usize] = id;
    }

    #[must_use]
    pub fn id(&self, dimension: Dimension) -> Option<&str> {
        self.ids[dimension as usize].as_deref()
    }

    #[must_use]
    pub fn identity(&self) -> Identity<'_> {
        Identity {
            tenant: self.id(Dimension::Tenant),
            key: self.id(Dimension::Key),
            user: self.id(Dimension::User),
            account: self.id(Dimension::Account),
            source: self.id(Dimension::Source),
            fingerprint: self.id(Dimension::Fingerprint),
            action: self.id(Dimension::Action),
            provider: self.id(Dimension::Provider),
            model: self.id(Dimension::Model),
            route: self.id(Dimension::Route),
        }
    }

    #[must_use]
    pub fn request(&self) -> Request<'_> {
        Request {
            identity: self.identity(),
            tier: self.tier.as_deref(),
            consume: &self.consume,
        }
    }
}

#[cfg(test)]
mod tests {
    use schemas::policy::Weight;

    use super::*;

    #[track_caller]
    fn check(consume: &Consume, meter: &str, expected: Option<u64>) {
        assert_eq!(consume.amount(&meter.parse().unwrap()), expected, "{meter}");
    }

    #[test]
    fn says_what_is_used_of_the_meters_it_speaks_of() {
        check(&Consume::ONE_REQUEST, "requests", Some(1));
        check(&Consume::ONE_REQUEST, "tokens", None);
        let both = Consume {
            input_tokens: Some(3),
            output_tokens: Some(4),
            ..Consume::default()
        };
        check(&both, "requests", None);
        check(&both, "tokens", Some(7));
        check(&both, "output_tokens", Some(4));
        let all = Consume {
            tokens: Some(5),
            units: BTreeMap::from([("pages".to_owned(), 2)]),
            ..Consume::default()
        };
        check(&all, "tokens", Some(5));
        check(&all, "input_tokens", None);
        check(&all, "pages", Some(2));
        check(&all, "images", None);
        check(&all, "failures", None);
        assert!(Consume::default().is_empty() && !all.is_empty());
    }

    #[test]
    fn what_was_really_used_stands_in_for_the_estimate() {
        let estimate = Consume {
            requests: Some(1),
            tokens: Some(500),
            cost: Some(9),
            units: BTreeMap::from([("pages".to_owned(), 2), ("images".to_owned(), 1)]),
            ..Consume::default()
        };
        let actual = Consume {
            input_tokens: Some(100),
            output_tokens: Some(30),
            units: BTreeMap::from([("pages".to_owned(), 3)]),
            ..Consume::default()
        };
        let both = estimate.corrected(&actual);
        check(&both, "requests", Some(1));
        check(&both, "tokens", Some(130));
        check(&both, "cost", Some(9));
        check(&both, "pages", Some(3));
        check(&both, "images", Some(1));
        assert_eq!(estimate.corrected(&Consume::default()), estimate);
    }

    #[track_caller]
    fn check_weighed(mut ask: Ask, expected: Option<u64>) {
        let weight = |route, requests| Weight::new(route, requests).unwrap();
        let policy = Policy {
            weights: vec![weight("POST /bulk", 20), weight("GET /health", 0)],
            ..Policy::default()
        };
        ask.weigh(&policy);
        assert_eq!(ask.consume.requests, expected);
        // Once weighed it stays as it is, whatever holds by then.
        ask.weigh(&Policy::default());
        assert_eq!(ask.consume.requests, expected);
    }

    #[test]
    fn a_request_counts_as_the_weight_of_its_route_unless_it_says_how_many_it_is() {
        let on = |route: &str| Ask::default().with(Dimension::Route, route);
        check_weighed(on("POST /bulk"), Some(20));
        check_weighed(on("GET /health"), Some(0));
        check_weighed(on("POST /chat"), Some(1));
        check_weighed(Ask::default(), Some(1));
        check_weighed(on("POST /bulk").using(Consume::ONE_REQUEST), Some(1));
        check_weighed(on("POST /bulk").using(Consume::default()), None);
        let estimated = |requests| {
            let mut ask = on("POST /bulk").using(Consume {
                requests,
                tokens: Some(500),
                ..Consume::default()
            });
            ask.or_one_request();
            ask
        };
        check_weighed(estimated(None), Some(20));
        check_weighed(estimated(Some(3)), Some(3));
    }

    #[test]
    fn keeps_each_id_under_its_dimension() {
        let mut ask = Ask::default();
        for dimension in Dimension::ALL {
            ask.set(dimension, Some(dimension.name().to_owned()));
        }
        let identity = ask.identity();
        for dimension in Dimension::ALL {
            assert_eq!(identity.get(dimension), Some(dimension.name()));
        }
    }
}
