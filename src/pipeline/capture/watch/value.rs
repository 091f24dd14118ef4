//! The value of a field by which an app may log a person in, held until it is known whose token it is.

use crate::pipeline::capture::fields::Field;
use crate::pipeline::reading::token::{self, HEAD, NotForeign, Unclear};

/// How much of a value is held, in bytes. A SAML response with all its certificates has some 20,000.
pub const MOST_HELD: usize = 64 * 1024;

/// How many bytes that readers drop may stand before a value and are kept. Fewer than the head that is looked at.
const MOST_BLANKS: usize = 64;

/// A value as it arrives, decoded.
#[derive(Debug)]
pub struct HeldValue {
    pub field: Field,
    text: Vec<u8>,
    /// Whether its head was looked at.
    begun: bool,
    kind: Kind,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// It may be a token yet.
    Open,
    /// It is none, whatever follows.
    NoToken,
    /// It goes on after [`MOST_HELD`].
    TooLong,
}

impl HeldValue {
    pub fn new(field: Field) -> Self {
        Self { field, text: Vec::new(), begun: false, kind: Kind::Open }
    }

    pub fn push(&mut self, bytes: &[u8]) {
        if self.kind != Kind::Open {
            return;
        }
        // Pieces no longer than what is held, so that what is dropped before a value never counts.
        for piece in bytes.chunks(MOST_HELD / 2) {
            self.push_piece(piece);
        }
    }

    fn push_piece(&mut self, piece: &[u8]) {
        if self.kind != Kind::Open {
            return;
        }
        self.text.extend_from_slice(piece);
        if !self.begun {
            self.drop_blanks();
        }
        if self.text.len() > MOST_HELD {
            self.decide_by_head();
            if self.kind == Kind::Open {
                self.kind = Kind::TooLong;
            }
            self.text = Vec::new();
        } else if !self.begun && self.text.len() >= HEAD {
            self.begun = true;
            self.decide_by_head();
        }
    }

    /// Apps trim, so what stands behind any number of blanks reads as behind a few. A `+` is a blank to readers that decode a form, and
    /// a letter of base64 to others, so those right before the value stay.
    fn drop_blanks(&mut self) {
        let blanks = self.text.len() - token::without_blanks(&self.text).len();
        if blanks <= MOST_BLANKS {
            return;
        }
        let lead = self.text.get(..blanks).unwrap_or_default();
        let kept = lead.iter().rev().take(MOST_BLANKS).take_while(|byte| **byte == b'+').count();
        self.text.drain(..blanks - kept);
    }

    /// The value as readers see it to whom a `+` before it is a blank, and as it stands.
    fn readings(&self) -> impl Iterator<Item = &[u8]> {
        let bare = token::without_blanks(&self.text);
        let differs = bare.len() < self.text.len();
        std::iter::once(bare).chain(differs.then_some(self.text.as_slice()))
    }

    /// Bytes that are held.
    pub fn held(&self) -> usize {
        self.text.capacity()
    }

    /// Whether it may yet turn out to be a token that an app may not get.
    pub fn is_undecided(&self) -> bool {
        self.kind != Kind::NoToken
    }

    /// Whether it is longer than what is held of one, so that its end will not be judged otherwise.
    pub fn is_too_long(&self) -> bool {
        self.kind == Kind::TooLong
    }

    /// The value has ended: whether an app may get it, given the issuers that are ours.
    ///
    /// # Errors
    /// Why not.
    pub fn ended(&self, ours: &[String]) -> Result<(), NotForeign> {
        match self.kind {
            Kind::NoToken => Ok(()),
            Kind::TooLong => Err(NotForeign::Unclear(Unclear::TooLong)),
            Kind::Open => {
                self.readings().try_for_each(|value| token::read(value).passes(ours.iter().map(String::as_str)))
            }
        }
    }

    fn decide_by_head(&mut self) {
        let may_begin = |value: &[u8]| token::may_begin(value.get(..HEAD.min(value.len())).unwrap_or_default());
        if !self.readings().any(may_begin) {
            self.kind = Kind::NoToken;
            self.text = Vec::new();
        }
    }
}

#[cfg(test)]
mod tests {
    use base64::Engine as _;
    use base64::engine::general_purpose::STANDARD;

    use super::*;

    fn verdict(value: &str) -> Result<(), NotForeign> {
        let mut held = HeldValue::new(Field::SamlResponse);
        value.as_bytes().chunks(7).for_each(|piece| held.push(piece));
        held.ended(&["https://ours.example".to_owned()])
    }

    #[test]
    fn a_plus_is_a_blank_and_a_letter() {
        let xml = b"<p:Response><a:Assertion/></p:Response>";
        let plain = STANDARD.encode(xml);
        // A stored block, whose five bits of padding a reader of DEFLATE passes over, so that its base64 may begin with `+`.
        let length = u16::try_from(xml.len()).unwrap();
        let stored = [&[0xf9][..], &length.to_le_bytes(), &(!length).to_le_bytes(), xml].concat();
        let deflated = STANDARD.encode(stored);
        assert!(deflated.starts_with('+'));
        for times in [0, 1, 63, 64, 65, 600, 100_000] {
            for blank in ["+", " ", ",", "\u{feff}"] {
                let lead = blank.repeat(times);
                assert!(verdict(&format!("{lead}{plain}")).is_err(), "{times} times `{blank}`");
                // Behind a `+` that is meant as a blank, one that is meant as a letter cannot be told apart by any reader.
                if blank != "+" {
                    assert!(verdict(&format!("{lead}{deflated}")).is_err(), "{times} times `{blank}`, deflated");
                }
                assert_eq!(verdict(&format!("{lead}some words")), Ok(()), "{times} times `{blank}`");
            }
        }
    }
}
