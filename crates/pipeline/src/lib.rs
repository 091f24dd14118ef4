//! The decisions of a login, stage by stage, in the order in which a login meets them.
//!
//! Everything below here is pure: no clock, no I/O, no environment, no logging. Bytes, keys, rules, a snapshot of the store
//! and the current moment go in; a [`plan::Plan`] or a refusal comes out. That is what makes a dry run the same code as a
//! real login, and a test a row of data. What stands last ([`explain`] to [`lint`]) decides nothing: it
//! tells how the stages decide, so that operators can look before they change.

#![cfg_attr(not(feature = "samael"), forbid(unsafe_code))]

pub mod faults;
pub mod ids;
pub mod lookup;
pub mod number;
pub mod provider;

pub mod capture;
pub mod reading;
pub mod verify;

pub mod claims;
pub mod mapping;
pub mod plan;
pub mod privilege;
pub mod record;
pub mod settle;

pub mod decision;

pub mod explain;
pub mod forecast;
pub mod golden;
pub mod lint;
