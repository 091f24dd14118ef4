//! The text of markup, as parsers of XML join it, and the names of its elements.

/// What was seen in markup.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Seen<'p> {
    Text(&'p [u8]),
    /// An element begins, and does not end at once.
    Opens,
    Closes,
    /// An element of this local name.
    Assertion,
    /// A declaration, which readers delimit in their own ways, and by which an entity may stand for any part of a text.
    Declaration,
    /// An XML declaration that is not the first of all. REXML goes on in the encoding that it names.
    LaterEncoding,
}

/// Letters of a name that are kept.
const MOST_NAME: usize = 64;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    Text,
    /// Behind `<`, within the name or what tells a comment from a section.
    Name,
    /// Behind the name, in quotes or not.
    Tag(Option<u8>),
    /// `<!-- … -->`
    Comment,
    /// `<![CDATA[ … ]]>`, whose content is text.
    Section,
    /// `<? … ?>`
    Instruction,
}

/// Reads one document.
#[derive(Debug, Clone)]
pub struct Markup {
    place: Place,
    name: Vec<u8>,
    /// The last two bytes of a comment or an instruction.
    last: [u8; 2],
    /// Brackets that may end a section.
    brackets: usize,
    /// The tag ends with a slash.
    is_empty: bool,
    /// How many times a `<` began something, up to two.
    begun: u8,
}

impl Default for Markup {
    fn default() -> Self {
        Self { place: Place::Text, name: Vec::new(), last: [0; 2], brackets: 0, is_empty: false, begun: 0 }
    }
}

