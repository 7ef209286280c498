//! What the log does not let this client do: told once, shown while it lasts, and gone by itself.
//!
//! An administrator can take a right away from a client at work, and give it back. Nothing is lost meanwhile: readers
//! keep their place, and what is to be written waits with whoever writes it.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use rdkafka::error::RDKafkaErrorCode;

use crate::clock::Stopwatch;
use crate::config::Config;
use crate::metrics::Metrics;

/// Whoever may not write asks again by writing. When nobody has for so long, it may be that nobody will as long as
/// this counts, so it no longer does.
const REFUSAL_COUNTS_FOR: Duration = Duration::from_secs(30);

/// A right that is denied again so soon was not granted in between: servers learn of a change one by one.
const EPISODE: Duration = Duration::from_secs(10);

/// What Kafka grants to a client.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Right {
    /// To be known at all: the user and the password.
    SignIn,
    ReadTopic(String),
    WriteTopic(String),
    DescribeTopic(String),
    /// To make topics whose names begin as Weir's do.
    CreateTopics,
    /// To be a member of a group.
    JoinGroup(String),
    /// To send without doubling records. Comes with the right to write any topic.
    WriteIdempotently,
}

impl Right {
    /// As `kafka-acls.sh` names the operation.
    #[must_use]
    pub const fn operation(&self) -> &'static str {
        match self {
            Self::SignIn => "Authenticate",
            Self::ReadTopic(_) | Self::JoinGroup(_) => "Read",
            Self::WriteTopic(_) => "Write",
            Self::DescribeTopic(_) => "Describe",
            Self::CreateTopics => "Create",
            Self::WriteIdempotently => "IdempotentWrite",
        }
    }

    /// What the operation is done to.
    #[must_use]
    pub fn resource(&self) -> String {
        match self {
            Self::SignIn | Self::WriteIdempotently => "the cluster".to_owned(),
            Self::CreateTopics => "topics weir.*".to_owned(),
            Self::ReadTopic(name) | Self::WriteTopic(name) | Self::DescribeTopic(name) => {
                format!("topic {name}")
            }
            Self::JoinGroup(name) => format!("group {name}"),
        }
    }

    /// As `kafka-acls.sh` is told what the operation is done to.
    fn arguments(&self) -> String {
        match self {
            Self::SignIn | Self::WriteIdempotently => "--cluster".to_owned(),
            // Whoever may not see topics that exist would make them too.
            Self::CreateTopics => "--operation Describe --operation DescribeConfigs --topic weir. \
                                   --resource-pattern-type prefixed"
                .to_owned(),
            Self::ReadTopic(name) | Self::WriteTopic(name) | Self::DescribeTopic(name) => {
                format!("--topic {name}")
            }
            Self::JoinGroup(name) => format!("--group {name}"),
        }
    }

    /// Whether a refusal comes only in answer to something that this process begins anew.
    const fn is_asked_anew(&self) -> bool {
        matches!(self, Self::SignIn | Self::WriteTopic(_))
    }
}

/// A right that this client lacks, with what it takes to grant it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Denial {
    pub right: Right,
    who: Arc<Who>,
}

/// Who is asking whom.
#[derive(Debug, PartialEq, Eq)]
struct Who {
    /// As the servers know this client.
    principal: String,
    bootstrap: String,
}

impl fmt::Display for Denial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Who {
            principal,
            bootstrap,
        } = &*self.who;
        let operation = self.right.operation();
        let (resource, arguments) = (self.right.resource(), self.right.arguments());
        if self.right == Right::SignIn {
            return write!(
                f,
                "the log does not take the credentials of {principal}: correct [kafka.sasl] or [kafka.tls], or add the \
                 user at {bootstrap}"
            );
        }
        write!(
            f,
            "{principal} is not allowed to {operation} on {resource}: grant it with `kafka-acls.sh --bootstrap-server \
             {bootstrap} --add --allow-principal \"{principal}\" --operation {operation} {arguments}`"
        )
    }
}

/// What is known of this client's rights. Shared by everything in a process that speaks with the log.
pub(crate) struct Access {
    who: Arc<Who>,
    metrics: Metrics,
    lacking: Mutex<BTreeMap<Right, Lack>>,
    /// Mirrors whether `lacking` holds a right that is denied: an acknowledgement takes no lock.
    any: AtomicBool,
    words: Mutex<Words>,
}

/// What the client library said last.
#[derive(Default)]
struct Words {
    any: Option<String>,
    /// Of credentials and certificates.
    distrust: Option<String>,
}

/// What became of one right.
struct Lack {
    denied: bool,
    /// Since the last refusal.
    since: Stopwatch,
    /// How often it went from granted to denied.
    times: u64,
}

impl Access {
    pub(crate) fn new(config: &Config, metrics: &Metrics) -> Arc<Self> {
        Arc::new(Self {
            who: Arc::new(Who {
                principal: config.principal(),
                bootstrap: config.bootstrap.clone(),
            }),
            metrics: metrics.clone(),
            lacking: Mutex::default(),
            any: AtomicBool::new(false),
            words: Mutex::default(),
        })
    }

    pub(crate) fn denial(&self, right: Right) -> Denial {
        Denial {
            right,
            who: Arc::clone(&self.who),
        }
    }

