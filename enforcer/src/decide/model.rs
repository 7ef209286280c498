//! Deciding, beside a model that keeps every signal and looks through all of them each time.

use std::collections::BTreeMap;

use proptest::prelude::*;
use schemas::policy::Mode;

use super::tests::{at, crossing, limit, policy};
use super::*;

const LIMITS: [&str; 3] = ["a", "b", "c"];
const TTL_SECONDS: i64 = 60;

#[derive(Clone, Debug)]
enum Step {
    /// The next signal of the log.
    Next,
    /// So many signals of the log again, up to the last one heard.
    Again(usize),
    /// Seconds pass.
    Tick(i64),
    /// Each limit's mode from here on; `None`: it is gone.
    Policy([Option<Mode>; 3]),
    /// Another process takes over from what the log holds.
    TakeOver,
}

fn mode() -> impl Strategy<Value = Option<Mode>> {
    prop_oneof![
        2 => Just(Some(Mode::Block)),
        1 => Just(Some(Mode::Strict)),
        1 => Just(Some(Mode::Open)),
        1 => Just(None),
    ]
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        8 => Just(Step::Next),
        2 => (1..6_usize).prop_map(Step::Again),
        4 => (1..40_i64).prop_map(Step::Tick),
        1 => [mode(), mode(), mode()].prop_map(Step::Policy),
        1 => Just(Step::TakeOver),
    ];
    prop::collection::vec(step, 1..60)
}

/// The log: of which limit, and upward until how many seconds after it is first heard, or downward.
fn log() -> impl Strategy<Value = Vec<(usize, Option<i64>)>> {
    let span = prop_oneof![3 => 1..50_i64, 1 => -20..400_i64];
    let signal = (0..LIMITS.len(), prop::option::weighted(0.7, span));
    prop::collection::vec(signal, 60)
}

struct Model {
    heard: BTreeMap<i64, Crossing>,
    modes: [Option<Mode>; 3],
    now: i64,
}

impl Model {
    /// The crossings that stand now, with the mode of their limits.
    fn stands(&self) -> Vec<(&Crossing, Mode)> {
        let modes = LIMITS.iter().zip(self.modes);
        modes
            .filter_map(|(name, mode)| Some((self.stands_of(name)?, mode?)))
            .collect()
    }

    fn stands_of(&self, limit: &str) -> Option<&Crossing> {
        let of = self
            .heard
            .values()
            .filter(|crossing| crossing.limit == limit);
        let fell = of.clone().filter(|c| !c.up).map(|c| c.origin.offset).max();
        let since = of.filter(|c| c.up && fell.is_none_or(|fell| fell < c.origin.offset));
        since
            .max_by_key(|c| (c.falls_at, c.origin.offset))
            .filter(|c| Some(at(self.now)) < c.falls_at)
    }
}

/// What the outputs leave in the log, with what no run of outputs may do.
#[derive(Default)]
struct Told {
    stands: Option<Decision>,
    seq: i64,
}

impl Told {
    fn take(&mut self, out: Vec<Output>) -> Result<(), TestCaseError> {
        for output in out {
            match output {
                Output::Put(decision, why) => {
                    prop_assert!(
                        self.seq < decision.seq,
                        "seq went from {} to {}",
                        self.seq,
                        decision.seq
                    );
                    self.seq = decision.seq;
                    let same = self
                        .stands
                        .as_ref()
                        .is_some_and(|s| s.says_the_same_as(&decision));
                    let again = matches!(why, Reason::Reassert | Reason::Takeover);
                    prop_assert!(again || !same, "said the same again: {:?}", decision);
                    self.stands = Some(decision);
                }
                Output::Lift(..) => prop_assert!(self.stands.take().is_some(), "lifted nothing"),
                Output::Alert(_) => {}
                Output::Order(_) | Output::OrderEnded(..) => prop_assert!(false, "nobody ordered"),
            }
        }
        Ok(())
    }

