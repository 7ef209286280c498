//! The requests that are understood, in which versions, and who answers them.

mod commits;
mod configs;
mod consume;
mod fetch;
mod layout;
mod members;
mod metadata;
mod produce;
mod table;
mod topics;

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::{
    ApiKey, ApiVersionsResponse, RequestHeader, RequestKind, ResponseHeader, ResponseKind,
};
use kafka_protocol::protocol::{Decodable, Encodable, StrBytes};

use crate::core::Core;
use table::{APIS, Api};

/// The version of the request header that comes with compact lengths and tagged fields.
const FLEXIBLE_HEADER: i16 = 2;

/// Why a request cannot be answered at all; its connection is closed, as Kafka does.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RequestError {
    #[error("the request has no header")]
    Short,
    #[error("unknown API {0}")]
    UnknownApi(i16),
    #[error("{api:?} version {version} is not supported; ask ApiVersions for what is")]
    Unsupported { api: ApiKey, version: i16 },
    #[error("malformed {what}: {reason}")]
    Malformed { what: &'static str, reason: String },
    #[error(
        "a write that wants no answer was refused; only losing its connection tells its client"
    )]
    Unanswered,
    #[error("cannot encode the answer to {api:?} version {version}: {reason}")]
    Encode {
        api: ApiKey,
        version: i16,
        reason: String,
    },
}

/// What an answer may depend on beside the request itself.
pub(crate) struct Context<'a> {
    core: &'a Arc<Core>,
    version: i16,
    client: StrBytes,
}

/// A request that was understood, or that can at least be answered.
struct Asked {
    api: ApiKey,
    version: i16,
    header: RequestHeader,
    /// Without one, this is a newer client's ApiVersions, of which only the header can be read.
    request: Option<RequestKind>,
}

/// Answers one frame (without its length) with a whole frame, or not at all where the protocol
/// wants no answer.
///
/// # Errors
/// If the bytes are not a request of an advertised API and version.
pub(crate) async fn answer(core: &Arc<Core>, frame: Bytes) -> Result<Option<Bytes>, RequestError> {
    let asked = read(frame)?;
    let (api, correlation_id) = (asked.api, asked.header.correlation_id);
    let Some(request) = asked.request else {
        // It learns from version 0 what it may ask.
        let refusal = ResponseKind::ApiVersions(versions(ResponseError::UnsupportedVersion.code()));
        return encode(correlation_id, api, 0, &refusal).map(Some);
    };
    let context = Context {
        core,
        version: asked.version,
        client: asked.header.client_id.unwrap_or_default(),
    };
    match dispatch(&context, request).await? {
        Some(response) => encode(correlation_id, api, asked.version, &response).map(Some),
        None => Ok(None),
    }
}

/// Understands a frame, whose counts are looked at before anything is decoded.
fn read(mut frame: Bytes) -> Result<Asked, RequestError> {
    let head: [u8; 4] = frame
        .get(..4)
        .and_then(|h| h.try_into().ok())
        .ok_or(RequestError::Short)?;
    let key = i16::from_be_bytes([head[0], head[1]]);
    let version = i16::from_be_bytes([head[2], head[3]]);
    let api = ApiKey::try_from(key).map_err(|()| RequestError::UnknownApi(key))?;
    let known = APIS
        .iter()
        .find(|a| a.key == api && (a.min..=a.max).contains(&version));
    if known.is_none() && api != ApiKey::ApiVersions {
        return Err(RequestError::Unsupported { api, version });
    }
    let malformed = |what, reason: String| RequestError::Malformed { what, reason };
    let header = RequestHeader::decode(&mut frame, api.request_header_version(version))
        .map_err(|e| malformed("header", format!("{e:#}")))?;
    let mut request = None;
    if let Some(known) = known {
        let flexible = api.request_header_version(version) >= FLEXIBLE_HEADER;
        let rest = layout::skip(known.request, version, flexible, &frame).map(<[u8]>::len);
        if rest.is_none() {
            let reason = "it ends too early or announces too much".to_owned();
            return Err(malformed("request", reason));
        }
        let decoded = RequestKind::decode(api, &mut frame, version)
            .map_err(|e| malformed("request", format!("{e:#}")))?;
        #[cfg(fuzzing)]
        assert_eq!(
            rest,
            Some(frame.len()),
            "{api:?} {version} ends elsewhere: {decoded:?}"
        );
        request = Some(decoded);
    }
    Ok(Asked {
        api,
        version,
        header,
        request,
    })
}

