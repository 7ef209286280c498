//! Servers as containers, where a Docker engine answers.

use std::env;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use testcontainers::core::{IntoContainerPort, WaitFor};
use testcontainers::runners::AsyncRunner;
use testcontainers::{ContainerAsync, ContainerRequest, GenericImage};

const PATIENCE: Duration = Duration::from_secs(2);

/// A running container; removed when dropped.
pub type Container = ContainerAsync<GenericImage>;

/// Whether a Docker engine answers where clients look for one.
#[must_use]
pub fn answers() -> bool {
    let host = env::var("DOCKER_HOST").unwrap_or_else(|_| "unix:///var/run/docker.sock".to_owned());
    match host.split_once("://") {
        Some(("unix", path)) => UnixStream::connect(path)
            .and_then(|stream| stream.set_read_timeout(Some(PATIENCE)).map(|()| stream))
            .is_ok_and(pings),
        Some((_, address)) => TcpStream::connect(address)
            .and_then(|stream| stream.set_read_timeout(Some(PATIENCE)).map(|()| stream))
            .is_ok_and(pings),
        None => false,
    }
}

fn pings(mut stream: impl Read + Write) -> bool {
    let mut head = [0; 12];
    stream
        .write_all(b"GET /_ping HTTP/1.1\r\nhost: docker\r\nconnection: close\r\n\r\n")
        .is_ok()
        && stream.read_exact(&mut head).is_ok()
        && head.ends_with(b" 200")
}

/// An image that serves on `port` once `ready` shows in its output.
pub fn image(name: &str, tag: &str, port: u16, ready: WaitFor) -> GenericImage {
    GenericImage::new(name, tag)
        .with_exposed_port(port.tcp())
        .with_wait_for(ready)
}

/// Starts `request` and gives the port of this machine that leads to its `port`.
///
/// # Panics
/// When the engine cannot start it.
pub async fn start(
    request: impl Into<ContainerRequest<GenericImage>>,
    port: u16,
) -> (Container, u16) {
    let container = request.into().start().await.expect("a container");
    let mapped = container
        .get_host_port_ipv4(port)
        .await
        .expect("the container's port");
    (container, mapped)
}
