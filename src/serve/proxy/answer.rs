//! What comes back: the app's answer as it arrives, or one of ours.

use std::collections::VecDeque;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};

use super::body::{Stall, Stop};
use super::upstream::AppBody;

/// What the client gets for a body. The guard goes when the body does, so a request counts as long as it lasts.
pub struct Answer<G> {
    content: Content,
    _guard: G,
}

enum Content {
    Page(Option<Bytes>),
    /// The app's, as it arrives; behind what was already looked at, if anything was.
    App {
        inner: AppBody,
        stall: Stall,
        first: VecDeque<Bytes>,
    },
}

impl<G> Answer<G> {
    pub fn page(bytes: Bytes, guard: G) -> Self {
        Self { content: Content::Page(Some(bytes)), _guard: guard }
    }

    pub fn app(inner: AppBody, limit: Duration, guard: G) -> Self {
        Self { content: Content::App { inner, stall: Stall::new(limit), first: VecDeque::new() }, _guard: guard }
    }

    pub fn app_after(first: VecDeque<Bytes>, inner: AppBody, limit: Duration, guard: G) -> Self {
        let content = Content::App { inner, stall: Stall::new(limit), first };
        Self { content, _guard: guard }
    }
}

impl<G: Unpin> Body for Answer<G> {
    type Data = Bytes;
    type Error = Stop;

    fn poll_frame(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Stop>>> {
        match &mut self.get_mut().content {
            Content::Page(bytes) => {
                Poll::Ready(bytes.take().filter(|bytes| !bytes.is_empty()).map(|bytes| Ok(Frame::data(bytes))))
            }
            Content::App { inner, stall, first } => {
                if let Some(bytes) = first.pop_front() {
                    return Poll::Ready(Some(Ok(Frame::data(bytes))));
                }
                match Pin::new(inner).poll_frame(context) {
                    Poll::Ready(frame) => {
                        stall.moved();
                        Poll::Ready(frame.map(|frame| frame.map_err(|_| Stop::Broken)))
                    }
                    Poll::Pending => {
                        ready!(stall.poll(context));
                        tracing::warn!(
                            "an answer of the app made no progress for `app.stream_timeout` and was cut off"
                        );
                        Poll::Ready(Some(Err(Stop::Stalled)))
                    }
                }
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.content {
            Content::Page(bytes) => bytes.as_ref().is_none_or(Bytes::is_empty),
            Content::App { inner, first, .. } => inner.is_end_stream() && first.is_empty(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.content {
            Content::Page(bytes) => SizeHint::with_exact(bytes.as_ref().map_or(0, |bytes| bytes.len() as u64)),
            Content::App { inner, first, .. } => {
                let held = first.iter().map(|bytes| bytes.len() as u64).sum::<u64>();
                inner.size_hint().exact().map_or_else(SizeHint::new, |rest| SizeHint::with_exact(rest + held))
            }
        }
    }
}
