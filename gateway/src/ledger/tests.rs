use chrono_tz::Tz;
use schemas::policy::Window;

use super::*;
use crate::window::{Rule, Tally};

const BOUNDS: Bounds = Bounds {
    accounts_max: 4,
    reservations_max: 3,
    remembered: Duration::from_secs(100),
};
const TTL: Duration = Duration::from_secs(30);

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_seconds(1_700_000_000 + seconds)
}

/// `amount` of 10 in a sliding minute of account `key`.
fn line(key: u128, amount: u64) -> Line {
    Line {
        key,
        rule: Rule::new(Window::Sliding { seconds: 60 }, 10),
        zone: Tz::UTC,
        amount,
        tally: Tally::default(),
        full: false,
    }
}

/// `amount` of two places in flight of account `key`.
fn place(key: u128, amount: u64) -> Line {
    Line {
        rule: Rule::new(Window::Concurrent, 2),
        ..line(key, amount)
    }
}

#[test]
fn what_is_cleared_keeps_what_is_outstanding() {
    let mut ledger = Ledger::new(BOUNDS);
    ledger.spend(None, &mut [line(1, 4)], at(0));
    ledger.spend(None, &mut [line(2, 4)], at(0));
    assert_eq!(ledger.reserve(1, &mut [line(1, 5)], TTL, at(0)), held(30));
    let mark = |seq: i64, second: i64| Mark {
        seq,
        at: at(second),
        until: at(second + 100),
    };
    ledger.clear(&line(1, 0), mark(7, 1), at(2));
    assert_eq!(ledger.balance(&line(1, 0), at(2)), (0, 5));
    assert_eq!(ledger.balance(&line(2, 0), at(2)), (4, 0));
    ledger.commit(1, &mut [line(1, 5)], at(3));
    for again in [mark(7, 1), mark(6, 0)] {
        ledger.clear(&line(1, 0), again, at(4));
        assert_eq!(ledger.balance(&line(1, 0), at(4)), (5, 0));
    }
}

/// What is read back while an order comes: what was spent before it is left out, however it lies with others in a slice.
#[test]
fn what_is_cleared_while_it_is_read_back_is_left_out() {
    let mut ledger = Ledger::new(BOUNDS);
    let mark = |seq: i64, micros: i64| Mark {
        seq,
        at: Timestamp::from_micros(at(5).as_micros() + micros),
        until: at(100),
    };
    ledger.note_cleared(1, mark(1, 10));
    let mut restoring = restore::Restoring::new(at(10));
    for (id, micros, key) in [(1, 9, 1), (2, 10, 1), (3, 11, 2), (4, 9, 2)] {
        let spent_at = Timestamp::from_micros(at(5).as_micros() + micros);
        restoring.add(&mut ledger, id, spent_at, [line(key, 1)]);
    }
    ledger.clear(&line(2, 0), mark(2, 10), at(10));
    restoring.finish(&mut ledger);
    assert_eq!(ledger.balance(&line(1, 0), at(10)), (1, 0));
    assert_eq!(ledger.balance(&line(2, 0), at(10)), (0, 0));
}

/// Reading back is tried again from its beginning when the log goes away in between.
#[test]
fn what_is_read_back_by_several_tries_counts_once() {
    let mut ledger = Ledger::new(BOUNDS);
    let mut restoring = restore::Restoring::new(at(10));
    for read in [1, 3, 0, 3] {
        for id in 0..read {
            restoring.add(&mut ledger, id, at(5), [line(1, 2)]);
        }
    }
    restoring.finish(&mut ledger);
    assert_eq!(ledger.balance(&line(1, 0), at(10)), (6, 0));
}

fn held(seconds: i64) -> Outcome {
    Outcome::Admitted {
        expires_at: at(seconds),
        repeated: false,
    }
}

#[test]
fn holds_in_all_accounts_or_in_none() {
    let mut ledger = Ledger::new(BOUNDS);
    let mut both = [line(1, 6), line(2, 11)];
    assert_eq!(ledger.reserve(1, &mut both, TTL, at(0)), Outcome::Refused);
    assert_eq!([both[0].full, both[1].full], [false, true]);
    assert_eq!(ledger.balance(&line(1, 0), at(0)), (0, 0));
    let mut both = [line(1, 6), line(2, 10)];
    assert_eq!(ledger.reserve(1, &mut both, TTL, at(0)), held(30));
    assert_eq!(ledger.balance(&line(1, 0), at(0)), (0, 6));
    assert_eq!(ledger.balance(&line(2, 0), at(0)), (0, 10));
}

#[test]
fn what_is_outstanding_comes_back_by_itself() {
    let mut ledger = Ledger::new(BOUNDS);
    ledger.reserve(1, &mut [line(1, 10)], TTL, at(0));
    let mut more = [line(1, 1)];
    assert_eq!(ledger.reserve(2, &mut more, TTL, at(29)), Outcome::Refused);
    assert_eq!(more[0].tally.frees_at, Some(at(30)));
    assert_eq!(ledger.reserve(2, &mut more, TTL, at(30)), held(60));
    assert_eq!(ledger.counts().expired, 1);
}

#[test]
fn time_that_goes_back_frees_nothing() {
    let mut ledger = Ledger::new(BOUNDS);
    ledger.spend(None, &mut [line(1, 10)], at(100));
    let told = ledger.spend(None, &mut [line(1, 1)], at(0));
    assert_eq!(told, Outcome::Refused);
    assert_eq!(
        ledger.spend(None, &mut [line(1, 1)], at(160)),
        Outcome::Refused
    );
    assert_eq!(ledger.spend(None, &mut [line(1, 1)], at(161)), held(161));
}

