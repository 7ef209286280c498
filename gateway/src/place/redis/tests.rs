//! The script against the ledger in the process, which is held to a model: both are asked the same, step by step.

use std::net::TcpListener;
use std::process::{Child, Command, Stdio};

use chrono_tz::Tz;
use proptest::prelude::*;
use proptest::test_runner::TestRunner;
use schemas::policy::Window;
use uuid::Uuid;

use super::*;
use crate::ledger::{Bounds, Ledger};
use crate::window::Rule;

const START: i64 = 1_709_999_990_000_000;
const SECOND: i64 = 1_000_000;
const ZONE: Tz = Tz::Europe__Berlin;
const BOUNDS: Bounds = Bounds {
    accounts_max: 1_000,
    reservations_max: 1_000,
    remembered: Duration::from_secs(1_000),
};

const MARKED: Duration = Duration::from_secs(10_000);

/// Ends with its test.
pub(crate) struct Server {
    port: u16,
    child: Child,
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub(crate) fn start() -> Server {
    let free = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = free.local_addr().unwrap().port();
    drop(free);
    let mut server = Command::new("redis-server");
    server.args(["--bind", "127.0.0.1", "--save", "", "--port"]);
    server.arg(port.to_string()).stdout(Stdio::null());
    let child = server
        .spawn()
        .expect("redis-server is there: `scripts/install-needs test` installs it");
    Server { port, child }
}

/// A ledger of its own on `server`, as though its past were counted.
async fn ledger(server: &Server) -> (RedisLedger, Live) {
    let url = format!("redis://127.0.0.1:{}/", server.port);
    let ledger = RedisLedger::new(&url, BOUNDS.remembered, 10).unwrap();
    let mut connection = loop {
        match ledger.client.get_multiplexed_async_connection().await {
            Ok(connection) => break connection,
            Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
        }
    };
    let prefix = format!("test:{}:", Uuid::new_v4()).into();
    let mut set = ::redis::cmd("SET");
    let mark = format!("{prefix}complete");
    set.arg(mark)
        .arg(1)
        .exec_async(&mut connection)
        .await
        .unwrap();
    (ledger, Live { connection, prefix })
}

/// One that can be relied on.
pub(crate) async fn relied_on(server: &Server) -> RedisLedger {
    let (redis, live) = ledger(server).await;
    redis.live.store(Some(live.into()));
    redis
}

#[derive(Clone, Copy, Debug)]
enum What {
    Reserve(u64),
    Spend,
    Look,
    /// Of which reservation before.
    Commit(usize),
    Release(usize),
    /// By the order of this number.
    Clear(i64),
}

type Asked = (i64, What, [Option<u64>; 3]);

fn accounts(windows: [Window; 3], hard: u64, amounts: [Option<u64>; 3], at: Timestamp) -> Accounts {
    let line = |account: usize| {
        Some(Line {
            key: account as u128,
            rule: Rule::new(windows[account], hard.into()),
            zone: ZONE,
            amount: amounts[account]?,
            tally: Tally::default(),
            full: false,
        })
    };
    let lines: Vec<Line> = (0..3).filter_map(line).collect();
    let name = |line: &Line| Name::new("limit", &line.key.to_string(), &Meter::Requests);
    Accounts {
        names: lines.iter().map(name).collect(),
        lines,
        at,
    }
}

struct Both {
    here: Ledger,
    redis: RedisLedger,
    live: Live,
    reserved: Vec<Id>,
}

impl Both {
    async fn step(
        &mut self,
        n: usize,
        what: What,
        mut here: Accounts,
    ) -> Result<(), TestCaseError> {
        let mut there = here.clone();
        let (now, fresh) = (here.at, n as Id);
        let of = |n: usize| n.checked_rem(self.reserved.len()).map(|n| self.reserved[n]);
        let (named, id) = match what {
            What::Commit(n) | What::Release(n) => (what.named(), of(n).unwrap_or(fresh)),
            What::Look | What::Clear(_) => (what.named(), 0),
            What::Reserve(_) | What::Spend => (what.named(), fresh),
        };
        let ttl = what.ttl();
        if what.is_release() {
            there = Accounts::default();
        }
        let step = Step {
            named,
            id,
            ttl,
            now: Some(now),
            mark: what.mark(now),
        };
        let told = self.redis.take(&self.live, step, &mut there).await.unwrap();
        let lines = &mut here.lines;
        match what {
            What::Reserve(_) => {
                self.reserved.push(id);
                prop_assert_eq!(outcome(&told), Some(self.here.reserve(id, lines, ttl, now)));
            }
            What::Spend => {
                prop_assert_eq!(outcome(&told), Some(self.here.spend(Some(id), lines, now)))
            }
            What::Look => prop_assert_eq!(
                outcome(&told) != Some(Outcome::Refused),
                self.here.look(lines, now)
            ),
            What::Clear(_) => {
                let mark = what.mark(now).unwrap();
                for line in lines.iter_mut() {
                    self.here.clear(line, mark, now);
                }
                self.here.look(lines, now);
            }
            What::Commit(_) => {
                let (commit, first) = self.here.commit(id, lines, now);
                prop_assert_eq!(committed(&told), (commit, first));
                // Said again, it says nothing of the accounts.
                if !first {
                    return Ok(());
                }
            }
            What::Release(_) => {
                let ended = match outcome(&told) {
                    Some(Outcome::Admitted { .. }) => Some((Ending::Released, true)),
                    Some(Outcome::Ended(ending)) => Some((ending, false)),
                    _ => None,
                };
                prop_assert_eq!(ended, self.here.release(id, now));
                return Ok(());
            }
        }
        for (here, there) in here.lines.iter().zip(&there.lines) {
            prop_assert_eq!(here.tally.used, there.tally.used);
            if told[0] == 3 && here.full {
                prop_assert!(there.full);
                prop_assert_eq!(here.tally.frees_at, there.tally.frees_at);
            }
        }
        Ok(())
    }
}

impl What {
    const fn named(self) -> &'static str {
        match self {
            What::Reserve(_) => "reserve",
            What::Spend => "spend",
            What::Look => "look",
            What::Commit(_) => "commit",
            What::Release(_) => "release",
            What::Clear(_) => "clear",
        }
    }

