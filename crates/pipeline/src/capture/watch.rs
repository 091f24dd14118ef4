//! Looks into what goes by to an address that takes no login: queries, forms, JSON and multipart bodies.
//!
//! Which address reads a login only the app knows: a front controller may take it at any, by a query or a header that means
//! nothing to us. So a field by which apps log people in passes only with a value that is not a token, or is another's: one that
//! reads strictly and names an issuer that no provider here has. Bodies stream; what is held of one is a name and the value
//! that is being read.
//!
//! A token that an app would believe passes under no other name either, where it stands as it is ([`stray`]).

mod cut;
mod form;
mod forms;
pub mod inflate;
mod json;
mod multipart;
mod stray;
mod value;

use std::ops::Range;
use std::sync::Arc;

use self::forms::FormScan;
use self::inflate::{Coding, Inflate, Undone};
use self::json::JsonScan;
use self::multipart::MultipartScan;
use self::stray::StrayScan;
use self::value::HeldValue;
use super::bearer::basic_within;
use super::fields::{Field, field_named, may_be_token, may_hold};
use crate::capture::token::{Addressed, NotForeign, Unclear, decodings, unquoted};
use crate::reading::media::{MARK, Multipart, Readings, has_foreign_mark};

/// By these an app may log a person in, alone.
const LOGIN: [Field; 5] = [Field::IdToken, Field::SamlResponse, Field::SamlArt, Field::Credential, Field::WsResult];

/// What no request may carry to an address that takes no login.
#[derive(Debug, Clone, Default)]
pub struct Seeks {
    /// Tokens of these issuers, in the fields by which a browser logs in.
    pub login: Option<Arc<[String]>>,
    /// `access_token` in a form (RFC 6750 section 2.2), with a token of these issuers.
    pub access_token: Option<Arc<[String]>>,
    /// `access_token` in JSON and multipart, with a token of these issuers.
    pub access_token_in_bodies: Option<Arc<[String]>>,
    /// Logins in JSON and multipart too: an app behind a provider of ours reads its logins itself.
    pub every_body: bool,
    /// Signed tokens that the app would believe, under any name and in any format.
    pub stray: Option<Arc<Addressed>>,
    /// The same in headers. Of those in which tokens are verified, only what is of other providers.
    pub stray_in_headers: Option<Arc<Headers>>,
    /// Assertions in markup.
    pub assertions: bool,
    /// The `access_token` of what is looked into is verified.
    pub verified: bool,
    /// What stands under the names of protocols is captured as a login, and looked into there.
    pub captured: bool,
}

/// What is looked for in headers.
#[derive(Debug, Clone, Default)]
pub struct Headers {
    pub all: Addressed,
    /// Without the providers whose tokens are verified in the header.
    pub verified: Vec<(&'static str, Addressed)>,
}

impl Headers {
    fn of(&self, name: &str) -> &Addressed {
        self.verified.iter().find(|(verified, _)| *verified == name).map_or(&self.all, |(_, others)| others)
    }
}

impl Seeks {
    /// Whether nothing is looked for.
    pub fn is_nothing(&self) -> bool {
        !self.captured && self.login.is_none() && self.access_token.is_none() && self.access_token_in_bodies.is_none()
    }

    /// The same at a callback, next to a login that is captured.
    #[must_use]
    pub fn beside_captured(&self) -> Self {
        let (stray, stray_in_headers) = (self.stray.clone(), self.stray_in_headers.clone());
        Self { stray, stray_in_headers, assertions: self.assertions, captured: true, ..Self::default() }
    }

    /// Whether something is looked for in JSON and multipart.
    pub fn looks_into_bodies(&self) -> bool {
        self.access_token_in_bodies.is_some() || (self.every_body && self.login.is_some())
    }

    /// Whether a token may stand under this name of a form. One that tells a provider who logs out logs in no person.
    fn exempts(&self, name: &[u8]) -> bool {
        const HINTS: [&str; 2] = ["id_token_hint", "logout_token"];
        // What is looked for by name is judged by its name.
        let is_read = |field: Field| {
            (self.verified && field == Field::AccessToken)
                || (self.captured && field.is_token())
                || self.seeks_in_form(field)
        };
        HINTS.iter().any(|hint| name.eq_ignore_ascii_case(hint.as_bytes()))
            || (may_be_token(name) && field_named(name).is_some_and(is_read))
    }

