//! Undoes the escapes by which formats write an ASCII letter.

use std::borrow::Cow;

/// Which escapes a reader undoes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    None,
    /// `%2e`, `%u002e`
    Percent,
    /// `\x2e`, `\u002e`, `\u{2e}`, `\U0000002e`, and a line that goes on behind a backslash.
    Backslash,
    /// `&#46;`, `&#x2e;`
    Reference,
    All,
    /// All, but for `\x` and `\U`, which are letters to Ruby.
    Lettered,
}

/// Undoes escapes once.
#[derive(Debug, Clone)]
pub struct Escapes {
    kind: Kind,
    /// What may be the beginning of an escape, as it came.
    open: Vec<u8>,
    /// A line went on: blanks at the next one's start are not part of it (TOML, YAML).
    continued: bool,
}

/// `\v` and `\0`, which are letters to some.
pub const TAB: u8 = 0x0b;
pub const NUL: u8 = 0;

/// Zeros may pad an escape; a longer one is taken for text.
const MOST: usize = 24;

/// What an open escape is with its last byte.
#[derive(Debug, PartialEq, Eq)]
enum Escape {
    GoesOn,
    /// `None`: it stands for nothing that is in a token.
    Whole(Option<u8>),
    /// It is text.
    No,
}

impl Escapes {
    pub const fn of(kind: Kind) -> Self {
        Self { kind, open: Vec::new(), continued: false }
    }

    /// Whether a text that it leaves as it is has no escape of any kind.
    pub fn undoes_all(&self) -> bool {
        matches!(self.kind, Kind::All | Kind::Lettered)
    }

    /// Whether nothing is open from the pieces before.
    pub fn is_between(&self) -> bool {
        self.open.is_empty() && !self.continued
    }

    /// The text of the next piece, but for an escape that is yet to end.
    pub fn undo<'p>(&mut self, piece: &'p [u8]) -> Cow<'p, [u8]> {
        if self.is_between() && self.next(piece).is_none() {
            return Cow::Borrowed(piece);
        }
        let mut plain = Vec::with_capacity(piece.len() + self.open.len());
        let mut rest = piece;
        while !rest.is_empty() {
            if self.continued {
                let blanks = rest.iter().take_while(|byte| byte.is_ascii_whitespace()).count();
                rest = rest.get(blanks..).unwrap_or_default();
                self.continued = rest.is_empty();
                continue;
            }
            if self.open.is_empty() {
                let (text, later) = rest.split_at(self.next(rest).unwrap_or(rest.len()));
                plain.extend_from_slice(text);
                rest = later;
            }
            let Some((byte, later)) = rest.split_first() else { break };
            rest = later;
            self.push(*byte, &mut plain);
        }
        Cow::Owned(plain)
    }

    /// Where the first escape of this kind begins, if any does.
    fn next(&self, text: &[u8]) -> Option<usize> {
        match self.kind {
            Kind::None => None,
            Kind::Percent => memchr::memchr(b'%', text),
            Kind::Backslash => memchr::memchr(b'\\', text),
            Kind::Reference => memchr::memchr(b'&', text),
            Kind::All | Kind::Lettered => next(text),
        }
    }

    fn begins(&self, byte: u8) -> bool {
        self.next(&[byte]).is_some()
    }

    fn push(&mut self, byte: u8, plain: &mut Vec<u8>) {
        // Any number of zeros may stand before the digits of a reference.
        let padded: [&[u8]; 5] = [b"&#0", b"&#x0", b"&#X0", b"\\u{0", b"\\U{0"];
        if byte == b'0' && padded.contains(&self.open.as_slice()) {
            return;
        }
        self.open.push(byte);
        let escape = match self.open.as_slice() {
            [b'\\', letter @ (b'x' | b'U')] if self.kind == Kind::Lettered => Escape::Whole(Some(*letter)),
            open => read(open),
        };
        match escape {
            Escape::GoesOn if self.open.len() < MOST => {}
            Escape::Whole(letter) => {
                self.continued = matches!(self.open.as_slice(), [b'\\', b'\r' | b'\n']);
                plain.extend(letter);
                self.open.clear();
            }
            Escape::GoesOn | Escape::No => {
                self.open.pop();
                plain.append(&mut self.open);
                match byte {
                    // It begins another.
                    byte if self.begins(byte) => self.open.push(byte),
                    byte => plain.push(byte),
                }
            }
        }
    }
}

