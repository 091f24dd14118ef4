//! Microsoft Graph, asked as an application (client credentials, RFC 6749 section 4.4).
//!
//! One look-up is a first page and those that its `@odata.nextLink` leads to, within the endpoint's own origin, a number of
//! pages, values and bytes, and the time that the configuration gives it. Whatever goes wrong, nothing comes of it: a part
//! of a person's groups would revoke the others.

mod answer;

use std::collections::HashMap;
use std::time::Duration;

use http::header::{self, HeaderValue};
use http::{Method, Request, Response, StatusCode};
use tokio::sync::Semaphore;
use tokio::time::Instant;
use url::Url;

use self::answer::Page;
use super::{Directory, DirectoryError};
use crate::clock::Clock;
use crate::config::{ClientCredentials, GroupAttribute, LookUp, OverageSettings, ProviderSettings};
use crate::pipeline::claims::overage::Person;
use crate::pipeline::ids::ProviderName;
use crate::ports::BoxFuture;
use crate::ports::client_credentials::{AccessToken, Tokens};
use crate::ports::http::{FetchError, HttpClient};

/// Pages of one look-up. Graph's largest page has 999 groups, so that the cap on values is met first.
const MOST_PAGES: usize = 64;
/// Bytes of one page: 999 groups with four short properties each stay far below.
const MOST_PAGE: usize = 4 * 1024 * 1024;
/// How often one request is repeated when the directory is busy.
const RETRIES: u32 = 3;
/// The wait before the first repetition where the directory does not name one; it doubles.
const FIRST_WAIT: Duration = Duration::from_millis(250);
/// Look-ups of one provider at once: the directory throttles clients that ask for more.
const AT_ONCE: usize = 16;

/// The directories of all providers that have one.
pub struct Graph {
    tenants: HashMap<ProviderName, Tenant>,
}

/// One provider's directory.
struct Tenant {
    settings: OverageSettings,
    most_values: usize,
    client: HttpClient,
    tokens: Tokens,
    permits: Semaphore,
}

impl Graph {
    /// Asks nothing yet.
    ///
    /// # Errors
    /// When no client can be made.
    pub fn new(providers: &[ProviderSettings], clock: &Clock) -> Result<Self, FetchError> {
        let mut tenants = HashMap::new();
        let mut client: Option<HttpClient> = None;
        for provider in providers {
            let Some(settings) = &provider.overage else { continue };
            let client = match &client {
                Some(client) => client.clone(),
                None => client.insert(HttpClient::new(None, None, provider.keys.egress.as_ref())?).clone(),
            };
            let tenant = Tenant {
                settings: settings.clone(),
                most_values: provider.provider.limits.values,
                tokens: Tokens::new(credentials(settings), clock.clone()),
                client,
                permits: Semaphore::new(AT_ONCE),
            };
            tenants.insert(provider.provider.name.clone(), tenant);
        }
        Ok(Self { tenants })
    }
}

/// The application, with the scope that stands for everything that it was given.
fn credentials(settings: &OverageSettings) -> ClientCredentials {
    ClientCredentials {
        token_endpoint: settings.token_endpoint.clone(),
        client_id: settings.client_id.clone(),
        secret: settings.credential.clone(),
        in_form: true,
        scopes: vec![format!("{}/.default", settings.endpoint.origin().ascii_serialization())],
    }
}

impl Directory for Graph {
    fn groups<'a>(
        &'a self,
        provider: &'a ProviderName,
        person: &'a Person,
    ) -> BoxFuture<'a, Result<Vec<String>, DirectoryError>> {
        Box::pin(async move {
            match self.tenants.get(provider) {
                Some(tenant) => tenant.groups(person).await,
                None => Err(DirectoryError::None),
            }
        })
    }
}

/// One request of a look-up.
#[derive(Clone)]
struct Question {
    method: Method,
    address: Url,
    body: &'static str,
    /// Advanced queries (`$count`, casts) need it (learn.microsoft.com, advanced query capabilities).
    eventual: bool,
}

impl Tenant {
    async fn groups(&self, person: &Person) -> Result<Vec<String>, DirectoryError> {
        let object = self.object_of(person)?;
        let timeout = self.settings.timeout;
        let deadline = Instant::now() + timeout;
        let look_up = tokio::time::timeout_at(deadline, self.look_up(object, deadline));
        look_up.await.unwrap_or(Err(DirectoryError::Timeout(timeout)))
    }

