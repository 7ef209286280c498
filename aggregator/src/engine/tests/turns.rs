//! Where more rows changed than are told at once, each is told in its turn, once, and none is forgotten.

use super::*;

const CELLS: usize = 20_000;

/// Users whose rows are told, with what they used.
fn told(out: &mut Vec<Output>) -> Vec<(String, i128)> {
    let rollups = out.drain(..).map(|output| match output {
        Output::Rollup(rollup) => {
            let user = rollup.dims.ids()[1].unwrap().to_owned();
            let tokens = rollup.seconds.iter().map(|(_, sums)| sums.input_tokens);
            (user, tokens.sum())
        }
        other => panic!("{other:?} is no rollup"),
    });
    rollups.collect()
}

fn turn(shard: &mut Shard) -> Vec<(String, i128)> {
    shard.engine.flush_turn(&mut shard.out);
    told(&mut shard.out)
}

fn send(shard: &mut Shard, id: usize, user: usize) {
    let (id, user) = (id.to_string(), user.to_string());
    let event = call(("acme", &user), &id, at(61), 1);
    shard.step(61, Input::Event(event));
}

#[test]
fn rows_are_told_in_the_order_in_which_they_changed() {
    let mut shard = Shard::under("");
    for user in 0..CELLS {
        send(&mut shard, user, user);
    }
    let expected = |users: std::ops::Range<usize>| -> Vec<_> {
        users.map(|user| (user.to_string(), 1)).collect()
    };
    assert_eq!(turn(&mut shard), expected(0..2_500));
    // One that was told changes, and one that was not: the first waits behind all others, the second where it was.
    send(&mut shard, CELLS, 0);
    send(&mut shard, CELLS + 1, 2_500);
    let next = turn(&mut shard);
    assert_eq!(next[0], ("2500".to_owned(), 2));
    let so_far = 2_500 + next.len();
    assert_eq!(next[1..], expected(2_501..so_far));
    // A snapshot knows what was not told, and minutes that are over wait for their turn as well.
    shard.engine.forget();
    shard.engine = reborn(shard.engine);
    let mut rest = Vec::new();
    loop {
        match turn(&mut shard) {
            told if told.is_empty() => break,
            told => rest.extend(told),
        }
    }
    let (last, others) = rest.split_last().unwrap();
    assert_eq!(*last, ("0".to_owned(), 2));
    assert_eq!(others, expected(so_far..CELLS));
}

#[test]
fn few_rows_are_told_at_once() {
    let mut shard = Shard::under("");
    for user in 0..1_000 {
        send(&mut shard, user, user);
    }
    assert_eq!(turn(&mut shard).len(), 1_000);
    assert_eq!(turn(&mut shard), []);
}

#[test]
fn all_are_told_when_it_is_the_last_time() {
    let mut shard = Shard::under("");
    for user in 0..CELLS {
        send(&mut shard, user, user);
    }
    shard.engine.flush_sums(&mut shard.out);
    assert_eq!(told(&mut shard.out).len(), CELLS);
}
