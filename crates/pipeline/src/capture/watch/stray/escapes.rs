//! Undoes the escapes by which formats write an ASCII letter.

use crate::reading::escape;

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
    /// All, but for `\x`, `\U`, `\v` and `\0`, which are letters to Ruby.
    Lettered,
    /// All, and what the laxest readers take for one ([`escape`]), in ASCII.
    Lax,
}

/// Undoes escapes once.
#[derive(Debug, Clone)]
pub struct Escapes {
    kind: Kind,
    /// What may be the beginning of an escape, as it came.
    open: Vec<u8>,
    /// How many were undone.
    undone: usize,
    /// A line went on: blanks at the next one's start are not part of it (TOML, YAML).
    continued: bool,
}

/// Zeros may pad an escape; a longer one is taken for text.
const MOST: usize = 24;

/// A piece without its escapes.
#[derive(Debug, PartialEq, Eq)]
pub enum Undone {
    /// So many bytes as they stand. What follows may begin an escape.
    Same(usize),
    /// The same behind what was open before it.
    Behind(Vec<u8>),
    As(Vec<u8>),
}

/// What an open escape is with its last byte.
#[derive(Debug, PartialEq, Eq)]
enum Escape {
    GoesOn,
    /// `None`: it stands for nothing that is in a token.
    Whole(Option<u8>),
    /// It ended before its last so many bytes.
    Before(Option<u8>, usize),
    /// It is text.
    No,
}

impl Escapes {
    pub const fn of(kind: Kind) -> Self {
        Self { kind, open: Vec::new(), undone: 0, continued: false }
    }

    /// Whether a text that it leaves as it is has no escape of any kind.
    pub fn undoes_all(&self) -> bool {
        matches!(self.kind, Kind::All | Kind::Lettered | Kind::Lax)
    }

    /// Whether nothing is open from the pieces before.
    pub fn is_between(&self) -> bool {
        self.open.is_empty() && !self.continued
    }

    /// The text of the next piece, but for an escape that is yet to end.
    pub fn undo(&mut self, piece: &[u8]) -> Undone {
        if self.is_between() {
            let Some(first) = self.next(piece) else { return Undone::Same(piece.len()) };
            let tail = piece.get(first..).unwrap_or_default();
            if tail.len() < MOST {
                let mut begun = self.clone();
                let mut plain = Vec::new();
                begun.push_all(tail, &mut plain);
                if plain.is_empty() && begun.open == tail {
                    *self = begun;
                    return Undone::Same(first);
                }
            }
        }
        let mut plain = Vec::with_capacity(piece.len() + self.open.len());
        let mut rest = piece;
        let (undone, was_continued) = (self.undone, self.continued);
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
            if self.open.is_empty()
                && let Some((letter, length)) = whole(rest)
            {
                plain.extend(letter);
                self.undone = self.undone.wrapping_add(1);
                rest = rest.get(length..).unwrap_or_default();
                continue;
            }
            let Some((byte, later)) = rest.split_first() else { break };
            if self.push(*byte, &mut plain) {
                rest = later;
            }
        }
        if self.undone == undone && !was_continued { Undone::Behind(plain) } else { Undone::As(plain) }
    }

    /// Where the first escape of this kind begins, or what may be one with what follows the text.
    fn next(&self, text: &[u8]) -> Option<usize> {
        let may_be = |at: &usize| !is_none(text.get(*at..).unwrap_or_default(), self.kind == Kind::Lax);
        let single = |byte: u8| memchr::memchr_iter(byte, text).find(may_be);
        match self.kind {
            Kind::None => None,
            Kind::Percent => single(b'%'),
            Kind::Backslash => memchr::memchr(b'\\', text),
            Kind::Reference => single(b'&'),
            Kind::All | Kind::Lettered | Kind::Lax => memchr::memchr3_iter(b'%', b'\\', b'&', text).find(may_be),
        }
    }

    fn begins(&self, byte: u8) -> bool {
        self.next(&[byte]).is_some()
    }

    /// Reads a byte of an escape, or one that begins it. `false`: there was none, and the byte is yet to be read.
    fn push(&mut self, byte: u8, plain: &mut Vec<u8>) -> bool {
        // Any number of zeros may stand before the digits of a reference.
        let padded: [&[u8]; 5] = [b"&#0", b"&#x0", b"&#X0", b"\\u{0", b"\\U{0"];
        if byte == b'0' && padded.contains(&self.open.as_slice()) {
            return true;
        }
        self.open.push(byte);
        let escape = match self.open.as_slice() {
            [b'\\', letter @ (b'x' | b'U' | b'v' | b'0')] if self.kind == Kind::Lettered => {
                Escape::Whole(Some(*letter))
            }
            open if self.kind == Kind::Lax => match (read_laxly(open), read(open)) {
                // To others a reference with letters in its number is one that stands for nothing.
                (Escape::No, strict) => strict,
                (lax, _) if open.starts_with(b"&") => lax,
                (lax, Escape::No) => lax,
                (_, strict) => strict,
            },
            open => read(open),
        };
        match escape {
            Escape::GoesOn if self.open.len() < MOST => {}
            Escape::Before(letter, tail) => {
                self.undone = self.undone.wrapping_add(1);
                plain.extend(letter);
                let tail = self.open.split_off(self.open.len().saturating_sub(tail));
                self.open.clear();
                // What stands behind may begin another.
                self.push_all(&tail, plain);
            }
            Escape::Whole(letter) => {
                self.undone = self.undone.wrapping_add(1);
                self.continued = matches!(self.open.as_slice(), [b'\\', b'\r' | b'\n']);
                plain.extend(letter);
                self.open.clear();
            }
            Escape::GoesOn | Escape::No => {
                self.open.pop();
                plain.append(&mut self.open);
                return false;
            }
        }
        true
    }

    /// Reads bytes one by one, of escapes or of text.
    fn push_all(&mut self, bytes: &[u8], plain: &mut Vec<u8>) {
        for byte in bytes {
            if !self.open.is_empty() && self.push(*byte, plain) {
                continue;
            }
            if self.begins(*byte) {
                self.open.push(*byte);
            } else {
                plain.push(*byte);
            }
        }
    }
}

