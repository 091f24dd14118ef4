//! Escapes as the laxest readers undo them, who take more for a digit than RFC 3986 and RFC 8259 do.
//!
//! | reader | what it takes |
//! |---|---|
//! | Jetty 12 (`TypeUtil.convertHexDigit`) | characters next to the digits: it makes the value by arithmetic, in paths, queries and forms |
//! | `java.net.URLDecoder`, org.json, fastjson (`Integer.parseInt`) | the digits of every script, and full-width letters; in `\u` also a sign |
//! | .NET's `int.Parse`, Python's `int` | blanks, underscores, `0x` in `\u` |
//! | xmldom 0.8 (`parseInt`), HTML parsers | letters behind the digits of a reference, or no `;` |
//!
//! ```text
//! %4: is J      SAMLResp%6?nse is SAMLResponse      /ad%6=in is /admin      %６５ is e      \u+065 is e      &#101z; is e
//! ```

use std::borrow::Cow;

/// The zeros of all scripts; nine more digits follow each (Unicode's general category Nd).
const ZEROS: [u32; 75] = [
    0x660, 0x6f0, 0x7c0, 0x966, 0x9e6, 0xa66, 0xae6, 0xb66, 0xbe6, 0xc66, 0xce6, 0xd66, 0xde6, 0xe50, 0xed0, 0xf20,
    0x1040, 0x1090, 0x17e0, 0x1810, 0x1946, 0x19d0, 0x1a80, 0x1a90, 0x1b50, 0x1bb0, 0x1c40, 0x1c50, 0xa620, 0xa8d0,
    0xa900, 0xa9d0, 0xa9f0, 0xaa50, 0xabf0, 0xff10, 0x104a0, 0x10d30, 0x10d40, 0x11066, 0x110f0, 0x11136, 0x111d0,
    0x112f0, 0x11450, 0x114d0, 0x11650, 0x116c0, 0x116d0, 0x116da, 0x11730, 0x118e0, 0x11950, 0x11bf0, 0x11c50,
    0x11d50, 0x11da0, 0x11f50, 0x16a60, 0x16ac0, 0x16b50, 0x16130, 0x16d70, 0x1ccf0, 0x1d7ce, 0x1d7d8, 0x1d7e2,
    0x1d7ec, 0x1d7f6, 0x1e140, 0x1e2f0, 0x1e4f0, 0x1e5f1, 0x1e950, 0x1fbf0,
];

/// The value of what some reader takes for a hexadecimal digit.
fn digit(letter: char) -> Option<u8> {
    let code = u32::from(letter);
    let value = match code {
        // By Jetty's arithmetic.
        0x10..=0x1f | 0x30..=0x3f => code & 0xf,
        0x40..=0x46 | 0x60..=0x66 => (code & 0x1f) + 9,
        0xff21..=0xff26 => code - 0xff21 + 10,
        0xff41..=0xff46 => code - 0xff41 + 10,
        0x80.. => ZEROS.iter().find_map(|zero| code.checked_sub(*zero).filter(|value| *value < 10))?,
        _ => return None,
    };
    u8::try_from(value).ok()
}

/// A letter at the beginning of a text, and its length in bytes. `None`: it is cut off, or none.
fn first(text: &[u8]) -> Option<(char, usize)> {
    let text = text.get(..text.len().min(4))?;
    let valid = match std::str::from_utf8(text) {
        Ok(valid) => valid,
        Err(error) => std::str::from_utf8(text.get(..error.valid_up_to())?).ok()?,
    };
    valid.chars().next().map(|letter| (letter, letter.len_utf8()))
}

/// Whether a text may be the beginning of a letter that goes on behind it.
fn is_cut(text: &[u8]) -> bool {
    let Some((lead, behind)) = text.split_first() else { return true };
    let missing = match lead {
        0xc2..=0xdf => 1,
        0xe0..=0xef => 2,
        0xf0..=0xf4 => 3,
        _ => 0,
    };
    behind.len() < missing && behind.iter().all(|byte| matches!(byte, 0x80..=0xbf))
}

