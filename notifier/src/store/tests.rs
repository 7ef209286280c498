//! The outbox on SQLite; `tests` of the workspace run the whole notifier on PostgreSQL as well.

use schemas::subject::Subject;
use sqlx::any::AnyPoolOptions;
use tempfile::TempDir;

use super::*;
use crate::alert::Kind;
use crate::alert::testing::alert;
use crate::route::{Listener, Rules, TenantPattern};

const LEASE: Duration = Duration::from_secs(30);

struct Outbox {
    store: Store,
    rules: Rules,
    _folder: TempDir,
}

impl Outbox {
    async fn open(channels: &[&str], messages_max: usize) -> Self {
        sqlx::any::install_default_drivers();
        let folder = tempfile::tempdir().unwrap();
        let url = format!("sqlite://{}/store.db?mode=rwc", folder.path().display());
        let pool = AnyPoolOptions::new().connect(&url).await.unwrap();
        let listener = |channel: &&str| Listener {
            channel: (*channel).to_owned(),
            tenants: vec![TenantPattern::Any],
            kinds: Kind::ALL.to_vec(),
            messages_max,
        };
        Self {
            store: Store::open(pool).await.unwrap(),
            rules: Rules {
                listeners: channels.iter().map(listener).collect(),
                alert_age_max: Duration::from_secs(86_400),
                flood_window: Duration::from_secs(3_600),
            },
            _folder: folder,
        }
    }

    /// One alert that happens and is stored at `now`; what became of it on the first channel.
    async fn hear(&self, id: &str, now: i64) -> String {
        let alerts = [alert(id, at(now))];
        let recorded = self
            .store
            .record(&alerts, &self.rules, at(now))
            .await
            .unwrap();
        match &recorded[0] {
            Recorded::Repeated => "repeated".to_owned(),
            Recorded::New(plans) => match plans.first().map(|(_, plan)| plan) {
                None => "unheard".to_owned(),
                Some(Plan::Send) => "send".to_owned(),
                Some(Plan::Join { digest }) => format!("join {digest}"),
                Some(Plan::Open { due, .. }) => format!("open {}", due.second()),
                Some(Plan::Suppress { reason }) => (*reason).to_owned(),
            },
        }
    }

    async fn claim(&self, now: i64) -> Vec<Job> {
        self.store.claim("ops", LEASE, 10, at(now)).await.unwrap()
    }

    async fn states(&self) -> Vec<(String, String, i64)> {
        let listed = self
            .store
            .list(&Filter {
                limit: 100,
                ..Filter::default()
            })
            .await
            .unwrap();
        let states = listed.into_iter().flat_map(|listed| {
            let id = listed.alert.id;
            let state = move |d: Delivery| (id.clone(), d.state, d.attempts);
            listed.deliveries.into_iter().map(state)
        });
        states.collect()
    }
}

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_seconds(seconds)
}

fn names(jobs: &[Job]) -> Vec<&str> {
    jobs.iter().map(|job| job.message.as_str()).collect()
}

#[tokio::test]
async fn an_alert_is_stored_once() {
    let outbox = Outbox::open(&["ops", "mail"], 20).await;
    assert_eq!(outbox.hear("a", 10).await, "send");
    assert_eq!(outbox.hear("a", 11).await, "repeated");
    assert_eq!(names(&outbox.claim(12).await), ["a"]);
    assert_eq!(outbox.store.pending().await.unwrap(), 2);
    let stored = outbox.store.alert("a").await.unwrap();
    assert_eq!(stored, Some(alert("a", at(10))));
    assert_eq!(outbox.store.alert("b").await.unwrap(), None);
}

#[tokio::test]
async fn an_alert_that_nobody_hears_is_kept() {
    let outbox = Outbox::open(&[], 20).await;
    assert_eq!(outbox.hear("a", 10).await, "unheard");
    let listed = outbox
        .store
        .list(&Filter {
            limit: 1,
            ..Filter::default()
        })
        .await
        .unwrap();
    assert_eq!(listed.len(), 1);
    assert_eq!(listed[0].deliveries, []);
}