/// Whether a text that begins like an escape is none, whatever follows it.
fn is_none(text: &[u8], laxly: bool) -> bool {
    match text {
        [b'%', b'u' | b'U', digit, ..] => !digit.is_ascii_hexdigit(),
        [b'%', b'u' | b'U'] => false,
        [b'%', digits @ ..] => {
            let is_digit = |byte: &u8| byte.is_ascii_hexdigit() || (laxly && escape::pair(*byte, b'0').is_some());
            !digits.iter().take(2).all(is_digit)
        }
        [b'&', b'#', digit, ..] => !(matches!(digit, b'0'..=b'9' | b'x' | b'X' | b';') || laxly),
        [b'&', ..] => {
            let begins = |name: &[u8]| name.iter().zip(text).all(|(letter, found)| letter == found);
            !(begins(b"&#") || begins(b"&amp;") || (laxly && NAMED.iter().any(|(name, _)| begins(name))))
        }
        _ => false,
    }
}

/// The escape by which a text begins, what it stands for, and its length: of those that most escapes are, and that all kinds undo alike.
fn whole(text: &[u8]) -> Option<(Option<u8>, usize)> {
    let digits = |digits: &[u8], length| digits.iter().all(u8::is_ascii_hexdigit).then(|| (letter(digits, 16), length));
    match text {
        [b'%', two @ ..] => digits(two.get(..2)?, 3),
        [b'\\', b'u', four @ ..] => digits(four.get(..4)?, 6),
        [b'\\', letter @ (b'\\' | b'"' | b'/'), ..] => Some((Some(*letter), 2)),
        [b'\\', b'n' | b'r' | b't', ..] => Some((None, 2)),
        [b'&', b'a', b'm', b'p', b';', ..] => Some((Some(b'&'), 5)),
        _ => None,
    }
}

/// Where the first escape begins, if any does.
pub fn next(text: &[u8]) -> Option<usize> {
    memchr::memchr3(b'%', b'\\', b'&', text)
}

