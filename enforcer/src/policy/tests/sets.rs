//! Sets of ids, and limits on them.

use schemas::subject::{Dimension, Subject};

use super::*;

const SLOW: &str = "[set.slow]\ndimension = 'model'\nids = ['slow-*', 'opus']\n";

/// A limit on `subject` after `sets`.
fn on(sets: &str, subject: &str) -> String {
    format!("{sets}{}", limit(&[("subject", &format!("'{subject}'"))]))
}

#[track_caller]
fn reads(text: &str, expected: &[(&str, Dimension, &[&str])]) {
    let policy = read(text).unwrap();
    let sets = policy.sets.iter();
    let sets: Vec<_> = sets
        .map(|(name, set)| {
            let ids: Vec<&str> = set.ids().iter().map(String::as_str).collect();
            (name, set.dimension(), ids)
        })
        .collect();
    let expected: Vec<_> = expected
        .iter()
        .map(|(name, dimension, ids)| (*name, *dimension, ids.to_vec()))
        .collect();
    assert_eq!(sets, expected);
}

#[test]
fn reads_sets() {
    reads("zone = 'UTC'", &[]);
    reads(SLOW, &[("slow", Dimension::Model, &["slow-*", "opus"])]);
    reads(
        "set.bulk = {dimension = 'route', ids = ['POST /v1/bulk/*', '%7Bbulk}']}\n\
         [set.\"a.b\"]\ndimension = 'user'\nids = ['a%2Fb', '*']",
        &[
            ("a.b", Dimension::User, &["a%2Fb", "*"]),
            ("bulk", Dimension::Route, &["POST /v1/bulk/*", "%7Bbulk}"]),
        ],
    );
    // Declared below what uses it, and used by several.
    let below = format!("{}{SLOW}", limit(&[("subject", "'tenant/*/model/{slow}'")]));
    for text in [on(SLOW, "model/{slow}"), below] {
        let policy = read(&text).unwrap();
        let set = Subject::parse("model/{slow}").unwrap();
        let tenants = Subject::parse("tenant/acme/model/{slow}").unwrap();
        let counted = policy.limits_on(&set).chain(policy.limits_on(&tenants));
        assert_eq!(counted.count(), 1, "{text}");
    }
}

#[test]
fn refuses_sets_that_are_wrong() {
    refuse(
        "[set.slow]\ndimensio = 'model'\nid = ['opus']",
        &[
            "1:6: this set has no `dimension`: write `dimension = \"model\"`",
            "1:6: this set has no `ids`: write `ids = [\"slow-*\", \"opus\"]`",
            "2:1: unknown field `dimensio` of a set; did you mean `dimension`?",
            "3:1: unknown field `id` of a set; did you mean `ids`?",
        ],
    );
    refuse(
        "[sets.slow]\nids = []",
        &["1:2: unknown field `sets` of a policy; did you mean `set`?"],
    );
    refuse(
        "set = ['opus']",
        &["1:7: `set` holds tables by name: write `[set.NAME]`"],
    );
    refuse(
        "[set]\nslow = ['opus']",
        &["2:8: `set.slow` must be a table: write `[set.slow]`"],
    );
    refuse(
        "[set.'a b']\ndimension = 'model'\nids = ['opus']",
        &["1:6: a set's name has 1 to 64 of a-z, A-Z, 0-9, `-`, `_` and `.`, not `a b`"],
    );
    let of = |dimension: &str| format!("[set.a]\ndimension = {dimension}\nids = ['x']");
    let names = "key, user, account, source, fingerprint, action, provider, model, route";
    refuse(
        &of("'modle'"),
        &[&format!(
            "2:13: `modle` is no dimension: use one of {names}; did you mean `model`?"
        )],
    );
    refuse(
        &of("7"),
        &["2:13: `dimension` must be text in quotes, not a whole number"],
    );
    refuse(
        &of("'tenant'"),
        &[
            "2:13: a set cannot be of tenants: what each does is counted in a place of its own. Give them a tier, or \
           count all of them",
        ],
    );
}