/// The same text with the percent escapes that few readers take for such written as all read them. Borrowed where it has none.
pub fn settled(text: &[u8]) -> Cow<'_, [u8]> {
    let Some(mut odd) = next_odd(text, 0) else { return Cow::Borrowed(text) };
    let mut settled = Vec::with_capacity(text.len());
    let mut from = 0;
    loop {
        settled.extend_from_slice(text.get(from..odd.at).unwrap_or_default());
        settled.extend_from_slice(format!("%{:02X}", odd.value).as_bytes());
        from = odd.at + odd.length;
        odd = match next_odd(text, from) {
            Some(next) => next,
            None => break,
        };
    }
    settled.extend_from_slice(text.get(from..).unwrap_or_default());
    Cow::Owned(settled)
}

/// Whether a text has a percent escape that few readers take for one.
pub fn is_odd(text: &[u8]) -> bool {
    next_odd(text, 0).is_some()
}

/// How many bytes at the end of a text may begin an escape that goes on behind it.
pub fn open(text: &[u8]) -> usize {
    let tail = text.len().saturating_sub(LONGEST - 1);
    let Some(at) = text.get(tail..).and_then(|end| memchr::memrchr(b'%', end)) else { return 0 };
    let Some(digits) = text.get(tail + at + 1..) else { return 0 };
    let goes_on = match first(digits) {
        Some((high, length)) if digit(high).is_some() => is_cut(digits.get(length..).unwrap_or_default()),
        Some(_) => false,
        None => is_cut(digits),
    };
    if goes_on { digits.len() + 1 } else { 0 }
}

/// Whether some reader finds an escape across the `?` that ends a path for others.
pub fn joins(path: &[u8], query: &[u8]) -> bool {
    match open(path) {
        0 => false,
        1 => first(query).is_some_and(|(letter, _)| digit(letter).is_some()),
        _ => true,
    }
}

/// The longest escape: two letters of four bytes.
const LONGEST: usize = 9;

/// An escape that few readers take for one.
struct Odd {
    at: usize,
    length: usize,
    value: u8,
}

/// The next one, from a place that is within none.
fn next_odd(text: &[u8], mut from: usize) -> Option<Odd> {
    loop {
        let at = from + memchr::memchr(b'%', text.get(from..)?)?;
        from = match text.get(at + 1..at + 3) {
            Some([high, low]) if high.is_ascii_hexdigit() && low.is_ascii_hexdigit() => at + 3,
            _ => {
                let digit_at = |at: usize| {
                    let (letter, length) = first(text.get(at..)?)?;
                    Some((digit(letter)?, at + length))
                };
                if let Some((high, then)) = digit_at(at + 1)
                    && let Some((low, end)) = digit_at(then)
                {
                    return Some(Odd { at, length: end - at, value: high << 4 | low });
                }
                at + 1
            }
        };
    }
}

/// Writes the digits of all scripts, and full-width letters to F, as ASCII has them.
#[derive(Debug, Default, Clone)]
pub struct Folded {
    /// The beginning of a letter, at the end of the last piece.
    cut: Vec<u8>,
}

impl Folded {
    /// Whether nothing is cut.
    pub fn is_between(&self) -> bool {
        self.cut.is_empty()
    }

    pub fn read<'p>(&mut self, piece: &'p [u8]) -> Cow<'p, [u8]> {
        if self.cut.is_empty() && piece.is_ascii() {
            return Cow::Borrowed(piece);
        }
        let text = [&std::mem::take(&mut self.cut), piece].concat();
        let mut folded = Vec::with_capacity(text.len());
        let mut rest = text.as_slice();
        while let Some(byte) = rest.first() {
            let letter = first(rest);
            let (kept, length) = match letter {
                Some((letter, length)) if !letter.is_ascii() => (digit(letter), length),
                None if is_cut(rest) => {
                    self.cut = rest.to_vec();
                    break;
                }
                _ => (None, 1),
            };
            match kept.and_then(|value| char::from_digit(value.into(), 16)) {
                Some(digit) => folded.extend(u8::try_from(digit)),
                None if length == 1 => folded.push(*byte),
                None => folded.extend_from_slice(rest.get(..length).unwrap_or_default()),
            }
            rest = rest.get(length..).unwrap_or_default();
        }
        Cow::Owned(folded)
    }
}