/// Whether a text may have an escape that [`Kind::Lax`] undoes and [`Kind::All`] does not.
pub fn may_be_lax(text: &[u8]) -> bool {
    memchr::memchr3_iter(b'%', b'\\', b'&', text).any(|at| {
        let is_number = |byte: &u8| may_be_in_number(*byte) || !byte.is_ascii();
        match text.get(at..).unwrap_or_default() {
            [b'%', digits @ ..] => {
                let two = digits.get(..2).unwrap_or(digits);
                let may_be = |byte: &u8| escape::pair(*byte, b'0').is_some() || !byte.is_ascii();
                two.iter().all(may_be) && !(two.len() == 2 && two.iter().all(u8::is_ascii_hexdigit))
            }
            [b'\\', b'u' | b'U', digits @ ..] => {
                let four = digits.get(..4).unwrap_or(digits);
                four.first().is_none_or(is_number) && !(four.len() == 4 && four.iter().all(u8::is_ascii_hexdigit))
            }
            [b'&', b'#', number @ ..] => {
                let number = number.strip_prefix(b"x").or(number.strip_prefix(b"X")).unwrap_or(number);
                number.iter().find(|byte| !byte.is_ascii_hexdigit()) != Some(&b';')
            }
            [b'&', b'p' | b'l' | b'U' | b's' | b'e', ..] | [_] => true,
            _ => false,
        }
    })
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
        // Blanks and what is not seen.
        [b'\\', b'b' | b'f' | b'n' | b'r' | b't' | b'v' | b'0'] => Escape::Whole(None),
        [b'\\', letter] => Escape::Whole(Some(*letter)),
        [b'&', b'#', b'x' | b'X', digits @ ..] => ended(digits, b';', 16),
        [b'&', b'#', digits @ ..] => ended(digits, b';', 10),
        b"&amp;" => Escape::Whole(Some(b'&')),
        [b'\\'] => Escape::GoesOn,
        open if b"&amp;".starts_with(open) => Escape::GoesOn,
        _ => Escape::No,
    }
}

/// Names of letters of tokens in HTML, and the letters.
const NAMED: [(&[u8], u8); 6] = [
    (b"&period;", b'.'),
    (b"&lowbar;", b'_'),
    (b"&UnderBar;", b'_'),
    (b"&plus;", b'+'),
    (b"&sol;", b'/'),
    (b"&equals;", b'='),
];

/// What the laxest readers make of what is no escape to others.
fn read_laxly(open: &[u8]) -> Escape {
    match open {
        [b'%', high, low] => escape::pair(*high, *low).map_or(Escape::No, |letter| Escape::Whole(Some(letter))),
        [b'%', high] if escape::pair(*high, b'0').is_some() => Escape::GoesOn,
        // A sign, blanks, underscores or `0x` among four characters.
        [b'\\', b'u' | b'U', digits @ ..] if digits.len() <= 4 && digits.iter().all(|byte| may_be_in_number(*byte)) => {
            if digits.len() < 4 {
                return Escape::GoesOn;
            }
            let digits = digits.strip_prefix(b"0x").or(digits.strip_prefix(b"0X")).unwrap_or(digits);
            let digits: Vec<u8> = digits.iter().copied().filter(u8::is_ascii_hexdigit).collect();
            if digits.is_empty() { Escape::No } else { Escape::Whole(letter(&digits, 16)) }
        }
        [b'&', b'#', b'x' | b'X', number @ ..] => referenced(number, 16),
        [b'&', b'#', number @ ..] => referenced(number, 10),
        [b'&', ..] => {
            let named = NAMED.iter().find(|(name, _)| name.starts_with(open));
            named.map_or(Escape::No, |(name, letter)| match name.len() == open.len() {
                true => Escape::Whole(Some(*letter)),
                false => Escape::GoesOn,
            })
        }
        _ => Escape::No,
    }
}

fn may_be_in_number(byte: u8) -> bool {
    byte.is_ascii_hexdigit() || matches!(byte, b'+' | b'-' | b'_' | b' ' | b'\t' | b'x' | b'X')
}