    fn check(&self, model: &Model) -> Result<(), TestCaseError> {
        let expected = model.stands();
        let verdict = expected.iter().map(|(_, mode)| obeyed(*mode)).max();
        let ends = expected
            .iter()
            .filter(|(_, mode)| Some(obeyed(*mode)) == verdict);
        let until = ends.filter_map(|(crossing, _)| crossing.falls_at).max();
        let mut ids: Vec<&str> = expected
            .iter()
            .map(|(crossing, _)| crossing.id.as_str())
            .collect();
        ids.sort_unstable();
        let stands = self.stands.as_ref();
        let mut causes: Vec<&str> = stands
            .into_iter()
            .flat_map(|decision| decision.causes.iter().map(|cause| cause.crossing.as_str()))
            .collect();
        causes.sort_unstable();
        prop_assert_eq!(causes, ids);
        prop_assert_eq!(stands.map(|decision| decision.verdict), verdict);
        prop_assert_eq!(stands.and_then(|decision| decision.until), until);
        if let Some(decision) = stands {
            let relied_on = decision
                .issued_at
                .plus(Duration::from_secs(TTL_SECONDS as u64));
            let age = model.now - decision.issued_at.second();
            let lasts = decision.until.is_some_and(|until| relied_on < until);
            prop_assert!(
                !lasts || age < TTL_SECONDS / 2,
                "not said again for {} s",
                age
            );
        }
        Ok(())
    }
}

fn obeyed(mode: Mode) -> Verdict {
    match mode {
        Mode::Open => Verdict::Allow,
        Mode::Block | Mode::Strict => Verdict::Block,
    }
}

fn rules(version: u64, modes: [Option<Mode>; 3]) -> Policy {
    let limits = LIMITS.iter().zip(modes);
    policy(
        version,
        limits
            .filter_map(|(name, mode)| Some(limit(name, mode?)))
            .collect(),
    )
}

fn run(log: &[(usize, Option<i64>)], steps: &[Step]) -> Result<(), TestCaseError> {
    let ttl = Duration::from_secs(TTL_SECONDS as u64);
    let mut model = Model {
        heard: BTreeMap::new(),
        modes: [Some(Mode::Block); 3],
        now: 1_000,
    };
    let mut version = 1;
    let mut decider = Decider::new(rules(version, model.modes), ttl);
    let mut told = Told::default();
    let (mut next, mut first) = (0_usize, 0_usize);
    let mut made: Vec<Crossing> = Vec::new();
    for step in steps {
        let mut out = Vec::new();
        match step {
            Step::Next => {
                let (limit, span) = log[next];
                let name = LIMITS[limit];
                let text = match span {
                    Some(span) => format!("{name}+{next}..{}", model.now + span),
                    None => format!("{name}-{next}@{}", model.now),
                };
                let crossing = crossing(&text);
                decider.hear(&Signal::Crossing(crossing.clone()), at(model.now), &mut out);
                model.heard.insert(crossing.origin.offset, crossing.clone());
                made.push(crossing);
                next += 1;
            }
            Step::Again(count) => {
                let from = next.saturating_sub(*count).max(first);
                for crossing in &made[from..next] {
                    decider.hear(&Signal::Crossing(crossing.clone()), at(model.now), &mut out);
                }
            }
            Step::Tick(seconds) => {
                // One second at a time: nothing may be due and not done for longer.
                for _ in 0..*seconds {
                    model.now += 1;
                    decider.advance(at(model.now), &mut out);
                }
            }
            Step::Policy(modes) => {
                version += 1;
                model.modes = *modes;
                decider.obey(rules(version, *modes), at(model.now), &mut out);
            }
            Step::TakeOver => {
                model.now += 1;
                decider = Decider::new(rules(version, model.modes), ttl);
                first = next;
                model.heard.clear();
                if let Some(decision) = told.stands.clone() {
                    for cause in &decision.causes {
                        let offset = cause.origin.offset;
                        model.heard.insert(offset, made[offset as usize].clone());
                    }
                    decider.take_over(decision, at(model.now), &mut out);
                }
            }
        }
        told.take(out)?;
        told.check(&model)?;
        let standing = usize::from(told.stands.is_some());
        prop_assert_eq!(decider.standing(), standing);
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]
    #[test]
    fn what_stands_is_what_the_log_says(log in log(), steps in steps()) {
        run(&log, &steps)?;
    }
}
