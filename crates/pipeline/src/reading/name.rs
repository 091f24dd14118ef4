//! How apps read the names of fields and of cookies.

use std::fmt;

/// Whether some reader takes the one raw name, and some reader the other, for the same.
pub fn may_be_same(raw: &[u8], other: &[u8]) -> bool {
    let others = readings(other);
    readings(raw).iter().any(|reading| others.iter().any(|other| reading.eq_ignore_ascii_case(other)))
}

/// Whether the laxest reader could take a raw name for this one.
pub fn could_be(raw: &[u8], name: &str) -> bool {
    readings(raw).iter().any(|reading| reading.eq_ignore_ascii_case(name))
}

/// Further names that some reader finds within a raw one. A name of letters, digits, `_` and `-` alone has none.
///
/// ```text
/// .id_token       co-body (Koa), whose qs takes dots for brackets
/// !id_token       Spring's prefix for the value of an absent field
/// id_token:string Zope's type of a value
/// %id_token       CherryPy drops a `%` that begins no escape
/// model.id_token  ASP.NET's prefix of a parameter
/// ```
pub fn within(raw: &[u8]) -> Vec<String> {
    let is_word = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-');
    if raw.iter().take(MAX_RAW_NAME).all(|byte| is_word(char::from(*byte))) {
        return Vec::new();
    }
    let mut raw = raw.to_vec();
    end_runs(&mut raw);
    raw.truncate(MAX_RAW_NAME);
    let decoded = decode_name(whole_escapes(&raw));
    let text = String::from_utf8_lossy(&decoded);
    let text = text.trim_start_matches(['[', ']']).split(['[', ']']).next().unwrap_or_default();
    // A blank or a dot divides here.
    let text: String = text.chars().map(|c| if matches!(c, ' ' | '.') { c } else { fold(c) }).collect();
    let mut found: Vec<String> =
        text.split(|c| !is_word(c)).filter(|word| !word.is_empty()).map(str::to_owned).collect();
    found.push(text.chars().filter(|c| is_word(*c)).collect());
    found
}

/// Of several `%` in a row all but the last begin no escape, and CherryPy drops them, however many.
fn end_runs(name: &mut Vec<u8>) {
    name.dedup_by(|next, before| (*next, *before) == (b'%', b'%'));
}

/// The names that the laxest readers take a raw one for.
pub fn readings(raw: &[u8]) -> [String; 2] {
    let raw = strip_padding(raw);
    let decoded = decode_name(whole_escapes(raw.get(..raw.len().min(MAX_RAW_NAME)).unwrap_or_default()));
    let text = String::from_utf8_lossy(&decoded);
    let text = text.split('\0').next().unwrap_or_default();
    let text = text.trim_matches(|c: char| c.is_whitespace() || c == '\u{feff}');
    let joined: String = text.chars().map(fold).collect();
    let bare = joined.trim_start_matches(['[', ']']);
    [bare.split(['[', ']']).next().unwrap_or_default().to_owned(), joined.replacen('[', "_", 1)]
}

/// What some reader takes for an underscore, or some comparison without case for an ASCII letter.
fn fold(c: char) -> char {
    match c {
        ' ' | '.' => '_',
        'ı' | 'İ' => 'i',
        'ſ' => 's',
        '\u{212a}' => 'k',
        '\u{ff01}'..='\u{ff5e}' => char::from_u32(u32::from(c) - 0xfee0).unwrap_or(c),
        _ => c,
    }
}

/// Decodes a form's name, and `%uXXXX` with it.
fn decode_name(mut raw: &[u8]) -> Vec<u8> {
    let mut decoded = Vec::with_capacity(raw.len());
    while let Some((byte, rest)) = raw.split_first() {
        let digits = |at: usize, count: usize| {
            let digits = rest.get(at..at + count).filter(|digits| digits.iter().all(u8::is_ascii_hexdigit))?;
            u32::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()
        };
        let escaped = (*byte == b'%').then(|| match rest.first() {
            Some(b'u' | b'U') => digits(1, 4).and_then(char::from_u32).map(|c| (c, 5)),
            _ => None,
        });
        if let Some(Some((c, length))) = escaped {
            decoded.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
            raw = rest.get(length..).unwrap_or_default();
        } else if let (b'%', Some(value)) = (byte, digits(0, 2).and_then(|value| u8::try_from(value).ok())) {
            decoded.push(value);
            raw = rest.get(2..).unwrap_or_default();
        } else {
            decoded.push(if *byte == b'+' { b' ' } else { *byte });
            raw = rest;
        }
    }
    decoded
}

