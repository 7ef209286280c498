//! The bus on real Kafka: the same checks that its own tests run on the embedded log.

#[path = "../../bus/tests/it/checks.rs"]
mod checks;

use checks::outage::{self, Switch};
use checks::{Fresh, every_check};
use tests::kafka::Kafka;

/// Runs each check on the one server that all share.
macro_rules! on_kafka {
    ($($group:ident::$check:ident),* $(,)?) => {$(
        #[tokio::test(flavor = "multi_thread")]
        async fn $check() {
            let bootstrap = Kafka::shared().await.bootstrap();
            checks::$group::$check(&Fresh::new(bootstrap)).await;
        }
    )*};
}

every_check!(on_kafka);

impl Switch for Kafka {
    fn bootstrap(&self) -> String {
        Self::bootstrap(self)
    }

    async fn off(&mut self) {
        self.kill9().await;
    }

    async fn on(&mut self) {
        self.restart().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn everything_goes_on_when_the_log_is_back() {
    let mut kafka = Kafka::start().await;
    outage::everything_goes_on_when_the_log_is_back(&mut kafka).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn closing_does_not_wait_for_a_log_that_is_away() {
    let mut kafka = Kafka::start().await;
    outage::closing_does_not_wait_for_a_log_that_is_away(&mut kafka).await;
}
