//! The history on SQLite; `tests` of the workspace run the whole of Weir on PostgreSQL as well.

use schemas::orders::Numbers;
use schemas::policy::{Meter, Mode, Window};
use sqlx::any::AnyPoolOptions;
use tempfile::TempDir;

use super::*;
use crate::command::{Action, Command, State};
use crate::decision::{Cause, Origin, Verdict};

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_seconds(seconds)
}

async fn open() -> (Store, TempDir) {
    sqlx::any::install_default_drivers();
    let folder = tempfile::tempdir().unwrap();
    let url = format!("sqlite://{}/store.db?mode=rwc", folder.path().display());
    let pool = AnyPoolOptions::new().connect(&url).await.unwrap();
    (Store::open(pool).await.unwrap(), folder)
}

fn decision(subject: &str, id: &str, seq: i64, until: i64) -> Decision {
    Decision {
        id: id.to_owned(),
        subject: Subject::parse(subject).unwrap(),
        verdict: Verdict::Block,
        causes: vec![Cause {
            limit: "rpm".to_owned(),
            policy_version: 3,
            meter: Meter::Cost,
            window: Window::Sliding { seconds: 60 },
            mode: Mode::Block,
            verdict: Verdict::Block,
            used: i128::MAX,
            max: 7,
            reset_at: Some(at(until)),
            crossing: "c".to_owned(),
            origin: Origin {
                topic: "t".to_owned(),
                partition: 1,
                offset: 2,
            },
        }],
        status: Some(429),
        until: Some(at(until)),
        terminal: false,
        seq,
        issued_at: at(seq),
        ttl_seconds: 300,
    }
}

/// `SUBJECT ID SEQ UNTIL` says a decision of a tenant, `SUBJECT lifted AT` lifts it; each at its place in the log.
fn entries(log: &[&str]) -> Vec<Entry> {
    let entry = |(offset, text): (usize, &&str)| {
        let words: Vec<&str> = text.split(' ').collect();
        let subject = format!("tenant/{}", words[0]);
        let said = match words[1..] {
            ["lifted", second] => Said::Lifted {
                subject: Subject::parse(&subject).unwrap(),
                at: at(second.parse().unwrap()),
            },
            [id, seq, until] => {
                let (seq, until) = (seq.parse().unwrap(), until.parse().unwrap());
                Said::Put(decision(&subject, id, seq, until))
            }
            _ => panic!("neither said nor lifted: {text}"),
        };
        let offset = i64::try_from(offset).unwrap();
        Entry { said, offset }
    };
    log.iter().enumerate().map(entry).collect()
}

fn show(listed: &Listed, now: Timestamp) -> String {
    let stands = if listed.stands_at(now) {
        "stands"
    } else {
        "stood"
    };
    let lifted = listed
        .lifted_at
        .map_or(String::new(), |at| format!(" to {}", at.second()));
    let (subject, id) = (&listed.subject, &listed.id);
    format!(
        "{subject} {id} {stands} from {}{lifted}",
        listed.issued_at.second()
    )
}

async fn list(store: &Store, filter: Filter, now: i64) -> Vec<String> {
    let filter = Filter {
        limit: if filter.limit == 0 { 100 } else { filter.limit },
        ..filter
    };
    let listed = store.list(&filter, at(now)).await.unwrap();
    listed.iter().map(|listed| show(listed, at(now))).collect()
}

#[track_caller]
fn check(log: &[&str], now: i64, expected: &[&str]) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let (once, twice) = runtime.block_on(async {
        let (store, _folder) = open().await;
        let entries = entries(log);
        store.record(&entries).await.unwrap();
        let once = list(&store, Filter::default(), now).await;
        // The log again, from anywhere.
        for from in 0..entries.len() {
            store.record(&entries[from..]).await.unwrap();
        }
        (once, list(&store, Filter::default(), now).await)
    });
    assert_eq!(once, expected);
    assert_eq!(twice, expected, "after a replay");
}

