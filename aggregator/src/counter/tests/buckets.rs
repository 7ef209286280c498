//! Buckets, to the microsecond.

use super::*;

#[test]
fn a_bucket_drains_exactly() {
    let window = "bucket 10/s burst 50";
    check(window, "hard=50", "50@0", &["up hard@0 50 until 0.1"]);
    check(window, "hard=50", "60@0", &["up hard@0 60 until 1.1"]);
    check(
        window,
        "hard=50",
        "60@0 ^1.099999",
        &["up hard@0 60 until 1.1"],
    );
    check(
        window,
        "hard=50",
        "60@0 ^2",
        &["up hard@0 60 until 1.1", "down hard@1.1 49"],
    );
    check(window, "hard=50", "49@0 1@0.1", &[]);
    check(
        window,
        "hard=50",
        "49@0 2@0.1",
        &["up hard@0.1 50 until 0.2"],
    );
    // A third of one drains a second: seven take 21 s, and not a microsecond more or less.
    let start = ["up hard@0 8 until 3", "down hard@3 7"];
    for (amounts, then) in [
        ("8@0 6@21", None),
        ("8@0 6@20.999999", Some("up hard@20.999999 8 until 21")),
        ("8@0 7@21", Some("up hard@21 8 until 24")),
        ("8@0 7@20.999999", Some("up hard@20.999999 9 until 24")),
    ] {
        let told: Vec<&str> = start.into_iter().chain(then).collect();
        check("bucket 1/3s burst 8", "hard=8", amounts, &told);
    }
}

#[test]
fn an_amount_behind_a_bucket_is_added_where_the_bucket_is() {
    let window = "bucket 10/s burst 50";
    check(
        window,
        "hard=50",
        "40@10 10@5",
        &["up hard@5 50 until 10.1"],
    );
}
