//! The aggregator, Kafka to Kafka, as a process of its own: events counted per CPU second, and memory.
//!
//! One topic of usage events of about 285 bytes (`EVENTS`, 2,000,000). Each case of `CASES` has a Kafka of its own and
//! is `FORM:KEYS[:SPREAD][:WORK]`: JSON or Avro, the number of keys, `zipf` where the k-th key's share is as 1/k, and
//! what is asked, `rollups` or `wide` (see [`Work`]), or else one sliding minute of tokens for each key. The CPU time is
//! that of the whole process, from a fifth of the events counted until all are: user and kernel, by `/proc`.
//!
//! Then it is started again on its snapshots, and the time taken until one more event is counted.
//!
//! Beside it, on the same topic in the same run, a Kafka Streams program, where `WEIR_BENCH_PEER` names a folder with
//! its jar and a folder `lib` with what that needs. It is started as
//! `java -cp … Baseline run BOOTSTRAP TOPIC EVENTS ring mem alos` and reports `… events/cpu-second`. It sums the number
//! `tokens` of each record by the record's key; so each JSON event has one, where Weir looks for nothing.
//!
//! `cargo bench -p tests --bench aggregator`. Prints a table; asserts only that every event is counted.

mod load;
mod peer;
mod stand;

use load::{Form, Load, Spread};
use peer::Peer;
use stand::{Stand, Work};
use tests::setting;

const CASES: &str = "json:10000 json:1000000 json:10000:zipf json:1000000:zipf avro:10000 avro:1000000 \
                     avro:10000:zipf avro:1000000:zipf json:10000:wide avro:10000:wide json:10000:rollups";
const EVENTS: usize = 2_000_000;

fn main() {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let cases = std::env::var("CASES").unwrap_or_else(|_| CASES.to_owned());
    let events = setting("EVENTS", EVENTS);
    let peer = Peer::find();
    if peer.is_none() {
        say(
            "no peer: WEIR_BENCH_PEER names no folder with a Kafka Streams program (see this bench's source)",
        );
    }
    say(
        "| events | keys | asked | Weir, events per CPU second | resident, MiB | the peer, events per CPU second | restart, s |",
    );
    say("| --- | --- | --- | --- | --- | --- | --- |");
    for case in cases.split_whitespace() {
        let (load, work) = case_of(case, events);
        let line = runtime.block_on(measure(&load, work, peer.as_ref()));
        say(&line);
    }
}

fn case_of(case: &str, events: usize) -> (Load, Work) {
    let mut words = case.split(':');
    let form = match words.next() {
        Some("json") => Form::Json,
        Some("avro") => Form::Avro,
        _ => panic!("`{case}` names no form: json or avro"),
    };
    let keys = words.next().map(number);
    let keys = keys.unwrap_or_else(|| panic!("`{case}` is no FORM:KEYS"));
    let (mut spread, mut work) = (Spread::Uniform, Work::Sums);
    for word in words {
        match word {
            "zipf" => spread = Spread::Zipf,
            "rollups" => work = Work::Rollups,
            "wide" => work = Work::Wide,
            other => panic!("`{other}` in `{case}` is none of zipf, rollups, wide"),
        }
    }
    let load = Load {
        form,
        keys,
        spread,
        events,
    };
    (load, work)
}

/// One line of the table.
async fn measure(load: &Load, work: Work, peer: Option<&Peer>) -> String {
    let mut stand = Stand::start(work).await;
    let bytes = load.fill(&stand);
    let ours = stand.count(load.events).await;
    // It reads JSON only, and sums.
    let theirs = match (peer, load.form, work) {
        (Some(peer), Form::Json, Work::Sums) => peer.run(&stand.bootstrap(), load.events),
        _ => None,
    };
    load.one_more(&stand);
    let restarted = stand.restart(load.events + 1).await;
    format!(
        "| {} {:?}, {bytes} B | {}, {:?} | {work:?} | {:.0} | {:.0} | {} | {:.1} |",
        load.events,
        load.form,
        load.keys,
        load.spread,
        ours.per_cpu_second,
        ours.resident_mib,
        theirs.map_or_else(|| "–".to_owned(), |rate| format!("{rate:.0}")),
        restarted.as_secs_f64(),
    )
}

fn number(text: &str) -> usize {
    text.parse()
        .unwrap_or_else(|_| panic!("`{text}` is not a number"))
}

fn say(line: &str) {
    use std::io::Write;
    writeln!(std::io::stdout(), "{line}").expect("standard output");
}
