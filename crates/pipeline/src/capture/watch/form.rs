//! Watches a form or a query go by in pieces for fields by which an app may log a person in, by the same lax reading of names
//! as [`ProtocolFields`](crate::capture::fields::ProtocolFields).
//!
//! ```text
//! "a=1&SAMLRes" "ponse=PHNh" "bWxw…"     a name and a value split over pieces
//! "SAMLResponse=;PHNhbWxw…"              `;` divides fields for some readers (HTML 4.01 appendix B.2.2), and not for others
//! ```

use std::borrow::Cow;

use super::cut::Cut;
use super::json::JsonScan;
use super::stray::StrayScan;
use super::value::{HeldValue, MOST_HELD};
use super::{Seeks, Sighting};
use crate::capture::fields::{field_named, may_be_token};
use crate::reading::name::keep_name;

/// Watches one form as most readers see it. Holds the name under its eyes and the values that are looked into.
#[derive(Debug, Default, Clone)]
pub struct OneForm {
    /// Whether tokens are looked for under any name: where the whole body is not looked through for them.
    for_strays: bool,
    in_value: bool,
    name: Vec<u8>,
    /// The value since the last `&`, for readers to whom `;` is a letter like any other.
    whole: Option<FormValue>,
    /// Whether a `;` came since, so that it was judged as those read it to whom that is the end.
    divided: bool,
    /// The value since the last `;`, where a field began there.
    inner: Option<FormValue>,
    /// The name, or the value since the last `=` behind one.
    stray: Option<StrayScan>,
    /// Of a value under whose name a token may stand.
    alone: Option<Alone>,
    /// All of the form but those, for readers to whom a divider is a letter that they pass over within a token.
    across: StrayScan,
    /// The value as JSON: since the last `&`, and since the last `;`.
    whole_json: Option<FormJson>,
    inner_json: Option<FormJson>,
    /// The same as Node's `querystring` reads it where it cannot decode a value, from the first letter that it cuts.
    cut: Option<Box<(Cut, StrayScan)>>,
}

impl OneForm {
    pub fn new(for_strays: bool) -> Self {
        Self { for_strays, across: StrayScan::across_fields(), ..Self::default() }
    }

    /// Bytes that are held.
    pub fn held(&self) -> usize {
        let alone = self.alone.as_ref().map_or(0, |alone| alone.text.len());
        alone + self.values().map(HeldValue::held).sum::<usize>()
    }

    /// Whether there is a value that is looked through once more stands behind it.
    pub fn is_waiting(&self) -> bool {
        self.alone.as_ref().is_some_and(|alone| !alone.text.is_empty())
    }

    /// What looks for tokens under any name.
    pub fn strays(&self) -> impl Iterator<Item = &StrayScan> {
        self.stray.iter().chain(self.cut.iter().map(|cut| &cut.1)).chain([&self.across])
    }

    /// The values that are being read.
    pub fn values(&self) -> impl Iterator<Item = &HeldValue> {
        let json = [&self.whole_json, &self.inner_json].into_iter().flatten().flat_map(|json| json.scan.values());
        [&self.whole, &self.inner].into_iter().flatten().map(|value| &value.value).chain(json)
    }

    /// Reads the next piece.
    pub fn read(&mut self, mut piece: &[u8], seeks: &Seeks) -> Sighting {
        while !piece.is_empty() {
            let end = match self.in_value {
                true => memchr::memchr2(b'&', b';', piece),
                false => memchr::memchr3(b'&', b';', b'=', piece),
            };
            let (run, rest) = piece.split_at(end.unwrap_or(piece.len()));
            self.keep(run);
            let stray = super::first([Some(self.read_json(run, seeks)), Some(self.look(run, seeks))]);
            let Some((divider, rest)) = rest.split_first() else { return stray };
            let sighting = if stray == Sighting::Clear { self.divided(*divider, seeks) } else { stray };
            if sighting != Sighting::Clear {
                return sighting;
            }
            piece = rest;
        }
        Sighting::Clear
    }

    /// The form has ended.
    pub fn finish(&mut self, seeks: &Seeks) -> Sighting {
        self.divided(b'&', seeks)
    }

    fn keep(&mut self, run: &[u8]) {
        if !self.in_value {
            keep_name(&mut self.name, run);
        }
        for value in [&mut self.whole, &mut self.inner].into_iter().flatten() {
            value.push(run);
        }
    }

    fn read_json(&mut self, run: &[u8], seeks: &Seeks) -> Sighting {
        let both = [&mut self.whole_json, &mut self.inner_json].into_iter().flatten();
        both.map(|json| json.read(run, seeks)).fold(Sighting::Clear, |all, seen| super::first([Some(all), Some(seen)]))
    }

