//! Spreads and those who come most, as hours were told and as questions merge them.

use schemas::policy::Meter;
use schemas::record::{Ranking, RankingEntry, Sketch, Spread};

use super::*;
use crate::sketch::{Distinct, id_hash};

const TWELVE: &str = "2026-11-21T12:00:00Z";
const ELEVEN: &str = "2026-11-21T11:00:00Z";

fn origin(offset: i64) -> Origin {
    Origin {
        offset,
        ..Origin::default()
    }
}

/// The sources `first..end` of an account in an hour.
fn spread((tenant, account): (&str, &str), hour: &str, (first, end): (u32, u32)) -> Sketch {
    let mut distinct = Distinct::default();
    for source in first..end {
        distinct.insert(id_hash(&source.to_string()));
    }
    Sketch::Spread(Spread {
        tenant: tenant.to_owned(),
        of: "source".to_owned(),
        per: "account".to_owned(),
        id: account.to_owned(),
        hour: Timestamp::parse(hour).unwrap(),
        count: i64::try_from(distinct.count()).unwrap(),
        missed_max: 1,
        sketch: distinct.to_bytes(),
        origin: origin(1),
    })
}

/// A list of users by cost: `id count error`.
fn ranking(tenant: &str, hour: &str, offset: i64, entries: &[(&str, i128, i128)]) -> Sketch {
    let listed = entries.iter().map(|(id, count, error)| RankingEntry {
        id: (*id).to_owned(),
        count: Amount(*count),
        error: Amount(*error),
    });
    Sketch::Ranking(Ranking {
        tenant: tenant.to_owned(),
        by: "user".to_owned(),
        meter: Meter::Cost,
        hour: Timestamp::parse(hour).unwrap(),
        entries: listed.collect(),
        missing_max: Amount(entries.iter().map(|(_, _, error)| *error).max().unwrap()),
        sum: Amount(entries.iter().map(|(_, count, _)| *count).sum()),
        origin: origin(offset),
    })
}

/// `tenant/id amount error` of each entry.
fn entries(body: &Value, amount: &str) -> Vec<String> {
    let entry = |entry: &Value| {
        let text = |name: &str| match &entry[name] {
            Value::String(text) => text.clone(),
            other => other.to_string(),
        };
        let (who, amount) = (format!("{}/{}", text("tenant"), text("id")), text(amount));
        format!("{who} {amount} {}", text("error"))
    };
    body["entries"]
        .as_array()
        .unwrap()
        .iter()
        .map(entry)
        .collect()
}

#[tokio::test]
async fn spreads_of_several_hours_are_merged() {
    let bench = Bench::new().await;
    let all = "/v1/spread?of=source&per=account";
    bench
        .write(|rows| {
            rows.add_sketch(spread(("acme", "bob"), ELEVEN, (0, 40)));
            rows.add_sketch(spread(("acme", "bob"), TWELVE, (30, 60)));
            // Told before, and heard again.
            rows.add_sketch(spread(("acme", "bob"), TWELVE, (30, 35)));
            rows.add_sketch(spread(("acme", "ann"), TWELVE, (0, 3)));
            rows.add_sketch(spread(("other", "eve"), TWELVE, (0, 1_000)));
        })
        .await;
    bench
        .write(|rows| rows.add_sketch(spread(("acme", "ann"), TWELVE, (0, 2))))
        .await;
    let (_, body, _) = bench.ask(all, None).await;
    let error = json!({ "relative": 0.0325, "exact_up_to": 96 });
    assert_eq!((&body["error"], &body["from"]), (&error, &json!(ELEVEN)));
    assert_eq!(body["entries"][1]["missed_max"], 2);
    let mut listed = entries(&body, "count");
    let eve = listed.remove(0);
    let (count, error) = eve
        .strip_prefix("other/eve ")
        .unwrap()
        .split_once(' ')
        .unwrap();
    let (count, error): (f64, f64) = (count.parse().unwrap(), error.parse().unwrap());
    assert!(
        (count - 1_000.0).abs() < 3.3 * error && error < 40.0,
        "{eve}"
    );
    assert_eq!(listed, ["acme/bob 60 0", "acme/ann 3 0"]);
    for (query, expected) in [
        (
            format!("from={TWELVE}"),
            &["acme/bob 30 0", "acme/ann 3 0"][..],
        ),
        // Hours are whole.
        ("to=2026-11-21T11:00:01Z".to_owned(), &["acme/bob 40 0"]),
        ("from=2026-11-21T13:00:00Z".to_owned(), &[]),
        ("subject=tenant/none".to_owned(), &[]),
    ] {
        let (_, body, _) = bench.ask(&format!("{all}&{query}"), Some("acme")).await;
        let expected = if query.contains("none") {
            &[]
        } else {
            expected
        };
        assert_eq!(entries(&body, "count"), expected, "{query}");
    }
}

