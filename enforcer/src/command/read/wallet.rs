//! What is ordered of wallets.

use schemas::money::parse_usd;
use schemas::policy::{Limit, Meter, Window};
use schemas::subject::Subject;
use serde_json::Value;

use super::Reader;
use crate::command::Action;
use crate::policy::did_you_mean;

impl<'a> Reader<'a> {
    /// A wallet has no other numbers than what is paid in.
    pub(super) fn refuse_wallet(&mut self, limit: Option<&Limit>) {
        if let Some(limit) = limit.filter(|limit| limit.window == Window::Wallet) {
            let name = &limit.name;
            self.say("limit", format!("`{name}` is a wallet: order `top_up`"));
        }
    }

    pub(super) fn top_up(&mut self, subject: Option<&Subject>) -> Option<Action> {
        let limit = self.wallet(subject?);
        let amount = self.entry(limit);
        Some(Action::TopUp {
            limit: limit?.name.clone(),
            amount: amount?,
        })
    }

    /// The subject's own wallet of this name, or its only one.
    fn wallet(&mut self, subject: &Subject) -> Option<&'a Limit> {
        let (policy, named) = (self.policy, self.text("limit"));
        let own = policy
            .limits
            .iter()
            .filter(|limit| limit.window == Window::Wallet && limit.pattern.accepts(subject));
        let mut names: Vec<&str> = own.clone().map(|limit| limit.name.as_str()).collect();
        names.sort_unstable();
        names.dedup();
        let name = match (named, names.as_slice()) {
            (Some(name), _) => name,
            (None, [only]) => only,
            (None, []) => {
                let version = policy.version;
                self.say(
                    "subject",
                    format!("version {version} of the policy has no wallet for `{subject}` itself"),
                );
                return None;
            }
            (None, several) => {
                let several = several.join("`, `");
                self.say("limit", format!("is missing: which of `{several}`"));
                return None;
            }
        };
        let found = own.clone().find(|limit| limit.name == name);
        if found.is_none() {
            let hint = did_you_mean(name, names.into_iter());
            self.say(
                "limit",
                format!("`{name}` is no wallet of `{subject}` itself{hint}"),
            );
        }
        found
    }

    /// What is paid in, or taken back.
    fn entry(&mut self, limit: Option<&Limit>) -> Option<i128> {
        let Some(value) = self.fields.get("amount").filter(|value| !value.is_null()) else {
            self.say("amount", "is missing");
            return None;
        };
        let meter = &limit?.meter;
        let read = match meter {
            Meter::Cost => money(value).ok_or("is text such as \"5 USD\""),
            _ => value.as_i64().ok_or("is a whole number, such as 60000"),
        };
        match read {
            Ok(0) => self.say("amount", "is nothing"),
            Ok(amount) => return Some(amount.into()),
            Err(text) => {
                let meter = meter.name();
                self.say("amount", format!("`amount` of {meter} {text}"));
            }
        }
        None
    }
}

fn money(value: &Value) -> Option<i64> {
    let text = value.as_str()?;
    parse_usd(text.strip_suffix("USD").unwrap_or(text).trim()).ok()
}
