//! Who shares: a fold of the log's one order, the same at every gateway that has read as far.
//!
//! A gateway comes with its first beat, and is reckoned with from there on by all who have read it. Its own share of the
//! limits it has once everyone that is there has said so. It goes by saying so, or when it has said nothing while
//! another gave several signs of life, each after having read its last: no clock judges that, and while the log is away
//! nobody goes.

use std::collections::BTreeMap;
use std::time::Duration;

use schemas::time::Timestamp;

use super::lease::LEASE;

/// One life of a gateway.
pub(crate) type MemberId = u128;

/// A member is gone when another has given so many beats since it last said anything.
pub(crate) const SILENT_BEATS: u32 = 5;

/// What a member says, as far as it tells who is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Word {
    /// A sign of life, having read the log up to `seen`.
    Beat {
        seen: i64,
    },
    /// Reckons with everyone who came up to `seen`.
    Ack {
        seen: i64,
    },
    Left,
    Other,
}

/// What came of a word.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Heard {
    /// Somebody else came, and is to be answered.
    pub(crate) came: bool,
    /// This gateway was silent for too long: to the others it is gone.
    pub(crate) lost: bool,
    /// Who is there, or who reckons with whom, has changed.
    pub(crate) changed: bool,
}

#[derive(Debug)]
struct Member {
    joined_at: i64,
    /// The offset up to which it has read.
    seen: i64,
    /// The offset of its last beat.
    beat_at: i64,
    /// How many beats others gave since its last word.
    silence: BTreeMap<MemberId, u32>,
    /// By this gateway's clock, and only where somebody was there before.
    came_at: Option<Timestamp>,
    gone_at: Option<Timestamp>,
}

#[derive(Debug)]
pub(crate) struct Members {
    me: MemberId,
    members: BTreeMap<MemberId, Member>,
    settled: bool,
    /// Whether anybody was there before this gateway.
    found_others: bool,
    /// Offset of the last record that was read.
    read: i64,
}

// === impl Members ===

impl Members {
    pub(crate) fn new(me: MemberId) -> Self {
        Self {
            me,
            members: BTreeMap::new(),
            settled: false,
            found_others: false,
            read: -1,
        }
    }

    /// This gateway goes on as `me`, whom nobody knows yet. What it was counts here no more, since it knows itself what
    /// it has admitted.
    pub(crate) fn rejoin(&mut self, me: MemberId) {
        self.members.remove(&self.me);
        self.me = me;
        self.settled = false;
    }

    pub(crate) const fn read(&self) -> i64 {
        self.read
    }

    /// Whether this gateway has its share.
    pub(crate) const fn is_settled(&self) -> bool {
        self.settled
    }

    /// Members that are there, this one included once it has come.
    pub(crate) fn present(&self) -> usize {
        self.alive().count()
    }

    pub(crate) fn has(&self, id: MemberId) -> bool {
        self.members.get(&id).is_some_and(Member::is_alive)
    }

    #[cfg(test)]
    pub(super) fn knows_gone(&self, id: MemberId) -> bool {
        self.members.get(&id).is_some_and(|m| !m.is_alive())
    }

    /// Where the last beat of this gateway stood in the log; `None` before the first.
    pub(crate) fn own_beat(&self) -> Option<i64> {
        self.members.get(&self.me).map(|member| member.beat_at)
    }

    /// Takes in a record of the log, in its order.
    pub(crate) fn hear(
        &mut self,
        from: MemberId,
        word: Word,
        offset: i64,
        now: Timestamp,
    ) -> Heard {
        let mut heard = Heard::default();
        self.read = self.read.max(offset);
        if self.members.get(&from).is_some_and(|m| !m.is_alive()) {
            return heard;
        }
        match word {
            Word::Left => heard = self.end(from, now),
            Word::Beat { seen } => {
                heard = self.beat(from, seen, offset, now);
            }
            Word::Ack { seen } => {
                if let Some(member) = self.members.get_mut(&from) {
                    member.seen = member.seen.max(seen);
                }
            }
            Word::Other => {}
        }
        if let Some(member) = self.members.get_mut(&from) {
            member.silence.clear();
        }
        let before = self.settled;
        self.settled |= self.is_reckoned_with();
        heard.changed |= before != self.settled;
        heard
    }

    fn beat(&mut self, from: MemberId, seen: i64, offset: i64, now: Timestamp) -> Heard {
        let Some(member) = self.members.get_mut(&from) else {
            let joined = self.members.contains_key(&self.me);
            self.found_others |= !joined && from != self.me;
            let came = joined || (from == self.me && self.found_others);
            let member = Member::new(offset, seen, came.then_some(now));
            self.members.insert(from, member);
            return Heard {
                came: from != self.me,
                changed: true,
                lost: false,
            };
        };
        member.seen = member.seen.max(seen);
        // Beats that piled up while the log was away are one sign of life: the later ones were sent without having
        // read the first.
        let counts = member.beat_at <= seen;
        if !counts {
            return Heard::default();
        }
        member.beat_at = offset;
        let mut silent = Vec::new();
        for (id, other) in &mut self.members {
            if *id != from && other.is_alive() {
                let beats = other.silence.entry(from).or_default();
                *beats += 1;
                if SILENT_BEATS <= *beats {
                    silent.push(*id);
                }
            }
        }
        silent.into_iter().fold(Heard::default(), |heard, id| {
            let ended = self.end(id, now);
            Heard {
                came: false,
                lost: heard.lost || ended.lost,
                changed: heard.changed || ended.changed,
            }
        })
    }

