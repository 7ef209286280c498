//! Messages against a real HTTP server, which answers as each test says.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::response::{IntoResponse as _, Response};
use bus::clock::ManualClock;
use http::{HeaderMap, StatusCode};
use schemas::time::Timestamp;
use sqlx::any::AnyPoolOptions;
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::sync::Mutex;

use super::*;
use crate::alert::testing::alert;
use crate::config::{ChannelConfig, Config, Secret};
use crate::store::Filter;

const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

/// A status, and a `Retry-After`.
type Answer = (u16, Option<&'static str>);

/// A receiver of webhooks.
#[derive(Clone, Default)]
struct Receiver {
    /// Answers to give, the next one last; `200` when there are no more.
    answers: Arc<Mutex<Vec<Answer>>>,
    taken: Arc<Mutex<Vec<(HeaderMap, String)>>>,
}

async fn receive(State(receiver): State<Receiver>, headers: HeaderMap, body: String) -> Response {
    receiver.taken.lock().await.push((headers, body));
    let (status, retry_after) = receiver.answers.lock().await.pop().unwrap_or((200, None));
    let status = StatusCode::from_u16(status).unwrap();
    match retry_after {
        Some(text) => (status, [("retry-after", text), ("location", "/other")]).into_response(),
        None => status.into_response(),
    }
}

/// A courier with one webhook channel, at its own pace of time.
struct Bench {
    courier: Courier,
    clock: Arc<ManualClock>,
    receiver: Receiver,
    address: SocketAddr,
    _folder: TempDir,
}

impl Bench {
    async fn new() -> Self {
        sqlx::any::install_default_drivers();
        let _ = rustls::crypto::ring::default_provider().install_default();
        let folder = tempfile::tempdir().unwrap();
        let url = format!("sqlite://{}/store.db?mode=rwc", folder.path().display());
        let pool = AnyPoolOptions::new().connect(&url).await.unwrap();
        // Holds a free port until the test opens it.
        let address = TcpListener::bind("127.0.0.1:0")
            .await
            .unwrap()
            .local_addr()
            .unwrap();
        let channel = ChannelConfig {
            name: "ops".to_owned(),
            url: Some(format!("http://{address}/hook")),
            secret: Some(Secret::new(SECRET)),
            ..ChannelConfig::default()
        };
        let transport = Transport::build(&channel, Duration::from_secs(10)).unwrap();
        let config = Config {
            channel: vec![channel],
            ..Config::default()
        };
        let clock = Arc::new(ManualClock::new(at(1_000)));
        let courier = Courier {
            store: Store::open(pool).await.unwrap(),
            transports: BTreeMap::from([("ops".to_owned(), transport)]),
            backoff: config.backoff(),
            lease: config.lease(),
            clock: Arc::clone(&clock) as SharedClock,
            metrics: Metrics::default(),
        };
        let alerts = [alert("a1", at(999))];
        let rules = config.rules().unwrap();
        courier
            .store
            .record(&alerts, &rules, at(1_000))
            .await
            .unwrap();
        Self {
            courier,
            clock,
            receiver: Receiver::default(),
            address,
            _folder: folder,
        }
    }

    /// Serves while `work` runs.
    async fn up<T>(&self, work: impl Future<Output = T>) -> T {
        let listener = TcpListener::bind(self.address).await.unwrap();
        let app = Router::new()
            .route("/hook", axum::routing::post(receive))
            .with_state(self.receiver.clone());
        tokio::select! {
            biased;
            done = work => done,
            ended = async { axum::serve(listener, app).await } => panic!("the receiver ended: {ended:?}"),
        }
    }

    /// Carries what is due; says how many messages that were.
    async fn carry(&self) -> usize {
        let jobs = self.courier.claim("ops", 10).await.unwrap();
        for job in &jobs {
            self.courier.carry(job).await.unwrap();
        }
        jobs.len()
    }

    /// State, tries and error of the one message.
    async fn state(&self) -> (String, i64, Option<String>) {
        let filter = Filter {
            limit: 1,
            ..Filter::default()
        };
        let listed = self.courier.store.list(&filter).await.unwrap().remove(0);
        let delivery = &listed.deliveries[0];
        (
            delivery.state.clone(),
            delivery.attempts,
            delivery.error.clone(),
        )
    }
}

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_seconds(seconds)
}