/// `None` is an answer that the protocol does not want (produce with `acks=0`).
async fn dispatch(
    context: &Context<'_>,
    request: RequestKind,
) -> Result<Option<ResponseKind>, RequestError> {
    use RequestKind as Q;
    let core = context.core;
    Ok(Some(match request {
        Q::ApiVersions(_) => versions(0).into(),
        Q::Metadata(r) => metadata::metadata(context, r).into(),
        Q::DescribeCluster(_) => metadata::describe_cluster(context).into(),
        Q::FindCoordinator(r) => metadata::find_coordinator(context, r).into(),
        Q::InitProducerId(r) => produce::init_producer_id(context, &r).await.into(),
        Q::Produce(r) => {
            let wants_answer = r.acks != 0;
            let response = produce::produce(context, r).await;
            if wants_answer {
                response.into()
            } else if produce::has_failed(&response) {
                return Err(RequestError::Unanswered);
            } else {
                return Ok(None);
            }
        }
        Q::Fetch(r) => fetch::fetch(core, r).await.into(),
        Q::ListOffsets(r) => consume::list_offsets(context, r).await.into(),
        Q::OffsetForLeaderEpoch(r) => consume::offset_for_leader_epoch(core, r).into(),
        Q::OffsetCommit(r) => commits::commit(context, r).await.into(),
        Q::OffsetFetch(r) => commits::fetch(context, r).into(),
        Q::OffsetDelete(r) => commits::delete(core, &r).into(),
        Q::JoinGroup(r) => members::join(context, r).await.into(),
        Q::SyncGroup(r) => members::sync(core, r).await.into(),
        Q::Heartbeat(r) => members::heartbeat(core, &r).into(),
        Q::LeaveGroup(r) => members::leave(context, r).into(),
        Q::ConsumerGroupHeartbeat(_) => members::refuse_kip_848().into(),
        Q::ListGroups(r) => members::list(core, &r).into(),
        Q::DescribeGroups(r) => members::describe(core, &r).into(),
        Q::DeleteGroups(r) => members::delete(core, r).into(),
        Q::CreateTopics(r) => topics::create(context, r).await.into(),
        Q::DeleteTopics(r) => topics::delete(context, r).await.into(),
        Q::CreatePartitions(r) => topics::grow(context, r).await.into(),
        Q::DeleteRecords(r) => topics::delete_records(context, r).await.into(),
        Q::DescribeConfigs(r) => configs::describe(core, r).into(),
        Q::AlterConfigs(r) => configs::replace(context, r).await.into(),
        Q::IncrementalAlterConfigs(r) => configs::change(context, r).await.into(),
        // `answer` lets only advertised APIs come here.
        other => {
            tracing::error!("advertised and not implemented: {other:?}");
            return Ok(None);
        }
    }))
}

fn encode(
    correlation_id: i32,
    api: ApiKey,
    version: i16,
    response: &ResponseKind,
) -> Result<Bytes, RequestError> {
    let failed = |e| RequestError::Encode {
        api,
        version,
        reason: format!("{e:#}"),
    };
    let header = ResponseHeader::default().with_correlation_id(correlation_id);
    let mut frame = BytesMut::zeroed(4);
    header
        .encode(&mut frame, api.response_header_version(version))
        .map_err(failed)?;
    response.encode(&mut frame, version).map_err(failed)?;
    let length = (frame.len() - 4) as u32;
    frame[..4].copy_from_slice(&length.to_be_bytes());
    Ok(frame.freeze())
}

fn versions(error_code: i16) -> ApiVersionsResponse {
    use kafka_protocol::messages::api_versions_response::ApiVersion;
    let version = |api: &Api| {
        ApiVersion::default()
            .with_api_key(api.key as i16)
            .with_min_version(api.told_min)
            .with_max_version(api.max)
    };
    ApiVersionsResponse::default()
        .with_error_code(error_code)
        .with_api_keys(APIS.iter().map(version).collect())
}

/// Runs administration, which waits for the disk, on a blocking thread.
async fn on_disk<T: Send + 'static>(
    context: &Context<'_>,
    work: impl FnOnce(&Arc<Core>) -> T + Send + 'static,
) -> Result<T, ResponseError> {
    let core = context.core.clone();
    tokio::task::spawn_blocking(move || work(&core))
        .await
        .map_err(|e| {
            tracing::error!("a request has failed: {e}");
            ResponseError::UnknownServerError
        })
}

fn text(from: impl Into<String>) -> StrBytes {
    StrBytes::from_string(from.into())
}

/// 0, or the code of the error.
fn code<T>(of: &Result<T, ResponseError>) -> i16 {
    of.as_ref().err().map_or(0, ResponseError::code)
}

#[cfg(test)]
mod tests;
