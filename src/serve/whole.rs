//! Reads a whole body into memory, bounded.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http_body::Body;
use http_body_util::BodyExt as _;
use memmap2::MmapMut;

use super::held::{Full, Held, SMALL};
use super::respond::Trouble;

/// Bytes by which a body's place grows.
const PIECE: usize = 8 << 10;

/// Reads a whole body, bounded in size, in time and by the budget. The bytes count for as long as anything refers to them.
///
/// # Errors
/// When the body is too long, stops, breaks off, or would be more than may be held.
pub async fn read<B>(body: B, limit: usize, time: Duration, mut held: Held) -> Result<Bytes, Trouble>
where
    B: Body<Data = Bytes> + Unpin,
{
    let too_large = || Trouble::BodyTooLarge { limit };
    if body.size_hint().lower() > limit as u64 {
        return Err(too_large());
    }
    let gather = async {
        let mut body = body;
        let mut gathered = Gathered::default();
        while let Some(frame) = body.frame().await {
            let Ok(data) = frame.map_err(|_| Trouble::BodyBroken)?.into_data() else { continue };
            if gathered.length + data.len() > limit {
                return Err(too_large());
            }
            gathered.push(&data, &mut held).map_err(Trouble::Full)?;
        }
        Ok(gathered.join())
    };
    let bytes = tokio::time::timeout(time, gather).await.unwrap_or(Err(Trouble::BodyStalled))?;
    Ok(if bytes.is_empty() { bytes } else { Bytes::from_owner(Counted { bytes, _held: held }) })
}

/// Bytes, and what they count for.
struct Counted {
    bytes: Bytes,
    _held: Held,
}

impl AsRef<[u8]> for Counted {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

/// Bytes that were copied out of the connection's buffers: a slice of one byte would keep a whole buffer.
///
/// What is small lies in pieces on the heap. What grows larger lies in a mapping of its own, which goes back to the system the moment
/// it is dropped; a heap keeps what it was once given.
#[derive(Default)]
struct Gathered {
    pieces: Vec<BytesMut>,
    mapping: Option<MmapMut>,
    length: usize,
}

impl Gathered {
    fn push(&mut self, mut data: &[u8], held: &mut Held) -> Result<(), Full> {
        while !data.is_empty() {
            if self.length >= SMALL || self.mapping.is_some() {
                return self.push_mapped(data, held);
            }
            if self.pieces.last().is_none_or(|piece| piece.len() >= PIECE) {
                held.grow(PIECE)?;
                self.pieces.push(BytesMut::with_capacity(PIECE));
            }
            let Some(piece) = self.pieces.last_mut() else { return Ok(()) };
            let (now, later) = data.split_at(data.len().min(PIECE - piece.len()));
            piece.extend_from_slice(now);
            self.length += now.len();
            data = later;
        }
        Ok(())
    }

    fn push_mapped(&mut self, data: &[u8], held: &mut Held) -> Result<(), Full> {
        let end = self.length + data.len();
        if self.mapping.as_ref().is_none_or(|mapping| mapping.len() < end) {
            self.map(end, held)?;
        }
        let room = self.mapping.as_mut().and_then(|mapping| mapping.get_mut(self.length..end)).ok_or(Full::All)?;
        room.copy_from_slice(data);
        self.length = end;
        Ok(())
    }

    /// Moves everything to a larger mapping. All of it is counted: the system may give huge pages.
    fn map(&mut self, least: usize, held: &mut Held) -> Result<(), Full> {
        let before = self.mapping.as_ref().map_or(self.pieces.len() * PIECE, |mapping| mapping.len());
        let size = least.next_power_of_two().max(2 * SMALL);
        held.grow(size.saturating_sub(before))?;
        let mut larger = MmapMut::map_anon(size).map_err(|_| Full::All)?;
        let mut at = 0;
        let known = self.mapping.as_deref().into_iter().chain(self.pieces.iter().map(|piece| &**piece));
        for part in known {
            let part = part.get(..self.length.min(part.len())).unwrap_or_default();
            if let Some(place) = larger.get_mut(at..at + part.len()) {
                place.copy_from_slice(part);
                at += part.len();
            }
        }
        self.pieces.clear();
        self.mapping = Some(larger);
        Ok(())
    }

    /// One piece of memory. What is small is copied together, and each piece goes as it was copied.
    fn join(mut self) -> Bytes {
        if let Some(mapping) = self.mapping {
            return Bytes::from_owner(mapping).slice(..self.length);
        }
        if self.pieces.len() <= 1 {
            return self.pieces.pop().unwrap_or_default().freeze();
        }
        let mut whole = BytesMut::with_capacity(self.length);
        for piece in self.pieces {
            whole.extend_from_slice(&piece);
        }
        whole.freeze()
    }
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;
    use std::sync::Arc;

    use super::*;
    use crate::serve::held::{Budget, Client};

    #[test]
    fn a_body_comes_out_as_it_went_in_however_it_is_cut() {
        let body: Vec<u8> = (0..600_000_u32).map(|at| u8::try_from(at % 251).unwrap()).collect();
        for cut in [100, PIECE - 1, PIECE, PIECE + 1, SMALL, SMALL + 1, 200_000, 600_000] {
            for length in [0, 1, PIECE, SMALL - 1, SMALL, SMALL + 1, 2 * SMALL, 2 * SMALL + 1, 600_000] {
                let budget = Arc::new(Budget::default());
                let mut held = budget.open(Some(Client::of(IpAddr::from([192, 0, 2, 1]))));
                let mut gathered = Gathered::default();
                for piece in body[..length].chunks(cut) {
                    gathered.push(piece, &mut held).unwrap();
                }
                let counted = usize::try_from(budget.gauge.get()).unwrap();
                assert!(counted >= length && counted <= (2 * length).max(PIECE), "{length} by {cut}: {counted}");
                assert_eq!(length <= SMALL, !held.large, "{length} by {cut}");
                assert!(gathered.join() == body[..length], "{length} by {cut}");
            }
        }
    }
}
