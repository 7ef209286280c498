//! How many requests one request counts as, by its route.

use super::Policy;
use crate::subject::{Dimension, Pattern, SubjectError};

/// The most that one request may count as.
pub const WEIGHT_MAX: u32 = 1_000_000;

const ROUTE: &str = "route/";

/// What a request on one of some routes counts as.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Weight {
    pattern: Pattern,
    /// At most [`WEIGHT_MAX`]; zero counts as nothing.
    pub requests: u32,
}

impl Weight {
    /// `route` is an id as in a [`Pattern`]: literal, or ending in `*`.
    ///
    /// # Errors
    /// When `route` cannot be the id of a route.
    pub fn new(route: &str, requests: u32) -> Result<Self, SubjectError> {
        let pattern = Pattern::parse(&format!("{ROUTE}{route}"))?;
        Ok(Self { pattern, requests })
    }

    /// The routes that it is for, as the policy has them.
    #[must_use]
    pub fn route(&self) -> &str {
        let text = self.pattern.as_str();
        text.strip_prefix(ROUTE).unwrap_or(text)
    }

    #[must_use]
    pub fn takes(&self, route: &str) -> bool {
        self.pattern.takes(Dimension::Route, route)
    }
}

impl Policy {
    /// What a request on `route` counts as where nobody says how many it is: the first weight that takes the route
    /// rules; without any it is one.
    #[must_use]
    pub fn weight(&self, route: Option<&str>) -> u32 {
        let weight = route.and_then(|route| self.weights.iter().find(|weight| weight.takes(route)));
        weight.map_or(1, |weight| weight.requests)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(weights: &[(&str, u32)], route: Option<&str>, expected: u32) {
        let weights = weights.iter();
        let weights = weights.map(|(route, requests)| Weight::new(route, *requests).unwrap());
        let policy = Policy {
            weights: weights.collect(),
            ..Policy::default()
        };
        assert_eq!(policy.weight(route), expected, "{route:?}");
    }

    #[test]
    fn the_first_that_takes_the_route_rules() {
        let weights = [
            ("POST /v1/bulk/free", 0),
            ("POST /v1/bulk/*", 20),
            ("POST *", 2),
            ("GET /50%25", 7),
        ];
        check(&weights, Some("POST /v1/bulk/users"), 20);
        check(&weights, Some("POST /v1/bulk/"), 20);
        check(&weights, Some("POST /v1/bulk/free"), 0);
        check(&weights, Some("POST /v1/bulk/free/not"), 20);
        check(&weights, Some("POST /v1/chat"), 2);
        check(&weights, Some("GET /50%"), 7);
        check(&weights, Some("GET /v1/bulk/users"), 1);
        check(&weights, Some("post /v1/bulk/users"), 1);
        check(&weights, None, 1);
        check(&[("*", 3)], Some("any"), 3);
        check(&[("*", 3)], None, 1);
        check(&[], Some("POST /v1/bulk/users"), 1);
    }

    #[test]
    fn says_its_routes_as_they_were_written() {
        assert_eq!(
            Weight::new("GET /50%25*", 1).unwrap().route(),
            "GET /50%25*"
        );
        assert_eq!(Weight::new("", 1), Err(SubjectError::MissingId("route")));
        assert!(Weight::new("GET /a*b", 1).is_err());
    }
}
