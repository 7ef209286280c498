//! Opening, running and closing the log as a whole.

use std::fs;
use std::net::SocketAddr;
use std::sync::Arc;

use tokio::net::TcpListener;

use crate::config::Config;
use crate::core::Core;
use crate::error::{OpenError, RunError};
use crate::lock::FolderLock;
use crate::server::Connections;

/// An open log: its folder is locked and recovered and its port is bound, but nobody is served
/// before [`run`](Broker::run). Dropping it releases both.
#[derive(Debug)]
pub struct Broker {
    listener: TcpListener,
    core: Arc<Core>,
    lock: FolderLock,
}

impl Broker {
    /// Locks and recovers the data folder and binds the address.
    ///
    /// # Errors
    /// See [`OpenError`]; each says what to do. Nothing stays bound or locked.
    pub async fn open(config: Config) -> Result<Broker, OpenError> {
        let listen = config.listen;
        if !listen.ip().is_loopback() {
            return Err(OpenError::NotLoopback { address: listen });
        }
        fs::create_dir_all(&config.data_dir).map_err(|e| OpenError::folder(&config.data_dir, e))?;
        let lock = FolderLock::take(&config.data_dir)?;
        let bind = |source| OpenError::Bind {
            address: listen,
            source,
        };
        let listener = TcpListener::bind(listen).await.map_err(bind)?;
        let address = listener.local_addr().map_err(bind)?;
        let folder = config.data_dir.clone();
        let kept_running = lock.machine_kept_running();
        let core = blocking(move || Core::open(config, address, kept_running))
            .await
            .map_err(|e| OpenError::folder(folder, e))??;
        lock.settle()?;
        Ok(Broker {
            listener,
            core: Arc::new(core),
            lock,
        })
    }

    /// Where clients connect: the value for `bootstrap.servers`.
    pub fn address(&self) -> SocketAddr {
        self.core.address
    }

    /// Serves until `shutdown` completes, then lets requests that are being answered finish,
    /// closes every connection, flushes, and unlocks the folder.
    ///
    /// Everything runs in this future and in tasks that end with it. Writing and reading go
    /// through the page cache on the runtime's own threads; syncing, retention, compaction and
    /// administration run on its blocking threads.
    ///
    /// # Errors
    /// Only if the last flush failed.
    pub async fn run(self, shutdown: impl Future<Output = ()>) -> Result<(), RunError> {
        let Broker {
            listener,
            core,
            lock,
        } = self;
        let mut connections = Connections::new(core.clone());
        tokio::select! {
            () = shutdown => {}
            () = connections.accept(&listener) => {}
            () = core.keep_synced() => {}
            () = core.keep_tidy() => {}
            () = core.groups.keep_deadlines() => {}
        }
        drop(listener);
        core.stop.cancel();
        core.groups.release();
        connections.finish().await;
        let path = core.config.data_dir.clone();
        let closed = blocking(move || core.close()).await;
        drop(lock);
        closed.map_err(|source| RunError::Flush { path, source })?
    }
}

/// Runs what waits for the disk where waiting does no harm.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> std::io::Result<T> {
    tokio::task::spawn_blocking(work)
        .await
        .map_err(std::io::Error::other)
}

#[cfg(test)]
impl Broker {
    pub(crate) fn core(&self) -> &Arc<Core> {
        &self.core
    }
}

#[cfg(test)]
mod crashes;
#[cfg(test)]
mod tests;
