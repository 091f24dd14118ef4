//! The value of a field by which an app may log a person in, held until it is known whose token it is.

use std::borrow::Cow;

use super::cut::Cut;
use crate::capture::fields::Field;
use crate::capture::token::{self, Beginning, HEAD, NotForeign, Reading, Unclear};

/// How much of a value is held, in bytes. A SAML response with all its certificates has some 20,000.
pub const MOST_HELD: usize = 64 * 1024;

/// How many bytes that readers drop may stand before a value and are kept. Fewer than the head that is looked at.
const MOST_BLANKS: usize = 64;

/// Stands for a `+` of a form that was not escaped: a blank to readers that decode forms, and a letter of base64 to others. As a byte
/// of its own it is in no value that is text; [`HeldValue::push`] writes [`NEVER_TEXT`] for it.
const FORM_PLUS: u8 = 0xff;

const NEVER_TEXT: u8 = 0xfe;

/// A value as it arrives, decoded.
#[derive(Debug, Clone)]
pub struct HeldValue {
    pub field: Field,
    /// Whether some reader may find it under another name than `field`.
    pub may_be_any: bool,
    text: Vec<u8>,
    /// How long the text has to be before its beginning is looked at again; `None` once it is known to matter.
    next_look: Option<usize>,
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
        Self { field, may_be_any: false, text: Vec::new(), next_look: Some(HEAD), kind: Kind::Open }
    }

    pub fn of_any(field: Field) -> Self {
        Self { may_be_any: true, ..Self::new(field) }
    }

    /// The same, with nothing in it.
    pub fn begin_again(&mut self) {
        *self = Self { may_be_any: self.may_be_any, ..Self::new(self.field) };
    }

    /// Bytes that are meant as they stand.
    pub fn push(&mut self, bytes: &[u8]) {
        self.push_by(bytes, None);
    }

    /// Bytes of a form that are not escaped.
    pub fn push_form(&mut self, bytes: &[u8]) {
        self.push_by(bytes, Some(b'+'));
    }

    fn push_by(&mut self, bytes: &[u8], plus: Option<u8>) {
        // Pieces no longer than what is held, so that what is dropped before a value never counts.
        for piece in bytes.chunks(MOST_HELD / 2) {
            if self.kind != Kind::Open {
                return;
            }
            let begins = self.text.len();
            self.text.extend_from_slice(piece);
            // Few values have either.
            if memchr::memchr2(FORM_PLUS, plus.unwrap_or(FORM_PLUS), piece).is_some() {
                for byte in self.text.iter_mut().skip(begins) {
                    *byte = match *byte {
                        FORM_PLUS => NEVER_TEXT,
                        other if Some(other) == plus => FORM_PLUS,
                        other => other,
                    };
                }
            }
            self.look();
        }
    }

    fn look(&mut self) {
        let Some(next_look) = self.next_look else {
            if self.text.len() > MOST_HELD {
                self.end_as(Kind::TooLong);
            }
            return;
        };
        self.drop_blanks();
        if self.text.len() < next_look {
            return;
        }
        // Each look is at twice as much as the one before, so that all of them cost as much as the last.
        let beginnings: Vec<Beginning> = self.readings().map(|text| token::beginning(&text)).collect();
        if beginnings.iter().all(|beginning| *beginning == Beginning::Other) {
            match self.is_for_documents() {
                true => self.next_look = None,
                false => self.end_as(Kind::NoToken),
            }
        } else if self.text.len() > MOST_HELD {
            self.end_as(Kind::TooLong);
        } else if beginnings.contains(&Beginning::Token) {
            self.next_look = None;
        } else {
            self.next_look = Some((2 * self.text.len()).min(MOST_HELD + 1));
        }
    }

    /// Whether libraries look for a document there, behind whatever text.
    fn is_for_documents(&self) -> bool {
        !self.may_be_any && matches!(self.field, Field::SamlResponse | Field::WsResult)
    }

    fn end_as(&mut self, kind: Kind) {
        self.kind = kind;
        self.text = Vec::new();
    }

    /// Apps trim, so what stands behind any number of blanks reads as behind a few. A `+` of a form may be a letter, so those right
    /// before the value stay.
    fn drop_blanks(&mut self) {
        let blanks = self.text.len() - without_blanks(&self.text).len();
        if blanks <= MOST_BLANKS {
            return;
        }
        let lead = self.text.get(..blanks).unwrap_or_default();
        let kept = lead.iter().rev().take(MOST_BLANKS).take_while(|byte| **byte == FORM_PLUS).count();
        self.text.drain(..blanks - kept);
    }

    /// The value as readers see it to whom a `+` of a form is a blank, to whom it is a letter, who trim blanks and take those that
    /// are left for letters (`str_replace(' ', '+', …)`), and who cut letters to a byte (Node's `Buffer.from(value, 'base64')`).
    fn readings(&self) -> impl Iterator<Item = Cow<'_, [u8]>> {
        let with = |text: &[u8], plus: u8, blank: u8| -> Cow<'_, [u8]> {
            let byte = |byte: &u8| match *byte {
                FORM_PLUS => plus,
                b' ' => blank,
                byte => byte,
            };
            text.iter().map(byte).collect::<Vec<u8>>().into()
        };
        let bare = without_blanks(&self.text).trim_ascii_end();
        let has_plus = memchr::memchr(FORM_PLUS, &self.text).is_some();
        let mended = (has_plus || memchr::memchr(b' ', bare).is_some()).then(|| {
            let mut mended = with(bare, b'+', b'+').into_owned();
            // With its blanks it was JSON or XML; without them it may be base64 alone, whose decoders pass over this.
            if let Some(first @ (b'{' | b'<')) = mended.first_mut() {
                *first = b'!';
            }
            Cow::Owned(mended)
        });
        let one = if has_plus { with(&self.text, b' ', b' ') } else { Cow::Borrowed(self.text.as_slice()) };
        let letters = has_plus.then(|| with(&self.text, b'+', b' '));
        let cut = Cut::is_needed(&self.text).then(|| Cow::Owned(Cut::default().read(&with(bare, b' ', b' '))));
        std::iter::once(one).chain(letters).chain(mended).chain(cut)
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
    pub fn is_artifact(&self) -> bool {
        self.readings().any(|value| token::is_artifact(&value))
    }

    /// What it is, once it has ended.
    ///
    /// # Errors
    /// When an app may not get it.
    pub fn ended(&self, ours: &[String]) -> Result<(), NotForeign> {
        match self.kind {
            Kind::NoToken => Ok(()),
            Kind::TooLong => Err(NotForeign::Unclear(Unclear::TooLong)),
            Kind::Open => self.readings().try_for_each(|value| match token::read(&value) {
                Reading::NotAToken if self.is_for_documents() && token::hides_assertion(&value) => {
                    Err(NotForeign::Unclear(Unclear::Unreadable))
                }
                reading => reading.passes(ours.iter().map(String::as_str)),
            }),
        }
    }
}

/// A value without the blanks before it, a `+` of a form among them.
fn without_blanks(mut value: &[u8]) -> &[u8] {
    while let Some(rest) = value.strip_prefix(&[FORM_PLUS]).or_else(|| token::without_blank(value)) {
        value = rest;
    }
    value
}

#[cfg(test)]
mod tests {
    use base64::Engine as _;
    use base64::engine::general_purpose::STANDARD;

    use super::*;

    fn verdict(value: &str) -> Result<(), NotForeign> {
        let mut held = HeldValue::new(Field::SamlResponse);
        value.as_bytes().chunks(7).for_each(|piece| held.push_form(piece));
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

    /// Base64 of blanks, behind which anything may come.
    #[test]
    fn what_may_become_a_token_is_held_so_far() {
        let mut held = HeldValue::new(Field::SamlResponse);
        for _ in 0..100 {
            held.push(&b"ICAg".repeat(300));
            assert!(held.held() <= 3 * MOST_HELD, "{}", held.held());
        }
        assert!(held.is_too_long());
        assert_eq!(held.ended(&[]), Err(NotForeign::Unclear(Unclear::TooLong)));
    }
}
