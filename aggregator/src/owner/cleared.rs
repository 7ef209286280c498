//! Windows that begin anew because somebody ordered it.

use schemas::subject::Subject;
use schemas::time::Timestamp;

use super::Owner;
use super::kept::{Teller, root};
use crate::plan::Member;

impl Owner {
    /// Takes the window of `member` out for one subject, as of `at`: what comes next makes it anew, with slices of its
    /// own. Returns what was in it.
    pub(crate) fn clear(
        &mut self,
        subject: &Subject,
        member: &Member,
        at: Timestamp,
        teller: &mut Teller<'_>,
    ) -> i128 {
        let root = root(teller.owner, teller.is_tenant);
        let name = subject.as_str().strip_prefix(&root);
        let Some(place) = name.and_then(|name| self.subjects.place(name)) else {
            return 0;
        };
        let entry = self.subjects.get_mut(place);
        if entry.number(member.series).is_none() {
            return 0;
        }
        let rules = teller.plan.rules(member, teller.zone);
        let (name, kept) = entry.named(member.series);
        let before = kept.counter.sum_by(rules, teller.passed.by().max(at));
        let mut changes = Vec::new();
        kept.counter.clear(rules, at, &mut changes);
        teller.tell(name, changes);
        entry.remove(member.series);
        self.subjects.retain(|entry| !entry.counters().is_empty());
        self.list_falls();
        before
    }
}
