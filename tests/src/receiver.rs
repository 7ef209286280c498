//! A real HTTP server that takes webhooks and checks their signatures, by the Standard Webhooks text and not by our
//! own code.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::routing::post;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit, Mac};
use serde_json::Value;
use sha2::Sha256;
use tokio::net::TcpListener;
use tokio::task::JoinSet;

use crate::process::free_port;

/// What webhooks are signed with: the secret of the example of the Standard Webhooks text.
pub const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

/// A notifier's configuration, which ends with a channel that sends webhooks to `url`; what is appended to it belongs
/// to that channel.
#[must_use]
pub fn channel(url: &str) -> String {
    format!(
        r#"
[[notifier.channel]]
name = "hook"
kind = "webhook"
url = "{url}"
secret = "{SECRET}"
"#
    )
}

/// As [`channel`], of a notifier that neither waits nor tries again late.
#[must_use]
pub fn eager_channel(url: &str) -> String {
    let notifier = "[notifier]\nretry_base_ms = 200\nretry_max_s = 1\npoll_interval_ms = 50\n";
    format!("{notifier}{}", channel(url))
}

/// A webhook as it arrived.
#[derive(Clone, Debug)]
pub struct Webhook {
    pub id: String,
    pub timestamp: String,
    pub signature: String,
    pub body: Bytes,
}

impl Webhook {
    fn read(headers: &HeaderMap, body: Bytes) -> Self {
        let header = |name: &str| {
            let value = headers.get(name).and_then(|value| value.to_str().ok());
            value.unwrap_or_default().to_owned()
        };
        Self {
            id: header("webhook-id"),
            timestamp: header("webhook-timestamp"),
            signature: header("webhook-signature"),
            body,
        }
    }

    /// Whether one of its signatures is right for `secret` (`whsec_` and base64).
    ///
    /// # Panics
    /// When `secret` is none.
    #[must_use]
    pub fn is_signed_with(&self, secret: &str) -> bool {
        let secret = secret
            .strip_prefix("whsec_")
            .expect("a secret begins with whsec_");
        let key = STANDARD.decode(secret).expect("a secret is base64");
        let mut mac = Hmac::<Sha256>::new_from_slice(&key).expect("any length is a key");
        mac.update(format!("{}.{}.", self.id, self.timestamp).as_bytes());
        mac.update(&self.body);
        let right = format!("v1,{}", STANDARD.encode(mac.finalize().into_bytes()));
        self.signature
            .split(' ')
            .any(|signature| signature == right)
    }

    /// Its body as JSON.
    ///
    /// # Panics
    /// When it is none.
    #[must_use]
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).expect("a webhook's body is JSON")
    }
}

type Received = Arc<Mutex<Vec<Webhook>>>;

/// A receiver's place: its address is known before it listens, so that webhooks can be sent while it is down.
pub struct Receiver {
    address: SocketAddr,
    received: Received,
    server: JoinSet<()>,
}

impl Receiver {
    /// A receiver that is down for now.
    #[must_use]
    pub fn down() -> Self {
        Self {
            address: SocketAddr::from((Ipv4Addr::LOCALHOST, free_port())),
            received: Received::default(),
            server: JoinSet::new(),
        }
    }

    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}/hook", self.address)
    }

    /// Begins to listen.
    ///
    /// # Panics
    /// When its port was taken meanwhile.
    pub async fn start(&mut self) {
        let listener = TcpListener::bind(self.address)
            .await
            .expect("the receiver's port");
        let router = Router::new()
            .route("/hook", post(take))
            .with_state(self.received.clone());
        self.server.spawn(async move {
            axum::serve(listener, router)
                .await
                .expect("the receiver serves");
        });
    }

    /// What has arrived so far, in the order of arrival.
    #[must_use]
    pub fn received(&self) -> Vec<Webhook> {
        self.received
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }
}

async fn take(State(received): State<Received>, headers: HeaderMap, body: Bytes) -> StatusCode {
    let webhook = Webhook::read(&headers, body);
    received
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .push(webhook);
    StatusCode::NO_CONTENT
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example of the Standard Webhooks text.
    #[test]
    fn knows_a_right_signature() {
        let webhook = Webhook {
            id: "msg_p5jXN8AQM9LWM0D4loKWxJek".to_owned(),
            timestamp: "1614265330".to_owned(),
            signature: "v1,xxxx v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=".to_owned(),
            body: Bytes::from_static(br#"{"test": 2432232314}"#),
        };
        assert!(webhook.is_signed_with(SECRET));
        let changed = Webhook {
            body: Bytes::from_static(b"{}"),
            ..webhook
        };
        assert!(!changed.is_signed_with(SECRET));
    }
}