/// Drops an escape that a cut at [`MAX_RAW_NAME`] left incomplete; it would make a padded name one of its own.
fn whole_escapes(raw: &[u8]) -> &[u8] {
    if raw.len() < MAX_RAW_NAME {
        return raw;
    }
    match raw.iter().rposition(|byte| *byte == b'%') {
        Some(at) if raw.len() - at < ESCAPE => raw.get(..at).unwrap_or_default(),
        _ => raw,
    }
}

/// Drops what some reader drops before a name: white space, brackets, a byte order mark, a question mark (qs, by an option).
fn strip_padding(mut raw: &[u8]) -> &[u8] {
    loop {
        raw = match raw {
            [b'+' | b' ' | b'\t' | b'\r' | b'\n' | 0x0b | 0x0c | b'[' | b']' | b'?', rest @ ..] => rest,
            [0xef, 0xbb, 0xbf, rest @ ..] => rest,
            [0, rest @ ..] | [b'%', b'0', b'0', rest @ ..] => rest,
            [b'%', b'2', b'0', rest @ ..] => rest,
            [b'%', b'0', b'9' | b'a'..=b'd' | b'A'..=b'D', rest @ ..] => rest,
            [b'%', b'5', b'b' | b'B' | b'd' | b'D', rest @ ..] => rest,
            _ => return raw,
        };
    }
}

/// How much of a raw name is looked at: `SAMLResponse` with every byte escaped at the longest takes 72.
const MAX_RAW_NAME: usize = 96;

/// The longest escape, `%uXXXX`.
const ESCAPE: usize = 6;

/// Prefixes of RFC 6265bis section 4.1.3, which browsers compare without case. Sanic reads a cookie under the name behind them.
const COOKIE_PREFIXES: [&str; 4] = ["__host-http-", "__http-", "__host-", "__secure-"];

/// The name of a cookie without its prefixes.
fn unprefixed(mut name: &str) -> &str {
    let begins =
        |name: &str, prefix: &str| name.get(..prefix.len()).is_some_and(|head| head.eq_ignore_ascii_case(prefix));
    while let Some(prefix) = COOKIE_PREFIXES.iter().find(|prefix| begins(name, prefix)) {
        name = name.get(prefix.len()..).unwrap_or_default();
    }
    name
}

/// Whether some reader takes the name of a cookie for this one.
pub fn is_like(raw: &[u8], named: &str) -> bool {
    is_read_as(raw, named, str::eq_ignore_ascii_case)
}

/// Cookies as a configuration names them: one by its name, or with `*` at the end all whose names begin so.
///
/// ```text
/// session        session, SESSION, __Host-session, "session", sess%69on, session[a]
/// session_P*     session_P5000, session_P80_R|printer, session.P5000
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CookieNames(String);

impl CookieNames {
    /// `None` where they would be all cookies.
    pub fn parse(text: &str) -> Option<Self> {
        let named = text.strip_suffix('*').unwrap_or(text);
        (!unprefixed(named).is_empty()).then(|| Self(text.to_owned()))
    }

    /// Whether some reader takes a raw name for one of these.
    pub fn has(&self, raw: &[u8]) -> bool {
        let begins = |name: &str, with: &str| {
            name.as_bytes().get(..with.len()).is_some_and(|head| head.eq_ignore_ascii_case(with.as_bytes()))
        };
        match self.0.strip_suffix('*') {
            Some(beginning) => is_read_as(raw, beginning, begins),
            None => is_like(raw, &self.0),
        }
    }
}

