//! Where snapshots are kept, as the configuration says it.

use std::path::{Path, PathBuf};
use std::{fmt, io};

use bus::Secret;
use reqwest::Certificate;
use serde::Deserialize;
use thiserror::Error;

const S3: &str = "s3://";

/// Where snapshots are kept: a folder, or `s3://bucket/prefix`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub enum SnapshotPlace {
    Folder(PathBuf),
    /// A bucket of S3, or of a server that speaks its protocol.
    Bucket {
        bucket: String,
        /// Before the names of all snapshots; may be empty.
        prefix: String,
    },
}

/// A text that names no place.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("`{0}` is no place for snapshots: give a folder, or `s3://BUCKET/PREFIX`")]
pub struct PlaceError(String);

impl From<PathBuf> for SnapshotPlace {
    fn from(folder: PathBuf) -> Self {
        Self::Folder(folder)
    }
}

impl TryFrom<String> for SnapshotPlace {
    type Error = PlaceError;

    fn try_from(text: String) -> Result<Self, PlaceError> {
        let Some(rest) = text.strip_prefix(S3) else {
            return match text.is_empty() || text.contains("://") {
                true => Err(PlaceError(text)),
                false => Ok(Self::Folder(text.into())),
            };
        };
        let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
        if bucket.is_empty() {
            return Err(PlaceError(text));
        }
        Ok(Self::Bucket {
            bucket: bucket.to_owned(),
            prefix: prefix.trim_matches('/').to_owned(),
        })
    }
}

impl fmt::Display for SnapshotPlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Folder(path) => path.display().fmt(f),
            Self::Bucket { bucket, prefix } if prefix.is_empty() => write!(f, "{S3}{bucket}"),
            Self::Bucket { bucket, prefix } => write!(f, "{S3}{bucket}/{prefix}"),
        }
    }
}

/// How a bucket is reached: `[aggregator.s3]`. Without a key of its own it is what AWS's own variables and roles say.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct S3 {
    /// `https://host:port` of a server other than AWS's. With `http://` everything travels in plain text.
    pub endpoint: Option<String>,
    pub region: Option<String>,
    /// Who may have signed the server's certificate, in PEM; without it, whom the system trusts.
    pub ca: Option<PathBuf>,
    pub access_key_id: Option<String>,
    pub secret_access_key: Option<Secret>,
    /// The file that holds it.
    pub secret_access_key_file: Option<PathBuf>,
}

/// Settings of [`S3`] that Weir cannot work with.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("[aggregator.s3] {field} {reason}")]
pub struct S3Error {
    field: &'static str,
    reason: String,
}

fn wrong(field: &'static str, reason: String) -> S3Error {
    S3Error { field, reason }
}

fn unreadable(field: &'static str, file: &Path, error: &io::Error) -> S3Error {
    wrong(
        field,
        format!("cannot be read: {} ({error})", file.display()),
    )
}

const ACCESS_KEY_ID: &str = "WEIR_S3_ACCESS_KEY_ID";
const SECRET_ACCESS_KEY: &str = "WEIR_S3_SECRET_ACCESS_KEY";

impl S3 {
    /// Takes the key from the environment, which wins over the file.
    pub(crate) fn take_environment(&mut self, environment: impl Fn(&str) -> Option<String>) {
        let given = |name| environment(name).filter(|value| !value.is_empty());
        if let Some(id) = given(ACCESS_KEY_ID) {
            self.access_key_id = Some(id);
        }
        if let Some(secret) = given(SECRET_ACCESS_KEY) {
            self.secret_access_key = Some(Secret::new(secret));
            self.secret_access_key_file = None;
        }
    }

    /// The certificates of those who may have signed the server's, if only they may.
    pub(crate) fn authorities(&self) -> Result<Option<Vec<Certificate>>, S3Error> {
        let Some(file) = &self.ca else {
            return Ok(None);
        };
        let bytes = std::fs::read(file).map_err(|error| unreadable("ca", file, &error))?;
        match Certificate::from_pem_bundle(&bytes) {
            Ok(found) if !found.is_empty() => Ok(Some(found)),
            _ => {
                let reason = format!("holds no certificate in PEM: {}", file.display());
                Err(wrong("ca", reason))
            }
        }
    }

