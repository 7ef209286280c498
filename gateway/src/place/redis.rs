//! The ledger in Redis: every call is one script, and one round trip, over all accounts of a request.
//!
//! Its accounts live under the id of the server's run. A server that has restarted, with an empty memory or an old one,
//! therefore has none, and nothing is admitted before what was spent is read back from the log and counted there: the
//! mark [`RedisLedger::keep`] sets says so. Windows go by the server's clock, which is the one that all gateways share.
//!
//! Numbers are below 2^53, so money is told in whole nano-dollars: an estimate is rounded up, a limit down.
//!
//! Where only what is outstanding stands in the way, the script says so instead of a moment: a wait is measured by the
//! clock of who waits.

mod keep;
#[cfg(test)]
pub(crate) mod tests;

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use ::redis::aio::MultiplexedConnection;
use ::redis::{Client, RedisError, Script};
use arc_swap::ArcSwapOption;
use parking_lot::Mutex;
use schemas::calendar;
use schemas::policy::{Meter, Period};
use schemas::time::Timestamp;
use tokio::sync::Notify;

use super::{Accounts, Clearing, Name};
use crate::ledger::{Commit, Ending, Id, Late, Line, Mark, OUTSTANDING_RETRY, Outcome};
use crate::window::Tally;
use crate::window::rule::Parts;
pub(crate) use keep::{Known, Past};

/// The largest number that is told to Redis.
const NUMBER_MAX: u64 = 1 << 52;
/// Pico-dollars of the unit in which money is told.
const MONEY_QUANTUM: u64 = 1_000;
/// Numbers of an answer before those of its accounts.
const HEAD: usize = 5;
/// Numbers of an answer for each account.
const OF_ACCOUNT: usize = 3;
const MICRO: Duration = Duration::from_micros(1);
/// Instead of when an account frees: what is outstanding may end at any time.
const SOON: i64 = -1;

pub(crate) struct RedisLedger {
    client: Client,
    script: Script,
    /// While it can be relied on.
    live: ArcSwapOption<Live>,
    /// A call has failed.
    failed: Notify,
    /// Commits that Redis has not been told of, the oldest first.
    untold: Mutex<VecDeque<(Id, Accounts)>>,
    untold_max: usize,
    remembered: Duration,
    /// Orders that clear and that this run of the server may not know yet, the oldest first.
    clearing: Mutex<VecDeque<Clearing>>,
    /// There is one.
    clears: Notify,
}

/// A connection to one run of the server.
#[derive(Clone)]
struct Live {
    connection: MultiplexedConnection,
    /// What all keys of this run begin with.
    prefix: Arc<str>,
}

/// One step of the ledger.
#[derive(Clone, Copy)]
struct Step {
    named: &'static str,
    id: Id,
    ttl: Duration,
    /// `None`: the server's own time.
    now: Option<Timestamp>,
    /// Of a step that clears.
    mark: Option<Mark>,
}

// === impl Name ===

impl Name {
    /// `counter` names the limit, with its meter and window.
    pub(crate) fn new(counter: &str, subject: &str, meter: &Meter) -> Self {
        Self {
            text: format!("{counter}\n{subject}"),
            quantum: match meter {
                Meter::Cost => MONEY_QUANTUM,
                _ => 1,
            },
        }
    }
}

// === impl RedisLedger ===

impl RedisLedger {
    /// # Errors
    /// When `url` is no address of a Redis server. Nothing is connected yet.
    pub(crate) fn new(
        url: &str,
        remembered: Duration,
        untold_max: usize,
    ) -> Result<Self, RedisError> {
        Ok(Self {
            client: Client::open(url)?,
            script: Script::new(include_str!("ledger.lua")),
            live: ArcSwapOption::empty(),
            failed: Notify::new(),
            untold: Mutex::default(),
            untold_max,
            remembered,
            clearing: Mutex::default(),
            clears: Notify::new(),
        })
    }

    pub(super) async fn reserve(
        &self,
        id: Id,
        accounts: &mut Accounts,
        ttl: Duration,
    ) -> Option<Outcome> {
        let step = Step {
            ttl,
            ..step("reserve", id)
        };
        outcome(&self.ask(step, accounts).await?)
    }

    pub(super) async fn spend(&self, id: Id, accounts: &mut Accounts) -> Option<Outcome> {
        outcome(&self.ask(step("spend", id), accounts).await?)
    }

    pub(super) async fn look(&self, accounts: &mut Accounts) -> Option<bool> {
        let told = self.ask(step("look", 0), accounts).await?;
        outcome(&told).map(|outcome| outcome != Outcome::Refused)
    }

    pub(super) async fn commit(&self, id: Id, accounts: &mut Accounts) -> (Commit, bool) {
        match self.ask(step("commit", id), accounts).await {
            Some(told) => committed(&told),
            None => {
                let mut untold = self.untold.lock();
                if untold.len() == self.untold_max {
                    untold.pop_front();
                    tracing::error!(
                        "a commit that redis was not told of is forgotten there: it is in the log"
                    );
                }
                untold.push_back((id, accounts.clone()));
                (Commit::default(), true)
            }
        }
    }

    pub(super) async fn release(&self, id: Id) -> Option<(Ending, bool)> {
        let told = self
            .ask(step("release", id), &mut Accounts::default())
            .await?;
        match outcome(&told)? {
            Outcome::Admitted { .. } => Some((Ending::Released, true)),
            Outcome::Ended(ending) => Some((ending, false)),
            Outcome::Refused | Outcome::Full => None,
        }
    }

