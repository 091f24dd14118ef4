//! The decisions of a login, tested from outside, in one binary: it links once.

#![allow(
    clippy::unwrap_used,
    clippy::unwrap_in_result,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::string_slice,
    clippy::print_stdout,
    clippy::print_stderr,
    clippy::significant_drop_in_scrutinee,
    reason = "a test that cannot go on has failed"
)]

mod adoption;
mod bearers;
mod decision;
mod definitions;
mod forecasts;
mod fuzz;
mod holds;
mod interleavings;
mod kit;
mod lints;
mod logouts;
mod mapping_laws;
mod oidc_verify;
mod operators;
mod plan_laws;
mod planned;
mod plans;
mod published;
mod refusals;
mod relayed;
mod roles_that_count;
mod saml_assertions;
mod saml_attacks;
mod saml_cases;
mod saml_logins;
#[cfg(feature = "samael")]
mod saml_oracle;
mod stored;
mod world;
