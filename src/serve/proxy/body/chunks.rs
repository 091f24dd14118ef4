//! Where a chunked multipart body may be cut.
//!
//! Some app servers hand their app a chunked body with the sizes of its chunks left in it (thin with `--threaded`). To such an app
//! each chunk begins on a line of its own, so a client that chose where chunks end could write boundaries and heads that are none
//! in the body itself. So the pieces that the client sent are not kept: a chunk ends within the content of a part, and the next
//! one does not begin with a hyphen, as every boundary does.

use std::ops::Range;

use bytes::{Bytes, BytesMut};

/// What may wait for a place to cut: the longest head of a part, and as many hyphens as no honest body has in a row.
const MOST_WAITING: usize = 64 * 1024;

/// A body that is divided into new chunks.
#[derive(Debug, Default)]
pub struct Chunks {
    /// What waits for a place to cut.
    waiting: BytesMut,
    /// Where in the body `waiting` begins.
    begins: u64,
    /// Up to where places were looked for.
    looked_at: u64,
    /// The last place that was found.
    cut: u64,
}

/// No place to cut was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NoPlace;

impl Chunks {
    /// Bytes that wait.
    pub fn waiting(&self) -> usize {
        self.waiting.len()
    }

    /// Takes the next piece, and gives what may go on as one chunk. `gaps`: where in the body the last cut may be, as far as is known.
    ///
    /// # Errors
    /// When too much waits.
    pub fn take(&mut self, piece: &[u8], gaps: Range<u64>) -> Result<Option<Bytes>, NoPlace> {
        self.waiting.extend_from_slice(piece);
        let at = |place: u64| usize::try_from(place.saturating_sub(self.begins)).unwrap_or(usize::MAX);
        let first = at(gaps.start.max(self.looked_at).max(self.begins + 1));
        let candidates = self.waiting.get(first..self.waiting.len().min(at(gaps.end)));
        if let Some(last) = candidates.and_then(|bytes| bytes.iter().rposition(|byte| *byte != b'-')) {
            self.cut = self.begins + (first + last) as u64;
        }
        // The last place may be behind what has arrived.
        self.looked_at = self.looked_at.max(gaps.end.min(self.begins + self.waiting.len() as u64));
        let ready = at(self.cut);
        if ready == 0 {
            return if self.waiting.len() > MOST_WAITING { Err(NoPlace) } else { Ok(None) };
        }
        self.begins = self.cut;
        Ok(Some(self.waiting.split_to(ready.min(self.waiting.len())).freeze()))
    }

    /// The body has ended: what still waits.
    pub fn end(&mut self) -> Option<Bytes> {
        (!self.waiting.is_empty()).then(|| self.waiting.split().freeze())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::pipeline::capture::watch::{BodyScan, Seeks, Sighting};
    use crate::pipeline::reading::media::readings;

    const HEAD: &str = "--XX\r\nContent-Disposition: form-data; name=\"a\"\r\n\r\n";

    /// The chunks of a body that is sent in these pieces; `None` where it is refused.
    fn chunks(pieces: &[&[u8]]) -> Option<Vec<Bytes>> {
        let seeks =
            Seeks { login: Some(["https://ours.example".to_owned()].into()), every_body: true, ..Seeks::default() };
        let kind: [&[u8]; 1] = [b"multipart/form-data; boundary=XX"];
        let mut scan = BodyScan::new(&seeks, &readings(kind.into_iter())).ok().flatten()?;
        let (mut chunks, mut out) = (Chunks::default(), Vec::new());
        for piece in pieces {
            if scan.read(piece) != Sighting::Clear {
                return None;
            }
            out.extend(chunks.take(piece, scan.gaps()?).ok()?);
        }
        out.extend(chunks.end());
        Some(out)
    }

    #[test]
    fn no_chunk_begins_in_a_head_or_with_a_boundary() {
        let body = format!("{HEAD}x--XX\r\n");
        assert_eq!(chunks(&[body.as_bytes()]), None, "a boundary within a line");
        let body = format!("{HEAD}{}\r\n{HEAD}x\r\n--XX--\r\n", "y--X ".repeat(40));
        let (whole, places) = (body.as_bytes(), 1..body.len());
        for at in places.clone() {
            for to in places.clone().filter(|to| *to > at && to - at < 9) {
                let pieces = [&whole[..at], &whole[at..to], &whole[to..]];
                let chunks = chunks(&pieces).unwrap();
                assert_eq!(chunks.concat(), whole);
                let mut begins = 0;
                for chunk in &chunks {
                    let before = &whole[..begins];
                    let in_head =
                        memchr::memmem::rfind(before, b"--XX").map(|head| &before[head + 4..]).is_some_and(|head| {
                            !head.starts_with(b"--") && memchr::memmem::find(head, b"\r\n\r\n").is_none()
                        });
                    assert!(
                        begins == 0 || !(in_head || chunk.starts_with(b"-")),
                        "cut at {begins}, pieces at {at} and {to}"
                    );
                    begins += chunk.len();
                }
            }
        }
    }

    #[test]
    fn content_goes_on_as_it_arrives() {
        let mut pieces = vec![HEAD.as_bytes()];
        let content = [b'x'; 100];
        pieces.extend(std::iter::repeat_n(&content[..], 50));
        let chunks = chunks(&pieces).unwrap();
        assert!(chunks.len() >= 50, "{} chunks", chunks.len());
        assert!(chunks.last().unwrap().len() < 10);
    }

    #[test]
    fn hyphens_wait_for_their_end_and_not_for_ever() {
        let (few, many) = ("-".repeat(MOST_WAITING / 2), "-".repeat(MOST_WAITING + 100));
        let sent = |hyphens: &str| {
            let body = format!("{HEAD}a{hyphens}b");
            chunks(&body.as_bytes().chunks(1000).collect::<Vec<_>>()).map(|chunks| chunks.concat() == body.as_bytes())
        };
        assert_eq!(sent(&few), Some(true));
        assert_eq!(sent(&many), None);
    }

    proptest! {
        #[test]
        fn nothing_is_lost_or_moved(pieces in prop::collection::vec("[-aX\r\n]{0,20}", 0..30)) {
            let mut bodies = vec![HEAD.to_owned()];
            bodies.extend(pieces);
            let pieces: Vec<&[u8]> = bodies.iter().map(String::as_bytes).collect();
            if let Some(chunks) = chunks(&pieces) {
                prop_assert_eq!(chunks.concat(), bodies.concat().into_bytes());
                prop_assert!(chunks.iter().skip(1).all(|chunk| !chunk.starts_with(b"-")));
            }
        }
    }
}
