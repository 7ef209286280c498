//! Usage of a set: the sum over its ids.

use schemas::subject::{Dimension, IdSet, Sets};

use super::*;
use crate::rules::Rules;

fn sets() -> Sets {
    let mut sets = Sets::default();
    for (name, dimension, ids) in [
        ("us", Dimension::User, &["u1", "x%*", "ü*"][..]),
        ("none", Dimension::User, &[]),
        ("all", Dimension::User, &["*"]),
        ("prints", Dimension::Fingerprint, &["f"]),
    ] {
        let mut set = IdSet::new(dimension);
        for id in ids {
            set.add(&id.replace('%', "%25")).unwrap();
        }
        sets.add(name.to_owned(), set);
    }
    sets
}

/// Users with 1, 2, 4, … tokens.
async fn bench(users: &[&str]) -> Bench {
    let bench = Bench::new().await;
    let sets = sets();
    let limits = ["us", "none", "all"].map(|name| Limit {
        name: name.to_owned(),
        pattern: Pattern::parse_with(&format!("tenant/*/user/{{{name}}}"), &sets).unwrap(),
        ..policy().limits[0].clone()
    });
    let prints = Limit {
        pattern: Pattern::parse_with("tenant/*/fingerprint/{prints}", &sets).unwrap(),
        ..policy().limits[3].clone()
    };
    let policy = Policy {
        limits: limits.into_iter().chain([prints]).collect(),
        sets,
        ..policy()
    };
    *bench.app.rules.write() = Rules::of(policy);
    bench
        .write(|rows| {
            for (place, user) in users.iter().enumerate() {
                let offset = place as i64;
                rows.add_rollup(rollup(user, MINUTE, &[(7, 1 << place)], offset));
            }
        })
        .await;
    bench
}

#[tokio::test]
async fn usage_of_a_set_is_that_of_its_ids() {
    let users = ["u1", "x%1", "ümit", "u2", "x1", "xx%", "u", ""];
    let bench = bench(&users).await;
    for (set, sum) in [("us", 0b111), ("none", 0), ("all", 0b111_1111)] {
        let limits = format!("/v1/limits?subject=tenant/acme/user/%7B{set}%7D");
        bench.check(&limits, "/0/name", json!(set)).await;
        bench.check(&limits, "/0/used", json!(sum)).await;
        // By minutes, and by seconds.
        for step in ["60s", "1s"] {
            let usage =
                format!("/v1/usage?subject=tenant/acme/user/%7B{set}%7D&meter=tokens&step={step}");
            bench.check(&usage, "/series/0/total", json!(sum)).await;
        }
    }
    let apart = "/v1/usage?subject=user/%7Bus%7D&meter=tokens&group_by=user";
    bench
        .check(apart, "/series/2/group/user", json!("ümit"))
        .await;
    bench.check(apart, "/series/3", Value::Null).await;
}

#[tokio::test]
async fn what_nobody_can_tell_of_a_set_is_said() {
    let bench = bench(&["u1"]).await;
    let prints = "/v1/limits?subject=tenant/acme/fingerprint/%7Bprints%7D";
    bench.check(prints, "/0/name", json!("prints")).await;
    bench.check(prints, "/0/used", Value::Null).await;
    for (subject, told) in [
        ("user/%7Bgone%7D", "the policy has no set `gone`"),
        (
            "model/%7Bus%7D",
            "`us` is a set of ids of `user`, and cannot stand for a `model`",
        ),
    ] {
        let path = format!("/v1/usage?subject={subject}&meter=tokens");
        let (status, body, _) = bench.ask(&path, None).await;
        assert_eq!(status, StatusCode::BAD_REQUEST, "{body}");
        assert!(body.to_string().contains(told), "{body}");
    }
}