impl fmt::Display for CookieNames {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Whether a reading of a cookie's raw name meets a name, neither with its prefixes.
fn is_read_as(raw: &[u8], named: &str, meets: impl Fn(&str, &str) -> bool) -> bool {
    let named = unprefixed(named);
    // Nearly all names, so that the cookies of a request cost nothing.
    let is_plain = |name: &[u8]| name.iter().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-'));
    let bare = raw.trim_ascii();
    if is_plain(bare) && is_plain(named.as_bytes()) {
        return meets(unprefixed(&String::from_utf8_lossy(bare)), named);
    }
    // Behind more padding than is looked at, any name may stand.
    if bare.len() > MAX_COOKIE_NAME {
        return true;
    }
    let folded = |text: &str| -> String {
        let text: String = text.chars().map(fold).flat_map(char::to_lowercase).collect();
        unprefixed(&text).to_owned()
    };
    let decoded = decode_name(strip_padding(raw));
    let text = String::from_utf8_lossy(&decoded);
    // Tornado, Starlette and WebOb drop what Unicode or Latin-1 calls white space around a name; U+FFFD stands for such a byte.
    let padding = |c: char| c.is_whitespace() || c.is_control() || matches!(c, '"' | '\u{fffd}' | '\u{feff}');
    let text = text.split('\0').next().unwrap_or_default().trim_matches(padding);
    let named = folded(named);
    // PHP makes `_` of a `[` that nothing closes, and cuts the name where something does.
    let cut = text.split(['[', ']']).next().unwrap_or_default();
    meets(&folded(cut), &named)
        || meets(&folded(&text.replace(['[', ']'], "_")), &named)
        || within(raw).iter().any(|word| meets(&folded(word), &named))
}

/// The cookies of a `Cookie` field, name and value, wherever some reader lets one begin: behind `;`, behind `,`, and behind a blank
/// (the `SimpleCookie` of Python, which aiohttp, Bottle, CherryPy and WebOb read by; it passes over blanks before the `=` too).
pub fn cookies(line: &[u8]) -> impl Iterator<Item = (&[u8], &[u8])> {
    line.split(|byte| matches!(byte, b';' | b',')).flat_map(|piece| {
        let piece = piece.trim_ascii();
        let (name, value) = match memchr::memchr(b'=', piece) {
            Some(at) => (piece.get(..at).unwrap_or_default(), piece.get(at + 1..).unwrap_or_default()),
            None => (piece, &[][..]),
        };
        let whole = (!name.is_empty()).then_some((name, value));
        let blanks = piece.iter().enumerate().filter(|(_, byte)| byte.is_ascii_whitespace());
        whole.into_iter().chain(blanks.filter_map(move |(at, _)| behind_blank(piece.get(at + 1..)?)))
    })
}

/// A cookie whose name begins here, without a blank in it.
fn behind_blank(text: &[u8]) -> Option<(&[u8], &[u8])> {
    let end = text.iter().position(|byte| *byte == b'=' || byte.is_ascii_whitespace())?;
    let (name, rest) = text.split_at_checked(end).filter(|(name, _)| !name.is_empty())?;
    Some((name, rest.trim_ascii_start().strip_prefix(b"=")?))
}

/// How much of a cookie's name is looked at.
const MAX_COOKIE_NAME: usize = 512;

/// Keeps of a raw name what [`readings`] looks at. Leading padding is dropped at once, however much of it comes.
pub fn keep_name(name: &mut Vec<u8>, mut bytes: &[u8]) {
    while name.len() < MAX_RAW_NAME && !bytes.is_empty() {
        let (now, later) = bytes.split_at(bytes.len().min(MAX_RAW_NAME - name.len()));
        name.extend_from_slice(now);
        end_runs(name);
        let stripped = strip_padding(name).len();
        name.drain(..name.len() - stripped);
        bytes = later;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a `Cookie` field cannot hold as text, and what is longer than anyone looks.
    #[test]
    fn cookies_are_known_in_every_spelling() {
        let names = [CookieNames::parse("session").unwrap(), CookieNames::parse("session_P*").unwrap()];
        let has = |raw: &[u8]| names.iter().any(|names| names.has(raw));
        let padded = [&[0xa0; 600][..], b"session"].concat();
        for raw in
            [&b"session"[..], b"\xa0session", b"session_P5000\x85", b"session_P80_R|a", b"__Http-session", &padded]
        {
            assert!(has(raw), "{raw:?}");
        }
        for raw in [&b"sessions"[..], b"session_Q", b"xsession", b"", b"csrf_token_P5000"] {
            assert!(!has(raw), "{raw:?}");
        }
        for all in ["", "*", "__Host-", "__secure-*"] {
            assert_eq!(CookieNames::parse(all), None, "{all}");
        }
    }

    /// The last escape that is looked at may be half of one.
    #[test]
    fn a_name_is_read_behind_any_padding_and_before_it() {
        let escaped: String = "id_token".chars().map(|c| format!("%u{:04x}", u32::from(c))).collect();
        for name in ["id_token", "id token", "id.token", "id[token", "[id_token", "id_token[]", &escaped] {
            for (padding, times) in [("", 0), ("%20", 5), ("%20", 90), ("%09", 90), ("+", 200), ("%00", 90)] {
                for letters in 0..4 {
                    let name = format!("{}{}{}", "+".repeat(letters), name, padding.repeat(times));
                    let cut = name.replacen("%u0069", "i", 1);
                    for raw in [name.as_str(), &cut] {
                        assert!(could_be(raw.as_bytes(), "id_token"), "{raw}");
                    }
                }
            }
        }
    }

    /// However many blanks there are, a field is read once.
    #[test]
    fn a_cookie_may_begin_behind_each_blank() {
        let found = |line: &'static [u8]| cookies(line).map(|(name, _)| name).collect::<Vec<_>>();
        assert_eq!(found(b"a=b c =d, e f=g; h"), [&b"a"[..], b"c", b"e f", b"f", b"h"]);
        let blanks = [b"a=".as_slice(), &[b' '; 60_000], b"b"].concat();
        let words = b"a=b ".repeat(15_000);
        assert_eq!((cookies(&blanks).count(), cookies(&words).count()), (1, 15_000));
    }
}
