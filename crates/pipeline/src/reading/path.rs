//! A path, read the way the laxest app would read it.
//!
//! The configuration compares callbacks by it, the proxy finds them by it, and access rules are decided by it: were these
//! different readings, a path could be one thing to the first and another to the second. What is forwarded is always the path
//! as it came; only the decision is lax.
//!
//! ```text
//! /Login/Callback      case              /login//callback      repeated slashes
//! /login/callback/     trailing slash    /login%2fcallback     escapes, also escaped again (%252f)
//! /login\callback      backslash         /login;a=b/callback   parameters
//! /login/callback.json format            /index.php/callback   a script, and the path it is given
//! /login/callback#x    fragment          /ｌogin/callback      full-width forms and letters that fold to ASCII
//! /%6<ogin/callback    digits that only Jetty takes for such
//! //x/login/callback   a target that begins like an authority     /(S(x))/login/callback    ASP.NET's sessions without a cookie
//! /login/x/../callback refused           /login%00/callback    refused
//! ```
//!
//! A `..` segment, a NUL, or an overlong UTF-8 form, at any depth of escaping, is refused everywhere: clients resolve the
//! first before they send, the others have no use, and two readers rarely agree on them.

use std::borrow::Cow;

use super::escape;

/// How often a path may be escaped. Each round shortens it, and real clients send at most two.
const MAX_DEPTH: usize = 4;

/// A path that no two readers agree on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ambiguous;

/// Shows `see` the normal form of every reading of a path, until it answers true: each depth of escaping, backslash as slash
/// or not, cut at `#` and `?` or not. Answers whether it did. A plain path has one reading, and costs no allocation.
///
/// # Errors
/// For a path that is refused whatever it means.
pub fn any_reading(path: &str, mut see: impl FnMut(&str) -> bool) -> Result<bool, Ambiguous> {
    if is_plain(path.as_bytes()) {
        return Ok(see(path));
    }
    let mut buffer = [0; 256];
    if !begins_like_authority(path.as_bytes())
        && let Some(normal) = nearly_plain(path.as_bytes(), &mut buffer)
    {
        return Ok(see(normal));
    }
    let mut text: Cow<'_, [u8]> = Cow::Borrowed(path.as_bytes());
    for _ in 0..=MAX_DEPTH {
        if is_ambiguous(&text) {
            return Err(Ambiguous);
        }
        let rests = [behind_authority(&text).map(Cow::Borrowed), without_sessions(&text).map(Cow::Owned)];
        for text in std::iter::once(Cow::Borrowed(&*text)).chain(rests.into_iter().flatten()) {
            for slashed in [false, true] {
                for cut in [false, true] {
                    if (slashed && !text.contains(&b'\\')) || (cut && !text.iter().any(|b| matches!(b, b'#' | b'?'))) {
                        continue;
                    }
                    if see(&reading(&text, slashed, cut)) {
                        return Ok(true);
                    }
                }
            }
        }
        let decoded: Vec<u8> = percent_encoding::percent_decode(&text).collect();
        if decoded.len() == text.len() {
            // Escapes that are none: uWSGI drops them, Jetty makes letters of some, and reads `%u006c` where it is told to.
            let rest = behind_authority(&text).unwrap_or_default();
            return Ok(memchr::memchr(b'%', &text).is_some()
                && mended(&text).iter().chain(&mended(rest)).any(|text| see(&reading(text, true, true))));
        }
        text = Cow::Owned(decoded);
    }
    Err(Ambiguous)
}

fn begins_like_authority(text: &[u8]) -> bool {
    matches!(text, [b'/' | b'\\', b'/' | b'\\', ..])
}

/// What stands behind an authority (RFC 3986 section 4.2): apps that take the target for a reference find a host in its beginning, by
/// `new URL(req.url, base)` in Node, `parse_url($_SERVER['REQUEST_URI'])` in PHP, `URI.getPath()` in the JDK.
///
/// ```text
/// //x/admin      /admin
/// /\x:80/admin   /admin, to Node, which also passes over more slashes
/// ```
fn behind_authority(text: &[u8]) -> Option<&[u8]> {
    if !begins_like_authority(text) {
        return None;
    }
    let is_slash = |byte: &u8| matches!(byte, b'/' | b'\\');
    let authority = text.get(text.iter().take_while(|byte| is_slash(byte)).count()..)?;
    let end = authority.iter().position(|byte| is_slash(byte) || matches!(byte, b'?' | b'#'));
    // A host alone has the path `/`.
    Some(end.and_then(|end| authority.get(end..)).unwrap_or(b"/"))
}

