//! A browser for the walk: follows redirects, keeps cookies, fills in forms; no scripts.
//!
//! Like a real one it sends cookies to a host whatever the port (RFC 6265 section 8.5), which is what makes provider and
//! sidecar one site on loopback.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Method, Request, StatusCode, header};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use url::Url;

use crate::cli::Failure;
use crate::serve::proxy::scan::{Form, forms};

/// For one request.
const TIMEOUT: Duration = Duration::from_secs(10);
const MOST_REDIRECTS: usize = 10;
const MOST_BODY: usize = 4 * 1024 * 1024;

/// One browser, with its own cookies.
#[derive(Clone)]
pub struct Browser {
    client: Client<HttpConnector, Full<Bytes>>,
    cookies: Cookies,
    /// The last form that was sent, with the cookies of that moment: what an eavesdropper could send again.
    last_form: Option<(Sent, Cookies)>,
}

/// Value and path, by host and name.
type Cookies = BTreeMap<(String, String), (String, String)>;

#[derive(Clone)]
struct Sent {
    to: Url,
    from: Option<Url>,
    body: String,
}

/// What came back, once there was no further redirect.
#[derive(Debug)]
pub struct Page {
    pub url: Url,
    pub status: StatusCode,
    pub body: String,
}

impl Default for Browser {
    fn default() -> Self {
        // A connection for each request, so that a balancer has something to choose.
        let client = Client::builder(TokioExecutor::new()).pool_max_idle_per_host(0).build(HttpConnector::new());
        Self { client, cookies: Cookies::new(), last_form: None }
    }
}

impl Browser {
    /// Goes to an address.
    ///
    /// # Errors
    /// When there is no answer.
    pub async fn open(&mut self, address: &str) -> Result<Page, Failure> {
        let url = Url::parse(address).map_err(Failure::new)?;
        self.go(url, None).await
    }

    /// Fills in the first form of a page that has these fields with these values, and sends it; `more` are typed in.
    ///
    /// # Errors
    /// When there is no such form, or no answer.
    pub async fn submit(&mut self, page: &Page, with: &[(&str, &str)], more: &[(&str, &str)]) -> Result<Page, Failure> {
        let form = page.form(with)?;
        let to = page.url.join(&form.action).map_err(Failure::new)?;
        let mut body = form_urlencoded::Serializer::new(String::new());
        let typed = |name: &str| more.iter().any(|(key, _)| *key == name);
        body.extend_pairs(form.fields.iter().filter(|(name, _)| !typed(name)));
        body.extend_pairs(more);
        let sent = Sent { to: to.clone(), from: Some(page.url.clone()), body: body.finish() };
        self.last_form = Some((sent.clone(), self.cookies.clone()));
        self.go(to, Some(sent)).await
    }

    /// Sends the last form again, just as it was, cookies included.
    ///
    /// # Errors
    /// When there was none, or no answer.
    pub async fn send_again(&mut self) -> Result<Page, Failure> {
        let (sent, cookies) = self.last_form.clone().ok_or_else(|| Failure("no form was sent yet".into()))?;
        self.cookies = cookies;
        self.go(sent.to.clone(), Some(sent)).await
    }

    /// Loses its memory of who it is.
    pub fn forget_cookies(&mut self) {
        self.cookies.clear();
    }

    async fn go(&mut self, mut url: Url, mut form: Option<Sent>) -> Result<Page, Failure> {
        for _ in 0..MOST_REDIRECTS {
            let (status, headers, body) = self.exchange(&url, form.take()).await?;
            self.keep_cookies(&url, &headers);
            let location = headers.get(header::LOCATION).and_then(|location| location.to_str().ok());
            match location.filter(|_| status.is_redirection()) {
                Some(location) => url = url.join(location).map_err(Failure::new)?,
                None => return Ok(Page { url, status, body }),
            }
        }
        Err(Failure(format!("more than {MOST_REDIRECTS} redirects, the last of them to {url}")))
    }

