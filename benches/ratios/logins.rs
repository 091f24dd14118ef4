//! Logins as a browser brings them: the start leg first, so that each is bound to a request; then the callbacks, timed.
//!
//! Every user holds nine groups of ten and also brings values that no mapping uses. At a repeat login another one
//! of the ten is left out, so that one membership is granted and one revoked.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::io::{self, Write as _};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use flate2::Compression;
use flate2::write::DeflateEncoder;
use loginsync::cli::demo::mint::saml::{self, MintAttribute, SamlLogin, Signer, Style};
use loginsync::cli::demo::mint::{Hash, KeyKind, MintKey, oidc, pem};
use loginsync::clock::Clock;
use loginsync::pipeline::ids::Timestamp;
use serde_json::json;

use crate::driver::{Driver, HOST, Load, Message, Outcome, Until, header, leave_path};
use crate::process::{self, Build, Cores, Target};

const ISSUER: &str = "https://idp.example.com";
const CLIENT: &str = "the-app";
const AUTHORIZATION: &str = "https://idp.example.com/authorize";
const ENTITY: &str = "https://idp.example.com/saml";
const AUDIENCE: &str = "https://app.example.com/saml/metadata";
const SSO: &str = "https://idp.example.com/sso";
/// Mappings of which a user matches all but one.
const MATCHED: usize = 10;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Protocol {
    Oidc,
    Saml,
}

impl Protocol {
    fn callback(self) -> &'static str {
        match self {
            Self::Oidc => "/callback",
            Self::Saml => "/acs",
        }
    }

    fn provider(self) -> &'static str {
        match self {
            Self::Oidc => "oidc",
            Self::Saml => "saml",
        }
    }
}

/// Who issues tokens, and somebody who pretends to.
pub struct Issuer {
    key: MintKey,
    stranger: MintKey,
    certificate: Vec<u8>,
}

type Failure = Box<dyn std::error::Error>;

impl Issuer {
    pub fn new() -> Result<Self, Failure> {
        let key = MintKey::generate(KeyKind::Rsa)?;
        let certificate = key.certificate("idp.example.com")?;
        Ok(Self { key, stranger: MintKey::generate(KeyKind::Rsa)?, certificate })
    }

    pub fn key(&self) -> &MintKey {
        &self.key
    }

    pub fn certificate_pem(&self) -> String {
        pem("CERTIFICATE", &self.certificate)
    }
}

/// A loginsync with a store of its own, and what its store should hold.
pub struct House {
    pub targets: Vec<Target>,
    protocol: Protocol,
    pub mappings: usize,
    folder: PathBuf,
    /// Of the last login. No two of one store have the same.
    pub serial: usize,
    expected: BTreeMap<String, BTreeSet<String>>,
}

/// What a loginsync is set up for.
#[derive(Debug, Clone, Copy)]
pub struct Setup<'a> {
    /// Of its folder; each has its own.
    pub name: &'a str,
    pub protocol: Protocol,
    /// All of them for the provider of this protocol.
    pub mappings: usize,
    /// The lines of `[store]`.
    pub store: &'a str,
    /// How many of them share it.
    pub replicas: usize,
    pub build: Build,
}

/// The database that [`NORMAL`] names.
pub const FILE: &str = "store.db";
/// A file that is synced at checkpoints alone.
pub const NORMAL: &str = "path = \"store.db\"\nsynchronous = \"normal\"";