    const fn ttl(self) -> Duration {
        match self {
            What::Reserve(seconds) => Duration::from_secs(seconds),
            What::Clear(_) => MARKED,
            _ => Duration::ZERO,
        }
    }

    const fn is_release(self) -> bool {
        matches!(self, What::Release(_))
    }

    fn mark(self, at: Timestamp) -> Option<Mark> {
        let What::Clear(seq) = self else {
            return None;
        };
        let until = at.plus(MARKED);
        Some(Mark { seq, at, until })
    }
}

fn steps() -> impl Strategy<Value = Vec<Asked>> {
    let wait = prop_oneof![
        2 => Just(0),
        2 => 0..SECOND,
        2 => (1..8_i64).prop_map(|seconds| seconds * SECOND - 1),
        1 => (1..40_i64).prop_map(|seconds| seconds * SECOND),
    ];
    let what = prop_oneof![
        4 => (1..20_u64).prop_map(What::Reserve),
        2 => Just(What::Spend),
        1 => Just(What::Look),
        3 => any::<usize>().prop_map(What::Commit),
        1 => any::<usize>().prop_map(What::Release),
        1 => (0..4_i64).prop_map(What::Clear),
    ];
    let amount = || prop_oneof![3 => (0..12_u64).prop_map(Some), 1 => Just(None)];
    let amounts = (amount(), amount(), amount()).prop_map(|(a, b, c)| [a, b, c]);
    prop::collection::vec((wait, what, amounts), 0..60)
}

#[test]
fn says_what_the_ledger_in_the_process_says() {
    let server = start();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let mut runner = TestRunner::new(ProptestConfig {
        cases: 150,
        failure_persistence: None,
        ..ProptestConfig::default()
    });
    let cases = (1..=40_u64, 1..=20_u32, any::<bool>(), steps());
    let ran = runner.run(&cases, |(hard, seconds, in_flight, steps)| {
        let bucket = Window::Bucket {
            amount: 2,
            seconds: 3,
            burst: hard,
        };
        let other = if in_flight {
            Window::Concurrent
        } else {
            bucket
        };
        let windows = [
            Window::Sliding { seconds },
            other,
            Window::Calendar(Period::Day),
        ];
        runtime.block_on(async {
            let (redis, live) = ledger(&server).await;
            let mut both = Both {
                here: Ledger::new(BOUNDS),
                redis,
                live,
                reserved: Vec::new(),
            };
            let mut now = START;
            for (n, (wait, what, amounts)) in steps.into_iter().enumerate() {
                now += wait;
                let accounts = accounts(windows, hard, amounts, Timestamp::from_micros(now));
                both.step(n + 1, what, accounts).await?;
            }
            Ok(())
        })
    });
    ran.unwrap();
}

/// Gateways' clocks do not matter: windows go by the server's.
#[tokio::test]
async fn gateways_with_wrong_clocks_admit_no_more_together() {
    let server = start();
    let redis = relied_on(&server).await;
    let windows = [Window::Sliding { seconds: 60 }; 3];
    let mut admitted = 0;
    for n in 0..400_u32 {
        // Right, five seconds behind, five before, and an hour.
        let clock = [0, -5, 5, 3_600][n as usize % 4];
        let at = Timestamp::from_micros(START + clock * SECOND);
        let mut accounts = accounts(windows, 100, [Some(1), None, None], at);
        let told = redis.spend(n.into(), &mut accounts).await;
        admitted += u32::from(matches!(told, Some(Outcome::Admitted { .. })));
    }
    assert_eq!(admitted, 100);
}

