//! Asks over https, with the certificate authority and the client certificate that a provider's configuration names.

use std::collections::HashMap;
use std::sync::Arc;

use ::http::{Request, Response, Uri};

use super::{AskError, BackChannel};
use crate::config::{Endpoint, ProviderSettings};
use crate::pipeline::ids::ProviderName;
use crate::pipeline::provider::Mode;
use crate::ports::BoxFuture;
use crate::ports::http::{FetchError, HttpClient};
use crate::ports::keys::KeySource;

/// One client for each provider that is asked anything.
pub struct HttpBackChannel {
    clients: HashMap<ProviderName, HttpClient>,
    keys: Arc<dyn KeySource>,
}

impl HttpBackChannel {
    /// # Errors
    /// When a file of certificates or a key cannot be used.
    pub fn new(providers: &[ProviderSettings], keys: Arc<dyn KeySource>) -> Result<Self, FetchError> {
        let mut clients = HashMap::new();
        for settings in providers.iter().filter(|settings| is_asked(settings.provider.mode)) {
            let client = HttpClient::new(
                settings.keys.ca_file.as_deref(),
                settings.keys.identity.as_ref(),
                settings.keys.egress.as_ref(),
            )?
            .allowing_http(settings.keys.allow_http);
            clients.insert(settings.provider.name.clone(), client);
        }
        Ok(Self { clients, keys })
    }
}

/// Whether a provider of this mode is asked anything but its keys. The authorities that a client trusts take memory.
fn is_asked(mode: Mode) -> bool {
    match mode {
        Mode::SamlPost | Mode::OidcFormPost | Mode::Bearer | Mode::SamlRelyingParty => false,
        Mode::TokenRelay | Mode::RelyingParty => true,
    }
}

impl BackChannel for HttpBackChannel {
    fn ask(
        &self,
        provider: &ProviderName,
        endpoint: Endpoint,
        mut request: Request<Vec<u8>>,
        limit: usize,
    ) -> BoxFuture<'_, Result<Response<Vec<u8>>, AskError>> {
        let client = self.clients.get(provider);
        let address = self.keys.endpoint(provider, endpoint);
        Box::pin(async move {
            let (Some(client), Some(address)) = (client, address) else {
                return Err(AskError::NoEndpoint(endpoint.member()));
            };
            let address: Uri = address.parse().map_err(|_| AskError::NoEndpoint(endpoint.member()))?;
            *request.uri_mut() = address;
            Ok(client.exchange(request, limit).await?)
        })
    }
}
