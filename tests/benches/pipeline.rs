//! The whole of Weir as users run it: `weir up` in a process of its own, driven over HTTP.
//!
//! - Event accepted to decision in a gateway's memory: one tenant crossing its limit at a time, under a steady load.
//!   From the 202 of the event that crosses to the first check that is refused, asked over HTTP without pause; the
//!   figure includes that asking. The same with a provider, whose sum is added up from the partitions' parts.
//! - Ingest over HTTP: events a second in batches of 100, acknowledged by the log in the same process.
//!
//! `cargo bench -p tests --bench pipeline`. Prints figures; asserts only that what should be refused is.

use std::time::{Duration, Instant};

use serde_json::json;
use tests::client::Client;
use tests::waits::Waits;
use tests::weir::{Options, Weir};

const POLICY: &str = "\
[[limit]]
name = \"tenant\"
subject = \"tenant/*\"
meter = \"input_tokens\"
window = \"sliding 60s\"
hard = 1000000
mode = \"block\"

[[limit]]
name = \"provider\"
subject = \"provider/*\"
meter = \"output_tokens\"
window = \"sliding 60s\"
hard = 1000000
mode = \"block\"
";

/// Whose limit is crossed.
#[derive(Clone, Copy, Debug)]
enum Scope {
    Tenant,
    Provider,
}

/// Crossings that are measured, and before them those that only warm up.
const CROSSINGS: usize = 200;
const WARM_UP: usize = 20;
/// Steady load while crossings are measured: one batch of ten events each tenth of a hundred milliseconds.
const LOAD_EVENTS_PER_SECOND: usize = 1_000;
const LOAD_BATCH: usize = 10;

const INGEST_CLIENTS: usize = 4;
const INGEST_BATCH: usize = 100;
const INGEST_TIME: Duration = Duration::from_secs(10);

fn main() {
    let mut runtime = tokio::runtime::Builder::new_multi_thread();
    let runtime = runtime
        .worker_threads(2)
        .enable_all()
        .build()
        .expect("a runtime");
    runtime.block_on(async {
        decision_latency(Scope::Tenant).await;
        decision_latency(Scope::Provider).await;
        ingest_rate().await;
    });
}

#[expect(clippy::disallowed_methods, reason = "a bench measures wall time")]
fn now() -> Instant {
    Instant::now()
}

/// One usage event as a line.
fn usage(id: &str, (tenant, provider): (&str, &str), (input, output): (u64, u64)) -> String {
    let data = json!({
        "key": "k_1", "user": "u_1", "route": "POST /v1/chat", "provider": provider, "model": "m",
        "input_tokens": input, "output_tokens": output, "cost_usd": "0.000001", "status": 200,
    });
    json!({
        "specversion": "1.0", "id": id, "source": "bench", "type": "usage", "subject": tenant, "data": data,
    })
    .to_string()
}

async fn decision_latency(scope: Scope) {
    let weir = Weir::start(Options::up(POLICY)).await;
    let client = weir.client();
    let load = steady_load(weir.client());
    let measured = async {
        let mut waits = Vec::with_capacity(CROSSINGS);
        for at in 0..WARM_UP + CROSSINGS {
            let wait = cross(&client, scope, at).await;
            if WARM_UP <= at {
                waits.push(wait);
            }
        }
        waits
    };
    let waits = tokio::select! {
        waits = measured => waits,
        () = load => unreachable!("the load goes on for ever"),
    };
    let waits = Waits::new(waits);
    say(&format!(
        "event accepted to decision in the gateway, {scope:?}, {CROSSINGS} crossings under {LOAD_EVENTS_PER_SECOND} \
         events/s: p50 {:?}, p90 {:?}, p99 {:?}, max {:?}",
        waits.quantile(50),
        waits.quantile(90),
        waits.quantile(99),
        waits.longest(),
    ));
}

/// Sends the event that crosses the `at`th limit; how long from its 202 to the first refused check.
async fn cross(client: &Client, scope: Scope, at: usize) -> Duration {
    let name = format!("crossing-{at}");
    let (event, look) = match scope {
        Scope::Tenant => (
            usage(&name, (&name, "p"), (1_000_000, 0)),
            json!({ "tenant": name, "consume": {} }),
        ),
        Scope::Provider => (
            usage(&name, ("crossing", &name), (0, 1_000_000)),
            json!({ "tenant": "crossing", "provider": name, "consume": {} }),
        ),
    };
    client.post(&[event]).await;
    let accepted = now();
    while client.check(&look).await["verdict"] != "block" {
        let waited = accepted.elapsed();
        assert!(
            waited < Duration::from_secs(10),
            "{name} is not refused after {waited:?}"
        );
    }
    accepted.elapsed()
}

async fn steady_load(client: Client) {
    let beat = Duration::from_secs(1) * LOAD_BATCH as u32 / LOAD_EVENTS_PER_SECOND as u32;
    let mut beats = tokio::time::interval(beat);
    for number in 0_usize.. {
        beats.tick().await;
        let one = |at| {
            usage(
                &format!("load-{number}-{at}"),
                (&format!("tenant-{}", at % 7), "p"),
                (1, 1),
            )
        };
        let lines: Vec<_> = (0..LOAD_BATCH).map(one).collect();
        client.post(&lines).await;
    }
}

async fn ingest_rate() {
    let weir = Weir::start(Options::up(POLICY)).await;
    let start = now();
    let mut clients = tokio::task::JoinSet::new();
    for client_number in 0..INGEST_CLIENTS {
        let client = weir.client();
        clients.spawn(async move {
            let mut batches = 0_usize;
            while start.elapsed() < INGEST_TIME {
                let one = |at| {
                    let id = format!("{client_number}-{batches}-{at}");
                    usage(&id, (&format!("tenant-{}", at % 50), "p"), (1, 0))
                };
                let lines: Vec<_> = (0..INGEST_BATCH).map(one).collect();
                client.post(&lines).await;
                batches += 1;
            }
            batches * INGEST_BATCH
        });
    }
    let events: usize = clients.join_all().await.into_iter().sum();
    let seconds = start.elapsed().as_secs_f64();
    say(&format!(
        "ingest over HTTP, {INGEST_CLIENTS} clients, batches of {INGEST_BATCH}: {:.0} events/s acknowledged \
         (client, server, log and counting on the same cores)",
        events as f64 / seconds,
    ));
}

fn say(line: &str) {
    use std::io::Write;
    writeln!(std::io::stdout(), "{line}").expect("standard output");
}
