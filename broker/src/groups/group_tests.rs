//! Groups as scripts: what members ask, what passes, and what they are told.

use std::time::{Duration, Instant};

use bytes::Bytes;
use kafka_protocol::error::ResponseError;

use super::group::Group;
use super::messages::{Caller, Join, JoinOutcome, Joined, Reply, Sync};

const SESSION_MS: u64 = 6_000;
const REBALANCE_MS: u64 = 60_000;
const DELAY_MS: u64 = 50;

/// A group, a clock, and the generation that each member last heard of.
struct Play {
    group: Group,
    start: Instant,
    now: Instant,
    generations: std::collections::HashMap<String, i32>,
    told: Vec<String>,
}

impl Play {
    fn new() -> Play {
        let start = crate::clock::monotonic();
        Play {
            group: Group::new(Duration::from_millis(DELAY_MS)),
            start,
            now: start,
            generations: Default::default(),
            told: vec![],
        }
    }

    fn caller(&self, name: &str) -> Caller {
        let (member, instance) = split(name);
        let generation = self.generations.get(&member).copied().unwrap_or(-1);
        Caller {
            member,
            instance,
            generation,
        }
    }

    fn step(&mut self, step: &str) {
        if let Some(ms) = step.strip_prefix('+') {
            self.now += Duration::from_millis(ms.parse().unwrap());
            self.group.expire(self.now);
        } else {
            let (name, action) = step.split_once(' ').unwrap();
            let result = self.act(name, action);
            if let Some(error) = result.err() {
                self.told.push(format!("{name}! {error:?}"));
            }
        }
        for reply in self.group.take_replies() {
            self.hear(reply);
        }
    }

    fn act(&mut self, name: &str, action: &str) -> Result<(), ResponseError> {
        let (verb, detail) = action.split_once(' ').unwrap_or((action, ""));
        let caller = self.caller(name);
        match verb {
            "join" | "new" => return self.join(name, verb == "new", detail),
            "sync" => {
                let shares = detail.split_whitespace().map(|share| {
                    let (member, share) = share.split_once('=').unwrap();
                    (member.to_owned(), Bytes::from(share.to_owned()))
                });
                let sync = Sync {
                    caller,
                    protocol: None,
                    assignments: shares.collect(),
                };
                if let Some(synced) = self.group.sync(sync, self.now)? {
                    let share = String::from_utf8_lossy(&synced.assignment).into_owned();
                    self.told.push(format!("{name} has {share}"));
                }
            }
            "beat" => self.group.heartbeat(&caller, self.now)?,
            "commit" => self.group.may_commit(&caller, self.now)?,
            "leave" => self
                .group
                .leave(&caller.member, caller.instance.as_deref(), self.now)?,
            other => panic!("{other}"),
        }
        Ok(())
    }

    /// `new` comes without an id and is given its own name; the detail is its protocols, with `take` to be asked
    /// back, with `skip` if it can lead without assigning.
    fn join(&mut self, name: &str, is_new: bool, detail: &str) -> Result<(), ResponseError> {
        let (member, instance) = split(name);
        let (takes_id, skips_assignment) = (detail == "take", detail == "skip");
        let named = match detail {
            "" | "take" | "skip" => "range",
            protocols => protocols,
        };
        let protocol = |p: &str| (p.to_owned(), Bytes::from(format!("{member} by {p}")));
        let join = Join {
            member: if is_new {
                String::new()
            } else {
                member.clone()
            },
            instance,
            client: "client".to_owned(),
            protocol_type: "consumer".to_owned(),
            protocols: named.split(',').map(protocol).collect(),
            session: Duration::from_millis(SESSION_MS),
            rebalance: Duration::from_millis(REBALANCE_MS),
            takes_id,
            skips_assignment,
        };
        match self.group.join(join, member, self.now)? {
            JoinOutcome::Now(joined) => self.joined(joined),
            JoinOutcome::Wait(_) => {}
        }
        Ok(())
    }

    fn joined(&mut self, joined: Joined) {
        let role = match joined.members.is_empty() {
            true => String::new(),
            false => {
                let ids: Vec<_> = joined.members.iter().map(|m| m.id.clone()).collect();
                let how = if joined.skip_assignment {
                    " as before"
                } else {
                    ""
                };
                format!(" leads {}{how}", ids.join(","))
            }
        };
        self.told
            .push(format!("{} in {}{role}", joined.member, joined.generation));
        self.generations.insert(joined.member, joined.generation);
    }

    fn hear(&mut self, reply: Reply) {
        match reply {
            Reply::Joined(_, Ok(joined)) => self.joined(joined),
            Reply::Joined(member, Err(e)) => self.told.push(format!("{member}! {e:?}")),
            Reply::Synced(member, Ok(synced)) => {
                let share = String::from_utf8_lossy(&synced.assignment).into_owned();
                self.told.push(format!("{member} has {share}"));
            }
            Reply::Synced(member, Err(e)) => self.told.push(format!("{member}! {e:?}")),
        }
    }
}