    /// Looks for a token in the run of a name or a value. A name holds one where an app reads the form as JSON or as text.
    fn look(&mut self, run: &[u8], seeks: &Seeks) -> Sighting {
        let Some(ours) = seeks.stray.as_ref().filter(|_| self.for_strays) else { return Sighting::Clear };
        if !self.in_value && self.stray.is_none() {
            self.stray = Some(StrayScan::of_field());
        }
        let run = match &mut self.alone {
            None => Cow::Borrowed(run),
            Some(alone) => match alone.read(run) {
                Some(text) => text,
                None => return Sighting::Clear,
            },
        };
        let Some(stray) = &mut self.stray else { return Sighting::Clear };
        let across = self.across.read(&run, ours);
        // A `+` is a blank, to readers that decode forms.
        let run = match memchr::memchr(b'+', &run) {
            None => run,
            Some(_) => run.iter().map(|byte| if *byte == b'+' { b' ' } else { *byte }).collect(),
        };
        if self.cut.is_none() && Cut::is_needed(&run) {
            self.cut = Some(Box::new((Cut::default(), stray.clone())));
        }
        let cut = self.cut.as_mut().map(|cut| cut.1.read(&cut.0.read(&run), ours));
        super::first([Some(stray.read(&run, ours)), cut, Some(across)])
    }

    fn divided(&mut self, divider: u8, seeks: &Seeks) -> Sighting {
        let across = match seeks.stray.as_ref().filter(|_| self.for_strays) {
            // To some decoders a `=` ends a payload.
            Some(ours) => self.across.read(&[divider], ours),
            None => Sighting::Clear,
        };
        super::first([Some(self.divided_for_all(divider, seeks)), Some(across)])
    }

    fn divided_for_all(&mut self, divider: u8, seeks: &Seeks) -> Sighting {
        match divider {
            b'=' => {
                let json = self.read_json(b"=", seeks);
                self.name_ended(seeks);
                json
            }
            b';' => {
                let ended = if self.divided { &None } else { &self.whole };
                let sighting = judge([ended, &self.inner], seeks);
                self.inner = None;
                self.divided = self.whole.is_some();
                self.keep_divider(b";");
                let inner = self.inner_json.take().map(|json| json.finish(seeks));
                let whole = self.whole_json.as_mut().map(|json| json.read(b";", seeks));
                self.begin_name();
                super::first([Some(sighting), inner, whole])
            }
            _ => {
                let sighting = judge([&self.whole, &self.inner], seeks);
                (self.whole, self.inner, self.divided) = (None, None, false);
                let inner = self.inner_json.take().map(|json| json.finish(seeks));
                let whole = self.whole_json.take().map(|json| json.finish(seeks));
                self.begin_name();
                super::first([Some(sighting), inner, whole])
            }
        }
    }

    fn begin_name(&mut self) {
        (self.stray, self.cut, self.alone) = (None, None, None);
        self.in_value = false;
        self.name.clear();
    }

    fn keep_divider(&mut self, divider: &[u8]) {
        for value in [&mut self.whole, &mut self.inner].into_iter().flatten() {
            value.push(divider);
        }
    }

    fn name_ended(&mut self, seeks: &Seeks) {
        self.keep_divider(b"=");
        self.in_value = true;
        self.cut = None;
        let looks = self.for_strays && seeks.stray.is_some();
        self.stray = looks.then(StrayScan::of_field);
        self.alone = (looks && seeks.exempts(&self.name)).then(Alone::default);
        if self.for_strays && seeks.looks_into_bodies() {
            let json = Some(FormJson::default());
            if self.whole_json.is_none() {
                self.whole_json = json;
            } else {
                self.inner_json = json;
            }
        }
        let field = may_be_token(&self.name).then(|| field_named(&self.name)).flatten();
        let Some(field) = field.filter(|field| seeks.seeks_in_form(*field)) else { return };
        let value = Some(FormValue { value: HeldValue::new(field), escape: Escape::None });
        if self.whole.is_none() {
            self.whole = value;
        } else {
            self.inner = value;
        }
    }
}

