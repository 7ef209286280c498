//! Sets in subjects and patterns.

use super::*;

fn set(dimension: Dimension, ids: &[&str]) -> IdSet {
    let mut set = IdSet::new(dimension);
    ids.iter().for_each(|id| set.add(id).unwrap());
    set
}

fn sets() -> Sets {
    let mut sets = Sets::default();
    sets.add(
        "slow".to_owned(),
        set(Dimension::Model, &["slow-*", "opus", "meta/llama"]),
    );
    sets.add(
        "vips".to_owned(),
        set(Dimension::User, &["u%2F9", "%7Bvips}", "v*"]),
    );
    sets
}

#[test]
fn a_subject_names_a_set_or_an_id() {
    let check = |path: &str, expected: Named| {
        let subject = Subject::parse(path).unwrap();
        let (_, last) = subject.parts().pop().unwrap();
        assert_eq!((last, subject.as_str()), (expected, path));
    };
    let id = |id: &str| Named::Id(id.to_owned());
    let set = |name: &str| Named::Set(name.to_owned());
    check("model/{slow}", set("slow"));
    check("tenant/acme/user/{vips}", set("vips"));
    check("tenant/acme/route/{a-b_c.1}", set("a-b_c.1"));
    // A model that is called so.
    check("model/%7Bslow}", id("{slow}"));
    // What no set can be called is read as it always was.
    check("model/{", id("{"));
    check("model/{}", id("{}"));
    check("model/{slow", id("{slow"));
    check("tenant/acme/user/{{user_id}}", id("{{user_id}}"));
    check("tenant/acme/route/{a b}", id("{a b}"));
    check("tenant/acme/route/GET /users/{id}", id("GET /users/{id}"));
    // Tenants have no sets.
    check("tenant/{acme}", id("{acme}"));
    let long = format!("model/{{{}}}", "x".repeat(65));
    check(&long, id(&long["model/".len()..]));
}

#[test]
fn an_id_has_one_encoding_beside_sets() {
    let error = |path| Subject::parse(path).unwrap_err();
    assert_eq!(error("model/%7Bslow"), SubjectError::BadId("model"));
    assert_eq!(error("model/%7B"), SubjectError::BadId("model"));
    assert_eq!(error("model/%7bslow}"), SubjectError::BadId("model"));
    assert_eq!(error("model/a%7Bslow}"), SubjectError::BadId("model"));
    assert_eq!(error("model/{slow%7D"), SubjectError::BadId("model"));
    assert_eq!(error("tenant/%7Bacme}"), SubjectError::BadId("tenant"));
    assert_eq!(Subject::tenant("{acme}").as_str(), "tenant/{acme}");
}

fn model(model: &str) -> Identity<'_> {
    Identity {
        tenant: Some("acme"),
        user: Some("u/9"),
        model: Some(model),
        ..Identity::default()
    }
}

#[track_caller]
fn check_pattern(pattern: &str, id: &str, expected: Option<&str>) {
    let pattern = Pattern::parse_with(pattern, &sets()).unwrap();
    let subject = pattern.subject_of(&model(id));
    assert_eq!(subject.as_ref().map(Subject::as_str), expected, "{id}");
    assert!(subject.is_none_or(|s| pattern.accepts(&Subject::parse(s.as_str()).unwrap())));
}

#[test]
fn all_ids_of_a_set_have_one_subject() {
    for id in ["slow-1", "slow-", "opus", "meta/llama"] {
        check_pattern("model/{slow}", id, Some("model/{slow}"));
        check_pattern(
            "tenant/*/user/{vips}/model/{slow}",
            id,
            Some("tenant/acme/user/{vips}/model/{slow}"),
        );
        check_pattern("tenant/other/model/{slow}", id, None);
    }
    for id in ["slow", "opus-2", "opu", "", "{slow}", "meta"] {
        check_pattern("model/{slow}", id, None);
        check_pattern("tenant/*/user/{vips}", id, Some("tenant/acme/user/{vips}"));
    }
}

#[test]
fn what_is_called_like_a_set_is_not_the_set() {
    check_pattern("model/*", "{slow}", Some("model/%7Bslow}"));
    check_pattern("model/%7Bslow}", "{slow}", Some("model/%7Bslow}"));
    check_pattern("model/%7Bslow}", "opus", None);
    let check = |pattern: &str, path: &str, expected: bool| {
        let pattern = Pattern::parse_with(pattern, &sets()).unwrap();
        let subject = Subject::parse(path).unwrap();
        assert_eq!(pattern.accepts(&subject), expected, "{pattern} {subject}");
        assert_eq!(pattern.is_in(&subject), expected, "{pattern} {subject}");
    };
    check("model/{slow}", "model/{slow}", true);
    check("model/{slow}", "model/{other}", false);
    check("model/{slow}", "model/%7Bslow}", false);
    // A set's ids are not apart.
    check("model/{slow}", "model/opus", false);
    check("model/{slow}", "model/slow-1", false);
    check("model/*", "model/{slow}", false);
    check("model/*", "model/%7Bslow}", true);
    check("model/%7Bslow}", "model/{slow}", false);
    check("tenant/acme/user/{vips}", "tenant/acme/user/{vips}", true);
}