/// Writes a configuration; returns its path, and where it listens.
pub fn configuration(
    folder: &Path,
    app: SocketAddr,
    issuer: &Issuer,
    setup: Setup<'_>,
) -> Result<(PathBuf, SocketAddr), Failure> {
    let Setup { name, protocol, mappings, store, .. } = setup;
    let folder = folder.join(name);
    std::fs::create_dir_all(&folder)?;
    let (listen, admin) = (process::free_address()?, process::free_address()?);
    std::fs::write(folder.join("jwks.json"), oidc::jwks(&[oidc::jwk(&issuer.key, "1")?]).to_string())?;
    std::fs::write(folder.join("idp.pem"), issuer.certificate_pem())?;
    let mut text = format!(
        r#"public_url = "https://{HOST}"

[listen]
address = "{listen}"

[app]
url = "http://{app}"

[admin]
address = "{admin}"

[store]
{store}

# Every repeat login takes a membership away, which is what the brake is there to stop; it counts all the same.
[brake]
minimum = 1000000

[[provider]]
name = "oidc"
mode = "oidc-form-post"
issuer = "{ISSUER}"
client_id = "{CLIENT}"
callback = "/callback"
jwks_file = "jwks.json"
authorization_endpoint = "{AUTHORIZATION}"
email_claim = "email"

[provider.claims.groups]

[[provider]]
name = "saml"
mode = "saml-post"
issuer = "{ENTITY}"
audience = "{AUDIENCE}"
callback = "/acs"
certificate_files = ["idp.pem"]
sso_url = "{SSO}"
email_claim = "email"

[provider.claims.groups]
"#
    );
    let groups: BTreeSet<String> = (0..mappings).map(|at| group_of(at, mappings)).collect();
    for group in groups {
        let _ = write!(text, "\n[[group]]\nname = \"{group}\"\n");
    }
    let provider = protocol.provider();
    for at in 0..mappings {
        let (value, group) = (value_of(at), group_of(at, mappings));
        let _ = write!(
            text,
            "\n[[mapping]]\nprovider = \"{provider}\"\nclaim = \"groups\"\nvalue = \"{value}\"\ngroup = \"{group}\"\n"
        );
    }
    let path = folder.join("loginsync.toml");
    std::fs::write(&path, text)?;
    Ok((path, listen))
}

impl House {
    pub fn open(
        cores: Cores,
        folder: &Path,
        driver: &mut Driver,
        issuer: &Issuer,
        setup: Setup<'_>,
    ) -> Result<Self, Failure> {
        let mut targets = Vec::new();
        for _ in 0..setup.replicas {
            let (path, listen) = configuration(folder, driver.address, issuer, setup)?;
            let mut target = process::loginsync(cores, folder, setup.name, setup.build, &path, listen)?;
            // It has read its configuration, and the next one is written over it.
            process::await_answer(&mut target, driver, Instant::now())?;
            targets.push(target);
        }
        Ok(Self {
            targets,
            protocol: setup.protocol,
            mappings: setup.mappings,
            folder: folder.join(setup.name),
            serial: 0,
            expected: BTreeMap::new(),
        })
    }

    /// Lets so many users begin a login, and makes the callbacks of it.
    pub fn prepare(
        &mut self,
        driver: &mut Driver,
        issuer: &Issuer,
        users: impl IntoIterator<Item = usize>,
        round: usize,
        values: usize,
    ) -> Result<Vec<Message>, Failure> {
        let protocol = self.protocol;
        let logins: Vec<Login> = users
            .into_iter()
            .map(|user| {
                let left_out = (user + round) % MATCHED;
                let positions: Vec<usize> =
                    (0..MATCHED).filter(|j| *j != left_out).map(|j| self.position(j, user)).collect();
                let groups = positions.iter().map(|at| group_of(*at, self.mappings)).collect();
                let name = format!("{protocol:?}-{user}");
                self.expected.insert(name.clone(), groups);
                let mapped = positions.into_iter().map(value_of);
                let others = (0..values - (MATCHED - 1)).map(|at| value_of(10_000_000 + user * 1000 + at));
                self.serial += 1;
                Login { name, serial: self.serial, values: mapped.chain(others).collect(), age: 0, life: 300 }
            })
            .collect();
        let cookies = self.leave(driver, &logins)?;
        logins
            .iter()
            .zip(cookies)
            .map(|(login, cookies)| login.callback(protocol, &issuer.key, issuer, &cookies))
            .collect()
    }

