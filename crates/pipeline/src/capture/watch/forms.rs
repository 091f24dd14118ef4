//! A form as most readers see it, and as the laxest do, to whom more is an escape: Jetty and Java's `URLDecoder` ([`escape`]).

use std::borrow::Cow;

use super::form::OneForm;
use super::stray::StrayScan;
use super::value::HeldValue;
use super::{Seeks, Sighting, first};
use crate::reading::escape;

/// Watches one form, or one query.
#[derive(Debug)]
pub struct FormScan {
    form: OneForm,
    /// The same to the laxest, from the first escape on that is none to others.
    to_laxest: Option<Box<OneForm>>,
    /// What may begin an escape at the end of the last piece.
    open: Vec<u8>,
}

impl FormScan {
    pub fn new(for_strays: bool) -> Self {
        Self { form: OneForm::new(for_strays), to_laxest: None, open: Vec::new() }
    }

    fn both(&self) -> impl Iterator<Item = &OneForm> {
        self.to_laxest.as_deref().into_iter().chain([&self.form])
    }

    /// Bytes that are held.
    pub fn held(&self) -> usize {
        self.both().map(OneForm::held).sum()
    }

    /// Whether there is a value that is looked through once more stands behind it.
    pub fn is_waiting(&self) -> bool {
        self.both().any(OneForm::is_waiting)
    }

    /// What looks for tokens under any name.
    pub fn strays(&self) -> impl Iterator<Item = &StrayScan> {
        self.both().flat_map(OneForm::strays)
    }

    /// The values that are being read.
    pub fn values(&self) -> impl Iterator<Item = &HeldValue> {
        self.both().flat_map(OneForm::values)
    }

    /// Reads the next piece.
    pub fn read(&mut self, piece: &[u8], seeks: &Seeks) -> Sighting {
        let text = match self.open.is_empty() {
            true => Cow::Borrowed(piece),
            false => Cow::Owned([&std::mem::take(&mut self.open), piece].concat()),
        };
        let (text, open) = text.split_at(text.len() - escape::open(&text));
        self.open.extend_from_slice(open);
        self.look(text, seeks)
    }

    fn look(&mut self, text: &[u8], seeks: &Seeks) -> Sighting {
        if self.to_laxest.is_none() && escape::is_odd(text) {
            self.to_laxest = Some(Box::new(self.form.clone()));
        }
        let to_laxest = self.to_laxest.as_mut().map(|form| form.read(&escape::settled(text), seeks));
        first([Some(self.form.read(text, seeks)), to_laxest])
    }

    /// The form has ended.
    pub fn finish(&mut self, seeks: &Seeks) -> Sighting {
        let open = std::mem::take(&mut self.open);
        let last = self.look(&open, seeks);
        let to_laxest = self.to_laxest.as_mut().map(|form| form.finish(seeks));
        first([Some(last), Some(self.form.finish(seeks)), to_laxest])
    }
}