#[test]
fn keeps_what_stood_and_when() {
    check(&[], 0, &[]);
    check(&["a x 10 60"], 20, &["tenant/a x stands from 10"]);
    check(&["a x 10 60"], 60, &["tenant/a x stood from 10"]);
    check(
        &["a x 10 60", "a lifted 30"],
        40,
        &["tenant/a x stood from 10 to 30"],
    );
    check(
        &["a x 10 60", "a y 20 80"],
        30,
        &[
            "tenant/a y stands from 20",
            "tenant/a x stood from 10 to 20",
        ],
    );
    check(
        &["a x 10 60", "a lifted 30", "a x 40 90"],
        50,
        &[
            "tenant/a x stands from 40",
            "tenant/a x stood from 10 to 30",
        ],
    );
    check(
        &["a x 10 900", "b y 20 30", "a x 150 900", "b lifted 30"],
        200,
        &[
            "tenant/a x stands from 10",
            "tenant/b y stood from 20 to 30",
        ],
    );
}

#[test]
fn the_same_causes_with_another_end_are_another_row() {
    check(
        &["a x 10 60", "a x 20 80"],
        30,
        &[
            "tenant/a x stands from 20",
            "tenant/a x stood from 10 to 20",
        ],
    );
}

#[test]
fn an_older_word_changes_nothing() {
    check(
        &["a y 20 80", "a x 10 60"],
        30,
        &["tenant/a y stands from 20"],
    );
}

#[tokio::test]
async fn finds_by_subject_tenant_and_standing_and_pages() {
    let (store, _folder) = open().await;
    let log = ["a x 10 60", "a/key/k y 20 60", "ab z 30 60", "b w 40 45"];
    store.record(&entries(&log)).await.unwrap();
    let of = |subject: &str| Filter {
        subject: Some(subject.to_owned()),
        ..Filter::default()
    };
    let (a, key) = (
        "tenant/a x stands from 10",
        "tenant/a/key/k y stands from 20",
    );
    assert_eq!(list(&store, of("tenant/a"), 50).await, [key, a]);
    assert_eq!(list(&store, of("tenant/a/key/k"), 50).await, [key]);
    assert_eq!(list(&store, of("tenant/a/key/other"), 50).await, [""; 0]);
    let own = Filter {
        tenant: Some("a".to_owned()),
        ..Filter::default()
    };
    assert_eq!(list(&store, own, 50).await, [key, a]);
    let standing = |standing| Filter {
        standing: Some(standing),
        ..Filter::default()
    };
    assert_eq!(list(&store, standing(true), 50).await.len(), 3);
    assert_eq!(
        list(&store, standing(false), 50).await,
        ["tenant/b w stood from 40"]
    );
    let mut seen = Vec::new();
    let mut after = None;
    loop {
        let filter = Filter {
            after: after.clone(),
            limit: 1,
            ..Filter::default()
        };
        let page = store.list(&filter, at(50)).await.unwrap();
        let Some(last) = page.last() else { break };
        after = Some(Cursor {
            ended: !last.stands_at(at(50)),
            seq: last.seq,
            subject: last.subject.clone(),
        });
        seen.push(last.id.clone());
    }
    assert_eq!(seen, ["z", "y", "x", "w"]);
}

#[tokio::test]
async fn gives_a_decision_by_its_id_as_it_was_said_last() {
    let (store, _folder) = open().await;
    store
        .record(&entries(&["a x 10 60", "a x 20 80"]))
        .await
        .unwrap();
    let listed = store.get("x").await.unwrap().unwrap();
    assert_eq!((listed.seq, listed.body.until), (20, Some(at(80))));
    assert_eq!(listed.body, Body::of(&decision("tenant/a", "x", 20, 80)));
    assert_eq!(listed.body.causes[0].used, i128::MAX);
    assert_eq!(store.get("z").await.unwrap(), None);
}

