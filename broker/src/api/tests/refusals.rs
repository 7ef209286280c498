//! What single requests are refused for, as Kafka refuses them.

use kafka_protocol::error::ResponseError as E;
use kafka_protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
use kafka_protocol::messages::{
    FindCoordinatorRequest, HeartbeatRequest, InitProducerIdRequest, LeaveGroupRequest,
    ProduceRequest, ProduceResponse, SyncGroupRequest, TopicName, TransactionalId,
};

use super::*;
use crate::log::testing::batch_of;

/// The only partition's code in an answer of this kind; how it is found is the caller's.
#[track_caller]
fn expect(found: i16, expected: Option<E>, what: &str) {
    let found = E::try_from_code(found);
    assert_eq!(found, expected, "{what}");
}

fn produce(topic: &'static str, batch: Vec<u8>) -> ProduceRequest {
    let data = PartitionProduceData::default().with_records(Some(batch.into()));
    let topic = TopicProduceData::default()
        .with_name(TopicName(name(topic)))
        .with_partition_data(vec![data]);
    ProduceRequest::default()
        .with_acks(-1)
        .with_topic_data(vec![topic])
}

fn code_of(produced: &ProduceResponse) -> i16 {
    produced.responses[0].partition_responses[0].error_code
}

#[tokio::test]
async fn what_is_no_batch_of_today() {
    let folder = tempfile::tempdir().unwrap();
    let core = core(folder.path());
    let good = batch_of(&[("k", Some("v"))], -1);
    let changed = |at: usize, to: u8| {
        let mut changed = good.clone();
        changed[at] = to;
        changed
    };
    let (old, zstd) = (changed(16, 1), changed(22, 4));
    let cases = [
        (9, vec![], Some(E::InvalidRecord), "nothing"),
        (
            9,
            good[..10].to_vec(),
            Some(E::InvalidRecord),
            "hardly anything",
        ),
        (
            9,
            good[..good.len() - 1].to_vec(),
            Some(E::InvalidRecord),
            "most of it",
        ),
        (
            9,
            [&good[..], &good].concat(),
            Some(E::InvalidRecord),
            "two",
        ),
        (9, old, Some(E::InvalidRecord), "an old format"),
        (
            6,
            zstd.clone(),
            Some(E::UnsupportedCompressionType),
            "zstd for the old",
        ),
        // Only its checksum is wrong now.
        (7, zstd, Some(E::CorruptMessage), "zstd"),
        (9, good.clone(), None, "a good one"),
    ];
    for (version, batch, expected, what) in cases {
        let request = produce("t", batch).into();
        let ResponseKind::Produce(produced) =
            ask_this(&core, ApiKey::Produce, version, &request).await
        else {
            panic!("another answer");
        };
        expect(code_of(&produced), expected, what);
    }
}

#[tokio::test]
async fn a_refused_write_without_acks_loses_its_connection() {
    let folder = tempfile::tempdir().unwrap();
    let core = core(folder.path());
    let batch = || batch_of(&[("k", Some("v"))], -1);
    let send = async |topic| {
        let request = produce(topic, batch()).with_acks(0).into();
        answer(&core, frame(ApiKey::Produce, 9, &request)).await
    };
    assert!(matches!(send("t").await, Ok(None)));
    let refused = send("missing").await;
    assert!(
        matches!(refused, Err(RequestError::Unanswered)),
        "{refused:?}"
    );
}

#[tokio::test]
async fn a_client_that_knows_a_later_leader() {
    let folder = tempfile::tempdir().unwrap();
    let core = core(folder.path());
    for (believed, expected) in [(-1, None), (0, None), (1, Some(E::UnknownLeaderEpoch))] {
        let RequestKind::ListOffsets(mut list) = sample(ApiKey::ListOffsets, 7) else {
            panic!("another sample");
        };
        list.topics[0].partitions[0].current_leader_epoch = believed;
        let ResponseKind::ListOffsets(listed) =
            ask_this(&core, ApiKey::ListOffsets, 7, &list.into()).await
        else {
            panic!("another answer");
        };
        expect(
            listed.topics[0].partitions[0].error_code,
            expected,
            "list offsets",
        );

        let RequestKind::OffsetForLeaderEpoch(mut end) = sample(ApiKey::OffsetForLeaderEpoch, 4)
        else {
            panic!("another sample");
        };
        end.topics[0].partitions[0].current_leader_epoch = believed;
        let ResponseKind::OffsetForLeaderEpoch(ended) =
            ask_this(&core, ApiKey::OffsetForLeaderEpoch, 4, &end.into()).await
        else {
            panic!("another answer");
        };
        expect(
            ended.topics[0].partitions[0].error_code,
            expected,
            "end of an epoch",
        );
    }
}

