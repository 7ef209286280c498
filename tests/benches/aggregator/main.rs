//! The aggregator, Kafka to Kafka, as a process of its own: events counted per CPU second, and memory.
//!
//! One topic of usage events of about 285 bytes (`EVENTS`, 2,000,000). Each case of `CASES` has a Kafka of its own and
//! is `FORM:KEYS[:SPREAD][:WORK][:prompt]`: JSON or Avro, the number of keys, `zipf` where the k-th key's share is as 1/k,
//! and what is asked, `rollups` or `wide` (see [`Work`]), or else one sliding minute of tokens for each key. The CPU time
//! is that of the whole process, from a fifth of the events counted until all are: user and kernel, by `/proc`.
//!
//! Then it is started again on its snapshots, and the time taken until one more event is counted. Kafka is as it is
//! shipped, or `prompt`: with little memory, and a group begins at once (`group.initial.rebalance.delay.ms` 0).
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
use tests::kafka::Kafka;
use tests::setting;

const CASES: &str = "json:10000 json:1000000 json:10000:zipf json:1000000:zipf avro:10000 avro:1000000 \
                     avro:10000:zipf avro:1000000:zipf json:10000:wide avro:10000:wide json:10000:rollups \
                     json:10000:prompt json:1000000:prompt";
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
        let case = Case::parse(case, events);
        let line = runtime.block_on(measure(&case, peer.as_ref()));
        say(&line);
    }
}

/// One line of the table.
struct Case {
    load: Load,
    work: Work,
    is_prompt: bool,
}

impl Case {
    fn parse(text: &str, events: usize) -> Self {
        let mut words = text.split(':');
        let form = match words.next() {
            Some("json") => Form::Json,
            Some("avro") => Form::Avro,
            _ => panic!("`{text}` names no form: json or avro"),
        };
        let keys = words.next().map(number);
        let keys = keys.unwrap_or_else(|| panic!("`{text}` is no FORM:KEYS"));
        let mut case = Self {
            load: Load {
                form,
                keys,
                spread: Spread::Uniform,
                events,
            },
            work: Work::Sums,
            is_prompt: false,
        };
        for word in words {
            match word {
                "zipf" => case.load.spread = Spread::Zipf,
                "rollups" => case.work = Work::Rollups,
                "wide" => case.work = Work::Wide,
                "prompt" => case.is_prompt = true,
                other => panic!("`{other}` in `{text}` is none of zipf, rollups, wide, prompt"),
            }
        }
        case
    }
}

async fn measure(case: &Case, peer: Option<&Peer>) -> String {
    let Case {
        load,
        work,
        is_prompt,
    } = case;
    let kafka = match is_prompt {
        true => Kafka::start().await,
        false => Kafka::start_as_shipped().await,
    };
    let mut stand = Stand::start(kafka, *work).await;
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