    fn end(&mut self, id: MemberId, now: Timestamp) -> Heard {
        // Who was gone before this one came is not its affair; what that one had admitted is unknown to it.
        let joined = self.members.contains_key(&self.me);
        let known = match self.members.get_mut(&id) {
            Some(member) if joined => {
                member.gone_at = Some(now);
                true
            }
            Some(_) => self.members.remove(&id).is_some(),
            None => false,
        };
        Heard {
            came: false,
            lost: id == self.me && known,
            changed: known,
        }
    }

    /// Whether everyone who is there has read that this gateway came.
    fn is_reckoned_with(&self) -> bool {
        let me = self.members.get(&self.me).filter(|me| me.is_alive());
        me.is_some_and(|me| {
            let mut others = self.alive().filter(|(id, _)| **id != self.me);
            others.all(|(_, other)| me.joined_at <= other.seen)
        })
    }

    fn alive(&self) -> impl Iterator<Item = (&MemberId, &Member)> {
        self.members.iter().filter(|(_, member)| member.is_alive())
    }

    /// Forgets who has been gone for so long that no window of `span` remembers.
    pub(crate) fn forget(&mut self, span: Duration, now: Timestamp) {
        let me = self.me;
        self.members.retain(|id, member| {
            let gone_at = member.gone_at.filter(|_| *id != me);
            gone_at.is_none_or(|at| now < at.plus(LEASE).plus(span))
        });
    }

    /// How limits are shared now. `None`: there is nobody to share with.
    pub(crate) fn split(&self) -> Option<Split> {
        let gone: Vec<Gone> = self
            .members
            .iter()
            .filter_map(|(id, member)| {
                Some(Gone {
                    at: member.gone_at?,
                    before_me: *id < self.me,
                })
            })
            .collect();
        let split = Split {
            settled: self.settled,
            members: self.present().max(1) as u64,
            rank: self.alive().filter(|(id, _)| **id < self.me).count() as u64,
            gone,
        };
        let alone = split.settled && split.members == 1 && split.gone.is_empty();
        (!alone).then_some(split)
    }

    /// What all together may admit beyond a limit whose window is `span` long, at the most, in parts of that limit: the
    /// part of each that came within that time, when others had been there. What those had admitted it does not know.
    pub(crate) fn overshoot(&self, span: Duration, now: Timestamp) -> f64 {
        let recent = |at: Timestamp| now < at.plus(LEASE).plus(span);
        let came = self
            .alive()
            .filter(|(_, member)| member.came_at.is_some_and(recent));
        came.count() as f64 / self.present().max(1) as f64
    }
}

// === impl Member ===

impl Member {
    fn new(joined_at: i64, seen: i64, came_at: Option<Timestamp>) -> Self {
        Self {
            joined_at,
            seen,
            beat_at: joined_at,
            silence: BTreeMap::new(),
            came_at,
            gone_at: None,
        }
    }

    const fn is_alive(&self) -> bool {
        self.gone_at.is_none()
    }
}

/// One that is gone. What it admitted may still count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Gone {
    at: Timestamp,
    before_me: bool,
}

/// How a limit's number is split into equal parts, one for each member, at one gateway.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Split {
    settled: bool,
    members: u64,
    /// Members before this one.
    rank: u64,
    gone: Vec<Gone>,
}

