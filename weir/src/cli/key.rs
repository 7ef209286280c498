use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, bail};
use bus::Bus;
use bus::clock::{Clock, SystemClock};
use clap::{Args, Subcommand, ValueEnum};
use schemas::record::{Key, Role};
use schemas::topic;

use crate::config::{Config, Overrides};
use crate::credentials::{key_of, new_secret};
use crate::process::Listening;

#[derive(Debug, Subcommand)]
pub(super) enum KeyCommand {
    /// Make a key or token; its secret is printed once and kept nowhere
    Create {
        #[command(flatten)]
        place: Place,
        /// What it may do
        #[arg(long)]
        role: RoleName,
        /// The one tenant it speaks for; without: the whole platform
        #[arg(long)]
        tenant: Option<String>,
        /// A word for people
        #[arg(long, default_value = "")]
        note: String,
    },
    /// List keys and tokens, without their secrets
    List {
        #[command(flatten)]
        place: Place,
    },
    /// End a key or token now
    Revoke {
        #[command(flatten)]
        place: Place,
        /// Its id, as `weir key list` shows it
        id: String,
    },
}

/// Which installation.
#[derive(Debug, Args)]
pub(super) struct Place {
    /// Data folder of a running `weir up`
    #[arg(
        long,
        value_name = "DIR",
        env = "WEIR_DATA",
        default_value = "weir-data"
    )]
    data: PathBuf,
    /// Or its Kafka cluster (host:port,…)
    #[arg(long, value_name = "BOOTSTRAP", env = "WEIR_KAFKA")]
    kafka: Option<String>,
    /// Configuration file (TOML), whose section [kafka] says how to sign in to the cluster
    #[arg(long, value_name = "FILE", env = "WEIR_CONFIG")]
    config: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub(super) enum RoleName {
    /// Report events, ask for checks
    Ingest,
    /// Ask for checks
    Gateway,
    /// Everything on the management plane
    Operator,
    /// Read everything on the management plane
    Auditor,
    /// Read what is its own tenant's
    Tenant,
}

impl From<RoleName> for Role {
    fn from(name: RoleName) -> Role {
        match name {
            RoleName::Ingest => Role::Ingest,
            RoleName::Gateway => Role::Gateway,
            RoleName::Operator => Role::Operator,
            RoleName::Auditor => Role::Auditor,
            RoleName::Tenant => Role::Tenant,
        }
    }
}

impl KeyCommand {
    pub(super) async fn run(self) -> anyhow::Result<()> {
        match self {
            Self::Create {
                place,
                role,
                tenant,
                note,
            } => create(&place, role.into(), tenant, note).await,
            Self::List { place } => list(&place).await,
            Self::Revoke { place, id } => revoke(&place, &id).await,
        }
    }
}

impl Place {
    async fn connect(&self) -> anyhow::Result<Bus> {
        let config = Config::load(Overrides {
            data: self.data.clone(),
            file: self.config.clone(),
            kafka: self.kafka.clone(),
            ..Overrides::default()
        })?;
        let mut bus = config.bus;
        if bus.bootstrap.is_empty() {
            bus.bootstrap = log_of(&self.data)?;
        }
        Ok(Bus::connect(bus, Arc::new(SystemClock)).await?)
    }
}

/// The address of the log of the `weir up` that runs on `folder`.
fn log_of(folder: &Path) -> anyhow::Result<String> {
    let listening = Listening::read(folder).with_context(|| {
        format!(
            "no weir runs on the data folder {}; start `weir up`, or name its cluster with --kafka",
            folder.display()
        )
    })?;
    listening
        .log
        .context("this weir uses a Kafka cluster: name it with --kafka")
}

async fn create(
    place: &Place,
    role: Role,
    tenant: Option<String>,
    note: String,
) -> anyhow::Result<()> {
    if role == Role::Tenant && tenant.is_none() {
        bail!("a tenant's token needs --tenant");
    }
    let bus = place.connect().await?;
    let secret = new_secret(role);
    let key = Key {
        note,
        ..key_of(&secret, role, tenant, SystemClock.now())
    };
    bus.producer().send(&topic::KEYS, &key.id, &key).await?;
    super::say(&serde_json::json!({ "id": key.id, "secret": secret }).to_string())
}

async fn list(place: &Place) -> anyhow::Result<()> {
    for (_, key) in place.connect().await?.read_all(&topic::KEYS).await? {
        let shown = serde_json::json!({
            "id": key.id,
            "role": key.role.name(),
            "tenant": key.tenant,
            "created_at": key.created_at.to_string(),
            "expires_at": key.expires_at.map(|end| end.to_string()),
            "revoked": key.revoked,
            "note": key.note,
        });
        super::say(&shown.to_string())?;
    }
    Ok(())
}

async fn revoke(place: &Place, id: &str) -> anyhow::Result<()> {
    let bus = place.connect().await?;
    let known = bus.read_all(&topic::KEYS).await?;
    let Some((_, key)) = known.into_iter().find(|(known, _)| known == id) else {
        bail!("no key has the id {id}; `weir key list` shows them");
    };
    bus.producer()
        .send(
            &topic::KEYS,
            id,
            &Key {
                revoked: true,
                ..key
            },
        )
        .await?;
    super::say(&format!("{id} is revoked"))
}
