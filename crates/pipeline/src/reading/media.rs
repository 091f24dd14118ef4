//! What a media type lets an app read a body as.
//!
//! | the type | what some app reads |
//! |---|---|
//! | `application/x-www-form-urlencoded`, anywhere in the field | a form |
//! | none | a form (Rack), whatever it looks like (RFC 9110 section 8.3) |
//! | `multipart/…` | parts: form-data, and mixed and related too (Rack) |
//! | anything else | JSON, where the body looks like an object: many apps parse it without a look at the type |

/// How a body may be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Readings<'t> {
    pub form: bool,
    /// Whether some app reads it as a form whatever the type says, in its own bytes: Bottle does but for `multipart/`, in these letters.
    pub form_to_some: bool,
    /// Whether the type says JSON. A body that looks like an object is read as one in any case.
    pub json: bool,
    pub multipart: Multipart<'t>,
    /// Whether the type says XML, also as `+xml`.
    pub xml: bool,
    /// Whether no type is named.
    pub unnamed: bool,
    /// Whether it is put where files are, so that no app looks for a login in what is written in it.
    pub is_file: bool,
}

/// How a body may be read as parts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Multipart<'t> {
    No,
    /// With this boundary, to every reader.
    Of(&'t str),
    /// With a boundary that readers do not agree on.
    Unclear,
}

/// How a body may be read whose Content-Type fields are these.
pub fn readings<'t>(types: impl Iterator<Item = &'t [u8]>) -> Readings<'t> {
    let mut readings = Readings {
        form: false,
        form_to_some: true,
        json: false,
        multipart: Multipart::No,
        xml: false,
        unnamed: false,
        is_file: false,
    };
    let mut count = 0;
    for kind in types {
        // Rack takes a type that is empty for none.
        count += usize::from(!kind.trim_ascii().is_empty());
        readings.form |= may_be_form(kind);
        readings.form_to_some &= !kind.starts_with(b"multipart/");
        readings.json |= holds(kind, b"json");
        readings.xml |= holds(kind, b"xml");
        if holds(kind, b"multipart") {
            readings.multipart = boundary(kind).map_or(Multipart::Unclear, Multipart::Of);
        }
    }
    // Nothing says JSON then, so that only what looks like an object is read as one: `curl -T` names no type for any file.
    readings.unnamed = count == 0;
    readings.form |= readings.unnamed;
    if count > 1 && readings.multipart != Multipart::No {
        readings.multipart = Multipart::Unclear;
    }
    // And multipart that it cannot take apart for a form.
    readings.form |= readings.multipart == Multipart::Unclear;
    readings
}

/// Whether any reader may take a body of this media type for a form: some look for the name anywhere in the field, or take
/// what stands before a comma.
pub fn may_be_form(content_type: &[u8]) -> bool {
    holds(content_type, b"x-www-form-urlencoded")
}

/// Whether a media type is `application/x-www-form-urlencoded`, parameters aside.
pub fn is_form(content_type: &str) -> bool {
    let essence = content_type.split(';').next().unwrap_or_default();
    essence.trim().eq_ignore_ascii_case("application/x-www-form-urlencoded")
}

/// Whether a media type asks for a character encoding in which a name would not be the bytes that we compare. UTF-16, UTF-7
/// and EBCDIC are honoured by some frameworks, and Express (iconv-lite) drops from a label what is neither letter nor digit.
pub fn has_foreign_charset(content_type: &[u8]) -> bool {
    const KNOWN: [&str; 13] = [
        "",
        "utf-8",
        "utf8",
        "us-ascii",
        "ascii",
        "iso-8859-1",
        "iso8859-1",
        "iso_8859-1",
        "latin1",
        "latin-1",
        "iso-8859-15",
        "windows-1252",
        "cp1252",
    ];
    let text = String::from_utf8_lossy(content_type).to_ascii_lowercase();
    text.split("charset").skip(1).any(|rest| {
        let rest = rest.trim_start_matches([' ', '\t']);
        let Some(value) = rest.strip_prefix('=') else {
            // Part of another word, or a notation in which the label need not stand (RFC 2231).
            return !rest.is_empty() && !rest.starts_with([';', '"']);
        };
        let value = value.trim_start_matches([' ', '\t']);
        let (label, after) = match value.strip_prefix('"') {
            Some(quoted) => quoted.split_once('"').unwrap_or((quoted, "\"")),
            None => value.split_at(value.find([';', ',', ' ', '\t']).unwrap_or(value.len())),
        };
        let ends = after.trim_start_matches([' ', '\t']);
        !KNOWN.contains(&label) || !(ends.is_empty() || ends.starts_with([';', ',']))
    })
}