/// The path without the segments in which ASP.NET keeps sessions that have no cookie: `/(S(lit3py55t21z5v55vlm25s55))/admin`.
fn without_sessions(text: &[u8]) -> Option<Vec<u8>> {
    memchr::memmem::find(text, b"(")?;
    let is_session = |segment: &&[u8]| {
        let inner = segment.strip_prefix(b"(").and_then(|segment| segment.strip_suffix(b"))"));
        inner.is_some_and(|inner| matches!(inner, [letter, b'(', ..] if letter.is_ascii_alphabetic()))
    };
    let mut segments: Vec<&[u8]> = text.split(|byte| *byte == b'/').collect();
    let before = segments.len();
    segments.retain(|segment| !is_session(segment));
    (segments.len() < before).then(|| segments.join(&b'/'))
}

/// What lenient readers make of escapes that are none: `%uXXXX` a character, a broken one nothing, with or without its letters, or what
/// Jetty makes of it.
fn mended(text: &[u8]) -> [Vec<u8>; 3] {
    let (mut bare, mut dropped) = (Vec::with_capacity(text.len()), Vec::with_capacity(text.len()));
    let mut rest = text;
    while let Some((byte, after)) = rest.split_first() {
        rest = after;
        if *byte != b'%' {
            bare.push(*byte);
            dropped.push(*byte);
            continue;
        }
        let wide = after.strip_prefix(b"u").or_else(|| after.strip_prefix(b"U")).and_then(|digits| digits.get(..4));
        let wide = wide.and_then(|digits| u32::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok());
        if let Some(letter) = wide.and_then(char::from_u32) {
            for text in [&mut bare, &mut dropped] {
                text.extend_from_slice(letter.encode_utf8(&mut [0; 4]).as_bytes());
            }
            rest = after.get(5..).unwrap_or_default();
            continue;
        }
        let letters = after.iter().take(2).take_while(|byte| **byte != b'/').count();
        bare.extend_from_slice(after.get(..letters).unwrap_or_default());
        rest = after.get(letters..).unwrap_or_default();
    }
    [bare, dropped, percent_encoding::percent_decode(&escape::settled(text)).collect()]
}

/// The normal form of a configured path: every escape undone, backslash for slash, cut at `#` and `?`. Two paths of one form
/// may be one to the app.
pub fn normal_form(path: &str) -> String {
    let mut text = path.as_bytes().to_vec();
    for _ in 0..MAX_DEPTH {
        text = percent_encoding::percent_decode(&text).collect();
    }
    reading(&text, true, true)
}

/// The normal form of one reading of a path: without case, empty segments, dot segments, parameters after `;`, and what some
/// readers drop at the end of a segment.
fn reading(text: &[u8], backslash_is_slash: bool, cut: bool) -> String {
    let end = if cut { text.iter().position(|b| matches!(b, b'#' | b'?')).unwrap_or(text.len()) } else { text.len() };
    let lossy = String::from_utf8_lossy(text.get(..end).unwrap_or_default());
    let folded: String = lossy.chars().filter(|c| !c.is_control()).flat_map(fold).collect();
    let mut normal = String::with_capacity(folded.len() + 1);
    for segment in folded.split(|c| c == '/' || (backslash_is_slash && c == '\\')) {
        let name = segment.split(';').next().unwrap_or_default();
        if name == ".." {
            normal.truncate(normal.rfind('/').unwrap_or_default());
            continue;
        }
        // Drops empty segments and single dots with the trailing ones.
        let name = name.trim_end_matches(['.', ' ']);
        if !name.is_empty() {
            normal.push('/');
            normal.push_str(name);
        }
    }
    if normal.is_empty() {
        normal.push('/');
    }
    normal
}

/// Lower case, and what some comparison or normalization takes for an ASCII letter: full-width forms (NFKC), the dotless and
/// dotted i, the long s and the Kelvin sign (simple case folding).
fn fold(c: char) -> impl Iterator<Item = char> {
    let narrow = match c {
        '\u{ff01}'..='\u{ff5e}' => char::from_u32(u32::from(c) - 0xfee0).unwrap_or(c),
        'ı' | 'İ' => 'i',
        'ſ' => 's',
        '\u{212a}' => 'k',
        _ => c,
    };
    narrow.to_lowercase()
}

/// Extensions of files that servers run, and give what follows them in the path (`PATH_INFO`; RFC 3875 section 4.1.5).
const SCRIPTS: [&str; 40] = [
    "php", "php3", "php4", "php5", "php7", "php8", "phtml", "phar", "asp", "aspx", "ashx", "asmx", "axd", "svc",
    "cshtml", "cgi", "fcgi", "fpl", "pl", "py", "rb", "wsgi", "psgi", "jsp", "jspx", "jsf", "xhtml", "faces", "do",
    "action", "cfm", "cfml", "cfc", "dll", "exe", "nsf", "lua", "tcl", "sh", "hta",
];

