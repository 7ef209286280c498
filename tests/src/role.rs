//! The agent of a cluster that hands out a role's keys to pods: AWS's container credentials, as
//! <https://docs.aws.amazon.com/sdkref/latest/guide/feature-container-credentials.html> has them. AWS's own does not run
//! outside of its clusters; a server of S3 takes the keys for what they are.

use std::ffi::OsString;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header::AUTHORIZATION};
use axum::routing::get;
use axum::{Json, Router};
use bus::clock::{Clock, SystemClock};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::task::JoinSet;

use crate::s3::{ACCESS_KEY_ID, SECRET_ACCESS_KEY};

const TOKEN: &str = "who this pod is";
/// So short that the keys are asked for again before each use.
const KEYS_LAST: Duration = Duration::from_secs(30);

/// Dropped: stopped.
pub struct Role {
    url: String,
    folder: TempDir,
    handed_out: Arc<AtomicUsize>,
    _server: JoinSet<()>,
}

impl Role {
    /// Starts one that hands out the keys of [`crate::s3::S3`].
    ///
    /// # Panics
    /// When it has no folder or no port.
    pub async fn start() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        std::fs::write(folder.path().join("token"), TOKEN).expect("a token's file");
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await;
        let listener = listener.expect("a port");
        let address = listener.local_addr().expect("an address");
        let handed_out = Arc::new(AtomicUsize::new(0));
        let router = Router::new()
            .route("/role", get(hand_out))
            .with_state(handed_out.clone());
        let mut server = JoinSet::new();
        server.spawn(async move { axum::serve(listener, router).await.expect("it serves") });
        Self {
            url: format!("http://{address}/role"),
            folder,
            handed_out,
            _server: server,
        }
    }

    /// What a pod finds in its environment.
    #[must_use]
    pub fn environment(&self) -> Vec<(&'static str, OsString)> {
        let token = self.folder.path().join("token");
        vec![
            (
                "AWS_CONTAINER_CREDENTIALS_FULL_URI",
                self.url.clone().into(),
            ),
            ("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE", token.into()),
        ]
    }

    /// Gives the pod another token, which is no good.
    ///
    /// # Panics
    /// When the token's file cannot be written.
    pub fn spoil(&self, token: &str) {
        std::fs::write(self.folder.path().join("token"), token).expect("a token's file");
    }

    /// How often keys were given.
    #[must_use]
    pub fn handed_out(&self) -> usize {
        self.handed_out.load(Ordering::Relaxed)
    }
}

async fn hand_out(
    State(handed_out): State<Arc<AtomicUsize>>,
    headers: HeaderMap,
) -> Result<Json<Value>, StatusCode> {
    let token = headers.get(AUTHORIZATION).map(|token| token.as_bytes());
    if token != Some(TOKEN.as_bytes()) {
        return Err(StatusCode::FORBIDDEN);
    }
    handed_out.fetch_add(1, Ordering::Relaxed);
    Ok(Json(json!({
        "AccessKeyId": ACCESS_KEY_ID,
        "SecretAccessKey": SECRET_ACCESS_KEY,
        "Token": "of this session",
        "Expiration": SystemClock.now().plus(KEYS_LAST).to_string(),
    })))
}
