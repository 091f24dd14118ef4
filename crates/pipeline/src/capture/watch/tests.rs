use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};

use super::value::MOST_HELD;
use super::*;
use crate::reading::media::readings;

const FORM: &str = "application/x-www-form-urlencoded";
const PARTS: &str = "multipart/form-data; boundary=XX";

fn token(issuer: &str) -> String {
    let part = |text: String| URL_SAFE_NO_PAD.encode(text);
    let payload = format!("{{\"iss\":\"{issuer}\",\"sub\":\"alice\"}}");
    format!("{}.{}.c2lnbmF0dXJl", part("{\"alg\":\"RS256\"}".into()), part(payload))
}

fn seeks() -> Seeks {
    let login = Some(Arc::from(["https://ours.example".to_owned()]));
    Seeks { login, every_body: true, ..Seeks::default() }
}

fn scan(kind: &str) -> Result<BodyScan, &'static str> {
    let types: Vec<&[u8]> = if kind.is_empty() { Vec::new() } else { vec![kind.as_bytes()] };
    BodyScan::new(&seeks(), &readings(types.into_iter())).map(|scan| scan.expect("a scan"))
}

/// By one piece, by every two pieces, and byte by byte: the same.
fn sighting(kind: &str, body: &[u8]) -> Sighting {
    let whole = scan(kind).unwrap().read_whole(body);
    let cuts = (0..body.len()).map(|at| vec![&body[..at], &body[at..]]);
    for pieces in cuts.chain([body.chunks(1).collect()]) {
        let mut scan = scan(kind).unwrap();
        let seen = pieces.iter().map(|piece| scan.read(piece)).find(|seen| *seen != Sighting::Clear);
        let seen = seen.unwrap_or_else(|| scan.finish());
        assert_eq!(seen, whole, "{}", String::from_utf8_lossy(body));
    }
    whole
}

fn ours(field: Field) -> Sighting {
    let field = Some(field);
    Sighting::Login(Sighted { field, why: NotForeign::Ours })
}

fn unclear(field: Field, why: Unclear) -> Sighting {
    let field = Some(field);
    Sighting::Login(Sighted { field, why: NotForeign::Unclear(why) })
}

#[test]
fn a_form_is_seen_however_it_is_cut() {
    let (token, other) = (token("https://ours.example"), token("https://other.example"));
    let saml = STANDARD.encode("<p:Response><a:Assertion/></p:Response>");
    let logout = STANDARD.encode("<p:LogoutResponse xmlns:p='urn:oasis:names:tc:SAML:2.0:protocol'/>");
    let escaped = saml.replacen('P', "%50", 1);
    for name in ["id_token", "a=1&id_token", "[id_token]", "a=1;%69D_token", "++%20id.token[]", "credential"] {
        let field = if name == "credential" { Field::Credential } else { Field::IdToken };
        assert_eq!(sighting(FORM, format!("{name}={token}").as_bytes()), ours(field), "{name}");
        assert_eq!(sighting(FORM, format!("{name}={token}&b=2").as_bytes()), ours(field), "{name}");
        assert_eq!(sighting(FORM, format!("{name}={other}&b=2").as_bytes()), Sighting::Clear, "{name}");
        assert_eq!(sighting(FORM, format!("{name}=hello+world").as_bytes()), Sighting::Clear, "{name}");
    }
    for (form, expected) in [
        (format!("SAMLResponse={escaped}&a=1"), unclear(Field::SamlResponse, Unclear::Unreadable)),
        (format!("samlresponse=;{saml}"), unclear(Field::SamlResponse, Unclear::Unreadable)),
        (format!("SAMLResponse={logout};id_token={token}"), unclear(Field::SamlResponse, Unclear::Unreadable)),
        (format!("SAMLResponse={logout}&a=id_token"), Sighting::Clear),
        ("SAMLResponse=&id_token".into(), Sighting::Clear),
        (format!("id_token={other};x=1&a=b"), unclear(Field::IdToken, Unclear::Unreadable)),
    ] {
        assert_eq!(sighting(FORM, form.as_bytes()), expected, "{form}");
        assert_eq!(sighting("", form.as_bytes()), expected, "{form} without a type");
    }
    for mark in [&b"\xff\xfei\0d\0"[..], b"\0\0\xfe\xff\0\0\0i"] {
        assert!(matches!(sighting(FORM, mark), Sighting::Unreadable(_)));
    }
}

