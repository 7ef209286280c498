//! What is ordered to be counted anew.

use std::collections::BTreeSet;

use schemas::orders::counts_until;
use schemas::policy::{Limit, Window};
use schemas::subject::Subject;
use schemas::time::Timestamp;

use super::{Drafted, Reader, patterns_of};
use crate::command::Action;
use crate::policy::did_you_mean;

impl<'a> Reader<'a> {
    /// What is to be cleared, and until when that is to be known.
    pub(super) fn clear(&mut self) -> Option<(Drafted, Timestamp)> {
        let subject = self.subject();
        let limit = self.needed("limit")?.to_owned();
        let limits = self.counted(&limit, subject.as_ref())?;
        let subject = subject?;
        let never_cleared = limits.iter().find_map(|own| match own.window {
            Window::Wallet => {
                Some("is a wallet: what was paid in and spent is not cleared; to admit again, order `top_up`")
            }
            Window::Concurrent => Some(
                "counts what is in flight, and nothing that was: each place comes back with the end of its reservation",
            ),
            _ => None,
        });
        if let Some(why) = never_cleared {
            self.say("limit", format!("`{limit}` {why}"));
            return None;
        }
        let zone = self.policy.zone(subject.tenant_id().as_deref());
        // Which of them is the subject's tier's may change.
        let ends = limits.iter().map(|own| counts_until(own, zone, self.now));
        let until = ends.max().flatten()?;
        let action = Action::Clear { limit };
        Some((Drafted::On { subject, action }, until))
    }

    /// The limits of the name that are counted for the subject itself, in whatever tier.
    fn counted(&mut self, name: &str, subject: Option<&Subject>) -> Option<Vec<&'a Limit>> {
        let named = self.named(name)?;
        let subject = subject?;
        if subject.tenant_id().is_none() {
            let text = format!(
                "`{subject}` is wider than a tenant, and what is counted there comes from many: it cannot be told exactly \
                 what was before; `raise` the limit for a while instead"
            );
            self.say("subject", text);
            return None;
        }
        let all = named.iter().copied();
        let counted: Vec<&Limit> = all.filter(|l| l.pattern.accepts(subject)).collect();
        if !counted.is_empty() {
            return Some(counted);
        }
        let patterns = patterns_of(&named);
        let own = self.policy.limits_on(subject);
        let own: BTreeSet<&str> = own.map(|limit| limit.name.as_str()).collect();
        let hint = did_you_mean(name, own.into_iter());
        self.say(
            "subject",
            format!(
                "limit `{name}` is counted for each `{patterns}`, and not for `{subject}` itself: name one of them{hint}"
            ),
        );
        None
    }
}
