//! `loginsync explain`: captured tokens of both protocols, claims that somebody wrote down, and past logins.

use serde_json::{Value, json};

use super::{AT, Desk, captured, now, run, run_with};
use crate::fixtures::{id_token_claims, signed_id_token};
use crate::front_door::House;
use crate::support::graph::{ALICE, FakeGraph, Mood, TENANT};

fn verdicts(report: &Value) -> Vec<(String, String)> {
    let list = report["mappings"].as_array().unwrap();
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    list.iter().map(|mapping| (text(&mapping["mapping"]), text(&mapping["verdict"]))).collect()
}

fn names(list: &Value) -> Vec<&str> {
    list.as_array().unwrap().iter().map(|change| change["name"].as_str().unwrap()).collect()
}

/// The body that a browser posted, whole, in both protocols.
#[test]
fn a_captured_login_is_verified_and_told_to_its_plan() {
    for case in ["oidc-first-login", "saml-first-login"] {
        let desk = Desk::new();
        let (config, body) = captured(case);
        let config = desk.config("config.toml", &config);
        let token = desk.file("token", &body);
        let said = run(&["explain", "--config", &config, "--at", AT, "--json", &token]);
        assert_eq!((said.code, said.err.as_str()), (0, ""), "{case}: {}", said.out);
        let report = said.json();
        assert_eq!(report["outcome"], "enters", "{case}");
        assert_eq!(report["proof"], json!({"state": "verified"}), "{case}");
        assert_eq!(report["claims"][0]["state"], "values");
        assert_eq!(&report["claims"][0]["pieces"].as_array().unwrap()[..2], [json!("staff"), json!("marketing")]);
        let missed = |name: &str| (name.to_owned(), "missed".to_owned());
        let hit = |name: &str| (name.to_owned(), "hit".to_owned());
        assert_eq!(
            verdicts(&report),
            [hit("groups = staff"), hit("groups = marketing"), missed("groups = on-call"), missed("administrators")]
        );
        assert_eq!(names(&report["plan"]["grants"]), ["Marketing", "Staff"]);
        assert_eq!(report["plan"]["roles"], json!(["editor"]));
        assert!(!desk.folder.path().join("store.db").exists(), "nothing is made by looking");
    }
}

/// SAML as XML, as base64 and as the percent-escaped field; an ID token alone and within a token endpoint's answer.
#[test]
fn a_token_is_read_in_every_form_that_it_is_captured_in() {
    let desk = Desk::new();
    let (config, body) = captured("saml-first-login");
    let config = desk.config("config.toml", &config);
    let field = body.split('&').find_map(|pair| pair.strip_prefix("SAMLResponse=")).unwrap();
    let (_, base64) = form_urlencoded::parse(body.as_bytes()).find(|(name, _)| name == "SAMLResponse").unwrap();
    use base64::Engine as _;
    let xml = base64::engine::general_purpose::STANDARD.decode(base64.as_bytes()).unwrap();
    for text in [field, &base64, &String::from_utf8(xml).unwrap(), &body] {
        let said = run_with(&["explain", "--config", &config, "--at", AT, "-"], text);
        assert_eq!(said.code, 0, "{said:?}");
        assert!(said.out.starts_with("would enter\n"), "{}", said.out);
    }
    let (config, body) = captured("oidc-first-login");
    let config = desk.config("oidc.toml", &config);
    let token = body.strip_prefix("id_token=").unwrap().split('&').next().unwrap();
    for text in [token.to_owned(), json!({"access_token": "a", "id_token": token}).to_string()] {
        let said = run_with(&["explain", "--config", &config, "--at", AT, "-"], &text);
        assert_eq!(said.code, 0, "{said:?}");
        let signature = token.rsplit('.').next().unwrap();
        assert!(!said.out.contains(signature) && !said.out.contains("eyJ"), "no token is printed");
    }
}

