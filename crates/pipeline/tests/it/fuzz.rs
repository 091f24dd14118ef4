//! Bytes that no sender of ours would send, at every door that takes a stranger's: nothing may panic, take long, or pass for what
//! it is not. The short runs here are part of the tests; `make fuzz` runs the same doors by libFuzzer (`fuzz/`).

mod door;
mod doors;
mod run;

use self::run::shortly;

/// By its name `make fuzz` calls a door, and keeps what it found.
#[test]
fn every_door_has_a_name_of_its_own() {
    let names: std::collections::BTreeSet<&str> = doors::ALL.iter().map(|door| door.name).collect();
    assert_eq!(names.len(), doors::ALL.len());
}

#[test]
fn forms() {
    shortly(&doors::FORM, 4_000);
}

#[test]
fn members() {
    shortly(&doors::MEMBERS, 2_000);
}

#[test]
fn parts() {
    shortly(&doors::PARTS, 2_000);
}

#[test]
fn tokens() {
    shortly(&doors::TOKEN, 4_000);
}

#[test]
fn texts_that_may_be_tokens() {
    shortly(&doors::READING, 4_000);
}

#[test]
fn json() {
    shortly(&doors::JSON, 4_000);
}

#[test]
fn saml_documents() {
    shortly(&doors::SAML, 1_500);
}

#[test]
fn saml_signatures() {
    shortly(&doors::SIGNED, 300);
}

#[test]
fn encrypted_assertions() {
    shortly(&doors::ENCRYPTED, 100);
}

#[test]
fn logout_requests() {
    shortly(&doors::LOGOUT, 1_500);
}

#[test]
fn metadata() {
    shortly(&doors::METADATA, 500);
}
