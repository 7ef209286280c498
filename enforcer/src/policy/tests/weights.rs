//! Weights of routes.

use super::*;

#[track_caller]
fn reads(text: &str, expected: &[(&str, u32)]) {
    let policy = read(text).unwrap();
    let weights = policy.weights.iter();
    let weights: Vec<_> = weights.map(|w| (w.route(), w.requests)).collect();
    assert_eq!(weights, expected);
}

#[test]
fn reads_weights_in_their_order() {
    reads(
        "[[weight]]\nroute = \"POST /v1/bulk/*\"\nrequests = 20\n[[weight]]\nroute = \"*\"\nrequests = 0",
        &[("POST /v1/bulk/*", 20), ("*", 0)],
    );
    reads(
        "weight = [{route = 'POST /a', requests = 1_000_000}, {route = 'POST /a*', requests = 2}]",
        &[("POST /a", 1_000_000), ("POST /a*", 2)],
    );
    reads("zone = 'UTC'", &[]);
}

#[test]
fn refuses_weights_that_are_wrong() {
    let weight = |fields: &str| format!("[[weight]]\n{fields}\n");
    refuse(
        &weight("rout = 'GET /'\nrequest = 3"),
        &[
            "1:1: this weight has no `requests`, what one request counts as: write `requests = 20`",
            "1:1: this weight has no `route`: write `route = \"POST /v1/bulk/*\"`",
            "2:1: unknown field `rout` of a weight; did you mean `route`?",
            "3:1: unknown field `request` of a weight; did you mean `requests`?",
        ],
    );
    refuse(
        "[[weigth]]\nroute = 'GET /'",
        &["1:3: unknown field `weigth` of a policy; did you mean `weight`?"],
    );
    refuse(
        "weight = 3",
        &["1:10: `weight` is a list of tables: write `[[weight]]` above each"],
    );
    refuse(
        &weight("route = ''\nrequests = 3"),
        &["2:9: `route` is empty: write `*` for every route"],
    );
    refuse(
        &weight("route = 'GET /*/keys'\nrequests = 3"),
        &[
            "2:9: route `GET /*/keys`: the id of `route` holds a character that must be percent-encoded, or a broken \
             encoding",
        ],
    );
    for requests in ["-1", "1000001", "1.5", "'20'", "99999999999999999999"] {
        refuse(
            &weight(&format!("route = '*'\nrequests = {requests}")),
            &["3:12: `requests` is what one request counts as: a whole number from 0 to 1000000"],
        );
    }
}

#[test]
fn refuses_a_weight_that_no_request_has() {
    let both = |first: &str, second: &str| {
        format!(
            "[[weight]]\nroute = '{first}'\nrequests = 2\n[[weight]]\nroute = '{second}'\nrequests = 3\n"
        )
    };
    refuse(
        &both("GET /a", "GET /a"),
        &["5:9: another weight is for `GET /a` already, on line 2"],
    );
    for narrower in ["GET /a", "GET /a/*", "GET /"] {
        let told = format!(
            "5:9: no request has this weight: `GET /*` on line 2 takes `{narrower}` before it; the first that takes a \
             route rules, so write the narrower one first"
        );
        refuse(&both("GET /*", narrower), &[&told]);
        if narrower != "GET /" {
            assert!(read(&both(narrower, "GET /*")).is_ok());
        }
    }
    assert!(read(&both("GET /a", "GET /ab")).is_ok());
}

#[test]
fn holds_a_bounded_number_of_weights() {
    let many = |count: usize| -> String {
        (0..count).fold(String::new(), |mut text, n| {
            writeln!(text, "[[weight]]\nroute = 'GET /{n}'\nrequests = 2").unwrap();
            text
        })
    };
    assert_eq!(read(&many(1_000)).unwrap().weights.len(), 1_000);
    refuse(
        &many(1_001),
        &["3001:1: this is weight 1001; a policy holds 1000"],
    );
}
