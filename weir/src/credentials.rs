//! The first operator's token and ingest key: made at the first start, left in the data folder for a person, and
//! known to the log by their hashes only. Also how any other key is made.

use std::io::ErrorKind;
use std::path::Path;

use anyhow::Context;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bus::Bus;
use bus::clock::SharedClock;
use bus::follow::{Followed, Follower};
use schemas::access::hash_secret;
use schemas::record::{Key, Role};
use schemas::time::Timestamp;
use schemas::topic;
use serde::{Deserialize, Serialize};
use tokio_util::sync::CancellationToken;

use crate::folder::write_atomically;
use crate::plane::Keys;

const FILE: &str = "credentials.json";

/// What `credentials.json` holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Credentials {
    pub operator_token: String,
    pub ingest_key: String,
}

impl Credentials {
    /// The ones in `folder`; made there when there are none.
    pub fn load_or_make(folder: &Path) -> anyhow::Result<Self> {
        let path = folder.join(FILE);
        match std::fs::read(&path) {
            Ok(bytes) => serde_json::from_slice(&bytes).with_context(|| {
                format!(
                    "{} is damaged; restore it, or remove it to get new ones",
                    path.display()
                )
            }),
            Err(error) if error.kind() == ErrorKind::NotFound => Self::make(folder),
            Err(error) => Err(error).with_context(|| format!("cannot read {}", path.display())),
        }
    }

    /// The ones in `folder`.
    pub fn load(folder: &Path) -> anyhow::Result<Self> {
        let path = folder.join(FILE);
        let bytes = std::fs::read(&path);
        let bytes = bytes.with_context(|| format!("cannot read {}", path.display()))?;
        let read = serde_json::from_slice(&bytes);
        read.with_context(|| format!("{} is damaged", path.display()))
    }

    fn make(folder: &Path) -> anyhow::Result<Self> {
        let credentials = Self {
            operator_token: new_secret(Role::Operator),
            ingest_key: new_secret(Role::Ingest),
        };
        let mut json = serde_json::to_vec_pretty(&credentials).context("credentials as JSON")?;
        json.push(b'\n');
        write_atomically(folder, FILE, &json, 0o600)?;
        Ok(credentials)
    }

    /// Makes the log know their hashes, if it does not yet. Done at each start: the log may be a new one.
    pub async fn publish(&self, bus: &Bus, clock: &SharedClock) -> anyhow::Result<()> {
        let known = bus
            .read_all(&topic::KEYS)
            .await
            .context("reading the keys from the log")?;
        let ours = [
            (&self.operator_token, Role::Operator),
            (&self.ingest_key, Role::Ingest),
        ];
        for (secret, role) in ours {
            let key = key_of(secret, role, None, clock.now());
            if !known.iter().any(|(id, _)| *id == key.id) {
                let sent = bus.producer().send(&topic::KEYS, &key.id, &key).await;
                sent.context("writing the first keys to the log")?;
            }
        }
        Ok(())
    }
}

/// A new secret of 256 random bits; its beginning tells a person, and a secret scanner, what it is for.
#[must_use]
pub fn new_secret(role: Role) -> String {
    format!(
        "weir_{}_{}",
        role.name(),
        URL_SAFE_NO_PAD.encode(rand::random::<[u8; 32]>())
    )
}

/// The record of a key: its id comes from its hash, so that publishing one twice is publishing it once.
#[must_use]
pub fn key_of(secret: &str, role: Role, tenant: Option<String>, now: Timestamp) -> Key {
    let sha256 = hash_secret(secret);
    Key {
        id: format!("{}-{}", role.name(), &sha256[..12]),
        sha256,
        role,
        tenant,
        created_at: now,
        expires_at: None,
        revoked: false,
        note: String::new(),
    }
}

/// Keeps `keys` as the log has them, until `shutdown`.
pub async fn follow_keys(
    mut follower: Follower<Key>,
    keys: Keys,
    shutdown: CancellationToken,
) -> Result<(), bus::BusError> {
    loop {
        let followed = tokio::select! {
            () = shutdown.cancelled() => return Ok(()),
            followed = follower.next() => followed?,
        };
        match followed {
            Followed::Put { key, value, .. } => keys.write().apply(&key, Some(value)),
            Followed::Lifted { key, .. } => keys.write().apply(&key, None),
            Followed::Unreadable {
                key,
                partition,
                offset,
                reason,
            } => {
                // Whoever held that key is refused, which is the safe side.
                tracing::error!(
                    key,
                    partition,
                    offset,
                    reason,
                    "a key in the log is unreadable"
                );
            }
            Followed::CaughtUp | Followed::Lost | Followed::Back => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn are_made_once_and_for_their_owner_only() {
        let folder = tempfile::tempdir().unwrap();
        let made = Credentials::load_or_make(folder.path()).unwrap();
        assert_eq!(Credentials::load_or_make(folder.path()).unwrap(), made);
        assert_ne!(made.operator_token, made.ingest_key);
        let mode = std::fs::metadata(folder.path().join(FILE))
            .unwrap()
            .permissions()
            .mode();
        assert_eq!(mode & 0o777, 0o600);
    }

    #[test]
    fn damaged_ones_are_not_replaced() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join(FILE), "{").unwrap();
        let error = Credentials::load_or_make(folder.path())
            .unwrap_err()
            .to_string();
        assert!(error.contains("is damaged"), "{error}");
    }

    #[test]
    fn a_record_never_holds_the_secret() {
        let secret = new_secret(Role::Ingest);
        assert!(secret.starts_with("weir_ingest_") && secret.len() == 12 + 43);
        let key = key_of(&secret, Role::Ingest, None, Timestamp::default());
        assert!(!format!("{key:?}").contains(&secret));
        assert_eq!(key.sha256, hash_secret(&secret));
    }
}
