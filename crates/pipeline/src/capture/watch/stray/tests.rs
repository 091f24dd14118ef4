use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use super::*;
use crate::reading::media::readings;

fn ours() -> Addressed {
    Addressed::new(vec!["https://ours.example".into()], Vec::new())
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
        (".eyJpc3M.", true, Sighting::Clear),
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

/// A member of JSON, to a reader that passes over whatever is no letter of base64 and verifies what it has rewritten, or leaves off at `=`.
#[test]
fn marks_within_a_payload_hide_nothing() {
    let payload = payload();
    let with = |mark: &str, times: usize| {
        let letters: Vec<String> = payload.chars().map(String::from).collect();
        let marked: Vec<String> = letters.chunks(letters.len() / times).map(<[String]>::concat).collect();
        marked.join(mark)
    };
    let other = |claims: &str| URL_SAFE_NO_PAD.encode(claims);
    let of_other_app = other(r#"{"iss":"https://ours.example","aud":"other"}"#);
    let of_other = other(r#"{"iss":"https://other.example","a":{"b":"https://ours.example"}}"#);
    for (text, expected) in [
        (format!("\"{payload}\""), OURS),
        (format!("\"{}\"", with(".", 2)), OURS),
        (format!("\"{}\"", with(".", 20)), OURS),
        (format!("\"{}\"", with("\\\"", 20)), OURS),
        (format!(".{}.", with("\\\"", payload.len())), OURS),
        (format!("\"{}\"", with("\\\".", payload.len())), OURS),
        (format!("\"{payload}==AAAA\""), OURS),
        (format!("\"{payload}==\u{7f}\u{1}AAAA\""), OURS),
        (format!("\"{payload}=.\""), OURS),
        // Behind what has not ended, and within it.
        (format!("\"eyJhIjoi\",\"{payload}\""), OURS),
        (format!("\"eyJ\"eyJ\"eyJ\"eyJ\"eyJ\"eyJ\"{payload}\""), OURS),
        (format!("\"{of_other_app}\"{payload}\""), OURS),
        (format!("\"{of_other}.{payload}\""), OURS),
        // To another app, of another issuer.
        (format!("\"{of_other_app}\""), Sighting::Clear),
        (format!("\"{of_other_app}==\""), Sighting::Clear),
        (format!("\"{of_other}\"").repeat(20), Sighting::Clear),
        (format!("{{\"a\":\"eyJhIjoxfQ.{of_other_app}.sig\",\"b\":\"{of_other}\"}}"), Sighting::Clear),
        // One that cannot be read: to some it may be ours.
        (format!("\"{}\"", other(r#"{"iss":"https://ours.example","aud":"other"}}"#)), OURS),
        (format!(".{}\u{b}%c3{}.", payload.split_at(44).0, payload.split_at(44).1), OURS),
        (format!("\"{}\"", other(r#"{"iss":"https:\/\/OURS.example","a":NaN}"#)), OURS),
        (format!("\"{}\"", other(r#"{"iss":"https://other.example","a":NaN}"#)), Sighting::Clear),
    ] {
        let ours = Addressed::new(vec!["https://ours.example".into()], vec!["app".into()]);
        let seen = |size: usize| {
            let mut scan = StrayScan::default();
            let mut seen = text.as_bytes().chunks(size).map(|piece| scan.read(piece, &ours));
            seen.find(|seen| *seen != Sighting::Clear).unwrap_or(Sighting::Clear)
        };
        for size in [1, 2, 3, 5, 50, text.len()] {
            assert_eq!(seen(size), expected, "{text} by {size}");
        }
    }
}

/// The work is linear, with no great factor, whatever is repeated.
#[test]
fn no_body_costs_much_more_than_another() {
    const LENGTH: usize = 64 * 1024;
    let cost = |text: &str, readings: &Readings<'_>| {
        let text: Vec<u8> = text.bytes().cycle().take(LENGTH).collect();
        let once = || {
            let mut scan = StrayScan::of_body(readings, true);
            let begun = std::time::Instant::now();
            text.chunks(16 * 1024).for_each(|piece| {
                std::hint::black_box(scan.read(piece, &ours()));
            });
            begun.elapsed()
        };
        (0..3).map(|_| once()).min().unwrap()
    };
    let readings = readings([&b"text/plain"[..]].into_iter());
    let honest = cost("{\"name\":\"Alice B.\",\"text\":\"a line\\nand \\\"another\\\"\"},", &readings);
    for text in [
        "\"eyJpc3MiOiJhIn0=\\v\\0\"",
        "[\"word\",\"eyJpc3MiOiJh\\u0041bbb\"]",
        "\"eyJpc3MiOiJh&#65;bbb",
        ".eyJpc3MiOiJh%4:bb",
        "\"eyJ",
        "\"eyJhIjoifQ",
        "%",
        "&",
        "&#",
        "\\\\\\u005c",
        "%25",
        "<a>.eyJpc3MiOiJh&#65;bb</a>",
        &format!("\"{}\"", payload()),
    ] {
        let cost = cost(text, &readings);
        assert!(cost < honest * 100, "{text}: {cost:?}, an honest one {honest:?}");
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
