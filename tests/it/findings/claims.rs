//! Numbers in claims, digit by digit.

use loginsync::cli::demo::mint::oidc;
use serde_json::Value;

use crate::api::Office;
use crate::attacks::{Siege, claims, config, form, header};
use crate::kit::{NOW, key};
use crate::seeing::{Desk, run_with};

const MAPPED: &str = "\n[[group]]\nname = \"One\"\n[[mapping]]\nprovider = \"oidc\"\nclaim = \"groups\"\n\
    value = \"100000000000000000001\"\ngroup = \"One\"\n[[group]]\nname = \"Exact\"\n[[mapping]]\nprovider = \"oidc\"\n\
    claim = \"groups\"\nvalue = \"1.50\"\ngroup = \"Exact\"\n";

/// A token in which the texts of numbers stand as they are.
fn token(jti: &str, members: &[(&str, &str)]) -> String {
    let mut text = claims(jti).to_string();
    for (name, number) in members {
        let old = claims(jti)[*name].clone();
        let written = |value: &str| format!("\"{name}\":{value}");
        text = match old.is_null() {
            true => text.replacen('{', &format!("{{{},", written(number)), 1),
            false => text.replace(&written(&old.to_string()), &written(number)),
        };
    }
    oidc::signed(&key("idp-rsa"), "RS256", header().to_string().as_bytes(), text.as_bytes()).unwrap()
}

/// One login; the status, and the users that there are then.
async fn log_in(siege: &Siege, token: &str) -> (u16, Vec<String>) {
    let body = form(&[("id_token", token), ("state", "state-1")]);
    let answer = siege.send("/callback", crate::attacks::FORM.1, body.as_bytes()).await;
    let users = siege.house.store().users(None, 50).await.unwrap();
    let mut users: Vec<String> = users.iter().map(|user| user.subject.to_string()).collect();
    users.sort();
    (answer.status, users)
}

/// Two people whose numbers differ in the last of 21 digits are two users, and one of them never becomes the other.
#[tokio::test(flavor = "multi_thread")]
async fn sec10_numbers_past_64_bits_are_users_of_their_own() {
    let siege = || async { Siege::with(&config("user_claim = \"employee\"\nbinding = \"observe\"", "")).await };
    let one = siege().await;
    let numbers = [
        "100000000000000000001",
        "100000000000000000002",
        "18446744073709551615",
        "18446744073709551616",
        "-9223372036854775809",
        "9007199254740993",
        "0",
        "7",
    ];
    let mut expected: Vec<&str> = Vec::new();
    for number in numbers {
        let (status, users) = log_in(&one, &token(number, &[("employee", number)])).await;
        expected.push(number);
        expected.sort_unstable();
        assert_eq!((status, users), (200, expected.iter().map(ToString::to_string).collect()), "{number}");
    }
    // A fraction or an exponent is another text for the same number, so that it names nobody.
    for number in ["1.0", "1e2", "1E+20", "1e20", "-0.0", "1e999", "7.0", "0.0"] {
        let (status, users) = log_in(&one, &token(number, &[("employee", number)])).await;
        assert_eq!((status, users.len()), (403, numbers.len()), "{number}");
    }
    // A list of one is read as its element, an object as nothing, however it is written.
    for (value, status) in [
        ("[100000000000000000003]", 200),
        ("[1.5]", 403),
        ("{\"a\":100000000000000000001}", 403),
        ("{\"\\u0001number\":\"admin\"}", 403),
        ("{\"\\u0001number\":\"1.0\"}", 403),
    ] {
        let found = log_in(&one, &token(value, &[("employee", value)])).await;
        assert_eq!(found.0, status, "{value}: {:?}", found.1);
    }
    let two = siege().await;
    assert_eq!(log_in(&two, &token("sub", &[("sub", "100000000000000000001")])).await.0, 403, "and no `employee`");
}

/// `sub` is a string (OIDC Core section 2), however long the number is.
#[tokio::test(flavor = "multi_thread")]
async fn sec10_a_subject_is_never_a_number() {
    let siege = Siege::with(&config("binding = \"observe\"", "")).await;
    for number in ["42", "1.0", "100000000000000000001", "1e999"] {
        assert_eq!(log_in(&siege, &token(number, &[("sub", number)])).await, (403, vec![]), "{number}");
    }
}

