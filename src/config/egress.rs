//! How what we ask providers leaves this network: `[egress]`.

use std::ops::Range;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use url::Url;

use super::reader::{Found, Section};
use super::values::{self, Wrong};
use super::{Network, Secret, files};

/// A proxy that opens tunnels (CONNECT, RFC 9110 section 9.3.6).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Egress {
    /// Without brackets where it is an IPv6 address.
    pub host: String,
    pub port: u16,
    /// The value of `Proxy-Authorization`.
    pub authorization: Option<Secret>,
    except: Vec<Except>,
}

/// What is asked without the proxy.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Except {
    Everything,
    Network(Network),
    /// A host, and every one below it.
    Domain(String),
}

impl Egress {
    /// Whether a host is asked through the proxy. This machine never is.
    pub fn carries(&self, host: &str) -> bool {
        let host = host.trim_matches(['[', ']']).trim_end_matches('.').to_ascii_lowercase();
        if host == "localhost" || host.ends_with(".localhost") {
            return false;
        }
        let address: Option<std::net::IpAddr> = host.parse().ok();
        let is_excepted = |except: &Except| match (except, address) {
            (Except::Everything, _) => true,
            (Except::Network(network), Some(address)) => network.contains(address),
            (Except::Domain(name), None) => {
                host.strip_suffix(name.as_str()).is_some_and(|front| front.is_empty() || front.ends_with('.'))
            }
            (Except::Network(_), None) | (Except::Domain(_), Some(_)) => false,
        };
        !address.is_some_and(|address| address.is_loopback()) && !self.except.iter().any(is_excepted)
    }
}

/// Reads `[egress]`. Absent: providers are asked directly.
pub fn read(section: &Section<'_>) -> Option<Arc<Egress>> {
    // Either may hold a password, so that neither is shown.
    let wrong = |span: &Range<usize>, key: &str, wrong: &Wrong| {
        section.context.raise_hiding(span, section.key(key), format!("is not a proxy; expected {}", wrong.expected));
    };
    let proxy = section.text("proxy").and_then(|text| match of_url(text.value, false) {
        Ok(found) => Some(found),
        Err(why) => {
            wrong(&text.span, "proxy", &why);
            None
        }
    });
    let named = files::text_variable(section, "proxy_env").and_then(|text| match of_url(text.value.trim(), true) {
        Ok(found) => Some(found),
        Err(why) => {
            wrong(&text.span, "proxy_env", &why);
            None
        }
    });
    if let (Some(_), Some(span)) = (section.written("proxy"), section.written("proxy_env")) {
        section.raise(&span, "proxy_env", "`proxy` is set too; expected one of them");
    }
    let mut except = section.list("no_proxy", false, excepted).unwrap_or_default();
    if let Some(Found { value, span }) = files::text_variable(section, "no_proxy_env") {
        for entry in value.split(',').map(str::trim).filter(|entry| !entry.is_empty()) {
            match excepted(entry) {
                Ok(entry) => except.push(entry),
                Err(wrong) => {
                    let message =
                        format!("the variable holds `{}`; expected {}", super::reader::shown(entry), wrong.expected);
                    section.raise(&span, "no_proxy_env", message);
                }
            }
        }
    }
    for key in ["no_proxy", "no_proxy_env"] {
        if let (Some(span), None, None) = (section.written(key), section.written("proxy"), section.written("proxy_env"))
        {
            section.raise(&span, key, "no proxy is set; expected `proxy` or `proxy_env` as well");
        }
    }
    section.finish();
    let Egress { host, port, authorization, .. } = proxy.or(named)?;
    Some(Arc::new(Egress { host, port, authorization, except }))
}

fn of_url(text: &str, may_have_credentials: bool) -> Result<Egress, Wrong> {
    let wrong = || {
        let credentials = if may_have_credentials {
            "perhaps with user and password"
        } else {
            "user and password are for `proxy_env`"
        };
        Wrong::expected(format!("the address of a proxy such as `http://proxy.example.com:3128`; {credentials}"))
    };
    let url = Url::parse(text).map_err(|_| wrong())?;
    let is_bare = url.path() == "/" && url.query().is_none() && url.fragment().is_none() && url.scheme() == "http";
    let has_credentials = !url.username().is_empty() || url.password().is_some();
    let host = url.host_str().map(|host| host.trim_matches(['[', ']']).to_owned());
    let (Some(host), true, true) = (host, is_bare, may_have_credentials || !has_credentials) else {
        return Err(wrong());
    };
    let decoded = |text: &str| percent_encoding::percent_decode_str(text).collect::<Vec<u8>>();
    let authorization = has_credentials.then(|| {
        let pair = [decoded(url.username()), b":".to_vec(), decoded(url.password().unwrap_or_default())].concat();
        Secret::new(format!("Basic {}", STANDARD.encode(pair)).into_bytes())
    });
    Ok(Egress { host, port: url.port_or_known_default().unwrap_or(80), authorization, except: Vec::new() })
}

fn excepted(text: &str) -> Result<Except, Wrong> {
    if text == "*" {
        return Ok(Except::Everything);
    }
    if let Ok(network) = values::network(text) {
        return Ok(Except::Network(network));
    }
    let name = text.strip_prefix("*.").or_else(|| text.strip_prefix('.')).unwrap_or(text);
    let is_name = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_');
    let looks_like_network = name.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
    match !name.is_empty() && name.bytes().all(is_name) && !looks_like_network {
        true => Ok(Except::Domain(name.trim_end_matches('.').to_ascii_lowercase())),
        false => Err(Wrong::expected(
            "a host such as `idp.internal.example`, a domain such as `.internal.example`, a network such as `10.0.0.0/8`, or `*`",
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_excepted_is_asked_directly() {
        let except = ["Internal.example", ".corp", "*.dev.example", "10.0.0.0/8", "fd00::/8"];
        let except = except.iter().map(|text| excepted(text).unwrap()).collect();
        let egress = Egress { except, ..of_url("http://proxy:3128", false).unwrap() };
        for (host, carried) in [
            ("idp.example", true),
            ("internal.example", false),
            ("a.INTERNAL.example.", false),
            ("notinternal.example", true),
            ("x.corp", false),
            ("dev.example", false),
            ("10.1.2.3", false),
            ("11.1.2.3", true),
            ("[fd00::1]", false),
            ("127.0.0.1", false),
            ("[::1]", false),
            ("localhost", false),
        ] {
            assert_eq!(egress.carries(host), carried, "{host}");
        }
        let nothing = Egress { except: vec![excepted("*").unwrap()], ..egress };
        assert!(!nothing.carries("idp.example"));
        assert!(["10.0.0.0/33", "a/b", "", "10.1.2"].iter().all(|text| excepted(text).is_err()));
    }

    #[test]
    fn credentials_are_for_variables_alone_and_do_not_print() {
        assert!(of_url("http://u:p@proxy:3128", false).is_err());
        let egress = of_url("http://u%40x:p%3A@proxy:3128/", true).unwrap();
        assert_eq!(egress.authorization.as_ref().unwrap().expose(), b"Basic dUB4OnA6");
        assert!(!format!("{egress:?}").contains("dUB4"));
        for text in ["https://proxy", "proxy:3128", "http://proxy/x", "socks5://proxy"] {
            assert!(of_url(text, true).is_err(), "{text}");
        }
    }
}