    /// The access key's id and secret, if it has one of its own.
    pub(crate) fn key(&self) -> Result<Option<(String, Secret)>, S3Error> {
        let secret = match (&self.secret_access_key, &self.secret_access_key_file) {
            (Some(_), Some(_)) => {
                let reason = "is given twice, also as `secret_access_key_file`; keep one of them";
                return Err(wrong("secret_access_key", reason.to_owned()));
            }
            (Some(secret), None) => Some(secret.clone()),
            (None, Some(file)) => {
                let text = std::fs::read_to_string(file)
                    .map_err(|error| unreadable("secret_access_key_file", file, &error))?;
                Some(Secret::new(text.trim_end_matches(['\r', '\n'])))
            }
            (None, None) => None,
        };
        match (&self.access_key_id, secret) {
            (None, None) => Ok(None),
            (Some(id), Some(secret)) => Ok(Some((id.clone(), secret))),
            (None, Some(_)) => {
                let reason = format!("is missing beside the secret: set it, or {ACCESS_KEY_ID}");
                Err(wrong("access_key_id", reason))
            }
            (Some(_), None) => {
                let reason = format!(
                    "is missing beside `access_key_id`: set it, `secret_access_key_file`, or {SECRET_ACCESS_KEY}"
                );
                Err(wrong("secret_access_key", reason))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, expected: Option<SnapshotPlace>) {
        assert_eq!(SnapshotPlace::try_from(text.to_owned()).ok(), expected);
    }

    fn bucket(bucket: &str, prefix: &str) -> Option<SnapshotPlace> {
        Some(SnapshotPlace::Bucket {
            bucket: bucket.to_owned(),
            prefix: prefix.to_owned(),
        })
    }

    #[test]
    fn a_place_is_a_folder_or_a_bucket() {
        check("/shared/weir", Some(PathBuf::from("/shared/weir").into()));
        check("s3", Some(PathBuf::from("s3").into()));
        check("s3://weir", bucket("weir", ""));
        check("s3://weir/a/b/", bucket("weir", "a/b"));
        check("s3:///a", None);
        check("gs://weir", None);
        check("", None);
    }

    #[track_caller]
    fn check_key(s3: &S3, environment: &[(&str, &str)], expected: Result<Option<&str>, &str>) {
        let mut s3 = s3.clone();
        s3.take_environment(|name| {
            let found = environment.iter().find(|(given, _)| *given == name);
            found.map(|(_, value)| (*value).to_owned())
        });
        let found = s3.key().map_err(|error| error.to_string());
        match (found, expected) {
            (Err(text), Err(part)) => assert!(text.contains(part), "{text}"),
            (found, expected) => {
                let key =
                    found.map(|key| key.map(|(id, secret)| format!("{id}:{}", secret.reveal())));
                assert_eq!(
                    key.as_ref().map(Option::as_deref),
                    expected.as_ref().map(|k| *k).map_err(|_| unreachable!())
                );
            }
        }
    }

    #[track_caller]
    fn check_authorities(ca: Option<PathBuf>, expected: Result<Option<usize>, &str>) {
        let s3 = S3 {
            ca,
            ..S3::default()
        };
        let found = s3.authorities().map(|found| found.map(|all| all.len()));
        match (found, expected) {
            (Err(error), Err(part)) => assert!(error.to_string().contains(part), "{error}"),
            (found, expected) => assert_eq!(found.ok(), expected.ok()),
        }
    }

    #[test]
    fn who_signs_is_read_from_a_file() {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| {
            let path = folder.path().join(name);
            std::fs::write(&path, text).unwrap();
            Some(path)
        };
        let one = "-----BEGIN CERTIFICATE-----\nMAA=\n-----END CERTIFICATE-----\n";
        check_authorities(None, Ok(None));
        check_authorities(write("one", one), Ok(Some(1)));
        check_authorities(write("two", &one.repeat(2)), Ok(Some(2)));
        check_authorities(write("empty", ""), Err("ca holds no certificate in PEM"));
        check_authorities(
            write("text", "hello"),
            Err("ca holds no certificate in PEM"),
        );
        let cut = &one[..one.len() / 2];
        check_authorities(write("cut", cut), Err("ca holds no certificate in PEM"));
        let nowhere = folder.path().join("nowhere");
        check_authorities(Some(nowhere), Err("ca cannot be read"));
    }

    #[test]
    fn a_key_comes_from_the_file_or_the_environment() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("secret");
        std::fs::write(&file, "kept\n").unwrap();
        let id = S3 {
            access_key_id: Some("weir".to_owned()),
            ..S3::default()
        };
        let written = S3 {
            secret_access_key: Some(Secret::new("written")),
            ..id.clone()
        };
        let kept = S3 {
            secret_access_key_file: Some(file),
            ..id.clone()
        };
        let twice = S3 {
            secret_access_key: Some(Secret::new("written")),
            ..kept.clone()
        };
        let nowhere = S3 {
            secret_access_key_file: Some(folder.path().join("none")),
            ..id.clone()
        };
        let both = [(ACCESS_KEY_ID, "other"), (SECRET_ACCESS_KEY, "set")];
        check_key(&S3::default(), &[], Ok(None));
        check_key(&S3::default(), &both, Ok(Some("other:set")));
        check_key(&written, &[], Ok(Some("weir:written")));
        check_key(&kept, &[], Ok(Some("weir:kept")));
        check_key(&kept, &both[1..], Ok(Some("weir:set")));
        check_key(&twice, &[], Err("is given twice"));
        check_key(&nowhere, &[], Err("cannot be read"));
        check_key(&id, &[], Err(SECRET_ACCESS_KEY));
        check_key(&S3::default(), &both[1..], Err(ACCESS_KEY_ID));
    }
}