/// In a claim a number is its text, so that a mapping means one number, as it is written.
#[tokio::test(flavor = "multi_thread")]
async fn sec10_a_mapping_means_one_number() {
    for (groups, expected) in [
        ("[100000000000000000001]", &["One"][..]),
        ("[100000000000000000002]", &[]),
        ("100000000000000000001", &["One"]),
        ("[1e20]", &[]),
        ("[1.50, 7]", &["Exact"]),
        ("[1.5, 1.500]", &[]),
        ("[{\"\\u0001number\":\"x\"}, 1.50]", &["Exact"]),
    ] {
        let text = format!("{}{MAPPED}", config("binding = \"observe\"", ""));
        let siege = Siege::with(&text).await;
        let seen = siege.house.happened();
        assert_eq!(log_in(&siege, &token("t", &[("groups", groups)])).await.0, 200, "{groups}");
        let plans = siege.house.plans_after(seen);
        let held: Vec<&str> = plans[0].after.groups.iter().map(|group| group.as_str()).collect();
        assert_eq!(held, expected, "{groups}");
    }
}

/// Dates are compared as numbers, within what a calendar can hold.
#[tokio::test(flavor = "multi_thread")]
async fn sec10_dates_past_any_calendar_are_refused() {
    let siege = Siege::with(&config("binding = \"observe\"", "")).await;
    let now = NOW.seconds();
    let soon = format!("{}.5", now + 100);
    let scaled = format!("{}e1", (now + 200) / 10);
    for (claim, value, status) in [
        ("exp", "1e300", 403),
        ("exp", "1e999", 403),
        ("exp", "99999999999999999999999", 403),
        ("exp", "-0", 403),
        ("iat", "1e300", 403),
        ("iat", "-1.0", 403),
        ("nbf", "1e300", 403),
        ("nbf", "18446744073709551616", 403),
        ("exp", soon.as_str(), 200),
        ("exp", scaled.as_str(), 200),
    ] {
        let found = log_in(&siege, &token(&format!("{claim}{value}"), &[(claim, value)])).await;
        assert_eq!(found.0, status, "{claim} {value}");
    }
}

/// So many numbers of this kind that reading them would take a hundred times their length.
#[tokio::test(flavor = "multi_thread")]
async fn sec10_what_they_cost_is_bounded() {
    let siege = Siege::with(&config("binding = \"observe\"", "")).await;
    let many = |count: usize| format!("[{}]", vec!["-0"; count].join(","));
    assert_eq!(log_in(&siege, &token("few", &[("groups", &many(900))])).await.0, 200);
    // Past the bound a number is an empty object: in a list of groups it is passed over, and as a user or a date it is refused.
    let past = many(20_000);
    assert_eq!(log_in(&siege, &token("many", &[("groups", &past)])).await.0, 200);
    let token = |name: &str, value: &str| token(&format!("{past}{name}"), &[("groups", &past), (name, value)]);
    assert_eq!(log_in(&siege, &token("sub", "1.0")).await.0, 403);
    assert_eq!(log_in(&siege, &token("iat", &format!("{}.0", NOW.seconds()))).await.0, 403);
}

/// `explain` reads numbers as the login does, from a token's claims in a file and from a call.
#[tokio::test(flavor = "multi_thread")]
async fn sec10_explain_reads_the_same_numbers() {
    let text = format!("{}{MAPPED}", config("", ""));
    let desk = Desk::new();
    let fixtures = format!("\"{}/fixtures/", env!("CARGO_MANIFEST_DIR"));
    let config = desk.file("config.toml", &text.replace("\"fixtures/", &fixtures));
    let office = Office::with(MAPPED).await;
    let bearer = format!("Bearer {}", crate::api::ADMIN);
    let headers = [("authorization", bearer.as_str()), ("content-type", "application/json")];
    for (groups, expected) in
        [("100000000000000000001, 1.50", &["Exact", "One"][..]), ("100000000000000000002, 1.5", &[])]
    {
        let given = format!("{{\"sub\": \"alice\", \"groups\": [{groups}]}}");
        let said =
            run_with(&["explain", "--config", &config, "--provider", "oidc", "--no-store", "--json", "-"], &given);
        assert_eq!(granted(&said.json()), expected, "{said:?}");
        let body = format!("{{\"provider\":\"oidc\",\"claims\":{given}}}");
        let admin = office.house.running.admin;
        let answer = office.house.send_to(admin, "POST", "/api/v1/explain", &headers, body.as_bytes()).await;
        assert_eq!(answer.status, 200, "{}", answer.body);
        assert_eq!(granted(&serde_json::from_str(&answer.body).unwrap()), expected, "{}", answer.body);
    }
}

fn granted(report: &Value) -> Vec<&str> {
    let grants = report["plan"]["grants"].as_array().unwrap();
    let mut names: Vec<&str> = grants.iter().map(|grant| grant["name"].as_str().unwrap()).collect();
    names.sort_unstable();
    names
}
