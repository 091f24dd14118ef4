//! Percent escapes as Jetty reads them.
//!
//! Jetty 12 makes the value of a digit by arithmetic, without a look whether it is one (`TypeUtil.convertHexDigit`), in paths, queries and
//! forms. To every other reader such an escape is text, or a fault.
//!
//! ```text
//! %4: is J      SAMLResp%6?nse is SAMLResponse      /ad%6=in is /admin
//! ```

use std::borrow::Cow;

/// What Jetty takes for a hexadecimal digit, and its value: `0` to `9` and the six characters behind them, `@` and `` ` `` as 9, letters
/// to `f`, and 16 control characters.
const fn digit(byte: u8) -> Option<u8> {
    match byte {
        0x10..=0x1f | b'0'..=b'?' => Some(byte & 0xf),
        b'@'..=b'F' | b'`'..=b'f' => Some((byte & 0x1f) + 9),
        _ => None,
    }
}

/// The same text with the escapes that only Jetty reads written as all read them. Borrowed where it has none.
pub fn settled(text: &[u8]) -> Cow<'_, [u8]> {
    let Some(first) = next_odd(text, 0) else { return Cow::Borrowed(text) };
    let mut settled = Vec::with_capacity(text.len());
    let (mut from, mut odd) = (0, Some(first));
    while let Some((at, value)) = odd {
        settled.extend_from_slice(text.get(from..at).unwrap_or_default());
        settled.extend_from_slice(format!("%{value:02X}").as_bytes());
        from = at + ESCAPE;
        odd = next_odd(text, from);
    }
    settled.extend_from_slice(text.get(from..).unwrap_or_default());
    Cow::Owned(settled)
}

/// Whether a text has an escape that only Jetty reads.
pub fn is_odd(text: &[u8]) -> bool {
    next_odd(text, 0).is_some()
}

/// How many bytes at the end of a text may begin an escape that goes on behind it.
pub fn open(text: &[u8]) -> usize {
    match text {
        [.., b'%'] => 1,
        [.., b'%', first] if digit(*first).is_some() => 2,
        _ => 0,
    }
}

/// Whether Jetty reads an escape across the `?` that ends a path for other readers.
pub fn joins(path: &[u8], query: &[u8]) -> bool {
    match open(path) {
        0 => false,
        1 => query.first().is_some_and(|first| digit(*first).is_some()),
        _ => true,
    }
}

const ESCAPE: usize = 3;

/// The next escape that only Jetty reads, from a place that is within none, and the byte that it stands for.
fn next_odd(text: &[u8], mut from: usize) -> Option<(usize, u8)> {
    loop {
        let at = from + memchr::memchr(b'%', text.get(from..)?)?;
        let [high, low] = *text.get(at + 1..at + ESCAPE)? else { return None };
        from = match (digit(high), digit(low)) {
            (Some(high), Some(low)) if !text.get(at + 1..at + ESCAPE)?.iter().all(u8::is_ascii_hexdigit) => {
                return Some((at, high << 4 | low));
            }
            (Some(_), Some(_)) => at + ESCAPE,
            _ => at + 1,
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digits_are_those_of_the_arithmetic() {
        for byte in 0..=0x7f_u8 {
            // `(c & 0x1f) + (c >> 6) * 0x19 - 0x10`, and a fault where that is not below 16.
            let value = i32::from(byte & 0x1f) + i32::from(byte >> 6) * 0x19 - 0x10;
            assert_eq!(digit(byte).map(i32::from), (0..16).contains(&value).then_some(value), "{byte:#x}");
        }
        assert_eq!((0x80..=0xff).find_map(digit), None);
    }

    #[test]
    fn odd_escapes_are_written_as_all_read_them() {
        for (text, expected) in [
            ("%4:", "%4A"),
            ("a%6?b%2>%\u{14}\u{15}", "a%6Fb%2E%45"),
            ("%6;%6=%@`", "%6B%6D%99"),
            ("%25%4:", "%25%4A"),
            ("%%4:", "%%4A"),
            ("%4%4:", "%4%4A"),
        ] {
            assert_eq!(settled(text.as_bytes()), expected.as_bytes(), "{text}");
            assert!(is_odd(text.as_bytes()), "{text}");
        }
        for text in ["", "%", "%4", "50%", "100% a", "%zz", "%4a%C3", "%3a:", "%g:", "%:g", "%25:"] {
            assert!(matches!(settled(text.as_bytes()), Cow::Borrowed(_)), "{text}");
        }
    }

    #[test]
    fn an_escape_may_go_on_behind_the_end() {
        for (text, length) in [("", 0), ("a", 0), ("%", 1), ("a%4", 2), ("%;", 2), ("%%", 1), ("%4a", 0), ("%g", 0)] {
            assert_eq!(open(text.as_bytes()), length, "{text}");
        }
        for (path, query, is_joined) in
            [("/a%6", "x", true), ("/a%", "4", true), ("/50%", "x", false), ("/a%6g", "4", false), ("/a%", "", false)]
        {
            assert_eq!(joins(path.as_bytes(), query.as_bytes()), is_joined, "{path}?{query}");
        }
    }
}
