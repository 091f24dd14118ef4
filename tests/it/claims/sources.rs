//! Several sources of one claim: what is there, what is not, and what each of them leaves undecided.

use loginsync::pipeline::claims::sources::{Brought, Source, Sources, Take};
use loginsync::pipeline::claims::{self, ClaimState, Claims};
use loginsync::pipeline::provider::Provider;
use loginsync::pipeline::verify::{self, Assertion, OtherSubject, Payload, Verified};
use serde_json::{Value, json};

use super::{id_token, oidc_provider};

/// What a payload beside the ID token is, as the table below writes it: `"absent"`, `"failed"`, or its claims.
fn payload(login: &Verified<Assertion>, written: &Value) -> Brought<Verified<Payload>> {
    match written {
        Value::String(word) if word == "absent" => Brought::Absent,
        Value::String(word) if word == "failed" => Brought::Failed,
        Value::Object(claims) => {
            let mut claims = claims.clone();
            claims.insert("sub".into(), json!("alice"));
            Brought::Present(verify::userinfo(login, claims).unwrap())
        }
        other => panic!("{other}"),
    }
}

fn provider(take: Take) -> Provider {
    let mut provider = oidc_provider("[provider.claims.groups]");
    provider.claims[0].from = vec![Source::Assertion, Source::Userinfo, Source::AccessToken];
    provider.claims[0].take = take;
    provider
}

fn read(provider: &Provider, [own, userinfo, access_token]: &[Value; 3], directory: Brought<Vec<String>>) -> Claims {
    let mut own = own.clone();
    own["sub"] = json!("alice");
    let login = id_token(provider, &own);
    let (userinfo, access_token) = (payload(&login, userinfo), payload(&login, access_token));
    claims::read(&login, &Sources { userinfo, access_token, directory }, provider, &|_| true).unwrap()
}

/// The state and values of `groups`, as a line.
fn shown(claims: &Claims) -> String {
    let claim = &claims.claims[0];
    match &claim.state {
        ClaimState::Values(_) => format!("values {}", claim.pieces(None).join(",")),
        state => state.word().to_owned(),
    }
}

#[test]
fn what_several_sources_make_of_a_claim() {
    let (absent, failed) = (json!("absent"), json!("failed"));
    let none = json!({});
    let of = |value: Value| json!({ "groups": value });
    let marked = json!({"_claim_names": {"groups": "src1"}});
    // ID token, userinfo, access token; then what `first` and what `union` make of them.
    let table: &[([Value; 3], &str, &str)] = &[
        ([of(json!(["a"])), of(json!(["b"])), of(json!(["a", "c"]))], "values a", "values a,b,c"),
        ([none.clone(), of(json!(["b"])), of(json!(["c"]))], "values b", "values b,c"),
        ([of(json!(null)), of(json!(["b"])), none.clone()], "values b", "values b"),
        // Present and empty is an answer.
        ([of(json!([])), of(json!(["b"])), none.clone()], "empty", "values b"),
        ([of(json!([])), none.clone(), none.clone()], "empty", "empty"),
        ([none.clone(), none.clone(), none.clone()], "missing", "missing"),
        // Whoever is not there may have held the claim.
        (
            [none.clone(), none.clone(), absent.clone()],
            "unresolved (not in this token)",
            "unresolved (not in this token)",
        ),
        ([none.clone(), failed.clone(), absent.clone()], "unresolved (fetch failed)", "unresolved (fetch failed)"),
        ([of(json!([])), absent.clone(), none.clone()], "empty", "unresolved (not in this token)"),
        ([of(json!(["a"])), failed.clone(), none.clone()], "values a", "unresolved (fetch failed)"),
        ([none.clone(), failed.clone(), of(json!(["c"]))], "values c", "unresolved (fetch failed)"),
        // One that cannot be read is no empty one.
        ([of(json!([{}])), of(json!(["b"])), none.clone()], "malformed", "malformed"),
        // A marker says that the claim is elsewhere; under `first` elsewhere may be the next source.
        ([marked.clone(), of(json!(["b"])), none.clone()], "values b", "unresolved (overage)"),
        ([marked.clone(), none.clone(), absent.clone()], "unresolved (overage)", "unresolved (overage)"),
        ([of(json!(["a"])), marked.clone(), none.clone()], "values a", "unresolved (overage)"),
    ];
    for (brought, first, union) in table {
        for (take, expected) in [(Take::First, first), (Take::Union, union)] {
            let claims = read(&provider(take), brought, Brought::Absent);
            assert_eq!(shown(&claims), *expected, "{take:?} of {brought:?}");
            let decided = !expected.starts_with("unresolved") && *expected != "malformed";
            assert_eq!(claims.claims[0].decided, decided, "{take:?} of {brought:?}");
        }
    }
}

