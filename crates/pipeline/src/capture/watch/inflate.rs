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
    /// It is in no coding, whatever the label says.
    Other,
    /// It begins in a coding, and goes on otherwise: readers differ in what they make of it.
    Broken,
    /// It grows beyond what is looked through.
    TooLong,
}

/// Inflates one body.
#[derive(Debug)]
pub struct Inflate {
    coding: Coding,
    /// The first two bytes, by which some tell the format whatever the label says (Koa).
    opening: Vec<u8>,
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
        Self { coding, opening: Vec::new(), decoder: None, read: 0, written: 0 }
    }

    /// Inflates the next piece, and hands on what comes of it bit by bit, as long as `take` says so.
    ///
    /// # Errors
    /// Why it is not read on.
    pub fn read(&mut self, piece: &[u8], mut take: impl FnMut(&[u8]) -> bool) -> Result<(), Undone> {
        let mut begun = Vec::new();
        if self.decoder.is_none() {
            self.opening.extend_from_slice(piece);
            if self.opening.len() < 2 {
                return Ok(());
            }
            begun = std::mem::take(&mut self.opening);
            self.decoder = Decoder::of(&begun, self.coding);
        }
        let piece = if begun.is_empty() { piece } else { begun.as_slice() };
        let Some(decoder) = &mut self.decoder else { return Err(Undone::Other) };
        for step in piece.chunks(STEP) {
            let inflated = match decoder.inflate(step) {
                Ok(inflated) => inflated,
                // Bare deflate has no sign of its own.
                Err(_) if self.written == 0 && matches!(decoder, Decoder::Bare(_)) => return Err(Undone::Other),
                Err(_) => return Err(Undone::Broken),
            };
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
    /// By the first two bytes (RFC 1952 section 2.3.1, RFC 1950 section 2.2), else by the label.
    fn of(opening: &[u8], coding: Coding) -> Option<Self> {
        match (opening, coding) {
            ([0x1f, 0x8b, ..], _) => Some(Self::Gzip(MultiGzDecoder::new(Vec::new()))),
            ([first, second, ..], _)
                if first & 0x0f == 8 && u16::from_be_bytes([*first, *second]).is_multiple_of(31) =>
            {
                Some(Self::Zlib(ZlibDecoder::new(Vec::new())))
            }
            (_, Coding::Deflate) => Some(Self::Bare(DeflateDecoder::new(Vec::new()))),
            (_, Coding::Gzip) => None,
        }
    }

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

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use flate2::Compression;
    use flate2::write::GzEncoder;

    use super::*;

    #[test]
    fn a_body_may_grow_by_a_ratio_and_a_short_one_by_any() {
        let free = usize::try_from(MOST_FREE).unwrap();
        for (length, level, expected) in [
            (free, Compression::best(), Ok(())),
            (2 * free, Compression::best(), Err(Undone::TooLong)),
            // As long as it was sent.
            (free + 1, Compression::none(), Ok(())),
        ] {
            let mut encoder = GzEncoder::new(Vec::new(), level);
            encoder.write_all(&vec![b'a'; length]).unwrap();
            let body = encoder.finish().unwrap();
            let mut taken = 0;
            let read = Inflate::new(Coding::Gzip).read(&body, |text| {
                taken += text.len();
                true
            });
            assert_eq!(read, expected, "{length} bytes in {}", body.len());
            assert!(read.is_err() || taken == length, "{taken} of {length}");
        }
    }
}