#[test]
fn what_is_not_verified_says_exactly_why_and_is_refused() {
    let cases = [
        ("oidc-forged", "signed with key `stranger-rsa`, which the provider does not publish"),
        ("oidc-expired", "expired at 2026-03-01T11:58:20.000Z; it is 2026-03-01T12:00:00.000Z"),
        ("saml-wrong-audience", "audience is"),
    ];
    for (case, why) in cases {
        let desk = Desk::new();
        let (config, body) = captured(case);
        let config = desk.config("config.toml", &config);
        let said = run_with(&["explain", "--config", &config, "--at", AT, "--json", "-"], &body);
        let report = said.json();
        assert_eq!((said.code, &report["outcome"]), (3, &json!("refused")), "{case}: {}", said.out);
        assert_eq!(report["proof"]["state"], "not_verified", "{case}");
        let because = report["proof"]["because"].as_str().unwrap();
        assert!(because.contains(why), "{case}: {because}");
        let text = run_with(&["explain", "--config", &config, "--at", AT, "-"], &body).out;
        assert!(text.contains("which is not trusted") && !text.contains("verified  yes"), "{text}");
    }
}

/// A moment of another day: the same token is too old, and the way to look at it is named.
#[test]
fn the_moment_decides_and_is_offered() {
    let desk = Desk::new();
    let (config, body) = captured("oidc-first-login");
    let config = desk.config("config.toml", &config);
    let said = run_with(&["explain", "--config", &config, "--at", "2026-03-02T12:00:00Z", "-"], &body);
    assert_eq!(said.code, 3);
    assert!(said.out.starts_with("refused: expired at"), "{}", said.out);
    assert!(said.out.contains("note: `at` 2026-03-01T12:00:00.000Z looks at it as of when it was issued"));
}

/// Claims that nobody signed are looked at in earnest, and never called verified.
#[test]
fn a_dry_look_proves_nothing() {
    let desk = Desk::new();
    for case in ["oidc-first-login", "saml-first-login"] {
        let (config, _) = captured(case);
        let config = desk.config("config.toml", &config);
        let (subject, groups) = match case.starts_with("saml") {
            true => ("NameID", "department"),
            false => ("sub", "groups"),
        };
        let claims = json!({ subject: "bob", groups: ["Staff", "on-call"], "more": {"x": 1} }).to_string();
        let said = run_with(&["explain", "--config", &config, "-"], &claims);
        assert_eq!(said.code, 0, "{said:?}");
        assert!(said.out.starts_with("would enter, were these claims verified\n"), "{}", said.out);
        assert!(said.out.contains("verified  NO: these are claims from a file"), "{}", said.out);
        assert!(said.out.contains("near miss groups = staff"), "{}", said.out);
        assert!(said.out.contains("\"Staff\" differs by case alone"), "{}", said.out);
        let report = run_with(&["explain", "--config", &config, "--json", "-"], &claims).json();
        assert_eq!(report["proof"], json!({"state": "dry"}));
        assert_eq!(names(&report["plan"]["grants"]), ["On-call"]);
    }
}

/// Finding SEE7: claims of a file are read as a token's, so that a key of the configuration is no name of a claim. Golden cases,
/// which are written beside the configuration, may use it.
#[test]
fn see07_claims_of_a_file_are_read_as_a_login_reads_them() {
    let desk = Desk::new();
    let (config, _) = captured("oidc-first-login");
    let config = config.replace("[provider.claims.groups]", "[provider.claims.groups]\nname = \"/realm/groups\"");
    let config = desk.config("config.toml", &config);
    let explained = |claims: Value| {
        let said = run_with(&["explain", "--config", &config, "--json", "-"], &claims.to_string());
        (said.json(), said)
    };
    let (report, said) = explained(json!({"sub": "bob", "groups": ["staff"]}));
    assert_eq!(
        (&report["claims"][0]["state"], names(&report["plan"]["grants"])),
        (&json!("missing"), vec![]),
        "{said:?}"
    );
    assert!(report["notes"].to_string().contains("`groups` is what the configuration calls a claim"), "{said:?}");
    let (report, _) = explained(json!({"sub": "bob", "groups": ["marketing"], "realm": {"groups": ["staff"]}}));
    assert_eq!(names(&report["plan"]["grants"]), ["Staff"]);
    assert_eq!(report["notes"], json!([]));
    let case = "[[case]]\ntitle = \"by key\"\nclaims = { groups = [\"staff\"] }\nexpect = { groups = [\"Staff\"] }\n";
    let said = run(&["test", "--config", &config, &desk.file("cases.toml", case)]);
    assert_eq!(said.code, 0, "{said:?}");
}

