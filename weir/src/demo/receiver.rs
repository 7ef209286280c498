//! Where the demo's alerts arrive: a small web server, as a customer would run one.

use std::sync::Arc;

use anyhow::Context;
use axum::Json;
use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::post;
use parking_lot::Mutex;
use serde_json::Value;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::serve::serve;

/// What signs the demo's webhooks; any would do, since it never leaves this machine.
pub(super) const SECRET: &str = "whsec_d2VpciBkZW1vOiBub3QgYSBzZWNyZXQgYXQgYWxs";

/// Alerts that are kept for the view; the count goes on.
const KEPT_MAX: usize = 100;

#[derive(Clone, Debug, Default)]
pub(super) struct Receiver(Arc<Mutex<Received>>);

#[derive(Clone, Debug, Default)]
pub(super) struct Received {
    pub(super) count: u64,
    /// Titles, oldest first.
    pub(super) titles: Vec<String>,
}

impl Receiver {
    pub(super) fn received(&self) -> Received {
        self.0.lock().clone()
    }

    pub(super) async fn serve(
        &self,
        listener: TcpListener,
        stop: CancellationToken,
    ) -> anyhow::Result<()> {
        let routes = Router::new()
            .route("/alerts", post(take))
            .with_state(self.clone());
        serve(listener, routes, 16, stop)
            .await
            .context("the demo's receiver of alerts")
    }
}

async fn take(State(receiver): State<Receiver>, Json(alert): Json<Value>) -> StatusCode {
    let title = alert
        .pointer("/data/title")
        .and_then(Value::as_str)
        .unwrap_or("an alert");
    let mut received = receiver.0.lock();
    received.count += 1;
    received.titles.push(title.to_owned());
    if received.titles.len() > KEPT_MAX {
        received.titles.remove(0);
    }
    StatusCode::NO_CONTENT
}