#[test]
fn nothing_of_a_value_goes_on_before_it_is_judged() {
    let (token, other) = (token("https://ours.example"), token("https://other.example"));
    for (kind, head, tail) in [
        (FORM, "a=b&id_token=", "&c=d"),
        ("application/json", "{\"id_token\":\"", "\","),
        (PARTS, "--XX\r\nContent-Disposition: form-data; name=\"id_token\"\r\n\r\n", "\r\n--XX--\r\n"),
    ] {
        let mut scan = scan(kind).unwrap();
        for piece in [head, &other, " "] {
            assert_eq!(scan.read(piece.as_bytes()), Sighting::Clear);
            assert!(scan.is_undecided(), "{kind}");
        }
        assert_eq!(scan.read(tail.as_bytes()), Sighting::Clear);
        assert!(!scan.is_undecided(), "{kind}");
        let blanks: &[&str] =
            if kind == FORM { &["+%20", "+", "%22", "%C2%A0", ",%09"] } else { &[" \t", "\u{a0}", ","] };
        for (blank, times) in blanks.iter().flat_map(|blank| [1, 60, 300, 70_000].map(|times| (blank, times))) {
            let late = format!("{head}{}{token}{tail}", blank.repeat(times));
            let seen = self::scan(kind).unwrap().read_whole(late.as_bytes());
            assert_eq!(seen, ours(Field::IdToken), "{kind}: {times} times `{blank}`");
        }
    }
}

#[test]
fn json_is_seen_as_lenient_parsers_read_it() {
    let (token, other) = (token("https://ours.example"), token("https://other.example"));
    for kind in ["application/json", "text/plain", FORM, ""] {
        for json in [
            "{\"id_token\":\"@\"}",
            " {\"a\": {\"b\": [1, \"}\"]}, \"ID_TOKEN\" : \"@\"}",
            "{\"i\\u0064_token\":\"@\"}",
            "{/*\"*/\"id_token\":\"@\"}",
            "{//'\n'id_token':'@'}",
            "{#\"\nid_token=\"@\"}",
            "{id_token: @}",
            "{id_token : @ }",
            "{id_token\n:\t@\n}",
            "{\"a\":\"\\\"\",\"id_token\"/**/:[\"@\"]}",
            "{\"id_token\":{\"value\":\"@\"}}",
            "{\"id_token\":1,\"id_token\":\"@\"}",
            "{\"a\":1}\n{\"id_token\":\"@\"}",
            "\u{feff}{\"id_token\":\"@\",\"b\":2}",
            "{\"id_token\":\"@",
            "{\"a\":\"\\x\",\"id_token\":\"@\"}",
            "{\"\\x\":1,\"id_token\":\"@\"}",
            "{\"a\":\"\\u\",\"id_token\":\"@\"}",
            "/**/{\"id_token\":\"@\"}",
            "//x\n{\"id_token\":\"@\"}",
            "#x\n{\"id_token\":\"@\"}",
        ] {
            assert_eq!(sighting(kind, json.replace('@', &token).as_bytes()), ours(Field::IdToken), "{kind} {json}");
            // As a form, what stands behind a `=` is not a whole token.
            let expected =
                if json.contains('=') { unclear(Field::IdToken, Unclear::Unreadable) } else { Sighting::Clear };
            assert_eq!(sighting(kind, json.replace('@', &other).as_bytes()), expected, "{kind} {json}");
        }
        let escaped: String = token.chars().map(|c| format!("\\u{:04x}", u32::from(c))).collect();
        assert_eq!(sighting(kind, format!("{{\"id_token\":\"{escaped}\"}}").as_bytes()), ours(Field::IdToken));
        for json in [
            format!("{{\"a\":{{\"id_token\":\"{token}\"}}}}"),
            format!("{{\"token\":\"{token}\"}}"),
            "{\"id_token\":\"word\",\"b\":[]}".into(),
            format!("[\"id_token\",\"{token}\"]"),
        ] {
            assert_eq!(sighting(kind, json.as_bytes()), Sighting::Clear, "{json}");
        }
        let wide: Vec<u8> = "{\"id_token\":\"x\"}".encode_utf16().flat_map(u16::to_le_bytes).collect();
        assert!(matches!(sighting(kind, &wide), Sighting::Unreadable(_)));
    }
    assert_eq!(sighting("application/json", b"/**/{}"), Sighting::Clear);
    let behind_a_word = format!("word {{\"id_token\":\"{token}\"}}");
    assert_eq!(sighting("application/json", behind_a_word.as_bytes()), ours(Field::IdToken));
    assert_eq!(sighting("text/plain", behind_a_word.as_bytes()), Sighting::Clear);
    for long in [&b"{\"id\xc1\x9ftoken\":\"x\"}"[..], b"{\"a\":\"x\xe0\x80\xaey\"}", b"{\"a\":\"\xf0\x80\x80\xae\"}"] {
        assert!(matches!(sighting("application/json", long), Sighting::Unreadable(_)));
    }
    let latin = b"{\"a\":\"\xc0 la carte, \xe0 \xe9\xf0\"}";
    assert_eq!(sighting("application/json", latin), Sighting::Clear, "one byte a letter");
}

