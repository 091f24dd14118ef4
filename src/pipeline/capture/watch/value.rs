//! The value of a field by which an app may log a person in, held until it is known whose token it is.

use crate::pipeline::capture::fields::Field;
use crate::pipeline::reading::token::{self, HEAD, NotForeign, Unclear};

/// How much of a value is held, in bytes. A SAML response with all its certificates has some 20,000.
pub const MOST_HELD: usize = 64 * 1024;

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
        if self.text.len() + bytes.len() > MOST_HELD {
            self.decide_by_head();
            if self.kind == Kind::Open {
                self.kind = Kind::TooLong;
            }
            self.text = Vec::new();
            return;
        }
        self.text.extend_from_slice(bytes);
        if !self.begun && self.text.len() >= HEAD {
            self.begun = true;
            self.decide_by_head();
        }
    }

    /// Bytes that are held.
    pub fn held(&self) -> usize {
        self.text.capacity()
    }

    /// The value has ended: whether an app may get it, given the issuers that are ours.
    ///
    /// # Errors
    /// Why not.
    pub fn ended(&self, ours: &[String]) -> Result<(), NotForeign> {
        match self.kind {
            Kind::NoToken => Ok(()),
            Kind::TooLong => Err(NotForeign::Unclear(Unclear::TooLong)),
            Kind::Open => token::read(&self.text).passes(ours.iter().map(String::as_str)),
        }
    }

    fn decide_by_head(&mut self) {
        if !token::may_begin(self.text.get(..HEAD.min(self.text.len())).unwrap_or_default()) {
            self.kind = Kind::NoToken;
            self.text = Vec::new();
        }
    }
}
