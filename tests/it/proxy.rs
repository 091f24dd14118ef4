//! The proxy through its real listener, between raw bytes and raw bytes.

mod framing;
mod headers;
mod limits;
mod logins;
mod paths;
mod streams;
mod upstream;