/// Names of scripts that stand for the folder they are in.
const INDEX: [&str; 5] = ["index", "default", "app", "app_dev", "web"];

/// What a front controller is given to route, for each script in a path of normal form: where the script ends, and the path
/// behind it. A script without one is given `/`.
///
/// ```text
/// /index.php/login/callback   /login/callback
/// /cgi-bin/app/acs            /acs
/// ```
pub fn behind_scripts(normal: &str) -> impl Iterator<Item = (usize, &str)> {
    let may_hold = memchr::memchr(b'.', normal.as_bytes()).is_some() || normal.starts_with(CGI_BIN);
    let mut from = if may_hold { Some(0) } else { None };
    std::iter::from_fn(move || {
        while let Some(start) = from {
            let segment = normal.get(start + 1..)?;
            let length = segment.find('/').unwrap_or(segment.len());
            let (segment, rest) = segment.split_at_checked(length)?;
            let end = start + 1 + length;
            from = (!rest.is_empty()).then_some(end);
            let runs = script_stem(segment);
            match rest {
                "" if runs.is_some_and(|stem| INDEX.contains(&stem)) => return Some((end, "/")),
                "" => {}
                rest if runs.is_some() || (start + 1 == CGI_BIN.len() && normal.starts_with(CGI_BIN)) => {
                    return Some((end, rest));
                }
                _ => {}
            }
        }
        None
    })
}

const CGI_BIN: &str = "/cgi-bin/";

/// Whether a segment of normal form names a script that servers run.
pub fn is_script(segment: &str) -> bool {
    script_stem(segment).is_some()
}

/// The name of a script without its extension.
fn script_stem(segment: &str) -> Option<&str> {
    let (stem, extension) = segment.rsplit_once('.')?;
    (!stem.is_empty() && SCRIPTS.contains(&extension)).then_some(stem)
}

/// The shorter paths that an app may take a path of normal form for, by what stands behind a dot in its last segment:
/// `/acs.min.json` is `/acs.min` or `/acs` to Rails and its like, `/acs.php` is `/acs` with extensions left out.
pub fn without_format(normal: &str) -> impl Iterator<Item = &str> {
    let name = normal.rfind('/').map_or(0, |at| at + 1);
    let dots = normal.get(name..).unwrap_or_default();
    let dots = dots.match_indices('.').filter(|(at, _)| *at > 0);
    dots.filter_map(move |(at, _)| normal.get(..name + at))
}

/// A path of normal form with the extensions of scripts in its middle left out (`/acs.php/x` is `/acs/x` where a server adds
/// them), and where the first one stood.
pub fn without_extensions(normal: &str) -> Option<(usize, String)> {
    memchr::memchr(b'.', normal.as_bytes())?;
    let mut first = None;
    let mut bare = String::with_capacity(normal.len());
    let (folders, name) = normal.rsplit_once('/')?;
    for segment in folders.split('/').skip(1) {
        bare.push('/');
        let stem = script_stem(segment);
        bare.push_str(stem.unwrap_or(segment));
        if stem.is_some() {
            first = first.or(Some(bare.len()));
        }
    }
    bare.push('/');
    bare.push_str(name);
    first.map(|first| (first, bare))
}

/// Whether the path is its own normal form.
fn is_plain(path: &[u8]) -> bool {
    let mut previous = 0;
    for byte in path {
        let plain = match byte {
            b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'~' => true,
            b'.' | b'/' => previous != b'/' && !(*byte == b'/' && previous == b'.'),
            _ => false,
        };
        if !plain {
            return false;
        }
        previous = *byte;
    }
    !path.is_empty() && (path.len() == 1 || !matches!(previous, b'/' | b'.'))
}

/// The normal form of a path that differs from it by case and slashes alone, without allocating.
fn nearly_plain<'b>(path: &[u8], buffer: &'b mut [u8; 256]) -> Option<&'b str> {
    let mut length = 0;
    let mut previous = 0;
    for byte in path.iter().copied().chain([b'/']) {
        match byte {
            b'/' if previous == b'.' => return None,
            b'.' if previous == b'/' => return None,
            b'/' | b'.' | b'-' | b'_' | b'~' | b'!' | b'$' | b'&' | b'+' | b',' | b':' | b'=' | b'@' => {}
            byte if byte.is_ascii_alphanumeric() => {}
            _ => return None,
        }
        if !(byte == b'/' && previous == b'/') {
            *buffer.get_mut(length)? = byte.to_ascii_lowercase();
            length += 1;
        }
        previous = byte;
    }
    std::str::from_utf8(buffer.get(..length.saturating_sub(1).max(1))?).ok()
}

