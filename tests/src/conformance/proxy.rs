//! A faulty network: a proxy that loses replies to writes, and the connection with each.

use std::collections::VecDeque;
use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;

const PRODUCE: i16 = 0;

/// Listens until dropped.
pub(super) struct Proxy {
    address: String,
    shared: Arc<Shared>,
}

struct Shared {
    own: SocketAddr,
    target: SocketAddr,
    every: usize,
    writes: AtomicUsize,
    lost: AtomicUsize,
    ended: AtomicBool,
}

impl Proxy {
    /// Passes everything on to `target` and back, but for every so many-th reply to a write.
    pub(super) fn start(target: &str, every: usize) -> anyhow::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let own = listener.local_addr()?;
        let shared = Arc::new(Shared {
            own,
            target: target.parse()?,
            every,
            writes: AtomicUsize::new(0),
            lost: AtomicUsize::new(0),
            ended: AtomicBool::new(false),
        });
        let serving = shared.clone();
        thread::spawn(move || {
            for client in listener.incoming() {
                if serving.ended.load(Ordering::Relaxed) {
                    break;
                }
                let Ok(client) = client else { continue };
                let serving = serving.clone();
                thread::spawn(move || serving.pass(client));
            }
        });
        Ok(Self {
            address: own.to_string(),
            shared,
        })
    }

    pub(super) fn address(&self) -> &str {
        &self.address
    }

    /// How many replies were lost.
    pub(super) fn lost(&self) -> usize {
        self.shared.lost.load(Ordering::Relaxed)
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.shared.ended.store(true, Ordering::Relaxed);
        // Wakes the thread that accepts.
        let _ = TcpStream::connect(self.shared.own);
    }
}

impl Shared {
    fn pass(&self, client: TcpStream) -> io::Result<()> {
        let server = TcpStream::connect(self.target)?;
        let asked: Mutex<VecDeque<i16>> = Mutex::default();
        thread::scope(|scope| {
            scope.spawn(|| {
                let _ = requests(&client, &server, &asked);
                let _ = server.shutdown(Shutdown::Both);
            });
            let _ = self.replies(&server, &client, &asked);
            let _ = client.shutdown(Shutdown::Both);
            let _ = server.shutdown(Shutdown::Both);
        });
        Ok(())
    }

    fn replies(
        &self,
        mut server: &TcpStream,
        mut client: &TcpStream,
        asked: &Mutex<VecDeque<i16>>,
    ) -> io::Result<()> {
        loop {
            let mut reply = frame(&mut server)?;
            let api = asked.lock().expect("no panic while held").pop_front();
            if api == Some(PRODUCE) {
                let nth = self.writes.fetch_add(1, Ordering::Relaxed) + 1;
                if nth.is_multiple_of(self.every) {
                    self.lost.fetch_add(1, Ordering::Relaxed);
                    return Ok(());
                }
            }
            self.redirect(&mut reply);
            client.write_all(&reply)?;
        }
    }

    /// Puts this proxy's port where a reply names the server, so that the client stays.
    fn redirect(&self, reply: &mut [u8]) {
        let named = |port: u16| {
            let mut named = self.target.ip().to_string().into_bytes();
            named.extend_from_slice(&i32::from(port).to_be_bytes());
            named
        };
        let (from, to) = (named(self.target.port()), named(self.own.port()));
        for at in 0..reply.len().saturating_sub(from.len() - 1) {
            if reply[at..].starts_with(&from) {
                reply[at..at + to.len()].copy_from_slice(&to);
            }
        }
    }
}

fn requests(
    mut client: &TcpStream,
    mut server: &TcpStream,
    asked: &Mutex<VecDeque<i16>>,
) -> io::Result<()> {
    loop {
        let request = frame(&mut client)?;
        let api = request
            .get(4..6)
            .map_or(-1, |b| i16::from_be_bytes([b[0], b[1]]));
        asked.lock().expect("no panic while held").push_back(api);
        server.write_all(&request)?;
    }
}

/// A frame with its length.
fn frame(from: &mut impl Read) -> io::Result<Vec<u8>> {
    let mut length = [0; 4];
    from.read_exact(&mut length)?;
    let mut frame = length.to_vec();
    frame.resize(4 + u32::from_be_bytes(length) as usize, 0);
    from.read_exact(&mut frame[4..])?;
    Ok(frame)
}
