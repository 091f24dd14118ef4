//! `preset = "…"`: the shapes of ten vendors, read without a word more than the preset.

use std::fmt::Write as _;

use loginsync::config::presets::{Defaults, PRESETS, Preset};
use loginsync::pipeline::claims;
use loginsync::pipeline::claims::sources::{Source, Sources};
use loginsync::pipeline::provider::{Protocol, Provider};
use loginsync::pipeline::verify::{Assertion, Verified};

use super::{assertion, load, provider, signed};
use crate::fixtures::{SAML_AUDIENCE, SAML_SHAPES, TOKEN_SHAPES, folder};

/// What a login comes to, line by line.
fn outcome(provider: &Provider, login: &Verified<Assertion>) -> String {
    let read = claims::read(login, &Sources::default(), provider, &|_| true).unwrap();
    let mut text = format!(
        "{} {} {}",
        read.user.subject,
        read.email.as_deref().unwrap_or("-"),
        read.display_name.as_deref().unwrap_or("-")
    );
    for claim in &read.claims {
        let pieces = claim.pieces(None);
        let values = if pieces.is_empty() { claim.state.word().to_owned() } else { pieces.join(" + ") };
        let _ = write!(text, "\n{}: {values}", claim.name);
    }
    text
}

fn oidc(shape: &str, preset: &str, own: &str) -> String {
    let shape = TOKEN_SHAPES.iter().find(|known| known.name == shape).unwrap();
    let provider = provider(&format!(
        "preset = '{preset}'\nmode = 'oidc-form-post'\nissuer = '{}'\nclient_id = '{}'\ncallback = '/callback'\n\
         jwks_file = '../tokens/jwks.json'\nauthorization_endpoint = 'https://idp.example.com/authorize'\n{own}",
        shape.issuer, shape.client_id
    ));
    let token = std::fs::read_to_string(folder("tokens").join(format!("{}.jwt", shape.name))).unwrap();
    outcome(&provider, &signed(&provider, &token))
}

fn saml_provider(shape: &str, own: &str) -> Provider {
    let shape = SAML_SHAPES.iter().find(|known| known.name == shape).unwrap();
    provider(&format!(
        "preset = '{}'\nmode = 'saml-post'\nissuer = '{}'\naudience = '{SAML_AUDIENCE}'\ncallback = '/saml/acs'\n\
         certificate_files = ['../keys/idp-rsa.certificate.test-only.pem']\nsso_url = 'https://idp.example.com/sso'\n{own}",
        shape.name, shape.issuer
    ))
}

fn saml(shape: &str, own: &str) -> String {
    let provider = saml_provider(shape, own);
    let document = std::fs::read_to_string(folder("saml").join("shapes").join(format!("{shape}.xml"))).unwrap();
    outcome(&provider, &assertion(&provider, &document))
}

#[test]
fn an_id_token_of_each_vendor_is_read_by_its_preset() {
    let table = [
        ("okta", "okta", "00u1alice alice@example.com alice@example.com\ngroups: Everyone + Engineering"),
        (
            "entra-v2",
            "entra",
            "b4a0f5a6-1f9a-4c1e-9d60-0d4d50f6ab01 - alice@example.com\n\
             groups: 2f1c7d0a-51f2-4a5e-8a46-8b6f8c3b7a11 + c7c9a1ab-8a39-4b0e-93a4-2b7a8a8f1a52\nroles: missing",
        ),
        ("entra-v1", "entra", "b4a0f5a6-1f9a-4c1e-9d60-0d4d50f6ab01 - -\ngroups: missing\nroles: Task.Approver"),
        (
            "keycloak",
            "keycloak",
            "f1c0a3a1-1f37-44a5-bb27-8e0a4ad0a1f0 - alice\ngroups: /sales/admin + /engineering\n\
             roles: editor + offline_access\nclient_roles: publisher",
        ),
        (
            "adfs",
            "adfs",
            "alice-subject alice@example.com EXAMPLE\\alice\ngroups: Domain Users + Engineering\nroles: editor",
        ),
        ("google", "google", "10769150350006150715113082367 alice@example.com -\ndomain: example.com"),
        ("onelogin", "onelogin", "41853121 alice@example.com alice\ngroups: Marketing + Sales"),
        (
            "ping",
            "ping",
            "alice - -\ngroups: CN=Engineering,OU=Groups,DC=example,DC=com + CN=Staff,OU=Groups,DC=example,DC=com",
        ),
        ("auth0", "auth0", "auth0|5f7c8ec7c33c6c004bbafe82 alice@example.com alice\norganization: missing"),
        (
            "cognito",
            "cognito",
            "aaaaaaaa-bbbb-cccc-dddd-eeeeeeeeeeee - alice\ngroups: admins + eu-west-1_Example_Saml\nroles: missing",
        ),
        ("gitlab", "gitlab", "42 - alice\ngroups: platform/sre"),
    ];
    for (shape, preset, expected) in table {
        assert_eq!(oidc(shape, preset, ""), expected, "{shape}");
    }
    assert!(PRESETS.iter().all(|preset| table.iter().any(|(_, name, _)| *name == preset.name)));
}

