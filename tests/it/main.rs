//! Everything that is tested from outside, in one binary: it links once.

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

mod api;
mod assertion;
mod attacks;
mod bearer;
mod claims;
mod config;
mod console;
mod delivery;
mod demo;
mod deploy;
mod deployments;
mod directory;
mod docs;
mod every_mode;
mod faces;
mod findings;
mod fixtures;
mod forward_auth;
mod front_door;
mod fuzz;
#[expect(dead_code, reason = "the tests of the pipeline use all of it")]
#[path = "../../crates/pipeline/tests/it/kit.rs"]
mod kit;
mod language;
mod layers;
mod login_cases;
mod promises;
mod proxy;
mod reality;
mod relay;
mod relying_party;
mod relying_party_saml;
mod replicas;
#[path = "../../crates/pipeline/tests/it/saml_cases.rs"]
mod saml_cases;
mod seeing;
mod sessions;
mod store_suite;
mod support;
mod threat_table;
mod tls;
mod torture;
mod truth_table;
mod version;
mod words;
