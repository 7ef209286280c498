//! Any record at all, for property tests.

use std::collections::BTreeMap;

use proptest::collection::{btree_map, vec};
use proptest::option::of;
use proptest::prelude::*;
use proptest::sample::select;

use crate::policy::{Meter, Mode, Period, Stale, Window};
use crate::record::*;
use crate::subject::{Identity, Pattern, Subject};
use crate::time::Timestamp;

fn text() -> impl Strategy<Value = String> {
    ".{0,12}"
}

fn maybe() -> impl Strategy<Value = Option<String>> {
    of(text())
}

fn time() -> impl Strategy<Value = Timestamp> {
    any::<i64>().prop_map(Timestamp::from_micros)
}

fn amount() -> impl Strategy<Value = Amount> {
    any::<i128>().prop_map(Amount)
}

fn numbers() -> impl Strategy<Value = BTreeMap<String, i64>> {
    btree_map(text(), any::<i64>(), 0..4)
}

fn bytes() -> impl Strategy<Value = Option<Vec<u8>>> {
    of(vec(any::<u8>(), 0..40))
}

fn subject() -> impl Strategy<Value = Subject> {
    let tenant_and_user = (".{1,12}", ".{1,12}").prop_map(|(tenant, user)| {
        let identity = Identity {
            tenant: Some(&tenant),
            user: Some(&user),
            ..Identity::default()
        };
        let pattern = Pattern::parse("tenant/*/user/*").unwrap();
        pattern.subject_of(&identity).unwrap()
    });
    prop_oneof![
        Just(Subject::platform()),
        ".{1,12}".prop_map(|id| Subject::tenant(&id)),
        tenant_and_user
    ]
}

fn meter() -> impl Strategy<Value = Meter> {
    prop_oneof![
        select(vec![Meter::Requests, Meter::Cost, Meter::Tokens]),
        "[a-z][a-z0-9_]{0,63}".prop_map(|name| name.parse().unwrap()),
    ]
}

fn window() -> impl Strategy<Value = Window> {
    prop_oneof![
        (1_u32..=600).prop_map(|seconds| Window::Sliding { seconds }),
        (1_u64.., 1_u32..1_000, 1_u64..).prop_map(|(amount, seconds, burst)| Window::Bucket {
            amount,
            seconds,
            burst
        }),
        select(vec![
            Period::Day,
            Period::Week,
            Period::WeekFromSunday,
            Period::Month
        ])
        .prop_map(Window::Calendar),
        Just(Window::Wallet),
        Just(Window::Concurrent),
    ]
}

fn mode() -> impl Strategy<Value = Mode> {
    select(vec![Mode::Open, Mode::Block, Mode::Strict])
}

fn verdict() -> impl Strategy<Value = Verdict> {
    use Verdict::{Allow, Block, Challenge, Throttle};
    select(vec![Allow, Throttle, Challenge, Block])
}

prop_compose! {
    fn origin()(topic in text(), partition: i32, offset: i64) -> Origin {
        Origin { topic, partition, offset }
    }
}

prop_compose! {
    pub(super) fn usage()(
        (event_source, event_id, tenant) in (text(), text(), text()),
        (at, received_at) in (time(), time()),
        (key, user, route, provider, model) in (maybe(), maybe(), maybe(), maybe(), maybe()),
        (source, fingerprint, action, request_id, reservation) in (maybe(), maybe(), maybe(), maybe(), maybe()),
        (status, latency_ms) in any::<(Option<i32>, Option<i64>)>(),
        (requests, input_tokens, output_tokens, cost) in any::<(i64, i64, i64, i64)>(),
        units in numbers(),
    ) -> Usage {
        Usage {
            event_source, event_id, tenant, at, received_at, key, user, route, provider, model, source, fingerprint,
            action, request_id, reservation, status, latency_ms, requests, input_tokens, output_tokens, cost, units,
        }
    }
}

