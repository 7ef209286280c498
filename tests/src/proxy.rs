//! A faulty network: a proxy between Kafka clients and one server, whose faults change while it runs.
//!
//! It passes whole frames, and puts its own port where a reply names the server's, so that clients stay. Threads and
//! blocking sockets: it must go on while a test's own runtime is busy.

use std::collections::VecDeque;
use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

const PRODUCE: i16 = 0;
/// A slow line passes so many bytes at a time.
const SIP_BYTES: usize = 512;

/// What is wrong with the network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    None,
    /// Each frame waits up to so long, each for another time.
    Delay(Duration),
    /// A line of so many bytes a second, each way.
    Slow(u32),
    /// The server does what it is asked to, and every so many-th reply to a write is lost with its connection.
    LoseReplies(usize),
    /// Connections end after at most so many bytes, in the middle of a frame if it comes so.
    Cut(usize),
    /// What one side sends arrives nowhere, and nobody is told: a connection that has lost a frame never
    /// passes anything that way again, as when a router has forgotten it.
    Swallow(Way),
    /// The same both ways: the other side is gone.
    HalfOpen,
}

/// A direction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    Requests,
    Replies,
}

/// Listens until dropped.
pub struct Proxy {
    address: String,
    shared: Arc<Shared>,
}

struct Shared {
    own: SocketAddr,
    target: SocketAddr,
    fault: Mutex<Fault>,
    writes: AtomicUsize,
    faults: AtomicUsize,
    ended: AtomicBool,
}

impl Proxy {
    /// Passes everything on to `target` and back.
    ///
    /// # Errors
    /// When it cannot listen, or `target` is no address.
    pub fn start(target: &str) -> anyhow::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let own = listener.local_addr()?;
        let shared = Arc::new(Shared {
            own,
            target: target.parse()?,
            fault: Mutex::new(Fault::None),
            writes: AtomicUsize::new(0),
            faults: AtomicUsize::new(0),
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
                thread::spawn(move || serving.pass(&client));
            }
        });
        Ok(Self {
            address: own.to_string(),
            shared,
        })
    }

    /// The value for `bootstrap.servers`.
    #[must_use]
    pub fn address(&self) -> &str {
        &self.address
    }

    /// From now on, on connections old and new.
    ///
    /// # Panics
    /// When another user has.
    pub fn set(&self, fault: Fault) {
        *self.shared.fault.lock().expect("no panic while held") = fault;
    }

    /// How many frames were delayed, lost or cut.
    #[must_use]
    pub fn faults(&self) -> usize {
        self.shared.faults.load(Ordering::Relaxed)
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.shared.ended.store(true, Ordering::Relaxed);
        // Wakes the thread that accepts.
        let _ = TcpStream::connect(self.shared.own);
    }
}

/// What becomes of a frame.
enum Fate {
    Pass,
    /// Passes at so many bytes a second.
    PassSlowly(u32),
    /// So many of its bytes pass, and the connection ends.
    End(usize),
    Vanish,
}

/// One direction of a connection.
struct Line {
    way: Way,
    /// How many bytes pass before a fault cuts the connection.
    left: Option<usize>,
    forgotten: bool,
}

impl Line {
    const fn new(way: Way) -> Self {
        Self {
            way,
            left: None,
            forgotten: false,
        }
    }
}

impl Shared {
    fn pass(&self, client: &TcpStream) -> io::Result<()> {
        let server = &TcpStream::connect(self.target)?;
        for stream in [client, server] {
            stream.set_nodelay(true)?;
        }
        let asked: Mutex<VecDeque<i16>> = Mutex::default();
        let end = || {
            let _ = client.shutdown(Shutdown::Both);
            let _ = server.shutdown(Shutdown::Both);
        };
        thread::scope(|scope| {
            scope.spawn(|| {
                let _ = self.requests(client, server, &asked);
                end();
            });
            let _ = self.replies(server, client, &asked);
            end();
        });
        Ok(())
    }

    fn requests(
        &self,
        mut client: &TcpStream,
        mut server: &TcpStream,
        asked: &Mutex<VecDeque<i16>>,
    ) -> io::Result<()> {
        let mut line = Line::new(Way::Requests);
        loop {
            let request = frame(&mut client)?;
            let api = request
                .get(4..6)
                .map_or(-1, |b| i16::from_be_bytes([b[0], b[1]]));
            asked.lock().expect("no panic while held").push_back(api);
            self.carry(&mut line, &request, &mut server, false)?;
        }
    }

    fn replies(
        &self,
        mut server: &TcpStream,
        mut client: &TcpStream,
        asked: &Mutex<VecDeque<i16>>,
    ) -> io::Result<()> {
        let mut line = Line::new(Way::Replies);
        loop {
            let mut reply = frame(&mut server)?;
            let api = asked.lock().expect("no panic while held").pop_front();
            self.redirect(&mut reply);
            self.carry(&mut line, &reply, &mut client, api == Some(PRODUCE))?;
        }
    }

    /// Does to a frame what the fault of the moment does. An error ends the connection.
    fn carry(
        &self,
        line: &mut Line,
        frame: &[u8],
        to: &mut impl Write,
        of_write: bool,
    ) -> io::Result<()> {
        match self.fate(line, frame.len(), of_write) {
            Fate::Pass => to.write_all(frame),
            Fate::PassSlowly(bytes_per_second) => {
                for sip in frame.chunks(SIP_BYTES) {
                    let took = sip.len() as f64 / f64::from(bytes_per_second);
                    thread::sleep(Duration::from_secs_f64(took));
                    to.write_all(sip)?;
                }
                Ok(())
            }
            Fate::Vanish => Ok(()),
            Fate::End(bytes) => {
                to.write_all(&frame[..bytes])?;
                Err(io::ErrorKind::ConnectionReset.into())
            }
        }
    }

    fn fate(&self, line: &mut Line, bytes: usize, of_write: bool) -> Fate {
        let fault = *self.fault.lock().expect("no panic while held");
        let fate = match fault {
            _ if line.forgotten => Fate::Vanish,
            Fault::None => {
                line.left = None;
                return Fate::Pass;
            }
            Fault::Delay(most) => {
                thread::sleep(most.mul_f64(rand::random::<f64>()));
                Fate::Pass
            }
            Fault::Slow(bytes_per_second) => Fate::PassSlowly(bytes_per_second),
            Fault::LoseReplies(every) => {
                if !of_write || !self.nth_write().is_multiple_of(every) {
                    return Fate::Pass;
                }
                Fate::End(0)
            }
            Fault::Cut(most) => {
                let left = line.left.get_or_insert_with(|| rand::random_range(0..most));
                if bytes <= *left {
                    *left -= bytes;
                    return Fate::Pass;
                }
                Fate::End(*left)
            }
            Fault::Swallow(way) if way != line.way => return Fate::Pass,
            Fault::Swallow(_) | Fault::HalfOpen => {
                line.forgotten = true;
                Fate::Vanish
            }
        };
        self.faults.fetch_add(1, Ordering::Relaxed);
        fate
    }

    fn nth_write(&self) -> usize {
        self.writes.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// Puts this proxy's port where a reply names the server.
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

/// A frame with its length.
fn frame(from: &mut impl Read) -> io::Result<Vec<u8>> {
    let mut length = [0; 4];
    from.read_exact(&mut length)?;
    let mut frame = length.to_vec();
    frame.resize(4 + u32::from_be_bytes(length) as usize, 0);
    from.read_exact(&mut frame[4..])?;
    Ok(frame)
}