    fn seeks_login(&self, field: Field) -> bool {
        self.login.is_some() && LOGIN.contains(&field)
    }

    fn seeks_in_form(&self, field: Field) -> bool {
        self.seeks_login(field) || (field == Field::AccessToken && self.access_token.is_some())
    }

    /// The same of JSON and multipart.
    fn seeks_in_body(&self, field: Field) -> bool {
        match field {
            Field::AccessToken => self.access_token_in_bodies.is_some(),
            field => self.every_body && self.seeks_login(field),
        }
    }

    /// For what a part is taken whose name may be any.
    fn any_in_body(&self) -> Option<Field> {
        [Field::IdToken, Field::AccessToken].into_iter().find(|field| self.seeks_in_body(*field))
    }

    fn judge(&self, value: &HeldValue) -> Sighting {
        if value.field == Field::SamlArt {
            // It stands for a response that the app fetches, past us.
            let why = NotForeign::Unclear(Unclear::NoIssuer);
            return match self.assertions && value.is_artifact() {
                true => Sighting::Login(Sighted { field: Some(value.field), why }),
                false => Sighting::Clear,
            };
        }
        let is_access = value.field == Field::AccessToken;
        // A part that may have any name is looked into for all that no part may carry.
        let login = self.login.as_ref().filter(|_| !is_access || (value.may_be_any && self.every_body));
        let access_token = match value.may_be_any {
            true => self.access_token_in_bodies.as_ref(),
            false => self.access_token.as_ref().or(self.access_token_in_bodies.as_ref()).filter(|_| is_access),
        };
        let ours: Vec<String> =
            [login, access_token].into_iter().flatten().flat_map(|ours| ours.iter().cloned()).collect();
        match value.ended(&ours) {
            Ok(()) => Sighting::Clear,
            // The app's own, by a secret of its own.
            Err(NotForeign::Unclear(Unclear::NoIssuerSharedSecret)) if is_access && !value.may_be_any => {
                Sighting::Clear
            }
            Err(why) => Sighting::Login(Sighted { field: Some(value.field), why }),
        }
    }
}

/// A field that may log a person in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sighted {
    /// `None`: it stands under a name of the app's own.
    pub field: Option<Field>,
    pub why: NotForeign,
}

/// What a scan has to say of a piece.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sighting {
    /// Nothing that carries a login, so far.
    Clear,
    Login(Sighted),
    /// What an app may read otherwise than we do, and why.
    Unreadable(&'static str),
}

/// Watches one body by every reading that its media type lets an app make of it.
#[derive(Debug)]
pub struct BodyScan {
    seeks: Seeks,
    form: Option<FormScan>,
    json: Option<JsonScan>,
    multipart: Option<MultipartScan>,
    stray: Option<StrayScan>,
    /// What was seen under any name, within a field whose name will say more.
    strayed: Option<Sighting>,
    /// What apps read that inflate it first.
    inflated: Option<Box<Inflated>>,
    /// The first bytes of all, of a form.
    opening: Option<Vec<u8>>,
}