#[test]
fn what_was_spent_counts_whatever_came_before() {
    let mut ledger = Ledger::new(BOUNDS);
    ledger.reserve(1, &mut [line(1, 4)], TTL, at(0));
    assert_eq!(ledger.release(1, at(1)), Some((Ending::Released, true)));
    assert_eq!(ledger.release(1, at(1)), Some((Ending::Released, false)));
    let late = Commit {
        late: Some(Late::Released),
        over: false,
    };
    assert_eq!(ledger.commit(1, &mut [line(1, 12)], at(2)), (late, true));
    assert_eq!(ledger.balance(&line(1, 0), at(2)), (12, 0));
    // Once.
    assert_eq!(ledger.commit(1, &mut [line(1, 12)], at(3)), (late, false));
    assert_eq!(ledger.balance(&line(1, 0), at(3)), (12, 0));
    assert_eq!(ledger.release(9, at(3)), None);
}

#[test]
fn forgets_the_oldest_that_have_ended_and_never_what_is_held() {
    let mut ledger = Ledger::new(BOUNDS);
    for id in 1..=3 {
        assert_eq!(ledger.reserve(id, &mut [line(id, 1)], TTL, at(0)), held(30));
    }
    assert_eq!(
        ledger.reserve(4, &mut [line(1, 1)], TTL, at(0)),
        Outcome::Full
    );
    ledger.commit(2, &mut [line(2, 1)], at(1));
    assert_eq!(ledger.reserve(4, &mut [line(1, 1)], TTL, at(1)), held(31));
    // The second one's end made room: it is not known any more.
    assert_eq!(ledger.release(2, at(1)), None);
    assert_eq!(ledger.counts().outstanding, 3);
}

#[test]
fn keeps_accounts_that_hold_anything() {
    let mut ledger = Ledger::new(BOUNDS);
    for key in 1..=4 {
        ledger.spend(None, &mut [line(key, 1)], at(0));
    }
    let mut fifth = [line(5, 1)];
    assert_eq!(ledger.spend(None, &mut fifth, at(60)), Outcome::Full);
    assert_eq!(ledger.spend(None, &mut fifth, at(61)), held(61));
    assert_eq!(ledger.counts().accounts, 1);
    ledger.sweep(at(200));
    assert_eq!(ledger.counts().accounts, 0);
}

/// Both places are taken; `end` ends one of them, and one more may come.
#[track_caller]
fn check_frees(end: impl Fn(&mut Ledger), seconds: i64) {
    let mut ledger = Ledger::new(BOUNDS);
    for (id, ttl) in [(1, TTL), (2, TTL * 3)] {
        let told = ledger.reserve(id, &mut [place(1, 1)], ttl, at(0));
        assert!(matches!(told, Outcome::Admitted { .. }), "{told:?}");
    }
    let mut third = [place(1, 1)];
    let last = at(seconds).minus(Duration::from_micros(1));
    assert_eq!(ledger.reserve(3, &mut third, TTL, last), Outcome::Refused);
    let soon = last.plus(Duration::from_secs(1));
    assert_eq!(third[0].tally.frees_at, Some(soon));
    end(&mut ledger);
    let again = ledger.reserve(3, &mut third, TTL, at(seconds));
    assert_eq!(again, held(seconds + 30));
    assert_eq!(third[0].tally.used, 2);
    assert_eq!(ledger.balance(&place(1, 0), at(seconds)), (0, 2));
}

#[test]
fn every_end_of_a_reservation_gives_its_place_back() {
    check_frees(|_| {}, 30);
    let released = Some((Ending::Released, true));
    check_frees(|ledger| assert_eq!(ledger.release(1, at(5)), released), 5);
    let in_time = (Commit::default(), true);
    check_frees(
        |ledger| assert_eq!(ledger.commit(1, &mut [place(1, 1)], at(5)), in_time),
        5,
    );
    // More than was reserved exceeds nothing: it is over.
    check_frees(
        |ledger| assert_eq!(ledger.commit(1, &mut [place(1, 9)], at(5)), in_time),
        5,
    );
}

#[test]
fn what_has_ended_takes_no_place() {
    let mut ledger = Ledger::new(BOUNDS);
    let unknown = Commit {
        late: Some(Late::Unknown),
        over: false,
    };
    let told = ledger.commit(9, &mut [place(1, 5)], at(0));
    assert_eq!(told, (unknown, true));
    for _ in 0..5 {
        assert_eq!(ledger.spend(None, &mut [place(1, 1)], at(0)), held(0));
    }
    // No account is kept for it.
    assert_eq!(ledger.counts().accounts, 0);
    ledger.reserve(1, &mut [place(1, 2)], TTL, at(0));
    // A check looks: it is refused while all places are taken.
    let told = ledger.spend(None, &mut [place(1, 1)], at(29));
    assert_eq!(told, Outcome::Refused);
    // Late, it changes nothing.
    let expired = Commit {
        late: Some(Late::Expired),
        over: false,
    };
    let told = ledger.commit(1, &mut [place(1, 2)], at(30));
    assert_eq!(told, (expired, true));
    assert_eq!(ledger.balance(&place(1, 0), at(30)), (0, 0));
    ledger.sweep(at(30));
    assert_eq!(ledger.counts().accounts, 0);
}

#[test]
fn more_places_than_there_are_never_fit() {
    let mut ledger = Ledger::new(BOUNDS);
    let mut three = [place(1, 3)];
    assert_eq!(ledger.reserve(1, &mut three, TTL, at(0)), Outcome::Refused);
    assert_eq!(three[0].tally.frees_at, None);
}
