//! One claim by what its table says: `[provider.claims.NAME]`, for ID tokens and assertions alike.

use loginsync::pipeline::claims::names::ALIASES;
use loginsync::pipeline::claims::sources::Sources;
use loginsync::pipeline::claims::{self, ClaimState};
use serde_json::{Value, json};

use super::{Attribute, attribute, id_token, oidc_provider, saml_login, saml_provider};

/// What a rule makes of a value, in either protocol: the pieces, or the word of the state.
fn read_both(rule: &str, values: &[&str]) -> Vec<String> {
    let table = format!("[provider.claims.groups]\n{rule}");
    let provider = oidc_provider(&table);
    let oidc = claims::read(
        &id_token(&provider, &json!({"sub": "alice", "groups": values})),
        &Sources::default(),
        &provider,
        &|_| true,
    );
    let provider = saml_provider(&table);
    let saml = claims::read(
        &saml_login(&provider, vec![attribute("groups", values)]),
        &Sources::default(),
        &provider,
        &|_| true,
    );
    let [oidc, saml] = [oidc, saml].map(|read| {
        let claim = read.unwrap().claims.remove(0);
        match &claim.state {
            ClaimState::Values(_) => claim.pieces(None).into_iter().map(str::to_owned).collect::<Vec<_>>(),
            state => vec![state.word().to_owned()],
        }
    });
    assert_eq!(oidc, saml, "{rule}");
    oidc
}

#[test]
fn values_are_read_as_the_rule_says() {
    const SALES: &str = "CN=Sales\\, EMEA,OU=Groups,DC=example,DC=com";
    const STAFF: &str = "CN=Staff,OU=Groups,DC=example,DC=com";
    let joined = format!("{SALES};{STAFF}");
    let table: &[(&str, &[&str], &[&str])] = &[
        ("", &["a;b", " c "], &["a;b", " c "]),
        ("delimiter = ';'", &["a; b", "c;a;"], &["a", "b", "c"]),
        ("", &[SALES], &[SALES]),
        ("dn = 'whole'", &[SALES], &[SALES]),
        ("dn = 'first_rdn'", &[SALES, STAFF, "plain, text"], &["Sales, EMEA", "Staff", "plain, text"]),
        ("dn = 'first_rdn'\ndelimiter = ';'", &[&joined], &["Sales, EMEA", "Staff"]),
        ("dn = 'first_rdn'\ndelimiter = ','", &[SALES, "a, b"], &["Sales, EMEA", "a", "b"]),
        ("dn = 'first_rdn'\nstrip_prefix = 'app-'", &["CN=app-admin,OU=x"], &["admin"]),
        ("strip_prefix = '/'", &["/sales/admin", "staff", "//x"], &["sales/admin", "staff", "/x"]),
        ("strip_prefix = 'app:'\ndelimiter = ' '", &["app:a app:b c"], &["a", "b", "c"]),
        // A prefix is text, not a pattern, and no path is taken apart.
        ("strip_prefix = '.'", &["/a", ".b"], &["/a", "b"]),
        ("strip_prefix = '/sales'", &["/sales/admin"], &["/admin"]),
    ];
    for (rule, values, expected) in table {
        assert_eq!(read_both(rule, values), *expected, "{rule}: {values:?}");
    }
}

/// Threat: a mapping's own comma on a claim of names would let `CN=x\, admin` mean `admin`.
#[test]
fn no_delimiter_tears_a_name_that_came_out_of_a_distinguished_name() {
    let provider = oidc_provider("[provider.claims.groups]\ndn = 'first_rdn'");
    let login = id_token(&provider, &json!({"sub": "alice", "groups": ["CN=x\\, admin,OU=y"]}));
    let read = claims::read(&login, &Sources::default(), &provider, &|_| true).unwrap();
    let comma = claims::split::Delimiter::parse(",").unwrap();
    assert_eq!(read.claims[0].pieces(Some(&comma)), ["x, admin"]);
}