prop_compose! {
    pub(super) fn auth()(
        (event_source, event_id, tenant) in (text(), text(), text()),
        (at, received_at) in (time(), time()),
        (account, source, surface, reason) in (maybe(), maybe(), maybe(), maybe()),
        outcome in select(vec![Outcome::Success, Outcome::Failure]),
    ) -> Auth {
        Auth { event_source, event_id, tenant, at, received_at, account, source, outcome, surface, reason }
    }
}

prop_compose! {
    pub(super) fn csp()(
        (event_source, event_id, tenant) in (text(), text(), text()),
        (at, received_at) in (time(), time()),
        (document_uri, directive, blocked_uri, blocked_host) in (text(), text(), text(), text()),
        (disposition, source_file, sample) in (maybe(), maybe(), maybe()),
        line: Option<i32>,
    ) -> Csp {
        Csp {
            event_source, event_id, tenant, at, received_at, document_uri, directive, blocked_uri, blocked_host,
            disposition, source_file, line, sample,
        }
    }
}

prop_compose! {
    pub(super) fn partial()(
        scope in subject(), meter in meter(), slice in time(), slice_seconds: i32, sum in amount(), origin in origin(),
    ) -> Partial {
        Partial { scope, meter, slice, slice_seconds, sum, origin }
    }
}

prop_compose! {
    fn soft()(name in text(), threshold in amount()) -> SoftLevel {
        SoftLevel { name, threshold }
    }
}

prop_compose! {
    fn limit()(
        (name, subject) in (text(), text()),
        (meter, window) in (meter(), window()),
        soft in vec(soft(), 0..3),
        (hard, keep) in (amount(), of(amount())),
        mode in mode(),
        stale in select(vec![Stale::LastKnown, Stale::Open, Stale::Closed]),
        tier in maybe(),
        status: Option<i32>,
        headers: bool,
    ) -> LimitRecord {
        LimitRecord { name, subject, meter, window, soft, hard, keep, mode, stale, tier, status, headers }
    }
}

prop_compose! {
    fn overridden()(
        (subject, limit) in (subject(), text()),
        hard in of(amount()),
        soft in vec(soft(), 0..3),
        (mode, reason) in (maybe(), maybe()),
    ) -> OverrideRecord {
        OverrideRecord { subject, limit, hard, soft, mode, reason }
    }
}

prop_compose! {
    pub(super) fn policy_version()(
        version: i64,
        at in time(),
        (author, reason, source) in (text(), text(), text()),
        limits in vec(limit(), 0..3),
        overrides in vec(overridden(), 0..3),
        tenants in btree_map(text(), (maybe(), maybe()), 0..3),
        (default_tier, default_zone) in (maybe(), maybe()),
        weights in vec((text(), any::<i64>()), 0..3),
        sets in vec((text(), text(), vec(text(), 0..3)), 0..3),
    ) -> PolicyVersion {
        let sets = sets.into_iter().map(|(name, dimension, ids)| SetRecord { name, dimension, ids });
        let tenants = tenants.into_iter().map(|(id, (tier, zone))| (id, TenantRecord { tier, zone }));
        PolicyVersion {
            version, at, author, reason, source, limits, overrides, tenants: tenants.collect(), default_tier, default_zone,
            weights: weights.into_iter().map(|(route, requests)| WeightRecord { route, requests }).collect(),
            sets: sets.collect(),
        }
    }
}

prop_compose! {
    pub(super) fn order()(
        (command, seq) in (text(), any::<i64>()),
        subject in subject(),
        (at, until) in (time(), of(time())),
        (limit, mode, tier) in (maybe(), maybe(), maybe()),
        (cleared, reason) in (maybe(), maybe()),
        hard in of(amount()),
        (paid_in, paid_by) in (of(amount()), vec(text(), 0..3)),
        soft in vec(soft(), 0..3),
        ended: bool,
    ) -> Order {
        Order {
            command, seq, subject, at, until, limit, hard, soft, mode, paid_in, paid_by, tier, cleared, reason, ended,
        }
    }
}

