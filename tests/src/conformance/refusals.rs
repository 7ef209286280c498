//! What a home does not have, and how it says so.

use anyhow::{Context, ensure};
use kafka_protocol::ResponseError as E;
use kafka_protocol::messages::{
    AddOffsetsToTxnRequest, AddPartitionsToTxnRequest, ApiVersionsRequest, DescribeAclsRequest,
    EndTxnRequest, FindCoordinatorRequest, InitProducerIdRequest, TransactionalId,
    TxnOffsetCommitRequest,
};
use kafka_protocol::protocol::Request;

use super::lab::Lab;
use super::wire::{ANYBODY, Wire, batch, check_code, fetch_request, produce_request, text};

const TRANSACTION: i8 = 1;
/// A type of coordinator that nobody has.
const NO_SUCH: i8 = 77;

fn is_advertised<R: Request>(lab: &Lab) -> anyhow::Result<bool> {
    let answer = Wire::connect(lab)?.ask(0, &ApiVersionsRequest::default())?;
    Ok(answer.api_keys.iter().any(|a| a.api_key == R::KEY))
}

/// Each step of a transaction, asked for by itself.
pub(super) fn no_transactions(lab: &Lab) -> anyhow::Result<()> {
    let topic = lab.topic(1, &[("retention.ms", "-1")])?;
    let refused = E::TransactionalIdAuthorizationFailed.code();
    let mut wire = Wire::connect(lab)?;
    for version in 1..=4 {
        let request = FindCoordinatorRequest::default().with_key_type(TRANSACTION);
        let code = if version < 4 {
            wire.ask(version, &request.with_key(text("t")))?.error_code
        } else {
            let request = request.with_coordinator_keys(vec![text("t")]);
            wire.ask(version, &request)?.coordinators[0].error_code
        };
        check_code(code, refused).with_context(|| format!("coordinator, version {version}"))?;
    }
    let id = Some(TransactionalId(text("t")));
    let init = InitProducerIdRequest::default()
        .with_transactional_id(id.clone())
        .with_transaction_timeout_ms(1000);
    check_code(wire.ask(4, &init)?.error_code, refused).context("producer id")?;
    let produce = produce_request(&topic, batch(ANYBODY, &["v"], 1)?).with_transactional_id(id);
    let answer = wire.ask(9, &produce)?;
    check_code(
        answer.responses[0].partition_responses[0].error_code,
        refused,
    )
    .context("produce")?;
    // Clients do not send what is not advertised; their users read "not supported by the broker" at once.
    ensure!(
        !is_advertised::<AddPartitionsToTxnRequest>(lab)?,
        "partitions"
    );
    ensure!(!is_advertised::<AddOffsetsToTxnRequest>(lab)?, "offsets");
    ensure!(
        !is_advertised::<TxnOffsetCommitRequest>(lab)?,
        "commit of offsets"
    );
    ensure!(!is_advertised::<EndTxnRequest>(lab)?, "end");
    Ok(())
}

pub(super) fn acls_are_off(lab: &Lab) -> anyhow::Result<()> {
    let answer = Wire::connect(lab)?.ask(
        3,
        &DescribeAclsRequest::default()
            .with_resource_type_filter(1)
            .with_pattern_type_filter(1)
            .with_operation(1)
            .with_permission_type(1),
    )?;
    check_code(answer.error_code, E::SecurityDisabled.code())
}

pub(super) fn no_acls(lab: &Lab) -> anyhow::Result<()> {
    ensure!(
        !is_advertised::<DescribeAclsRequest>(lab)?,
        "it is advertised"
    );
    Ok(())
}

pub(super) fn no_such_coordinator(lab: &Lab) -> anyhow::Result<()> {
    let mut wire = Wire::connect(lab)?;
    let request = FindCoordinatorRequest::default().with_key_type(NO_SUCH);
    let code = wire
        .ask(3, &request.clone().with_key(text("t")))?
        .error_code;
    check_code(code, E::InvalidRequest.code())?;
    let request = request.with_coordinator_keys(vec![text("t")]);
    let found = wire.ask(4, &request)?.coordinators;
    check_code(found[0].error_code, E::InvalidRequest.code())
}

/// A client whose server was replaced by another goes on in a session that nobody here has opened.
pub(super) fn no_such_session(lab: &Lab) -> anyhow::Result<()> {
    let topic = lab.topic(1, &[])?;
    let fetch = fetch_request(&topic, 0);
    let fetch = fetch.with_session_id(123_456).with_session_epoch(5);
    let answer = Wire::connect(lab)?.ask(12, &fetch)?;
    check_code(answer.error_code, E::FetchSessionIdNotFound.code())
}
