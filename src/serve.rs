//! What listens: the proxy in front of the app.
//!
//! [`proxy`] decides what a request is and where it goes, [`listen`] takes connections, [`respond`] answers in the app's
//! place.

pub mod listen;
pub mod proxy;
pub mod respond;
