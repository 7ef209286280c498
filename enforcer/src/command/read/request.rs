//! What tenants ask for, and what they are answered.

use schemas::orders::Numbers;
use schemas::policy::Limit;
use schemas::subject::Subject;
use schemas::time::Timestamp;

use super::{Drafted, Reader};
use crate::command::Action;

impl<'a> Reader<'a> {
    pub(super) fn ask(&mut self, subject: Option<&Subject>) -> Option<Action> {
        if self.fields.contains_key("id") {
            self.say("id", "a request is given its id");
        }
        if subject.is_some_and(|subject| subject.tenant_id().is_none()) {
            self.say("subject", "a request is a tenant's: begin with `tenant/`");
        }
        let limit = self.limit_of(subject?);
        self.refuse_wallet(limit);
        let hard = self.hard(limit);
        if !self.fields.contains_key("hard") {
            self.say("hard", "is missing: the number that is asked for");
        }
        let numbers = Numbers {
            hard: Some(hard?),
            ..Numbers::default()
        };
        let limit = limit?.name.clone();
        Some(Action::Ask { limit, numbers })
    }

    /// A limit of the subject, by its name. Of others nothing is said: who asks may not see them.
    fn limit_of(&mut self, subject: &Subject) -> Option<&'a Limit> {
        let name = self.needed("limit")?;
        let mut limits = self.policy.limits.iter();
        let found = limits.find(|limit| limit.name == name && limit.pattern.is_in(subject));
        if found.is_none() {
            self.say("limit", format!("`{name}` is no limit of `{subject}`"));
        }
        found
    }

    pub(super) fn answer(&mut self, kind: &str, until: Option<Timestamp>) -> Option<Drafted> {
        if self.fields.contains_key("id") {
            self.say("id", "a request has one answer, whose id is its own");
        }
        let approves = kind == "approve";
        let has_end = ["until", "for"]
            .iter()
            .any(|end| self.fields.contains_key(*end));
        if approves && until.is_none() && !has_end {
            self.say("for", "is missing: for how long, such as `2h` or `30d`");
        }
        let request = self.needed("request")?.to_owned();
        Some(Drafted::Answer { request, approves })
    }
}