/// Whether a media type says text, of whatever kind.
pub fn is_text(content_type: &[u8]) -> bool {
    content_type.trim_ascii_start().get(..5).is_some_and(|head| head.eq_ignore_ascii_case(b"text/"))
}

/// Whether a body begins with the byte order mark of UTF-16 or UTF-32. Some frameworks (Katana for one) follow it whatever the
/// media type says, and then read names that we never saw.
pub fn has_foreign_mark(body: &[u8]) -> bool {
    body.starts_with(&[0xfe, 0xff]) || body.starts_with(&[0xff, 0xfe]) || body.starts_with(&[0, 0, 0xfe, 0xff])
}

/// Whether a body looks like a JSON object, which many apps read whatever the media type says.
pub fn looks_like_json(body: &[u8]) -> bool {
    let bare =
        body.iter().find(|byte| !byte.is_ascii_whitespace() && !matches!(byte, 0 | 0xef | 0xbb | 0xbf | 0xfe | 0xff));
    bare == Some(&b'{')
}

/// The longest byte order mark.
pub const MARK: usize = 4;

/// The boundary of a multipart type, where it is there once and every reader takes the same (RFC 2046 section 5.1.1; blanks, commas,
/// single quotes and escapes in it are read in several ways, and Tomcat decodes words of RFC 2047).
fn boundary(kind: &[u8]) -> Option<&str> {
    const NAME: &str = "boundary";
    let text = std::str::from_utf8(kind).ok()?;
    let folded = text.to_ascii_lowercase();
    let at = folded.find(NAME)?;
    let before = folded.get(..at)?.trim_end_matches([' ', '\t']);
    let quotes = before.matches('"').count();
    if !before.ends_with(';') || quotes % 2 != 0 || before.contains('\\') {
        return None;
    }
    let value = text.get(at + NAME.len()..)?.strip_prefix('=')?;
    let (boundary, marks): (&str, &[u8]) = match value.strip_prefix('"') {
        Some(quoted) => (quoted.split_once('"')?.0, b"()+_./:=?-"),
        // Without quotes a token (RFC 2045 section 5.1): Werkzeug ends it at anything else, Jetty does not.
        None => (value.split(';').next()?.trim_end_matches([' ', '\t']), b"+_.-"),
    };
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || marks.contains(&byte);
    let rest = value.trim_start_matches('"').get(boundary.len()..)?.trim_start_matches('"').trim_start();
    // Elsewhere the word would be a second parameter; within the value it is part of it (`----WebKitFormBoundary…`).
    let ends = (rest.is_empty() || rest.starts_with(';')) && !rest.to_ascii_lowercase().contains(NAME);
    let is_encoded = boundary.contains("=?");
    (ends && !is_encoded && (1..=70).contains(&boundary.len()) && boundary.bytes().all(plain)).then_some(boundary)
}