#[test]
fn parts_are_seen_by_whatever_name_a_reader_finds() {
    let (token, other) = (token("https://ours.example"), token("https://other.example"));
    let part = |head: &str, value: &str| format!("--XX\r\n{head}\r\n\r\n{value}\r\n--XX--\r\n");
    for head in [
        "Content-Disposition: form-data; name=\"id_token\"",
        "content-disposition:form-data;name=ID_token",
        "Content-Type: text/plain\r\nContent-Disposition: form-data; name=\"id\\_token\"",
        "Content-Disposition: form-data;\r\n name=\"id_token\"",
        "Content-Disposition: form-data; name=\"a\"; name='id_token'",
        "Content-Disposition: form-data; name*=utf-8''id%5ftoken",
        "Content-Disposition: form-data; name*0=\"id_\"; name*1=\"token\"",
        "Content-Disposition: form-data; name=\"=?utf-8?Q?id=5Ftoken?=\"",
        "Content-Disposition: form-data; filename=\"id_token\"",
        "Content-ID: <id_token>",
        // What Rack finds in a head.
        "Content-Type: id_token",
        "X-Content-Disposition: form-data; name=\"id_token\"",
        "X: Content-Disposition: form-data; name=\"id_token\"",
        "X:\r\n Content-Disposition: form-data; name=\"id_token\"",
        "X: Content-ID: id_token",
        "X: y\u{b}Content-Disposition: form-data; name=\"id_token\"",
        "X: y\u{85}Content-Disposition: form-data; name=\"id_token\"",
        "Content-Disposition: form-data; filename*=utf-8''id_token",
        "Content-Disposition: form-data; name=\"\"; filename=\"id_token\"",
        "Content-Disposition: form-data; name=\"id\\_token\"; filename=\"x\"",
        // Names that end where it suits.
        "Content-Disposition: form-data; name=id_token=x",
        "Content-Disposition: form-data; name=id_token/x",
        "Content-Disposition: form-data; name=id_token(x)",
        "Content-Disposition: form-data; name=id_token@x",
        "Content-Disposition: form-data; name==id_token",
        "Content-Disposition: form-data; name=\"id\"\"_token\"",
        "Content-Disposition: form-data; name=\"\"id_token",
        "Content-Disposition: form-data; \"name\"=\"id_token\"",
        // Readers differ in which of two they take.
        "Content-Disposition: form-data; name=\"a\"; filename=\"b\"; filename=\"c\"",
        "Content-Disposition: form-data; name=\"a\"; filename*=utf-8''b; filename*=utf-8''c",
    ] {
        assert_eq!(sighting(PARTS, part(head, &token).as_bytes()), ours(Field::IdToken), "{head}");
        assert_eq!(sighting(PARTS, part(head, &other).as_bytes()), Sighting::Clear, "{head}");
        assert_eq!(sighting(PARTS, part(head, "a word").as_bytes()), Sighting::Clear, "{head}");
    }
    let disposition = "Content-Disposition: form-data; name=\"id_token\"";
    for body in [
        part(&format!("{disposition}\r\nContent-Transfer-Encoding: base64"), "aaaa"),
        part(&format!("{disposition}\r\nContent-Type: text/plain; charset=utf-16"), "aaaa"),
        part("Content-Disposition: form-data;\nname=\"id_token\"", "x"),
        format!("--XXa\r\n{disposition}\r\n\r\nx\r\n--XX--\r\n"),
        format!("a--XX\r\n{disposition}\r\n\r\nx\r\n--XX--\r\n"),
        format!("--XX\n{disposition}\n\nx\n--XX--\n"),
        format!("--XX\r\n{}", "a".repeat(10_000)),
        format!("--XX\r\n{disposition}\n\n{token}\r\n--XX--\r\n"),
        format!("--XX\r\n{disposition}\r\n\n{token}\r\n--XX--\r\n"),
        format!("--XX\r\n{disposition}\r\r\n{token}\r\n--XX--\r\n"),
        format!("--XX\r\n{disposition}\r\r\n\r\nx\r\n--XX--\r\n"),
        format!("--XX\r\n{disposition}\r\n"),
        format!("--XX\r\n\r\n{disposition}\r\n\r\nx\r\n--XX--\r\n"),
        part(&format!("A: b\r\n \r\n{disposition}"), "x"),
        part("A: --XX", "x"),
        part("Content-Disposition: form-data; name=\"_charset_\"", "ibm037"),
    ] {
        assert!(matches!(scan(PARTS).unwrap().read_whole(body.as_bytes()), Sighting::Unreadable(_)), "{body}");
    }
    let file = "Content-Disposition: form-data; name=\"file\"; filename=\"a.bin\"\r\nContent-Type: image/png";
    let two = format!("--XX\r\n{file}\r\n\r\n\r\n-\r--X\r\n{token}\r\n--XX\r\n{disposition}\r\n\r\n{token}\r\n--XX--");
    assert_eq!(sighting(PARTS, two.as_bytes()), ours(Field::IdToken));
    assert_eq!(sighting(PARTS, part(file, &token).as_bytes()), Sighting::Clear);
    let named = "Content-Disposition: form-data; name=\"a\"; filename=\"id_token\"; filename*=utf-8''id_token";
    assert_eq!(sighting(PARTS, part(named, &token).as_bytes()), Sighting::Clear);
    assert_eq!(sighting(PARTS, format!("--XX\r\n{disposition}\r\n\r\n{token}").as_bytes()), ours(Field::IdToken));
    for unclear in ["", "; boundary=XX:x", "; boundary=XX/x", "; boundary=XX=x", "; boundary==XX", "; boundary=(XX)"] {
        assert!(scan(&format!("multipart/form-data{unclear}")).is_err(), "{unclear}");
    }
    assert!(scan("multipart/form-data; boundary=\"XX:x\"").is_ok(), "in quotes it may have them");
    // A name with a quote in it, as older clients write it, is none to be looked into.
    let quoted = "Content-Disposition: form-data; name=\"file\"; filename=\"a \\\"b\\\" [1] (2).txt\"";
    assert_eq!(sighting(PARTS, part(quoted, &token).as_bytes()), Sighting::Clear);
}

