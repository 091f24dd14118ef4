//! Everything that is tested from outside, in one binary.

mod config;
mod fixtures;
mod front_door;
mod kit;
mod layers;
mod login_cases;
mod oidc_verify;
mod plan_laws;
mod saml_attacks;
mod saml_logins;
mod store_suite;