#[test]
fn what_lies_in_a_set() {
    let pattern = Pattern::parse_with("tenant/*/user/{vips}/model/*", &sets()).unwrap();
    let is_in = |path: &str| pattern.is_in(&Subject::parse(path).unwrap());
    assert!(is_in("tenant/acme/user/{vips}") && is_in("tenant/acme"));
    assert!(is_in("tenant/acme/user/{vips}/model/opus"));
    assert!(!is_in("tenant/acme/user/v1") && !is_in("tenant/acme/user/{slow}"));
    let named: Vec<_> = pattern.sets().collect();
    assert_eq!(named, [(Dimension::User, "vips")]);
    assert_eq!(pattern.named(Dimension::User), None);
    assert!(pattern.takes(Dimension::User, "v1") && !pattern.takes(Dimension::User, "w"));
    let inside = Subject::parse("tenant/a/user/{vips}/model/{slow}").unwrap();
    let paths: Vec<&str> = inside.path_and_above().collect();
    assert_eq!(paths, [inside.as_str(), "tenant/a/user/{vips}", "tenant/a"]);
    assert_eq!(inside.id(Dimension::User), None);
}

#[test]
fn a_pattern_names_sets_that_are_there() {
    let check = |text: &str, expected: &str| {
        let error = Pattern::parse_with(text, &sets()).unwrap_err();
        assert_eq!(error.to_string(), expected);
        let subject = Subject::parse(text).unwrap();
        assert_eq!(sets().check(&subject), Err(error));
    };
    check("model/{slw}", "the policy has no set `slw`");
    check(
        "tenant/a/user/{slow}",
        "`slow` is a set of ids of `model`, and cannot stand for a `user`",
    );
    assert!(Pattern::parse("model/{slow}").is_err());
    let subject = Subject::parse("tenant/a/user/{vips}/model/{slow}").unwrap();
    assert_eq!(sets().check(&subject), Ok(()));
    let stray = |text: &str| Pattern::parse_with(text, &sets()).unwrap().stray_brace();
    assert_eq!(stray("tenant/a/model/{slow"), Some(Dimension::Model));
    assert_eq!(stray("model/{slow}*"), Some(Dimension::Model));
    assert_eq!(stray("tenant/{slow}"), Some(Dimension::Tenant));
    assert_eq!(stray("tenant/*/model/{slow}"), None);
    assert_eq!(stray("model/%7Bslow}"), None);
    assert_eq!(stray("platform"), None);
}

#[test]
fn a_set_takes_ids_as_patterns_do() {
    let error = |id: &str| IdSet::new(Dimension::User).add(id).unwrap_err();
    assert_eq!(error(""), SubjectError::MissingId("user"));
    assert_eq!(error("a/b"), SubjectError::BadId("user"));
    assert_eq!(error("a*b"), SubjectError::BadId("user"));
    assert_eq!(error("a%"), SubjectError::BadId("user"));
    assert_eq!(error("{slow}"), SubjectError::NestedSet("slow".to_owned()));
    let all = set(Dimension::User, &["*"]);
    assert!(all.contains("u") && all.contains("{slow}"));
    assert!(!set(Dimension::User, &[]).contains("u"));
}

proptest! {
    /// However ids begin with one another, they are found as by looking at each.
    #[test]
    fn finds_as_a_list_does(
        ids in prop::collection::vec("[ab]{0,3}\\*?", 0..8),
        sought in "[ab]{0,5}",
    ) {
        let ids: Vec<&str> = ids.iter().map(String::as_str).filter(|id| !id.is_empty()).collect();
        let is_it = |id: &&str| match id.strip_suffix('*') {
            Some(start) => sought.starts_with(start),
            None => *id == sought,
        };
        let found = set(Dimension::User, &ids);
        prop_assert_eq!(found.contains(&sought), ids.iter().any(is_it));
        prop_assert_eq!(found.ids(), ids);
    }

    #[test]
    fn any_id_is_told_from_any_set(id in "[{}a%/*]{1,5}") {
        let identity = model(&id);
        let subject = Pattern::parse("model/*").unwrap().subject_of(&identity).unwrap();
        let read = Subject::parse(subject.as_str()).unwrap();
        prop_assert_eq!(read.parts(), [(Dimension::Model, Named::Id(id))]);
    }
}
