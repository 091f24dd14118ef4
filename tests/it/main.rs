//! Everything that is tested from outside, in one binary.

mod kit;
mod layers;
mod oidc_verify;
mod plan_laws;
mod saml_attacks;
mod saml_logins;
mod store_suite;