/// The byte that two characters stand for, by Jetty's arithmetic.
pub fn pair(high: u8, low: u8) -> Option<u8> {
    Some(digit(char::from(high)).filter(|_| high < 0x80)? << 4 | digit(char::from(low)).filter(|_| low < 0x80)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digits_are_those_of_the_arithmetic_and_of_all_scripts() {
        for byte in 0..=0x7f_u8 {
            // `(c & 0x1f) + (c >> 6) * 0x19 - 0x10`, and a fault where that is not below 16.
            let value = i32::from(byte & 0x1f) + i32::from(byte >> 6) * 0x19 - 0x10;
            let expected = (0..16).contains(&value).then_some(value);
            assert_eq!(digit(char::from(byte)).map(i32::from), expected, "{byte:#x}");
        }
        let decimal = regex::Regex::new(r"^\p{Nd}$").unwrap();
        let mut run = 0;
        for letter in ('\u{80}'..=char::MAX).filter(|letter| !('\u{ff21}'..='\u{ff46}').contains(letter)) {
            let is_decimal = decimal.is_match(letter.encode_utf8(&mut [0; 4]));
            assert_eq!(digit(letter), is_decimal.then_some(run), "{letter:?}");
            run = if is_decimal { (run + 1) % 10 } else { 0 };
        }
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
            ("a%６５%٧٩%4Ａ%\u{1d7ce}\u{1e953}", "a%65%79%4A%03"),
        ] {
            let settled = settled(text.as_bytes());
            let settled = String::from_utf8_lossy(&settled);
            assert!(settled.starts_with(expected), "{text}: {settled}");
            assert!(is_odd(text.as_bytes()), "{text}");
        }
        for text in
            ["", "%", "%4", "50%", "100% a", "%zz", "%4a%C3", "%3a:", "%g:", "%:g", "%25:", "%é5", "%5é", "％４５"]
        {
            assert!(matches!(settled(text.as_bytes()), Cow::Borrowed(_)), "{text}");
        }
    }

    #[test]
    fn an_escape_may_go_on_behind_the_end() {
        for (text, length) in [("", 0), ("a", 0), ("%", 1), ("a%4", 2), ("%;", 2), ("%%", 1), ("%4a", 0), ("%g", 0)] {
            assert_eq!(open(text.as_bytes()), length, "{text}");
        }
        let wide = "a%\u{1d7ce}\u{1d7cf}".as_bytes();
        for at in 2..wide.len() {
            assert_eq!(open(&wide[..at]), at - 1, "{at}");
        }
        assert_eq!(open(wide), 0);
        for (path, query, is_joined) in
            [("/a%6", "x", true), ("/a%", "4", true), ("/50%", "x", false), ("/a%6g", "4", false), ("/a%", "", false)]
        {
            assert_eq!(joins(path.as_bytes(), query.as_bytes()), is_joined, "{path}?{query}");
        }
    }

    #[test]
    fn digits_are_folded_however_they_are_cut() {
        let text = "a６ｂ٥\u{1d7d7}é\u{ff}Ａz".as_bytes();
        for size in 1..=text.len() {
            let mut folded = Folded::default();
            let found: Vec<u8> = text.chunks(size).flat_map(|piece| folded.read(piece).into_owned()).collect();
            assert_eq!(String::from_utf8_lossy(&found), "a6b59é\u{ff}az", "by {size}");
            assert!(folded.is_between());
        }
        assert_eq!(Folded::default().read(b"\xffa\xe9b").as_ref(), b"\xffa\xe9b");
    }
}