#[tokio::test]
async fn a_message_is_signed_and_arrives() {
    let bench = Bench::new().await;
    assert_eq!(bench.up(bench.carry()).await, 1);
    let taken = bench.receiver.taken.lock().await;
    let (headers, body) = &taken[0];
    let header = |name: &str| headers[name].to_str().unwrap();
    assert_eq!(header("content-type"), "application/json");
    assert_eq!(header("webhook-timestamp"), "1000");
    let signer = crate::deliver::Signer::new(SECRET).unwrap();
    let expected = signer.sign(header("webhook-id"), 1_000, body.as_bytes());
    assert_eq!(header("webhook-signature"), expected);
    let body: serde_json::Value = serde_json::from_str(body).unwrap();
    assert_eq!(body["type"], "weir.alert.hard");
    assert_eq!(body["timestamp"], "1970-01-01T00:16:39Z");
    assert_eq!(body["data"]["id"], "a1");
    assert_eq!(bench.state().await, ("sent".to_owned(), 1, None));
}

#[tokio::test]
async fn a_receiver_that_was_down_hears_it_once() {
    let bench = Bench::new().await;
    for tries in 1..=6 {
        assert_eq!(bench.carry().await, 1);
        let (state, attempts, error) = bench.state().await;
        assert_eq!((state.as_str(), attempts), ("pending", tries));
        let error = error.unwrap();
        assert!(
            error.contains("Connection refused") && !error.contains("/hook"),
            "{error}"
        );
        bench.clock.advance(Duration::from_secs(40));
    }
    assert_eq!(bench.up(bench.carry()).await, 1);
    bench.clock.advance(Duration::from_secs(86_400));
    assert_eq!(bench.up(bench.carry()).await, 0);
    assert_eq!(bench.receiver.taken.lock().await.len(), 1);
    assert_eq!(bench.state().await, ("sent".to_owned(), 7, None));
}

#[tokio::test]
async fn every_copy_has_the_same_id() {
    let bench = Bench::new().await;
    // A lease that ends before it is settled: what a crash right after a delivery looks like.
    let first = bench.courier.claim("ops", 1).await.unwrap();
    bench.clock.advance(bench.courier.lease);
    let second = bench.courier.claim("ops", 1).await.unwrap();
    bench
        .up(async {
            bench.courier.carry(&first[0]).await.unwrap();
            bench.courier.carry(&second[0]).await.unwrap();
        })
        .await;
    let taken = bench.receiver.taken.lock().await;
    assert_eq!(taken.len(), 2);
    assert_eq!(taken[0].0["webhook-id"], taken[1].0["webhook-id"]);
    assert_eq!(taken[0].1, taken[1].1);
}

/// The receiver answers `status`; what becomes of the message, and after how many seconds it is tried again.
async fn check_answer(
    status: u16,
    retry_after: Option<&'static str>,
    expected: (&str, Option<&str>),
    due_in: Option<u64>,
) {
    let bench = Bench::new().await;
    bench
        .receiver
        .answers
        .lock()
        .await
        .push((status, retry_after));
    bench.up(bench.carry()).await;
    let (state, attempts, error) = bench.state().await;
    assert_eq!((state.as_str(), error.as_deref()), expected, "{status}");
    assert_eq!(attempts, 1);
    if let Some(seconds) = due_in {
        bench
            .clock
            .advance(Duration::from_secs(seconds) - Duration::from_millis(1));
        assert_eq!(bench.up(bench.carry()).await, 0, "{status} before its time");
        bench.clock.advance(Duration::from_millis(1));
        assert_eq!(bench.up(bench.carry()).await, 1, "{status} in its time");
    }
    let tries = 1 + usize::from(due_in.is_some());
    assert_eq!(bench.receiver.taken.lock().await.len(), tries);
}

#[tokio::test]
async fn does_as_the_answer_says() {
    check_answer(204, None, ("sent", None), None).await;
    let gone = "the receiver answered 410: it wants no more messages here";
    check_answer(410, None, ("failed", Some(gone)), None).await;
    for (status, retry_after) in [(503, "120"), (429, "120"), (400, "120"), (302, "120")] {
        let error = format!("the receiver answered {status}");
        let expected = ("pending", Some(error.as_str()));
        check_answer(status, Some(retry_after), expected, Some(120)).await;
    }
}

#[tokio::test]
async fn gives_up_at_last() {
    let bench = Bench::new().await;
    let mut tries = 0;
    while bench.state().await.0 == "pending" {
        tries += bench.carry().await;
        bench.clock.advance(Duration::from_secs(3_600));
        assert!(tries < 100);
    }
    assert!(
        (60..=73).contains(&tries),
        "{tries} tries in three days, one an hour"
    );
    assert_eq!(bench.state().await.0, "failed");
}