fn holds(kind: &[u8], word: &[u8]) -> bool {
    kind.windows(word.len()).any(|window| window.eq_ignore_ascii_case(word))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_type_is_read_by_any_sign() {
        let read = |types: &[&'static str]| readings(types.iter().map(|kind| kind.as_bytes()));
        assert!(read(&["application/X-WWW-form-urlencoded, text/plain"]).form);
        assert!(read(&["text/plain", "application/x-www-form-urlencoded"]).form);
        assert!(read(&[]).form && !read(&[]).json && read(&[" "]).form);
        assert!(read(&["multipart/form-data"]).form);
        assert!(looks_like_json(b"\xef\xbb\xbf\r\n {") && !looks_like_json(b"a={"));
        assert!(read(&["application/vnd.api+JSON; charset=utf-8"]).json);
        let plain = read(&["text/plain"]);
        let nothing = Readings {
            form: false,
            form_to_some: true,
            json: false,
            multipart: Multipart::No,
            xml: false,
            unnamed: false,
            is_file: false,
        };
        assert_eq!(plain, nothing);
        assert!(!has_foreign_charset(b"application/x-www-form-urlencoded; charset=UTF-8"));
        assert!(!has_foreign_charset(b"application/x-www-form-urlencoded"));
        for charset in ["utf-16", "\"utf-7\"", "ibm037", "utf-8, utf-16; charset=utf-16"] {
            assert!(has_foreign_charset(format!("a/b; Charset={charset}").as_bytes()), "{charset}");
        }
        for charset in
            ["utf-!7", "utf-\\7", "u.t.f.8", "\"utf-8", "\"utf-8\"x", "utf-8 x", "iso-8859-1x", "*=utf-8''utf-7"]
        {
            assert!(has_foreign_charset(format!("a/b; charset={charset}").as_bytes()), "{charset}");
        }
        for kind in ["a/b; charset*=utf-8''utf-7", "a/b; charset", "a/b; x=charsets"] {
            assert_eq!(has_foreign_charset(kind.as_bytes()), kind != "a/b; charset", "{kind}");
        }
        for charset in ["\"utf-8\"; boundary=x", "Latin1", "", " utf-8 ; a=b", "utf-8, text/plain", "windows-1252"] {
            assert!(!has_foreign_charset(format!("a/b; charset={charset}").as_bytes()), "{charset}");
        }
    }

    #[test]
    fn a_boundary_is_one_to_every_reader_or_unclear() {
        let read = |kind: &'static str| readings([kind.as_bytes()].into_iter()).multipart;
        for (kind, expected) in [
            ("multipart/form-data; boundary=----WebKitFormBoundaryA1b2", "----WebKitFormBoundaryA1b2"),
            ("Multipart/Form-Data;Boundary=\"----=_Part_0_1.2\"", "----=_Part_0_1.2"),
            ("multipart/form-data; charset=utf-8; boundary=x; y=z", "x"),
            ("multipart/form-data; boundary=x ; y=z", "x"),
            ("multipart/related; type=\"application/xop+xml\"; boundary=\"uuid:1-2\"; start=\"a\"", "uuid:1-2"),
        ] {
            assert_eq!(read(kind), Multipart::Of(expected), "{kind}");
        }
        for kind in [
            "multipart/form-data",
            "multipart/form-data; boundary=",
            "multipart/form-data; boundary=a; boundary=b",
            "multipart/form-data; boundary*=utf-8''a",
            "multipart/form-data; xboundary=a",
            "multipart/form-data; boundary=a,b",
            "multipart/form-data; boundary=a b",
            "multipart/form-data; boundary='a'",
            "multipart/form-data; boundary=\"'a'\"",
            "multipart/form-data; boundary=\"=?utf-8?Q?a?=\"",
            "multipart/form-data; boundary=\"a\\\"b\"",
            "multipart/form-data; boundary=\"a\"b",
            "multipart/form-data; boundary =a",
            "multipart/form-data; x=\"; boundary=a",
            "multipart/form-data, multipart/form-data; boundary=\"a",
        ] {
            assert_eq!(read(kind), Multipart::Unclear, "{kind}");
        }
        let twice = ["multipart/form-data; boundary=a", "text/plain"];
        assert_eq!(readings(twice.iter().map(|kind| kind.as_bytes())).multipart, Multipart::Unclear);
    }
}
