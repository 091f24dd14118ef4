//! API clients: those of the file, and those of the store, which are made and ended here.

use serde::Serialize;
use utoipa::ToSchema;

use super::{Call, Refused, Service};
use crate::config::{Config, Face, Scope, valid_name};
use crate::pipeline::mapping::definition::Fault;
use crate::ports::catalogue::ApiClient;
use crate::ports::sessions::Digest;
use crate::ports::store::StoreError;
use crate::serve::cookies::random_text;

/// An API client, without its secret.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct ClientView {
    pub name: String,
    /// `file` or `store`.
    pub origin: &'static str,
    /// `read`, `mappings:write`, `members:write` or `admin`.
    pub scopes: Vec<&'static str>,
    /// `v1`, `onelogin`, `opal`, `timbal` or `odc`.
    pub faces: Vec<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub created_at: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub created_by: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub revoked_at: Option<String>,
}

/// A new client.
#[derive(Debug, Clone)]
pub struct NewClient {
    pub name: String,
    pub scopes: Vec<String>,
    /// Empty: all.
    pub faces: Vec<String>,
}

impl NewClient {
    /// The client, with a secret that its maker shows once.
    ///
    /// # Errors
    /// Everything that is wrong with it.
    pub fn client(&self, config: &Config, secret: &str) -> Result<ApiClient, Refused> {
        let mut faults = Vec::new();
        if let Err(why) = valid_name(&self.name) {
            faults.push(Fault::new("name", Some(&self.name), why));
        }
        let scopes = named(&self.scopes, "scopes", &Scope::ALL, Scope::word, &mut faults);
        let faces = named(&self.faces, "faces", &Face::ALL, Face::word, &mut faults);
        if self.scopes.is_empty() {
            faults.push(Fault::new("scopes", None, "expected at least one scope"));
        }
        super::no_faults(faults)?;
        if config.api_clients.iter().any(|client| client.name.eq_ignore_ascii_case(&self.name)) {
            let message = format!("the configuration declares a client `{}`; expected another name", self.name);
            return Err(Refused::Conflict(message));
        }
        let faces = if faces.is_empty() { Face::ALL.to_vec() } else { faces };
        Ok(ApiClient { name: self.name.clone(), secret: Digest::of(secret.as_bytes()), scopes, faces })
    }
}

/// Those of all that are named, each once.
fn named<T: Copy>(
    words: &[String],
    field: &str,
    all: &[T],
    word: impl Fn(T) -> &'static str,
    faults: &mut Vec<Fault>,
) -> Vec<T> {
    for (at, name) in words.iter().enumerate() {
        if !all.iter().any(|one| word(*one) == name) {
            let known: Vec<&str> = all.iter().map(|one| word(*one)).collect();
            let message = format!("expected one of {}", known.join(", "));
            faults.push(Fault::new(format!("{field}[{at}]"), Some(name), message));
        }
    }
    all.iter().copied().filter(|one| words.iter().any(|name| word(*one) == name)).collect()
}

impl Service {
    /// All clients, those of the file first.
    ///
    /// # Errors
    /// When the caller may not, or the store cannot be read.
    pub async fn clients(&self, call: &Call) -> Result<Vec<ClientView>, Refused> {
        call.caller.may(Scope::Admin)?;
        let words = |scopes: &[Scope], faces: &[Face]| {
            (scopes.iter().map(|one| one.word()).collect(), faces.iter().map(|one| one.word()).collect())
        };
        let config = self.inspect.config();
        let declared = config.api_clients.iter().map(|client| {
            let (scopes, faces) = words(&client.scopes, &client.faces);
            let name = client.name.clone();
            ClientView { name, origin: "file", scopes, faces, created_at: None, created_by: None, revoked_at: None }
        });
        let stored = self.inspect.catalogue().clients().await?.into_iter().map(|client| {
            let (scopes, faces) = words(&client.scopes, &client.faces);
            ClientView {
                name: client.name,
                origin: "store",
                scopes,
                faces,
                created_at: Some(client.created_at),
                created_by: Some(client.created_by),
                revoked_at: client.revoked_at,
            }
        });
        Ok(declared.chain(stored).collect())
    }

    /// Makes a client of the store; answers its secret, which is kept nowhere.
    ///
    /// # Errors
    /// When the caller may not, something is wrong with it, or there is one of this name.
    pub async fn create_client(&self, call: &Call, new: NewClient) -> Result<String, Refused> {
        call.caller.may(Scope::Admin)?;
        let without =
            || Refused::Store(StoreError::Unavailable("the operating system returned no random bytes".into()));
        let secret = random_text().ok_or_else(without)?;
        let client = new.client(&self.inspect.config(), &secret)?;
        let added = self.inspect.catalogue().add_client(client, call.caller.by(), self.inspect.now()).await;
        added.map_err(conflicting)?;
        Ok(secret)
    }

    /// Revokes a client of the store and its access tokens.
    ///
    /// # Errors
    /// When the caller may not, the file declares it, or there is none of this name.
    pub async fn revoke_client(&self, call: &Call, name: &str) -> Result<(), Refused> {
        call.caller.may(Scope::Admin)?;
        if self.inspect.config().api_clients.iter().any(|client| client.name == name) {
            return Err(Refused::ReadOnly(format!("the configuration file declares client `{name}`; remove it there")));
        }
        let revoked = self.inspect.catalogue().revoke_client(name.into(), call.caller.by(), self.inspect.now()).await;
        revoked.map_err(|error| match error {
            StoreError::Invalid(why) => Refused::NotFound(why),
            other => other.into(),
        })
    }
}

fn conflicting(error: StoreError) -> Refused {
    match error {
        StoreError::Invalid(why) => Refused::Conflict(why),
        other => other.into(),
    }
}
