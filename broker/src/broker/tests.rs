//! Opening and closing: every reason not to open, the bounds of connections, and what a shutdown leaves behind.

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::oneshot;

use super::*;
use crate::config::Fsync;

const PATIENCE: Duration = Duration::from_secs(30);

/// Expects that `config` does not open, and why.
#[track_caller]
fn check_refused(opened: Result<Broker, OpenError>, why: &str) {
    let text = opened.expect_err(why).to_string();
    assert!(text.contains(why), "{text}");
}

async fn open(folder: &Path) -> Result<Broker, OpenError> {
    Broker::open(Config::new(folder)).await
}

#[tokio::test]
async fn only_loopback_is_served() {
    let folder = tempfile::tempdir().unwrap();
    for address in ["0.0.0.0:0", "192.0.2.1:9092", "[::]:0"] {
        let mut config = Config::new(folder.path());
        config.listen = address.parse().unwrap();
        check_refused(Broker::open(config).await, "serves loopback addresses only");
    }
    assert_eq!(
        fs::read_dir(folder.path()).unwrap().count(),
        0,
        "it touched the folder"
    );
}

#[tokio::test]
async fn a_busy_port_is_named() {
    let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let first = open(one.path()).await.unwrap();
    let mut config = Config::new(two.path());
    config.listen = first.address();
    check_refused(
        Broker::open(config).await,
        &format!("cannot listen on {}", first.address()),
    );
    open(two.path()).await.expect("nothing stays locked");
}

#[tokio::test]
async fn a_folder_that_is_none_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file");
    fs::write(&file, "in the way").unwrap();
    check_refused(open(&file).await, "cannot use the data folder");
    check_refused(open(&file.join("below")).await, "must be writable");
}

#[tokio::test]
async fn a_folder_has_one_broker_at_a_time() {
    let folder = tempfile::tempdir().unwrap();
    let first = open(folder.path()).await.unwrap();
    let holder = format!("is held by process {}", std::process::id());
    check_refused(open(folder.path()).await, &holder);
    drop(first);
    let second = open(folder.path()).await.unwrap();
    second.run(async {}).await.unwrap();
    open(folder.path()).await.expect("a shutdown releases it");
}

#[tokio::test]
async fn a_damaged_catalog_is_not_taken_for_an_empty_one() {
    let folder = tempfile::tempdir().unwrap();
    let broker = open(folder.path()).await.unwrap();
    broker
        .core
        .topics
        .create("t", 1, Default::default(), false)
        .unwrap();
    drop(broker);
    let catalog = folder.path().join("catalog.json");
    let intact = fs::read_to_string(&catalog).unwrap();
    fs::write(&catalog, &intact[..intact.len() / 2]).unwrap();
    check_refused(open(folder.path()).await, "catalog.json is damaged");
    fs::write(&catalog, intact.replace("\"version\": 1", "\"version\": 2")).unwrap();
    check_refused(
        open(folder.path()).await,
        "it has version 2, this broker reads 1",
    );
    fs::remove_file(&catalog).unwrap();
    check_refused(
        open(folder.path()).await,
        "missing although there are topics",
    );
    fs::write(&catalog, intact).unwrap();
    let broker = open(folder.path()).await.unwrap();
    assert!(broker.core.topics.get("t").is_some());
}

#[tokio::test]
async fn what_a_crash_left_of_a_topic_is_removed() {
    let folder = tempfile::tempdir().unwrap();
    drop(open(folder.path()).await.unwrap());
    let left = folder.path().join("topics/half-deleted/0");
    fs::create_dir_all(&left).unwrap();
    drop(open(folder.path()).await.unwrap());
    assert!(!folder.path().join("topics/half-deleted").exists());
}

#[tokio::test]
async fn topics_with_all_that_belongs_to_them_survive() {
    let folder = tempfile::tempdir().unwrap();
    let broker = open(folder.path()).await.unwrap();
    let topics = &broker.core.topics;
    let overrides = [("retention.ms".to_owned(), "1000".to_owned())];
    topics.create("kept", 2, overrides.into(), false).unwrap();
    topics.create("gone", 2, Default::default(), false).unwrap();
    topics.grow("kept", 3, false).unwrap();
    topics.delete("gone").unwrap();
    topics.create("dry", 2, Default::default(), true).unwrap();
    let (kept, cluster) = (topics.get("kept").unwrap(), topics.cluster_id());
    broker.run(async {}).await.unwrap();
    let broker = open(folder.path()).await.unwrap();
    let topics = &broker.core.topics;
    assert_eq!(topics.all().len(), 1);
    assert_eq!(topics.cluster_id(), cluster);
    let again = topics.get("kept").unwrap();
    assert_eq!((again.id, again.partitions.len()), (kept.id, 3));
    assert_eq!(again.overrides, kept.overrides);
}