    /// Logins that must not pass: signed by a stranger, and expired.
    pub fn prepare_bad(&mut self, driver: &mut Driver, issuer: &Issuer) -> Result<Vec<Message>, Failure> {
        let protocol = self.protocol;
        let mut bad = |age, life| {
            self.serial += 1;
            Login {
                name: format!("{protocol:?}-0"),
                serial: self.serial,
                values: (0..MATCHED).map(|j| self.position(j, 0)).map(value_of).collect(),
                age,
                life,
            }
        };
        let logins = [bad(0, 300), bad(120, 30)];
        let cookies = self.leave(driver, &logins)?;
        let keys = [&issuer.stranger, &issuer.key];
        let callbacks = logins.iter().zip(keys).zip(cookies);
        callbacks.map(|((login, key), cookies)| login.callback(protocol, key, issuer, &cookies)).collect()
    }

    /// Where in the rules the j-th mapping of a user is: all over them.
    fn position(&self, j: usize, user: usize) -> usize {
        let stride = self.mappings / MATCHED;
        j * stride + user.wrapping_mul(7919) % stride
    }

    fn leave(&self, driver: &mut Driver, logins: &[Login]) -> Result<Vec<String>, Failure> {
        let messages = logins
            .iter()
            .map(|login| Ok(Message::get(&leave_path(&login.departure(self.protocol)?))))
            .collect::<Result<Vec<Message>, Failure>>()?;
        let outcome = driver.run(&Load {
            targets: &self.addresses(),
            connections: 8,
            messages: &messages,
            until: Until::Each,
            rate: None,
            keep_heads: true,
        })?;
        let cookie = |head: &String| {
            let cookie = header(head.as_bytes(), b"set-cookie:")?;
            cookie.split(';').next().map(str::to_owned)
        };
        let cookies: Option<Vec<String>> = outcome.heads.iter().map(cookie).collect();
        cookies.ok_or_else(|| format!("no binding cookie at a start leg: {:?}", outcome.statuses).into())
    }

    fn addresses(&self) -> Vec<SocketAddr> {
        self.targets.iter().map(|target| target.address).collect()
    }

    /// Processor time so far.
    pub fn cpu(&self) -> Duration {
        self.targets.iter().map(Target::cpu).sum()
    }

    pub fn send(&self, driver: &mut Driver, messages: &[Message], connections: usize) -> io::Result<Outcome> {
        driver.run(&Load {
            targets: &self.addresses(),
            connections,
            messages,
            until: Until::Each,
            rate: None,
            keep_heads: false,
        })
    }

    /// Compares the memberships in the database with those that the last logins should have left; returns how many users.
    pub fn read_back(&self) -> Result<usize, Failure> {
        let connection =
            rusqlite::Connection::open_with_flags(self.folder.join(FILE), rusqlite::OpenFlags::SQLITE_OPEN_READ_ONLY)?;
        let mut select = connection.prepare("SELECT subject, name FROM grants WHERE kind = 'group'")?;
        let mut found: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        let mut rows = select.query([])?;
        while let Some(row) = rows.next()? {
            found.entry(row.get(0)?).or_default().insert(row.get(1)?);
        }
        if found == self.expected {
            return Ok(found.len());
        }
        let wrong = self.expected.iter().find(|(user, groups)| found.get(*user) != Some(groups));
        Err(format!("memberships differ: {} users, expected {}; {wrong:?}", found.len(), self.expected.len()).into())
    }
}

/// One login of one user.
struct Login {
    name: String,
    serial: usize,
    values: Vec<String>,
    /// Seconds since the token was issued.
    age: i64,
    /// Seconds from then to its end.
    life: u32,
}

impl Login {
    fn state(&self) -> String {
        format!("state-{:08}-0123456789abcdef", self.serial)
    }

    fn nonce(&self) -> String {
        format!("nonce-{:08}-0123456789abcdef", self.serial)
    }

    fn request(&self) -> String {
        format!("_request-{:08}", self.serial)
    }

