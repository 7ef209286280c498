//! Serves a folder as a log: `broker FOLDER [PORT] [always|never|EVERY_MS]`.
//!
//! Prints `{"address":"127.0.0.1:PORT","pid":PID}` as one line once clients can connect, and ends
//! at Ctrl-C.

use std::error::Error;
use std::io::Write;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use broker::{Broker, Config, Fsync};

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    tracing_subscriber::fmt()
        .with_writer(std::io::stderr)
        .init();
    let mut arguments = std::env::args().skip(1);
    let folder = arguments
        .next()
        .ok_or("usage: broker FOLDER [PORT] [always|never|EVERY_MS]")?;
    let mut config = Config::new(folder);
    if let Some(port) = arguments.next() {
        config.listen = SocketAddr::from((Ipv4Addr::LOCALHOST, port.parse()?));
    }
    match arguments.next().as_deref() {
        None => {}
        Some("always") => config.fsync = Fsync::Always,
        Some("never") => config.fsync = Fsync::Never,
        Some(every_ms) => config.fsync = Fsync::Every(Duration::from_millis(every_ms.parse()?)),
    }
    if let Ok(seconds) = std::env::var("BROKER_UPKEEP_SECONDS") {
        config.upkeep_every = Duration::from_secs(seconds.parse()?);
    }
    let broker = Broker::open(config).await?;
    let ready = serde_json::json!({ "address": broker.address(), "pid": std::process::id() });
    writeln!(std::io::stdout(), "{ready}")?;
    let interrupted = async { tokio::signal::ctrl_c().await.unwrap_or(()) };
    broker.run(interrupted).await?;
    Ok(())
}
