use super::*;
use crate::cloudevents::{Event, read_event};
use crate::time::Timestamp;

fn rules() -> Rules {
    Rules::at(Timestamp::from_seconds(1_000_000_000))
}

fn read(body: &str) -> CspReports {
    read_csp_reports(body.as_bytes(), "acme", &rules()).unwrap()
}

/// The one report of a body, as `directive blocked_uri blocked_host`.
#[track_caller]
fn check(body: &str, expected: &str) -> Csp {
    let mut reports = read(body);
    assert_eq!(reports.errors, [], "{body}");
    assert_eq!(
        (reports.reports.len(), reports.others, reports.bad),
        (1, 0, 0)
    );
    let csp = reports.reports.remove(0);
    let shown = format!("{} {} {}", csp.directive, csp.blocked_uri, csp.blocked_host);
    assert_eq!(shown, expected, "{body}");
    csp
}

const BLINK: &str = r#"{"csp-report":{
    "document-uri":"https://acme.example/cart?token=s3cret","referrer":"","violated-directive":"script-src-elem",
    "effective-directive":"script-src-elem","original-policy":"script-src 'self'; report-uri /r","disposition":"enforce",
    "blocked-uri":"https://evil.example/x.js?u=1","line-number":12,"column-number":3,
    "source-file":"https://acme.example/app.js?v=3","status-code":200,"script-sample":""}}"#;

const REPORTING: &str = r#"[{"age":53531,"type":"csp-violation","url":"https://acme.example/cart?x","user_agent":"M",
    "body":{"blockedURL":"inline","columnNumber":39,"disposition":"reporting","documentURL":"https://acme.example/cart#f",
    "effectiveDirective":"script-src-elem","lineNumber":"121","originalPolicy":"","referrer":"","sample":"console.log(\"lo\")",
    "sourceFile":"https://acme.example/cart","statusCode":200}}]"#;

#[test]
fn reads_what_browsers_send() {
    let csp = check(
        BLINK,
        "script-src-elem https://evil.example/x.js evil.example",
    );
    assert_eq!(csp.document_uri, "https://acme.example/cart");
    assert_eq!(
        csp.source_file.as_deref(),
        Some("https://acme.example/app.js")
    );
    assert_eq!((csp.line, csp.sample), (Some(12), None));
    assert_eq!(csp.disposition.as_deref(), Some("enforce"));
    assert_eq!(
        (csp.tenant.as_str(), csp.event_source.as_str()),
        ("acme", "browser")
    );
    assert_eq!(
        (csp.at, csp.received_at),
        (rules().received_at, rules().received_at)
    );

    let csp = check(REPORTING, "script-src-elem inline inline");
    assert_eq!(csp.document_uri, "https://acme.example/cart");
    assert_eq!(csp.line, Some(121));
    assert_eq!(csp.disposition.as_deref(), Some("report"));
    assert_eq!(csp.sample.as_deref(), Some("console.log(\"lo\")"));
    assert_eq!(csp.at, Timestamp::from_millis(1_000_000_000_000 - 53_531));
}

#[test]
fn takes_the_shapes_of_old_browsers() {
    let old_firefox = r#"{"csp-report":{"violated-directive":"IMG-SRC https://acme.example 'self'","blocked-uri":"self"}}"#;
    check(old_firefox, "img-src self self");
    let old_webkit = r#"{"document-url":"https://acme.example/","violated-directive":"img-src","blocked-url":"http://x.example"}"#;
    check(old_webkit, "img-src http://x.example x.example");
    let odd = r#"{"csp-report":{"effective-directive":"","violated-directive":"img-src","blocked-uri":null,
        "line-number":-1,"disposition":7,"source-file":"","status-code":"0"}}"#;
    let csp = check(odd, "img-src self self");
    assert_eq!(
        (csp.line, csp.disposition, csp.source_file),
        (None, None, None)
    );
    let no_document = r#"[{"type":"csp-violation","url":"https://acme.example/a?b","body":{"effectiveDirective":"img-src"}}]"#;
    assert_eq!(
        check(no_document, "img-src self self").document_uri,
        "https://acme.example/a"
    );
}

#[test]
fn keeps_little_of_a_sample() {
    let sample = format!("a\r\n\u{1b}[31m{}", "ä".repeat(100));
    let body =
        serde_json::json!({"effective-directive": "script-src", "sample": sample}).to_string();
    let kept = check(&body, "script-src self self").sample.unwrap();
    assert_eq!(kept.chars().count(), 40);
    assert!(kept.starts_with("a   [31mää"));
}

#[test]
fn one_bad_report_spoils_no_other() {
    let good = r#"{"type":"csp-violation","age":-5,"body":{"effectiveDirective":"img-src"}}"#;
    let other = r#"{"type":"deprecation","body":{"id":"x"}}"#;
    let bad = r#"{"type":"csp-violation","body":{"effectiveDirective":"<script>"}}"#;
    let reports = read(&format!("[{good},{other},{bad},5,{good}]"));
    assert_eq!(
        (reports.reports.len(), reports.others, reports.bad),
        (2, 1, 2)
    );
    let pointers: Vec<&str> = reports.errors.iter().map(|e| e.pointer.as_str()).collect();
    assert_eq!(pointers, ["/2/body", "/3"]);
    assert_eq!(reports.reports[0].at, rules().received_at);
    let ids: Vec<&str> = reports
        .reports
        .iter()
        .map(|r| r.event_id.as_str())
        .collect();
    assert_ne!(ids[0], ids[1]);
    assert_eq!(ids[0].len(), 32);
    let empty = read("{}");
    assert_eq!((empty.bad, empty.errors.len()), (1, 1));
    assert_eq!(read("[]"), CspReports::default());
    assert!(read_csp_reports(b"{", "acme", &rules()).is_err());
}

#[test]
fn ages_are_clamped() {
    let old = r#"[{"type":"csp-violation","age":18446744073709551615,"body":{"effectiveDirective":"img-src"}}]"#;
    let at = read(old).reports[0].at;
    assert_eq!(at, rules().received_at.minus(rules().past_max));
}

#[test]
fn apps_may_send_reports_as_events() {
    let check = |data: &str, expected: Result<&str, &str>| {
        let event = format!(
            r#"{{"specversion":"1.0","id":"1","source":"app","type":"csp","subject":"acme","time":"2001-09-09T01:46:39Z","data":{data}}}"#
        );
        let result = read_event(event.as_bytes(), &rules());
        let result = match &result {
            Ok(Event::Csp(csp)) => {
                assert_eq!((csp.event_id.as_str(), csp.at.second()), ("1", 999_999_999));
                Ok(csp.blocked_host.clone())
            }
            Ok(other) => panic!("no report: {other:?}"),
            Err(error) => Err(error.to_string()),
        };
        match expected {
            Ok(host) => assert_eq!(result.as_deref(), Ok(host), "{data}"),
            Err(text) => assert!(
                result.as_ref().is_err_and(|e| e.contains(text)),
                "{result:?}"
            ),
        }
    };
    check(BLINK, Ok("evil.example"));
    check(
        r#"{"effectiveDirective":"img-src","blockedURL":"data"}"#,
        Ok("data"),
    );
    check(r#"{"blockedURL":"data"}"#, Err("/data: names no directive"));
    check(
        r#"{"csp-report":{}}"#,
        Err("/data/csp-report: names no directive"),
    );
    check(
        r#"{"csp-report":5}"#,
        Err("/data/csp-report: must be an object, not 5"),
    );
    check("null", Err("/data: is required"));
}