/// Finding SEE7: a text of delimiters and blanks alone is as empty as one of blanks, and is called so.
#[test]
fn see07_a_text_without_pieces_is_empty() {
    let desk = Desk::new();
    let (text, _) = captured("oidc-first-login");
    for (own, value, state) in [
        ("", "   ", "empty"),
        ("", " , ", "values"),
        ("delimiter = \",\"", "   ", "empty"),
        ("delimiter = \",\"", " , ", "empty"),
        ("delimiter = \",\"", " , staff", "values"),
        ("delimiter = \",\"\nstrip_prefix = \"/\"", "/,/", "empty"),
        ("strip_prefix = \"/\"", "/", "empty"),
        ("strip_prefix = \"/\"", "/staff", "values"),
    ] {
        let text = text.replace("[provider.claims.groups]", &format!("[provider.claims.groups]\n{own}"));
        let config = desk.config("config.toml", &text);
        let claims = json!({"sub": "bob", "groups": value}).to_string();
        let report = run_with(&["explain", "--config", &config, "--json", "-"], &claims).json();
        assert_eq!(report["claims"][0]["state"], state, "{own} {value:?}");
        assert_eq!(report["claims"][0]["pieces"].as_array().unwrap().is_empty(), state == "empty", "{own} {value:?}");
    }
}

/// Keys of a file in the place of the provider's: the right ones, and a stranger's.
#[test]
fn keys_may_come_from_a_file() {
    let desk = Desk::new();
    let (config, body) = captured("saml-first-login");
    let config = desk.config("config.toml", &config.replace("idp-rsa.certificate", "stranger-rsa.certificate"));
    let keys = |name: &str| crate::fixtures::folder("keys").join(name).to_str().unwrap().to_owned();
    let refused = run_with(&["explain", "--config", &config, "--at", AT, "-"], &body);
    assert_eq!(refused.code, 3, "{refused:?}");
    let right = keys("idp-rsa.certificate.test-only.pem");
    let said = run_with(&["explain", "--config", &config, "--at", AT, "--keys", &right, "-"], &body);
    assert_eq!(said.code, 0, "{said:?}");
    assert!(said.out.contains("verified  yes, with keys from `"), "{}", said.out);

    let (config, body) = captured("oidc-first-login");
    let config = desk.config("oidc.toml", &config.replace("../../tokens/jwks.json", "none.json"));
    desk.file(
        "none.json",
        r#"{"keys":[{"kty":"OKP","crv":"Ed25519","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}]}"#,
    );
    let jwks = crate::fixtures::folder("tokens").join("jwks.json").to_str().unwrap().to_owned();
    assert_eq!(run_with(&["explain", "--config", &config, "--at", AT, "-"], &body).code, 3);
    let said = run_with(&["explain", "--config", &config, "--at", AT, "--keys", &jwks, "-"], &body);
    assert_eq!(said.code, 0, "{said:?}");
    let said = run_with(&["explain", "--config", &config, "--at", AT, "--keys", "/nowhere.json", "-"], &body);
    assert_eq!(said.code, 1, "without keys nothing can be told: {said:?}");
    assert!(said.out.starts_with("unknown: there are no keys"), "{}", said.out);
}

