//! Spellings by which a login could pass the guard outside callbacks: each is read by a real server, and by no strict parser.

use std::io::Read as _;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use flate2::Compression;
use flate2::read::{DeflateEncoder, ZlibEncoder};

use super::tokens::is_looked_into;
use crate::support::Proxy;
use crate::support::app::App;
use crate::support::corpus::{Case, Values, cases};
use crate::support::wire::{Answer, send};

const FORM: &str = "application/x-www-form-urlencoded";
const JSON: &str = "application/json";
const PARTS: &str = "multipart/form-data; boundary=XX";

async fn sent(proxy: &Proxy, target: &str, kind: &str, body: &[u8]) -> Answer {
    let head = format!(
        "POST {target} HTTP/1.1\r\nhost: app.example\r\ncontent-type: {kind}\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    send(proxy.address, [head.as_bytes(), body].concat()).await
}

fn part(name: &str, value: &str) -> String {
    format!("--XX\r\nContent-Disposition: form-data; name=\"{name}\"\r\n\r\n{value}\r\n--XX--\r\n")
}

/// Every byte escaped.
fn escaped(value: &str) -> String {
    value.bytes().map(|byte| format!("%{byte:02X}")).collect()
}

/// What no server reads as `id_token`: names of `access_token` alone, members deeper than the first level, a text that is no object.
const UNREAD: [&str; 12] = [
    "form: overlong",
    "form: an escape of an escape",
    "form: two dots",
    "JSON: a list of objects",
    "JSON: in a member",
    "JSON: a text alone",
    "multipart: a bracket",
    "multipart: percent escapes",
    "multipart: a NUL after",
    "multipart: of type a boundary in single quotes",
    "multipart: of type a boundary that begins so",
    "multipart: of type a boundary in upper case",
];

#[tokio::test]
async fn sec12_no_body_of_the_corpus_carries_a_login_elsewhere() {
    let app = App::start().await;
    let proxy = Proxy::start(app.address).await;
    let (token, honest) = (proxy.token(|_| {}), proxy.token(|_| {}));
    let values =
        Values { token: &token, honest: &honest, field: "id_token", who: "mallory", issuer: "https://idp.example" };
    let is_body = |case: &Case| ["form", "JSON: ", "multipart: "].iter().any(|place| case.name.starts_with(place));
    let cases: Vec<Case> =
        cases("places", "oidc-form-post").into_iter().filter(is_looked_into).filter(is_body).collect();
    assert!(cases.len() > 150, "{}", cases.len());
    let mut passed = Vec::new();
    for case in cases.iter().filter(|case| !UNREAD.contains(&case.name.as_str())) {
        let case = Case { path: Some("/elsewhere".into()), ..case.clone() };
        let Some(request) = case.request(&values) else { continue };
        let before = app.complete();
        let answer = send(proxy.address, request).await;
        if app.complete() > before || !matches!(answer.status, 400 | 403 | 415) {
            passed.push(format!("{}: {}", case.name, answer.status));
        }
    }
    assert!(passed.is_empty(), "{}", passed.join("\n"));
}

fn deflated(document: &[u8]) -> Vec<u8> {
    let mut deflated = Vec::new();
    DeflateEncoder::new(document, Compression::best()).read_to_end(&mut deflated).unwrap();
    deflated
}

/// An empty block of DEFLATE that is not the last (RFC 1951 section 3.2.4).
const EMPTY_BLOCK: [u8; 5] = [0, 0, 0, 0xff, 0xff];

/// Spellings of a SAML response: in base64, or raw.
fn responses() -> Vec<(String, String)> {
    const RESPONSE: &str = "<samlp:Response><saml:Assertion/></samlp:Response>";
    let plain = STANDARD.encode(RESPONSE);
    let after = |lead: &str, times: usize| STANDARD.encode(format!("{}{RESPONSE}", lead.repeat(times)));
    let wide = |text: &str| text.encode_utf16().flat_map(u16::to_le_bytes).collect::<Vec<u8>>();
    let mut rows: Vec<(String, String)> = Vec::new();
    let mut row = |name: String, value: String| rows.push((name, value));
    for times in [383, 384, 1000, 20_000, 60_000] {
        for lead in [" ", "\n", "\r\n", "\t", "\u{feff}"] {
            row(format!("{times} times {lead:?} within the base64"), after(lead, times));
        }
        row(format!("a mark and {times} blanks"), after(&format!("\u{feff}{}", " ".repeat(times)), 1));
        row(
            format!("{times} blanks, deflated"),
            STANDARD.encode(deflated(format!("{}{RESPONSE}", " ".repeat(times)).as_bytes())),
        );
        row(format!("{times} blanks in UTF-16"), STANDARD.encode(wide(&format!("{}{RESPONSE}", " ".repeat(times)))));
        row(format!("a comment of {times}"), after(&format!("<!--{}-->", "x".repeat(times)), 1));
        row(format!("an instruction of {times}"), after(&format!("<?x {}?>", "x".repeat(times)), 1));
        row(format!("a raw comment of {times}"), format!("<!--{}-->{RESPONSE}", "x".repeat(times)));
        row(format!("a raw instruction of {times}"), format!("<?x {}?>{RESPONSE}", "x".repeat(times)));
        row(format!("a raw document type of {times}"), format!("<!DOCTYPE a{}>{RESPONSE}", " ".repeat(times)));
        row(format!("a raw declaration of {times}"), format!("<?xml version='1.0'{}?>{RESPONSE}", " ".repeat(times)));
        row(
            format!("a declaration of {times} and another encoding"),
            STANDARD.encode(format!("<?xml version='1.0'{} encoding='utf-7'?>+ADw-Assertion/+AD4-", " ".repeat(times))),
        );
        let blocks = [EMPTY_BLOCK.repeat(times / 5), deflated(RESPONSE.as_bytes())].concat();
        row(format!("{times} bytes of empty blocks"), STANDARD.encode(blocks));
    }
    for times in [1, 2, 3, 600, 5000, 60_000] {
        for junk in ["=", "!", "*", ".", "-", "_", "<", "{", "\u{7f}", "é", "\u{3000}", "-_"] {
            row(format!("{times} times `{junk}` before"), format!("{}{plain}", junk.repeat(times)));
        }
    }
    for junk in [" ", "\r\n", "!", "=", "-", ".", "<"] {
        for until in [1, 2, 3, 4, 5, 300] {
            let mixed = plain.char_indices().map(|(at, letter)| match at < until {
                true => format!("{letter}{junk}"),
                false => letter.to_string(),
            });
            row(format!("{junk:?} after the first {until}"), mixed.collect());
        }
        row(format!("{junk:?} within"), format!("{}{junk}{}", &plain[..22], &plain[22..]));
    }
    // Padding begins a new group of four for some decoders.
    row("blanks with padding of their own".into(), format!("{}{plain}", "IA==".repeat(200)));
    row("a blank with padding of its own".into(), format!("IA=={plain}"));
    row("a blank with short padding".into(), format!("ICA={plain}"));
    let named = format!("<{0}:Response xmlns:{0}='x'><Assertion/></{0}:Response>", "p".repeat(700));
    row("a long prefix".into(), STANDARD.encode(&named));
    row("a long prefix, raw".into(), named);
    let accented = "<é:Response xmlns:é='x'><Assertion/></é:Response>";
    row("a prefix that is not ASCII".into(), STANDARD.encode(accented));
    row("a prefix that is not ASCII, raw".into(), accented.into());
    row(
        "a blank before a declaration".into(),
        STANDARD.encode("\n<?xml version='1.0' encoding='utf-7'?>+ADw-Assertion/+AD4-"),
    );
    let declared = "<?xml version='1.0' encoding='utf-7' standalone='utf-8'?>+ADw-Assertion/+AD4-";
    row("a known encoding in another place".into(), STANDARD.encode(declared));
    row("a document type from elsewhere".into(), STANDARD.encode("<!DOCTYPE a SYSTEM 'http://x.example/a'><a>&b;</a>"));
    // `<?xml` in EBCDIC.
    row("EBCDIC".into(), STANDARD.encode([&[0x4c, 0x6f, 0xa7, 0x94, 0x93][..], &[0x40; 40]].concat()));
    // A stored block whose padding makes it look like zlib.
    let length = u16::try_from(RESPONSE.len()).unwrap();
    let stored = [&[0x79][..], &length.to_le_bytes(), &(!length).to_le_bytes(), RESPONSE.as_bytes()].concat();
    row("a stored block".into(), STANDARD.encode(&stored));
    let first = [&[0x78, 0, 0, 0xff, 0xff][..], &stored].concat();
    row("a stored block that begins like zlib".into(), STANDARD.encode(first));
    let mut zlib = Vec::new();
    ZlibEncoder::new(RESPONSE.as_bytes(), Compression::best()).read_to_end(&mut zlib).unwrap();
    row("zlib".into(), STANDARD.encode(&zlib));
    row("zlib without its check".into(), STANDARD.encode(&zlib[..zlib.len() - 4]));
    row("zlib with another check".into(), STANDARD.encode([&zlib[..zlib.len() - 4], b"abcd"].concat()));
    // For readers that take a blank for a `+` that a form lost.
    let signs = STANDARD.encode("<samlp:Response>>>>?>>>>?>>><saml:Assertion/></samlp:Response>").replace('+', " ");
    assert!(signs.contains(' '), "{signs}");
    row("blanks for letters".into(), signs.clone());
    row("blanks for letters, in lines".into(), format!("{}\r\n{}", &signs[..20], &signs[20..]));
    row("blanks for letters behind a bracket".into(), format!("<{signs}"));
    row("blanks for letters behind a brace".into(), format!("{{{signs}"));
    // A foreign token around it, to readers that take all of its letters for base64.
    let header = format!("{{\"alg\":\"RS256\",\"x\":\"-->{RESPONSE}<!--\"}}");
    let polyglot = [header.as_str(), "{\"iss\":\"https://other.example\"}", "-->"].map(|each| STANDARD.encode(each));
    row("behind a word, in a token of another".into(), format!("PCEtLSB4 {}", polyglot.join(".").replace('=', "")));
    rows
}

#[tokio::test]
async fn sec12_nothing_before_a_document_hides_it() {
    let app = App::start().await;
    let proxy = Proxy::start(app.address).await;
    let mut passed = Vec::new();
    for (what, value) in responses() {
        let quoted = serde_json::to_string(&value).unwrap();
        let bodies = [
            (FORM, format!("a=b&SAMLResponse={}&c=d", escaped(&value))),
            (JSON, format!("{{\"SAMLResponse\":{quoted}}}")),
            (PARTS, part("SAMLResponse", &value)),
        ];
        for (kind, body) in bodies {
            let answer = sent(&proxy, "/other", kind, body.as_bytes()).await;
            if answer.status != 403 {
                passed.push(format!("{what}, {kind}: {}", answer.status));
            }
        }
        let target = format!("/other?SAMLResponse={}", escaped(&value));
        if value.len() < 10_000 && sent(&proxy, &target, FORM, b"a=b").await.status != 403 {
            passed.push(format!("{what}, in a query"));
        }
    }
    assert!(passed.is_empty(), "{} passed:\n{}", passed.len(), passed.join("\n"));
    assert_eq!(app.complete(), 0);
}

/// A form writes a blank as `+`, which is a letter of base64 too.
#[tokio::test]
async fn sec12_a_plus_of_a_form_is_a_blank_and_a_letter() {
    let app = App::start().await;
    let proxy = Proxy::start(app.address).await;
    // With letters `+`, which a browser escapes.
    let plain = STANDARD.encode("<samlp:Response>>>>?>>>>?>>><saml:Assertion/>\u{fb}\u{fb}</samlp:Response>");
    assert!(plain.contains('+'), "{plain}");
    let whole = plain.replace('+', "%2B");
    let rows = [
        format!("+{whole}"),
        format!("{}{whole}", "+".repeat(600)),
        format!("{}+{}", &whole[..20], &whole[20..]),
        format!("{}++{}", &whole[..20], &whole[20..]),
        whole
            .chars()
            .map(|letter| if letter.is_ascii_lowercase() { format!("{letter}+") } else { letter.to_string() })
            .collect(),
        plain.clone(),
        format!("%20{plain}"),
        format!("++{plain}"),
        plain.replace('+', "%20"),
        format!("%20{}", plain.replace('+', "%20")),
        format!("{}%FF{}", &plain[..20], &plain[20..]),
        format!("{}+%FF{}", &whole[..20], &whole[20..]),
    ];
    for value in rows {
        let answer = sent(&proxy, "/other", FORM, format!("SAMLResponse={value}").as_bytes()).await;
        assert_eq!(answer.status, 403, "{value}");
        let answer = sent(&proxy, &format!("/other?SAMLResponse={value}"), FORM, b"a=b").await;
        assert_eq!(answer.status, 403, "{value} in a query");
    }
    assert_eq!(app.complete(), 0);
}

#[tokio::test]
async fn sec12_what_honest_clients_send_passes_as_it_is() {
    let app = App::start().await;
    let proxy = Proxy::start(app.address).await;
    let picture: String = STANDARD.encode((0..200_000_u32).map(|n| n.to_le_bytes()[0] ^ 0x5a).collect::<Vec<u8>>());
    let page = format!("<!DOCTYPE html><html><!-- {} --><body>Assertion</body></html>", "x".repeat(70_000));
    let large = format!("{{\"rows\": [{}\"end\"]}}", "{\"a\": 1, \"b\": \"c\"}, ".repeat(20_000));
    let mut bodies: Vec<(String, Vec<u8>)> = Vec::new();
    // As browsers, curl, .NET, Python and older clients write the head of a part.
    for head in [
        "Content-Disposition: form-data; name=\"file\"; filename=\"report (1) [final].json\"\r\nContent-Type: application/json",
        "Content-Disposition: form-data; name=\"file\"; filename=\"it's.json\"\r\nContent-Type: application/json",
        "Content-Disposition: form-data; name=\"file\"; filename=\"%22quoted%22.json\"\r\nContent-Type: application/json",
        "Content-Disposition: form-data; name=\"file\"; filename=\"\\\"quoted\\\".json\"\r\nContent-Type: application/json",
        "Content-Disposition: form-data; name=\"file\"; filename=\"C:\\Users\\me\\a.json\"\r\nContent-Type: application/json",
        "Content-Disposition: form-data; name=\"file\"; filename=\"данные 数据.json\"\r\nContent-Type: application/json",
        "Content-Disposition: form-data; name=\"file\"; filename=\"\"\r\nContent-Type: application/octet-stream",
        "Content-Disposition: form-data; name=file; filename=a.json; filename*=utf-8''a%20b.json\r\nContent-Type: application/json; charset=utf-8",
        "Content-Disposition: form-data; name=\"user[files][]\"; filename=\"a.json\"",
        "Content-Disposition: form-data; name=\"a b\"",
        "Content-Type: text/csv; charset=windows-1251\r\nContent-Disposition: form-data; name=\"file\"; filename=\"a.csv\"",
        "content-disposition: form-data; name=\"file\"; filename=\"a\"\r\ncontent-length: 5\r\nContent-Transfer-Encoding: binary",
        "Content-Type: application/http\r\nContent-ID: <item1:12@example>",
    ] {
        for value in [&large, &page, &picture] {
            bodies.push((PARTS.into(), format!("--XX\r\n{head}\r\n\r\n{value}\r\n--XX--\r\n").into_bytes()));
        }
    }
    bodies.push((PARTS.into(), b"--XX--\r\n".to_vec()));
    bodies.push((PARTS.into(), [part("a", "b").as_bytes(), b"\r\n"].concat()));
    bodies.push(("multipart/related; boundary=\"=_a\"; type=\"application/json\"".into(),
        format!("--=_a\r\nContent-Type: application/json; charset=UTF-8\r\n\r\n{large}\r\n--=_a\r\nContent-Type: image/png\r\n\r\n{picture}\r\n--=_a--").into_bytes()));
    for kind in
        ["application/json", "application/json; charset=utf-8", "text/plain;charset=UTF-8", "application/vnd.api+json"]
    {
        bodies.push((kind.into(), large.clone().into_bytes()));
        bodies.push((kind.into(), format!("{{\"name\":\"a.png\",\"content\":\"{picture}\"}}").into_bytes()));
        bodies.push((
            kind.into(),
            format!("{{\"content\":\"data:image/png;base64,{picture}\",\"id_token\":null}}").into_bytes(),
        ));
    }
    bodies.push((JSON.into(), b"{// one\r\n\"a\":1, # two\n/* three\r */\"b\":2}".to_vec()));
    bodies.push((FORM.into(), format!("content={}&id_token=", escaped(&picture[..30_000])).into_bytes()));
    for kind in [
        "text/csv; charset=iso-8859-1",
        "text/xml; charset=\"utf-8\"",
        "text/plain; charset=Windows-1252",
        "text/html; charset=us-ascii; format=flowed",
        "application/octet-stream",
        "application/soap+xml; charset=utf-8; action=\"urn:charset\"",
        "image/svg+xml",
    ] {
        bodies.push((kind.into(), b"a;b\r\n\xe9;\xe8\r\n".to_vec()));
    }
    let mut refused = Vec::new();
    for (kind, body) in bodies {
        let answer = sent(&proxy, "/upload", &kind, &body).await;
        if answer.status != 200 || app.last().body != body {
            refused.push(format!(
                "{}: {kind} {}",
                answer.status,
                String::from_utf8_lossy(&body[..body.len().min(200)])
            ));
        }
    }
    assert!(refused.is_empty(), "{}", refused.join("\n"));
}

/// thin with `--threaded` hands its app a chunked body with the sizes left in, each on a line of its own.
#[tokio::test]
async fn sec12_no_end_of_a_chunk_makes_a_boundary_or_a_head() {
    let app = App::start().await;
    let proxy = Proxy::start(app.address).await;
    let head = format!(
        "POST /upload HTTP/1.1\r\nhost: app.example\r\ncontent-type: {PARTS}\r\ntransfer-encoding: chunked\r\n\r\n"
    );
    let begins = |name: &str| format!("--XX\r\nContent-Disposition: form-data; name={name}\r\n");
    let hidden = format!("{}\r\nx\r\n", begins("id_token"));
    let pad = "p".repeat(40_000);
    for pieces in [
        vec![begins("a"), "\r\nx ".into(), hidden.clone(), "--XX--\r\n".into()],
        vec![begins("a"), format!("\r\n{pad}-"), hidden.clone(), pad.clone(), "\r\n--XX--\r\n".into()],
        vec![
            begins("id_token").replace("\r\nContent", "\r\nX: y\r\nContent").trim_end().into(),
            "zz\r\n\r\nx\r\n--XX--\r\n".into(),
        ],
        vec![begins("a"), "X-A: b\r\n\r\nx\r\n--XX--\r\n".into()],
        vec![
            format!("{}\r\n{pad}\r\n--XX\r\nContent-Disposition: form-data; name=id_token", begins("a")),
            "zz\r\n\r\nx\r\n--XX--\r\n".into(),
        ],
    ] {
        let chunks: String = pieces.iter().map(|piece| format!("{:x}\r\n{piece}\r\n", piece.len())).collect();
        let answer = send(proxy.address, format!("{head}{chunks}0\r\n\r\n")).await;
        if answer.status != 200 {
            assert_eq!(answer.status, 415, "{pieces:?}: {answer:?}");
            continue;
        }
        let seen = String::from_utf8(app.last().undecoded()).unwrap();
        let lines: Vec<&str> = seen.split("\r\n").collect();
        let whole = pieces.concat();
        let honest = whole.split("\r\n").filter(|line| line.starts_with("--XX")).count();
        assert_eq!(lines.iter().filter(|line| line.starts_with("--XX")).count(), honest, "{seen}");
        assert!(!lines.iter().any(|line| line.ends_with("name=id_token")), "{seen}");
        // Every line of a head is there as it was sent, and the head ends where it did.
        for head in whole.split("--XX\r\n").skip(1).filter_map(|part| part.split_once("\r\n\r\n")) {
            assert!(seen.contains(&format!("--XX\r\n{}\r\n\r\n", head.0)), "{seen}");
        }
    }
}

/// What honest clients send in chunks goes on in chunks, and while it still arrives.
#[tokio::test]
async fn sec12_a_chunked_upload_streams() {
    let app = App::start().await;
    let proxy = Proxy::start(app.address).await;
    let file: String = (0..20_000).map(|n| format!("line {n} --- \r\n")).collect();
    let body =
        format!("--XX\r\nContent-Disposition: form-data; name=\"f\"; filename=\"-.txt\"\r\n\r\n{file}\r\n--XX--\r\n");
    for size in [1, 7, 1000, 60_000] {
        let part = if size == 1 { &body[..2000] } else { body.as_str() };
        let chunks: String = part
            .as_bytes()
            .chunks(size)
            .map(|piece| format!("{:x}\r\n{}\r\n", piece.len(), String::from_utf8_lossy(piece)))
            .collect();
        let head = format!(
            "POST /upload HTTP/1.1\r\nhost: app.example\r\ncontent-type: {PARTS}\r\ntransfer-encoding: chunked\r\n\r\n"
        );
        let answer = send(proxy.address, format!("{head}{chunks}0\r\n\r\n")).await;
        assert_eq!(answer.status, 200, "{size}");
        assert!(app.last().body == part.as_bytes(), "{size}");
    }
}
