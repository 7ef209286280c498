//! A second look at a server that the client library cannot speak with: it keeps to itself what is wrong with a
//! certificate, and does not notice that a listener speaks TLS.

use std::net::{TcpStream, ToSocketAddrs};
use std::path::PathBuf;
use std::time::Duration;

use openssl::ssl::{HandshakeError, SslConnector, SslMethod};
use openssl::x509::X509VerifyResult;

/// How long a server may take for each step.
const WITHIN: Duration = Duration::from_secs(1);

/// What one handshake with a server showed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Finding {
    /// Nobody was reached, or who was does not speak TLS.
    NoTls,
    /// It speaks TLS, and its certificate is good.
    Good,
    /// It speaks TLS, and its certificate is not: what is wrong with it.
    Bad(String),
}

/// Shakes hands with the first of the servers that can be reached, with certificates checked against the file `ca`, or
/// those of the system. Blocks for a few seconds at the most.
pub(super) fn shake_hands(bootstrap: &str, ca: Option<PathBuf>) -> Finding {
    for server in bootstrap.split(',').map(str::trim) {
        if let Some(finding) = shake_hands_with(server, ca.as_ref()) {
            return finding;
        }
    }
    Finding::NoTls
}

fn shake_hands_with(server: &str, ca: Option<&PathBuf>) -> Option<Finding> {
    let (host, _) = server.rsplit_once(':')?;
    let host = host.trim_start_matches('[').trim_end_matches(']');
    let addresses = server.to_socket_addrs().ok()?;
    let stream = addresses
        .into_iter()
        .find_map(|address| TcpStream::connect_timeout(&address, WITHIN).ok())?;
    stream.set_read_timeout(Some(WITHIN)).ok()?;
    stream.set_write_timeout(Some(WITHIN)).ok()?;
    let mut connector = SslConnector::builder(SslMethod::tls_client()).ok()?;
    if let Some(ca) = ca {
        connector.set_ca_file(ca).ok()?;
    }
    match connector.build().connect(host, stream) {
        Ok(_) => Some(Finding::Good),
        Err(HandshakeError::Failure(failed)) => {
            let result = failed.ssl().verify_result();
            if result != X509VerifyResult::OK {
                return Some(Finding::Bad(result.error_string().to_owned()));
            }
            let speaks_tls = failed.ssl().peer_certificate().is_some();
            Some(if speaks_tls {
                Finding::Good
            } else {
                Finding::NoTls
            })
        }
        Err(_) => Some(Finding::NoTls),
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};
    use std::net::TcpListener;

    use super::*;

    #[test]
    fn one_who_speaks_otherwise_is_no_reason_to_wait() {
        assert_eq!(shake_hands("127.0.0.1:1, nonsense", None), Finding::NoTls);
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let other = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut some = [0; 16];
            stream.read_exact(&mut some).unwrap();
            stream.write_all(b"no TLS here, really not").unwrap();
        });
        assert_eq!(shake_hands(&address, None), Finding::NoTls);
        other.join().unwrap();
    }
}
