//! What an engine tells of sketches.

use std::mem;
use std::sync::Arc;

use schemas::policy::Stream;
use serde::{Deserialize, Serialize};

use super::Engine;
use crate::event::Output;
use crate::owner::Owner;
use crate::plan::Kind;
use crate::sketch::{Hours, News};

/// Tenants whose sketches changed since they were told, in the order in which they did.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Sketched {
    spreads: Vec<Arc<str>>,
    rankings: Vec<Arc<str>>,
}

impl Sketched {
    pub(super) fn note(&mut self, tenant: &str, news: News) {
        if news.spreads {
            self.spreads.push(tenant.into());
        }
        if news.rankings {
            self.rankings.push(tenant.into());
        }
    }
}

impl Engine {
    /// As [`Engine::flush`], for spreads only.
    pub(crate) fn flush_spreads(&mut self, out: &mut Vec<Output>) {
        let tenants = mem::take(&mut self.state.sketched.spreads);
        self.flush_sketches(&tenants, |hours, name, stream| {
            hours.flush_spreads(name, stream, out);
        });
    }

    /// As [`Engine::flush`], for rankings only.
    pub(crate) fn flush_rankings(&mut self, out: &mut Vec<Output>) {
        let tenants = mem::take(&mut self.state.sketched.rankings);
        self.flush_sketches(&tenants, |hours, name, stream| {
            hours.flush_rankings(name, stream, out);
        });
    }

    fn flush_sketches(
        &mut self,
        tenants: &[Arc<str>],
        mut flush: impl FnMut(&mut Hours, &str, Stream),
    ) {
        let Kind::Events(stream) = self.shard.kind else {
            return;
        };
        for name in tenants {
            let owner = self.state.owners.get_mut(name);
            if let Some(hours) = owner.and_then(Owner::sketches) {
                flush(hours, name, stream);
            }
        }
    }
}
