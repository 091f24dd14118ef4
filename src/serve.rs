//! What listens: the proxy in front of the app, and the operator's pages.
//!
//! [`proxy`] decides what a request is and where it goes, [`listen`] takes connections, [`respond`] answers in the app's
//! place; [`relay`] is the app's own way to its provider.

pub mod access;
pub mod admin;
mod alarm;
pub mod arriving;
pub mod assertion;
pub mod bearer;
pub mod cookies;
pub mod counters;
pub mod door;
pub mod forward_auth;
pub mod framing;
mod gather;
pub mod held;
pub mod identity;
pub mod listen;
pub mod peer;
pub mod proxy;
mod proxy_protocol;
pub mod relay;
pub mod relying_party;
pub mod respond;
pub mod session;
pub mod side;
pub mod tls;
mod whole;