impl Split {
    /// This gateway's part of `hard`. Of what cannot be divided the first members have one each. More members never
    /// make it larger: so the parts of those who reckon with at least one another never come to more than `hard`,
    /// whomever else each of them reckons with.
    pub(crate) fn base(&self, hard: u64, span: Duration, now: Timestamp) -> u64 {
        if !self.settled {
            return 0;
        }
        let (mut members, mut rank) = (self.members, self.rank);
        for gone in &self.gone {
            if now < gone.at.plus(LEASE).plus(span) {
                members += 1;
                rank += u64::from(gone.before_me);
            }
        }
        hard / members + u64::from(rank < hard % members)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SPAN: Duration = Duration::from_secs(60);

    fn at(second: i64) -> Timestamp {
        Timestamp::from_seconds(second)
    }

    /// One record a second. `2` is a beat of member 2 that has read all, `2a` its acknowledgement, `2x` its farewell,
    /// `2o` a beat that has read nothing, `2w` anything else. Expected: what member 2 has of 100 a second later.
    #[track_caller]
    fn check(script: &str, expected: Option<u64>) {
        let mut members = Members::new(2);
        let mut offset = -1;
        for step in script.split_whitespace() {
            let seen = offset;
            offset += 1;
            let (id, kind) = step.split_at(1);
            let word = match kind {
                "" => Word::Beat { seen },
                "o" => Word::Beat { seen: -1 },
                "a" => Word::Ack { seen },
                "x" => Word::Left,
                _ => Word::Other,
            };
            members.hear(id.parse().unwrap(), word, offset, at(offset));
        }
        let now = at(offset + 1);
        let base = members.split().map(|split| split.base(100, SPAN, now));
        assert_eq!(base, expected, "{script}");
    }

    #[test]
    fn a_share_is_had_when_all_reckon_with_it() {
        check("", Some(0));
        check("2", None);
        check("1 2", Some(0));
        check("1 2 1a", Some(50));
        check("1 3 2 1a", Some(0));
        check("1 3 2 1a 3a", Some(33));
        // A beat says as much as an acknowledgement.
        check("1 3 2 1 3", Some(33));
        // The first members have what is over.
        check("3 4 2 3a 4a", Some(34));
        // Whoever comes later is reckoned with at once, and does not unsettle.
        check("2 1", Some(50));
        check("2 1 3", Some(33));
    }

    #[test]
    fn who_is_gone_counts_until_the_window_has_passed() {
        check("2 1 1x", Some(50));
        // Not for one that came later.
        check("1 1x 2", None);
        check("1 3 2 1a 1x 3a", Some(33));
        // Silent while another gave five beats, each after reading its last.
        check("1 2 2 2 2 2", Some(0));
        check("1 2 2 2 2 2 2", Some(50));
        check("1 2 2 2 2 1w 2 2 2", Some(0));
        // Sent before it had read its first: one sign of life.
        check("1 2 2o 2o 2o 2o 2o 2o 2o", Some(0));
        let mut members = Members::new(2);
        let beats: [(MemberId, i64); 3] = [(2, 0), (1, 1), (3, 2)];
        for (id, offset) in beats {
            members.hear(id, Word::Beat { seen: 2 }, offset, at(0));
        }
        members.hear(3, Word::Left, 3, at(10));
        let base = |members: &Members, second| {
            let split = members.split();
            split.map(|split| split.base(100, SPAN, at(second)))
        };
        assert_eq!(base(&members, 99), Some(33));
        assert_eq!(base(&members, 100), Some(50));
        members.hear(1, Word::Left, 4, at(200));
        members.forget(SPAN, at(289));
        assert_eq!(base(&members, 289), Some(50));
        members.forget(SPAN, at(290));
        assert_eq!(base(&members, 290), None);
    }

    #[test]
    fn what_may_be_too_much_is_the_part_of_who_came() {
        let mut members = Members::new(2);
        let overshoot = |members: &Members, second| members.overshoot(SPAN, at(second));
        members.hear(2, Word::Beat { seen: -1 }, 0, at(0));
        assert_eq!(overshoot(&members, 0), 0.0);
        members.hear(1, Word::Beat { seen: 0 }, 1, at(10));
        assert_eq!(overshoot(&members, 99), 0.5);
        assert_eq!(overshoot(&members, 100), 0.0);
        let mut later = Members::new(3);
        later.hear(1, Word::Beat { seen: 0 }, 0, at(0));
        later.hear(1, Word::Left, 1, at(0));
        later.hear(3, Word::Beat { seen: -1 }, 2, at(0));
        assert_eq!(overshoot(&later, 0), 1.0);
    }

    #[test]
    fn one_that_was_silent_itself_comes_anew() {
        let mut members = Members::new(2);
        let mut offset = 0;
        let mut hear = |members: &mut Members, id| {
            offset += 1;
            let word = Word::Beat { seen: offset - 1 };
            members.hear(id, word, offset, at(0))
        };
        hear(&mut members, 2);
        hear(&mut members, 1);
        let heard: Vec<bool> = (0..6).map(|_| hear(&mut members, 1).lost).collect();
        assert_eq!(heard, [false, false, false, false, true, false]);
        members.rejoin(3);
        assert!(!members.is_settled());
        hear(&mut members, 3);
        assert!(!members.is_settled());
        hear(&mut members, 1);
        assert!(members.is_settled());
        assert_eq!(members.present(), 2);
    }

    proptest! {
        /// Whomever else each reckons with: those who reckon with one another never have more than there is.
        #[test]
        fn parts_never_come_to_more(
            hard in 0..200_u64,
            active in prop::collection::btree_set(0..20_u64, 1..6),
            others in prop::collection::vec(prop::collection::btree_set(0..20_u64, 0..8), 6),
        ) {
            let mut sum = 0;
            for (me, others) in active.iter().zip(&others) {
                let known: std::collections::BTreeSet<u64> = active.union(others).copied().collect();
                let split = Split {
                    settled: true,
                    members: known.len() as u64,
                    rank: known.iter().filter(|id| *id < me).count() as u64,
                    gone: Vec::new(),
                };
                sum += split.base(hard, SPAN, at(0));
            }
            prop_assert!(sum <= hard);
            if active.len() == 1 && others[0].is_subset(&active) {
                prop_assert_eq!(sum, hard);
            }
        }
    }
}
