//! The loop that decides: signals, commands, the policy, and the passing of time in; decisions, lifts, orders and alerts
//! out.
//!
//! A signal's or command's offset is committed after all that came of it is acknowledged. What came of several signals that are
//! there already is sent together: nothing waits for company, and the log is waited for once.

mod desk;

use std::time::Duration;

use bus::consumer::{Event, Start, Subscription};
use schemas::topic::{COMMANDS, POLICIES, SIGNALS};
use tokio::sync::mpsc;
use tokio::time::{MissedTickBehavior, interval, sleep};
use tokio_util::sync::CancellationToken;

use crate::proposal::Proposal;
use crate::service::{Parts, RunError};
use crate::tell::Told;
use crate::wire::{self, Followed};
use desk::Desk;

/// The consumer group of all enforcers.
const GROUP: &str = "weir-enforcer";

const BATCH_RECORDS_MAX: usize = 500;

/// Before a changed policy file is looked at once more, to see whether it has settled.
const SETTLE: Duration = Duration::from_millis(50);

/// What can happen to a running enforcer.
enum Input {
    Stop,
    Policy(Followed),
    Proposal(Proposal),
    Log(Event),
    /// Time has passed.
    Tick,
    /// It is time to look at the policy file.
    Look,
}

/// Decides until `stop`. `text` is the policy file's as it was read at start.
pub(crate) async fn enforce(
    parts: &Parts,
    text: String,
    mut proposals: mpsc::Receiver<Proposal>,
    stop: CancellationToken,
) -> Result<(), RunError> {
    let mut policies = parts.bus.follow(&POLICIES)?;
    let consumer = parts.bus.consume(Subscription {
        group: GROUP.to_owned(),
        topics: vec![SIGNALS.spec(), COMMANDS.spec()],
        start: Start::Committed,
        batch_records_max: BATCH_RECORDS_MAX,
    })?;
    let mut desk = Desk::new(parts, consumer, text, stop.clone());
    let mut tick = interval(parts.config.expiry_interval());
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let look = sleep(parts.config.watch_interval());
    tokio::pin!(look);
    loop {
        let input = tokio::select! {
            biased;
            () = stop.cancelled() => Input::Stop,
            seen = policies.next() => Input::Policy(wire::followed(seen?)),
            Some(proposal) = proposals.recv() => Input::Proposal(proposal),
            _ = tick.tick() => Input::Tick,
            () = &mut look => Input::Look,
            event = desk.consumer.next() => Input::Log(event),
        };
        let told = match input {
            Input::Stop => break,
            Input::Policy(seen) => desk.follow(seen).await?,
            Input::Proposal(proposal) => desk.judge(proposal).await?,
            Input::Log(event) => desk.take(event).await?,
            Input::Tick => desk.tick().await?,
            Input::Look => {
                let (settled, told) = desk.look().await?;
                let pause = if settled {
                    parts.config.watch_interval()
                } else {
                    SETTLE
                };
                look.set(sleep(pause));
                told
            }
        };
        if told == Told::Stopped {
            break;
        }
    }
    desk.consumer.close().await;
    Ok(())
}