#[tokio::test]
async fn the_newest_record_is_not_for_old_clients() {
    let folder = tempfile::tempdir().unwrap();
    let core = core(folder.path());
    for (version, expected) in [(6, Some(E::UnsupportedVersion)), (7, None)] {
        let RequestKind::ListOffsets(mut list) = sample(ApiKey::ListOffsets, version) else {
            panic!("another sample");
        };
        list.topics[0].partitions[0].timestamp = -3;
        let ResponseKind::ListOffsets(listed) =
            ask_this(&core, ApiKey::ListOffsets, version, &list.into()).await
        else {
            panic!("another answer");
        };
        expect(
            listed.topics[0].partitions[0].error_code,
            expected,
            "newest",
        );
    }
}

#[tokio::test]
async fn a_fetch_session_of_another_server() {
    let folder = tempfile::tempdir().unwrap();
    let core = core(folder.path());
    for (epoch, expected) in [(-1, None), (0, None), (1, Some(E::FetchSessionIdNotFound))] {
        let RequestKind::Fetch(fetch) = sample(ApiKey::Fetch, 12) else {
            panic!("another sample");
        };
        let fetch = fetch.with_session_id(7).with_session_epoch(epoch);
        let ResponseKind::Fetch(fetched) = ask_this(&core, ApiKey::Fetch, 12, &fetch.into()).await
        else {
            panic!("another answer");
        };
        expect(fetched.error_code, expected, "fetch");
    }
}

#[tokio::test]
async fn coordinators_of_other_kinds() {
    let folder = tempfile::tempdir().unwrap();
    let core = core(folder.path());
    let transactions = Some(E::TransactionalIdAuthorizationFailed);
    for (kind, expected) in [(0, None), (1, transactions), (2, Some(E::InvalidRequest))] {
        let request = FindCoordinatorRequest::default()
            .with_key_type(kind)
            .with_coordinator_keys(vec![name("x")]);
        let ResponseKind::FindCoordinator(found) =
            ask_this(&core, ApiKey::FindCoordinator, 4, &request.into()).await
        else {
            panic!("another answer");
        };
        expect(found.coordinators[0].error_code, expected, "coordinator");
    }
    for (id, expected) in [("", Some(E::InvalidRequest)), ("x", transactions)] {
        let id = Some(TransactionalId(name(id)));
        let request = InitProducerIdRequest::default().with_transactional_id(id);
        let ResponseKind::InitProducerId(given) =
            ask_this(&core, ApiKey::InitProducerId, 4, &request.into()).await
        else {
            panic!("another answer");
        };
        expect(given.error_code, expected, "producer id");
    }
}

#[tokio::test]
async fn groups_have_names() {
    let folder = tempfile::tempdir().unwrap();
    let core = core(folder.path());
    let requests: [(ApiKey, RequestKind); 3] = [
        (ApiKey::Heartbeat, HeartbeatRequest::default().into()),
        (ApiKey::SyncGroup, SyncGroupRequest::default().into()),
        (ApiKey::LeaveGroup, LeaveGroupRequest::default().into()),
    ];
    for (api, request) in requests {
        let code = match ask_this(&core, api, 4, &request).await {
            ResponseKind::Heartbeat(answer) => answer.error_code,
            ResponseKind::SyncGroup(answer) => answer.error_code,
            ResponseKind::LeaveGroup(answer) => answer.error_code,
            _ => panic!("another answer"),
        };
        expect(code, Some(E::InvalidGroupId), "no name");
    }
}

/// `README.md` tells which APIs there are, in which versions.
#[test]
fn the_readme_says_what_is_advertised() {
    let readme = include_str!("../../../README.md");
    let mut told = vec![];
    for row in readme.lines().filter(|line| line.starts_with("| ")) {
        let cells: Vec<&str> = row
            .split('|')
            .map(str::trim)
            .filter(|c| !c.is_empty())
            .collect();
        told.extend(cells.chunks(2).map(|pair| pair.join(" ")));
    }
    for api in APIS {
        let versions = match api.min == api.max {
            true => api.max.to_string(),
            false => format!("{}–{}", api.min, api.max),
        };
        let expected = format!("{:?} {versions}", api.key);
        // What is there only to be refused has a sentence of its own.
        let is_told = told.contains(&expected) || readme.contains(&format!("{:?} (", api.key));
        assert!(is_told, "{expected} is not in README.md");
    }
}
