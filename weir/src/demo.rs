//! `weir demo`: everything in a temporary folder on free ports, a real LLM trace played through it many times faster
//! than life, and a view of what comes of it. All it shows it asks over HTTP, as anybody could.

use std::io::{IsTerminal, Write};
use std::path::Path;
use std::pin::pin;
use std::time::Duration;

use anyhow::{Context, bail};
use clap::Args;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::config::{Config, Overrides};
use crate::process::{Parts, Running, start};
use crate::supervise::asked_to_stop;
use crate::telemetry;

mod client;
mod play;
mod receiver;
mod view;
mod watch;

use client::Client;
use play::Played;
use receiver::Receiver;

const POLICY: &str = include_str!("../assets/demo-policy.toml");
/// How often the view is drawn on a terminal.
const FRAME: Duration = Duration::from_millis(250);
/// How often it is printed where there is no terminal.
const PRINT: Duration = Duration::from_secs(5);

#[derive(Debug, Args)]
pub struct DemoArgs {
    /// End after this long, with a summary: 30s, 2m; without: play to the end and stay up until Ctrl-C
    #[arg(long = "for", value_name = "SPAN", value_parser = read_span)]
    span: Option<Duration>,
    /// How many times faster than life the trace is played
    #[arg(long, value_name = "N", default_value_t = 60, value_parser = clap::value_parser!(u32).range(1..=1000))]
    speed: u32,
}

/// `30s`, `2m`, `1h`.
fn read_span(text: &str) -> Result<Duration, String> {
    let error = || format!("`{text}` is no span of time such as 30s or 2m");
    let (number, unit) = text
        .split_at_checked(text.len().saturating_sub(1))
        .ok_or_else(error)?;
    let number: u64 = number.parse().map_err(|_| error())?;
    let seconds = match unit {
        "s" => number,
        "m" => number.saturating_mul(60),
        "h" => number.saturating_mul(3_600),
        _ => return Err(error()),
    };
    Ok(Duration::from_secs(seconds))
}

/// Runs the demo. Succeeds when calls were admitted, some were refused, and Weir stopped well.
pub async fn demo(args: DemoArgs) -> anyhow::Result<()> {
    let folder = tempfile::tempdir().context("cannot make a temporary folder")?;
    let listener = TcpListener::bind("127.0.0.1:0")
        .await
        .context("no free port")?;
    let config = configure(folder.path(), listener.local_addr()?.port())?;
    telemetry::start(&config.telemetry)?;
    let policy = folder.path().join("policy.toml");
    let running = start(config, Parts::all(policy)).await?;
    let client = Client::new(&running)?;
    let addresses = addresses(&running)?;
    let receiver = Receiver::default();
    let played = Played::default();
    let stop = CancellationToken::new();
    let shown = {
        let receive = receiver.serve(listener, stop.clone());
        let play = play::play(&client, &played, args.speed);
        let show = show(&client, &addresses, &played, &receiver);
        let end = end(args.span);
        let (mut play, mut show, mut end, mut receive) =
            (pin!(play), pin!(show), pin!(end), pin!(receive));
        let mut playing = true;
        loop {
            tokio::select! {
                played = &mut play, if playing => { played?; playing = false; }
                shown = &mut show => break shown,
                ended = &mut end => break ended,
                received = &mut receive => break received,
            }
        }
    };
    let last = match shown {
        Ok(()) => watch::look(&client, &played, &receiver).await,
        Err(error) => Err(error),
    };
    stop.cancel();
    running.stop().await?;
    write!(std::io::stdout(), "{}", view::summary(&last?, &addresses))?;
    judge(&played)
}

/// Ends after `span`, or when a person asks.
async fn end(span: Option<Duration>) -> anyhow::Result<()> {
    let span = async {
        match span {
            Some(span) => tokio::time::sleep(span).await,
            None => std::future::pending().await,
        }
    };
    tokio::select! {
        () = span => Ok(()),
        asked = asked_to_stop() => asked.map(|_| ()),
    }
}

fn judge(played: &Played) -> anyhow::Result<()> {
    let totals = played.totals();
    if totals.admitted == 0 {
        bail!("no call was admitted: nothing was shown");
    }
    Ok(())
}

/// The configuration a stranger could have written: free ports, and alerts to the demo's own receiver.
fn configure(folder: &Path, alerts_port: u16) -> anyhow::Result<Config> {
    let text = format!(
        "[telemetry]\nfilter = \"warn\"\n\n[[notifier.channel]]\nname = \"demo\"\nkind = \"webhook\"\n\
         url = \"http://127.0.0.1:{alerts_port}/alerts\"\nsecret = \"{}\"\n",
        receiver::SECRET
    );
    let file = folder.join("weir.toml");
    std::fs::write(&file, text).context("cannot write in the temporary folder")?;
    std::fs::write(folder.join("policy.toml"), POLICY).context("cannot write the policy")?;
    Config::load(Overrides {
        data: folder.join("data"),
        file: Some(file),
        kafka: None,
        port_data: Some(0),
        port_management: Some(0),
        port_log: Some(0),
    })
}

/// Draws the view until the demo ends.
async fn show(
    client: &Client,
    addresses: &view::Addresses,
    played: &Played,
    receiver: &Receiver,
) -> anyhow::Result<()> {
    let terminal = std::io::stdout().is_terminal();
    let mut ticks = tokio::time::interval(if terminal { FRAME } else { PRINT });
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let state = watch::look(client, played, receiver).await?;
        let frame = view::frame(&state, addresses, terminal);
        let mut out = std::io::stdout().lock();
        if terminal {
            // Home, then each line cleared as it is written, then all below: no flicker.
            write!(out, "\x1b[H{}\x1b[J", frame.replace('\n', "\x1b[K\n"))?;
        } else {
            writeln!(out, "{frame}")?;
        }
        out.flush()?;
    }
}

fn addresses(running: &Running) -> anyhow::Result<view::Addresses> {
    let listening = running.listening.clone();
    let credentials = running
        .credentials
        .clone()
        .context("a process without credentials")?;
    Ok(view::Addresses {
        data: listening.data.context("a process without a data plane")?,
        management: listening.management,
        log: listening.log.context("a process without a log")?,
        operator_token: credentials.operator_token,
        ingest_key: credentials.ingest_key,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_spans() {
        assert_eq!(read_span("30s"), Ok(Duration::from_secs(30)));
        assert_eq!(read_span("2m"), Ok(Duration::from_secs(120)));
        for text in ["", "s", "30", "1.5s", "-1s", "30 s", "1é"] {
            assert!(read_span(text).is_err(), "{text}");
        }
    }

    #[test]
    fn its_own_policy_and_configuration_are_good() {
        enforcer::policy::read(POLICY).unwrap();
        let folder = tempfile::tempdir().unwrap();
        configure(folder.path(), 1).unwrap();
    }
}