/// Where the first escape begins, if any does.
pub fn next(text: &[u8]) -> Option<usize> {
    memchr::memchr3(b'%', b'\\', b'&', text)
}

fn read(open: &[u8]) -> Escape {
    match open {
        [b'%', b'u' | b'U', digits @ ..] => fixed(digits, 4),
        [b'%', digits @ ..] => fixed(digits, 2),
        [b'\\', b'x', digits @ ..] => fixed(digits, 2),
        [b'\\', b'u' | b'U', b'{', digits @ ..] => ended(digits, b'}', 16),
        // With eight digits in TOML, YAML and Python, with four to lenient parsers of JSON.
        [b'\\', b'U', digits @ ..] if digits.starts_with(b"0000") => fixed(digits, 8),
        [b'\\', b'u' | b'U', digits @ ..] => fixed(digits, 4),
        [b'\\', b'\r' | b'\n'] => Escape::Whole(None),
        // Ruby reads the letter; others what is not seen, for which it stays.
        [b'\\', b'v'] => Escape::Whole(Some(TAB)),
        [b'\\', b'0'] => Escape::Whole(Some(NUL)),
        // Blanks and what is not seen.
        [b'\\', b'b' | b'f' | b'n' | b'r' | b't'] => Escape::Whole(None),
        [b'\\', letter] => Escape::Whole(Some(*letter)),
        [b'&', b'#', b'x' | b'X', digits @ ..] => ended(digits, b';', 16),
        [b'&', b'#', digits @ ..] => ended(digits, b';', 10),
        b"&amp;" => Escape::Whole(Some(b'&')),
        [b'\\'] => Escape::GoesOn,
        open if b"&amp;".starts_with(open) => Escape::GoesOn,
        _ => Escape::No,
    }
}

/// So many digits.
fn fixed(digits: &[u8], count: usize) -> Escape {
    match digits.iter().all(u8::is_ascii_hexdigit) {
        false => Escape::No,
        true if digits.len() < count => Escape::GoesOn,
        true => Escape::Whole(letter(digits, 16)),
    }
}

/// Digits up to this byte.
fn ended(digits: &[u8], end: u8, radix: u32) -> Escape {
    match digits.split_last() {
        Some((last, digits)) if *last == end => Escape::Whole(letter(digits, radix)),
        Some(_) if !digits.iter().all(|digit| char::from(*digit).is_digit(radix)) => Escape::No,
        _ => Escape::GoesOn,
    }
}

fn letter(digits: &[u8], radix: u32) -> Option<u8> {
    u32::from_str_radix(std::str::from_utf8(digits).ok()?, radix).ok().and_then(|value| u8::try_from(value).ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escapes_are_undone_however_they_are_cut() {
        for (written, meant) in [
            ("a%2eey", "a.ey"),
            ("a%u002Eey", "a.ey"),
            ("a\\x2eey", "a.ey"),
            ("a\\u002eey", "a.ey"),
            ("a\\u{2e}ey", "a.ey"),
            ("a\\U0000002eey", "a.ey"),
            ("a\\U002eey", "a.ey"),
            ("a&#46;ey", "a.ey"),
            ("a&#0046;ey", "a.ey"),
            ("a&#X2e;ey", "a.ey"),
            ("a&#00000000000000000000000000000000000000046;ey", "a.ey"),
            ("a&#x0000000000000000000000000000000000000002e;ey", "a.ey"),
            ("a&amp;b", "a&b"),
            ("a\\\r\n  .ey", "a.ey"),
            ("a\\.e\\y", "a.ey"),
            ("a.\\n\\tey", "a.ey"),
            ("a\\vey", "a\u{b}ey"),
            ("a\\0ey", "a\0ey"),
            ("100%ey & more, &c; \\", "100%ey & more, &c; "),
            ("%%2e%2", "%."),
            ("&&#46;&#", "&."),
        ] {
            for size in 1..=written.len() {
                let mut escapes = Escapes::of(Kind::All);
                let found: Vec<u8> =
                    written.as_bytes().chunks(size).flat_map(|piece| escapes.undo(piece).into_owned()).collect();
                assert_eq!(String::from_utf8_lossy(&found), meant, "{written} by {size}");
            }
        }
    }
}
