//! `weir`: every service in one binary, together or one by one.

use std::process::ExitCode;

use clap::Parser;
use mimalloc::MiMalloc;
use weir::cli::Cli;

/// The client library's and SQLite's allocations too. Each fetch from the log takes megabytes and gives them back, which
/// the C library returns to the system at once: a third of the aggregator's time went to pages made zero again.
#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

fn main() -> ExitCode {
    let cli = Cli::parse();
    let runtime = match tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
    {
        Ok(runtime) => runtime,
        Err(error) => return fail(&anyhow::Error::new(error).context("cannot start the runtime")),
    };
    match runtime.block_on(cli.run()) {
        Ok(status) => status,
        Err(error) => fail(&error),
    }
}

/// The last word, for the person at the terminal: what went wrong, and because of what.
fn fail(error: &anyhow::Error) -> ExitCode {
    use std::io::Write;
    // Nobody is left to tell when standard error itself is gone.
    let _ = writeln!(std::io::stderr(), "weir: {error:#}");
    ExitCode::FAILURE
}