    async fn exchange(&self, url: &Url, form: Option<Sent>) -> Result<(StatusCode, HeaderMap, String), Failure> {
        let method = if form.is_some() { Method::POST } else { Method::GET };
        let mut request =
            Request::builder().method(method).uri(url.as_str()).header(header::ACCEPT, "text/html,*/*;q=0.8");
        if let Some(cookies) = self.cookies_for(url) {
            request = request.header(header::COOKIE, cookies);
        }
        let body = form.map_or_else(String::new, |sent| {
            if let Some(headers) = request.headers_mut() {
                let origin = sent.from.map(|from| from.origin().ascii_serialization());
                headers.extend(origin.and_then(|origin| Some((header::ORIGIN, origin.parse().ok()?))));
                let kind = http::HeaderValue::from_static("application/x-www-form-urlencoded");
                headers.insert(header::CONTENT_TYPE, kind);
            }
            sent.body
        });
        let request = request.body(Full::new(Bytes::from(body))).map_err(Failure::new)?;
        let failed = |error: &dyn std::fmt::Display| Failure(format!("no answer from {url}: {error}"));
        let exchange = async {
            let answer = self.client.request(request).await.map_err(|error| failed(&error))?;
            let (head, body) = answer.into_parts();
            let body = Limited::new(body, MOST_BODY).collect().await.map_err(|error| failed(&error))?;
            Ok((head.status, head.headers, String::from_utf8_lossy(&body.to_bytes()).into_owned()))
        };
        tokio::time::timeout(TIMEOUT, exchange).await.unwrap_or_else(|_| Err(failed(&"it took too long")))
    }

    fn cookies_for(&self, url: &Url) -> Option<String> {
        let host = url.host_str()?;
        let here = |path: &str| {
            let rest = url.path().strip_prefix(path);
            rest.is_some_and(|rest| path.ends_with('/') || rest.is_empty() || rest.starts_with('/'))
        };
        let fitting = self.cookies.iter().filter(|((of, _), (_, path))| of == host && here(path));
        let pairs: Vec<String> = fitting.map(|((_, name), (value, _))| format!("{name}={value}")).collect();
        (!pairs.is_empty()).then(|| pairs.join("; "))
    }

    fn keep_cookies(&mut self, url: &Url, headers: &HeaderMap) {
        for line in headers.get_all(header::SET_COOKIE).iter().filter_map(|line| line.to_str().ok()) {
            let mut parts = line.split(';').map(str::trim);
            let (Some((name, value)), Some(host)) =
                (parts.next().and_then(|pair| pair.split_once('=')), url.host_str())
            else {
                continue;
            };
            let attributes: Vec<(&str, &str)> = parts.filter_map(|part| part.split_once('=')).collect();
            let attribute =
                |key: &str| attributes.iter().find(|(name, _)| name.eq_ignore_ascii_case(key)).map(|(_, value)| *value);
            let key = (host.to_owned(), name.to_owned());
            if attribute("max-age") == Some("0") {
                self.cookies.remove(&key);
            } else {
                self.cookies.insert(key, (value.to_owned(), attribute("path").unwrap_or("/").to_owned()));
            }
        }
    }
}

impl Page {
    fn form(&self, with: &[(&str, &str)]) -> Result<Form, Failure> {
        let has = |form: &Form, (name, value): &(&str, &str)| {
            form.fields.iter().any(|(key, text)| key == name && text == value)
        };
        forms(self.body.as_bytes())
            .into_iter()
            .find(|form| with.iter().all(|field| has(form, field)))
            .ok_or_else(|| Failure(format!("the page at {} ({}) has no form with {with:?}", self.url, self.status)))
    }

    /// The page's first heading.
    pub fn heading(&self) -> &str {
        let after = self.body.split_once("<h1").and_then(|(_, rest)| rest.split_once('>'));
        let heading = after.and_then(|(_, rest)| rest.split_once("</h1>")).map(|(heading, _)| heading.trim());
        heading.unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cookies_go_where_they_belong() {
        let mut browser = Browser::default();
        let mut headers = HeaderMap::new();
        headers.append(header::SET_COOKIE, "a=1; Path=/; HttpOnly".parse().unwrap());
        headers.append(header::SET_COOKIE, "b=2; path=/callback".parse().unwrap());
        browser.keep_cookies(&Url::parse("http://127.0.0.1:1/").unwrap(), &headers);
        let sent = |url: &str| browser.cookies_for(&Url::parse(url).unwrap());
        assert_eq!(sent("http://127.0.0.1:2/callback/oidc").as_deref(), Some("a=1; b=2"));
        assert_eq!(sent("http://127.0.0.1:2/callbacks").as_deref(), Some("a=1"));
        assert_eq!(sent("http://localhost/"), None);
        headers.clear();
        headers.append(header::SET_COOKIE, "a=; Max-Age=0; Path=/".parse().unwrap());
        browser.keep_cookies(&Url::parse("http://127.0.0.1:1/").unwrap(), &headers);
        assert_eq!(browser.cookies_for(&Url::parse("http://127.0.0.1/").unwrap()), None);
    }
}