#[tokio::test]
async fn money_is_exact_up_to_millions() {
    let server = start();
    let redis = relied_on(&server).await;
    let usd = 1_000_000_000_000_u64;
    let mut one = accounts(
        [Window::Sliding { seconds: 60 }; 3],
        1_000_000 * usd,
        [Some(999_999 * usd + 999_999_999_000), None, None],
        Timestamp::from_micros(START),
    );
    one.names[0].quantum = MONEY_QUANTUM;
    assert!(matches!(
        redis.spend(1, &mut one).await,
        Some(Outcome::Admitted { .. })
    ));
    one.lines[0].amount = 1_001;
    assert_eq!(redis.spend(2, &mut one).await, Some(Outcome::Refused));
    one.lines[0].amount = 999;
    assert!(matches!(
        redis.spend(3, &mut one).await,
        Some(Outcome::Admitted { .. })
    ));
    assert_eq!(one.lines[0].tally.used, u128::from(1_000_000 * usd));
}

/// One gateway takes the places, another is refused, and has one as soon as the first gives it back.
#[tokio::test]
async fn gateways_take_places_in_flight_from_one_number() {
    let server = start();
    let redis = relied_on(&server).await;
    let ttl = Duration::from_secs(60);
    let places = |clock: i64| {
        let at = Timestamp::from_micros(START + clock * SECOND);
        accounts([Window::Concurrent; 3], 2, [Some(1), None, None], at)
    };
    for id in [1, 2] {
        let told = redis.reserve(id, &mut places(0), ttl).await;
        assert!(matches!(told, Some(Outcome::Admitted { .. })), "{told:?}");
    }
    // Its clock is an hour behind: it is to come back in a second by that.
    let mut third = places(-3_600);
    let told = redis.reserve(3, &mut third, ttl).await;
    assert_eq!(told, Some(Outcome::Refused));
    let soon = Timestamp::from_micros(START - 3_599 * SECOND);
    assert_eq!(third.lines[0].tally.frees_at, Some(soon));
    let mut checked = places(0);
    assert_eq!(redis.spend(4, &mut checked).await, Some(Outcome::Refused));
    let committed = redis.commit(1, &mut places(0)).await;
    assert_eq!(committed, (Commit::default(), true));
    for (id, fits) in [(3, true), (5, false)] {
        let told = redis.reserve(id, &mut places(0), ttl).await;
        let admitted = matches!(told, Some(Outcome::Admitted { .. }));
        assert_eq!(admitted, fits, "{told:?}");
    }
    assert_eq!(redis.release(2).await, Some((Ending::Released, true)));
    // What is checked takes no place.
    for id in [6, 7, 8] {
        let told = redis.spend(id, &mut places(0)).await;
        assert!(matches!(told, Some(Outcome::Admitted { .. })), "{told:?}");
    }
}

/// What gateways say of one order clears once, and what is read back from before it is left out.
#[tokio::test]
async fn an_order_clears_once_for_all_gateways() {
    let server = start();
    let (redis, live) = ledger(&server).await;
    redis.live.store(Some(live.clone().into()));
    let window = Window::Sliding { seconds: 86_400 };
    let at = |seconds: i64| Timestamp::from_micros(START + seconds * SECOND);
    let of = |amount: u64, second: i64| {
        accounts([window; 3], 100, [Some(amount), None, None], at(second))
    };
    let used = async |second: i64| {
        let mut looked = of(0, second);
        let step = Step {
            now: Some(at(second)),
            ..step("look", 0)
        };
        redis.take(&live, step, &mut looked).await.unwrap();
        looked.lines[0].tally.used
    };
    let tell = async |named: &'static str, id: Id, mark: Option<Mark>, second: i64| {
        let step = Step {
            ttl: MARKED,
            now: Some(at(second)),
            mark,
            ..step(named, id)
        };
        redis.take(&live, step, &mut of(7, second)).await.unwrap();
    };
    let mark = What::Clear(5).mark(at(20));
    tell("spend", 1, None, 10).await;
    assert_eq!(used(19).await, 7);
    tell("clear", 0, mark, 21).await;
    assert_eq!(used(21).await, 0);
    tell("spend", 2, None, 22).await;
    tell("clear", 0, mark, 23).await;
    tell("clear", 0, What::Clear(4).mark(at(24)), 24).await;
    assert_eq!(used(25).await, 7);
    tell("restore", 3, None, 19).await;
    assert_eq!(used(26).await, 7);
    tell("restore", 4, None, 20).await;
    assert_eq!(used(27).await, 14);
}
