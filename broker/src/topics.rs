//! All topics: what there is, and the changes an administrator makes.

mod catalog;
mod partition;
pub(crate) mod settings;

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::{Mutex, RwLock};
use uuid::Uuid;

use crate::config::{Config, Fsync};
use crate::error::OpenError;
use crate::files;
use crate::log::handles::Handles;
use crate::log::{LogSettings, Shared};
use crate::verify::Listed;
use catalog::{Catalog, Entry};
pub(crate) use partition::Partition;
use settings::{Overrides, SettingError};

/// Kafka's own bound on a topic's name.
const NAME_BYTES_MAX: usize = 249;

/// A topic as the rest of the broker sees it; a change makes a new one.
#[derive(Clone, Debug)]
pub(crate) struct Topic {
    pub(crate) name: String,
    pub(crate) id: Uuid,
    pub(crate) overrides: Overrides,
    pub(crate) partitions: Vec<Arc<Partition>>,
}

impl Topic {
    pub(crate) fn partition(&self, index: i32) -> Option<&Arc<Partition>> {
        self.partitions.get(usize::try_from(index).ok()?)
    }
}

/// Why a change was refused. Nothing has changed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ChangeError {
    #[error("a topic's name has 1 to 249 letters, digits, dots, underscores or hyphens")]
    Name,
    #[error("topic {0:?} exists already")]
    Exists(String),
    #[error("there is no such topic")]
    NotFound,
    #[error("the number of partitions must be at least 1")]
    NoPartitions,
    #[error("the topic has {has} partitions; it can only grow, and {wanted} is not more")]
    CannotShrink { has: usize, wanted: i32 },
    #[error("{wanted} partitions more than {has} are over this broker's limit of {max}")]
    TooMany { has: usize, wanted: i32, max: usize },
    #[error("there is one broker, so the replication factor can only be 1")]
    Replicas,
    #[error(transparent)]
    Setting(#[from] SettingError),
    #[error("cannot write it down: {0}")]
    Storage(#[from] io::Error),
}

/// The topics of a broker. The catalog's lock is held for the whole of a change, so changes come
/// one after the other; looking one up never waits for the disk.
#[derive(Debug)]
pub(crate) struct Topics {
    folder: PathBuf,
    shared: Shared,
    fsync: Fsync,
    partitions_max: usize,
    catalog: Mutex<Catalog>,
    by_name: RwLock<BTreeMap<String, Arc<Topic>>>,
    cluster_id: Uuid,
}

impl Topics {
    /// Opens every partition of every topic.
    pub(crate) fn open(config: &Config, kept_running: bool) -> Result<Topics, OpenError> {
        let folder = config.data_dir.join("topics");
        let mut catalog = Catalog::open(&config.data_dir, &folder)?;
        let failed = |source| OpenError::folder(&folder, source);
        files::create_folder(&folder).map_err(failed)?;
        catalog.write_if_new().map_err(failed)?;
        sweep(&folder, &catalog).map_err(failed)?;
        let mut by_name = BTreeMap::new();
        let shared = Shared {
            handles: Arc::new(Handles::new(config.files_max)),
            kept_running,
        };
        for (name, entry) in &catalog.content().topics {
            let settings = settings::log_settings(&entry.overrides, config.fsync);
            check_folders(&folder.join(name), entry.partitions)?;
            let topic = open_topic(&folder, name, entry, settings, &shared)?;
            by_name.insert(name.clone(), Arc::new(topic));
        }
        Ok(Topics {
            cluster_id: catalog.content().cluster_id,
            folder,
            shared,
            fsync: config.fsync,
            partitions_max: config.partitions_max,
            catalog: Mutex::new(catalog),
            by_name: RwLock::new(by_name),
        })
    }

    pub(crate) fn cluster_id(&self) -> Uuid {
        self.cluster_id
    }

    pub(crate) fn get(&self, name: &str) -> Option<Arc<Topic>> {
        self.by_name.read().get(name).cloned()
    }

    pub(crate) fn get_by_id(&self, id: Uuid) -> Option<Arc<Topic>> {
        self.by_name.read().values().find(|t| t.id == id).cloned()
    }

    pub(crate) fn partition(&self, name: &str, index: i32) -> Option<Arc<Partition>> {
        self.by_name.read().get(name)?.partition(index).cloned()
    }

    /// All topics, by name.
    pub(crate) fn all(&self) -> Vec<Arc<Topic>> {
        self.by_name.read().values().cloned().collect()
    }

    /// All partitions of all topics.
    pub(crate) fn all_partitions(&self) -> Vec<Arc<Partition>> {
        self.by_name
            .read()
            .values()
            .flat_map(|t| t.partitions.clone())
            .collect()
    }

    /// Makes a topic, or with `dry_run` says whether it could be made.
    pub(crate) fn create(
        &self,
        name: &str,
        partitions: i32,
        overrides: Overrides,
        dry_run: bool,
    ) -> Result<Uuid, ChangeError> {
        check_name(name)?;
        if partitions < 1 {
            return Err(ChangeError::NoPartitions);
        }
        settings::check(&overrides)?;
        let mut catalog = self.catalog.lock();
        if catalog.content().topics.contains_key(name) {
            return Err(ChangeError::Exists(name.to_owned()));
        }
        self.check_room(partitions)?;
        if dry_run {
            return Ok(Uuid::nil());
        }
        let entry = Entry {
            id: Uuid::new_v4(),
            partitions,
            overrides,
        };
        // What a deletion that was cut short has left behind must not come back.
        remove_folder(&self.folder.join(name))?;
        let id = entry.id;
        let settings = settings::log_settings(&entry.overrides, self.fsync);
        let topic = open_topic(&self.folder, name, &entry, settings, &self.shared)
            .map_err(io::Error::other)?;
        files::sync_folder(&self.folder.join(name))?;
        files::sync_folder(&self.folder)?;
        let listed = catalog.change(|c| {
            c.topics.insert(name.to_owned(), entry);
        });
        if let Err(e) = listed {
            remove_folder(&self.folder.join(name))?;
            return Err(e.into());
        }
        self.by_name
            .write()
            .insert(name.to_owned(), Arc::new(topic));
        Ok(id)
    }

    /// Removes a topic and its records. Readers that wait for it are woken and find it gone.
    pub(crate) fn delete(&self, name: &str) -> Result<(), ChangeError> {
        let mut catalog = self.catalog.lock();
        let topic = self.get(name).ok_or(ChangeError::NotFound)?;
        catalog.change(|c| {
            c.topics.remove(name);
        })?;
        self.by_name.write().remove(name);
        for partition in &topic.partitions {
            partition.log.lock().mark_failed();
            partition.grown.notify_waiters();
        }
        remove_folder(&self.folder.join(name))?;
        Ok(())
    }

    /// Adds partitions up to `partitions` in all, or with `dry_run` says whether that could be done.
    pub(crate) fn grow(&self, name: &str, wanted: i32, dry_run: bool) -> Result<(), ChangeError> {
        let mut catalog = self.catalog.lock();
        let topic = self.get(name).ok_or(ChangeError::NotFound)?;
        let has = topic.partitions.len();
        if usize::try_from(wanted).is_ok_and(|wanted| wanted <= has) || wanted < 0 {
            return Err(ChangeError::CannotShrink { has, wanted });
        }
        self.check_room(wanted - has as i32)?;
        if dry_run {
            return Ok(());
        }
        let mut grown = Topic::clone(&topic);
        let settings = settings::log_settings(&topic.overrides, self.fsync);
        for index in has..wanted as usize {
            let folder = self.folder.join(name).join(index.to_string());
            remove_folder(&folder)?;
            let partition = Partition::open(folder, settings.clone(), &self.shared);
            grown.partitions.push(partition.map_err(io::Error::other)?);
        }
        files::sync_folder(&self.folder.join(name))?;
        catalog.change(|c| {
            if let Some(entry) = c.topics.get_mut(name) {
                entry.partitions = wanted;
            }
        })?;
        self.by_name
            .write()
            .insert(name.to_owned(), Arc::new(grown));
        Ok(())
    }

    /// Changes the overrides of a topic as `change` says, or with `dry_run` only checks them.
    pub(crate) fn configure(
        &self,
        name: &str,
        dry_run: bool,
        change: impl FnOnce(&mut Overrides),
    ) -> Result<(), ChangeError> {
        let mut catalog = self.catalog.lock();
        let topic = self.get(name).ok_or(ChangeError::NotFound)?;
        let mut changed = Topic::clone(&topic);
        change(&mut changed.overrides);
        settings::check(&changed.overrides)?;
        if dry_run {
            return Ok(());
        }
        catalog.change(|c| {
            if let Some(entry) = c.topics.get_mut(name) {
                entry.overrides = changed.overrides.clone();
            }
        })?;
        let settings = settings::log_settings(&changed.overrides, self.fsync);
        for partition in &changed.partitions {
            partition.log.lock().set_settings(settings.clone());
        }
        self.by_name
            .write()
            .insert(name.to_owned(), Arc::new(changed));
        Ok(())
    }

    fn check_room(&self, wanted: i32) -> Result<(), ChangeError> {
        let has: usize = self
            .by_name
            .read()
            .values()
            .map(|t| t.partitions.len())
            .sum();
        let max = self.partitions_max;
        match has + wanted.max(0) as usize <= max {
            true => Ok(()),
            false => Err(ChangeError::TooMany { has, wanted, max }),
        }
    }
}

/// The topics that the catalog in a data folder lists.
pub(crate) fn list(data_dir: &Path) -> Result<Vec<Listed>, OpenError> {
    let catalog = Catalog::open(data_dir, &data_dir.join("topics"))?;
    let listed = |(name, entry): (&String, &Entry)| Listed {
        name: name.clone(),
        partitions: entry.partitions,
        compacts: settings::log_settings(&entry.overrides, Fsync::Never).compact,
    };
    Ok(catalog.content().topics.iter().map(listed).collect())
}

/// A partition whose folder is gone must not be taken for an empty one.
fn check_folders(topic: &Path, partitions: i32) -> Result<(), OpenError> {
    for index in 0..partitions {
        let path = topic.join(index.to_string());
        if !path.is_dir() {
            let reason = "the folder of this partition is missing (an empty one in its place \
                          opens as a partition without records)";
            let reason = reason.to_owned();
            return Err(OpenError::Damaged { path, reason });
        }
    }
    Ok(())
}

fn open_topic(
    folder: &Path,
    name: &str,
    entry: &Entry,
    settings: LogSettings,
    shared: &Shared,
) -> Result<Topic, OpenError> {
    let folder = folder.join(name);
    let open = |index: i32| {
        let folder = folder.join(index.to_string());
        Partition::open(folder, settings.clone(), shared)
    };
    Ok(Topic {
        name: name.to_owned(),
        id: entry.id,
        overrides: entry.overrides.clone(),
        partitions: (0..entry.partitions).map(open).collect::<Result<_, _>>()?,
    })
}

/// Removes folders of topics that are not in the catalog: a deletion or a creation that a crash
/// cut short.
fn sweep(folder: &Path, catalog: &Catalog) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        let name = path.file_name().and_then(|n| n.to_str());
        if name.is_none_or(|n| !catalog.content().topics.contains_key(n)) {
            tracing::warn!(folder = %path.display(), "removing what is left of a deleted topic");
            remove_folder(&path)?;
        }
    }
    Ok(())
}

fn remove_folder(path: &Path) -> io::Result<()> {
    match fs::remove_dir_all(path) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(e),
        _ => Ok(()),
    }
}

/// A topic's name is also its folder's.
fn check_name(name: &str) -> Result<(), ChangeError> {
    let legal = |c: u8| c.is_ascii_alphanumeric() || b"._-".contains(&c);
    let fits = (1..=NAME_BYTES_MAX).contains(&name.len()) && name != "." && name != "..";
    if fits && name.bytes().all(legal) {
        Ok(())
    } else {
        Err(ChangeError::Name)
    }
}