fn is_ambiguous(text: &[u8]) -> bool {
    let overlong = |pair: &[u8]| match pair {
        // RFC 3629 section 3: no UTF-8 text holds these; lenient decoders read `/` and `.` out of them.
        [0xc0 | 0xc1, _] | [0xe0, 0x80..=0x9f] | [0xf0, 0x80..=0x8f] => true,
        _ => false,
    };
    text.contains(&0)
        || text.windows(2).any(overlong)
        || text.split(|byte| matches!(byte, b'/' | b'\\')).any(|segment| {
            let name = segment.split(|byte| matches!(byte, b';' | b'#' | b'?')).next().unwrap_or_default();
            let dots = name.iter().filter(|byte| **byte == b'.').count();
            // Some readers drop white space and control characters next to the dots.
            dots >= 2 && name.iter().all(|byte| *byte == b'.' || *byte <= b' ' || *byte == 0x7f)
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_compare_as_the_laxest_app_would_read_them() {
        for path in [
            "/saml/acs",
            "/SAML//acs",
            "/saml/%61cs",
            "/saml/x/../acs",
            "/saml;v=1/acs/",
            "/saml%2facs",
            "/saml%252facs",
            "/\u{ff53}aml/acs",
        ] {
            assert_eq!(normal_form(path), "/saml/acs", "{path}");
        }
        assert_ne!(normal_form("/saml/acs2"), normal_form("/saml/acs"));
    }

    #[test]
    fn scripts_are_given_the_path_behind_them() {
        let rests = |path| behind_scripts(path).map(|(_, rest)| rest).collect::<Vec<_>>();
        assert_eq!(rests("/index.php/login/callback"), ["/login/callback"]);
        assert_eq!(rests("/a/b.aspx/c.do/d"), ["/c.do/d", "/d"]);
        assert_eq!(rests("/cgi-bin/app/acs"), ["/acs"]);
        assert_eq!(rests("/x/index.php"), ["/"]);
        for path in ["/", "/a.php", "/v1.0/acs", "/.php/acs", "/a.phpx/b", "/cgi-bin/app", "/x/cgi-bin/app/b", "*", ""]
        {
            assert!(rests(path).is_empty(), "{path}");
        }
    }

    #[test]
    fn formats_and_extensions_can_be_left_out() {
        let heads = |path| without_format(path).collect::<Vec<_>>();
        assert_eq!(heads("/a/acs.min.json"), ["/a/acs", "/a/acs.min"]);
        assert!(heads("/a.b/c").is_empty() && heads("/a/.json").is_empty() && heads("/").is_empty());
        assert_eq!(without_extensions("/a/b.php/c.do/d.e"), Some((4, "/a/b/c/d.e".into())));
        assert_eq!(without_extensions("/v1.0/b"), None);
        assert_eq!(without_extensions("/b.php"), None);
    }

    #[test]
    fn dots_that_some_readers_find_are_ambiguous() {
        for text in ["..", "a/../b", "a/. ./b", "a/.\t.", "a/..\u{7f}", "a\\..;x", "a/...", "a\0"] {
            assert!(is_ambiguous(text.as_bytes()), "{text:?}");
        }
        for text in ["a", "a/./b", "a/..b", "a/b..", "a/.b.", "a; ..", "a/. b ."] {
            assert!(!is_ambiguous(text.as_bytes()), "{text:?}");
        }
        for bytes in [&b"\xc0\xaf"[..], b"a\xc1\xae", b"\xe0\x80\xaf", b"\xf0\x80\x80\xaf"] {
            assert!(is_ambiguous(bytes), "{bytes:x?}");
        }
        assert!(!is_ambiguous("\u{e9}\u{2126}\u{1f600}".as_bytes()));
    }

    #[test]
    fn the_quick_way_agrees_with_the_lax_one() {
        for path in ["/a/b.c", "/a_b~c-9", "/", "/a.b"] {
            assert!(is_plain(path.as_bytes()), "{path}");
            assert_eq!(reading(path.as_bytes(), true, true), path);
        }
        for path in ["", "/a/", "//a", "/a//b", "/.a", "/a./b", "/a.", "/A", "/a b", "/a%20", "/ä"] {
            assert!(!is_plain(path.as_bytes()), "{path}");
        }
        for path in ["", "/", "//", "/A", "/A//b/", "/a@b:c/", "/A.b//"] {
            assert_eq!(
                nearly_plain(path.as_bytes(), &mut [0; 256]),
                Some(&*reading(path.as_bytes(), true, true)),
                "{path}"
            );
        }
        for path in ["/./a", "/a./b", "/a;b", "/a%20", "/a\\b", "/a."] {
            assert_eq!(nearly_plain(path.as_bytes(), &mut [0; 256]), None, "{path}");
        }
    }
}