prop_compose! {
    pub(super) fn marker()(policy in of(policy_version()), tick in of(time()), order in of(order())) -> Marker {
        let order = order.map(Box::new);
        Marker { policy, tick, order }
    }
}

prop_compose! {
    pub(super) fn layout()(partitions in btree_map(text(), any::<i32>(), 0..15)) -> Layout {
        Layout { partitions }
    }
}

prop_compose! {
    pub(super) fn key()(
        (id, sha256, note) in (text(), text(), text()),
        role in select(vec![Role::Ingest, Role::Gateway, Role::Operator, Role::Auditor, Role::Tenant]),
        tenant in maybe(),
        created_at in time(),
        expires_at in of(time()),
        revoked: bool,
    ) -> Key {
        Key { id, sha256, role, tenant, created_at, expires_at, revoked, note }
    }
}

prop_compose! {
    pub(super) fn command()(
        (id, kind, actor, reason) in (text(), text(), text(), text()),
        subject in subject(),
        at in time(),
        limit in maybe(),
        amount in of(amount()),
        until in of(time()),
        arguments in btree_map(text(), text(), 0..3),
    ) -> Command {
        Command { id, kind, subject, at, actor, reason, limit, amount, until, arguments }
    }
}

prop_compose! {
    pub(super) fn crossing()(
        (id, limit, level) in (text(), text(), text()),
        subject in subject(),
        policy_version: i64,
        (meter, window, mode) in (meter(), window(), mode()),
        direction in select(vec![Direction::Up, Direction::Down]),
        (threshold, sum, max) in (amount(), amount(), amount()),
        (at, falls_at) in (time(), of(time())),
        (event_source, event_id) in (maybe(), maybe()),
        origin in origin(),
    ) -> Crossing {
        Crossing {
            id, subject, limit, policy_version, meter, window, mode, level, threshold, direction, at, sum, max,
            falls_at, event_source, event_id, origin,
        }
    }
}

prop_compose! {
    pub(super) fn csp_group()(
        (id, tenant, directive) in (text(), text(), text()),
        (blocked_host, document_uri) in (text(), text()),
        at in time(),
        (count, new) in any::<(i64, bool)>(),
        origin in origin(),
    ) -> CspGroup {
        CspGroup { id, tenant, directive, blocked_host, document_uri, at, count, new, origin }
    }
}

prop_compose! {
    pub(super) fn cleared()(
        (id, limit, command, reason) in (text(), text(), text(), text()),
        subject in subject(),
        policy_version: i64,
        (meter, window) in (meter(), window()),
        at in time(),
        (before, after, max) in (amount(), amount(), amount()),
        origin in origin(),
    ) -> Cleared {
        Cleared { id, subject, limit, policy_version, meter, window, at, before, after, max, command, reason, origin }
    }
}

prop_compose! {
    fn second()(
        second: i32,
        (events, requests, input_tokens, output_tokens, failures, violations) in any::<(i64, i64, i64, i64, i64, i64)>(),
        cost in amount(),
        units in numbers(),
    ) -> SecondSums {
        SecondSums { second, events, requests, input_tokens, output_tokens, cost, failures, violations, units }
    }
}

prop_compose! {
    pub(super) fn rollup()(
        tenant in text(),
        (key, user, route, provider) in (maybe(), maybe(), maybe(), maybe()),
        (model, account, source) in (maybe(), maybe(), maybe()),
        minute in time(),
        seconds in vec(second(), 0..4),
        origin in origin(),
    ) -> Rollup {
        Rollup { tenant, key, user, route, provider, model, account, source, minute, seconds, origin }
    }
}

prop_compose! {
    pub(super) fn spread()(
        (tenant, of, per, id) in (text(), text(), text(), text()),
        hour in time(),
        (count, missed_max) in any::<(i64, i64)>(),
        sketch in vec(any::<u8>(), 0..40),
        origin in origin(),
    ) -> Spread {
        Spread { tenant, of, per, id, hour, count, missed_max, sketch, origin }
    }
}

