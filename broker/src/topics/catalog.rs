//! The list of topics on disk: one small file, replaced whole, so that a topic exists or does not.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::settings::Overrides;
use crate::error::OpenError;
use crate::files;

/// Layout of the data folder; a broker refuses a folder of another version.
const VERSION: u32 = 1;
const FILE: &str = "catalog.json";

/// What is known of a topic apart from its records.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Entry {
    pub(super) id: Uuid,
    pub(super) partitions: i32,
    pub(super) overrides: Overrides,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Content {
    version: u32,
    pub(super) cluster_id: Uuid,
    pub(super) topics: BTreeMap<String, Entry>,
}

/// The catalog as it is on the disk. A change is made only by writing it.
#[derive(Debug)]
pub(super) struct Catalog {
    path: PathBuf,
    content: Content,
}

impl Catalog {
    /// Reads the catalog, or starts one in a folder that has no topics.
    pub(super) fn open(folder: &Path, topics_folder: &Path) -> Result<Catalog, OpenError> {
        let path = folder.join(FILE);
        let damaged = |reason: String| OpenError::Damaged {
            path: path.clone(),
            reason,
        };
        let failed = |source| OpenError::folder(&path, source);
        let content = match files::read_if_any(&path).map_err(failed)? {
            Some(text) => serde_json::from_slice::<Content>(&text)
                .map_err(|e| damaged(format!("it is not a catalog of topics ({e})")))?,
            None if has_entries(topics_folder).map_err(failed)? => {
                return Err(damaged(
                    "it is missing although there are topics".to_owned(),
                ));
            }
            None => {
                let cluster_id = Uuid::new_v4();
                Content {
                    version: VERSION,
                    cluster_id,
                    topics: BTreeMap::new(),
                }
            }
        };
        if content.version != VERSION {
            let version = content.version;
            return Err(damaged(format!(
                "it has version {version}, this broker reads {VERSION}"
            )));
        }
        Ok(Catalog { path, content })
    }

    /// Writes a catalog that was not there. One that was there stays as it is: a full disk does not keep a log
    /// from being opened, and from making room.
    pub(super) fn write_if_new(&mut self) -> io::Result<()> {
        if self.path.exists() {
            return Ok(());
        }
        self.change(|_| {})
    }

    pub(super) fn content(&self) -> &Content {
        &self.content
    }

    /// Changes the catalog on the disk; on an error it is as it was.
    pub(super) fn change(&mut self, change: impl FnOnce(&mut Content)) -> io::Result<()> {
        let mut next = self.content.clone();
        change(&mut next);
        files::replace(&self.path, &serde_json::to_vec_pretty(&next)?)?;
        self.content = next;
        Ok(())
    }
}

fn has_entries(folder: &Path) -> io::Result<bool> {
    match std::fs::read_dir(folder) {
        Ok(mut entries) => Ok(entries.next().is_some()),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(e) => Err(e),
    }
}
