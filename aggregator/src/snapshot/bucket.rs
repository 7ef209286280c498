//! Snapshots as objects in a bucket of S3, or of a server that speaks its protocol: `PREFIX/TOPIC/PARTITION/OFFSET.snapshot`.
//!
//! A PUT is atomic by the protocol, and a listing shows what was put before it.

use std::error::Error;
use std::io;
use std::time::Duration;

use bus::Partition;
use bytes::Bytes;
use futures_util::TryStreamExt as _;
use object_store::aws::{AmazonS3, AmazonS3Builder, AmazonS3ConfigKey};
use object_store::client::{HttpClient, HttpConnector, HttpError};
use object_store::path::Path;
use object_store::{
    BackoffConfig, ClientOptions, ObjectStore as _, ObjectStoreExt as _, PutPayload, RetryConfig,
};
use reqwest::Certificate;
use reqwest::header::HeaderValue;
use thiserror::Error;

use super::{S3, SnapshotError, file_name, offset_of, surplus};

const CONNECT_WITHIN: Duration = Duration::from_secs(3);
/// One request, with all that it carries.
const REQUEST_WITHIN: Duration = Duration::from_secs(60);
/// Until a server that does not answer is called away.
const RETRIES_WITHIN: Duration = Duration::from_secs(10);
const RETRIES_MAX: usize = 3;

/// Why a bucket cannot be used.
#[derive(Debug, Error)]
pub(crate) enum Trouble {
    #[error("there is no such bucket: make it, or mend `snapshots` under [aggregator]")]
    NoBucket,
    #[error(
        "the server refuses ({0}): mend the key under [aggregator.s3], and let it list, read, write and delete there"
    )]
    Denied(String),
    #[error(
        "the server's certificate is not to be trusted ({0}): name who signed it as `ca` under [aggregator.s3], or mend \
         the certificate"
    )]
    Untrusted(String),
    #[error("the server does not answer: {0}")]
    Away(String),
    #[error("the server answers with an error ({0}): mend [aggregator.s3], or ask whoever runs it")]
    Other(String),
    #[error("the settings under [aggregator.s3] are no good: {0}")]
    Settings(String),
}

impl Trouble {
    /// Whether it can be expected to end by itself.
    pub(crate) const fn passes(&self) -> bool {
        matches!(self, Self::Away(_))
    }
}