/// `id` or `id@instance`.
fn split(name: &str) -> (String, Option<String>) {
    match name.split_once('@') {
        Some((id, instance)) => (id.to_owned(), Some(instance.to_owned())),
        None => (name.to_owned(), None),
    }
}

/// Plays steps separated by `;` and expects what is said to members, in order.
#[track_caller]
fn check(script: &str, expected: &str) -> Play {
    let mut play = Play::new();
    for step in script.split(';') {
        play.step(step.trim());
    }
    assert_eq!(play.told.join("; "), expected, "{script}");
    play
}

/// Two members in generation 1, a the leader, each with a share; what was said is forgotten.
fn pair() -> Play {
    let script = "a new; b new; +50; b sync; a sync a=1 b=2";
    let mut play = check(script, "a in 1 leads a,b; b in 1; a has 1; b has 2");
    play.told.clear();
    play
}

#[track_caller]
fn check_pair(script: &str, expected: &str) -> Play {
    let mut play = pair();
    for step in script.split(';') {
        play.step(step.trim());
    }
    assert_eq!(play.told.join("; "), expected, "{script}");
    play
}

#[test]
fn the_first_members_gather_and_share() {
    check("a new; +49", "");
    check("a new; +50; a sync a=all", "a in 1 leads a; a has all");
    check(
        "a new; b new; +50; b sync; a sync a=1 b=2",
        "a in 1 leads a,b; b in 1; a has 1; b has 2",
    );
    check(
        "a new; b new; +50; a sync a=1; b sync",
        "a in 1 leads a,b; b in 1; a has 1; b has ",
    );
}

#[test]
fn a_client_that_can_is_asked_back_with_its_id() {
    check(
        "a new take; a join; +50",
        "a! MemberIdRequired; a in 1 leads a",
    );
    check(
        "a new take; +6000; a join",
        "a! MemberIdRequired; a! UnknownMemberId",
    );
    check(
        "a new take; a leave; a join",
        "a! MemberIdRequired; a! UnknownMemberId",
    );
    check("x join", "x! UnknownMemberId");
}

#[test]
fn a_newcomer_makes_all_join_again() {
    check_pair(
        "c new; a beat; b commit; a join; b join",
        "a! RebalanceInProgress; a in 2 leads a,b,c; b in 2; c in 2",
    );
    // Between the generations nobody may commit for the new one before it has its share.
    check_pair(
        "c new; a join; b join; a commit; a sync a=1 b=2 c=3; a commit",
        "a in 2 leads a,b,c; b in 2; c in 2; a! RebalanceInProgress; a has 1",
    );
}

#[test]
fn who_does_not_join_again_in_time_is_out() {
    check_pair(
        "c new; a join; +5999; b beat; +54001",
        "b! RebalanceInProgress; a in 2 leads a,c; c in 2",
    );
    // Heartbeats keep b a member, but joining has its own deadline.
    let mut script = "c new; a join".to_owned();
    for _ in 0..11 {
        script.push_str("; +5000; b beat");
    }
    script.push_str("; +5000; b beat; b sync");
    let mut told = vec!["b! RebalanceInProgress"; 11];
    told.extend([
        "a in 2 leads a,c",
        "c in 2",
        "b! UnknownMemberId",
        "b! UnknownMemberId",
    ]);
    check_pair(&script, &told.join("; "));
}

#[test]
fn who_goes_or_falls_silent_gives_its_share_back() {
    check_pair(
        "b leave; a beat; a join",
        "a! RebalanceInProgress; a in 2 leads a",
    );
    check_pair("+3000; a beat; +3000; a join", "a in 2 leads a");
    check_pair("a leave; b leave; c new; +50", "c in 3 leads c");
    let play = check_pair("+6000", "");
    assert!(play.group.is_idle() && play.group.next_deadline().is_none());
    check_pair("x leave", "x! UnknownMemberId");
}

#[test]
fn who_waits_for_the_others_is_not_silent() {
    check_pair(
        "b join range,x; +5999; a beat; +5999; a beat; a join",
        "a! RebalanceInProgress; a! RebalanceInProgress; a in 2 leads a,b; b in 2",
    );
}

#[test]
fn a_leader_that_brings_no_shares_is_replaced() {
    check(
        "a new; b new; +50; b sync; +6000; b join; b sync b=all",
        "a in 1 leads a,b; b in 1; b! RebalanceInProgress; b in 2 leads b; b has all",
    );
}