/// LOG8.
#[test]
fn log08_a_user_claim_that_comes_twice_with_one_value_is_one() {
    let provider = oidc_provider("user_claim = 'login'\n[provider.claims.groups]");
    let read = |login: Value| {
        let login = id_token(&provider, &json!({"sub": "s", "login": login}));
        let read = claims::read(&login, &Sources::default(), &provider, &|_| true);
        read.map(|claims| claims.user.subject.to_string()).map_err(|refusal| refusal.to_string())
    };
    assert_eq!(read(json!(["alice", "alice"])), Ok("alice".into()));
    for (value, why) in [
        (json!(["alice", "bob"]), "several different values"),
        (json!(["alice", {"a": 1}]), "partly no text"),
        (json!([]), "empty"),
        (json!(" "), "empty"),
        (json!({"a": 1}), "no text"),
    ] {
        let refusal = read(value.clone()).unwrap_err();
        assert!(refusal.contains(why), "{value}: {refusal}");
    }
    let login = id_token(&provider, &json!({"sub": "s"}));
    let refusal = claims::read(&login, &Sources::default(), &provider, &|_| true).unwrap_err().to_string();
    assert!(refusal.contains("missing"), "{refusal}");
}

/// LOG8.
#[test]
fn log08_the_first_of_several_values_names_the_person_where_the_operator_says_so() {
    let provider = oidc_provider("user_claim = 'login'\nuser_take = 'first'\n[provider.claims.groups]");
    let read = |login: Value| {
        let login = id_token(&provider, &json!({"sub": "s", "login": login}));
        let read = claims::read(&login, &Sources::default(), &provider, &|_| true);
        read.map(|claims| claims.user.subject.to_string()).map_err(|refusal| refusal.to_string())
    };
    assert_eq!(read(json!(["alice", "bob"])), Ok("alice".into()));
    assert_eq!(read(json!("alice")), Ok("alice".into()));
    for (value, why) in [
        (json!(["alice", {"a": 1}]), "partly no text"),
        (json!([{"a": 1}, "alice"]), "partly no text"),
        (json!([]), "empty"),
        (json!(null), "missing"),
    ] {
        let refusal = read(value.clone()).unwrap_err();
        assert!(refusal.contains(why), "{value}: {refusal}");
    }
}

#[test]
fn a_path_leads_into_lists_of_objects() {
    let read = |name: &str, value: Value| {
        let provider = oidc_provider(&format!("[provider.claims.groups]\nname = '{name}'"));
        let login = id_token(&provider, &json!({"sub": "alice", "a": value}));
        let read = claims::read(&login, &Sources::default(), &provider, &|_| true).unwrap().claims.remove(0);
        (read.state, read.skipped)
    };
    let values = |values: &[&str]| ClaimState::Values(values.iter().map(|value| (*value).to_owned()).collect());
    let orgs = json!([{"name": "x"}, {"name": ["y", "z"]}, {"id": 1}]);
    assert_eq!(read("/a/*/name", orgs), (values(&["x", "y", "z"]), 1));
    assert_eq!(read("/a/b~1c/~0", json!({"b/c": {"~": "v"}})), (values(&["v"]), 0));
    assert_eq!(read("/a/1", json!(["x", "y"])), (values(&["y"]), 0));
    assert_eq!(read("/a/*", json!([])), (ClaimState::Empty, 0));
    assert_eq!(read("/a/b", json!({})), (ClaimState::Missing, 0));
    assert_eq!(read("/a/b", json!({"b": null})), (ClaimState::Missing, 0));
    assert_eq!(read("/a/b", json!(null)), (ClaimState::Missing, 0));
    assert_eq!(read("/a/9", json!(["x"])), (ClaimState::Missing, 0));
}

/// Findings LOG5 and LOG18: a value of the wrong shape says nothing of who holds what, so that it never revokes.
#[test]
fn log05_log18_a_path_through_the_wrong_shape_is_malformed() {
    let read = |name: &str, value: &Value| {
        let provider = oidc_provider(&format!("[provider.claims.groups]\nname = '{name}'"));
        let login = id_token(&provider, &json!({"sub": "alice", "a": value}));
        claims::read(&login, &Sources::default(), &provider, &|_| true).unwrap().claims.remove(0).state
    };
    let shapes = [json!("text"), json!(7), json!(true), json!({"by": {"name": {"b": ["x"]}}})];
    for shape in &shapes {
        assert_eq!(read("/a/*/b", shape), ClaimState::Malformed, "{shape}");
        assert_eq!(read("/a/*", shape), ClaimState::Malformed, "{shape}");
    }
    for shape in [json!("text"), json!(7), json!(false), json!(["x"]), json!([{"b": "x"}])] {
        assert_eq!(read("/a/b", &shape), ClaimState::Malformed, "{shape}");
    }
    assert_eq!(read("/a/b/c", &json!({"b": "text"})), ClaimState::Malformed);
    // In a list, each element is read by itself.
    assert_eq!(read("/a/*/b", &json!([{"b": {"c": 1}}, 7, {}])), ClaimState::Malformed);
}

