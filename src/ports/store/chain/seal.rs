//! What the seals of the audit chain cover, in both formats.

use aws_lc_rs::{digest, hmac};

use crate::config::Secret;

/// The format of before.
pub(in super::super) const FIRST: i64 = 1;
/// The format that is written.
pub(in super::super) const CURRENT: i64 = 2;
/// Random bytes before the personal fields in their hash.
pub(in super::super) const SALT: usize = 16;
const KEY_ID: usize = 8;

/// Makes seals: by HMAC-SHA256 with a key, by SHA-256 without one.
pub(in super::super) struct Sealer {
    key: Option<Key>,
}

struct Key {
    key: hmac::Key,
    id: Vec<u8>,
}

/// What a row's own MAC covers.
pub(in super::super) struct Content<'a> {
    pub at: i64,
    pub event: &'a str,
    pub detail: &'a str,
    pub login: Option<&'a str>,
    pub user: Option<i64>,
    pub person: Option<&'a [u8]>,
}

/// A row of the first format.
pub(in super::super) struct First<'a> {
    pub sequence: i64,
    pub at: i64,
    pub event: &'a str,
    pub detail: &'a str,
    pub person: Option<&'a [u8]>,
    pub keyed: bool,
}

impl Sealer {
    pub(in super::super) fn new(key: Option<&Secret>) -> Self {
        let key = key.map(|secret| {
            let key = hmac::Key::new(hmac::HMAC_SHA256, secret.expose());
            let id = hmac::sign(&key, &Parts::of("loginsync audit key").0);
            Key { key, id: id.as_ref().iter().copied().take(KEY_ID).collect() }
        });
        Self { key }
    }

    /// By what rows name the key; `None` without one. It tells nothing about the key.
    pub(in super::super) fn key_id(&self) -> Option<&[u8]> {
        self.key.as_ref().map(|key| key.id.as_slice())
    }

    /// A row's own MAC, which does not depend on where the row stands.
    pub(in super::super) fn mac(&self, keyed: bool, content: &Content<'_>) -> Vec<u8> {
        let mut parts = Parts::of("loginsync audit row");
        parts.number(content.at);
        parts.bytes(content.event.as_bytes());
        parts.bytes(content.detail.as_bytes());
        parts.optional(content.login.map(str::as_bytes));
        parts.optional(content.user.map(i64::to_be_bytes).as_ref().map(<[u8; 8]>::as_slice));
        parts.optional(content.person);
        self.sign(keyed, &parts.0)
    }

    /// The seal of a row: its place, the seal before it, and its MAC.
    pub(in super::super) fn link(&self, keyed: bool, sequence: i64, before: &[u8], mac: &[u8]) -> Vec<u8> {
        let mut parts = Parts::of("loginsync audit seal");
        parts.number(sequence);
        parts.bytes(before);
        parts.bytes(mac);
        self.sign(keyed, &parts.0)
    }

    /// The seal of a row of the first format.
    pub(in super::super) fn first(&self, before: &[u8], row: &First<'_>) -> Vec<u8> {
        let mut parts = Parts::default();
        parts.bytes(before);
        parts.number(row.sequence);
        parts.number(row.at);
        parts.bytes(row.event.as_bytes());
        parts.bytes(row.detail.as_bytes());
        parts.bytes(row.person.unwrap_or_default());
        parts.bytes(&[u8::from(row.keyed)]);
        self.sign(row.keyed, &parts.0)
    }

    fn sign(&self, keyed: bool, bytes: &[u8]) -> Vec<u8> {
        match &self.key {
            Some(Key { key, .. }) if keyed => hmac::sign(key, bytes).as_ref().to_vec(),
            _ => digest::digest(&digest::SHA256, bytes).as_ref().to_vec(),
        }
    }
}

/// Parts with their lengths before them, so that no two lists of parts are the same bytes.
#[derive(Default)]
struct Parts(Vec<u8>);

impl Parts {
    /// What the bytes are for comes first, so that no MAC passes for another's.
    fn of(purpose: &str) -> Self {
        let mut parts = Self(Vec::with_capacity(512));
        parts.bytes(purpose.as_bytes());
        parts
    }

    fn bytes(&mut self, part: &[u8]) {
        self.0.extend_from_slice(&(part.len() as u64).to_be_bytes());
        self.0.extend_from_slice(part);
    }

    fn number(&mut self, number: i64) {
        self.bytes(&number.to_be_bytes());
    }

    /// An absent part differs from an empty one.
    fn optional(&mut self, part: Option<&[u8]>) {
        match part {
            None => self.bytes(&[]),
            Some(part) => {
                self.bytes(&[1]);
                self.bytes(part);
            }
        }
    }
}

/// The hash that stands for a person's fields: the salt, of a fixed length, and the fields.
pub(in super::super) fn salted(salt: &[u8], fields: &str) -> Vec<u8> {
    let mut context = digest::Context::new(&digest::SHA256);
    context.update(salt);
    context.update(fields.as_bytes());
    context.finish().as_ref().to_vec()
}

/// A digest of whom the rows of the first format are about, which their seals do not cover.
pub(in super::super) struct Numbers(digest::Context);

impl Numbers {
    pub(in super::super) fn new() -> Self {
        Self(digest::Context::new(&digest::SHA256))
    }

    pub(in super::super) fn add(&mut self, sequence: i64, user: Option<i64>) {
        let mut parts = Parts::default();
        parts.number(sequence);
        parts.optional(user.map(i64::to_be_bytes).as_ref().map(<[u8; 8]>::as_slice));
        self.0.update(&parts.0);
    }

    pub(in super::super) fn finish(self) -> String {
        super::hexadecimal(self.0.finish().as_ref())
    }
}