/// The rules in full: every verdict, with the condition or the reason that decided.
#[test]
fn every_mapping_has_its_verdict() {
    let desk = Desk::new();
    let (config, _) = captured("oidc-first-login");
    let config = config
        .replace(
            "[provider.claims.groups]",
            "[provider.claims.groups]\n\n[provider.claims.department]\nwhen_missing = \"keep\"",
        )
        .replace("[[group]]\nname = \"On-call\"", "[[group]]\nname = \"On-call\"\nstages = [\"test\"]")
        .replace("email_claim = \"email\"", "email_claim = \"email\"\nstages = [\"production\"]")
        + r#"
[[mapping]]
name = "again"
when = [{ claim = "groups", begins_with = "sta" }]
group = "Staff"

[[mapping]]
name = "over"
until = 2026-01-01T00:00:00Z
when = [{ claim = "groups", is = "staff" }]
role = "editor"

[[mapping]]
name = "off"
enabled = false
always = true
role = "editor"

[[mapping]]
name = "engineers"
when = [{ claim = "groups", is = "staff" }, { claim = "department", is = "Engineering" }]
role = "editor"

[[mapping]]
name = "captured"
when = [{ claim = "groups", regex = "^team-(?<team>[a-z]+)$" }]
then = [{ add_group = "Team ${team}" }]
allow = { team = "any" }

[[default]]
provider = "oidc"
claim = "groups"
group = "Marketing"

[[gate]]
name = "staff only"
require = ["again"]

[[gate]]
name = "nobody on leave"
deny = [{ claim = "groups", is = "on-leave" }]
"#;
    let config = desk.config("config.toml", &config);
    let claims = json!({"sub": "bob", "groups": ["staff", "ADMINS", "team-x"]}).to_string();
    let said = run_with(&["explain", "--config", &config, "--at", AT, "--json", "-"], &claims);
    let report = said.json();
    let expected = [
        ("groups = staff", "hit"),
        ("groups = marketing", "missed"),
        ("groups = on-call", "inactive"),
        ("administrators", "near_miss"),
        ("again", "hit"),
        ("over", "expired"),
        ("off", "disabled"),
        ("engineers", "undecided"),
        ("captured", "hit"),
        ("default of groups", "missed"),
    ];
    let found = verdicts(&report);
    let found: Vec<(&str, &str)> = found.iter().map(|(name, verdict)| (name.as_str(), verdict.as_str())).collect();
    assert_eq!(found, expected);
    let of = |name: &str| {
        report["mappings"].as_array().unwrap().iter().find(|mapping| mapping["mapping"] == name).unwrap().clone()
    };
    assert_eq!(of("again")["shadowed_by"], "groups = staff");
    assert_eq!(of("administrators")["conditions"][0]["near"], json!(["ADMINS"]));
    assert_eq!(of("engineers")["conditions"][1]["truth"], "undecided");
    assert_eq!(of("captured")["unknown"], json!(["Team x"]));
    assert_eq!(
        report["gates"],
        json!([
            {"gate": "staff only", "open": true, "because": "requires `again`, and one holds"},
            {"gate": "nobody on leave", "open": true, "because": "denies where groups is \"on-leave\": false"},
        ])
    );
    let gone = json!({"sub": "bob", "groups": ["staff", "on-leave"]}).to_string();
    let said = run_with(&["explain", "--config", &config, "--at", AT, "-"], &gone);
    assert_eq!(said.code, 3, "{}", said.out);
    assert!(said.out.starts_with("refused: refused by gate `nobody on leave`\n"), "{}", said.out);
    assert!(said.out.contains("gate `nobody on leave` is shut: denies, since groups is \"on-leave\": true"));
}

