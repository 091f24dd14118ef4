//! One text as its readers see it, who undo other escapes than each other.

use std::borrow::Cow;

use super::escapes::{Escapes, Kind, Undone, may_be_lax, next};
use super::finder::Finder;
use crate::capture::token::Addressed;
use crate::reading::escape::Folded;

/// How often escapes are undone: in a form, a field of it that is JSON, a member of that which is JSON, and so on.
const MOST_LAYERS: usize = 6;

/// What each reader undoes, layer by layer, of those who pass over a letter that is not of base64 (jwcrypto), and to whom `\x` is a letter
/// (Ruby's JSON). An escape that they do not undo has letters of base64.
type Others = &'static [&'static [Kind]];

/// A body as it stands, JSON, JSON in that, and markup.
const OF_BODY: Others =
    &[&[Kind::Lettered; MOST_LAYERS], &[], &[Kind::Backslash], &[Kind::Backslash, Kind::Backslash], &[Kind::Reference]];

/// A form, and JSON in a field of it.
const OF_FORM: Others = &[&[Kind::Lettered; MOST_LAYERS], &[Kind::Percent], &[Kind::Percent, Kind::Backslash]];

/// Reads a text in all these ways.
#[derive(Debug, Clone)]
pub struct Lenses {
    kinds: Others,
    /// To whom all is undone.
    all: Reader,
    /// The others, from the piece on in which a payload met an escape. Most texts need none.
    others: Vec<Reader>,
    /// To whom more is an escape, from the first such on, as long as it is within a token.
    lax: Option<Box<(Folded, Reader)>>,
}

impl Default for Lenses {
    fn default() -> Self {
        Self { kinds: OF_BODY, all: Reader::default(), others: Vec::new(), lax: None }
    }
}

impl Lenses {
    /// Of a name or a value of a form.
    pub fn of_form() -> Self {
        Self { kinds: OF_FORM, ..Self::default() }
    }

    /// To those alone to whom all is undone.
    pub fn single() -> Self {
        Self { kinds: &[], ..Self::default() }
    }

    /// Letters that are held.
    pub fn held(&self) -> usize {
        let lax = self.lax.as_ref().map(|lax| &lax.1);
        self.others.iter().chain([&self.all]).chain(lax).map(|reader| reader.letters.held()).sum()
    }

    /// Whether a payload that is ours ends in this piece, to any reader.
    pub fn find(&mut self, piece: &[u8], ours: &Addressed) -> bool {
        if self.kinds.is_empty() {
            return self.all.find(piece, ours);
        }
        // Without others, nothing is open.
        let has_escape = next(piece).is_some();
        let before = (self.others.is_empty() && has_escape).then(|| self.all.clone());
        let mut found = self.find_laxly(piece, has_escape, ours) | self.all.find(piece, ours);
        if let Some(before) = before {
            let letters = (&before.letters, &self.all.letters);
            if self.all.is_between() && letters.0.begun() == letters.1.begun() && letters.0.held() == 0 {
                return found;
            }
            self.others = self.kinds.iter().map(|kinds| before.undoing(kinds)).collect();
        }
        for other in &mut self.others {
            found |= other.find(piece, ours);
        }
        if self.others.iter().chain([&self.all]).all(|reader| reader.is_between() && reader.letters.held() == 0) {
            self.others.clear();
        }
        found
    }

    /// The same to the laxest readers, who read along from an escape on that is none to others.
    fn find_laxly(&mut self, piece: &[u8], has_escape: bool, ours: &Addressed) -> bool {
        if self.lax.is_none() && has_escape && may_be_lax(piece) {
            self.lax = Some(Box::new((Folded::default(), self.all.undoing(&[Kind::Lax; MOST_LAYERS]))));
        }
        let Some(lax) = &mut self.lax else { return false };
        let (folded, reader) = &mut **lax;
        let found = reader.find(&folded.read(piece), ours);
        if folded.is_between() && reader.is_between() && reader.letters.is_outside() {
            self.lax = None;
        }
        found
    }
}

#[derive(Debug, Clone)]
struct Reader {
    layers: [Escapes; MOST_LAYERS],
    letters: Finder,
}

impl Default for Reader {
    fn default() -> Self {
        Self { layers: [const { Escapes::of(Kind::All) }; MOST_LAYERS], letters: Finder::default() }
    }
}

impl Reader {
    /// One to whom these escapes are undone, behind what this one has read, which has nothing open.
    fn undoing(&self, kinds: &[Kind]) -> Self {
        let kind = |layer: usize| kinds.get(layer).copied().unwrap_or(Kind::None);
        Self { layers: std::array::from_fn(|layer| Escapes::of(kind(layer))), letters: self.letters.clone() }
    }

    fn is_between(&self) -> bool {
        self.layers.iter().all(Escapes::is_between)
    }

    fn find(&mut self, piece: &[u8], ours: &Addressed) -> bool {
        let mut text = Cow::Borrowed(piece);
        // Nearly always at the first layer.
        let mut is_plain = false;
        for layer in &mut self.layers {
            if is_plain && layer.is_between() {
                continue;
            }
            match (layer.undo(&text), &mut text) {
                (Undone::As(undone), text) => (*text, is_plain) = (Cow::Owned(undone), false),
                (Undone::Behind(same), text) => {
                    is_plain |= layer.undoes_all();
                    *text = Cow::Owned(same);
                }
                (Undone::Same(length), text) => {
                    is_plain |= layer.undoes_all();
                    match text {
                        Cow::Borrowed(text) => *text = text.get(..length).unwrap_or_default(),
                        Cow::Owned(text) => text.truncate(length),
                    }
                }
            }
        }
        self.letters.find(&text, ours)
    }
}
