//! Decompression with a bound: a few bytes that announce gigabytes must not end the process.

use std::io::{self, Read};

use bytes::{Buf, Bytes};

use super::batch::Codec;

/// The records of one batch, decompressed, are no more than this.
const PLAIN_BYTES_MAX: usize = 64 << 20;
/// How the stream of Kafka's Java client starts; then come blocks, each after its length.
const XERIAL: &[u8] = b"\x82SNAPPY\0";
const XERIAL_HEADER_BYTES: usize = 16;
/// A copy of 64 bytes, the longest that snappy knows, is written in two or more.
const SNAPPY_RATIO_MAX: usize = 64;

/// The records of a batch as they were before `codec`.
///
/// # Errors
/// If they are not a stream of the codec, or too much comes out of it.
pub(super) fn inflate(codec: Codec, body: Bytes) -> io::Result<Bytes> {
    // The empty batches that compaction leaves behind are not even a frame of their codec.
    if body.is_empty() {
        return Ok(body);
    }
    let plain = match codec {
        Codec::None => return Ok(body),
        Codec::Gzip => read_all(flate2::read::MultiGzDecoder::new(body.reader()))?,
        Codec::Snappy => snappy(&body)?,
        Codec::Lz4 => read_all(lz4::Decoder::new(body.reader())?)?,
        Codec::Zstd => read_all(zstd::Decoder::with_buffer(&body[..])?)?,
    };
    Ok(plain.into())
}

fn read_all(from: impl Read) -> io::Result<Vec<u8>> {
    let mut plain = vec![];
    from.take(PLAIN_BYTES_MAX as u64 + 1)
        .read_to_end(&mut plain)?;
    if plain.len() > PLAIN_BYTES_MAX {
        return Err(too_much());
    }
    Ok(plain)
}

/// Blocks as Java writes them, or one as librdkafka does.
fn snappy(body: &[u8]) -> io::Result<Vec<u8>> {
    let mut plain = vec![];
    if !body.starts_with(XERIAL) {
        snappy_block(body, &mut plain)?;
        return Ok(plain);
    }
    let mut rest = body.get(XERIAL_HEADER_BYTES..).ok_or_else(ends_early)?;
    while !rest.is_empty() {
        let length = rest.try_get_u32().map_err(|_| ends_early())? as usize;
        let (block, others) = rest.split_at_checked(length).ok_or_else(ends_early)?;
        snappy_block(block, &mut plain)?;
        rest = others;
    }
    Ok(plain)
}

fn snappy_block(block: &[u8], plain: &mut Vec<u8>) -> io::Result<()> {
    let bytes = snap::raw::decompress_len(block)?;
    // A block starts with the length that it says it has: no more room is made than its bytes can fill.
    if bytes > PLAIN_BYTES_MAX - plain.len() || bytes / SNAPPY_RATIO_MAX > block.len() {
        return Err(too_much());
    }
    let from = plain.len();
    plain.resize(from + bytes, 0);
    snap::raw::Decoder::new().decompress(block, &mut plain[from..])?;
    Ok(())
}

fn too_much() -> io::Error {
    io::Error::other(format!("more than {PLAIN_BYTES_MAX} bytes come out of it"))
}

fn ends_early() -> io::Error {
    io::Error::from(io::ErrorKind::UnexpectedEof)
}

#[cfg(test)]
mod tests {
    use bytes::{BufMut, BytesMut};
    use kafka_protocol::compression::{Compressor, Gzip, Lz4, Snappy, Zstd};

    use super::*;

    const ALL: [Codec; 4] = [Codec::Gzip, Codec::Snappy, Codec::Lz4, Codec::Zstd];

    fn deflate(codec: Codec, plain: &[u8]) -> Bytes {
        let mut out = BytesMut::new();
        let all = |into: &mut BytesMut| {
            into.put_slice(plain);
            Ok(())
        };
        match codec {
            Codec::None => all(&mut out),
            Codec::Gzip => Gzip::compress(&mut out, all),
            Codec::Snappy => Snappy::compress(&mut out, all),
            Codec::Lz4 => Lz4::compress(&mut out, all),
            Codec::Zstd => Zstd::compress(&mut out, all),
        }
        .unwrap();
        out.freeze()
    }

    #[test]
    fn what_another_encoder_wrote_comes_out_whole() {
        let plain: Vec<u8> = (0..200_000_u32).map(|i| (i / 7) as u8).collect();
        for codec in ALL {
            let body = deflate(codec, &plain);
            assert_eq!(inflate(codec, body).unwrap(), plain, "{codec:?}");
        }
        let raw = snap::raw::Encoder::new().compress_vec(&plain).unwrap();
        assert_eq!(inflate(Codec::Snappy, raw.into()).unwrap(), plain);
        assert_eq!(inflate(Codec::Lz4, Bytes::new()).unwrap(), Bytes::new());
    }

    #[test]
    fn a_stream_that_is_cut_does_not_pass_for_the_whole() {
        // What follows the last block of an LZ4 frame: an empty one and a checksum.
        let end_bytes = 8;
        let plain = vec![7; 1000];
        for codec in ALL {
            let body = deflate(codec, &plain);
            for cut in 1..body.len() - end_bytes {
                let part = inflate(codec, body.slice(..cut));
                assert!(
                    part.is_err() || part.unwrap() != plain,
                    "{codec:?} at {cut}"
                );
            }
        }
    }

    #[test]
    fn no_more_comes_out_than_the_bound() {
        let most = vec![0; PLAIN_BYTES_MAX];
        let more = vec![0; PLAIN_BYTES_MAX + 1];
        for codec in ALL {
            let fits = inflate(codec, deflate(codec, &most)).unwrap();
            assert_eq!(fits.len(), PLAIN_BYTES_MAX, "{codec:?}");
            let error = inflate(codec, deflate(codec, &more)).unwrap_err();
            assert!(
                error.to_string().contains("more than"),
                "{codec:?}: {error}"
            );
        }
    }

    #[test]
    fn a_block_of_snappy_makes_no_room_for_what_it_only_announces() {
        // A length of 64 MiB, and nothing.
        let block: &[u8] = &[0x80, 0x80, 0x80, 0x20];
        assert_eq!(snap::raw::decompress_len(block).unwrap(), PLAIN_BYTES_MAX);
        let mut xerial = BytesMut::from(&b"\x82SNAPPY\0\0\0\0\x01\0\0\0\x01\0\0\0\x04"[..]);
        xerial.put_slice(block);
        for body in [Bytes::from_static(block), xerial.freeze()] {
            let error = inflate(Codec::Snappy, body).unwrap_err();
            assert!(error.to_string().contains("more than"), "{error}");
        }
    }
}