/// Where tokens are looked for under any name, a field that is written in an encoding of its own could hide one; a file could not.
#[test]
fn a_field_is_written_as_it_stands() {
    let seeks = Seeks { stray: Some(Arc::default()), ..seeks() };
    let recoded = Sighting::Unreadable("a part in an encoding of its own");
    for (disposition, expected) in [
        ("form-data; name=\"note\"", recoded),
        ("form-data; name=\"note\"; filename=\"\"", recoded),
        ("form-data; name=\"note\"; filename*=utf-8''a.bin", recoded),
        ("form-data; name=\"file\"; filename=\"a.bin\"", Sighting::Clear),
        ("form-data; name=\"file\"; filename=\"a.bin\"; name=\"note\"", recoded),
    ] {
        let head = format!("Content-Disposition: {disposition}\r\nContent-Transfer-Encoding: base64");
        let body = format!("--XX\r\n{head}\r\n\r\naaaa\r\n--XX--\r\n");
        let scan = BodyScan::new(&seeks, &readings([PARTS.as_bytes()].into_iter())).unwrap().unwrap();
        assert_eq!(scan.read_whole(body.as_bytes()), expected, "{disposition}");
    }
}

#[test]
fn little_is_held_of_whatever_comes() {
    let opened = "{\"alg\":\"RS256\",\"kid\":\"aaaaaaaaaaaaaaa\"}";
    let endless = format!("{}.", URL_SAFE_NO_PAD.encode(opened)).into_bytes();
    for (kind, head) in [
        (FORM, "id_token="),
        (FORM, "a=1;id_token=;id_token="),
        ("application/json", "{\"id_token\":\""),
        (PARTS, "--XX\r\nContent-Disposition: form-data; name=\"id_token\"\r\n\r\n"),
    ] {
        let mut scan = scan(kind).unwrap();
        assert_eq!(scan.read(head.as_bytes()), Sighting::Clear);
        assert_eq!(scan.read(&endless), Sighting::Clear);
        assert!(scan.held() >= endless.len(), "{head}: {}", scan.held());
        let mut seen = Vec::new();
        while seen.last().is_none_or(|sighting| *sighting == Sighting::Clear) {
            seen.push(scan.read(&[b'A'; 10_000]));
            assert!(scan.held() <= 5 * MOST_HELD, "{head}: {}", scan.held());
        }
        assert!(matches!(seen.pop(), Some(Sighting::Login(_))) && (1..20).contains(&seen.len()), "{head}: {seen:?}");
    }
    for (kind, piece) in [(FORM, b'+'), (FORM, b'n'), ("application/json", b' '), (PARTS, b'-')] {
        let mut scan = scan(kind).unwrap();
        if kind == PARTS {
            assert_eq!(scan.read(b"--XX\r\nA: b\r\n\r\n"), Sighting::Clear);
        }
        for _ in 0..100 {
            assert_eq!(scan.read(&[piece; 10_000]), Sighting::Clear);
            assert!(scan.held() < 70_000, "{}", scan.held());
        }
    }
}

