//! A `weir up` on either log and either store, with what it stands on.

use crate::kafka::Kafka;
use crate::postgres::Postgres;
use crate::weir::{Options, Weir};

/// Where the log is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Log {
    /// In Weir's own process.
    Embedded,
    /// A Kafka of the test's own.
    Kafka,
}

/// Where rows are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Store {
    /// A file in Weir's data folder.
    Sqlite,
    /// A PostgreSQL of the test's own.
    Postgres,
}

/// A running Weir. Fields are dropped in order: it ends before what it stands on does.
pub struct Scene {
    pub weir: Weir,
    _kafka: Option<Kafka>,
    _postgres: Option<Postgres>,
}

impl Scene {
    /// Starts everything that `options` need on this log and store, and waits until it is ready.
    pub async fn start(log: Log, store: Store, mut options: Options) -> Self {
        let kafka = match log {
            Log::Embedded => None,
            Log::Kafka => Some(Kafka::start().await),
        };
        let postgres = match store {
            Store::Sqlite => None,
            Store::Postgres => Some(Postgres::start().await),
        };
        options.kafka = kafka.as_ref().map(Kafka::bootstrap);
        if let Some(server) = &postgres {
            let url = server.fresh_database().await;
            options
                .config
                .push_str(&format!("\n[store]\nurl = \"{url}\"\n"));
        }
        let weir = Weir::start(options).await;
        Self {
            weir,
            _kafka: kafka,
            _postgres: postgres,
        }
    }
}
