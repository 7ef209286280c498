//! The policy as one shard uses it: which of its limits are counted here, and how they share counters.
//!
//! Limits with the same pattern, meter and window look at the same sums. They form a *series*, and a series has one
//! window for each subject. So a limit that gets other numbers, another name or another tier keeps what was counted.
//! Series with the same pattern and meter get the same amounts: they form a *group*.

mod orders;

use std::collections::{BTreeSet, HashMap};

use chrono_tz::Tz;
use schemas::orders::Orders;
use schemas::policy::{Limit, Meter, Policy, Stream, Window};
use schemas::subject::{Pattern, Subject};

use crate::counter::{Limits, Rules};
use crate::owner::root;
use crate::window::{Terms, rank};

pub(crate) use orders::{Replaced, lies_in};

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
struct Series {
    /// The same for the same pattern, meter and window in every version of the policy.
    id: u32,
    pattern: Pattern,
    meter: Meter,
    window: Window,
    /// Places in the policy's list of limits.
    limits: Vec<usize>,
}

/// The series of one pattern that count for tenants of one tier: they look at the same subject of an event.
#[derive(Debug)]
pub(crate) struct Family {
    pub(crate) pattern: Pattern,
    pub(crate) groups: Vec<Group>,
}

/// Series of a family that get the same amounts: what is made of them together for a subject shares a counter.
#[derive(Clone, Debug)]
pub(crate) struct Group {
    pub(crate) meter: Meter,
    /// In a shard of partials, the width of the slices in which their sums come.
    slice_seconds: Option<u32>,
    /// In the order in which a counter has their windows.
    pub(crate) members: Vec<Member>,
    /// Of the members.
    pub(crate) series: Vec<u32>,
}

/// A series, with those of its limits that hold for a tier.
#[derive(Clone, Debug)]
pub(crate) struct Member {
    pub(crate) series: u32,
    window: Window,
    limits: Vec<usize>,
    /// Those of them that have other numbers here, by their places.
    own: Vec<(usize, Limit)>,
    /// The lowest level of these limits.
    lowest: i128,
}

/// What is counted for the tenants of one tier.
#[derive(Debug)]
pub(crate) struct Tier {
    name: Option<String>,
    pub(crate) families: Vec<Family>,
}

impl Tier {
    /// What it counts of the series `id`.
    pub(crate) fn member(&self, id: u32) -> Option<&Member> {
        let groups = self.families.iter().flat_map(|family| &family.groups);
        let mut members = groups.flat_map(|group| &group.members);
        members.find(|member| member.series == id)
    }

    /// What it counts for `subject` that a limit of this name looks at, with that limit as it is for it. Nothing is
    /// cleared of a wallet: that is paid into.
    pub(crate) fn clearable<'p>(
        &'p self,
        plan: &'p Plan,
        (limit, subject): (&str, &Subject),
    ) -> Vec<(&'p Member, &'p Limit)> {
        let families = self.families.iter();
        let here = families.filter(|family| family.pattern.accepts(subject));
        let groups = here.flat_map(|family| &family.groups);
        let members = groups.flat_map(|group| &group.members);
        let members = members.filter(|member| member.window != Window::Wallet);
        let named = members.filter_map(|member| {
            let limits = plan.limits_of(member);
            let mut own = member.limits.iter().map(|place| limits.at(*place));
            Some((member, own.find(|own| own.name == limit)?))
        });
        named.collect()
    }

    /// What it counts of the subjects that this pattern names.
    pub(crate) fn groups(&self, pattern: &Pattern) -> &[Group] {
        let mut families = self.families.iter();
        let family = families.find(|family| family.pattern == *pattern);
        family.map_or(&[], |family| &family.groups)
    }
}