#[test]
fn nothing_is_sought_where_no_login_comes() {
    assert!(Seeks::default().is_nothing() && !seeks().is_nothing());
    assert!(!Seeks { captured: true, ..Seeks::default() }.is_nothing());
}

/// It stands for a response that the app fetches.
#[test]
fn an_artifact_is_a_login_where_assertions_are() {
    let artifact = STANDARD.encode([&[0, 4][..], &[7; 42]].concat());
    for (value, assertions, expected) in [
        (artifact.as_str(), true, unclear(Field::SamlArt, Unclear::NoIssuer)),
        (artifact.as_str(), false, Sighting::Clear),
        ("a%20word", true, Sighting::Clear),
        ("a%20word", false, Sighting::Clear),
    ] {
        let seeks = Seeks { assertions, ..seeks() };
        let body = format!("SAMLart={}", value.replace('+', "%2b"));
        let scan = BodyScan::new(&seeks, &readings([FORM.as_bytes()].into_iter())).unwrap();
        assert_eq!(scan.unwrap().read_whole(body.as_bytes()), expected, "{value} {assertions}");
    }
}

#[test]
fn a_query_is_looked_into() {
    let (token, other) = (token("https://ours.example"), token("https://other.example"));
    for query in ["page=2&sort=name", "id=1&s=x&token=id_token", "id_token=x"] {
        assert_eq!(read_query(query, &seeks()), Sighting::Clear, "{query}");
    }
    for name in ["id_token", "a=1&ID.token", "%69d_token", "id[token", "[id_token]"] {
        assert_eq!(read_query(&format!("{name}={token}"), &seeks()), ours(Field::IdToken), "{name}");
        assert_eq!(read_query(&format!("{name}={other}"), &seeks()), Sighting::Clear, "{name}");
    }
}

/// What is told from the length of a value, from its dots and from their next letters is what reading all of it tells.
#[test]
fn a_header_is_looked_into_as_far_as_a_payload_may_reach() {
    let ours = Addressed::new(vec!["x".into()], Vec::new());
    let payload = URL_SAFE_NO_PAD.encode(r#"{"iss":"x"}"#);
    let (split, quoted) = (payload.replacen('e', "e!", 1), format!("\"{payload}\""));
    let pieces = ["", ".", "%2e", "\"", ".e", "1.en", &payload, &split, &quoted];
    let mut found = 0;
    for first in pieces {
        for second in pieces {
            for third in pieces {
                for last in pieces {
                    let value = [first, second, third, last].concat();
                    let read = StrayScan::default().read(value.as_bytes(), &ours);
                    assert_eq!(StrayScan::look(value.as_bytes(), &ours), read, "{value}");
                    found += usize::from(read != Sighting::Clear);
                }
            }
        }
    }
    assert!(found > 500, "{found}");
}

/// A `=` among the letters of a payload divides a form, and is passed over by decoders, or ends what they decode.
#[test]
fn a_divider_hides_no_token_in_a_form() {
    let seeks =
        Seeks { stray: Some(Arc::new(Addressed::new(vec!["https://ours.example".into()], Vec::new()))), ..seeks() };
    let token = token("https://ours.example");
    let seen = |body: &str, size: usize| {
        let mut scan = BodyScan::new(&seeks, &readings([FORM.as_bytes()].into_iter())).unwrap().unwrap();
        let seen = body.as_bytes().chunks(size).map(|piece| scan.read(piece)).find(|seen| *seen != Sighting::Clear);
        seen.unwrap_or_else(|| scan.finish())
    };
    let payload = token.find('.').unwrap() + 1..token.rfind('.').unwrap();
    for at in payload.start + 4..=payload.end {
        for divider in ["=", "&", ";", "==", "=&="] {
            let (first, last) = token.split_at(at);
            let body = format!("session {first}{divider}{last}");
            for size in [1, 7, body.len()] {
                assert_ne!(seen(&body, size), Sighting::Clear, "{body} by {size}");
            }
        }
    }
}