    /// The address that the app sends the browser to.
    fn departure(&self, protocol: Protocol) -> Result<String, Failure> {
        let mut query = form_urlencoded::Serializer::new(String::new());
        match protocol {
            Protocol::Oidc => {
                query.extend_pairs([
                    ("response_type", "id_token"),
                    ("response_mode", "form_post"),
                    ("scope", "openid"),
                    ("client_id", CLIENT),
                    ("state", &self.state()),
                    ("nonce", &self.nonce()),
                ]);
                Ok(format!("{AUTHORIZATION}?{}", query.finish()))
            }
            Protocol::Saml => {
                let request = format!(
                    "<samlp:AuthnRequest xmlns:samlp=\"urn:oasis:names:tc:SAML:2.0:protocol\" ID=\"{}\" Version=\"2.0\" \
                     IssueInstant=\"2026-01-01T00:00:00Z\"/>",
                    self.request()
                );
                let mut deflate = DeflateEncoder::new(Vec::new(), Compression::default());
                deflate.write_all(request.as_bytes())?;
                query.append_pair("SAMLRequest", &STANDARD.encode(deflate.finish()?));
                Ok(format!("{SSO}?{}", query.finish()))
            }
        }
    }

    fn callback(&self, protocol: Protocol, key: &MintKey, issuer: &Issuer, cookies: &str) -> Result<Message, Failure> {
        let fields: Vec<(&str, String)> = match protocol {
            Protocol::Oidc => vec![("id_token", self.id_token(key)?), ("state", self.state())],
            Protocol::Saml => {
                vec![("SAMLResponse", saml::field(&self.response(key, issuer)?)), ("RelayState", "/".into())]
            }
        };
        let fields: Vec<(&str, &str)> = fields.iter().map(|(name, value)| (*name, value.as_str())).collect();
        Ok(Message::form(protocol.callback(), cookies, &fields))
    }

    fn id_token(&self, key: &MintKey) -> Result<String, Failure> {
        let issued_at = seconds_now() - self.age;
        let header = json!({"alg": "RS256", "kid": "1", "typ": "JWT"});
        let claims = json!({
            "iss": ISSUER, "aud": CLIENT, "sub": self.name, "iat": issued_at, "exp": issued_at + i64::from(self.life),
            "nonce": self.nonce(), "jti": format!("token-{}", self.serial), "email": format!("{}@example.com", self.name),
            "name": "Somebody Somewhere", "groups": self.values,
        });
        Ok(oidc::id_token(key, "RS256", &header, &claims)?)
    }

    fn response(&self, key: &MintKey, issuer: &Issuer) -> Result<String, Failure> {
        let now = Timestamp::from_seconds(seconds_now() - self.age);
        let ids = (format!("_response-{}", self.serial), format!("_assertion-{}", self.serial));
        let acs = format!("https://{HOST}{}", Protocol::Saml.callback());
        let mut login = SamlLogin::new(ENTITY, AUDIENCE, &acs, (&ids.0, &ids.1), now.0);
        login.not_on_or_after = now.plus(std::time::Duration::from_secs(u64::from(self.life))).0;
        login.in_response_to = Some(self.request());
        login.name_id = Some((self.name.clone(), None));
        let values: Vec<&str> = self.values.iter().map(String::as_str).collect();
        let email = format!("{}@example.com", self.name);
        login.attributes = vec![MintAttribute::of("email", &[&email]), MintAttribute::of("groups", &values)];
        let signer = Signer {
            key,
            hash: Hash::Sha256,
            pss: false,
            certificate: Some(&issuer.certificate),
            style: Style::Prefixed,
        };
        let assertion = saml::sign(&saml::assertion(&login), &login.assertion_id, signer)?;
        Ok(saml::response(&login, &assertion))
    }
}

/// A token and a response with 20 values, for the floor.
pub fn specimens(issuer: &Issuer) -> Result<(String, String), Failure> {
    let login = Login { name: "Oidc-0".into(), serial: 0, values: (0..20).map(value_of).collect(), age: 0, life: 300 };
    Ok((login.id_token(&issuer.key)?, login.response(&issuer.key, issuer)?))
}

fn seconds_now() -> i64 {
    Clock::system().now().0 / 1000
}

/// An object id, as some providers name groups.
fn value_of(at: usize) -> String {
    let mixed = (at as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    format!("{:08x}-51f2-4a5e-8a46-{:012x}", mixed >> 32, at as u64 + 0x8b6f_8c00_0000)
}

/// No two mappings of one user give the same group.
fn group_of(at: usize, mappings: usize) -> String {
    let stride = mappings / MATCHED;
    format!("Group {}", (at / stride) * 100 + (at % stride) % 100)
}