/// Whether a token is all that stands under a name. If it is not, the name may be a part of another value to some readers:
///
/// ```text
/// payload={"a":";id_token_hint=","token":"eyJ…"}     to those who divide forms at `&` alone
/// /*&id_token_hint=*/{"token":"eyJ…"}                to those who read JSON, whatever it is called
/// ```
#[derive(Debug, Default, Clone)]
struct Alone {
    escape: Escape,
    place: Place,
    /// What was read, while there is nothing else.
    text: Vec<u8>,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum Place {
    #[default]
    Before,
    Within,
    Behind,
    /// There is something else.
    Never,
}

impl Alone {
    /// What is to be looked through as what stands under any other name.
    fn read<'r>(&mut self, run: &'r [u8]) -> Option<Cow<'r, [u8]>> {
        if self.place == Place::Never {
            return Some(run.into());
        }
        self.text.extend_from_slice(run);
        if self.text.len() <= MOST_HELD && self.fit(run) {
            return None;
        }
        self.place = Place::Never;
        Some(std::mem::take(&mut self.text).into())
    }

    fn fit(&mut self, run: &[u8]) -> bool {
        // Nearly always it is a token, to its last letter.
        let of_token = |some: &[u8]| some.iter().fold(true, |all, byte| all & is_of_token(byte));
        if self.escape == Escape::None
            && self.place != Place::Behind
            && !run.is_empty()
            // Many at a time.
            && run.chunks(64).all(of_token)
        {
            self.place = Place::Within;
            return true;
        }
        run.iter().all(|byte| self.fits(*byte))
    }

    fn fits(&mut self, byte: u8) -> bool {
        let place = &mut self.place;
        self.escape.read(byte, |read| {
            let (Read::Plain(letter) | Read::Escaped(letter)) = read;
            *place = match (letter, *place) {
                (b' ' | b'+' | b'\t' | b'\r' | b'\n', Place::Before) => Place::Before,
                (b' ' | b'+' | b'\t' | b'\r' | b'\n', Place::Within | Place::Behind) => Place::Behind,
                (letter, Place::Before | Place::Within) if is_of_token(&letter) => Place::Within,
                _ => Place::Never,
            };
        });
        *place != Place::Never
    }
}

fn is_of_token(letter: &u8) -> bool {
    letter.is_ascii_alphanumeric() | (*letter == b'-') | (*letter == b'_') | (*letter == b'.')
}

fn judge(values: [&Option<FormValue>; 2], seeks: &Seeks) -> Sighting {
    let sightings = values.into_iter().flatten().map(|value| seeks.judge(&value.value));
    sightings.into_iter().find(|sighting| *sighting != Sighting::Clear).unwrap_or(Sighting::Clear)
}

/// A value as JSON, decoded as it arrives: some apps take all that they are sent in one field.
#[derive(Debug, Clone)]
struct FormJson {
    scan: JsonScan,
    escape: Escape,
}

impl Default for FormJson {
    fn default() -> Self {
        Self { scan: JsonScan::new(false), escape: Escape::None }
    }
}

impl FormJson {
    fn read(&mut self, run: &[u8], seeks: &Seeks) -> Sighting {
        // Most values are told apart by their first letter.
        for piece in run.chunks(64) {
            if self.scan.is_other() {
                return Sighting::Clear;
            }
            let mut text = Vec::with_capacity(piece.len());
            for byte in piece {
                self.escape.read(*byte, |read| match read {
                    Read::Plain(b'+') => text.push(b' '),
                    Read::Plain(byte) | Read::Escaped(byte) => text.push(byte),
                });
            }
            let sighting = self.scan.read(&text, seeks);
            if sighting != Sighting::Clear {
                return sighting;
            }
        }
        Sighting::Clear
    }

    fn finish(mut self, seeks: &Seeks) -> Sighting {
        self.scan.finish(seeks)
    }
}

/// A value, decoded as it arrives.
#[derive(Debug, Clone)]
struct FormValue {
    value: HeldValue,
    escape: Escape,
}

/// What was read of an escape.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum Escape {
    #[default]
    None,
    Percent,
    /// The first digit, as it stands.
    Digit(u8),
}

/// A byte of a value.
enum Read {
    Plain(u8),
    /// An escape stands for it.
    Escaped(u8),
}

impl Escape {
    /// Tells what a byte makes known. What is no escape after all is text, to the letter.
    fn read(&mut self, byte: u8, mut tell: impl FnMut(Read)) {
        let value = |digit: u8| char::from(digit).to_digit(16).and_then(|value| u8::try_from(value).ok());
        if let (Self::Digit(high), Some(low)) = (*self, value(byte)) {
            *self = Self::None;
            tell(Read::Escaped(value(high).unwrap_or_default() << 4 | low));
            return;
        }
        if *self == Self::Percent && byte.is_ascii_hexdigit() {
            *self = Self::Digit(byte);
            return;
        }
        match std::mem::take(self) {
            Self::None => {}
            Self::Percent => tell(Read::Plain(b'%')),
            Self::Digit(high) => [b'%', high].into_iter().for_each(|byte| tell(Read::Plain(byte))),
        }
        match byte {
            b'%' => *self = Self::Percent,
            byte => tell(Read::Plain(byte)),
        }
    }
}

impl FormValue {
    fn push(&mut self, mut raw: &[u8]) {
        while let Some((byte, rest)) = raw.split_first() {
            if self.escape == Escape::None {
                let end = memchr::memchr(b'%', raw).unwrap_or(raw.len());
                if end > 0 {
                    let (run, later) = raw.split_at(end);
                    self.value.push_form(run);
                    raw = later;
                    continue;
                }
            }
            let value = &mut self.value;
            self.escape.read(*byte, |read| match read {
                Read::Escaped(byte) => value.push(&[byte]),
                Read::Plain(byte) => value.push_form(&[byte]),
            });
            raw = rest;
        }
    }
}
