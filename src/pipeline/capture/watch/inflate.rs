//! Inflates a body as it goes by, for apps that do so whatever its media type is (aiohttp; Koa for types that it takes for JSON).

use std::io::Write as _;

use flate2::write::{DeflateDecoder, MultiGzDecoder, ZlibDecoder};

/// A content coding that is undone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Coding {
    Gzip,
    /// RFC 9110 section 8.4.1.2: zlib's format, and to many readers its bare content.
    Deflate,
}

/// A body that grows beyond both is refused: looking through it would cost more than sending it.
const MOST_RATIO: u64 = 100;
const MOST_FREE: u64 = 4 * 1024 * 1024;

/// How much of a piece is inflated at once, in bytes.
const STEP: usize = 1024;

/// Why a body is not inflated on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Undone {
    /// It is not in the coding.
    Broken,
    /// It grows beyond what is looked through.
    TooLong,
}

/// Inflates one body.
#[derive(Debug)]
pub struct Inflate {
    coding: Coding,
    decoder: Option<Decoder>,
    read: u64,
    written: u64,
}

#[derive(Debug)]
enum Decoder {
    Gzip(MultiGzDecoder<Vec<u8>>),
    Zlib(ZlibDecoder<Vec<u8>>),
    Bare(DeflateDecoder<Vec<u8>>),
}

impl Inflate {
    pub fn new(coding: Coding) -> Self {
        Self { coding, decoder: None, read: 0, written: 0 }
    }

    /// Inflates the next piece, and hands on what comes of it bit by bit, as long as `take` says so.
    ///
    /// # Errors
    /// Why it is not read on.
    pub fn read(&mut self, piece: &[u8], mut take: impl FnMut(&[u8]) -> bool) -> Result<(), Undone> {
        let coding = self.coding;
        let Some(first) = piece.first() else { return Ok(()) };
        let decoder = self.decoder.get_or_insert_with(|| match coding {
            Coding::Gzip => Decoder::Gzip(MultiGzDecoder::new(Vec::new())),
            Coding::Deflate if first & 0x0f == 8 => Decoder::Zlib(ZlibDecoder::new(Vec::new())),
            Coding::Deflate => Decoder::Bare(DeflateDecoder::new(Vec::new())),
        });
        for step in piece.chunks(STEP) {
            let inflated = decoder.inflate(step).map_err(|_| Undone::Broken)?;
            self.read += step.len() as u64;
            self.written += inflated.len() as u64;
            if self.written > MOST_FREE && self.written > MOST_RATIO * self.read {
                return Err(Undone::TooLong);
            }
            if !take(&inflated) {
                break;
            }
        }
        Ok(())
    }
}

impl Decoder {
    fn inflate(&mut self, piece: &[u8]) -> std::io::Result<Vec<u8>> {
        Ok(match self {
            Self::Gzip(decoder) => {
                decoder.write_all(piece)?;
                decoder.flush()?;
                std::mem::take(decoder.get_mut())
            }
            Self::Zlib(decoder) => {
                decoder.write_all(piece)?;
                decoder.flush()?;
                std::mem::take(decoder.get_mut())
            }
            Self::Bare(decoder) => {
                decoder.write_all(piece)?;
                decoder.flush()?;
                std::mem::take(decoder.get_mut())
            }
        })
    }
}
