//! The text of markup, as parsers of XML join it, and the names of its elements.

/// What was seen in markup.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Seen {
    /// An element of this local name begins or ends.
    Assertion,
    /// A declaration of an entity, which could stand for any part of a text.
    Entity,
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
#[derive(Debug)]
pub struct Markup {
    place: Place,
    name: Vec<u8>,
    /// The last two bytes of a comment or an instruction.
    last: [u8; 2],
    /// Brackets that may end a section.
    brackets: usize,
}

impl Default for Markup {
    fn default() -> Self {
        Self { place: Place::Text, name: Vec::new(), last: [0; 2], brackets: 0 }
    }
}

impl Markup {
    /// Puts what is text of the next piece into `text`.
    pub fn read(&mut self, piece: &[u8], text: &mut Vec<u8>) -> Option<Seen> {
        let mut seen = None;
        let mut rest = piece;
        while let Some((byte, later)) = rest.split_first() {
            if self.place == Place::Text {
                let (run, later) = rest.split_at(memchr::memchr(b'<', rest).unwrap_or(rest.len()));
                text.extend_from_slice(run);
                if later.is_empty() {
                    break;
                }
                self.begin();
                rest = later.get(1..).unwrap_or_default();
                continue;
            }
            rest = later;
            seen = seen.or(self.step(*byte, text));
        }
        seen
    }

    fn begin(&mut self) {
        self.place = Place::Name;
        self.name.clear();
    }

    fn step(&mut self, byte: u8, text: &mut Vec<u8>) -> Option<Seen> {
        match self.place {
            Place::Text => {}
            Place::Name => return self.name(byte),
            Place::Tag(Some(quote)) => {
                if byte == quote {
                    self.place = Place::Tag(None);
                }
            }
            Place::Tag(None) => match byte {
                b'>' => self.place = Place::Text,
                b'<' => self.begin(),
                b'"' | b'\'' => self.place = Place::Tag(Some(byte)),
                _ => {}
            },
            Place::Comment => self.until(*b"--", byte),
            Place::Instruction => self.until([self.last[0], b'?'], byte),
            Place::Section if byte == b']' => self.brackets += 1,
            Place::Section => {
                let brackets = std::mem::take(&mut self.brackets);
                let ends = byte == b'>' && brackets >= 2;
                text.extend(std::iter::repeat_n(b']', if ends { brackets - 2 } else { brackets }));
                if ends {
                    self.place = Place::Text;
                } else {
                    text.push(byte);
                }
            }
        }
        None
    }

    fn until(&mut self, end: [u8; 2], byte: u8) {
        if byte == b'>' && self.last == end {
            self.place = Place::Text;
        }
        self.last = [self.last[1], byte];
    }

    fn name(&mut self, byte: u8) -> Option<Seen> {
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
            return None;
        }
        let local = self.name.rsplit(|byte| matches!(byte, b':' | b'/')).next().unwrap_or_default();
        let seen = match local {
            b"Assertion" | b"EncryptedAssertion" => Some(Seen::Assertion),
            _ if self.name.eq_ignore_ascii_case(b"!ENTITY") => Some(Seen::Entity),
            _ => None,
        };
        self.place = Place::Tag(None);
        // It may be the end of the tag, too.
        self.step(byte, &mut Vec::new());
        seen
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_joined_and_names_are_seen_however_they_are_cut() {
        for (document, meant, expected) in [
            ("<a>b</a>", "b", None),
            ("<a>b<!-- > c -- d -->e</a>", "be", None),
            ("<a>b<![CDATA[c<d>]]>e</a>", "bc<d>e", None),
            ("<a><![CDATA[b]]]><![CDATA[c]]>]]></a>", "b]c]]>", None),
            ("<a>b<?c > ?>d</a>", "bd", None),
            ("<a b='>' c=\"'>\">d</a>e", "de", None),
            ("<!DOCTYPE a [<!ENTITY b \"c\">]><a>&b;</a>", "]>&b;", Some(Seen::Entity)),
            ("<s:Envelope><saml:Assertion ID='a'/></s:Envelope>", "", Some(Seen::Assertion)),
            ("<Assertion>", "", Some(Seen::Assertion)),
            ("<a><EncryptedAssertion\n></a>", "", Some(Seen::Assertion)),
            ("<Assertions/><a b='<Assertion>'/>", "", None),
        ] {
            for size in 1..=document.len() {
                let (mut markup, mut text, mut seen) = (Markup::default(), Vec::new(), None);
                for piece in document.as_bytes().chunks(size) {
                    let mut found = Vec::new();
                    seen = seen.or(markup.read(piece, &mut found));
                    text.extend(found);
                }
                assert_eq!(String::from_utf8_lossy(&text), meant, "{document} by {size}");
                assert_eq!(seen, expected, "{document} by {size}");
            }
        }
    }
}