#[tokio::test]
async fn a_leased_row_is_nobody_elses_until_the_lease_ends() {
    let outbox = Outbox::open(&["ops"], 20).await;
    outbox.hear("a", 10).await;
    let first = outbox.claim(10).await;
    assert_eq!(names(&first), ["a"]);
    assert_eq!(outbox.claim(39).await, []);
    let second = outbox.claim(40).await;
    assert_eq!(names(&second), ["a"]);
    // The first holder comes back too late: its word no longer counts.
    assert!(
        !outbox
            .store
            .settle(&first[0], &Ending::Sent, at(41))
            .await
            .unwrap()
    );
    assert!(
        outbox
            .store
            .settle(&second[0], &Ending::Sent, at(42))
            .await
            .unwrap()
    );
    assert!(
        !outbox
            .store
            .settle(&second[0], &Ending::Sent, at(43))
            .await
            .unwrap()
    );
    assert_eq!(outbox.claim(100).await, []);
    assert_eq!(
        outbox.states().await,
        [("a".to_owned(), "sent".to_owned(), 1)]
    );
}

#[tokio::test]
async fn two_notifiers_that_ask_at_once_share_the_work() {
    let outbox = Outbox::open(&["ops"], 20).await;
    for n in 0..10 {
        outbox.hear(&format!("a{n}"), 10).await;
    }
    let (left, right) = tokio::join!(outbox.claim(11), outbox.claim(11));
    let mut all = names(&left);
    all.extend(names(&right));
    all.sort_unstable();
    all.dedup();
    assert_eq!(all.len(), 10);
    assert_eq!(left.len() + right.len(), 10);
}

#[tokio::test]
async fn a_failed_try_is_due_again_or_failed_for_good() {
    let outbox = Outbox::open(&["ops"], 20).await;
    outbox.hear("a", 10).await;
    let job = outbox.claim(10).await.remove(0);
    let again = Ending::Again {
        at: at(60),
        error: "down".to_owned(),
    };
    assert!(outbox.store.settle(&job, &again, at(12)).await.unwrap());
    assert_eq!(outbox.claim(59).await, []);
    let job = outbox.claim(60).await.remove(0);
    assert_eq!((job.attempts, job.queued_at), (1, at(10)));
    let failed = Ending::Failed {
        error: "gone".to_owned(),
    };
    assert!(outbox.store.settle(&job, &failed, at(61)).await.unwrap());
    assert_eq!(outbox.claim(1_000_000).await, []);
    assert_eq!(
        outbox.states().await,
        [("a".to_owned(), "failed".to_owned(), 2)]
    );
}

#[tokio::test]
async fn a_flood_becomes_one_digest() {
    let outbox = Outbox::open(&["ops"], 2).await;
    assert_eq!(outbox.hear("a", 10).await, "send");
    assert_eq!(outbox.hear("b", 11).await, "send");
    assert_eq!(outbox.hear("c", 12).await, "open 3610");
    assert_eq!(outbox.hear("d", 13).await, "join digest/c");
    assert_eq!(names(&outbox.claim(3_609).await), ["a", "b"]);
    let digest = outbox.claim(3_610).await;
    assert_eq!(names(&digest), ["digest/c"]);
    assert_eq!(digest[0].form, Form::Digest);
    let (alerts, count) = outbox.store.folded("digest/c", "ops").await.unwrap();
    let ids: Vec<&str> = alerts.iter().map(|alert| alert.id.as_str()).collect();
    assert_eq!((ids, count), (vec!["c", "d"], 2));
    assert_eq!(outbox.hear("e", 3_610).await, "open 3611");
}

#[tokio::test]
async fn a_batch_is_folded_like_single_alerts() {
    let outbox = Outbox::open(&["ops"], 1).await;
    let alerts: Vec<Alert> = ["a", "b", "c", "a"].map(|id| alert(id, at(5))).to_vec();
    let recorded = outbox
        .store
        .record(&alerts, &outbox.rules, at(10))
        .await
        .unwrap();
    assert_eq!(recorded[3], Recorded::Repeated);
    let (_, count) = outbox.store.folded("digest/b", "ops").await.unwrap();
    assert_eq!(count, 2);
}

