//! Every advertised API in every advertised version: the request is understood and the answer is one that a client of
//! that version can read.

mod refusals;
mod samples;

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use bytes::Buf;

use super::*;
use crate::config::Config;
use samples::{name, sample};

fn core(folder: &std::path::Path) -> Arc<Core> {
    let mut config = Config::new(folder);
    config.join_delay = Duration::ZERO;
    let core = Core::open(config, SocketAddr::from((Ipv4Addr::LOCALHOST, 9092)), true).unwrap();
    core.topics
        .create("t", 1, Default::default(), false)
        .unwrap();
    Arc::new(core)
}

fn frame(api: ApiKey, version: i16, body: &RequestKind) -> Bytes {
    let header = RequestHeader::default()
        .with_request_api_key(api as i16)
        .with_request_api_version(version)
        .with_correlation_id(42)
        .with_client_id(Some(name("test")));
    let mut frame = BytesMut::new();
    header
        .encode(&mut frame, api.request_header_version(version))
        .unwrap();
    body.encode(&mut frame, version).unwrap();
    frame.freeze()
}

async fn ask(core: &Arc<Core>, api: ApiKey, version: i16) -> ResponseKind {
    ask_this(core, api, version, &sample(api, version)).await
}

async fn ask_this(core: &Arc<Core>, api: ApiKey, version: i16, body: &RequestKind) -> ResponseKind {
    let request = frame(api, version, body);
    let answered = tokio::time::timeout(Duration::from_secs(60), answer(core, request)).await;
    let mut answer = answered
        .unwrap_or_else(|_| panic!("{api:?} version {version} hangs"))
        .unwrap_or_else(|e| panic!("{api:?} version {version}: {e}"))
        .unwrap_or_else(|| panic!("{api:?} version {version} has no answer"));
    assert_eq!(answer.get_u32() as usize, answer.len());
    let header = ResponseHeader::decode(&mut answer, api.response_header_version(version)).unwrap();
    assert_eq!(header.correlation_id, 42);
    let response = ResponseKind::decode(api, &mut answer, version).unwrap();
    assert!(
        answer.is_empty(),
        "{api:?} version {version} says more than it should"
    );
    response
}

#[tokio::test]
async fn every_advertised_version_is_answered() {
    let folder = tempfile::tempdir().unwrap();
    let core = core(folder.path());
    for api in APIS {
        for version in api.min..=api.max {
            ask(&core, api.key, version).await;
        }
    }
}

/// An independent encoder wrote the requests: the layouts fit them to the last byte.
#[test]
fn layouts_are_those_of_the_protocol() {
    for api in APIS {
        for version in api.min..=api.max {
            let mut body = BytesMut::new();
            sample(api.key, version).encode(&mut body, version).unwrap();
            let flexible = api.key.request_header_version(version) >= FLEXIBLE_HEADER;
            let skip = |body| layout::skip(api.request, version, flexible, body).map(<[u8]>::len);
            assert_eq!(skip(&body), Some(0), "{:?} version {version}", api.key);
            for cut in 0..body.len() {
                assert_eq!(
                    skip(&body[..cut]),
                    None,
                    "{:?} version {version} at {cut}",
                    api.key
                );
            }
        }
    }
}

#[tokio::test]
async fn a_list_that_announces_too_much_is_refused_before_room_is_made() {
    let folder = tempfile::tempdir().unwrap();
    let core = core(folder.path());
    // The list of topics is the first thing after the header.
    let metadata = |version: i16, count: &[u8]| {
        let whole = frame(
            ApiKey::Metadata,
            version,
            &sample(ApiKey::Metadata, version),
        );
        let mut body = BytesMut::new();
        sample(ApiKey::Metadata, version)
            .encode(&mut body, version)
            .unwrap();
        let header = &whole[..whole.len() - body.len()];
        Bytes::from([header, count, &[0; 400]].concat())
    };
    let announced = [
        metadata(1, &i32::MAX.to_be_bytes()),
        metadata(1, &200_001_i32.to_be_bytes()),
        metadata(1, &(-2_i32).to_be_bytes()),
        metadata(12, &[0xff, 0xff, 0xff, 0xff, 0x0f]),
        metadata(12, &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff]),
    ];
    for frame in announced {
        let refused = answer(&core, frame).await;
        assert!(
            matches!(refused, Err(RequestError::Malformed { .. })),
            "{refused:?}"
        );
    }
}