    /// Leaves an order that clears to be told.
    pub(super) fn clear(&self, clearing: Clearing) {
        self.clearing.lock().push_back(clearing);
        self.clears.notify_one();
    }

    /// Takes a step where the ledger can be relied on.
    async fn ask(&self, step: Step, accounts: &mut Accounts) -> Option<Vec<i64>> {
        let live = self.live.load_full()?;
        match self.take(&live, step, accounts).await {
            Ok(told) => Some(told),
            Err(error) => {
                tracing::debug!(%error, "redis does not answer");
                self.live.store(None);
                self.failed.notify_one();
                None
            }
        }
    }

    async fn take(
        &self,
        live: &Live,
        step: Step,
        accounts: &mut Accounts,
    ) -> Result<Vec<i64>, RedisError> {
        let mut script = self.script.key(live.mark());
        script.key(format!("{}r:{:032x}", live.prefix, step.id));
        for name in &accounts.names {
            script.key(format!("{}a:{}", live.prefix, name.text));
        }
        script
            .arg(step.named)
            .arg(step.now.map_or(0, Timestamp::as_micros))
            .arg(micros(step.ttl))
            .arg(micros(self.remembered));
        for (line, name) in accounts.lines.iter().zip(&accounts.names) {
            let quantum = u128::from(name.quantum);
            let amount = line.amount.div_ceil(name.quantum).min(NUMBER_MAX);
            let hard = (line.rule.hard() / quantum).min(NUMBER_MAX.into());
            let (kind, a, b) = window(line, step.now.unwrap_or(accounts.at));
            script.arg(amount).arg(hard.to_string());
            script.arg(kind).arg(a).arg(b);
        }
        if let Some(mark) = step.mark {
            script.arg(mark.seq).arg(mark.at.as_micros());
        }
        let told: Vec<i64> = script.invoke_async(&mut live.connection.clone()).await?;
        if told.len() < HEAD {
            return Err(RedisError::from((
                ::redis::ErrorKind::UnexpectedReturnType,
                "the ledger's script told too little",
            )));
        }
        accounts.take_over(&told);
        Ok(told)
    }
}

// === impl Live ===

impl Live {
    /// The key that says that all of the past is counted.
    fn mark(&self) -> String {
        format!("{}complete", self.prefix)
    }
}

// === impl Accounts ===

impl Accounts {
    /// Takes over what the script says of each account.
    fn take_over(&mut self, told: &[i64]) {
        let soon = self.at.plus(OUTSTANDING_RETRY);
        self.at = Timestamp::from_micros(told[1]);
        let of_accounts = told[HEAD..].chunks_exact(OF_ACCOUNT);
        for ((line, name), told) in self.lines.iter_mut().zip(&self.names).zip(of_accounts) {
            line.tally = Tally {
                used: u128::from(told[0].unsigned_abs()) * u128::from(name.quantum),
                frees_at: match told[2] {
                    0 => None,
                    SOON => Some(soon),
                    at => Some(Timestamp::from_micros(at)),
                },
            };
            line.full = told[1] == 1;
        }
    }
}

const fn step(named: &'static str, id: Id) -> Step {
    Step {
        named,
        id,
        ttl: Duration::ZERO,
        now: None,
        mark: None,
    }
}

fn micros(span: Duration) -> u64 {
    u64::try_from(span.as_micros()).unwrap_or(NUMBER_MAX)
}

/// A window as the script takes it.
fn window(line: &Line, now: Timestamp) -> (&'static str, String, String) {
    match line.rule.parts() {
        Parts::Sliding {
            slice_micros,
            slices,
        } => ("s", slice_micros.to_string(), slices.to_string()),
        Parts::Bucket { unit, drain } => ("b", unit.to_string(), drain.to_string()),
        Parts::Calendar(period) => ("c", bounds(period, line, now), String::new()),
        Parts::InFlight => ("f", String::new(), String::new()),
    }
}

/// Where the period of now, the one before and the one after begin, and where that one ends: the server's clock says
/// which of them it is.
fn bounds(period: Period, line: &Line, now: Timestamp) -> String {
    let (start, end) = calendar::bounds(period, line.zone, now);
    let (before, _) = calendar::bounds(period, line.zone, start.minus(MICRO));
    let (_, after) = calendar::bounds(period, line.zone, end);
    let bounds = [before, start, end, after].map(|at| at.as_micros().max(0).to_string());
    bounds.join(",")
}

/// `None` where the past is not counted yet.
fn outcome(told: &[i64]) -> Option<Outcome> {
    let expires_at = Timestamp::from_micros(told[2]);
    Some(match told[0] {
        0 => return None,
        code @ (1 | 2) => Outcome::Admitted {
            expires_at,
            repeated: code == 2,
        },
        4 => Outcome::Ended(Ending::Committed(committed(told).0)),
        5 => Outcome::Ended(Ending::Released),
        6 => Outcome::Ended(Ending::Expired),
        _ => Outcome::Refused,
    })
}

fn committed(told: &[i64]) -> (Commit, bool) {
    let late = match told[3] {
        1 => Some(Late::Released),
        2 => Some(Late::Expired),
        3 => Some(Late::Unknown),
        _ => None,
    };
    let over = told[4] == 1;
    (Commit { late, over }, told[0] == 1)
}
