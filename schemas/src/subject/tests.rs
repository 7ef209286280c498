mod sets;

use proptest::prelude::*;

use super::*;

#[track_caller]
fn check(path: &str, parts: &[(Dimension, &str)]) {
    let subject = Subject::parse(path).unwrap();
    let id = |id: &str| Named::Id(id.to_owned());
    let expected: Vec<_> = parts.iter().map(|(d, own)| (*d, id(own))).collect();
    assert_eq!(subject.parts(), expected);
    assert_eq!(subject.as_str(), path);
}

#[test]
fn reads_paths() {
    use Dimension::*;
    check("platform", &[]);
    check("tenant/acme", &[(Tenant, "acme")]);
    check("tenant/acme/key/k_1", &[(Tenant, "acme"), (Key, "k_1")]);
    check("tenant/a%2Fb/user/50%25", &[(Tenant, "a/b"), (User, "50%")]);
    check(
        "tenant/acme/route/POST /v1/chat",
        &[(Tenant, "acme"), (Route, "POST /v1/chat")],
    );
    check("tenant/acme/route//", &[(Tenant, "acme"), (Route, "/")]);
}

#[test]
fn refuses_what_is_no_subject() {
    let error = |path| Subject::parse(path).unwrap_err();
    assert_eq!(error(""), SubjectError::Empty);
    assert_eq!(
        error("tenants/acme"),
        SubjectError::UnknownDimension("tenants".into())
    );
    assert_eq!(error("tenant"), SubjectError::MissingId("tenant"));
    assert_eq!(error("tenant/"), SubjectError::MissingId("tenant"));
    assert_eq!(error("tenant//key/k"), SubjectError::MissingId("tenant"));
    assert_eq!(error("tenant/acme/key"), SubjectError::MissingId("key"));
    assert_eq!(error("tenant/*"), SubjectError::BadId("tenant"));
    assert_eq!(error("tenant/a%2fb"), SubjectError::BadId("tenant"));
    assert_eq!(error("tenant/a%41"), SubjectError::BadId("tenant"));
    assert_eq!(
        error("key/k/tenant/acme"),
        SubjectError::Order("tenant", "key")
    );
    assert_eq!(
        error("tenant/a/tenant/b"),
        SubjectError::Order("tenant", "tenant")
    );
    assert_eq!(
        error(&format!("tenant/{}", "x".repeat(257))),
        SubjectError::IdTooLong("tenant")
    );
}

fn acme() -> Identity<'static> {
    Identity {
        tenant: Some("acme"),
        user: Some("u/9"),
        model: Some("meta/llama"),
        route: Some("POST /v1/chat"),
        ..Identity::default()
    }
}

#[track_caller]
fn check_pattern(pattern: &str, expected: Option<&str>) {
    let pattern = Pattern::parse(pattern).unwrap();
    let subject = pattern.subject_of(&acme());
    assert_eq!(subject.as_ref().map(Subject::as_str), expected);
    assert!(subject.is_none_or(|s| pattern.accepts(&Subject::parse(s.as_str()).unwrap())));
}

#[test]
fn patterns_name_the_subject_of_an_identity() {
    check_pattern("platform", Some("platform"));
    check_pattern("tenant/*", Some("tenant/acme"));
    check_pattern("tenant/acme", Some("tenant/acme"));
    check_pattern("tenant/other", None);
    check_pattern("tenant/*/key/*", None);
    check_pattern("tenant/*/user/*", Some("tenant/acme/user/u%2F9"));
    check_pattern(
        "tenant/*/user/*/model/meta/llama",
        Some("tenant/acme/user/u%2F9/model/meta/llama"),
    );
    check_pattern(
        "tenant/*/route/POST /v1/*",
        Some("tenant/acme/route/POST /v1/chat"),
    );
    check_pattern("tenant/*/route/GET *", None);
    check_pattern("model/*", Some("model/meta/llama"));
}

#[test]
fn a_subject_lies_in_others() {
    let check = |path: &str, expected: &[&str]| {
        let subject = Subject::parse(path).unwrap();
        let paths: Vec<&str> = subject.path_and_above().collect();
        assert_eq!(paths, expected);
    };
    check("platform", &["platform"]);
    check("tenant/acme", &["tenant/acme"]);
    check("source/1.2.3.4", &["source/1.2.3.4"]);
    let chat = "tenant/a%2Fb/user/u/route/POST /v1/chat";
    check(chat, &[chat, "tenant/a%2Fb/user/u", "tenant/a%2Fb"]);
}

#[test]
fn a_pattern_accepts_its_own_dimensions_only() {
    let pattern = Pattern::parse("tenant/*/user/*").unwrap();
    assert!(pattern.accepts(&Subject::parse("tenant/a/user/b").unwrap()));
    assert!(!pattern.accepts(&Subject::parse("tenant/a").unwrap()));
    assert!(!pattern.accepts(&Subject::parse("tenant/a/key/b").unwrap()));
    assert!(Pattern::parse("source/*").unwrap().is_wider_than_tenant());
    assert!(Pattern::parse("platform").unwrap().is_wider_than_tenant());
    assert!(!pattern.is_wider_than_tenant());
}

#[test]
fn a_pattern_has_subjects_in_others() {
    let check = |pattern: &str, path: &str, expected: bool| {
        let (pattern, subject) = (
            Pattern::parse(pattern).unwrap(),
            Subject::parse(path).unwrap(),
        );
        assert_eq!(pattern.is_in(&subject), expected, "{pattern} {subject}");
    };
    check("tenant/*/user/*", "tenant/a", true);
    check("tenant/*/user/*", "tenant/a/user/u", true);
    check("tenant/b/user/*", "tenant/a", false);
    check("tenant/*/user/*", "tenant/a/key/k", false);
    check("tenant/*", "tenant/a/user/u", false);
    check("tenant/*", "platform", false);
    check("platform", "platform", true);
}

#[test]
fn a_pattern_tells_which_ids_it_is_about() {
    let pattern = Pattern::parse("tenant/a%2Fb/route/POST *").unwrap();
    assert_eq!(pattern.named(Dimension::Tenant), Some("a/b"));
    assert_eq!(pattern.named(Dimension::Route), None);
    assert!(pattern.takes(Dimension::Tenant, "a/b") && !pattern.takes(Dimension::Tenant, "a"));
    assert!(pattern.takes(Dimension::Route, "POST /v1") && !pattern.takes(Dimension::Key, "k"));
}

proptest! {
    #[test]
    fn any_id_makes_a_path_that_reads_back(tenant in ".{1,40}", user in ".{1,40}") {
        let identity = Identity { tenant: Some(&tenant), user: Some(&user), ..Identity::default() };
        let subject = Pattern::parse("tenant/*/user/*").unwrap().subject_of(&identity).unwrap();
        let read = Subject::parse(subject.as_str()).unwrap();
        prop_assert_eq!(read.id(Dimension::Tenant), Some(tenant.clone()));
        prop_assert_eq!(read.id(Dimension::User), Some(user.clone()));
        prop_assert_eq!(read.partition_key(), tenant);
    }
}