    /// The log has refused something for lack of `right`. Logged when that is new, and then each time that it has
    /// become new twice as often.
    pub(crate) fn denied(&self, right: Right) -> Denial {
        let denial = self.denial(right.clone());
        let mut lacking = self.lacking.lock();
        let lack = lacking.entry(right.clone()).or_insert_with(|| Lack {
            denied: false,
            since: Stopwatch::start(),
            times: 0,
        });
        let new = lack.times == 0 || EPISODE <= lack.since.elapsed();
        lack.since = Stopwatch::start();
        if !lack.denied {
            lack.denied = true;
            self.any.store(true, Ordering::Release);
            self.metrics.denied(&right, true);
            lack.times += u64::from(new);
            if new && lack.times.is_power_of_two() {
                tracing::error!(times = lack.times, "{denial}");
            }
        }
        denial
    }

    /// Whether anything is denied: cheap enough for every record.
    pub(crate) fn any(&self) -> bool {
        self.any.load(Ordering::Acquire)
    }

    /// The log has done what needs `right`.
    pub(crate) fn granted(&self, right: &Right) {
        if !self.any() {
            return;
        }
        let mut lacking = self.lacking.lock();
        let Some(lack) = lacking.get_mut(right).filter(|lack| lack.denied) else {
            return;
        };
        lack.denied = false;
        self.metrics.denied(right, false);
        if lack.times.is_power_of_two() {
            let (operation, resource) = (right.operation(), right.resource());
            tracing::info!("allowed to {operation} on {resource} again");
        }
        let any = lacking.values().any(|lack| lack.denied);
        self.any.store(any, Ordering::Release);
    }

    /// What is denied now.
    pub(crate) fn denials(&self) -> Vec<Denial> {
        if !self.any() {
            return Vec::new();
        }
        let lacking = self.lacking.lock();
        let now = lacking.iter().filter(|(right, lack)| {
            let old = right.is_asked_anew() && REFUSAL_COUNTS_FOR <= lack.since.elapsed();
            lack.denied && !old
        });
        now.map(|(right, _)| self.denial(right.clone())).collect()
    }

    /// Takes note of what the client library says, for the one who waits at start. `true` when it is that one side
    /// does not trust the other.
    pub(crate) fn heard(&self, code: Option<RDKafkaErrorCode>, reason: &str) -> bool {
        let distrust = match code {
            Some(
                RDKafkaErrorCode::SSL
                | RDKafkaErrorCode::Authentication
                | RDKafkaErrorCode::SaslAuthenticationFailed,
            ) => true,
            // With TLS 1.3 a server tells only after the handshake what it thinks of a certificate.
            _ => reason.contains("SSL alert"),
        };
        let mut words = self.words.lock();
        if distrust {
            words.distrust = Some(reason.to_owned());
        }
        // That nothing is left to try says less than what was tried.
        if code != Some(RDKafkaErrorCode::AllBrokersDown) {
            words.any = Some(reason.to_owned());
        }
        distrust
    }

    /// Why the servers and this client do not trust one another, if that was said.
    pub(crate) fn distrust(&self) -> Option<String> {
        self.words.lock().distrust.clone()
    }

    /// What the client library said last.
    pub(crate) fn last_words(&self) -> Option<String> {
        self.words.lock().any.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Mechanism, Sasl};

    fn access() -> Arc<Access> {
        let config = Config {
            bootstrap: "kafka:9093".to_owned(),
            sasl: Some(Sasl {
                mechanism: Mechanism::Plain,
                username: "weir".to_owned(),
                password: None,
                password_file: None,
            }),
            ..Config::default()
        };
        Access::new(&config, &Metrics::default())
    }

    #[track_caller]
    fn check(right: Right, expected: &str) {
        assert_eq!(access().denial(right).to_string(), expected);
    }

    #[test]
    fn says_what_to_grant() {
        check(
            Right::WriteTopic("weir.usage.v1".to_owned()),
            "User:weir is not allowed to Write on topic weir.usage.v1: grant it with `kafka-acls.sh --bootstrap-server \
             kafka:9093 --add --allow-principal \"User:weir\" --operation Write --topic weir.usage.v1`",
        );
        check(
            Right::CreateTopics,
            "User:weir is not allowed to Create on topics weir.*: grant it with `kafka-acls.sh --bootstrap-server \
             kafka:9093 --add --allow-principal \"User:weir\" --operation Create --operation Describe --operation \
             DescribeConfigs --topic weir. --resource-pattern-type prefixed`",
        );
        check(
            Right::WriteIdempotently,
            "User:weir is not allowed to IdempotentWrite on the cluster: grant it with `kafka-acls.sh --bootstrap-server \
             kafka:9093 --add --allow-principal \"User:weir\" --operation IdempotentWrite --cluster`",
        );
    }

    #[test]
    fn a_denial_lasts_until_the_same_right_is_granted() {
        let access = access();
        let read = || Right::ReadTopic("a".to_owned());
        access.granted(&read());
        assert!(access.denials().is_empty());
        access.denied(read());
        access.denied(read());
        access.denied(Right::JoinGroup("a".to_owned()));
        access.granted(&Right::WriteTopic("a".to_owned()));
        assert_eq!(access.denials().len(), 2);
        access.granted(&read());
        assert_eq!(access.denials()[0].right, Right::JoinGroup("a".to_owned()));
        access.granted(&Right::JoinGroup("a".to_owned()));
        assert!(access.denials().is_empty() && !access.any());
    }
}
