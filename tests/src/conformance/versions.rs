//! What is advertised is what is there: every version of every API, and nothing beside them.

use anyhow::{Context, ensure};
use kafka_protocol::messages::*;

use super::Home;
use super::lab::Lab;
use super::wire::{Wire, check_code, text};

/// Kafka 4 advertises Produce from 0, for the sake of old clients, although it serves it from 3.
const PRODUCE_SERVED_FROM: i16 = 3;

/// Every API by its number, also those that no version of Kafka has yet.
const NUMBERS: std::ops::Range<i16> = 0..110;

/// Which home answers at an address: only Kafka has transactions.
///
/// # Errors
/// When nobody answers there.
pub fn home(bootstrap: &str) -> anyhow::Result<Home> {
    let advertised = advertised(&Lab::new(bootstrap))?;
    let transactions = ApiKey::AddPartitionsToTxn as i16;
    let has = advertised.iter().any(|(api, ..)| *api == transactions);
    Ok(if has { Home::Kafka } else { Home::Embedded })
}

fn advertised(lab: &Lab) -> anyhow::Result<Vec<(i16, i16, i16)>> {
    let answer = Wire::connect(lab)?.ask(3, &named_client())?;
    check_code(answer.error_code, 0)?;
    let apis = answer.api_keys.into_iter();
    Ok(apis
        .map(|a| (a.api_key, a.min_version, a.max_version))
        .collect())
}

fn named_client() -> ApiVersionsRequest {
    ApiVersionsRequest::default()
        .with_client_software_name(text("conformance"))
        .with_client_software_version(text("1"))
}

/// The smallest request that has an answer, of the APIs that a client of the data uses.
fn smallest(api: ApiKey) -> Option<RequestKind> {
    // A broker reads itself as another replica; -1 is a client.
    let client = BrokerId(-1);
    Some(match api {
        ApiKey::Produce => ProduceRequest::default().with_acks(-1).into(),
        ApiKey::Fetch => FetchRequest::default().into(),
        ApiKey::ListOffsets => ListOffsetsRequest::default().with_replica_id(client).into(),
        ApiKey::OffsetForLeaderEpoch => OffsetForLeaderEpochRequest::default()
            .with_replica_id(client)
            .into(),
        ApiKey::Metadata => MetadataRequest::default().with_topics(Some(vec![])).into(),
        ApiKey::OffsetCommit => OffsetCommitRequest::default().into(),
        ApiKey::OffsetFetch => OffsetFetchRequest::default().into(),
        ApiKey::FindCoordinator => FindCoordinatorRequest::default().into(),
        ApiKey::JoinGroup => JoinGroupRequest::default().into(),
        ApiKey::SyncGroup => SyncGroupRequest::default().into(),
        ApiKey::Heartbeat => HeartbeatRequest::default().into(),
        ApiKey::LeaveGroup => LeaveGroupRequest::default().into(),
        ApiKey::DescribeGroups => DescribeGroupsRequest::default().into(),
        ApiKey::ListGroups => ListGroupsRequest::default().into(),
        ApiKey::DeleteGroups => DeleteGroupsRequest::default().into(),
        ApiKey::OffsetDelete => OffsetDeleteRequest::default().into(),
        ApiKey::ApiVersions => named_client().into(),
        ApiKey::CreateTopics => CreateTopicsRequest::default().into(),
        ApiKey::DeleteTopics => DeleteTopicsRequest::default().into(),
        ApiKey::DeleteRecords => DeleteRecordsRequest::default().into(),
        ApiKey::CreatePartitions => CreatePartitionsRequest::default().into(),
        ApiKey::InitProducerId => InitProducerIdRequest::default()
            .with_transaction_timeout_ms(1000)
            .into(),
        ApiKey::DescribeConfigs => DescribeConfigsRequest::default().into(),
        ApiKey::AlterConfigs => AlterConfigsRequest::default().into(),
        ApiKey::IncrementalAlterConfigs => IncrementalAlterConfigsRequest::default().into(),
        ApiKey::DescribeCluster => DescribeClusterRequest::default().into(),
        ApiKey::ConsumerGroupHeartbeat => ConsumerGroupHeartbeatRequest::default().into(),
        _ => return None,
    })
}

pub(super) fn answered(lab: &Lab) -> anyhow::Result<()> {
    let mut asked = 0;
    for (number, min, max) in advertised(lab)? {
        let Ok(api) = ApiKey::try_from(number) else {
            continue;
        };
        let Some(request) = smallest(api) else {
            continue;
        };
        let known = api.valid_versions();
        for version in min.max(known.min)..=max.min(known.max) {
            Wire::connect(lab)?
                .ask_any(api, version, &request)
                .with_context(|| format!("{api:?} version {version}"))?;
            asked += 1;
        }
    }
    // As many as the embedded log advertises, or more.
    ensure!(
        asked > 80,
        "only {asked} versions of all APIs were asked for"
    );
    Ok(())
}

/// Nothing is advertised that [`answered`] does not ask for.
pub(super) fn all_asked(lab: &Lab) -> anyhow::Result<()> {
    for (number, min, max) in advertised(lab)? {
        let api = ApiKey::try_from(number).ok();
        let api = api.with_context(|| format!("API {number} is advertised: what is it?"))?;
        ensure!(
            smallest(api).is_some(),
            "{api:?} is advertised and not asked for"
        );
        let (min, known) = (min_served(number, min), api.valid_versions());
        ensure!(
            known.min <= min && max <= known.max,
            "{api:?}: {min} to {max} is advertised, {known} is known"
        );
    }
    Ok(())
}

fn min_served(number: i16, min: i16) -> i16 {
    match number {
        0 => PRODUCE_SERVED_FROM,
        _ => min,
    }
}

pub(super) fn beyond(lab: &Lab) -> anyhow::Result<()> {
    for (number, min, max) in advertised(lab)? {
        // It alone is answered in every version: see the case of its own.
        if number == ApiKey::ApiVersions as i16 {
            continue;
        }
        let min = min_served(number, min);
        for version in [Some(max + 1), min.checked_sub(1)].into_iter().flatten() {
            let mut wire = Wire::connect(lab)?;
            wire.send_head(number, version)?;
            wire.expect_closed()
                .with_context(|| format!("API {number} version {version}"))?;
        }
    }
    Ok(())
}

pub(super) fn not_advertised(lab: &Lab) -> anyhow::Result<()> {
    let advertised = advertised(lab)?;
    let is_advertised = |number: i16| advertised.iter().any(|(api, ..)| *api == number);
    for number in NUMBERS.filter(|number| !is_advertised(*number)) {
        let mut wire = Wire::connect(lab)?;
        wire.send_head(number, 0)?;
        wire.expect_closed()
            .with_context(|| format!("API {number}"))?;
    }
    Ok(())
}
