//! The policy as one shard uses it: which of its limits are counted here, and how they share counters.
//!
//! Limits with the same pattern, meter and window look at the same sums. They form a *series*, and a series has one
//! counter for each subject. So a limit that gets other numbers, another name or another tier keeps what was counted.

use chrono_tz::Tz;
use schemas::policy::{Limit, Meter, Policy, Stream, Window};
use schemas::subject::{Pattern, Subject};

use crate::counter::Rules;
use crate::window::Terms;

/// What a shard's records are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Kind {
    /// Events of one stream.
    Events(Stream),
    /// Other shards' sums for scopes wider than a tenant.
    Partials,
}

/// Limits that look at the same sums.
#[derive(Debug)]
pub(crate) struct Series {
    /// The same for the same pattern, meter and window in every version of the policy.
    pub(crate) id: u32,
    pub(crate) pattern: Pattern,
    pub(crate) meter: Meter,
    pub(crate) window: Window,
    /// Places in the policy's list of limits.
    limits: Vec<usize>,
}

/// Sums that an event shard passes on for scopes wider than a tenant: one per meter and width of slices.
#[derive(Debug)]
pub(crate) struct Feed {
    pub(crate) meter: Meter,
    pub(crate) slice_seconds: u32,
    /// Whose scopes are fed; two of them may name the same scope.
    pub(crate) patterns: Vec<Pattern>,
}

#[derive(Debug, Default)]
pub(crate) struct Plan {
    pub(crate) policy: Policy,
    /// What this shard has counters for.
    pub(crate) series: Vec<Series>,
    /// What this shard passes on.
    pub(crate) feeds: Vec<Feed>,
}

/// The ids that series were given: an id is a place in this list.
pub(crate) type SeriesIds = Vec<String>;

impl Plan {
    /// The plan of `policy` for a shard of `kind`. A series not met before gets its id from `ids`.
    pub(crate) fn new(policy: Policy, kind: Kind, ids: &mut SeriesIds) -> Self {
        let mut plan = Self::default();
        for (place, limit) in policy.limits.iter().enumerate() {
            match (kind, limit.pattern.is_wider_than_tenant()) {
                (Kind::Events(stream), _) if limit.meter.stream() != stream => {}
                (Kind::Events(_), false) | (Kind::Partials, true) => {
                    plan.add_series(place, limit, ids);
                }
                (Kind::Events(_), true) => plan.add_feed(limit),
                (Kind::Partials, false) => {}
            }
        }
        plan.policy = policy;
        plan
    }

    fn add_series(&mut self, place: usize, limit: &Limit, ids: &mut SeriesIds) {
        let name = format!(
            "{} | {} | {}",
            limit.pattern,
            limit.meter.name(),
            limit.window
        );
        let id = ids
            .iter()
            .position(|known| *known == name)
            .unwrap_or_else(|| {
                ids.push(name);
                ids.len() - 1
            });
        let id = u32::try_from(id).expect("fewer than 2^32 series were ever in a policy");
        match self.series.iter_mut().find(|series| series.id == id) {
            Some(series) => series.limits.push(place),
            None => self.series.push(Series {
                id,
                pattern: limit.pattern.clone(),
                meter: limit.meter.clone(),
                window: limit.window,
                limits: vec![place],
            }),
        }
    }

    fn add_feed(&mut self, limit: &Limit) {
        let slice_seconds = feed_slice_seconds(limit.window);
        let fits =
            |feed: &&mut Feed| feed.meter == limit.meter && feed.slice_seconds == slice_seconds;
        match self.feeds.iter_mut().find(fits) {
            Some(feed) if feed.patterns.contains(&limit.pattern) => {}
            Some(feed) => feed.patterns.push(limit.pattern.clone()),
            None => self.feeds.push(Feed {
                meter: limit.meter.clone(),
                slice_seconds,
                patterns: vec![limit.pattern.clone()],
            }),
        }
    }

    pub(crate) fn series_of(&self, id: u32) -> Option<&Series> {
        self.series.iter().find(|series| series.id == id)
    }

    /// How the counters of `series` are read where `zone` holds.
    pub(crate) fn rules(&self, series: &Series, zone: Tz) -> Rules<'_> {
        Rules {
            limits: &self.policy.limits,
            terms: Terms {
                window: series.window,
                zone,
            },
        }
    }

    /// The places of those limits of `series` that hold for `tenant` by its tier.
    pub(crate) fn limits_for(&self, series: &Series, tenant: Option<&str>) -> Vec<usize> {
        let holds = |place: &usize| self.policy.tier_allows(&self.policy.limits[*place], tenant);
        series.limits.iter().copied().filter(holds).collect()
    }
}

impl Series {
    /// Whether sums for `scope` of this meter and width of slices are what it counts.
    pub(crate) fn takes(&self, scope: &Subject, meter: &Meter, slice_seconds: u32) -> bool {
        self.meter == *meter
            && feed_slice_seconds(self.window) == slice_seconds
            && self.pattern.accepts(scope)
    }
}

/// Width of the slices in which sums for scopes wider than a tenant travel.
pub(crate) const fn feed_slice_seconds(window: Window) -> u32 {
    match (window, window.slice_seconds()) {
        (_, Some(seconds)) => seconds,
        (Window::Bucket { .. }, None) => 1,
        (_, None) => 60,
    }
}
