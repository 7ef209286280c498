//! A connection over which the same request goes again and again, many ahead of their answers, as a busy proxy's would:
//! the client costs little, so that it is the server that is loaded.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;

use serde_json::Value;

/// Requests that are under way.
pub const AHEAD: usize = 64;

/// An HTTP/1.1 connection and the requests that go over it at once.
pub struct Pipeline {
    requests: Vec<u8>,
    to: TcpStream,
    from: BufReader<TcpStream>,
    line: String,
    body: Vec<u8>,
}

impl Pipeline {
    /// To `address`, for posts of `body` to `path`.
    ///
    /// # Panics
    /// When nobody listens there.
    #[must_use]
    pub fn new(address: &str, path: &str, key: &str, body: &Value) -> Self {
        let body = body.to_string();
        let length = body.len();
        let request = format!(
            "POST {path} HTTP/1.1\r\nhost: {address}\r\nauthorization: Bearer {key}\r\n\
             content-type: application/json\r\ncontent-length: {length}\r\n\r\n{body}"
        );
        let to = TcpStream::connect(address).expect("it listens");
        let from = to.try_clone().expect("a second handle");
        Self {
            requests: request.repeat(AHEAD).into_bytes(),
            to,
            from: BufReader::new(from),
            line: String::new(),
            body: Vec::new(),
        }
    }

    /// Sends [`AHEAD`] requests and hands each answer's body to `look`.
    ///
    /// # Panics
    /// When one is not answered with 200.
    pub fn round(&mut self, mut look: impl FnMut(&[u8])) {
        self.to.write_all(&self.requests).expect("it reads");
        for _ in 0..AHEAD {
            let length = self.head();
            self.body.resize(length, 0);
            self.from.read_exact(&mut self.body).expect("a body");
            look(&self.body);
        }
    }

    /// Reads an answer's head; the length of its body.
    fn head(&mut self) -> usize {
        self.read_line();
        assert!(self.line.starts_with("HTTP/1.1 200 "), "{}", self.line);
        let mut length = None;
        loop {
            self.read_line();
            match self.line.trim_end().split_once(": ") {
                Some((name, value)) if name.eq_ignore_ascii_case("content-length") => {
                    length = value.parse().ok();
                }
                Some(_) => {}
                None => return length.expect("a length"),
            }
        }
    }

    fn read_line(&mut self) {
        self.line.clear();
        self.from.read_line(&mut self.line).expect("a head");
    }
}
