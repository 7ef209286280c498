//! Limits on sets: several ids are one subject.

use schemas::subject::Subject;

use super::*;
use crate::event::PartialSum;

const USERS: &str = "set us user u1 x*
    s tenant/*/user/{us} tokens hard=10 : sliding 60s";
const MORE_USERS: &str = "set us user u1 x* v
    s tenant/*/user/{us} tokens hard=10 : sliding 60s";

fn use_tokens(shard: &mut Shard, user: &str, second: i64, tokens: i64) {
    let id = second.to_string();
    let event = call(("acme", user), &id, at(second), tokens);
    assert_eq!(shard.step(second, Input::Event(event)), Outcome::Counted);
}

#[test]
fn ids_of_a_set_are_counted_together() {
    let mut shard = Shard::under(USERS);
    use_tokens(&mut shard, "u1", 1, 4);
    use_tokens(&mut shard, "v", 2, 50);
    // A user that is called so is not the set.
    use_tokens(&mut shard, "{us}", 3, 50);
    assert_eq!(shard.crossings(), [""; 0]);
    use_tokens(&mut shard, "x9", 4, 6);
    assert_eq!(shard.crossings(), ["up s/hard tenant/acme/user/{us}@4 10"]);
}

#[test]
fn a_set_that_gets_other_ids_keeps_what_it_counted() {
    let mut shard = Shard::under(USERS);
    use_tokens(&mut shard, "u1", 1, 4);
    // Before it was one of them.
    use_tokens(&mut shard, "v", 2, 50);
    shard.policy(2, MORE_USERS, 3);
    assert_eq!(shard.crossings(), [""; 0]);
    use_tokens(&mut shard, "v", 4, 5);
    shard.engine = reborn(shard.engine);
    use_tokens(&mut shard, "x1", 5, 1);
    assert_eq!(shard.crossings(), ["up s/hard tenant/acme/user/{us}@5 10"]);
    shard.policy(3, USERS, 6);
    use_tokens(&mut shard, "v", 7, 50);
    shard.step(66, Input::Tick);
    use_tokens(&mut shard, "u1", 67, 1);
    let fallen = shard.crossings();
    assert_eq!(fallen.len(), 1, "{fallen:?}");
    assert!(fallen[0].starts_with("down s/hard tenant/acme/user/{us}@"));
}

#[test]
fn a_set_over_all_tenants_is_one_scope() {
    let wide = "set us user u1 x*
        s user/{us} tokens hard=10 : sliding 60s";
    let mut sender = Shard::under(wide);
    use_tokens(&mut sender, "u1", 1, 4);
    use_tokens(&mut sender, "x1", 2, 6);
    use_tokens(&mut sender, "v", 3, 50);
    let mut told = Vec::new();
    sender.engine.flush_partials(&mut told);
    let sums: Vec<PartialSum> = told
        .into_iter()
        .map(|output| match output {
            Output::Partial(sum) => sum,
            other => panic!("{other:?} is no partial"),
        })
        .collect();
    let scope = Subject::parse("user/{us}").unwrap();
    assert!(sums.iter().all(|sum| sum.scope == scope), "{sums:?}");
    let kind = Kind::Partials;
    let id = ShardId {
        kind,
        partition: 0,
        partitions: 1,
    };
    let mut shard = Shard::new(Engine::new(id, settings()));
    shard.policy(1, wide, 0);
    for sum in &sums {
        let partial = Input::Partial(sum.told_by("weir.usage.v1", 0));
        assert_eq!(shard.step(5, partial), Outcome::Counted);
    }
    assert_eq!(shard.crossings(), ["up s/hard user/{us}@2 10"]);
}
