//! What goes by between an app and the token endpoint: what its requests ask for, and what replies bring.

use http::StatusCode;
use http::header::{CONTENT_TYPE, HeaderMap, HeaderValue};
use loginsync_pipeline::capture::relay::{Grant, ReplyFault, TokenReply, may_be_of_person, read_reply, read_request};

#[test]
fn a_grant_is_known_by_its_type() {
    for (grant_type, expected) in [
        ("authorization_code", Grant::Person),
        ("password", Grant::Person),
        ("urn:ietf:params:oauth:grant-type:device_code", Grant::Person),
        ("something_new", Grant::Person),
        ("refresh_token", Grant::Refresh),
        ("client_credentials", Grant::Client),
        ("urn:ietf:params:oauth:grant-type:token-exchange", Grant::Exchange),
        ("urn:ietf:params:oauth:grant-type:jwt-bearer", Grant::Exchange),
        ("urn:ietf:params:oauth:grant-type:saml2-bearer", Grant::Exchange),
    ] {
        let form = HeaderValue::from_static("application/x-www-form-urlencoded");
        let headers = HeaderMap::from_iter([(CONTENT_TYPE, form)]);
        let body = format!("a=b&grant_type={}&resource=x&resource=y", grant_type.replace(':', "%3A"));
        let request = read_request(&[], None, &headers, body.as_bytes());
        assert_eq!(request.map(|request| request.grant), Ok(expected), "{grant_type}");
    }
}

/// What a reply brings, shortly, and whether it may be of a person.
#[test]
fn a_reply_brings_tokens_a_refusal_or_nothing_that_is_known() {
    let (ok, bad, away) = (StatusCode::OK, StatusCode::BAD_REQUEST, StatusCode::BAD_GATEWAY);
    for (status, body, expected, of_person) in [
        (ok, r#"{"access_token":"a"}"#, "tokens", false),
        (ok, "\u{feff}{\"access_token\":\"a\"}", "tokens", false),
        (ok, r#"{"access_token":"a","id_token":"b"}"#, "tokens", true),
        (bad, r#"{"error":"invalid_grant","error_description":"x"}"#, "refusal invalid_grant", false),
        (ok, r#"{"error":"slow_down"}"#, "refusal slow_down", false),
        (away, "<h1>Bad Gateway</h1>", "refusal", false),
        (away, "<p>\"id_token\": \"x\"</p>", "unreadable", false),
        (ok, "<h1>Hello</h1>", "unreadable", false),
        (ok, "{}", "neither", false),
        (bad, "{}", "refusal", false),
        // A token's name somewhere below, and something under it.
        (ok, r#"{"a":{"id_token":"x"}}"#, "hidden", true),
        (ok, r#"{"a":[{"b":{"ID_Token":1}}]}"#, "hidden", true),
        (ok, r#"{"a":{"id_token":""}}"#, "neither", false),
        (ok, r#"{"a":{"id_token":null}}"#, "neither", false),
        (ok, r#"{"access_token":"a","b":{"id_token":""}}"#, "tokens", false),
        (ok, r#"{"access_token":"a","b":{"id_token":"x"}}"#, "tokens, nested", true),
    ] {
        let reply = read_reply(status, &HeaderMap::new(), body.as_bytes());
        let told = match &reply {
            Ok(TokenReply::Refusal(Some((error, _)))) => format!("refusal {error}"),
            Ok(TokenReply::Refusal(None)) => "refusal".into(),
            Ok(TokenReply::Tokens(tokens)) if tokens.nested => "tokens, nested".into(),
            Ok(TokenReply::Tokens(_)) => "tokens".into(),
            Err(ReplyFault::Json(_)) => "unreadable".into(),
            Err(ReplyFault::Neither) => "neither".into(),
            Err(ReplyFault::Hidden) => "hidden".into(),
            Err(other) => other.to_string(),
        };
        assert_eq!(told, expected, "{status} {body}");
        assert_eq!(may_be_of_person(status, &HeaderMap::new(), body.as_bytes()), of_person, "{status} {body}");
    }
}
