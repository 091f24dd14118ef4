//! loginsync: a reverse proxy in front of an app that syncs group membership and roles at every login.
//!
//! The path of a login is one function, [`login::login`], and the modules are listed in the order in which it meets them.

#![forbid(unsafe_code)]

pub mod explain;
pub mod forecast;
pub mod lint;
pub mod login;

pub mod clock;
pub mod config;
pub mod ports;
pub mod telemetry;

pub mod serve;

pub mod app;
pub mod cli;

pub use loginsync_pipeline as pipeline;