#[test]
fn a_directory_stands_in_for_what_was_left_out_and_for_nothing_else() {
    let marked = json!({"_claim_names": {"groups": "src1"}});
    let found = || Brought::Present(vec!["d".to_owned()]);
    let cases = [
        ([marked.clone(), json!({}), json!({})], found(), "values d", "values d"),
        ([marked.clone(), json!({"groups": ["b"]}), json!({})], found(), "values b", "values d,b"),
        ([marked.clone(), json!({}), json!({})], Brought::Present(Vec::new()), "empty", "empty"),
        (
            [marked.clone(), json!({}), json!({})],
            Brought::Failed,
            "unresolved (overage, look-up failed)",
            "unresolved (overage, look-up failed)",
        ),
        ([marked, json!({}), json!("failed")], found(), "values d", "unresolved (fetch failed)"),
        ([json!({}), json!({}), json!({})], found(), "missing", "missing"),
        ([json!({"groups": ["a"]}), json!({}), json!({})], found(), "values a", "values a"),
    ];
    for (brought, directory, first, union) in cases {
        assert_eq!(shown(&read(&provider(Take::First), &brought, directory.clone())), first, "{brought:?}");
        assert_eq!(shown(&read(&provider(Take::Union), &brought, directory)), union, "{brought:?}");
    }
}

#[test]
fn a_claim_is_read_from_the_sources_of_its_rule_alone() {
    let mut provider = provider(Take::First);
    let brought = [json!({"groups": ["a"]}), json!({"groups": ["b"]}), json!({"groups": ["c"]})];
    provider.claims[0].from = vec![Source::AccessToken];
    assert_eq!(shown(&read(&provider, &brought, Brought::Absent)), "values c");
    provider.claims[0].from = vec![Source::Userinfo, Source::Assertion];
    assert_eq!(shown(&read(&provider, &brought, Brought::Absent)), "values b");
}

#[test]
fn a_source_that_did_not_come_refuses_a_strict_login() {
    let mut provider = provider(Take::First);
    provider.strict = true;
    let login = id_token(&provider, &json!({"sub": "alice"}));
    let sources = Sources { userinfo: Brought::Failed, ..Sources::default() };
    let refused = claims::read(&login, &sources, &provider, &|_| true).unwrap_err();
    assert_eq!(refused.to_string(), "claim `groups` is unresolved (fetch failed), and the provider is `strict`");
}

/// OIDC Core 5.3.2: userinfo that speaks of somebody else must not be used.
#[test]
fn userinfo_of_somebody_else_is_not_believed() {
    let login = id_token(&oidc_provider(""), &json!({"sub": "alice"}));
    for claims in [json!({"sub": "mallory"}), json!({"sub": "Alice"}), json!({"sub": ["alice"]}), json!({})] {
        let Value::Object(claims) = claims else { unreachable!() };
        assert_eq!(verify::userinfo(&login, claims).map(|_| ()), Err(OtherSubject));
    }
}

#[test]
fn an_email_may_come_by_userinfo() {
    let provider = oidc_provider("");
    let login = id_token(&provider, &json!({"sub": "alice"}));
    let Value::Object(claims) = json!({"sub": "alice", "email": "alice@example.com"}) else { unreachable!() };
    let userinfo = Brought::Present(verify::userinfo(&login, claims).unwrap());
    let sources = Sources { userinfo, ..Sources::default() };
    let read = claims::read(&login, &sources, &provider, &|_| true).unwrap();
    assert_eq!(read.email.as_deref(), Some("alice@example.com"));
}
