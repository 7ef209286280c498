//! Reports of violations, grouped by directive and blocked host within each tenant. A group's first report is told at
//! once, its count from time to time.

use hashbrown::HashMap;
use schemas::time::Timestamp;
use serde::{Deserialize, Serialize};

use crate::event::{self, Event, Output, Report};

/// The directive and the host of the group that takes what a tenant reports beyond its bound of groups.
pub(crate) const OTHER: &str = "…other";

#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
struct GroupKey {
    directive: String,
    blocked_host: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Group {
    document_uri: String,
    first_at: Timestamp,
    count: i64,
    offset: i64,
    /// Changed since it was told.
    is_dirty: bool,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Groups {
    by_tenant: HashMap<String, HashMap<GroupKey, Group>>,
    /// Tenant and group, in the order in which they changed.
    dirty: Vec<(String, GroupKey)>,
}

impl Groups {
    pub(crate) fn add(
        &mut self,
        event: &Event<'_>,
        report: Report<'_>,
        groups_max: usize,
        offset: i64,
    ) -> Option<Output> {
        let groups = self.by_tenant.entry_ref(event.tenant).or_default();
        let mut key = GroupKey {
            directive: report.directive.to_owned(),
            blocked_host: report.blocked_host.to_owned(),
        };
        if !groups.contains_key(&key) && groups_max <= groups.len() {
            key = GroupKey {
                directive: OTHER.to_owned(),
                blocked_host: OTHER.to_owned(),
            };
        }
        if let Some(group) = groups.get_mut(&key) {
            group.count += 1;
            group.offset = offset;
            if !group.is_dirty {
                group.is_dirty = true;
                self.dirty.push((event.tenant.to_owned(), key));
            }
            return None;
        }
        let group = Group {
            document_uri: report.document_uri.to_owned(),
            first_at: event.at,
            count: 1,
            offset,
            is_dirty: false,
        };
        let told = told(event.tenant, &key, &group, true);
        groups.insert(key, group);
        Some(told)
    }

    /// Tells the count of every group that grew since it was last told.
    pub(crate) fn flush(&mut self, out: &mut Vec<Output>) {
        for (tenant, key) in self.dirty.drain(..) {
            let groups = self.by_tenant.get_mut(&tenant);
            let group = groups.and_then(|groups| groups.get_mut(&key));
            let group = group.expect("a group is never forgotten");
            group.is_dirty = false;
            out.push(told(&tenant, &key, group, false));
        }
    }
}

fn told(tenant: &str, key: &GroupKey, group: &Group, new: bool) -> Output {
    Output::Group(event::Group {
        tenant: tenant.to_owned(),
        directive: key.directive.clone(),
        blocked_host: key.blocked_host.clone(),
        document_uri: group.document_uri.clone(),
        first_at: group.first_at,
        count: group.count,
        new,
        offset: group.offset,
    })
}
