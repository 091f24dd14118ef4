//! The demo: a provider, an app and the sidecar between them, all on loopback with throw-away keys.

pub mod mint;
