//! What reaches out: each file has a trait at its top, and its real implementations next to it.

pub mod back_channel;
pub mod catalogue;
pub mod client_credentials;
pub mod console;
pub mod directory;
pub mod http;
pub mod kept;
pub mod keys;
pub mod outbox;
pub mod publish;
pub mod rules;
pub mod sessions;
pub mod store;
pub mod token_endpoint;

use std::future::Future;
use std::pin::Pin;

/// A boxed future, so that a port can be chosen at run time.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;