#[test]
fn a_short_word_finds_the_long_name_of_an_attribute() {
    for (word, long) in ALIASES {
        let provider = saml_provider(&format!("[provider.claims.x]\nname = '{word}'"));
        let found = |attribute: Attribute| {
            let read = claims::read(&saml_login(&provider, vec![attribute]), &Sources::default(), &provider, &|_| true)
                .unwrap();
            read.claims[0].state != ClaimState::Missing
        };
        assert!(found(attribute(long, &["v"])), "{word}");
        assert!(found(attribute(word, &["v"])), "{word}");
        assert!(found(Attribute { friendly_name: Some(word.to_owned()), ..attribute("urn:other", &["v"]) }), "{word}");
        // A long name is no pattern, and no FriendlyName.
        assert!(!found(attribute(&long.to_uppercase(), &["v"])), "{word}");
        assert!(!found(Attribute { friendly_name: Some(long.to_owned()), ..attribute("urn:other", &["v"]) }), "{word}");
    }
}

#[test]
fn the_page_has_every_short_word() {
    let page = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/claims.md")).unwrap();
    for (word, long) in ALIASES {
        assert!(page.contains(&format!("| `{word}` | `{long}` |")), "{word}");
    }
}

/// A short word belongs to SAML: in an ID token a name is what it says.
#[test]
fn an_id_token_has_no_short_words() {
    let provider = oidc_provider("[provider.claims.groups]");
    let long = claims::names::long_name("groups").unwrap();
    let login = id_token(&provider, &json!({"sub": "alice", long: ["v"]}));
    let read = claims::read(&login, &Sources::default(), &provider, &|_| true).unwrap();
    assert_eq!(read.claims[0].state, ClaimState::Missing);
}

/// SAY8: claims as Amazon Cognito and Zitadel sent them.
#[test]
fn say08_what_vendors_sent_is_read() {
    for (file, own, expected) in [
        ("cognito-brackets", "name = 'custom:groups'\nformat = 'brackets'", &["engineering", "sales"][..]),
        ("cognito-empty", "name = 'custom:groups'\nformat = 'brackets'", &[]),
        ("zitadel", "name = '/urn:zitadel:iam:org:project:roles/~keys'", &["engineering", "sales"]),
    ] {
        let path = format!("{}/fixtures/claims/{file}.json", env!("CARGO_MANIFEST_DIR"));
        let sent: Value = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
        let provider = oidc_provider(&format!("[provider.claims.groups]\n{own}"));
        let read = claims::read(&id_token(&provider, &sent), &Sources::default(), &provider, &|_| true).unwrap();
        let found = match &read.claims[0].state {
            ClaimState::Values(values) => values.clone(),
            ClaimState::Empty => Vec::new(),
            other => panic!("{file}: {other:?}"),
        };
        assert_eq!(found, expected, "{file}");
    }
}

/// SEE3: how a claim was read is kept in words of our own, which no change of the program's types changes; what was kept in
/// the words of before is compared with those.
#[test]
fn see03_how_a_claim_was_read_is_kept_in_words_of_our_own() {
    let read = |table: &str| {
        let provider = oidc_provider(&format!("[provider.claims.groups]\n{table}"));
        let rule = provider.claims.iter().find(|rule| rule.name.as_str() == "groups").unwrap().clone();
        (rule.reading(), rule.reading_before())
    };
    let rows = [
        ("", "name \"groups\"; from assertion; take first", "Name(\"groups\") [Assertion] First false None"),
        (
            "name = \"/realm~1x/*/roles/~keys\"\ntake = \"union\"",
            "path member \"realm/x\" each member \"roles\" keys; from assertion; take union",
            "Path([Member(\"realm/x\"), Each, Member(\"roles\"), Keys]) [Assertion] Union false None",
        ),
        (
            "format = \"brackets\"\ndelimiter = \";\"",
            "name \"groups\"; from assertion; take first; format brackets; between \";\"",
            "Name(\"groups\") [Assertion] First false Some(Delimiter(\";\")) Brackets",
        ),
        (
            "delimiter = \";\"",
            "name \"groups\"; from assertion; take first",
            "Name(\"groups\") [Assertion] First false None",
        ),
    ];
    for (table, now, before) in rows {
        assert_eq!(read(table), (now.to_owned(), before.to_owned()), "{table}");
    }
}