impl BodyScan {
    /// `None` where nothing has to be looked at.
    ///
    /// # Errors
    /// When apps may read the body in more than one way.
    pub fn new(seeks: &Seeks, readings: &Readings<'_>) -> Result<Option<Self>, &'static str> {
        if seeks.is_nothing() {
            return Ok(None);
        }
        let looks_into_bodies = seeks.looks_into_bodies();
        let multipart = match readings.multipart {
            Multipart::Of(boundary) if looks_into_bodies => Some(MultipartScan::new(boundary)),
            Multipart::Unclear if looks_into_bodies => return Err("a boundary that can be read in more than one way"),
            _ => None,
        };
        // Also of what says that it comes in parts: some apps parse JSON without a look at the type.
        let json = looks_into_bodies.then(|| JsonScan::new(readings.json));
        let form =
            (readings.form || (looks_into_bodies && readings.form_to_some)).then(|| FormScan::new(readings.form));
        let stray = seeks.stray.is_some().then(|| StrayScan::of_body(readings, seeks.assertions));
        if form.is_none() && json.is_none() && multipart.is_none() && stray.is_none() {
            return Ok(None);
        }
        let marked = readings.form.then(Vec::new);
        Ok(Some(Self {
            seeks: seeks.clone(),
            form,
            json,
            multipart,
            stray,
            strayed: None,
            inflated: None,
            opening: marked,
        }))
    }

    /// Watches also what apps read that inflate the body, whatever its media type is.
    ///
    /// # Errors
    /// As for [`Self::new`].
    pub fn inflating(self, coding: Coding, readings: &Readings<'_>) -> Result<Self, &'static str> {
        let scan = Self::new(&self.seeks, readings)?;
        let inflated = scan.map(|scan| Box::new(Inflated { inflate: Inflate::new(coding), scan }));
        Ok(Self { inflated, ..self })
    }

    /// Bytes that are held.
    pub fn held(&self) -> usize {
        self.form.as_ref().map_or(0, FormScan::held)
            + self.json.as_ref().map_or(0, JsonScan::held)
            + self.multipart.as_ref().map_or(0, MultipartScan::held)
            + self.strays().map(StrayScan::held).sum::<usize>()
            + self.inflated.as_ref().map_or(0, |inflated| inflated.scan.held())
    }

    fn strays(&self) -> impl Iterator<Item = &StrayScan> {
        self.stray.iter().chain(self.form.iter().flat_map(FormScan::strays))
    }

    fn values(&self) -> impl Iterator<Item = &HeldValue> {
        let form = self.form.iter().flat_map(FormScan::values);
        let json = self.json.iter().flat_map(JsonScan::values);
        form.chain(json).chain(self.multipart.iter().flat_map(MultipartScan::values))
    }

    /// Whether what was read so far ends within a value that is yet to be judged. Some servers take a body that breaks off
    /// for a whole one, so an app must not have any of it before.
    pub fn is_undecided(&self) -> bool {
        self.strayed.is_some()
            || self.values().any(HeldValue::is_undecided)
            || self.strays().any(StrayScan::is_undecided)
            || self.form.as_ref().is_some_and(FormScan::is_waiting)
            || self.inflated.as_ref().is_some_and(|inflated| inflated.scan.is_undecided())
    }

    /// [`MultipartScan::gaps`] of a multipart body.
    pub fn gaps(&self) -> Option<Range<u64>> {
        self.multipart.as_ref().map(MultipartScan::gaps)
    }

    /// Reads the next piece.
    pub fn read(&mut self, piece: &[u8]) -> Sighting {
        let sighting = self.look(piece);
        match &mut self.inflated {
            Some(inflated) if sighting == Sighting::Clear => match inflated.read(piece) {
                Ok(sighting) => sighting,
                // No app can inflate it either.
                Err(Undone::Other) => {
                    self.inflated = None;
                    Sighting::Clear
                }
                Err(Undone::Broken) => {
                    Sighting::Unreadable("a content encoding that readers undo in more than one way")
                }
                Err(Undone::TooLong) => {
                    Sighting::Unreadable("a content encoding that makes it a hundred times as long")
                }
            },
            _ => sighting,
        }
    }

    fn look(&mut self, piece: &[u8]) -> Sighting {
        if let Some(opening) = self.opening.as_mut().filter(|opening| opening.len() < MARK) {
            opening.extend_from_slice(piece.get(..piece.len().min(MARK - opening.len())).unwrap_or_default());
            if has_foreign_mark(opening) {
                return Sighting::Unreadable("the byte order mark of UTF-16 or UTF-32");
            }
        }
        let seeks = &self.seeks;
        let form = self.form.as_mut().map(|scan| scan.read(piece, seeks));
        let is_stray = |seen: &Sighting| matches!(seen, Sighting::Login(Sighted { field: None, .. }));
        self.strayed = self.strayed.or(form.filter(is_stray));
        let sighting = first([
            form.filter(|seen| !is_stray(seen)),
            self.json.as_mut().map(|scan| scan.read(piece, seeks)),
            self.multipart.as_mut().map(|scan| scan.read(piece, seeks)),
        ]);
        if let (None, Some(scan), Some(ours)) = (self.strayed, &mut self.stray, &seeks.stray) {
            self.strayed = Some(scan.read(piece, ours)).filter(|seen| *seen != Sighting::Clear);
        }
        let sighting = match self.strayed {
            Some(strayed) if sighting == Sighting::Clear && !self.values().any(HeldValue::is_undecided) => strayed,
            _ => sighting,
        };
        // Its end would be judged no better, and what waits for that would only grow.
        if sighting == Sighting::Clear && self.values().any(HeldValue::is_too_long) {
            return self.finish();
        }
        sighting
    }

    /// The body has ended: judges what is still under its eyes.
    pub fn finish(&mut self) -> Sighting {
        let seeks = &self.seeks;
        first([
            self.form.as_mut().map(|scan| scan.finish(seeks)),
            self.json.as_mut().map(|scan| scan.finish(seeks)),
            self.multipart.as_mut().map(|scan| scan.finish(seeks)),
            self.strayed,
            self.inflated.as_mut().map(|inflated| inflated.scan.finish()),
        ])
    }

    /// Looks through a body that is there whole.
    pub fn read_whole(mut self, body: &[u8]) -> Sighting {
        match self.read(body) {
            Sighting::Clear => self.finish(),
            sighting => sighting,
        }
    }
}

/// A body, inflated.
#[derive(Debug)]
struct Inflated {
    inflate: Inflate,
    scan: BodyScan,
}

impl Inflated {
    fn read(&mut self, piece: &[u8]) -> Result<Sighting, Undone> {
        let mut sighting = Sighting::Clear;
        self.inflate.read(piece, |text| {
            sighting = self.scan.look(text);
            sighting == Sighting::Clear
        })?;
        Ok(sighting)
    }
}

/// Looks into a query.
pub fn read_query(query: &str, seeks: &Seeks) -> Sighting {
    // What stands behind the dot of a token may be passed over, and the dot be written otherwise.
    let may_be_stray = || seeks.stray.is_some() && memchr::memchr2(b'.', b'\\', query.as_bytes()).is_some();
    let looks = seeks.captured || seeks.login.is_some();
    if !looks || !(may_hold(query, &LOGIN) || may_be_stray()) {
        return Sighting::Clear;
    }
    // An `access_token` there is verified, where any is.
    let seeks = &Seeks { verified: seeks.access_token.is_some(), access_token: None, ..seeks.clone() };
    // A second `?` begins a new query for readers that look for the last one.
    let again = query.split('?').skip(1);
    let sightings = std::iter::once(query).chain(again).map(|query| {
        let mut scan = FormScan::new(true);
        first([Some(scan.read(query.as_bytes(), seeks)), Some(scan.finish(seeks))])
    });
    sightings.into_iter().find(|sighting| *sighting != Sighting::Clear).unwrap_or(Sighting::Clear)
}

/// Looks into the value of a header, as it stands and with its quoted parameters undone, and into the credentials of `Basic`: some apps
/// take a token for a name or a password.
pub fn read_header(name: &str, value: &[u8], seeks: &Seeks) -> Sighting {
    let Some(headers) = &seeks.stray_in_headers else { return Sighting::Clear };
    // Nor is anything longer that is made of it.
    if StrayScan::is_too_short(value) {
        return Sighting::Clear;
    }
    let ours = headers.of(name);
    let look = |text: &[u8]| StrayScan::look(text, ours);
    let credentials = basic_within(value).into_iter().filter(|text| !StrayScan::is_too_short(text)).flat_map(decodings);
    let others = credentials.chain(unquoted(value));
    let mut sightings = std::iter::once(look(value)).chain(others.map(|text| look(&text)));
    sightings.find(|sighting| *sighting != Sighting::Clear).unwrap_or(Sighting::Clear)
}

fn first<const N: usize>(sightings: [Option<Sighting>; N]) -> Sighting {
    sightings.into_iter().flatten().find(|sighting| *sighting != Sighting::Clear).unwrap_or(Sighting::Clear)
}

#[cfg(test)]
mod tests;
