use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use super::*;
use crate::reading::media::readings;

fn ours() -> Addressed {
    Addressed { issuers: vec!["https://ours.example".into()], audiences: Vec::new() }
}

fn payload() -> String {
    URL_SAFE_NO_PAD.encode(r#"{"iss":"https://ours.example","sub":"alice"}"#)
}

/// In two pieces, however it is cut, and byte by byte: the same.
fn sighting(scan: impl Fn() -> StrayScan, text: &str) -> Sighting {
    let text = text.as_bytes();
    let seen = |pieces: &[&[u8]]| {
        let mut scan = scan();
        let mut seen = pieces.iter().map(|piece| scan.read(piece, &ours()));
        seen.find(|seen| *seen != Sighting::Clear).unwrap_or(Sighting::Clear)
    };
    let whole = seen(&[text]);
    for at in 0..text.len() {
        assert_eq!(seen(&[&text[..at], &text[at..]]), whole, "{} cut at {at}", String::from_utf8_lossy(text));
    }
    assert_eq!(seen(&text.chunks(1).collect::<Vec<_>>()), whole, "{}", String::from_utf8_lossy(text));
    whole
}

#[test]
fn what_may_be_a_payload_is_waited_for_and_nothing_else() {
    for (text, is_undecided, expected) in [
        ("", false, Sighting::Clear),
        ("a.b", false, Sighting::Clear),
        (".", false, Sighting::Clear),
        (".ey", true, Sighting::Clear),
        (".eyJpc3M", true, Sighting::Clear),
        (".eyJpc3MiOiJo", true, Sighting::Clear),
        // `{,` opens no object.
        (".eyzzzzzz", false, Sighting::Clear),
        (".eyzzzzzzzzzz", false, Sighting::Clear),
        (".eyJpc3M.", false, Sighting::Clear),
        (".@", true, Sighting::Clear),
        (".@.", false, OURS),
        (".eyJ.@.", false, OURS),
        (".eyzzzzzz.@.", false, OURS),
    ] {
        let text = text.replace('@', &payload());
        let mut scan = StrayScan::default();
        assert_eq!(scan.read(text.as_bytes(), &ours()), expected, "{text}");
        assert_eq!(scan.is_undecided(), is_undecided, "{text}");
        assert_eq!(sighting(StrayScan::default, &text), expected, "{text}");
    }
}

#[test]
fn markup_is_read_as_parsers_join_it() {
    let payload = payload();
    let (first, last) = payload.split_at(20);
    let readings = readings([&b"text/plain"[..]].into_iter());
    let declared = Sighting::Unreadable("declarations in markup");
    let late = Sighting::Unreadable("an XML declaration that is not the first");
    for (text, expected, of_file) in [
        ("<a>.@<b/>#.</a>", OURS, OURS),
        ("\u{feff}\n <a>.@<b/>#.</a>", OURS, OURS),
        ("<a>.@<b>x</b>#.</a>", OURS, OURS),
        (".@<b/>#.", Sighting::Clear, Sighting::Clear),
        ("<s:Envelope><saml:Assertion/></s:Envelope>", ASSERTION, ASSERTION),
        // Behind what tells the encoding.
        ("<a/>~<?xml version='1.0'?>", late, Sighting::Clear),
        ("<!DOCTYPE a [<!ENTITY b 'c'>]><a/>", declared, Sighting::Clear),
    ] {
        let text = text.replace('@', first).replace('#', last).replace('~', &" ".repeat(OPENING));
        for (is_file, expected) in [(false, expected), (true, of_file)] {
            let readings = Readings { is_file, ..readings };
            let seen = sighting(|| StrayScan::of_body(&readings, true), &text);
            assert_eq!(seen, expected, "{text}, a file: {is_file}");
        }
    }
}