impl From<object_store::Error> for Trouble {
    fn from(error: object_store::Error) -> Self {
        use object_store::Error::{PermissionDenied, Unauthenticated};
        const REFUSALS: [&str; 3] = [
            "AccessDenied",
            "InvalidAccessKeyId",
            "SignatureDoesNotMatch",
        ];
        let text = error.to_string();
        // What the server calls it, where it has answered.
        let code = text.split_once("<Code>").map(|(_, rest)| rest);
        let code = code.and_then(|rest| Some(rest.split_once("</Code>")?.0));
        let mut causes: Vec<&(dyn Error + 'static)> = Vec::new();
        let mut next: Option<&(dyn Error + 'static)> = Some(&error);
        while let Some(cause) = next {
            causes.push(cause);
            next = cause.source();
        }
        // The last cause is what happened; the others only repeat it.
        let cause = causes.last().map_or_else(String::new, ToString::to_string);
        if let Some(reason) = causes.iter().find_map(|cause| distrust(*cause)) {
            return Self::Untrusted(reason);
        }
        let is_away = causes.iter().any(|cause| cause.is::<HttpError>());
        // The library tells a status only in its text.
        let is_unwell = text.contains("status code: 5");
        let refused = matches!(&error, PermissionDenied { .. } | Unauthenticated { .. });
        match code {
            Some("NoSuchBucket") => Self::NoBucket,
            Some(code) if refused || REFUSALS.contains(&code) => Self::Denied(code.to_owned()),
            None if refused => Self::Denied(cause),
            _ if is_away || is_unwell => Self::Away(cause),
            code => Self::Other(code.unwrap_or(&text).to_owned()),
        }
    }
}

/// What is wrong with the server's certificate, where that is the cause.
fn distrust(cause: &(dyn Error + 'static)) -> Option<String> {
    // What an I/O error carries, often another of its kind, is not among its sources.
    let mut carried = cause.downcast_ref::<io::Error>()?.get_ref()?;
    while let Some(error) = carried.downcast_ref::<io::Error>() {
        carried = error.get_ref()?;
    }
    match carried.downcast_ref::<rustls::Error>()? {
        rustls::Error::InvalidCertificate(reason) => Some(reason.to_string()),
        _ => None,
    }
}

/// Whether the token by which a pod asks for its role's keys can be sent: the library panics where it cannot.
fn check_token(builder: &AmazonS3Builder) -> Result<(), String> {
    let key = AmazonS3ConfigKey::ContainerAuthorizationTokenFile;
    let Some(file) = builder.get_config_value(&key) else {
        return Ok(());
    };
    let named = "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE names";
    let token = std::fs::read_to_string(&file)
        .map_err(|error| format!("{named} {file}, which cannot be read ({error})"))?;
    HeaderValue::from_str(&token).map_err(|_| {
        format!("{named} {file}, which is not a token alone: write it without the end of the line")
    })?;
    Ok(())
}

#[derive(Clone, Debug)]
pub(crate) struct Bucket {
    store: AmazonS3,
    name: String,
    prefix: Path,
    /// Where it is not AWS's.
    endpoint: Option<String>,
}

impl Bucket {
    /// Asks the server nothing yet.
    pub(super) fn new(bucket: &str, prefix: &str, s3: &S3) -> Result<Self, Trouble> {
        let settings = |error: &dyn Error| Trouble::Settings(error.to_string());
        let authorities = s3.authorities().map_err(|error| settings(&error))?;
        let mut builder = match s3.key().map_err(|error| settings(&error))? {
            Some((id, secret)) => AmazonS3Builder::new()
                .with_access_key_id(id)
                .with_secret_access_key(secret.reveal()),
            None => {
                let builder = AmazonS3Builder::from_env();
                check_token(&builder).map_err(Trouble::Settings)?;
                builder
            }
        };
        if let Some(endpoint) = &s3.endpoint {
            builder = builder.with_endpoint(endpoint);
        }
        if let Some(region) = &s3.region {
            builder = builder.with_region(region);
        }
        let backoff = BackoffConfig {
            max_backoff: CONNECT_WITHIN,
            ..BackoffConfig::default()
        };
        let store = builder
            .with_bucket_name(bucket)
            .with_http_connector(Connector { authorities })
            .with_retry(RetryConfig {
                backoff,
                max_retries: RETRIES_MAX,
                retry_timeout: RETRIES_WITHIN,
            })
            .build()
            .map_err(|error| settings(&error))?;
        let prefix = Path::parse(prefix).map_err(|error| settings(&error))?;
        let name = bucket.to_owned();
        Ok(Self {
            store,
            name,
            prefix,
            endpoint: s3.endpoint.clone(),
        })
    }

    /// Whether the server answers, has the bucket and lets it be listed.
    pub(super) async fn probe(&self) -> Result<(), Trouble> {
        let mut objects = self.store.list(Some(&self.prefix));
        objects.try_next().await?;
        Ok(())
    }

    /// The offsets by which a partition's snapshots are named, least first.
    pub(super) async fn list(&self, partition: Partition) -> Result<Vec<i64>, Trouble> {
        let objects = self.store.list(Some(&self.of(partition)));
        let objects: Vec<_> = objects.try_collect().await?;
        let names = objects
            .iter()
            .filter_map(|object| object.location.filename());
        let mut offsets: Vec<i64> = names.filter_map(offset_of).collect();
        offsets.sort_unstable();
        Ok(offsets)
    }

    /// `None` when it is not there: another process has removed it.
    pub(super) async fn read(
        &self,
        partition: Partition,
        next_offset: i64,
    ) -> Result<Option<Bytes>, Trouble> {
        match self.store.get(&self.path(partition, next_offset)).await {
            Ok(found) => Ok(Some(found.bytes().await?)),
            Err(object_store::Error::NotFound { .. }) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Writes a snapshot, and removes those that are no longer needed.
    pub(super) async fn save(
        &self,
        partition: Partition,
        next_offset: i64,
        bytes: Bytes,
    ) -> Result<(), Trouble> {
        let path = self.path(partition, next_offset);
        self.store.put(&path, PutPayload::from_bytes(bytes)).await?;
        let held = self.list(partition).await?;
        for old in surplus(&held) {
            match self.store.delete(&self.path(partition, *old)).await {
                // Another process did it.
                Err(object_store::Error::NotFound { .. }) => {}
                removed => removed?,
            }
        }
        Ok(())
    }

    /// Topic, partition and offset of the newest snapshot of each partition.
    pub(super) async fn newest(&self) -> Result<Vec<(String, i32, i64)>, Trouble> {
        let objects = self.store.list(Some(&self.prefix));
        let objects: Vec<_> = objects.try_collect().await?;
        let mut found: Vec<(String, i32, i64)> = objects
            .iter()
            .filter_map(|object| {
                let parts: Vec<_> = object.location.prefix_match(&self.prefix)?.collect();
                let [topic, index, name] = &parts[..] else {
                    return None;
                };
                let index = index.as_ref().parse().ok()?;
                Some((topic.as_ref().to_owned(), index, offset_of(name.as_ref())?))
            })
            .collect();
        // Greatest offset first, of which the first is kept.
        found.sort_by(|a, b| (&a.0, a.1, b.2).cmp(&(&b.0, b.1, a.2)));
        found.dedup_by(|later, kept| (&later.0, later.1) == (&kept.0, kept.1));
        Ok(found)
    }

    /// A place in it as a person would name it.
    pub(super) fn shown(&self, path: &Path) -> String {
        format!("s3://{}/{path}", self.name)
    }

    /// All of it, and whose.
    pub(super) fn place(&self) -> String {
        let shown = self.shown(&self.prefix);
        match &self.endpoint {
            Some(endpoint) => format!("{shown} at {endpoint}"),
            None => shown,
        }
    }

    pub(super) fn failed(&self, trouble: Trouble) -> SnapshotError {
        let place = self.place();
        SnapshotError::Bucket { place, trouble }
    }

    pub(super) fn of(&self, partition: Partition) -> Path {
        let topic = self.prefix.clone().join(partition.topic);
        topic.join(partition.index.to_string())
    }

    pub(super) fn path(&self, partition: Partition, next_offset: i64) -> Path {
        self.of(partition).join(file_name(next_offset))
    }
}

/// Makes the HTTP client, with the TLS of everything else.
#[derive(Debug)]
struct Connector {
    /// Where only they may have signed a server's certificate.
    authorities: Option<Vec<Certificate>>,
}

impl HttpConnector for Connector {
    fn connect(&self, _: &ClientOptions) -> object_store::Result<HttpClient> {
        // Whoever was first has installed the same.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let mut builder = reqwest::Client::builder()
            .connect_timeout(CONNECT_WITHIN)
            .timeout(REQUEST_WITHIN)
            .user_agent("weir-aggregator");
        if let Some(authorities) = &self.authorities {
            builder = builder.tls_certs_only(authorities.iter().cloned());
        }
        let client = builder
            .build()
            .map_err(|error| object_store::Error::Generic {
                store: "S3",
                source: Box::new(error),
            })?;
        Ok(HttpClient::new(client))
    }
}
