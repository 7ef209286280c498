use schemas::subject::Identity;

use super::*;

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_seconds(seconds)
}

fn decision(subject: &str, seq: i64, until: Option<i64>) -> Standing {
    Standing {
        id: format!("{subject}#{seq}"),
        subject: Subject::parse(subject).unwrap(),
        verdict: Verdict::Block,
        causes: Vec::new(),
        status: 429,
        until: until.map(at),
        terminal: false,
        seq,
        issued_at: at(0),
        fresh_until: at(60),
    }
}

const CALLER: Identity<'static> = Identity {
    tenant: Some("acme"),
    key: Some("k/1"),
    user: None,
    account: None,
    source: Some("192.0.2.1"),
    fingerprint: None,
    action: None,
    provider: None,
    model: None,
    route: Some("GET /a"),
};

/// Steps: `+subject#seq@offset[<until]` puts, `-subject@offset` lifts; expected: ids found for [`CALLER`] at 10.
#[track_caller]
fn check(script: &[&str], expected: &[&str]) {
    let (cache, hasher) = (Cache::default(), Hasher::new([7, 8]));
    for step in script {
        let (what, rest) = step.split_at(1);
        let (subject, offset) = rest.rsplit_once('@').unwrap();
        if what == "-" {
            let subject = Subject::parse(subject).unwrap();
            cache.lift(&hasher, &subject, offset.parse().unwrap());
            continue;
        }
        let (subject, seq) = subject.rsplit_once('#').unwrap();
        let (offset, until) = offset.split_once('<').unwrap_or((offset, ""));
        let standing = decision(subject, seq.parse().unwrap(), until.parse().ok());
        cache.put(&hasher, standing, offset.parse().unwrap(), at(0));
    }
    let shapes = cache.shapes();
    let hashes = hasher.identity(&CALLER, shapes.dimensions);
    let mut found = Vec::new();
    cache.find(&shapes, &hashes, at(10), |s| found.push(s.id.clone()));
    found.sort();
    assert_eq!(found, expected);
}

#[test]
fn finds_what_stands_for_any_subject_of_a_request() {
    check(&[], &[]);
    check(&["+platform#1@0"], &["platform#1"]);
    check(
        &["+tenant/acme#1@0", "+tenant/other#1@0"],
        &["tenant/acme#1"],
    );
    check(
        &["+tenant/acme/key/k%2F1#1@0"],
        &["tenant/acme/key/k%2F1#1"],
    );
    check(
        &["+tenant/acme/key/k#1@0", "+tenant/acme/user/k%2F1#1@0"],
        &[],
    );
    check(&["+source/192.0.2.1#1@0"], &["source/192.0.2.1#1"]);
    check(
        &[
            "+tenant/acme/source/192.0.2.1/route/GET /a#4@0",
            "+tenant/acme#1@1",
        ],
        &[
            "tenant/acme#1",
            "tenant/acme/source/192.0.2.1/route/GET /a#4",
        ],
    );
}

#[test]
fn the_newest_stands() {
    check(
        &["+tenant/acme#1@0", "+tenant/acme#2@1"],
        &["tenant/acme#2"],
    );
    check(
        &["+tenant/acme#2@0", "+tenant/acme#1@1"],
        &["tenant/acme#2"],
    );
    check(
        &["+tenant/acme#1@0", "+tenant/acme#1@0"],
        &["tenant/acme#1"],
    );
}

#[test]
fn lifts() {
    check(&["+tenant/acme#1@0", "-tenant/acme@1"], &[]);
    check(&["+tenant/acme#1@5", "-tenant/acme@4"], &["tenant/acme#1"]);
    check(&["-tenant/acme@4", "+tenant/acme#1@5"], &["tenant/acme#1"]);
    check(
        &["+tenant/acme#9@0", "-tenant/acme@1", "+tenant/acme#1@2"],
        &["tenant/acme#1"],
    );
}

#[test]
fn ends_by_itself() {
    check(&["+tenant/acme#1@0<11"], &["tenant/acme#1"]);
    check(&["+tenant/acme#1@0<10"], &[]);
    // A newer one that has already ended still ends the older one.
    check(&["+tenant/acme#1@0", "+tenant/acme#2@1<0"], &[]);
    check(&["+tenant/acme#1@0<0"], &[]);
}

#[test]
fn keeps_nothing_of_what_ended_or_was_lifted() {
    let (cache, hasher) = (Cache::default(), Hasher::new([7, 8]));
    for n in 0..500 {
        let subject = format!("tenant/t{n}");
        cache.put(&hasher, decision(&subject, 1, Some(5)), n, at(0));
    }
    cache.put(&hasher, decision("source/192.0.2.9", 1, None), 500, at(0));
    assert_eq!((cache.len(), cache.shapes().list.len()), (501, 2));
    (0..SHARDS).for_each(|shard| cache.sweep(shard, at(5)));
    assert_eq!((cache.len(), cache.shapes().list.len()), (1, 1));
    let source = Subject::parse("source/192.0.2.9").unwrap();
    assert!(cache.get(&hasher, &source, at(5)).is_some());
    assert_eq!(cache.lift(&hasher, &source, 501), Applied::Lifted);
    assert_eq!(cache.lift(&hasher, &source, 502), Applied::Ignored);
    assert!(cache.is_empty() && cache.shapes().list.is_empty());
    assert_eq!(cache.get(&hasher, &source, at(5)), None);
}

#[test]
fn owes_a_word_only_when_it_lasts_longer() {
    let lasting = decision("platform", 1, None);
    assert_eq!(lasting.overdue(at(60)), None);
    assert_eq!(
        lasting.overdue(at(61)),
        Some(std::time::Duration::from_secs(1))
    );
    assert_eq!(decision("platform", 1, Some(61)).overdue(at(61)), None);
    assert!(decision("platform", 1, Some(90)).overdue(at(61)).is_some());
}
