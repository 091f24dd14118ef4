//! Configurations that real deployments need, each through the front door.

mod arrived;
mod assertions;
mod examples;
mod found;
mod hosts;
mod inside;
mod lists;
mod paths;
mod relying_party;
mod sockets;
mod values;

use std::cell::RefCell;
use std::sync::{Arc, Mutex, Once};
use std::time::Duration;

use loginsync::cli::demo::mint::saml::{self, MintAttribute};
use serde_json::{Value, json};

use crate::attacks::{FORM, config, form, here, signed, with};
use crate::front_door::House;
use crate::kit::{self, NOW};

const OIDC: &str = "binding = \"observe\"";
const SAML: &str = "allow_idp_initiated = true";
const CLAIM: &str = "[provider.claims.groups]\n";

/// A house whose OIDC provider says this of its claim `groups`.
async fn oidc_house(own: &str) -> House {
    let text = config(OIDC, SAML).replacen(CLAIM, &format!("{CLAIM}{own}\n"), 1);
    House::open(&text, &here(), NOW).await
}

/// The same for its SAML provider.
async fn saml_house(own: &str) -> House {
    saml_house_with(own, "", "").await
}

/// And this of the provider itself, with more rules.
async fn saml_house_with(own: &str, provider: &str, more: &str) -> House {
    House::open(&saml_text(own, provider, more), &here(), NOW).await
}

fn saml_text(own: &str, provider: &str, more: &str) -> String {
    let text = config(OIDC, &format!("{SAML}\n{provider}"));
    let at = text.rfind(CLAIM).unwrap() + CLAIM.len();
    format!("{}{own}\n{}{more}", &text[..at], &text[at..])
}

/// Logs a person in with these claims, so many seconds after the others: the groups that they then hold, and how many of them
/// could not be decided.
async fn enters(house: &House, person: &str, second: u64, claims: &Value) -> (Vec<String>, usize) {
    let now = NOW.plus(Duration::from_secs(second));
    house.clock.set(now);
    let mut all = json!({"jti": format!("{person}-{second}"), "sub": person, "groups": null, "iat": now.seconds()});
    all.as_object_mut().unwrap().extend(claims.as_object().unwrap().clone());
    let body = form(&[("id_token", &signed(&with(&all))), ("state", "s")]);
    posted(house, "/callback", &body).await
}

async fn enters_saml(house: &House, attributes: &[(&str, &[&str])]) -> Vec<String> {
    let attributes = attributes.iter().map(|(name, values)| MintAttribute::of(name, values)).collect();
    enters_saml_by(house, |login| login.attributes = attributes).await
}

/// Logs alice in by SAML, her assertion changed.
async fn enters_saml_by(house: &House, change: impl FnOnce(&mut saml::SamlLogin)) -> Vec<String> {
    let mut login = kit::login();
    login.in_response_to = None;
    change(&mut login);
    let document = kit::signed_assertion(&login, &kit::key("idp-rsa"));
    posted(house, "/saml/acs", &form(&[("SAMLResponse", &saml::field(&document))])).await.0
}

async fn posted(house: &House, path: &str, body: &str) -> (Vec<String>, usize) {
    let happened = house.happened();
    let answer = house.send("POST", path, &[FORM], body.as_bytes()).await;
    let plans = house.plans_after(happened);
    let plan = plans.first().unwrap_or_else(|| panic!("{answer:?}"));
    (plan.after.groups.iter().map(ToString::to_string).collect(), plan.undecided.len())
}

/// What the log says on this thread, from when it is made to when it goes.
pub struct Log(Arc<Mutex<Vec<u8>>>);

thread_local! {
    static HEARD: RefCell<Option<Arc<Mutex<Vec<u8>>>>> = const { RefCell::new(None) };
}

impl Log {
    pub fn listen() -> Self {
        static INSTALLED: Once = Once::new();
        INSTALLED.call_once(|| {
            // For the whole program, since what a line is worth is remembered for all threads.
            let subscriber = tracing_subscriber::fmt().json().flatten_event(true).with_writer(|| Heard).finish();
            tracing::subscriber::set_global_default(subscriber).unwrap();
        });
        let log = Self(Arc::default());
        HEARD.set(Some(Arc::clone(&log.0)));
        log
    }

    /// The lines at a level that hold a text.
    pub fn lines(&self, level: &str, text: &str) -> Vec<Value> {
        let all = String::from_utf8(self.0.lock().unwrap().clone()).unwrap();
        let lines = all.lines().filter(|line| line.contains(text)).map(|line| serde_json::from_str(line).unwrap());
        lines.filter(|line: &Value| line["level"] == level).collect()
    }
}

impl Drop for Log {
    fn drop(&mut self) {
        HEARD.set(None);
    }
}

/// Hears what is logged on this thread.
struct Heard;

impl std::io::Write for Heard {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        HEARD.with_borrow(|heard| {
            if let Some(log) = heard {
                log.lock().unwrap().extend_from_slice(bytes);
            }
        });
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}
