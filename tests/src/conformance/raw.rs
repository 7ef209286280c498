//! Bytes that no client library sends.

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;

use anyhow::{Context, ensure};

use super::lab::{Lab, SOON};

const API_VERSIONS: i16 = 18;
const UNSUPPORTED_VERSION: i16 = 35;

fn connect(lab: &Lab) -> anyhow::Result<TcpStream> {
    let stream = TcpStream::connect(&lab.bootstrap)?;
    stream.set_read_timeout(Some(SOON))?;
    Ok(stream)
}

/// A request with a version 1 header and no client id.
fn request(api: i16, version: i16, body: &[u8]) -> Vec<u8> {
    let mut frame = vec![];
    frame.extend_from_slice(&((10 + body.len()) as i32).to_be_bytes());
    frame.extend_from_slice(&api.to_be_bytes());
    frame.extend_from_slice(&version.to_be_bytes());
    frame.extend_from_slice(&77_i32.to_be_bytes());
    frame.extend_from_slice(&(-1_i16).to_be_bytes());
    frame.extend_from_slice(body);
    frame
}

fn reply(stream: &mut TcpStream) -> anyhow::Result<Vec<u8>> {
    let mut length = [0; 4];
    stream.read_exact(&mut length).context("no reply")?;
    let mut reply = vec![0; u32::from_be_bytes(length) as usize];
    stream.read_exact(&mut reply)?;
    ensure!(
        reply.get(..4) == Some(&77_i32.to_be_bytes()),
        "the reply is to another request"
    );
    Ok(reply.split_off(4))
}

/// Fails unless the other side closes, without an answer, and still serves others.
fn check_closed(lab: &Lab, mut stream: TcpStream) -> anyhow::Result<()> {
    let mut rest = vec![];
    match stream.read_to_end(&mut rest) {
        Ok(_) => ensure!(rest.is_empty(), "it answered {rest:?}"),
        Err(e) if e.kind() == ErrorKind::ConnectionReset => {}
        Err(e) => return Err(e).context("it did not close"),
    }
    check_serves(lab)
}

fn check_serves(lab: &Lab) -> anyhow::Result<()> {
    let mut stream = connect(lab)?;
    stream.write_all(&request(API_VERSIONS, 0, &[]))?;
    let reply = reply(&mut stream)?;
    ensure!(
        reply.get(..2) == Some(&[0, 0]),
        "ApiVersions says {reply:?}"
    );
    Ok(())
}

pub(super) fn versions(lab: &Lab) -> anyhow::Result<()> {
    let mut stream = connect(lab)?;
    stream.write_all(&request(API_VERSIONS, 99, &[0, 0, 0, 0]))?;
    let reply = reply(&mut stream)?;
    ensure!(
        reply.get(..2) == Some(&UNSUPPORTED_VERSION.to_be_bytes()),
        "{reply:?}"
    );
    // Version 0 of the answer: so many of (api, first version, last version).
    let count = reply
        .get(2..6)
        .and_then(|b| b.try_into().ok())
        .map_or(0, u32::from_be_bytes);
    ensure!(
        count > 0 && reply.len() >= 6 + 6 * count as usize,
        "{count} APIs in {reply:?}"
    );
    Ok(())
}

pub(super) fn unknown(lab: &Lab) -> anyhow::Result<()> {
    for (api, version) in [(999, 0), (-3, 0), (0, 77)] {
        let mut stream = connect(lab)?;
        stream.write_all(&request(api, version, &[0; 16]))?;
        check_closed(lab, stream).with_context(|| format!("API {api} version {version}"))?;
    }
    Ok(())
}

pub(super) fn garbage(lab: &Lab) -> anyhow::Result<()> {
    let frames: [&[u8]; 4] = [
        b"GET / HTTP/1.1\r\nhost: log\r\n\r\n",
        &[0xff; 64],
        &[0, 0, 0, 2, 0, 1],
        &request(3, 9, b"\xff\xff\xff\xff\xff\xff not metadata"),
    ];
    for frame in frames {
        let mut stream = connect(lab)?;
        stream.write_all(frame)?;
        check_closed(lab, stream).with_context(|| format!("{frame:?}"))?;
    }
    Ok(())
}

pub(super) fn half(lab: &Lab) -> anyhow::Result<()> {
    let whole = request(API_VERSIONS, 0, &[]);
    let mut stream = connect(lab)?;
    stream.write_all(&whole[..7])?;
    check_serves(lab)?;
    stream.write_all(&whole[7..])?;
    reply(&mut stream)?;
    stream.write_all(&whole[..9])?;
    drop(stream);
    check_serves(lab)
}