#[tokio::test]
async fn an_old_alert_is_kept_and_not_sent() {
    let outbox = Outbox::open(&["ops"], 2).await;
    let old = [alert("a", at(0))];
    outbox
        .store
        .record(&old, &outbox.rules, at(86_401))
        .await
        .unwrap();
    assert_eq!(outbox.claim(1_000_000).await, []);
    let listed = outbox
        .store
        .list(&Filter {
            limit: 1,
            ..Filter::default()
        })
        .await
        .unwrap();
    let delivery = &listed[0].deliveries[0];
    assert_eq!(delivery.state, "suppressed");
    assert_eq!(delivery.error.as_deref(), Some("too old"));
    // It took no slot.
    assert_eq!(outbox.hear("b", 86_402).await, "send");
    assert_eq!(outbox.hear("c", 86_403).await, "send");
}

#[tokio::test]
async fn what_waits_for_a_removed_channel_has_failed() {
    let outbox = Outbox::open(&["ops", "old"], 20).await;
    outbox.hear("a", 10).await;
    assert_eq!(outbox.store.fail_strays(&["ops"], at(11)).await.unwrap(), 1);
    assert_eq!(outbox.store.fail_strays(&["ops"], at(11)).await.unwrap(), 0);
    assert_eq!(outbox.store.pending().await.unwrap(), 1);
}

#[tokio::test]
async fn forgets_what_is_old_and_done() {
    let outbox = Outbox::open(&["ops"], 20).await;
    outbox.hear("done", 10).await;
    let job = outbox.claim(10).await.remove(0);
    outbox
        .store
        .settle(&job, &Ending::Sent, at(11))
        .await
        .unwrap();
    outbox.hear("waits", 12).await;
    outbox.hear("young", 500).await;
    outbox.store.forget(at(400)).await.unwrap();
    let left: Vec<String> = outbox
        .states()
        .await
        .into_iter()
        .map(|(id, ..)| id)
        .collect();
    assert_eq!(left, ["young", "waits"]);
}

/// Ids in the order listed, for a filter.
#[track_caller]
fn check_ids(listed: &[Listed], expected: &[&str]) {
    let ids: Vec<&str> = listed
        .iter()
        .map(|listed| listed.alert.id.as_str())
        .collect();
    assert_eq!(ids, expected);
}

#[tokio::test]
async fn lists_newest_first_in_pages() {
    let outbox = Outbox::open(&["ops", "mail"], 20).await;
    for (id, now) in [("a", 10), ("b", 20), ("c", 20), ("d", 15)] {
        outbox.hear(id, now).await;
    }
    let page = |after, limit| Filter {
        after,
        limit,
        ..Filter::default()
    };
    let first = outbox.store.list(&page(None, 3)).await.unwrap();
    check_ids(&first, &["c", "b", "d"]);
    let after = Cursor {
        at: at(15),
        id: "d".to_owned(),
    };
    let second = outbox.store.list(&page(Some(after), 3)).await.unwrap();
    check_ids(&second, &["a"]);
    let channels: Vec<&str> = second[0]
        .deliveries
        .iter()
        .map(|d| d.channel.as_str())
        .collect();
    assert_eq!(channels, ["mail", "ops"]);
}

#[tokio::test]
async fn lists_by_subject_and_kind() {
    let outbox = Outbox::open(&["ops"], 20).await;
    for (id, subject) in [
        ("a", "tenant/acme"),
        ("b", "tenant/acme/user/u%2F1"),
        ("c", "tenant/acme2"),
        ("d", "platform"),
    ] {
        let subject = Subject::parse(subject).unwrap();
        let tenant = subject.tenant_id();
        let alerts = [Alert {
            subject,
            tenant,
            ..alert(id, at(10))
        }];
        outbox
            .store
            .record(&alerts, &outbox.rules, at(10))
            .await
            .unwrap();
    }
    let filter = |subject: Option<&str>, kind, tenant: Option<&str>| Filter {
        subject: subject.map(str::to_owned),
        kind,
        tenant: tenant.map(str::to_owned),
        limit: 10,
        ..Filter::default()
    };
    let list = |filter| {
        let store = outbox.store.clone();
        async move { store.list(&filter).await.unwrap() }
    };
    check_ids(&list(filter(None, None, None)).await, &["d", "c", "b", "a"]);
    check_ids(
        &list(filter(Some("tenant/acme"), None, None)).await,
        &["b", "a"],
    );
    check_ids(&list(filter(Some("platform"), None, None)).await, &["d"]);
    check_ids(&list(filter(None, Some("soft"), None)).await, &[]);
    check_ids(
        &list(filter(None, Some("hard"), Some("acme"))).await,
        &["b", "a"],
    );
}
