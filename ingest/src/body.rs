//! A request's body: read within bounds, and inflated within bounds, whatever the client sends.

use std::io;

use async_compression::tokio::bufread::{GzipDecoder, ZstdDecoder};
use async_compression::zstd::DParameter;
use axum::body::Body;
use axum::http::HeaderMap;
use axum::http::header::CONTENT_ENCODING;
use bytes::{Bytes, BytesMut};
use futures_util::TryStreamExt;
use http_body_util::BodyExt;
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio_util::io::StreamReader;

use crate::budget::{Budget, Share};
use crate::refusal::Refusal;

/// A zstd frame may ask its reader for a window of gigabytes; RFC 8878 has readers support 8 MiB, which is 2^23.
const ZSTD_WINDOW_LOG_MAX: u32 = 23;
/// How much is inflated at a time.
const CHUNK_BYTES: usize = 64 << 10;

/// Bounds of one body.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bounds {
    pub(crate) body_bytes_max: usize,
    pub(crate) inflated_bytes_max: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Encoding {
    Identity,
    Gzip,
    Zstd,
}

impl Encoding {
    fn of(headers: &HeaderMap) -> Result<Self, Refusal> {
        let mut values = headers.get_all(CONTENT_ENCODING).iter();
        let (Some(value), None) = (values.next(), values.next()) else {
            return match headers.contains_key(CONTENT_ENCODING) {
                true => Err(Refusal::Encoding("several at once".to_owned())),
                false => Ok(Self::Identity),
            };
        };
        match value
            .to_str()
            .map(str::trim)
            .map(str::to_ascii_lowercase)
            .as_deref()
        {
            Ok("identity" | "") => Ok(Self::Identity),
            Ok("gzip" | "x-gzip") => Ok(Self::Gzip),
            Ok("zstd") => Ok(Self::Zstd),
            _ => Err(Refusal::Encoding(
                String::from_utf8_lossy(value.as_bytes()).into_owned(),
            )),
        }
    }
}

/// Reads the whole body. `share` grows with it, so that all bodies together stay within `budget`.
pub(crate) async fn read(
    headers: &HeaderMap,
    body: Body,
    bounds: Bounds,
    budget: &Budget,
    share: &mut Share,
) -> Result<Bytes, Refusal> {
    let encoding = Encoding::of(headers)?;
    if declared_bytes(headers).is_some_and(|bytes| bounds.body_bytes_max < bytes) {
        return Err(Refusal::TooLarge {
            bytes_max: bounds.body_bytes_max,
        });
    }
    if encoding == Encoding::Identity {
        return collect(body, bounds.body_bytes_max, budget, share).await;
    }
    let mut taken = 0;
    let frames = TryStreamExt::map_err(body.into_data_stream(), io::Error::other);
    let frames = frames.and_then(move |frame| {
        taken += frame.len();
        let fits = taken <= bounds.body_bytes_max;
        std::future::ready(if fits {
            Ok(frame)
        } else {
            Err(io::Error::other(TooLong))
        })
    });
    let reader = StreamReader::new(Box::pin(frames));
    match encoding {
        Encoding::Gzip => {
            let mut decoder = GzipDecoder::new(reader);
            // A client may send several members one after another; RFC 1952 makes them one stream.
            decoder.multiple_members(true);
            inflate("gzip", decoder, bounds, budget, share).await
        }
        _ => {
            let window = DParameter::window_log_max(ZSTD_WINDOW_LOG_MAX);
            let decoder = ZstdDecoder::with_params(reader, &[window]);
            inflate("zstd", decoder, bounds, budget, share).await
        }
    }
}

/// The size that the client says it sends, if it says.
fn declared_bytes(headers: &HeaderMap) -> Option<usize> {
    headers
        .get(axum::http::header::CONTENT_LENGTH)?
        .to_str()
        .ok()?
        .parse()
        .ok()
}

async fn collect(
    mut body: Body,
    bytes_max: usize,
    budget: &Budget,
    share: &mut Share,
) -> Result<Bytes, Refusal> {
    let mut whole = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| broken("plain text", &error))?;
        let Ok(data) = frame.into_data() else {
            continue;
        };
        if bytes_max < whole.len() + data.len() {
            return Err(Refusal::TooLarge { bytes_max });
        }
        if !budget.cover(share, whole.len() + data.len()) {
            return Err(Refusal::Busy);
        }
        whole.extend_from_slice(&data);
    }
    Ok(whole.freeze())
}

async fn inflate(
    encoding: &'static str,
    mut reader: impl AsyncRead + Unpin,
    bounds: Bounds,
    budget: &Budget,
    share: &mut Share,
) -> Result<Bytes, Refusal> {
    let mut whole = BytesMut::new();
    loop {
        if !budget.cover(share, whole.len() + CHUNK_BYTES) {
            return Err(Refusal::Busy);
        }
        whole.reserve(CHUNK_BYTES);
        let read = reader.read_buf(&mut whole).await.map_err(|error| {
            match error.get_ref().is_some_and(|cause| cause.is::<TooLong>()) {
                true => Refusal::TooLarge {
                    bytes_max: bounds.body_bytes_max,
                },
                false => broken(encoding, &error),
            }
        })?;
        if read == 0 {
            return Ok(whole.freeze());
        }
        if bounds.inflated_bytes_max < whole.len() {
            return Err(Refusal::InflatesTooLarge {
                bytes_max: bounds.inflated_bytes_max,
            });
        }
    }
}

fn broken(encoding: &'static str, error: &dyn std::error::Error) -> Refusal {
    Refusal::BrokenBody {
        encoding,
        reason: error.to_string(),
    }
}

/// Marks a compressed body that goes on beyond its bound.
#[derive(Debug, thiserror::Error)]
#[error("longer than its bound")]
struct TooLong;
