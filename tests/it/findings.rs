//! Faults that were found from outside, one test or more for each, named after its id in `docs/threat-model.md`.

mod addresses;
mod audit;
mod bounds;
mod claims;
mod documents;
mod headers;
mod people;
mod privilege;
mod process;
mod requests;
mod rules;
mod saml;
mod spellings;
mod store;
mod tokens;
mod tokens_clients;
mod tokens_relay;
