//! Windows and levels, read and written.

use proptest::prelude::*;

use super::*;

#[track_caller]
fn check(text: &str, shown: &str, slice: Option<u32>) {
    let window: Window = text.parse().unwrap();
    assert_eq!(window.to_string(), shown);
    assert_eq!(window.slice_seconds(), slice);
    assert_eq!(shown.parse(), Ok(window));
}

#[test]
fn reads_windows() {
    check("sliding 60s", "sliding 60s", Some(1));
    check("sliding  1m", "sliding 60s", Some(1));
    check("sliding 10m", "sliding 10m", Some(1));
    check("sliding 1h", "sliding 1h", Some(60));
    check("sliding 30d", "sliding 30d", Some(3_600));
    check("bucket 10/s burst 50", "bucket 10/1s burst 50", None);
    check("bucket 600/5m burst 50", "bucket 600/5m burst 50", None);
    check("calendar month", "calendar month", None);
    check("calendar week", "calendar week", None);
    check("concurrent", "concurrent", None);
    check(
        "calendar week from sunday",
        "calendar week from sunday",
        None,
    );
}

#[test]
fn refuses_what_is_no_window() {
    let error = |text: &str| text.parse::<Window>().unwrap_err();
    assert!(matches!(error("hourly"), WindowError::Shape(_)));
    assert!(matches!(error("sliding"), WindowError::Shape(_)));
    assert!(matches!(error("concurrent 60s"), WindowError::Shape(_)));
    assert!(matches!(error("calendar year"), WindowError::Shape(_)));
    assert!(matches!(
        error("calendar week from tuesday"),
        WindowError::Shape(_)
    ));
    assert!(matches!(error("sliding 60"), WindowError::Span(_)));
    assert!(matches!(error("sliding 1.5s"), WindowError::Span(_)));
    assert!(matches!(error("sliding -1s"), WindowError::Span(_)));
    assert!(matches!(error("sliding 0s"), WindowError::Length(_)));
    assert!(matches!(error("sliding 31d"), WindowError::Length(_)));
    assert!(matches!(error("sliding 601s"), WindowError::Slices(_, 60)));
    assert!(matches!(error("bucket 0/s burst 5"), WindowError::Bucket));
    assert!(matches!(error("bucket 5 burst 5"), WindowError::Bucket));
    assert!(matches!(
        error("sliding 99999999999s"),
        WindowError::Span(_)
    ));
}

#[test]
fn meters_have_names() {
    for name in [
        "requests",
        "input_tokens",
        "tokens",
        "cost",
        "failures",
        "violations",
        "images_1",
    ] {
        assert_eq!(name.parse::<Meter>().unwrap().name(), name);
    }
    for name in ["", "Tokens", "1st", "a-b", "a b"] {
        assert!(name.parse::<Meter>().is_err(), "{name}");
    }
}

proptest! {
    #[test]
    fn a_part_is_the_smallest_number_that_reaches_it(hard in 1..=i128::from(i64::MAX), percent in 1..=99_i128) {
        let part = part_of(hard, percent);
        prop_assert!(hard * percent <= part * 100);
        prop_assert!((part - 1) * 100 < hard * percent);
    }
}