proptest::proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig { cases: 300, ..Default::default() })]

    /// Requests with some bytes changed: an answer or an error, never a panic, and never room for more than was sent.
    #[test]
    fn changed_requests_do_no_harm(
        api in 0..APIS.len(),
        version in 0i16..13,
        changes in proptest::collection::vec((0usize..200, proptest::prelude::any::<u8>()), 1..6),
    ) {
        let api = &APIS[api];
        let version = version.clamp(api.min, api.max);
        let mut bytes = frame(api.key, version, &sample(api.key, version)).to_vec();
        for (at, byte) in changes {
            let at = 4 + at % (bytes.len() - 4);
            bytes[at] = byte;
        }
        let folder = tempfile::tempdir().unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let core = core(folder.path());
            // A changed join may have to wait for others, who never come.
            let _ = tokio::time::timeout(Duration::from_millis(20), answer(&core, bytes.into())).await;
        });
    }
}

#[tokio::test]
async fn what_was_produced_in_any_version_is_fetched_in_any() {
    let folder = tempfile::tempdir().unwrap();
    let core = core(folder.path());
    for version in 3..=9 {
        let ResponseKind::Produce(produced) = ask(&core, ApiKey::Produce, version).await else {
            panic!("another answer");
        };
        let partition = &produced.responses[0].partition_responses[0];
        assert_eq!(
            (partition.error_code, partition.base_offset),
            (0, i64::from(version) - 3)
        );
    }
    for version in 4..=12 {
        let ResponseKind::Fetch(fetched) = ask(&core, ApiKey::Fetch, version).await else {
            panic!("another answer");
        };
        let partition = &fetched.responses[0].partitions[0];
        assert_eq!(
            (partition.error_code, partition.high_watermark),
            (0, 7),
            "version {version}"
        );
        assert!(
            partition.records.as_ref().is_some_and(|r| r.len() > 400),
            "version {version}"
        );
    }
}

#[tokio::test]
async fn offsets_committed_in_any_version_are_told_in_any() {
    let folder = tempfile::tempdir().unwrap();
    let core = core(folder.path());
    ask(&core, ApiKey::OffsetCommit, 8).await;
    for version in 1..=8 {
        let ResponseKind::OffsetFetch(told) = ask(&core, ApiKey::OffsetFetch, version).await else {
            panic!("another answer");
        };
        let offset = match version {
            8 => told.groups[0].topics[0].partitions[0].committed_offset,
            _ => told.topics[0].partitions[0].committed_offset,
        };
        assert_eq!(offset, 5, "version {version}");
    }
}

#[tokio::test]
async fn what_is_not_advertised_is_an_error_and_no_panic() {
    let folder = tempfile::tempdir().unwrap();
    let core = core(folder.path());
    let request = |api: i16, version: i16| {
        let mut frame = BytesMut::new();
        frame.extend_from_slice(&api.to_be_bytes());
        frame.extend_from_slice(&version.to_be_bytes());
        frame.extend_from_slice(&[0; 60]);
        frame.freeze()
    };
    assert!(matches!(
        answer(&core, Bytes::new()).await,
        Err(RequestError::Short)
    ));
    assert!(matches!(
        answer(&core, request(999, 0)).await,
        Err(RequestError::UnknownApi(999))
    ));
    let (add_partitions, produce) = (request(24, 0), request(0, 99));
    for frame in [add_partitions, produce] {
        assert!(matches!(
            answer(&core, frame).await,
            Err(RequestError::Unsupported { .. })
        ));
    }
    let cut = frame(ApiKey::Metadata, 9, &sample(ApiKey::Metadata, 9));
    let cut = cut.slice(..cut.len() - 3);
    assert!(matches!(
        answer(&core, cut).await,
        Err(RequestError::Malformed { .. })
    ));
}
