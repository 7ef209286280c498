//! The entry points of the fuzz targets in `broker/fuzz`, built for tests and by cargo-fuzz only.
//!
//! Each takes any bytes, hands them to the code that reads such bytes, and panics where that code breaks its word.

mod journal;
mod mend;
mod request;
mod segment;
#[cfg(test)]
mod tests;

use std::cell::RefCell;
use std::future::Future;
use std::time::Duration;

use tokio::runtime::{Builder, Runtime};

pub use journal::journal;
pub use request::request;
pub use segment::segment;

/// Runs `work` where time passes only while nothing else can be done; `None` if it still waits then.
fn until_it_waits<T>(work: impl Future<Output = T>) -> Option<T> {
    thread_local! {
        static RUNTIME: RefCell<Runtime> = RefCell::new(
            Builder::new_current_thread()
                .enable_time()
                .start_paused(true)
                .build()
                .expect("a runtime"),
        );
    }
    const LONG: Duration = Duration::from_secs(3600);
    RUNTIME.with_borrow_mut(|runtime| {
        runtime.block_on(async { tokio::time::timeout(LONG, work).await.ok() })
    })
}
