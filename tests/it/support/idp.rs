//! An OIDC provider of which every answer can be chosen, and which keeps what it is asked.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::body::Body;
use axum::extract::Request;
use bytes::Bytes;
use http::{HeaderMap, Response};
use http_body_util::BodyExt as _;
use loginsync::cli::demo::mint::{KeyKind, MintKey, oidc};
use serde_json::{Value, json};

/// What one of its endpoints answers.
#[derive(Debug, Clone)]
pub struct Scripted {
    pub status: u16,
    pub headers: Vec<(&'static str, String)>,
    pub body: Vec<u8>,
    pub after: Duration,
}

impl Scripted {
    pub fn json(body: impl Into<Vec<u8>>) -> Self {
        Self::of(200, "application/json", body)
    }

    pub fn of(status: u16, media_type: &str, body: impl Into<Vec<u8>>) -> Self {
        let headers = vec![("content-type", media_type.to_owned())];
        Self { status, headers, body: body.into(), after: Duration::ZERO }
    }
}

/// A request to one of its endpoints.
#[derive(Debug, Clone)]
pub struct Asked {
    pub path: String,
    pub headers: HeaderMap,
    pub body: Bytes,
}

impl Asked {
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map(|value| value.to_str().unwrap()).unwrap_or_default()
    }
}

pub struct Idp {
    pub address: SocketAddr,
    pub key: MintKey,
    script: Arc<Mutex<Script>>,
}

#[derive(Default)]
struct Script {
    answers: Vec<(&'static str, Scripted)>,
    asked: Vec<Asked>,
}

impl Idp {
    pub async fn start() -> Self {
        let key = MintKey::generate(KeyKind::Ed25519).unwrap();
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let script: Arc<Mutex<Script>> = Arc::default();
        let answering = Arc::clone(&script);
        let router = axum::Router::new().fallback(move |request: Request| answer(Arc::clone(&answering), request));
        tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        let idp = Self { address, key, script };
        idp.answers("/.well-known/openid-configuration", Scripted::json(idp.document().to_string()));
        idp.answers("/jwks", Scripted::json(oidc::jwks(&[oidc::jwk(&idp.key, "k").unwrap()]).to_string()));
        idp
    }

    pub fn issuer(&self) -> String {
        format!("http://{}", self.address)
    }

    pub fn document(&self) -> Value {
        let issuer = self.issuer();
        json!({
            "issuer": issuer, "authorization_endpoint": format!("{issuer}/authorize"),
            "token_endpoint": format!("{issuer}/token"), "userinfo_endpoint": format!("{issuer}/userinfo"),
            "revocation_endpoint": format!("{issuer}/revoke"), "jwks_uri": format!("{issuer}/jwks"),
            "end_session_endpoint": format!("{issuer}/logout"),
            "response_types_supported": ["code"], "subject_types_supported": ["public"],
            "id_token_signing_alg_values_supported": ["EdDSA"], "x-of-this-vendor": {"kept": true},
        })
    }

    /// From now on, until it is told otherwise.
    pub fn answers(&self, path: &'static str, answer: Scripted) {
        let mut script = self.script.lock().unwrap();
        script.answers.retain(|(known, _)| *known != path);
        script.answers.push((path, answer));
    }

    /// What was asked at a path so far.
    pub fn asked(&self, path: &str) -> Vec<Asked> {
        self.script.lock().unwrap().asked.iter().filter(|asked| asked.path == path).cloned().collect()
    }

    /// What was asked at a path, once that is as often as expected.
    pub async fn asked_times(&self, path: &str, times: usize) -> Vec<Asked> {
        for _ in 0..200 {
            let asked = self.asked(path);
            if asked.len() >= times {
                return asked;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        self.asked(path)
    }

    pub fn sign(&self, claims: &Value) -> String {
        oidc::id_token(&self.key, "EdDSA", &json!({"alg": "EdDSA", "kid": "k"}), claims).unwrap()
    }
}

async fn answer(script: Arc<Mutex<Script>>, request: Request) -> Response<Body> {
    let (parts, body) = request.into_parts();
    let body = body.collect().await.unwrap().to_bytes();
    let path = parts.uri.path().to_owned();
    let answer = {
        let mut script = script.lock().unwrap();
        script.asked.push(Asked { path: path.clone(), headers: parts.headers, body });
        script.answers.iter().find(|(known, _)| *known == path).map(|(_, answer)| answer.clone())
    };
    let answer = answer.unwrap_or_else(|| Scripted::of(404, "text/plain", "nothing here"));
    tokio::time::sleep(answer.after).await;
    let mut response = Response::builder().status(answer.status);
    for (name, value) in &answer.headers {
        response = response.header(*name, value);
    }
    response.body(Body::from(answer.body)).unwrap()
}
