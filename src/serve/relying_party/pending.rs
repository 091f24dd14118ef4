//! What a browser left for a provider with, in a sealed cookie: one for each login under way.

use http::header::HeaderMap;

use crate::pipeline::ids::{ProviderName, Timestamp};
use crate::serve::cookies::{Framed, Jar, Notes, Sealer, take_field};

/// A login that we began.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pending {
    pub provider: ProviderName,
    /// `state`, or RelayState.
    pub state: String,
    pub request: Asked,
    /// Where the browser goes when it is signed in: a [`super::goals::Goal`] as it is written.
    pub goal: String,
}

/// What the answer must match.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Asked {
    Oidc { nonce: String, verifier: String },
    Saml { request_id: String },
}

/// Sets, opens and clears them.
pub struct Cookies(Notes);

/// A login that this browser began, and the cookie that says so.
pub struct Kept {
    pub cookie: String,
    pub pending: Pending,
}

impl Cookies {
    /// `kind` begins their names.
    pub fn new(sealer: Sealer, kind: &'static str) -> Self {
        Self(Notes::new(sealer, kind))
    }

    /// Answers `false` where a browser could not keep it.
    pub fn remember(&self, pending: &Pending, jar: &Jar, now: Timestamp, headers: &mut HeaderMap) -> bool {
        let note = (self.0.name(pending.state.as_bytes()), frame(pending));
        self.0.remember(&[note], jar, now, headers) == 0
    }

    /// Every login that this browser began and may still finish.
    pub fn open(&self, jar: &Jar, now: Timestamp) -> Vec<Kept> {
        let notes = self.0.open(jar, now).into_iter();
        notes.filter_map(|note| Some(Kept { pending: unframe(&note.content)?, cookie: note.name })).collect()
    }

    pub fn forget(&self, cookie: &str, headers: &mut HeaderMap) {
        self.0.forget(cookie, headers);
    }
}

const OIDC: u8 = 1;
const SAML: u8 = 2;

fn frame(pending: &Pending) -> Vec<u8> {
    let mut framed = Framed::default();
    framed.put(Some(pending.provider.as_str()));
    framed.put(Some(&pending.state));
    framed.put(Some(&pending.goal));
    let kind = match &pending.request {
        Asked::Oidc { nonce, verifier } => {
            framed.put(Some(nonce));
            framed.put(Some(verifier));
            OIDC
        }
        Asked::Saml { request_id } => {
            framed.put(Some(request_id));
            SAML
        }
    };
    framed.0.push(kind);
    framed.0
}

fn unframe(framed: &[u8]) -> Option<Pending> {
    let (kind, mut rest) = framed.split_last()?;
    let mut take = || take_field(&mut rest)?;
    let (provider, state, goal) = (ProviderName::parse(&take()?).ok()?, take()?, take()?);
    let request = match *kind {
        OIDC => Asked::Oidc { nonce: take()?, verifier: take()? },
        SAML => Asked::Saml { request_id: take()? },
        _ => return None,
    };
    rest.is_empty().then_some(Pending { provider, state, request, goal })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_left_with_comes_back() {
        for request in
            [Asked::Oidc { nonce: "n".into(), verifier: "v".into() }, Asked::Saml { request_id: "_1".into() }]
        {
            let provider = ProviderName::parse("p").unwrap();
            let pending = Pending { provider, state: "s".into(), request, goal: "https://app.example/x".into() };
            let framed = frame(&pending);
            assert_eq!(unframe(&framed), Some(pending));
            for cut in 0..framed.len() {
                assert_eq!(unframe(&framed[..cut]), None, "cut at {cut}");
            }
        }
    }
}
