//! A connection over which the same request goes again and again, many ahead of their answers, as a busy proxy's would:
//! the client costs little, so that it is the server that is loaded.

use std::io::{BufReader, Read, Write};
use std::net::TcpStream;

use serde_json::Value;

/// Requests that are under way.
pub const AHEAD: usize = 64;
/// Heads of answers are shorter.
const HEAD_BYTES_MAX: usize = 8 << 10;

/// An HTTP/1.1 connection and the requests that go over it at once.
pub struct Pipeline {
    requests: Vec<u8>,
    to: TcpStream,
    from: BufReader<TcpStream>,
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
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            self.from.read_exact(&mut byte).expect("a head");
            head.push(byte[0]);
            assert!(head.len() < HEAD_BYTES_MAX, "the head does not end");
        }
        let head = String::from_utf8(head).expect("a head in ASCII");
        assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
        let mut fields = head.lines().filter_map(|line| line.split_once(": "));
        let length = fields.find(|(name, _)| name.eq_ignore_ascii_case("content-length"));
        length
            .and_then(|(_, text)| text.parse().ok())
            .expect("a length")
    }
}