#[tokio::test]
async fn forgets_only_what_was_lifted_long_ago() {
    let (store, _folder) = open().await;
    let log = [
        "a x 10 60",
        "a lifted 30",
        "b y 10 60",
        "b lifted 50",
        "c z 10 60",
    ];
    store.record(&entries(&log)).await.unwrap();
    assert_eq!(store.forget(at(50)).await.unwrap(), 1);
    assert_eq!(
        list(&store, Filter::default(), 55).await,
        [
            "tenant/c z stands from 10",
            "tenant/b y stood from 10 to 50"
        ]
    );
}

#[tokio::test]
async fn of_two_records_with_one_id_the_first_is_obeyed() {
    let (store, _folder) = open().await;
    let at = |partition, offset| Origin {
        topic: "t".to_owned(),
        partition,
        offset,
    };
    for (id, origin, expected) in [
        ("a", at(1, 5), true),
        // Read again after a crash.
        ("a", at(1, 5), true),
        ("a", at(1, 9), false),
        ("a", at(2, 5), false),
        ("b", at(1, 9), true),
        ("a", at(1, 5), true),
    ] {
        let is_first = store.is_first(id, &origin).await.unwrap();
        assert_eq!(is_first, expected, "{id} {origin:?}");
    }
}

/// `ID KIND SUBJECT [REQUEST]`, a second from one to the next.
async fn give(store: &Store, trail: &[&str]) {
    let command = |(second, text): (i64, &&str)| {
        let words: Vec<&str> = text.split(' ').collect();
        let limit = "rpm".to_owned();
        let request = || words[3].to_owned();
        let numbers = Numbers {
            hard: Some(7),
            ..Numbers::default()
        };
        let action = match words[1] {
            "ask" => Action::Ask { limit, numbers },
            "approve" => Action::Approve {
                request: request(),
                limit,
                numbers,
            },
            "decline" => Action::Decline {
                request: request(),
                limit,
            },
            other => panic!("{other}"),
        };
        Command {
            id: words[0].to_owned(),
            subject: Subject::parse(words[2]).unwrap(),
            at: at(second),
            actor: "a".to_owned(),
            reason: text.to_string(),
            until: Some(at(100)),
            action,
        }
    };
    let commands: Vec<Command> = (1..).zip(trail).map(command).collect();
    store.record_commands(&commands).await.unwrap();
}

#[tokio::test]
async fn a_request_is_listed_with_its_answer() {
    let (store, _folder) = open().await;
    give(
        &store,
        &[
            "r1 ask tenant/a",
            "r2 ask tenant/a/user/u",
            "r3 ask tenant/b",
            "answer-r1 decline tenant/a r1",
            "answer-r3 approve tenant/b r3",
            // Of two answers the first counts.
            "answer-r1 approve tenant/a r1",
        ],
    )
    .await;
    let list = async |tenant: Option<&str>, state: Option<State>| {
        let filter = GivenFilter {
            tenant: tenant.map(str::to_owned),
            limit: 9,
            ..GivenFilter::default()
        };
        let requests = store.requests(&filter, state).await.unwrap();
        let shown = requests.iter().map(|asked| match &asked.answer {
            None => asked.request.id.clone(),
            Some(answer) => format!("{} {:?}", asked.request.id, answer.state),
        });
        shown.collect::<Vec<_>>().join(", ")
    };
    assert_eq!(list(None, None).await, "r3 Approved, r2, r1 Declined");
    assert_eq!(list(Some("a"), None).await, "r2, r1 Declined");
    assert_eq!(list(Some("a"), Some(State::Open)).await, "r2");
    assert_eq!(list(None, Some(State::Approved)).await, "r3 Approved");
    assert_eq!(list(Some("c"), None).await, "");
    assert_eq!(store.asked_last("a").await.unwrap(), at(2));
    assert_eq!(store.asked_last("c").await.unwrap(), at(0));
}
