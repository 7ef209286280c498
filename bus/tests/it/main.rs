//! The bus on the embedded log, through a real socket.

mod checks;
mod embedded;
mod start;

use checks::outage::{self, Switch};
use checks::{Fresh, every_check};
use embedded::Log;

/// Runs each check on an empty log of its own.
macro_rules! on_an_empty_log {
    ($($group:ident::$check:ident),* $(,)?) => {$(
        #[tokio::test(flavor = "multi_thread")]
        async fn $check() {
            let log = Log::start().await;
            checks::$group::$check(&Fresh::new(log.bootstrap())).await;
            log.stop().await;
        }
    )*};
}

every_check!(on_an_empty_log);

#[tokio::test(flavor = "multi_thread")]
async fn everything_goes_on_when_the_log_is_back() {
    let mut log = Log::start().await;
    outage::everything_goes_on_when_the_log_is_back(&mut log).await;
    log.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn closing_does_not_wait_for_a_log_that_is_away() {
    let mut log = Log::start().await;
    outage::closing_does_not_wait_for_a_log_that_is_away(&mut log).await;
}