#[test]
fn refuses_ids_that_are_wrong() {
    let ids = |ids: &str| format!("[set.slow]\ndimension = 'user'\nids = {ids}");
    refuse(
        &ids("'opus'"),
        &["3:7: `ids` is a list: write `ids = [\"slow-*\", \"opus\"]`"],
    );
    refuse(
        &ids("[]"),
        &["3:7: a set without ids counts nothing: write `ids = [\"slow-*\", \"opus\"]`"],
    );
    refuse(
        &ids("['a', 7, 'b', 'a', 'b*', 'b*']"),
        &[
            "3:13: an id must be text in quotes, not a whole number",
            "3:21: `a` is in this set already",
            "3:32: `b*` is in this set already",
        ],
    );
    let encoded =
        "the id of `user` holds a character that must be percent-encoded, or a broken encoding";
    refuse(
        &ids("['', 'a/b', 'a*b', '{vips}']"),
        &[
            "3:8: id ``: `user` has no id after it",
            &format!("3:12: id `a/b`: {encoded}"),
            &format!("3:19: id `a*b`: {encoded}"),
            "3:26: id `{vips}`: `vips` is a set, and no id; an id that is called so is written `%7Bvips}`",
        ],
    );
    let many = |count: usize| {
        let all: Vec<String> = (0..count).map(|n| format!("'u{n}'")).collect();
        ids(&format!("[\n{}\n]", all.join(",\n")))
    };
    assert!(read(&many(1_000)).is_ok());
    refuse(&many(1_001), &["1004:1: this is id 1001; a set holds 1000"]);
    // Of a set of nobody knows what, only what is wrong in any.
    refuse(
        "[set.a]\ndimension = 'usr'\nids = ['a/b', 7]",
        &[
            "2:13: `usr` is no dimension: use one of key, user, account, source, fingerprint, action, provider, model, \
             route; did you mean `user`?",
            "3:15: an id must be text in quotes, not a whole number",
        ],
    );
}

#[test]
fn refuses_subjects_with_sets_that_are_wrong() {
    let check = |subject: &str, told: &str| {
        refuse(
            &on(SLOW, subject),
            &[&format!("6:11: subject `{subject}`: {told}")],
        );
    };
    check(
        "model/{slwo}",
        "the policy has no set `slwo`; did you mean `slow`?",
    );
    check(
        "tenant/*/model/{bulk}",
        "the policy has no set `bulk`; declare it by `[set.bulk]`",
    );
    check(
        "tenant/*/user/{slow}",
        "`slow` is a set of ids of `model`, and cannot stand for a `user`",
    );
    let brace = "what begins with `{` is a set, whose name stands in braces: `{slow}`";
    for slip in ["model/{slow", "model/{slow}*", "tenant/*/model/{slow }"] {
        check(slip, brace);
    }
    check(
        "model/{slow-*}",
        "the id of `model` holds a character that must be percent-encoded, or a broken encoding",
    );
    check(
        "tenant/{slow}/user/*",
        "a set cannot be of tenants: what each does is counted in a place of its own. Give them a tier, or count all \
         of them",
    );
    // What is called like a set is no set.
    assert!(read(&on(SLOW, "model/%7Bslwo}")).is_ok());
    // A set that is wrong is told once, and not again by each limit on it.
    refuse(
        &on(
            "[set.slow]\ndimension = 'model'\nids = []\n",
            "model/{slow}",
        ),
        &["3:7: a set without ids counts nothing: write `ids = [\"slow-*\", \"opus\"]`"],
    );
    refuse(
        "[[weight]]\nroute = '{slow}'\nrequests = 2",
        &[
            "2:9: route `{slow}`: a weight is for a route, or for those that begin alike, and not for a set",
        ],
    );
}

#[test]
fn an_override_is_for_a_set_as_a_whole() {
    let own = |subject: &str| {
        let own = format!("[[override]]\nsubject = '{subject}'\nlimit = 'tokens'\nhard = 7\n");
        on(SLOW, "tenant/*/model/{slow}") + &own
    };
    let policy = read(&own("tenant/acme/model/{slow}")).unwrap();
    assert_eq!(policy.overrides.iter().count(), 1);
    for subject in [
        "tenant/acme/model/opus",
        "tenant/acme/model/{slwo}",
        "tenant/acme/model/%7Bslow}",
    ] {
        let told = format!(
            "13:11: limit `tokens` is on `tenant/*/model/{{slow}}`, and not counted for `{subject}` itself"
        );
        refuse(&own(subject), &[&told]);
    }
    refuse(
        &own("tenant/*/model/{slow}"),
        &[
            "13:11: subject `tenant/*/model/{slow}`: the id of `tenant` holds a character that must be percent-encoded, \
             or a broken encoding; an override is for one subject: for many write a `[[limit]]`",
        ],
    );
}
