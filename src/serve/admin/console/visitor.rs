//! Who is signed in, and what they may do.

use axum::extract::FromRequestParts;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::request::Parts;

use super::failure::Failure;
use crate::config::{Face, Scope};
use crate::ports::console::SignIn;
use crate::ports::sessions::Digest;
use crate::serve::admin::service::{Call, Caller, Through};

/// Who is signed in, for the pages behind the guard.
#[derive(Debug, Clone)]
pub struct Visitor {
    pub sign_in: SignIn,
    pub caller: Caller,
    /// Stands in every form of this session.
    pub token: String,
}

impl Visitor {
    pub fn new(sign_in: SignIn, scopes: Vec<Scope>, cookie: &str) -> Self {
        let caller = Caller {
            name: sign_in.operator.name.clone(),
            face: Face::V1,
            scopes,
            secret: sign_in.key,
            through: Through::Console,
        };
        Self { sign_in, caller, token: form_token(cookie) }
    }

    pub fn call(&self) -> Call {
        Call { caller: self.caller.clone(), expected: None, confirmed: false }
    }

    pub fn may(&self, scope: Scope) -> bool {
        self.caller.may(scope).is_ok()
    }
}

impl<S: Send + Sync> FromRequestParts<S> for Visitor {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Failure> {
        // Without the layer that knows who is signed in no page is shown.
        parts.extensions.get::<Self>().cloned().ok_or_else(Failure::signed_out)
    }
}

/// A page of another site can neither read the cookie nor guess what is made of it.
pub fn form_token(cookie: &str) -> String {
    URL_SAFE_NO_PAD.encode(Digest::of(format!("form of the console {cookie}").as_bytes()).0)
}
