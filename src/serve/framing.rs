//! How a request states its length.

/// Why a request's framing cannot be passed on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Framing {
    #[error("a transfer encoding other than one `chunked`")]
    TransferEncoding,
    #[error("both `Content-Length` and `Transfer-Encoding`")]
    TwoLengths,
    #[error("several differing `Content-Length` fields")]
    ContentLength,
}
