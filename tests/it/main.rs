//! Everything that is tested from outside, in one binary.

mod kit;
mod oidc_verify;
mod saml_attacks;
mod saml_logins;
