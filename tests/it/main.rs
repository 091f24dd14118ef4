//! Everything that is tested from outside, in one binary.

mod config;
mod fixtures;
mod front_door;
mod layers;
mod login_cases;
mod plan_laws;
mod store_suite;