/// Against a store with a past: what goes, what stays, and nothing is written. Then the past login itself.
#[tokio::test(flavor = "multi_thread")]
async fn a_login_is_told_against_the_store_and_a_past_one_from_the_audit() {
    let (config, body) = captured("oidc-first-login");
    let file = crate::fixtures::folder("login").join("oidc-first-login").join("config.toml");
    let house = House::open(&config, &file, now()).await;
    let cookies = house.leave("https://idp.example.com/authorize?client_id=the-app&state=state-1&nonce=nonce-1").await;
    let form = ("content-type", "application/x-www-form-urlencoded");
    let answer = house.send("POST", "/callback", &[form, ("cookie", &cookies)], body.as_bytes()).await;
    assert_eq!(answer.status, 200);
    let before = (house.memberships().await, house.events().await.len());
    let id = house.events().await.last().unwrap().detail["login"].as_str().unwrap().to_owned();

    let desk = Desk::new();
    let store = house.folder.path().join("store.db");
    let config = desk.config("config.toml", &config.replace("loginsync.db", store.to_str().unwrap()));
    let claims = json!({"sub": "alice", "groups": ["staff"]}).to_string();
    let report = run_with(&["explain", "--config", &config, "--at", AT, "--json", "-"], &claims).json();
    assert_eq!(report["user"], json!({"name": "oidc/alice", "known": true, "enabled": true}));
    assert_eq!(
        (names(&report["plan"]["keeps"]), names(&report["plan"]["revokes"])),
        (vec!["Staff"], vec!["Marketing"])
    );
    let again = run_with(&["explain", "--config", &config, "--at", AT, "--json", "-"], &body).json();
    assert_eq!((&again["outcome"], &again["token"]["spent"]), (&json!("enters"), &json!(true)), "{again:#}");
    assert_eq!(names(&again["plan"]["keeps"]).len(), 2);
    let empty = run_with(&["explain", "--config", &config, "--at", AT, "--json", "--no-store", "-"], &claims).json();
    assert_eq!((empty["user"]["known"].as_bool(), names(&empty["plan"]["grants"])), (Some(false), vec!["Staff"]));
    assert_eq!((house.memberships().await, house.events().await.len()), before, "looking changes nothing");

    let past = run(&["explain", "--config", &config, "--id", &id]);
    assert_eq!(past.code, 0, "{past:?}");
    for line in ["entered, 2026-03-01T12:00:00.000Z", "user      oidc/alice", "`groups = staff` gives group `Staff`"] {
        assert!(past.out.contains(line), "{line:?} in {}", past.out);
    }
    assert!(past.out.contains("+         group `Marketing`, granted by `groups = marketing`"), "{}", past.out);
    assert_eq!(run(&["explain", "--config", &config, "--id", &id, "--json"]).json()["detail"]["login"], json!(id));
    assert_eq!(run(&["explain", "--config", &config, "--id", "nobody"]).code, 1);

    house.send("POST", "/callback", &[form, ("cookie", &cookies)], body.as_bytes()).await;
    let id = house.events().await.last().unwrap().detail["login"].as_str().unwrap().to_owned();
    let refused = run(&["explain", "--config", &config, "--id", &id]);
    assert_eq!(refused.code, 3, "{refused:?}");
    assert!(refused.out.contains("reason    this token was used before"), "{}", refused.out);
}

#[test]
fn what_cannot_be_looked_at_is_a_fault() {
    let desk = Desk::new();
    let (text, body) = captured("oidc-first-login");
    let config = desk.config("config.toml", &text);
    let said = run_with(&["explain", "--config", &config, "--provider", "odic", "-"], &body);
    assert_eq!(
        (said.code, said.err.as_str()),
        (1, "the configuration declares no provider `odic`; the nearest is `oidc`\n")
    );
    let said = run_with(&["explain", "--config", &config, "-"], "hello");
    assert_eq!(said.code, 1);
    assert!(said.err.starts_with("the ID token cannot be read: not three parts"), "{}", said.err);
    let said = run_with(&["explain", "--config", &config, "-"], "{\"sub\": ");
    assert!(said.err.starts_with("the claims are not a JSON object"), "{}", said.err);
    assert_eq!(run(&["explain", "--config", &config, "/nowhere"]).code, 1);
}

/// A configuration of one provider, with more of it, and rules behind it.
fn provider(desk: &Desk, own: &str, rules: &str) -> String {
    let (config, _) = captured("oidc-first-login");
    let config = config.replace("email_claim = \"email\"", &format!("email_claim = \"email\"\n{own}"));
    desk.config("config.toml", &format!("{config}{rules}"))
}