impl Markup {
    /// Tells what is in the next piece, in order.
    pub fn read(&mut self, piece: &[u8], mut see: impl FnMut(Seen<'_>)) {
        let mut rest = piece;
        while let Some((byte, later)) = rest.split_first() {
            let run = match self.place {
                Place::Text => memchr::memchr(b'<', rest),
                Place::Tag(Some(quote)) => memchr::memchr(quote, rest),
                Place::Tag(None) => rest.iter().position(|byte| matches!(byte, b'>' | b'<' | b'"' | b'\'' | b'/')),
                Place::Section => memchr::memchr2(b']', b'>', rest),
                Place::Comment | Place::Instruction | Place::Name => Some(0),
            };
            let (run, after) = rest.split_at(run.unwrap_or(rest.len()));
            if run.is_empty() {
                rest = later;
                self.step(*byte, &mut see);
                continue;
            }
            rest = after;
            match self.place {
                // What stands before the first element is text of none.
                Place::Text if self.begun > 0 => see(Seen::Text(run)),
                Place::Section => {
                    self.flush_brackets(0, &mut see);
                    see(Seen::Text(run));
                }
                Place::Tag(None) => self.is_empty = false,
                _ => {}
            }
        }
    }

    fn begin(&mut self) {
        self.place = Place::Name;
        self.is_empty = false;
        self.begun = (self.begun + 1).min(2);
        self.name.clear();
    }

    /// Brackets that did not end a section are text.
    fn flush_brackets(&mut self, kept: usize, see: &mut impl FnMut(Seen<'_>)) {
        let brackets = std::mem::take(&mut self.brackets);
        (kept..brackets).for_each(|_| see(Seen::Text(b"]")));
    }

    fn step(&mut self, byte: u8, see: &mut impl FnMut(Seen<'_>)) {
        match self.place {
            Place::Text => self.begin(),
            Place::Name => self.name(byte, see),
            Place::Tag(Some(_)) => self.place = Place::Tag(None),
            Place::Tag(None) => match byte {
                b'>' => self.tag_ended(see),
                b'<' => self.begin(),
                b'"' | b'\'' => self.place = Place::Tag(Some(byte)),
                byte => self.is_empty = byte == b'/',
            },
            Place::Comment => self.until(*b"--", byte),
            Place::Instruction => {
                self.target(byte, see);
                self.until([self.last[0], b'?'], byte);
            }
            Place::Section => match byte {
                b']' => self.brackets += 1,
                b'>' if self.brackets >= 2 => {
                    self.flush_brackets(2, see);
                    self.place = Place::Text;
                }
                _ => {
                    self.flush_brackets(0, see);
                    see(Seen::Text(&[byte]));
                }
            },
        }
    }

    fn tag_ended(&mut self, see: &mut impl FnMut(Seen<'_>)) {
        self.place = Place::Text;
        match self.name.first() {
            Some(b'/') => see(Seen::Closes),
            _ if !self.is_empty => see(Seen::Opens),
            _ => {}
        }
    }

    /// Reads what an instruction is for, and the byte behind.
    fn target(&mut self, byte: u8, see: &mut impl FnMut(Seen<'_>)) {
        const DECLARATION: &[u8] = b"?xml";
        if self.name.len() > DECLARATION.len() {
            return;
        }
        self.name.push(byte);
        let is_whole = self.name.len() > DECLARATION.len() && byte != b'-';
        if is_whole && self.name.starts_with(DECLARATION) && self.begun > 1 {
            see(Seen::LaterEncoding);
        }
    }

    fn until(&mut self, end: [u8; 2], byte: u8) {
        if byte == b'>' && self.last == end {
            self.place = Place::Text;
        }
        self.last = [self.last[1], byte];
    }

    fn name(&mut self, byte: u8, see: &mut impl FnMut(Seen<'_>)) {
        if self.name.is_empty() && !begins_name(byte) {
            // To lenient parsers it is text.
            self.place = Place::Text;
            match byte {
                b'<' => self.begin(),
                byte => see(Seen::Text(&[byte])),
            }
            return;
        }
        let goes_on = !byte.is_ascii_whitespace() && !matches!(byte, b'>' | b'<' | b'/' | b'"' | b'\'');
        if goes_on || (byte == b'/' && self.name.is_empty()) {
            if self.name.len() < MOST_NAME {
                self.name.push(byte);
            }
            self.place = match self.name.as_slice() {
                b"!--" => Place::Comment,
                b"![CDATA[" => Place::Section,
                b"?" => Place::Instruction,
                _ => Place::Name,
            };
            (self.last, self.brackets) = ([0; 2], 0);
            return;
        }
        // A type without a subset of its own, as in HTML, declares nothing.
        if self.name.starts_with(b"!") && !self.name.eq_ignore_ascii_case(b"!DOCTYPE") {
            see(Seen::Declaration);
        }
        let local = self.name.rsplit(|byte| matches!(byte, b':' | b'/')).next().unwrap_or_default();
        if matches!(local, b"Assertion" | b"EncryptedAssertion") {
            see(Seen::Assertion);
        }
        self.place = Place::Tag(None);
        // It may be the end of the tag, too.
        self.step(byte, see);
    }
}

/// A name, or what tells that it is a declaration, an instruction or an end.
fn begins_name(byte: u8) -> bool {
    byte.is_ascii_alphabetic() || matches!(byte, b'_' | b':' | b'/' | b'!' | b'?' | 0x80..)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_in_markup_is_told_however_it_is_cut() {
        // `(` and `)`: an element begins and ends; `A`: an assertion; `!`: a declaration; `?`: an XML declaration that is late.
        for (document, expected) in [
            ("<a>b</a>", "(b)"),
            ("<a>b<c/>d<e >f</e></a>", "(bd(f))"),
            ("<a>b<!-- > c -- d -->e</a>", "(be)"),
            ("<a>b<![CDATA[c<d>]]>e</a>", "(bc<d>e)"),
            ("<a><![CDATA[b]]]><![CDATA[c]]>]]></a>", "(b]c]]>)"),
            ("<a>b<?c > ?>d</a>", "(bd)"),
            ("<?xml version='1.0'?><a>b</a>", "(b)"),
            ("<!-- a --><?xml version='1.0'?><a><?xml-stylesheet c?>b</a>", "?(b)"),
            ("<a b='>' c=\"'>\">d</a>e", "(d)e"),
            ("<a b='/'>c</a>", "(c)"),
            ("<!DOCTYPE html PUBLIC '>'><a>b</a>", "((b)"),
            ("<!DOCTYPE a [<!ENTITY b \"c\">]><a>&b;</a>", "!(]>(&b;)"),
            ("<a>b<!FOO <c> d>e</a>", "(b!( d>e)"),
            ("<s:Envelope><saml:Assertion ID='a'/></s:Envelope>", "(A)"),
            ("<Assertion>", "A("),
            ("<a><EncryptedAssertion\n></a>", "(A()"),
            ("<Assertions/><a b='<Assertion>'/>", ""),
            ("{}<a>b</a>", "(b)"),
            ("1 < 2 '<a>b<<c>d<1 e</a>", " 2 '(b(d1 e)"),
        ] {
            for size in 1..=document.len() {
                let (mut markup, mut told) = (Markup::default(), String::new());
                for piece in document.as_bytes().chunks(size) {
                    markup.read(piece, |seen| match seen {
                        Seen::Text(text) => told += &String::from_utf8_lossy(text),
                        Seen::Opens => told.push('('),
                        Seen::Closes => told.push(')'),
                        Seen::Assertion => told.push('A'),
                        Seen::Declaration => told.push('!'),
                        Seen::LaterEncoding => told.push('?'),
                    });
                }
                assert_eq!(told, expected, "{document} by {size}");
            }
        }
    }
}