prop_compose! {
    fn ranking_entry()(id in text(), count in amount(), error in amount()) -> RankingEntry {
        RankingEntry { id, count, error }
    }
}

prop_compose! {
    pub(super) fn ranking()(
        (tenant, by) in (text(), text()),
        meter in meter(),
        hour in time(),
        entries in vec(ranking_entry(), 0..4),
        (missing_max, sum) in (amount(), amount()),
        origin in origin(),
    ) -> Ranking {
        Ranking { tenant, by, meter, hour, entries, missing_max, sum, origin }
    }
}

fn share_kind() -> impl Strategy<Value = ShareKind> {
    use ShareKind::*;
    prop::sample::select(vec![Beat, Ack, Want, Gift, Return])
}

prop_compose! {
    fn share_item()((limit, subject) in (text(), text()), (units, seq) in any::<(i64, i64)>()) -> ShareItem {
        ShareItem { limit, subject, units, seq }
    }
}

prop_compose! {
    pub(super) fn share()(
        (member, name) in (text(), text()),
        kind in share_kind(),
        to in of(text()),
        seen: i64,
        asked_at in time(),
        items in vec(share_item(), 0..4),
    ) -> Share {
        Share { member, name, kind, to, seen, asked_at, items }
    }
}

prop_compose! {
    fn cause()(
        (limit, crossing) in (text(), text()),
        policy_version: i64,
        (meter, window, mode, verdict) in (meter(), window(), mode(), verdict()),
        (used, max) in (amount(), amount()),
        reset_at in of(time()),
        origin in origin(),
    ) -> Cause {
        Cause { limit, policy_version, meter, window, mode, verdict, used, max, reset_at, crossing, origin }
    }
}

prop_compose! {
    pub(super) fn decision()(
        id in text(),
        subject in subject(),
        verdict in verdict(),
        causes in vec(cause(), 0..3),
        (status, terminal, seq, ttl_seconds) in any::<(Option<i32>, bool, i64, i32)>(),
        (until, issued_at) in (of(time()), time()),
    ) -> Decision {
        Decision { id, subject, verdict, causes, status, until, terminal, seq, issued_at, ttl_seconds }
    }
}

prop_compose! {
    pub(super) fn refusal()(
        (request_id, gateway) in (text(), text()),
        at in time(),
        (tenant, key, user) in (maybe(), maybe(), maybe()),
        (route, account, source) in (maybe(), maybe(), maybe()),
        subject in subject(),
        limits in vec(text(), 0..3),
        verdict in verdict(),
        (status, retry_after_seconds) in any::<(i32, Option<i64>)>(),
        decision in maybe(),
    ) -> Refusal {
        Refusal {
            request_id, at, gateway, tenant, key, user, route, account, source, subject, limits, verdict, status,
            retry_after_seconds, decision,
        }
    }
}

prop_compose! {
    pub(super) fn alert()(
        (id, title, body) in (text(), text(), text()),
        kind in select(vec![AlertKind::Soft, AlertKind::Hard, AlertKind::Lifted, AlertKind::CspGroup, AlertKind::Asked, AlertKind::Answered, AlertKind::Cleared]),
        tenant in maybe(),
        subject in subject(),
        at in time(),
        (limit, level, decision) in (maybe(), maybe(), maybe()),
        (used, max) in (of(amount()), of(amount())),
        until in of(time()),
    ) -> Alert {
        Alert { id, kind, tenant, subject, title, body, at, limit, level, used, max, decision, until }
    }
}

prop_compose! {
    pub(super) fn dead()(
        origin in origin(),
        reason in text(),
        at in time(),
        (key, value) in (bytes(), bytes()),
        headers in vec((text(), bytes()), 0..3),
    ) -> Dead {
        let headers = headers.into_iter().map(|(name, value)| Header { name, value }).collect();
        Dead { origin, reason, at, key, value, headers }
    }
}