impl Family {
    fn push(&mut self, meter: &Meter, slice_seconds: Option<u32>, member: Member) {
        let fits =
            |group: &&mut Group| group.meter == *meter && group.slice_seconds == slice_seconds;
        let group = match self.groups.iter_mut().find(fits) {
            Some(group) => group,
            None => {
                self.groups.push(Group {
                    meter: meter.clone(),
                    slice_seconds,
                    members: Vec::new(),
                    series: Vec::new(),
                });
                self.groups.last_mut().expect("one was put there")
            }
        };
        // The same under every policy.
        let key = |member: &Member| (rank(member.window), member.series);
        let place = group.members.partition_point(|m| key(m) < key(&member));
        group.series.insert(place, member.series);
        group.members.insert(place, member);
    }
}

impl Group {
    /// The part of it that `which` accepts; `None` when that is nothing.
    pub(crate) fn part(&self, which: impl Fn(&Member) -> bool) -> Option<Self> {
        let members: Vec<Member> = self.members.iter().filter(|m| which(m)).cloned().collect();
        let series: Vec<u32> = members.iter().map(|member| member.series).collect();
        (!members.is_empty()).then(|| Self {
            members,
            series,
            ..self.clone()
        })
    }

    /// The member of this series, which it has: that of this number, if it is the one.
    pub(crate) fn member(&self, number: usize, series: u32) -> &Member {
        let likely = self.members.get(number).filter(|m| m.series == series);
        likely.unwrap_or_else(|| {
            let mut members = self.members.iter();
            let member = members.find(|member| member.series == series);
            member.expect("it has the series of its counters")
        })
    }

    /// Whether it gets the amounts that `other` gets.
    pub(crate) fn is_as(&self, other: &Group) -> bool {
        self.meter == other.meter && self.slice_seconds == other.slice_seconds
    }

    /// Whether sums of this meter and width of slices are what its members count.
    pub(crate) fn takes(&self, meter: &Meter, slice_seconds: u32) -> bool {
        self.meter == *meter && self.slice_seconds == Some(slice_seconds)
    }
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
    series: Vec<Series>,
    /// One for each tier that a tenant is in, or none; and those of single subjects.
    tiers: Vec<Tier>,
    /// How many are of the policy: those before the ones of single subjects.
    named: usize,
    own: orders::Own,
    /// Whether sums come in slices, as other shards have made them.
    is_of_partials: bool,
    /// The window of each series, at the place of its id.
    windows: Vec<Option<Window>>,
    /// What this shard passes on.
    pub(crate) feeds: Vec<Feed>,
}

/// The ids that series were given: an id is a place in this list.
pub(crate) type SeriesIds = Vec<String>;

impl Plan {
    /// The plan of `policy` and `orders` for a shard of `kind`. A series not met before gets its id from `ids`.
    pub(crate) fn new(policy: Policy, orders: Orders, kind: Kind, ids: &mut SeriesIds) -> Self {
        let mut plan = Self {
            is_of_partials: kind == Kind::Partials,
            ..Self::default()
        };
        for (place, limit) in policy.limits.iter().enumerate() {
            match (kind, limit.pattern.is_wider_than_tenant()) {
                // Gateways alone know what is in flight.
                _ if limit.window == Window::Concurrent => {}
                (Kind::Events(stream), _) if limit.meter.stream() != stream => {}
                (Kind::Events(_), false) | (Kind::Partials, true) => {
                    plan.add_series(place, limit, ids);
                }
                (Kind::Events(_), true) => plan.add_feed(limit),
                (Kind::Partials, false) => {}
            }
        }
        plan.policy = policy;
        plan.windows = vec![None; ids.len()];
        for series in &plan.series {
            plan.windows[series.id as usize] = Some(series.window);
        }
        plan.add_tiers();
        plan.take_orders(orders);
        plan
    }

    fn add_tiers(&mut self) {
        let policy = &self.policy;
        // For each tier one who is in it: a scope wider than a tenant, a tenant of no tier of its own, and any other.
        let tenants = policy.tenants.keys().map(|tenant| Some(tenant.as_str()));
        let tenants = [None, Some("")].into_iter().chain(tenants);
        let names = tenants.map(|tenant| tenant.and_then(|tenant| policy.tier(tenant)));
        let names: BTreeSet<Option<&str>> = names.collect();
        let tier = |name: Option<&str>| Tier {
            name: name.map(str::to_owned),
            families: self.families(name, &HashMap::new(), None),
        };
        self.tiers = names.into_iter().map(tier).collect();
        self.named = self.tiers.len();
    }

