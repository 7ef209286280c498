//! Both libraries write the same bytes and read each other's.

use std::borrow::Cow;
use std::fmt::Debug;

use apache_avro::reader::datum::GenericDatumReader;
use apache_avro::writer::datum::GenericDatumWriter;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::Index;

use super::arbitrary as any_of;
use super::format::split;
use super::{DecodeError, Format, Record, Wire, decode_usage, records, usage};
use crate::record::*;
use crate::time::Timestamp;

fn encoded<V: Wire>(value: &V) -> Vec<u8> {
    let mut bytes = Vec::new();
    value.encode(&mut bytes).unwrap();
    bytes
}

fn check<R: Record + Debug + PartialEq>(record: &R) -> Result<(), TestCaseError> {
    let schema = &R::format().current().authority;
    let ours = encoded(record);
    let (fingerprint, ours_datum) = split(&ours).unwrap();
    prop_assert_eq!(fingerprint, R::format().current().fingerprint);

    let writer = GenericDatumWriter::builder(schema).build().unwrap();
    let theirs_datum = writer.write_ser_to_vec(record).unwrap();
    prop_assert_eq!(ours_datum, theirs_datum.as_slice());

    let reader = GenericDatumReader::builder(schema).build().unwrap();
    prop_assert_eq!(&reader.read_deser::<R>(&mut &*ours_datum).unwrap(), record);
    let value = reader.read_value(&mut &*ours_datum).unwrap();
    prop_assert!(value.validate(schema));
    prop_assert_eq!(&apache_avro::from_value::<R>(&value).unwrap(), record);

    prop_assert_eq!(&R::decode(&ours).unwrap(), record);
    let cut = R::decode(&ours[..ours.len() - 1]);
    let is_corrupt = matches!(cut, Err(DecodeError::Corrupt { .. } | DecodeError::NotAvro));
    prop_assert!(is_corrupt, "{:?}", cut);
    let longer = [ours.as_slice(), &[0]].concat();
    let is_corrupt = matches!(R::decode(&longer), Err(DecodeError::Corrupt { .. }));
    prop_assert!(is_corrupt);
    Ok(())
}

fn borrowed(bytes: &[u8]) -> Result<UsageRecord, DecodeError> {
    decode_usage(bytes).map(|recorded| match recorded {
        Recorded::Event(usage) => Recorded::Event(usage.into_owned()),
        Recorded::Marker(marker) => Recorded::Marker(marker),
    })
}

fn told<T>(result: Result<T, DecodeError>) -> Result<T, String> {
    result.map_err(|error| error.to_string())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]

    #[test]
    fn usage(record in any_of::usage()) { check(&record)?; }
    #[test]
    fn auth(record in any_of::auth()) { check(&record)?; }
    #[test]
    fn csp(record in any_of::csp()) { check(&record)?; }
    #[test]
    fn partial(record in any_of::partial()) { check(&record)?; }
    #[test]
    fn marker(record in any_of::marker()) { check(&record)?; }
    #[test]
    fn policy_version(record in any_of::policy_version()) { check(&record)?; }
    #[test]
    fn layout(record in any_of::layout()) { check(&record)?; }
    #[test]
    fn order(record in any_of::order()) { check(&record)?; }
    #[test]
    fn key(record in any_of::key()) { check(&record)?; }
    #[test]
    fn command(record in any_of::command()) { check(&record)?; }
    #[test]
    fn crossing(record in any_of::crossing()) { check(&record)?; }
    #[test]
    fn csp_group(record in any_of::csp_group()) { check(&record)?; }
    #[test]
    fn cleared(record in any_of::cleared()) { check(&record)?; }
    #[test]
    fn rollup(record in any_of::rollup()) { check(&record)?; }
    #[test]
    fn spread(record in any_of::spread()) { check(&record)?; }
    #[test]
    fn share(record in any_of::share()) { check(&record)?; }
    #[test]
    fn ranking(record in any_of::ranking()) { check(&record)?; }
    #[test]
    fn decision(record in any_of::decision()) { check(&record)?; }
    #[test]
    fn refusal(record in any_of::refusal()) { check(&record)?; }
    #[test]
    fn alert(record in any_of::alert()) { check(&record)?; }
    #[test]
    fn dead(record in any_of::dead()) { check(&record)?; }

    #[test]
    fn usage_can_be_borrowed(record in any_of::usage()) {
        let bytes = encoded(&record);
        let (fingerprint, datum) = split(&bytes).unwrap();
        let borrowed = usage::read(fingerprint, datum).unwrap();
        let texts = [&borrowed.event_id].into_iter().chain(&borrowed.key).chain(&borrowed.reservation);
        prop_assert!(texts.into_iter().all(|text| matches!(text, Cow::Borrowed(_))));
        prop_assert_eq!(&UsageRef::from(record.clone()), &borrowed);
        prop_assert_eq!(borrowed.into_owned(), record);
    }

    #[test]
    fn spoilt_usage_is_read_or_refused_alike(
        record in any_of::usage(),
        spoils in vec((any::<Index>(), any::<u8>()), 1..4),
        cut in any::<Index>(),
    ) {
        let mut bytes = encoded(&record);
        for (place, byte) in spoils {
            let place = place.index(bytes.len());
            bytes[place] = byte;
        }
        for bytes in [&bytes[..], &bytes[..cut.index(bytes.len())]] {
            prop_assert_eq!(told(borrowed(bytes)), told(UsageRecord::decode(bytes)));
        }
    }

    #[test]
    fn any_bytes_never_panic(bytes in vec(any::<u8>(), 0..200)) {
        for format in records::formats() {
            let header = [&[0xc3, 0x01], format.current().fingerprint.as_slice()].concat();
            let framed = [header, bytes.clone()].concat();
            let _ = UsageRecord::decode(&framed);
            let _ = PolicyRecord::decode(&framed);
            let _ = Signal::decode(&framed);
            let _ = Decision::decode(&framed);
            for topic in crate::topic::ALL {
                let _ = super::to_json(topic.name, &framed);
            }
        }
        prop_assert!(UsageRecord::decode(&bytes).is_err());
    }
}

