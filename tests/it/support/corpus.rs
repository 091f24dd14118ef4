//! The attack corpus of `fixtures/attacks`, filled in and turned into raw requests; its README has the format.

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use serde::Deserialize;
use serde_json::{Map, Value};

#[derive(Debug, Clone, Deserialize)]
pub struct Case {
    pub name: String,
    pub method: Option<String>,
    pub path: Option<String>,
    pub query: Option<String>,
    #[serde(default)]
    pub headers: Vec<(String, String)>,
    pub body: Option<String>,
    #[serde(default)]
    pub modes: Vec<String>,
    pub encoding: Option<String>,
    pub token: Option<Change>,
}

/// What becomes of a genuine token.
#[derive(Debug, Clone, Default, Deserialize)]
pub struct Change {
    #[serde(default)]
    pub header: Map<String, Value>,
    #[serde(default)]
    pub claims: Map<String, Value>,
    pub text: Option<String>,
}

/// What placeholders stand for.
pub struct Values<'v> {
    pub token: &'v str,
    pub honest: &'v str,
    pub field: &'v str,
    pub who: &'v str,
    pub issuer: &'v str,
}

/// The cases of a file that concern a mode.
pub fn cases(file: &str, mode: &str) -> Vec<Case> {
    let cases: Vec<Case> = serde_json::from_str(&crate::kit::read(&format!("attacks/{file}.json"))).unwrap();
    cases.into_iter().filter(|case| case.modes.is_empty() || case.modes.iter().any(|known| known == mode)).collect()
}

/// Replaces members; `null` removes one.
pub fn changed(object: &Value, change: &Map<String, Value>, values: &Values<'_>) -> Value {
    let mut object = object.clone();
    for (name, value) in change {
        let value: Value = serde_json::from_str(&fill(&value.to_string(), values)).unwrap();
        match value {
            Value::Null => drop(object.as_object_mut().unwrap().remove(name)),
            value => object[name] = value,
        }
    }
    object
}

/// A token's text, where a case writes it in its own way.
pub fn written(change: &Change, token: &str) -> String {
    let parts: Vec<&str> = token.split('.').collect();
    match &change.text {
        None => token.to_owned(),
        Some(text) => {
            let text = text.replace("{{HEADER}}", parts[0]).replace("{{CLAIMS}}", parts[1]);
            text.replace("{{SIGNATURE}}", parts[2])
        }
    }
}

impl Case {
    /// The bytes of the request; `None` where it needs what this cannot do.
    pub fn request(&self, values: &Values<'_>) -> Option<Vec<u8>> {
        let body = self.body.as_deref().map(|body| latin(&fill(&body.replace("{{CUT}}", ""), values)));
        let body = match (self.encoding.as_deref(), body) {
            (None, body) => body,
            (Some("chunked"), Some(_)) => {
                let chunks = self.body.as_deref().unwrap_or_default().split("{{CUT}}").map(|chunk| {
                    let chunk = latin(&fill(chunk, values));
                    [format!("{:x}\r\n", chunk.len()).as_bytes(), &chunk, b"\r\n"].concat()
                });
                Some([chunks.collect::<Vec<_>>().concat(), b"0\r\n\r\n".to_vec()].concat())
            }
            _ => return None,
        };
        let method = self.method.as_deref().unwrap_or(if body.is_some() { "POST" } else { "GET" });
        let mut target = fill(self.path.as_deref().unwrap_or("{{CALLBACK}}"), values);
        if let Some(query) = &self.query {
            target = format!("{target}?{}", fill(query, values));
        }
        let mut headers = self.headers.clone();
        let has = |wanted: &str| self.headers.iter().any(|(name, _)| name.trim().eq_ignore_ascii_case(wanted));
        if !has("host") {
            headers.insert(0, ("Host".into(), "app.example".into()));
        }
        if !has("connection") {
            headers.push(("Connection".into(), "close".into()));
        }
        if let Some(body) = body.as_ref().filter(|_| !has("content-length") && !has("transfer-encoding")) {
            headers.push(("Content-Length".into(), body.len().to_string()));
        }
        let lines: String =
            headers.iter().map(|(name, value)| format!("{name}: {}\r\n", fill(value, values))).collect();
        let mut request = latin(&format!("{method} {target} HTTP/1.1\r\n{lines}\r\n"));
        request.extend(body.unwrap_or_default());
        Some(request)
    }
}

/// One byte for each character.
fn latin(text: &str) -> Vec<u8> {
    text.chars().map(|character| u8::try_from(u32::from(character)).unwrap_or(b'?')).collect()
}

fn fill(text: &str, values: &Values<'_>) -> String {
    let mut filled = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("{{") {
        let (placeholder, after) = after.split_once("}}").unwrap();
        filled.push_str(before);
        filled.push_str(&meaning(placeholder, values));
        rest = after;
    }
    filled + rest
}

fn meaning(placeholder: &str, values: &Values<'_>) -> String {
    let (name, form) = placeholder.split_once(':').unwrap_or((placeholder, ""));
    let value = match name {
        "CALLBACK" => "/login/callback",
        "TOKEN" => values.token,
        "HONEST" => values.honest,
        "FIELD" => values.field,
        "WHO" => values.who,
        "ISSUER" => values.issuer,
        "PAD" => return "x".repeat(form.parse().unwrap()),
        other => panic!("no placeholder `{other}` is known"),
    };
    let half = value.len() / 2;
    match form {
        "" => value.to_owned(),
        "basic" => STANDARD.encode(format!("x:{value}")),
        "bare" => STANDARD.encode(format!("x:{value}")).replace('=', ""),
        "user" => STANDARD.encode(format!("{value}:")),
        "base64" => STANDARD.encode(value),
        "percent" => value.bytes().map(|byte| format!("%{byte:02x}")).collect(),
        "json" => value.bytes().map(|byte| format!("\\u{byte:04x}")).collect(),
        "head" => value[..half].to_owned(),
        "tail" => value[half..].to_owned(),
        // EBCDIC is refused by its name, whatever the bytes are.
        _ => URL_SAFE_NO_PAD.encode(value),
    }
}