#[tokio::test]
async fn a_list_is_read_page_by_page_and_by_its_own_tenant() {
    let bench = Bench::new().await;
    bench
        .write(|rows| {
            for (tenant, account, sources) in
                [("a", "x", 5), ("b", "x", 5), ("a", "y", 9), ("a", "z", 2)]
            {
                rows.add_sketch(spread((tenant, account), TWELVE, (0, sources)));
            }
        })
        .await;
    let mut path = "/v1/spread?of=source&per=account&limit=2".to_owned();
    let mut seen = Vec::new();
    loop {
        let (_, body, link) = bench.ask(&path, None).await;
        seen.push(entries(&body, "count"));
        let Some(link) = link else {
            break;
        };
        path = link[1..link.find('>').unwrap()].to_owned();
    }
    assert_eq!(
        seen,
        [vec!["a/y 9 0", "a/x 5 0"], vec!["b/x 5 0", "a/z 2 0"]]
    );
    for subject in ["", "&subject=tenant/b"] {
        let path = format!("/v1/spread?of=source&per=account{subject}");
        let (_, body, _) = bench.ask(&path, Some("b")).await;
        assert_eq!(entries(&body, "count"), ["b/x 5 0"]);
    }
    for subject in ["tenant/a", "platform"] {
        let path = format!("/v1/spread?of=source&per=account&subject={subject}");
        let (_, body, _) = bench.ask(&path, Some("b")).await;
        assert_eq!(body["entries"], json!([]), "{subject}");
    }
}

#[tokio::test]
async fn lists_of_several_hours_are_merged() {
    let bench = Bench::new().await;
    bench
        .write(|rows| {
            rows.add_sketch(ranking("acme", ELEVEN, 1, &[("u1", 50, 0), ("u2", 30, 2)]));
            rows.add_sketch(ranking("acme", TWELVE, 9, &[("u2", 40, 0), ("u3", 5, 0)]));
            // Older ones of an hour change nothing.
            rows.add_sketch(ranking("acme", TWELVE, 8, &[("u4", 99, 0)]));
            rows.add_sketch(ranking("other", TWELVE, 1, &[("u1", 60, 0)]));
        })
        .await;
    bench
        .write(|rows| rows.add_sketch(ranking("acme", TWELVE, 7, &[("u5", 99, 0)])))
        .await;
    let (_, body, _) = bench.ask("/v1/top?by=user&meter=cost", None).await;
    let expected = [
        "acme/u2 70 2",
        "other/u1 60 0",
        "acme/u1 50 0",
        // May have come to 2 at eleven without being listed.
        "acme/u3 7 2",
    ];
    assert_eq!(entries(&body, "amount"), expected);
    assert_eq!(
        (&body["sum"], &body["missing_max"]),
        (&json!("185"), &json!("2"))
    );
    assert_eq!(body["entries"][0]["cost_usd"], "0.00000000007");
}

#[tokio::test]
async fn says_what_it_does_not_keep() {
    let bench = Bench::new().await;
    for (path, parameter) in [
        ("/v1/spread?of=source&per=key", "per"),
        ("/v1/spread?of=sources&per=account", "of"),
        ("/v1/spread?of=source", "per"),
        ("/v1/spread?of=source&per=account&meter=cost", "meter"),
        ("/v1/spread?of=source&per=account&after=MDph", "after"),
        (
            "/v1/spread?of=source&per=account&subject=tenant/a/user/b",
            "subject",
        ),
        ("/v1/top?by=user&meter=tokens", "meter"),
        ("/v1/top?by=colour&meter=cost", "by"),
        ("/v1/top?by=user&meter=cost&limit=0", "limit"),
        (
            "/v1/top?by=user&meter=cost&from=2026-11-21T12:00:00Z&to=2026-11-21T12:00:00Z",
            "to",
        ),
    ] {
        bench
            .check(path, "/errors/0/pointer", json!(parameter))
            .await;
    }
}