#[test]
fn retries_are_answered_from_the_standing_generation() {
    check_pair("b join", "b in 1");
    check_pair("b sync", "b has 2");
    check(
        "a new; b new; +50; a join; a sync a=1 b=2; b sync",
        "a in 1 leads a,b; b in 1; a in 1 leads a,b; a has 1; b has 2",
    );
    // From the leader it is how a change of the topics is told.
    check_pair("a join; b join", "a in 2 leads a,b; b in 2");
    check_pair("b join range,other; a join", "a in 2 leads a,b; b in 2");
}

#[test]
fn strangers_and_the_past_are_refused() {
    check_pair(
        "x beat; x commit; x sync",
        "x! UnknownMemberId; x! UnknownMemberId; x! UnknownMemberId",
    );
    let mut play = pair();
    play.generations.insert("a".to_owned(), 0);
    play.step("a beat");
    play.step("a commit");
    play.step("a sync");
    assert_eq!(play.told, vec!["a! IllegalGeneration"; 3]);
    // Without a generation one may commit only while nobody is a member.
    check("x commit", "");
    check_pair("x commit", "x! UnknownMemberId");
}

#[test]
fn members_agree_on_a_strategy_that_all_know() {
    check(
        "a new range,sticky; b new sticky; c new other; +50",
        "c! InconsistentGroupProtocol; a in 1 leads a,b; b in 1",
    );
    let play = check(
        "a new x,y; b new y,x; c new y; +50",
        "a in 1 leads a,b,c; b in 1; c in 1",
    );
    assert_eq!(play.group.overview().protocol, "y");
    assert_eq!(play.group.overview().members[0].member.metadata, "a by y");
    check_pair("b join other", "b! InconsistentGroupProtocol");
}

#[test]
fn a_static_member_comes_back_to_its_share() {
    let script = "a@i new; b new; +50; b sync; a@i sync a=1 b=2; c@i new";
    // Its leader is told to be the one that is gone, so it assigns nothing.
    let play = check(script, "a in 1 leads a,b; b in 1; a has 1; b has 2; c in 1");
    assert_eq!(play.group.overview().members.len(), 2);
    // A client that can goes on looking after the topics of all.
    check(
        "a@i new; b new; +50; b sync; a@i sync a=1 b=2; c@i new skip; c@i sync; b beat",
        "a in 1 leads a,b; b in 1; a has 1; b has 2; c in 1 leads b,c as before; c@i has 1",
    );
    // Who did not lead is not made to.
    check(
        "a new; b@i new; +50; b@i sync; a sync a=1 b=2; c@i new skip; c@i sync",
        "a in 1 leads a,b; b in 1; a has 1; b has 2; c in 1; c@i has 2",
    );
    check(
        "a@i new; +50; a@i sync a=1; c@i new; c@i sync; a@i beat; a@i join",
        "a in 1 leads a; a has 1; c in 1; c@i has 1; a@i! FencedInstanceId; a@i! FencedInstanceId",
    );
    check(
        "a@i new; c@i new; +50",
        "a! FencedInstanceId; c in 1 leads c",
    );
    check("a@i join", "a@i! UnknownMemberId");
}

#[test]
fn a_static_member_is_missed_only_after_its_session() {
    let script =
        "a@i new; b new; +50; b sync; a@i sync a=1 b=2; +3000; b beat; +3000; b join; b sync b=all";
    check(
        script,
        "a in 1 leads a,b; b in 1; a has 1; b has 2; b in 2 leads b; b has all",
    );
}

#[test]
fn a_session_must_be_of_a_sensible_length() {
    let mut group = Group::new(Duration::ZERO);
    for session in [Duration::ZERO, Duration::from_secs(3600)] {
        let join = Join {
            member: String::new(),
            instance: None,
            client: String::new(),
            protocol_type: "consumer".to_owned(),
            protocols: vec![("range".to_owned(), Bytes::new())],
            session,
            rebalance: session,
            takes_id: false,
            skips_assignment: false,
        };
        let result = group.join(join, "a".to_owned(), crate::clock::monotonic());
        assert_eq!(result, Err(ResponseError::InvalidSessionTimeout));
    }
    assert!(group.is_idle());
}

#[test]
fn the_next_deadline_is_the_first_that_matters() {
    let mut play = Play::new();
    let due = |play: &Play| {
        play.group
            .next_deadline()
            .map(|at| (at - play.start).as_millis())
    };
    assert_eq!(due(&play), None);
    play.step("a new");
    assert_eq!(due(&play), Some(DELAY_MS.into()), "the end of gathering");
    play.step("+50");
    assert_eq!(
        due(&play),
        Some((50 + SESSION_MS).into()),
        "the session of a, which has to sync"
    );
    play.step("a sync a=all");
    play.step("+1000");
    play.step("a beat");
    assert_eq!(due(&play), Some((1_050 + SESSION_MS).into()));
}
