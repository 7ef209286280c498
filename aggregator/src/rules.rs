//! What holds, as those who ask are told: the policy, what was ordered for single subjects, and since when the policy
//! has its wallets.

use std::collections::{BTreeMap, BTreeSet};

use bus::Followed;
use schemas::orders::{Order, OrderKey, Orders};
use schemas::policy::{Limit, Policy, Window};
use schemas::record::{PolicyRecord, PolicyVersion};
use schemas::time::Timestamp;

/// A fold of `weir.policies.v1`.
#[derive(Debug, Default)]
pub(crate) struct Rules {
    pub(crate) policy: Policy,
    pub(crate) orders: Orders,
    /// Each version that the log keeps, by its number.
    versions: BTreeMap<u64, Version>,
}

/// What is kept of a version.
#[derive(Debug)]
struct Version {
    at: Timestamp,
    wallets: BTreeSet<Series>,
}

/// What a wallet's spending is counted by: pattern and meter. Without them in the policy it is forgotten.
type Series = (String, String);

fn series(limit: &Limit) -> Series {
    let pattern = limit.pattern.as_str().to_owned();
    (pattern, limit.meter.name().to_owned())
}

impl Rules {
    /// Of a policy whose history nobody knows.
    #[cfg(test)]
    pub(crate) fn of(policy: Policy) -> Self {
        Self {
            policy,
            ..Self::default()
        }
    }

    /// Takes what the log says. What cannot be obeyed is told, and changes nothing.
    pub(crate) fn follow(&mut self, followed: Followed<PolicyRecord>) {
        match followed {
            Followed::Put { key, value, .. } => match value {
                PolicyRecord::Policy(version) => self.know(&key, &version),
                PolicyRecord::Order(order) => match Order::try_from(&order) {
                    Ok(order) => drop(self.orders.put(order)),
                    Err(error) => tracing::error!(%error, "an order in the log cannot be obeyed"),
                },
                PolicyRecord::Layout(_) => {}
            },
            Followed::Lifted { key, .. } => {
                if let Some(key) = OrderKey::parse(&key) {
                    self.orders.end(&key, i64::MAX);
                }
            }
            _ => {}
        }
    }

    fn know(&mut self, key: &str, version: &PolicyVersion) {
        let policy = match Policy::try_from(version) {
            Ok(policy) => policy,
            Err(error) => {
                tracing::error!(key, %error, "a policy in the log cannot be obeyed");
                return;
            }
        };
        let wallets = policy.limits.iter();
        let wallets = wallets.filter(|limit| limit.window == Window::Wallet);
        let kept = Version {
            at: version.at,
            wallets: wallets.map(series).collect(),
        };
        self.versions.insert(policy.version, kept);
        if key == PolicyVersion::KEY {
            self.policy = policy;
        }
    }

    /// Since when the policy has this wallet without a break: what came before is not spent of it.
    pub(crate) fn wallet_since(&self, limit: &Limit) -> Timestamp {
        let series = series(limit);
        let newest_first = self.versions.range(..=self.policy.version).rev();
        let unbroken = newest_first.take_while(|(_, version)| version.wallets.contains(&series));
        unbroken
            .last()
            .map_or(Timestamp::MIN, |(_, version)| version.at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::policy;

    /// Versions from 1 on, ten seconds from one to the next, the last of which holds.
    fn rules(versions: &[&str]) -> Rules {
        let mut rules = Rules::default();
        for (number, limits) in (1..).zip(versions) {
            let policy = policy(number, limits);
            let mut record = PolicyVersion::from(&policy);
            record.at = Timestamp::from_seconds(number * 10);
            for key in [PolicyVersion::KEY.to_owned(), record.version_key()] {
                rules.follow(Followed::Put {
                    key,
                    value: PolicyRecord::Policy(record.clone()),
                    partition: 0,
                    offset: number,
                });
            }
        }
        rules
    }

    #[track_caller]
    fn check(versions: &[&str], since: i64) {
        let rules = rules(versions);
        let wallet = rules.policy.limit("w").unwrap();
        let since = Timestamp::from_seconds(since);
        assert_eq!(rules.wallet_since(wallet), since, "{versions:?}");
    }

    #[test]
    fn a_wallet_is_as_old_as_its_spending() {
        const WALLET: &str = "w tenant/* tokens hard=20 : wallet";
        const OTHER: &str = "a tenant/* tokens hard=20 : sliding 10s";
        check(&[WALLET], 10);
        check(&[OTHER, WALLET], 20);
        check(&[WALLET, OTHER, WALLET], 30);
        // Another number and another name leave what was spent.
        let more = "w tenant/* tokens hard=30 : wallet";
        let renamed = "v tenant/* tokens hard=30 : wallet";
        check(&[OTHER, renamed, more, WALLET], 20);
        // Another subject or meter does not.
        let users = "w tenant/*/user/* tokens hard=20 : wallet";
        let requests = "w tenant/* requests hard=20 : wallet";
        check(&[users, WALLET], 20);
        check(&[requests, WALLET], 20);
    }
}