#[test]
fn both_libraries_compute_the_same_fingerprints() {
    let mut seen = Vec::new();
    for format in records::formats() {
        let version = format.current();
        assert_eq!(&version.fingerprint, version.fast_fingerprint());
        assert!(!seen.contains(&version.fingerprint), "{}", format.record());
        seen.push(version.fingerprint);
    }
}

/// Reads a usage event that ends with these bytes in place of its map of units, which are none.
#[track_caller]
fn check_units(goes_short: bool, written: &[u8], units: &[(&str, i64)]) {
    let mut bytes = encoded(&Usage::default());
    assert_eq!(bytes.pop(), Some(0));
    bytes.extend_from_slice(written);
    let (fingerprint, datum) = split(&bytes).unwrap();
    assert_eq!(usage::read(fingerprint, datum).is_some(), goes_short);
    let units = units
        .iter()
        .map(|(name, amount)| ((*name).to_owned(), *amount));
    let expected = Usage {
        units: units.collect(),
        ..Usage::default()
    };
    assert_eq!(Usage::decode(&bytes).unwrap(), expected);
    assert_eq!(borrowed(&bytes).unwrap(), Recorded::Event(expected));
}

#[test]
fn maps_come_in_any_blocks() {
    let (a, b) = ([2, b'a', 14], [2, b'b', 0x80, 0x01]);
    let both = [("a", 7), ("b", 64)];
    check_units(true, &[0], &[]);
    check_units(true, &[0x80, 0], &[]);
    check_units(true, &[&[4][..], &a, &b, &[0]].concat(), &both);
    check_units(true, &[&[2][..], &a, &[2], &b, &[0]].concat(), &both);
    check_units(true, &[&[4][..], &b, &b, &[0]].concat(), &both[1..]);
    // Blocks that tell their size.
    check_units(false, &[&[1, 6][..], &a, &[1, 8], &b, &[0]].concat(), &both);
}

/// An event that uses nothing is a zero for each field. It is refused with these bytes in place of those at `at`.
#[track_caller]
fn check_refused(at: std::ops::Range<usize>, written: &[u8]) {
    let mut bytes = encoded(&Usage::default());
    let start = bytes.len() - NOTHING.len();
    assert_eq!(bytes[start..], NOTHING);
    bytes.splice(start + at.start..start + at.end, written.iter().copied());
    let refused = told(UsageRecord::decode(&bytes));
    assert!(refused.is_err());
    assert_eq!(told(borrowed(&bytes)), refused);
}

const NOTHING: [u8; 22] = [0; 22];

#[test]
fn what_is_no_usage_is_refused() {
    let (key, status, cost, end) = (5..6, 15..16, 20..21, 22..22);
    // No such part of a union.
    check_refused(key.clone(), &[4]);
    check_refused(key.clone(), &[1]);
    // Longer than what is left, and no text.
    check_refused(key.clone(), &[2, 60]);
    check_refused(key, &[2, 2, 0xff]);
    // An int with 33 bits, and a long with 65.
    check_refused(status, &[2, 0x80, 0x80, 0x80, 0x80, 0x20]);
    check_refused(cost.clone(), &[&[0xff; 9][..], &[2]].concat());
    check_refused(cost, &[0xff; 11]);
    check_refused(end, &[0]);
}

#[track_caller]
fn check_union<V: Wire + Debug + PartialEq>(value: V, format: &Format) {
    let mut bytes = b"kept".to_vec();
    value.encode(&mut bytes).unwrap();
    let bytes = bytes.strip_prefix(b"kept").unwrap();
    assert_eq!(split(bytes).unwrap().0, format.current().fingerprint);
    assert_eq!(V::decode(bytes).unwrap(), value);
}

#[test]
fn values_of_several_records_are_told_apart_by_the_fingerprint() {
    let tick = Marker {
        policy: None,
        tick: Some(Timestamp::from_seconds(60)),
        order: None,
    };
    check_union(UsageRecord::Marker(tick.clone()), Marker::format());
    let marker = encoded(&UsageRecord::Marker(tick.clone()));
    let read = decode_usage(&marker).unwrap();
    assert!(matches!(read, Recorded::Marker(marker) if marker == tick));
    check_union(UsageRecord::Event(Usage::default()), Usage::format());
    check_union(CspRecord::Marker(tick.clone()), Marker::format());
    check_union(CspRecord::Event(Csp::default()), Csp::format());
    check_union(PolicyRecord::Layout(Layout::default()), Layout::format());
    let group = CspGroup {
        id: "g".to_owned(),
        tenant: "acme".to_owned(),
        directive: "img-src".to_owned(),
        blocked_host: "inline".to_owned(),
        document_uri: String::new(),
        at: Timestamp::from_seconds(1),
        count: 1,
        new: true,
        origin: Origin::default(),
    };
    check_union(Signal::CspGroup(group), CspGroup::format());
    let usage = encoded(&Usage::default());
    assert!(matches!(
        AuthRecord::decode(&usage),
        Err(DecodeError::UnknownSchema(_))
    ));
}
