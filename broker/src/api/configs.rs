//! Configuration of topics: telling it and changing it.

use std::sync::Arc;

use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::alter_configs_request::AlterConfigsResource as ToReplace;
use kafka_protocol::messages::alter_configs_response::AlterConfigsResourceResponse as Replaced;
use kafka_protocol::messages::describe_configs_request::DescribeConfigsResource;
use kafka_protocol::messages::describe_configs_response::{
    DescribeConfigsResourceResult, DescribeConfigsResult,
};
use kafka_protocol::messages::incremental_alter_configs_request::{
    AlterConfigsResource as ToChange, AlterableConfig,
};
use kafka_protocol::messages::incremental_alter_configs_response::AlterConfigsResourceResponse as Changed;
use kafka_protocol::messages::{
    AlterConfigsRequest, AlterConfigsResponse, DescribeConfigsRequest, DescribeConfigsResponse,
    IncrementalAlterConfigsRequest, IncrementalAlterConfigsResponse,
};
use kafka_protocol::protocol::StrBytes;

use super::topics::wire_error;
use super::{Context, on_disk, text};
use crate::core::Core;
use crate::topics::settings::{Overrides, SETTINGS};

const TOPIC: i8 = 2;
const BROKER: i8 = 4;

/// Where a value comes from, as the protocol counts it.
const FROM_TOPIC: i8 = 1;
const FROM_DEFAULT: i8 = 5;

/// What an incremental change does with a value.
const SET: i8 = 0;
const DELETE: i8 = 1;
const APPEND: i8 = 2;
const SUBTRACT: i8 = 3;

/// Every setting with its value and where that comes from.
pub(super) fn effective(overrides: &Overrides) -> impl Iterator<Item = (&'static str, String, i8)> {
    SETTINGS
        .iter()
        .map(|setting| match overrides.get(setting.name) {
            Some(value) => (setting.name, value.clone(), FROM_TOPIC),
            None => (setting.name, setting.default.to_owned(), FROM_DEFAULT),
        })
}

pub(super) fn describe(
    core: &Arc<Core>,
    request: DescribeConfigsRequest,
) -> DescribeConfigsResponse {
    let results = request
        .resources
        .into_iter()
        .map(|resource| describe_one(core, resource));
    DescribeConfigsResponse::default().with_results(results.collect())
}

fn describe_one(core: &Core, resource: DescribeConfigsResource) -> DescribeConfigsResult {
    let result = DescribeConfigsResult::default()
        .with_resource_type(resource.resource_type)
        .with_resource_name(resource.resource_name.clone());
    match resource.resource_type {
        TOPIC => {}
        // The broker's own settings are its owner's, not its clients'.
        BROKER => return result,
        _ => return result.with_error_code(ResponseError::InvalidRequest.code()),
    }
    let Some(topic) = core.topics.get(&resource.resource_name) else {
        return result.with_error_code(ResponseError::UnknownTopicOrPartition.code());
    };
    let keys = resource.configuration_keys;
    let is_wanted = |name: &str| {
        keys.as_ref()
            .is_none_or(|keys| keys.is_empty() || keys.iter().any(|k| k.as_str() == name))
    };
    let configs = effective(&topic.overrides)
        .filter(|(name, _, _)| is_wanted(name))
        .map(|(name, value, source)| {
            DescribeConfigsResourceResult::default()
                .with_name(StrBytes::from_static_str(name))
                .with_value(Some(text(value)))
                .with_config_source(source)
        });
    result.with_configs(configs.collect())
}

/// The older request: what is not named goes back to its default.
pub(super) async fn replace(
    context: &Context<'_>,
    request: AlterConfigsRequest,
) -> AlterConfigsResponse {
    let replace = move |core: &Arc<Core>| {
        let replace = |resource: ToReplace| {
            let configs = resource.configs.into_iter();
            let wanted: Overrides = configs
                .filter_map(|c| Some((c.name.to_string(), c.value?.to_string())))
                .collect();
            let (code, why) = configure(
                core,
                (resource.resource_type, &resource.resource_name),
                request.validate_only,
                |overrides| *overrides = wanted,
            );
            Replaced::default()
                .with_error_code(code)
                .with_error_message(why)
                .with_resource_type(resource.resource_type)
                .with_resource_name(resource.resource_name)
        };
        request.resources.into_iter().map(replace).collect()
    };
    let responses = on_disk(context, replace).await.unwrap_or_default();
    AlterConfigsResponse::default().with_responses(responses)
}

pub(super) async fn change(
    context: &Context<'_>,
    request: IncrementalAlterConfigsRequest,
) -> IncrementalAlterConfigsResponse {
    let change = move |core: &Arc<Core>| {
        let change = |resource: ToChange| {
            let changes = resource.configs;
            let (code, why) = configure(
                core,
                (resource.resource_type, &resource.resource_name),
                request.validate_only,
                |overrides| changes.iter().for_each(|change| apply(overrides, change)),
            );
            Changed::default()
                .with_error_code(code)
                .with_error_message(why)
                .with_resource_type(resource.resource_type)
                .with_resource_name(resource.resource_name)
        };
        request.resources.into_iter().map(change).collect()
    };
    let responses = on_disk(context, change).await.unwrap_or_default();
    IncrementalAlterConfigsResponse::default().with_responses(responses)
}

fn configure(
    core: &Core,
    (kind, name): (i8, &str),
    dry_run: bool,
    change: impl FnOnce(&mut Overrides),
) -> (i16, Option<StrBytes>) {
    if kind != TOPIC {
        let why = StrBytes::from_static_str("only topics can be configured by clients");
        return (ResponseError::InvalidRequest.code(), Some(why));
    }
    match core.topics.configure(name, dry_run, change) {
        Ok(()) => (0, None),
        Err(e) => (wire_error(&e).code(), Some(text(e.to_string()))),
    }
}

fn apply(overrides: &mut Overrides, change: &AlterableConfig) {
    let name = change.name.to_string();
    let default = || {
        SETTINGS
            .iter()
            .find(|s| s.name == name)
            .map_or("", |s| s.default)
    };
    let standing = overrides.get(&name).map_or_else(default, String::as_str);
    let value = change.value.as_ref().map_or("", |v| v.as_str());
    let listed = |list: &str| list.split(',').map(str::to_owned).collect::<Vec<_>>();
    let next = match change.config_operation {
        SET => Some(value.to_owned()),
        APPEND => {
            let mut all = listed(standing);
            all.extend(
                listed(value)
                    .into_iter()
                    .filter(|v| !standing.split(',').any(|s| s == v)),
            );
            Some(all.join(","))
        }
        SUBTRACT => {
            let gone = listed(value);
            let kept: Vec<_> = listed(standing)
                .into_iter()
                .filter(|v| !gone.contains(v))
                .collect();
            Some(kept.join(","))
        }
        DELETE => None,
        // Refused by the check that follows, under this name.
        unknown => Some(format!("operation {unknown}")),
    };
    match next {
        Some(value) => overrides.insert(name, value),
        None => overrides.remove(&name),
    };
}