#[tokio::test]
async fn there_is_a_limit_to_partitions() {
    let folder = tempfile::tempdir().unwrap();
    let mut config = Config::new(folder.path());
    config.partitions_max = 5;
    let broker = Broker::open(config).await.unwrap();
    let topics = &broker.core.topics;
    topics.create("t", 3, Default::default(), false).unwrap();
    let over = topics
        .create("u", 3, Default::default(), false)
        .unwrap_err();
    assert!(over.to_string().contains("limit of 5"), "{over}");
    topics.grow("t", 5, false).unwrap();
    assert!(topics.grow("t", 6, false).is_err());
}

/// Runs a broker beside `act`, which gets its address.
async fn beside(config: Config, act: impl AsyncFnOnce(SocketAddr)) {
    let broker = Broker::open(config).await.unwrap();
    let address = broker.address();
    let (done, ended) = oneshot::channel::<()>();
    let running = broker.run(async { ended.await.unwrap_or(()) });
    let acting = async {
        act(address).await;
        drop(done);
    };
    let both = async { tokio::join!(running, acting).0 };
    tokio::time::timeout(PATIENCE, both)
        .await
        .expect("it hangs")
        .unwrap();
}

async fn is_closed(stream: &mut TcpStream) -> bool {
    matches!(stream.read(&mut [0; 1]).await, Ok(0) | Err(_))
}

/// `ApiVersions` version 0.
const REQUEST: [u8; 14] = [0, 0, 0, 10, 0, 18, 0, 0, 0, 0, 0, 7, 0xff, 0xff];

async fn is_served(stream: &mut TcpStream) -> bool {
    stream.write_all(&REQUEST).await.is_ok()
        && matches!(stream.read(&mut [0; 4096]).await, Ok(n) if n > 20)
}

#[tokio::test]
async fn connections_over_the_limit_are_closed() {
    let folder = tempfile::tempdir().unwrap();
    let mut config = Config::new(folder.path());
    config.connections_max = 2;
    beside(config, async |address| {
        let mut one = TcpStream::connect(address).await.unwrap();
        let mut two = TcpStream::connect(address).await.unwrap();
        assert!(is_served(&mut one).await && is_served(&mut two).await);
        let mut three = TcpStream::connect(address).await.unwrap();
        assert!(is_closed(&mut three).await);
        drop(one);
        // The place is free once the broker has noticed.
        for attempt in 0.. {
            let mut four = TcpStream::connect(address).await.unwrap();
            if is_served(&mut four).await {
                break;
            }
            assert!(attempt < 1000, "the place never gets free");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
}

#[tokio::test]
async fn a_request_over_the_limit_and_a_silent_connection_are_closed() {
    let folder = tempfile::tempdir().unwrap();
    let mut config = Config::new(folder.path());
    config.request_bytes_max = 1000;
    config.connection_idle_max = Duration::from_millis(300);
    beside(config, async |address| {
        for announced in [1001_i32, i32::MAX, -1] {
            let mut stream = TcpStream::connect(address).await.unwrap();
            stream.write_all(&announced.to_be_bytes()).await.unwrap();
            assert!(is_closed(&mut stream).await, "{announced} bytes");
        }
        let mut silent = TcpStream::connect(address).await.unwrap();
        let mut stuck = TcpStream::connect(address).await.unwrap();
        stuck.write_all(&REQUEST[..9]).await.unwrap();
        assert!(is_closed(&mut silent).await && is_closed(&mut stuck).await);
    })
    .await;
}

#[tokio::test]
async fn a_shutdown_does_not_wait_for_idle_clients() {
    let folder = tempfile::tempdir().unwrap();
    for fsync in [
        Fsync::Always,
        Fsync::Every(Duration::from_millis(1)),
        Fsync::Never,
    ] {
        let mut config = Config::new(folder.path());
        config.fsync = fsync;
        let mut idle = None;
        beside(config, async |address| {
            let mut stream = TcpStream::connect(address).await.unwrap();
            assert!(is_served(&mut stream).await);
            idle = Some(stream);
        })
        .await;
        assert!(is_closed(&mut idle.unwrap()).await);
    }
}
