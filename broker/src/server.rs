//! Connections: framing, bounds, and the tasks that serve them.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{ReadHalf, WriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::api;
use crate::core::Core;

/// In-flight bytes are counted in pieces of this size, because a semaphore counts in 32 bits.
const PIECE_BYTES: usize = 1024;
/// A frame's buffer starts no larger than this and grows with what arrives.
const FIRST_READ_BYTES: usize = 64 << 10;
/// How long requests that are being answered may take once the broker stops.
const GRACE: Duration = Duration::from_secs(5);
/// After an error of `accept` (most likely too many open files).
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Why a connection was closed from this side.
#[derive(Debug, thiserror::Error)]
enum Closed {
    #[error("a request of {bytes} bytes is over the limit of {bytes_max}")]
    TooLarge { bytes: usize, bytes_max: usize },
    #[error("nothing arrived, or could be sent, for {0:?}")]
    Idle(Duration),
    #[error(transparent)]
    Request(#[from] api::RequestError),
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// All connections of a broker. Dropping it aborts their tasks.
pub(crate) struct Connections {
    core: Arc<Core>,
    tasks: JoinSet<()>,
    in_flight: Arc<Semaphore>,
}

impl Connections {
    pub(crate) fn new(core: Arc<Core>) -> Connections {
        let pieces = (core
            .config
            .in_flight_bytes_max
            .max(core.config.request_bytes_max))
        .div_ceil(PIECE_BYTES)
        .min(Semaphore::MAX_PERMITS);
        Connections {
            core,
            tasks: JoinSet::new(),
            in_flight: Arc::new(Semaphore::new(pieces)),
        }
    }

    /// Accepts and serves until dropped. The only place that starts tasks, and it joins them.
    pub(crate) async fn accept(&mut self, listener: &TcpListener) {
        loop {
            tokio::select! {
                accepted = listener.accept() => match accepted {
                    Ok((stream, peer)) => self.serve(stream, peer),
                    Err(e) => {
                        tracing::warn!("cannot accept a connection: {e}");
                        tokio::time::sleep(ACCEPT_PAUSE).await;
                    }
                },
                Some(ended) = self.tasks.join_next(), if !self.tasks.is_empty() => {
                    if let Err(e) = ended {
                        tracing::error!("a connection's task has failed: {e}");
                    }
                }
            }
        }
    }

    fn serve(&mut self, stream: TcpStream, peer: SocketAddr) {
        let connections_max = self.core.config.connections_max;
        if self.tasks.len() >= connections_max {
            tracing::warn!(%peer, connections_max, "refused a connection: too many");
            return;
        }
        let connection = Connection {
            core: self.core.clone(),
            in_flight: self.in_flight.clone(),
        };
        self.tasks.spawn(async move {
            match connection.run(stream).await {
                Ok(()) => {}
                Err(Closed::Io(e)) => tracing::debug!(%peer, "connection lost: {e}"),
                Err(e) => tracing::warn!(%peer, "closed a connection: {e}"),
            }
        });
    }

    /// Waits for all connections to end, which they do once the core is told to stop.
    pub(crate) async fn finish(&mut self) {
        let all = async { while self.tasks.join_next().await.is_some() {} };
        if timeout(GRACE, all).await.is_err() {
            self.tasks.shutdown().await;
        }
    }
}

struct Connection {
    core: Arc<Core>,
    in_flight: Arc<Semaphore>,
}

impl Connection {
    /// Answers requests one after the other, in the order they came, until the client goes, breaks
    /// the protocol, or the broker stops.
    async fn run(&self, mut stream: TcpStream) -> Result<(), Closed> {
        stream.set_nodelay(true)?;
        let (mut reader, mut writer) = stream.split();
        loop {
            let frame = tokio::select! {
                biased;
                () = self.core.stop.cancelled() => return Ok(()),
                frame = self.read_frame(&mut reader) => frame?,
            };
            let Some((frame, permit)) = frame else {
                return Ok(());
            };
            let answer = api::answer(&self.core, frame).await?;
            if let Some(answer) = answer {
                self.write(&mut writer, &answer).await?;
            }
            drop(permit);
        }
    }

    /// The next request without its length; `None` where the client has closed.
    async fn read_frame(
        &self,
        reader: &mut ReadHalf<'_>,
    ) -> Result<Option<(Bytes, SemaphorePermit<'_>)>, Closed> {
        let idle = self.core.config.connection_idle_max;
        let bytes = match timeout(idle, reader.read_i32())
            .await
            .map_err(|_| Closed::Idle(idle))?
        {
            Ok(bytes) => usize::try_from(bytes).unwrap_or(usize::MAX),
            Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
            Err(e) => return Err(e.into()),
        };
        let bytes_max = self.core.config.request_bytes_max;
        if bytes > bytes_max {
            return Err(Closed::TooLarge { bytes, bytes_max });
        }
        let pieces = u32::try_from(bytes.div_ceil(PIECE_BYTES)).unwrap_or(u32::MAX);
        let permit = self
            .in_flight
            .acquire_many(pieces)
            .await
            .map_err(io::Error::other)?;
        let mut frame = BytesMut::with_capacity(bytes.min(FIRST_READ_BYTES));
        while frame.len() < bytes {
            let mut rest = reader.take((bytes - frame.len()) as u64);
            let read = timeout(idle, rest.read_buf(&mut frame));
            if read.await.map_err(|_| Closed::Idle(idle))?? == 0 {
                return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
            }
        }
        Ok(Some((frame.freeze(), permit)))
    }

    async fn write(&self, writer: &mut WriteHalf<'_>, answer: &[u8]) -> Result<(), Closed> {
        let idle = self.core.config.connection_idle_max;
        timeout(idle, writer.write_all(answer))
            .await
            .map_err(|_| Closed::Idle(idle))??;
        Ok(())
    }
}