/// Groups that the token left out: a login asks the directory, and so does `--ask`; without it, the report says what it does
/// not know, and tells no outcome that hangs on it.
#[tokio::test(flavor = "multi_thread")]
async fn what_the_token_left_out_is_asked_for_where_that_is_wanted() {
    let fake = FakeGraph::start().await;
    let claims = id_token_claims(
        "https://idp.example.com",
        "the-app",
        &json!({"sub": "alice", "hasgroups": true, "tid": TENANT, "oid": ALICE, "nonce": "nonce-1"}),
    );
    let token = signed_id_token(&claims, "idp-rsa");
    let explain = |config: &str, more: &[&str]| {
        run_with(&[&["explain", "--config", config, "--at", AT], more, &["-"]].concat(), &token)
    };
    let desk = Desk::new();
    let rules = "\n[[mapping]]\nname = \"by id\"\nprovider = \"oidc\"\nclaim = \"groups\"\nvalue = \"id-staff\"\ngroup = \"Staff\"\n";
    let overage = fake.table("");
    let config = provider(&desk, &overage, rules);
    let said = explain(&config, &["--json"]);
    assert_eq!(said.code, 0, "{said:?}");
    let report = said.json();
    assert_eq!(report["claims"][0]["state"], "unresolved (overage)");
    let elsewhere = "a login asks the provider's directory for it, and `explain --ask` does so";
    assert_eq!(report["claims"][0]["elsewhere"], elsewhere);
    assert!(explain(&config, &[]).out.contains(elsewhere));
    assert!(fake.received().is_empty(), "nobody is asked unasked");

    let said = explain(&config, &["--ask", "--json"]);
    let report = said.json();
    assert_eq!((said.code, &report["claims"][0]["elsewhere"]), (0, &Value::Null), "{report:#}");
    assert_eq!(names(&report["plan"]["grants"]), ["Staff"]);
    assert_eq!(report["notes"][1], "the directory was asked for what the token left out: 3 groups");
    assert_eq!(fake.asked().len(), 1);

    // A strict provider refuses what stays unresolved, which a login knows only once it has asked.
    let config = provider(&desk, &format!("strict = true\n{overage}"), rules);
    let said = explain(&config, &[]);
    assert_eq!(said.code, 1, "{said:?}");
    assert!(
        said.out.starts_with(&format!(
            "unknown: claim `groups` is unresolved (overage), and the provider is `strict`; {elsewhere}\n"
        )),
        "{}",
        said.out
    );
    assert_eq!(explain(&config, &["--ask"]).code, 0);
    fake.set(Mood::Broken(403));
    let said = explain(&config, &["--ask"]);
    assert_eq!(said.code, 3, "{said:?}");
    assert!(said.out.contains("note: the directory was asked for what the token left out, and failed: "));

    // And so it is with a gate, and with a mapping that disables.
    fake.set(Mood::Well);
    let gate = "\n[[gate]]\nname = \"staff only\"\nrequire = [\"by id\"]\n";
    let config = provider(&desk, &overage, &format!("{rules}{gate}"));
    let said = explain(&config, &[]);
    assert_eq!(said.code, 1, "{said:?}");
    let hangs = "unknown: refused by gate `staff only`, but a login would first fetch what is unknown here\n";
    assert!(said.out.starts_with(hangs), "{}", said.out);
    assert_eq!(explain(&config, &["--ask"]).code, 0);
    let config = provider(&desk, &overage, rules);
    let disables =
        json!({"name": "gone", "when": [{"claim": "groups", "is": "id-gone"}], "then": [{"disable_user": true}]});
    super::stored::keep(&desk, &[], &[disables]).await;
    let said = explain(&config, &[]);
    assert_eq!(said.code, 1, "{said:?}");
    assert!(said.out.starts_with("unknown: a mapping that disables the user is undecided"), "{}", said.out);
    assert_eq!(explain(&config, &["--ask"]).code, 0);

    // Without a directory, or without a mapping that reads the claim, a login asks nobody either.
    let config = provider(&desk, "strict = true\n", rules);
    assert_eq!(explain(&config, &[]).code, 3);
}

/// What a login would read from beside its token.
#[test]
fn sources_that_are_not_read_here_are_named() {
    let desk = Desk::new();
    let (config, body) = captured("oidc-first-login");
    let token = body.strip_prefix("id_token=").unwrap().split('&').next().unwrap();
    let config = config
        .replace("mode = \"oidc-form-post\"", "mode = \"token-relay\"")
        .replace(
            "authorization_endpoint = \"https://idp.example.com/authorize\"",
            "token_endpoint = \"https://idp.example.com/token\"\nuserinfo_endpoint = \"https://idp.example.com/userinfo\"",
        )
        .replace("[[provider]]", "[relay]\naddress = \"127.0.0.1:0\"\nurl = \"http://127.0.0.1:8090\"\n\n[[provider]]")
        + "\n[provider.claims.level]\nfrom = [\"id_token\", \"userinfo\", \"access_token\"]\n";
    let config = desk.config("config.toml", &config);
    let report = run_with(&["explain", "--config", &config, "--at", AT, "--json", "-"], token);
    let report = report.json();
    let level = report["claims"].as_array().unwrap().iter().find(|claim| claim["name"] == "level").unwrap();
    assert_eq!(level["state"], "unresolved (not in this token)");
    assert_eq!(level["elsewhere"], "a login reads it from userinfo and the access token, which is not done here");
}