    /// A directory is asked about its own people alone: an ID of another tenant could be another person here.
    fn object_of<'p>(&self, person: &'p Person) -> Result<&'p str, DirectoryError> {
        let tenant = person.tenant.as_deref().unwrap_or("none");
        if !tenant.eq_ignore_ascii_case(&self.settings.tenant) {
            let found = tenant.chars().take(60).collect();
            return Err(DirectoryError::OtherTenant { found, expected: self.settings.tenant.clone() });
        }
        // A dot segment would lead to another resource.
        let usable = |object: &&str| !object.trim().is_empty() && !matches!(*object, "." | "..");
        person.object.as_deref().filter(usable).ok_or(DirectoryError::Unnamed)
    }

    async fn look_up(&self, object: &str, deadline: Instant) -> Result<Vec<String>, DirectoryError> {
        let Ok(_permit) = self.permits.acquire().await else { return Err(DirectoryError::None) };
        let mut groups = Vec::new();
        let mut question = self.first_question(object)?;
        for _ in 0..MOST_PAGES {
            let answer = self.ask(&question, deadline).await?;
            let Page { values, next } = answer::read(answer.body(), &self.settings.look_up)?;
            groups.extend(values);
            if groups.len() > self.most_values {
                return Err(DirectoryError::TooMany { what: "values", most: self.most_values });
            }
            match next {
                None => return Ok(groups),
                Some(link) => question = self.next_question(&link, question.eventual)?,
            }
        }
        Err(DirectoryError::TooMany { what: "pages", most: MOST_PAGES })
    }

    fn first_question(&self, object: &str) -> Result<Question, DirectoryError> {
        let (action, query) = match &self.settings.look_up {
            LookUp::Ids { security_only: true } => return self.action(object, "getMemberGroups", SECURITY_ONLY),
            LookUp::Ids { security_only: false } => return self.action(object, "getMemberObjects", ALL),
            LookUp::Names { attribute, .. } => ("transitiveMemberOf/microsoft.graph.group", select(*attribute)),
            LookUp::Assigned { service_principal, .. } => (
                "appRoleAssignments",
                vec![("$filter", format!("resourceId eq {service_principal}")), ("$count", "true".to_owned())],
            ),
        };
        let mut address = self.address(object, action)?;
        address.query_pairs_mut().extend_pairs(query);
        Ok(Question { method: Method::GET, address, body: "", eventual: true })
    }

    fn action(&self, object: &str, action: &str, body: &'static str) -> Result<Question, DirectoryError> {
        Ok(Question { method: Method::POST, address: self.address(object, action)?, body, eventual: false })
    }

    fn address(&self, object: &str, action: &str) -> Result<Url, DirectoryError> {
        let mut address = self.settings.endpoint.clone();
        match address.path_segments_mut() {
            Ok(mut path) => path.clear().extend(["v1.0", "users", object]).extend(action.split('/')),
            Err(()) => return Err(DirectoryError::Elsewhere),
        };
        Ok(address)
    }

    /// A link is followed where it stays with the directory that the operator named, credentials and all.
    fn next_question(&self, link: &str, eventual: bool) -> Result<Question, DirectoryError> {
        let address = Url::parse(link).map_err(|_| DirectoryError::Elsewhere)?;
        let plain = address.username().is_empty() && address.password().is_none();
        match plain && address.origin() == self.settings.endpoint.origin() {
            true => Ok(Question { method: Method::GET, address, body: "", eventual }),
            false => Err(DirectoryError::Elsewhere),
        }
    }

    /// One page, asked for again where the directory is busy or no longer takes our token.
    async fn ask(&self, question: &Question, deadline: Instant) -> Result<Response<Vec<u8>>, DirectoryError> {
        let mut wait = FIRST_WAIT;
        let mut renewed = false;
        let mut repeated = 0;
        loop {
            let token = self.tokens.current(&self.client).await;
            let token = token.map_err(|error| DirectoryError::Token(error.to_string()))?;
            let answer = self.client.exchange(question.request(&token)?, MOST_PAGE).await?;
            match answer.status() {
                StatusCode::OK => return Ok(answer),
                StatusCode::UNAUTHORIZED if !renewed => {
                    renewed = true;
                    self.tokens.forget(&token).await;
                }
                StatusCode::TOO_MANY_REQUESTS
                | StatusCode::BAD_GATEWAY
                | StatusCode::SERVICE_UNAVAILABLE
                | StatusCode::GATEWAY_TIMEOUT
                    if repeated < RETRIES =>
                {
                    repeated += 1;
                    pause(retry_after(&answer).unwrap_or(wait), deadline).await?;
                    wait *= 2;
                }
                status => {
                    return Err(DirectoryError::Status {
                        status: status.as_u16(),
                        code: answer::error_code(answer.body()),
                    });
                }
            }
        }
    }
}

const SECURITY_ONLY: &str = r#"{"securityEnabledOnly":true}"#;
const ALL: &str = r#"{"securityEnabledOnly":false}"#;

/// `displayName` always: a group that comes without one is one that we may not read.
fn select(attribute: GroupAttribute) -> Vec<(&'static str, String)> {
    let select = match attribute {
        GroupAttribute::DisplayName => "id,displayName,securityEnabled",
        GroupAttribute::OnPremisesSamAccountName => "id,displayName,onPremisesSamAccountName,securityEnabled",
    };
    [("$select", select), ("$count", "true"), ("$top", "999")].map(|(key, value)| (key, value.to_owned())).to_vec()
}

impl Question {
    fn request(&self, token: &AccessToken) -> Result<Request<Vec<u8>>, DirectoryError> {
        let mut request = Request::builder()
            .method(self.method.clone())
            .uri(self.address.as_str())
            .header(header::ACCEPT, "application/json")
            .header(header::AUTHORIZATION, token.bearer());
        if !self.body.is_empty() {
            request = request.header(header::CONTENT_TYPE, "application/json");
        }
        if self.eventual {
            request = request.header("ConsistencyLevel", "eventual");
        }
        request.body(self.body.into()).map_err(|_| DirectoryError::Elsewhere)
    }
}

/// RFC 9110 section 10.2.3, in seconds; a date reads as no word at all.
fn retry_after(answer: &Response<Vec<u8>>) -> Option<Duration> {
    let seconds = answer.headers().get(header::RETRY_AFTER).and_then(|value: &HeaderValue| value.to_str().ok())?;
    seconds.trim().parse().ok().map(Duration::from_secs)
}

/// Waits, unless the time would be over by then: a login should not wait in vain.
async fn pause(wait: Duration, deadline: Instant) -> Result<(), DirectoryError> {
    let until = Instant::now().checked_add(wait).filter(|until| *until < deadline);
    let Some(until) = until else { return Err(DirectoryError::Throttled(wait)) };
    tokio::time::sleep_until(until).await;
    Ok(())
}