/// A reference whose number ends at what is no digit, and that ends at a `;` behind it, or there.
fn referenced(number: &[u8], radix: u32) -> Escape {
    let signs = number.iter().take_while(|byte| matches!(byte, b'+' | b' ' | b'\t' | b'_')).count();
    let number = number.get(signs..).unwrap_or_default();
    let digits = number.iter().take_while(|byte| char::from(**byte).is_digit(radix)).count();
    let (digits, tail) = number.split_at_checked(digits).unwrap_or_default();
    match tail {
        [] => Escape::GoesOn,
        _ if digits.is_empty() => Escape::No,
        [.., b';'] => Escape::Whole(letter(digits, radix)),
        // `parseInt` leaves off here, and the rest may be part of the reference yet.
        tail if tail.len() < MOST_TAIL && tail.iter().all(|byte| byte.is_ascii_alphanumeric() || *byte == b'_') => {
            Escape::GoesOn
        }
        tail => Escape::Before(letter(digits, radix), tail.len()),
    }
}

/// Letters behind a number that may belong to its reference.
const MOST_TAIL: usize = 8;

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

    fn undo(escapes: &mut Escapes, piece: &[u8]) -> Vec<u8> {
        match escapes.undo(piece) {
            Undone::Same(length) => piece[..length].to_vec(),
            Undone::Behind(plain) | Undone::As(plain) => plain,
        }
    }

    #[test]
    fn lax_escapes_are_undone_however_they_are_cut() {
        for (written, meant) in [
            ("a%4:%2>b", "aJ.b"),
            ("\\u+065\\u 065\\u  65\\u65  \\u0_65\\u0x65\\u006_", "eeeeee\u{6}"),
            ("&#101z;&#121;&#x65z;&#101&#121&#101.&#0101 ", "eyeeye.e "),
            ("&#x+65;&#+101;", "ee"),
            ("&period;&lowbar;&UnderBar;&plus;&sol;&equals;", ".__+/="),
            ("&#101yyyyyyyyyyyy", "eyyyyyyyyyyyy"),
            ("&#;&#x;&peri;&plu\\uxyz%g:%%4:", "&peri;&plu\\uxyz%g:%J"),
        ] {
            assert!(may_be_lax(written.as_bytes()), "{written}");
            for size in 1..=written.len() {
                let mut escapes = Escapes::of(Kind::Lax);
                let found: Vec<u8> =
                    written.as_bytes().chunks(size).flat_map(|piece| undo(&mut escapes, piece)).collect();
                assert_eq!(String::from_utf8_lossy(&found), meant, "{written} by {size}");
            }
        }
        for text in ["", "100% of it", "50%25", "a\\u00e9b", "AT&T &amp; &#101; &#x65;", "\\n\\\\ "] {
            assert!(!may_be_lax(text.as_bytes()), "{text}");
        }
    }

    #[test]
    fn random_escapes_are_undone_however_they_are_cut() {
        let mut state = 1_u64;
        let mut random = |below: usize| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            usize::try_from(state >> 33).unwrap() % below
        };
        let words = [
            "%", "\\", "&", "&#", "&#x", "&amp;", "&period;", "u", "U", "x", "v", "0", "4", "1", ":", ";", "{", "}",
            "e", "\n", " ",
        ];
        let kinds = [Kind::Percent, Kind::Backslash, Kind::Reference, Kind::All, Kind::Lettered, Kind::Lax];
        for _ in 0..20_000 {
            let text: String = (0..random(12)).map(|_| words[random(words.len())]).collect();
            for kind in kinds {
                let undone = |size: usize| {
                    let mut escapes = Escapes::of(kind);
                    let undone: Vec<u8> =
                        text.as_bytes().chunks(size).flat_map(|piece| undo(&mut escapes, piece)).collect();
                    (undone, escapes.open)
                };
                let by_one = undone(1);
                for size in [2, 5, text.len().max(1)] {
                    assert_eq!(undone(size), by_one, "{text} by {size}, {kind:?}");
                }
            }
        }
    }

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
            ("a\\v\\0ey", "aey"),
            ("100%ey & more, &c; \\", "100%ey & more, &c; "),
            ("%%2e%2", "%."),
            ("&&#46;&#", "&."),
        ] {
            for size in 1..=written.len() {
                let mut escapes = Escapes::of(Kind::All);
                let found: Vec<u8> =
                    written.as_bytes().chunks(size).flat_map(|piece| undo(&mut escapes, piece)).collect();
                assert_eq!(String::from_utf8_lossy(&found), meant, "{written} by {size}");
            }
        }
    }
}