#[test]
fn an_assertion_of_each_vendor_is_read_by_its_preset() {
    let table = [
        ("okta", "alice@example.com - -\ngroups: Everyone + Engineering"),
        (
            "entra",
            "b4a0f5a6-1f9a-4c1e-9d60-0d4d50f6ab01 alice@example.com alice@example.com\n\
             groups: 2f1c7d0a-51f2-4a5e-8a46-8b6f8c3b7a11\nroles: Task.Approver",
        ),
        ("keycloak", "G-3a7c5c1e-7f36-4b4d-8a3e-6a1ad8f0d7b5 - -\ngroups: /engineering + /sales/admin\nroles: editor"),
        ("adfs", "alice@example.com - -\ngroups: Domain Users + Engineering\nroles: missing"),
        ("google", "alice@example.com - -\ngroups: engineering"),
        ("onelogin", "alice@example.com - -\ngroups: Marketing; Sales & Events ;"),
        ("ping", "alice - -\ngroups: CN=Engineering,OU=Groups,DC=example,DC=com"),
        ("auth0", "auth0|5f7c8ec7c33c6c004bbafe82 alice@example.com Alice Example\ngroups: Engineering"),
    ];
    for (shape, expected) in table {
        assert_eq!(saml(shape, ""), expected, "{shape}");
    }
    let with_saml = PRESETS.iter().filter(|preset| preset.saml.is_some());
    assert!(with_saml.into_iter().all(|preset| table.iter().any(|(name, _)| *name == preset.name)));
}

#[test]
fn what_is_written_stands_above_a_preset() {
    let claims = "[provider.claims.groups]\ndelimiter = ';'";
    assert_eq!(saml("onelogin", claims), "alice@example.com - -\ngroups: Marketing + Sales & Events");
    let claims = "[provider.claims.groups]\ndn = 'first_rdn'";
    assert_eq!(oidc("ping", "ping", claims), "alice - -\ngroups: Engineering + Staff");
    let own = "user_claim = 'sub'\nemail_claim = 'preferred_username'\nname_claim = 'name'\n\
               [provider.claims.roles]\nname = 'ver'\n[provider.claims.more]\nname = 'tid'";
    let read = oidc("entra-v2", "entra", own);
    let expected = "AAAAAAAAAAAAAAAAAAAAAIkzqFVrSaSaFHy782bbtaQ alice@example.com Alice Example\nroles: 2.0\n\
                    more: 4a0e2c1f-0c3b-4b7c-9a51-8f1f3c1f6a10\ngroups: 2f1c7d0a";
    assert!(read.starts_with(expected), "{read}");
    let claims = "[provider.claims.roles]\nname = 'https://app.example.com/roles'";
    assert!(oidc("auth0", "auth0", claims).contains("\nroles: editor\n"));
    let name_id = saml("entra", "user_claim = 'NameID'");
    assert!(name_id.starts_with("alice@example.com "), "{name_id}");
}

/// Design: what ADFS and Entra encrypt with AES-CBC is signed inside; nobody else is given that.
#[test]
fn two_presets_allow_cbc_and_a_word_takes_it_away() {
    let allows = |shape: &str, own: &str| match saml_provider(shape, own).protocol {
        Protocol::Saml(policy) => policy.allow_cbc,
        Protocol::Oidc(_) => unreachable!(),
    };
    for shape in ["okta", "keycloak", "google", "onelogin", "ping", "auth0"] {
        assert!(!allows(shape, ""), "{shape}");
    }
    for shape in ["adfs", "entra"] {
        assert!(allows(shape, ""), "{shape}");
        assert!(!allows(shape, "allow_cbc = false"), "{shape}");
    }
}

#[test]
fn a_claim_of_another_spelling_than_the_presets_is_a_fault() {
    let faults = load(
        "preset = 'okta'\nmode = 'oidc-form-post'\nissuer = 'https://idp.example.com'\nclient_id = 'x'\n\
         callback = '/callback'\n[provider.claims.Groups]\n",
    )
    .unwrap_err()
    .to_string();
    assert!(faults.contains("the preset brings claim `groups`, the same case aside"), "{faults}");
}

#[test]
fn the_page_has_every_preset() {
    let page = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/claims.md")).unwrap();
    let shown = |defaults: Option<Defaults>| {
        let Some(defaults) = defaults else { return "–".to_owned() };
        let mut parts: Vec<String> = defaults
            .claims
            .iter()
            .map(|claim| format!("`{}`: `{}`{}", claim.key, claim.name, where_(claim.from)))
            .collect();
        let about = [("user", defaults.user_claim), ("e-mail", defaults.email_claim), ("name", defaults.name_claim)];
        parts.extend(about.iter().filter_map(|(what, claim)| claim.map(|claim| format!("{what} `{claim}`"))));
        if defaults.allow_cbc {
            parts.push("`allow_cbc`".to_owned());
        }
        parts.join("; ")
    };
    let line = |preset: Preset| format!("| `{}` | {} | {} |\n", preset.name, shown(preset.oidc), shown(preset.saml));
    let table: String = PRESETS.into_iter().map(line).collect();
    assert!(page.contains(&table), "docs/claims.md should say\n{table}");
}

fn where_(from: &[Source]) -> String {
    match from {
        [] => String::new(),
        from => {
            let words = from.iter().map(|source| match source {
                Source::Assertion => "ID token",
                Source::Userinfo => "userinfo",
                Source::AccessToken => "access token",
            });
            format!(" ({})", words.collect::<Vec<_>>().join(", "))
        }
    }
}