    /// What is counted for one who is in a tier and has some limits, by their places, with other numbers. With a
    /// subject: only for what lies in that.
    fn families(
        &self,
        tier: Option<&str>,
        own: &HashMap<usize, Limit>,
        inside: Option<&Subject>,
    ) -> Vec<Family> {
        let mut families: Vec<Family> = Vec::new();
        let is_inside = |series: &&Series| inside.is_none_or(|s| series.pattern.is_in(s));
        for series in self.series.iter().filter(is_inside) {
            let limit = |place: &usize| own.get(place).unwrap_or(&self.policy.limits[*place]);
            let holds = |place: &usize| limit(place).holds_in(tier);
            let limits: Vec<usize> = series.limits.iter().copied().filter(holds).collect();
            let levels = limits.iter().flat_map(|place| &limit(place).levels);
            let Some(lowest) = levels.map(|level| level.threshold).min() else {
                continue;
            };
            let changed = limits
                .iter()
                .filter_map(|place| Some((*place, own.get(place)?.clone())));
            let member = Member {
                series: series.id,
                window: series.window,
                own: changed.collect(),
                limits,
                lowest,
            };
            let slice_seconds = self
                .is_of_partials
                .then(|| feed_slice_seconds(series.window));
            let place = families.iter().position(|f| f.pattern == series.pattern);
            let place = place.unwrap_or_else(|| {
                families.push(Family {
                    pattern: series.pattern.clone(),
                    groups: Vec::new(),
                });
                families.len() - 1
            });
            families[place].push(&series.meter, slice_seconds, member);
        }
        families
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

    /// Which of its tiers an owner is in: a tenant, or a scope wider than one.
    pub(crate) fn tier_of(&self, name: &str, is_tenant: bool) -> u32 {
        let own = self.own_place(&root(name, is_tenant));
        own.unwrap_or_else(|| self.named_tier_of(is_tenant.then_some(name)))
    }

    /// Which of the policy's tiers a tenant is in; `None` for a scope wider than one.
    pub(crate) fn named_tier_of(&self, tenant: Option<&str>) -> u32 {
        let name = tenant.and_then(|tenant| self.policy.tier(tenant));
        let mut named = self.tiers[..self.named].iter();
        let place = named.position(|t| t.name.as_deref() == name);
        let place = place.expect("every tier that a tenant is in was listed");
        u32::try_from(place).expect("fewer than 2^32 tiers are in a policy")
    }

    pub(crate) fn tier(&self, place: u32) -> &Tier {
        &self.tiers[place as usize]
    }

    /// Whether it has counters for the series `id`.
    pub(crate) fn counts(&self, id: u32) -> bool {
        self.series.iter().any(|series| series.id == id)
    }

    /// How the windows of `member` are read where `zone` holds.
    pub(crate) fn rules<'p>(&'p self, member: &'p Member, zone: Tz) -> Rules<'p> {
        Rules {
            series: member.series,
            limits: self.limits_of(member),
            places: &member.limits,
            lowest: member.lowest,
            terms: Terms {
                window: member.window,
                zone,
            },
        }
    }

    /// All limits, as they are for a member.
    pub(crate) fn limits_of<'p>(&'p self, member: &'p Member) -> Limits<'p> {
        Limits {
            all: &self.policy.limits,
            own: &member.own,
        }
    }

    /// How the window of a series that is counted is read where `zone` holds.
    pub(crate) fn terms(&self, series: u32, zone: Tz) -> Terms {
        let window = self.windows[series as usize];
        Terms {
            window: window.expect("every counter's series is counted"),
            zone,
        }
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
