//! Small messages in one piece.
//!
//! hyper hands over the head of a message and its body as two slices. On Linux one buffer for `send` costs less than two for
//! `writev`, by a twentieth of a whole proxied request, so what is small is copied together first.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll};

use hyper::rt::{Read, ReadBufCursor, Write};

/// Bytes up to which slices are copied together.
const SMALL: usize = 4096;

/// A stream whose small messages go out in one piece.
pub struct Gathering<S>(pub S);

impl<S: Write + Unpin> Gathering<S> {
    fn poll_write_together(&mut self, context: &mut Context<'_>, slices: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        let mut gathered = Vec::with_capacity(SMALL);
        for slice in slices {
            gathered.extend_from_slice(slice);
        }
        Pin::new(&mut self.0).poll_write(context, &gathered)
    }
}

impl<S: Write + Unpin> Write for Gathering<S> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match slices {
            [only] => Pin::new(&mut self.0).poll_write(context, only),
            _ if slices.iter().map(|slice| slice.len()).sum::<usize>() <= SMALL => {
                self.poll_write_together(context, slices)
            }
            _ => Pin::new(&mut self.0).poll_write_vectored(context, slices),
        }
    }

    fn is_write_vectored(&self) -> bool {
        self.0.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(context)
    }
}

impl<S: Read + Unpin> Read for Gathering<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(context, buffer)
    }
}

#[cfg(test)]
mod tests {
    use std::task::Waker;

    use super::*;

    /// Takes everything, and notes in how many slices it came.
    #[derive(Default)]
    struct Sink(Vec<(usize, Vec<u8>)>);

    impl Write for Sink {
        fn poll_write(mut self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
            self.0.push((1, bytes.to_vec()));
            Poll::Ready(Ok(bytes.len()))
        }

        fn poll_write_vectored(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
            slices: &[IoSlice<'_>],
        ) -> Poll<io::Result<usize>> {
            let bytes = slices.iter().flat_map(|slice| slice.iter().copied()).collect::<Vec<u8>>();
            let length = bytes.len();
            self.0.push((slices.len(), bytes));
            Poll::Ready(Ok(length))
        }

        fn is_write_vectored(&self) -> bool {
            true
        }

        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }

        fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
    }

    #[test]
    fn what_is_small_goes_out_in_one_piece_and_nothing_is_lost() {
        for (lengths, pieces) in [
            (&[10, 20][..], 1),
            (&[10, SMALL - 10], 1),
            (&[10, SMALL - 9], 2),
            (&[0, 3 * SMALL, 1], 3),
            (&[3 * SMALL], 1),
            (&[], 1),
        ] {
            let texts: Vec<Vec<u8>> = lengths.iter().zip(b'a'..).map(|(length, byte)| vec![byte; *length]).collect();
            let slices: Vec<IoSlice<'_>> = texts.iter().map(|text| IoSlice::new(text)).collect();
            let mut stream = Gathering(Sink::default());
            let mut context = Context::from_waker(Waker::noop());
            let written = Pin::new(&mut stream).poll_write_vectored(&mut context, &slices);
            assert!(matches!(written, Poll::Ready(Ok(length)) if length == texts.concat().len()), "{lengths:?}");
            assert_eq!(stream.0.0, [(pieces, texts.concat())], "{lengths:?}");
        }
    }
}
