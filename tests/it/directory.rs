//! Groups that a token left out, asked of Microsoft Graph: what is asked, what is made of the answers, and every way in which
//! a directory can fail.

use std::time::{Duration, Instant};

use loginsync::clock::Clock;
use loginsync::config::{Config, Surroundings};
use loginsync::pipeline::claims::overage::Person;
use loginsync::pipeline::ids::ProviderName;
use loginsync::ports::directory::Directory;
use loginsync::ports::directory::graph::Graph;
use serde_json::json;

use crate::fixtures::{COMMON, MAPPINGS, NOW, OIDC_LEAVE, OIDC_PROVIDER, folder, oidc_request};
use crate::front_door::House;
use crate::support::app::App;
use crate::support::graph::{ALICE, CREDENTIAL, FakeGraph, Group, Mood, SERVICE_PRINCIPAL, TENANT, TOKEN, group};

fn config(own: &str) -> Result<Config, loginsync::config::problem::Faults> {
    config_with(own, "[limits]\nclaim_values = 200\n")
}

fn config_with(own: &str, limits: &str) -> Result<Config, loginsync::config::problem::Faults> {
    let text = format!(
        "public_url = 'https://app.example.com'\n[app]\nurl = 'http://127.0.0.1:3000'\n{limits}\
         [[provider]]\nname = 'entra'\nmode = 'oidc-form-post'\nissuer = 'https://idp.example.com'\nclient_id = 'the-app'\n\
         callback = '/callback'\njwks_file = '../tokens/jwks.json'\n\
         authorization_endpoint = 'https://idp.example.com/authorize'\n{own}\n"
    );
    let file = folder("login").join("directory.toml");
    let around = Surroundings { file: &file, read: &|path| std::fs::read(path), environment: &|_| None, now: NOW };
    Config::from_text(&text, &around)
}

struct Asker {
    graph: Graph,
    clock: Clock,
}

impl Asker {
    fn new(fake: &FakeGraph, own: &str) -> Self {
        let config = config(&fake.table(own)).unwrap_or_else(|faults| panic!("{faults}"));
        let clock = Clock::fixed(NOW);
        Self { graph: Graph::new(&config.providers, &clock).unwrap(), clock }
    }

    async fn ask(&self, tenant: Option<&str>, object: Option<&str>) -> Result<String, String> {
        let person = Person { tenant: tenant.map(str::to_owned), object: object.map(str::to_owned) };
        let groups = self.graph.groups(&ProviderName::parse("entra").unwrap(), &person).await;
        groups.map(|groups| groups.join(" ")).map_err(|error| error.to_string())
    }

    async fn alice(&self) -> Result<String, String> {
        self.ask(Some(TENANT), Some(ALICE)).await
    }
}

async fn with(mood: Mood, own: &str) -> Result<String, String> {
    let fake = FakeGraph::with(crate::support::graph::usual(), mood).await;
    Asker::new(&fake, own).alice().await
}

#[tokio::test]
async fn each_look_up_brings_what_the_claim_would_have_carried() {
    let fake = FakeGraph::start().await;
    let assigned = format!("scope = 'assigned'\nservice_principal = '{SERVICE_PRINCIPAL}'");
    let table: &[(&str, &str)] = &[
        ("", "id-staff id-on-call id-engineering"),
        ("scope = 'security'\nattribute = 'id'", "id-staff id-on-call id-engineering"),
        ("scope = 'all'", "id-staff id-on-call id-news id-engineering id-role"),
        ("attribute = 'displayName'", "Staff On-call Engineering"),
        ("attribute = 'displayName'\nscope = 'all'", "Staff On-call Newsletter Engineering"),
        // Groups of the cloud have no such name, in the claim as in the directory.
        ("attribute = 'onPremisesSamAccountName'", "staff eng"),
        ("attribute = 'onPremisesSamAccountName'\nscope = 'all'", "staff news eng"),
        (&assigned, "id-staff id-news id-staff"),
        (&format!("{assigned}\nattribute = 'displayName'"), "Staff Newsletter Staff"),
    ];
    for (own, expected) in table {
        assert_eq!(Asker::new(&fake, own).alice().await.as_deref(), Ok(*expected), "{own}");
    }
}

#[tokio::test]
async fn a_person_without_groups_has_none() {
    let fake = FakeGraph::with(Vec::new(), Mood::Well).await;
    assert_eq!(Asker::new(&fake, "").alice().await.as_deref(), Ok(""));
    assert_eq!(Asker::new(&fake, "attribute = 'displayName'").alice().await.as_deref(), Ok(""));
}

/// Design: the token's tenant must be the configured one; nothing is asked about anybody else.
#[tokio::test]
async fn a_person_of_another_tenant_is_not_asked_about() {
    let fake = FakeGraph::start().await;
    let asker = Asker::new(&fake, "");
    let other = "00000000-0c3b-4b7c-9a51-8f1f3c1f6a10";
    let refused = asker.ask(Some(other), Some(ALICE)).await.unwrap_err();
    assert_eq!(refused, format!("the token is of tenant `{other}`; expected `{TENANT}`"));
    assert!(asker.ask(None, Some(ALICE)).await.unwrap_err().contains("of tenant `none`"));
    for object in [None, Some(""), Some(" "), Some("."), Some("..")] {
        assert!(asker.ask(Some(TENANT), object).await.unwrap_err().contains("does not say who is meant"), "{object:?}");
    }
    assert!(fake.received().is_empty(), "{:?}", fake.received());
    // Microsoft writes the ID in lower case; an operator may not.
    assert!(asker.ask(Some(&TENANT.to_uppercase()), Some(ALICE)).await.is_ok());
}

/// An ID is a segment of a path whatever it holds.
#[tokio::test]
async fn an_object_id_leads_nowhere_else() {
    let fake = FakeGraph::start().await;
    let asker = Asker::new(&fake, "");
    for object in ["../../groups", "x/../../me", "x?y", "x#y", "a b", "%2e%2e"] {
        let refused = asker.ask(Some(TENANT), Some(object)).await.unwrap_err();
        assert_eq!(refused, "the directory answered with status 404 (`Request_ResourceNotFound`)", "{object}");
    }
    for request in fake.asked() {
        let segments: Vec<&str> = request.target().split('/').collect();
        assert_eq!((segments.len(), segments[1], segments[2], segments[4]), (5, "v1.0", "users", "getMemberGroups"));
    }
}

#[tokio::test]
async fn a_token_serves_until_shortly_before_its_end_and_for_all_who_wait() {
    let fake = FakeGraph::start().await;
    let asker = Asker::new(&fake, "attribute = 'displayName'");
    let (one, two, three) = tokio::join!(asker.alice(), asker.alice(), asker.alice());
    assert!(one.is_ok() && one == two && two == three);
    assert_eq!(fake.tokens(), 1);
    asker.clock.set(NOW.plus(Duration::from_secs(3538)));
    asker.alice().await.unwrap();
    assert_eq!(fake.tokens(), 1);
    asker.clock.set(NOW.plus(Duration::from_secs(3540)));
    asker.alice().await.unwrap();
    assert_eq!(fake.tokens(), 2);
}

#[tokio::test]
async fn a_token_that_is_no_longer_taken_is_renewed_once() {
    let fake = FakeGraph::with(crate::support::graph::usual(), Mood::Forgetful).await;
    let asker = Asker::new(&fake, "");
    assert!(asker.alice().await.is_ok());
    // Another application took the first one's place; what we keep is good for nothing.
    assert!(asker.alice().await.is_ok());
    assert_eq!(fake.tokens(), 2);
    fake.set(Mood::Broken(401));
    assert_eq!(asker.alice().await.unwrap_err(), "the directory answered with status 401 (`UnknownError`)");
    assert_eq!(fake.tokens(), 3, "renewed once, not for ever");
}

#[tokio::test]
async fn a_busy_directory_is_asked_again_within_the_time() {
    let busy = |times, status, retry_after| Mood::Busy { times, status, retry_after };
    for (mood, least) in [
        (busy(1, 429, Some("1")), 1000),
        (busy(1, 429, Some("0")), 0),
        (busy(2, 503, None), 750),
        (busy(1, 502, None), 250),
        (busy(1, 504, Some("Fri, 01 Jan 2027 00:00:00 GMT")), 250),
    ] {
        let began = Instant::now();
        assert_eq!(with(mood, "").await.as_deref(), Ok("id-staff id-on-call id-engineering"));
        assert!(began.elapsed() >= Duration::from_millis(least));
    }
    // Nobody stands there for an answer that will not come in time.
    let began = Instant::now();
    let refused = with(busy(1, 429, Some("3600")), "timeout = '3s'").await.unwrap_err();
    assert_eq!(refused, "the directory asks to wait for 3600 s, longer than `overage.timeout` allows");
    assert!(began.elapsed() < Duration::from_secs(2));
    let refused = with(busy(1, 429, Some("99999999999999999999")), "").await;
    assert!(refused.is_ok(), "no number at all: {refused:?}");
    let refused = with(busy(1, 429, Some("18446744073709551615")), "").await.unwrap_err();
    assert!(refused.contains("longer than `overage.timeout` allows"), "{refused}");
    let refused = with(busy(usize::MAX, 429, Some("0")), "").await.unwrap_err();
    assert_eq!(refused, "the directory answered with status 429 (`TooManyRequests`)");
}

#[tokio::test]
async fn whatever_goes_wrong_nothing_comes_of_it() {
    const NAMES: &str = "attribute = 'displayName'";
    let table: &[(Mood, &str, &str)] = &[
        (Mood::Broken(500), "", "the directory answered with status 500 (`UnknownError`)"),
        (Mood::Broken(403), NAMES, "the directory answered with status 403 (`UnknownError`)"),
        (Mood::Broken(302), "", "the directory answered with status 302 (`UnknownError`)"),
        (Mood::NoToken(401), "", "no access token: status 401 (`invalid_client`)"),
        (Mood::Endless, NAMES, "the directory has more than 64 pages"),
        (Mood::Huge, "", "the answer is longer than 4194304 bytes"),
        (
            Mood::Slow(Duration::from_secs(5)),
            "timeout = '300ms'",
            "no answer within 300 ms, which `overage.timeout` sets",
        ),
        (Mood::Hang, "timeout = '300ms'", "no answer within 300 ms, which `overage.timeout` sets"),
        (Mood::NotJson, "", "the directory's answer is not what was asked for: expected a list of values"),
        (Mood::Says(json!({})), "", "the directory's answer is not what was asked for: expected a list of values"),
        (
            Mood::Says(json!({"value": null})),
            "",
            "the directory's answer is not what was asked for: expected a list of values",
        ),
        (Mood::Says(json!({"value": ["a", 1]})), "", "the directory's answer is not what was asked for: expected IDs"),
        (Mood::Says(json!({"value": ["a", ""]})), "", "the directory's answer is not what was asked for: expected IDs"),
        // Without `GroupMember.Read.All` a group comes with nothing but its ID.
        (
            Mood::Says(json!({"value": [{"id": "x", "displayName": null, "securityEnabled": null}]})),
            NAMES,
            "the application may not read all groups: some came without a name",
        ),
        (
            Mood::Says(json!({"value": [{"id": "x", "displayName": "X"}]})),
            NAMES,
            "the application may not read all groups: some came without a name",
        ),
    ];
    for (mood, own, expected) in table {
        assert_eq!(with(mood.clone(), own).await, Err((*expected).to_owned()), "{own}");
    }
}

/// LOG22: an empty list beside an error says nothing of the groups.
#[tokio::test]
async fn log22_an_error_beside_an_empty_list_is_a_look_up_that_failed() {
    let fake =
        FakeGraph::with(Vec::new(), Mood::Says(json!({"value": [], "error": {"code": "ServiceUnavailable"}}))).await;
    assert_eq!(
        Asker::new(&fake, "").alice().await.unwrap_err(),
        "the directory's answer is not what was asked for: it has both values and an error"
    );
}

#[tokio::test]
async fn more_values_than_a_claim_may_have_are_none() {
    let many: Vec<Group> = (0..201).map(|_| group("id", "Name", None, true)).collect();
    let fake = FakeGraph::with(many, Mood::Well).await;
    fake.set_page(50);
    for own in ["", "attribute = 'displayName'"] {
        assert_eq!(Asker::new(&fake, own).alice().await.unwrap_err(), "the directory has more than 200 values");
    }
    fake.set_groups((0..200).map(|_| group("id", "Name", None, true)).collect());
    assert_eq!(Asker::new(&fake, "").alice().await.map(|groups| groups.split(' ').count()), Ok(200));
}

/// Threat: a link that an answer (or a token) brings would carry our access token to wherever it points.
#[tokio::test]
async fn no_link_leads_to_another_place() {
    let stranger = App::start().await;
    let fake = FakeGraph::start().await;
    let asker = Asker::new(&fake, "attribute = 'displayName'");
    let host = fake.origin().replace("http://", "");
    for link in [
        format!("http://{}", stranger.address),
        format!("http://{host}@{}", stranger.address),
        format!("http://user:secret@{host}"),
        format!("https://{host}"),
        String::from("//elsewhere.example"),
        String::new(),
    ] {
        fake.set(Mood::Elsewhere(link.clone()));
        let refused = asker.alice().await.unwrap_err();
        assert_eq!(refused, "the directory's next page is at another place than `overage.endpoint`", "{link}");
    }
    assert!(stranger.received().is_empty(), "{:?}", stranger.received());
}

/// Promise 10, for a directory whose error messages quote what they were sent.
#[tokio::test]
async fn no_error_repeats_a_secret() {
    for mood in [Mood::Broken(500), Mood::NoToken(400), Mood::Broken(401), Mood::NotJson, Mood::Endless] {
        let refused = with(mood, "attribute = 'displayName'").await.unwrap_err();
        assert!(!refused.contains(TOKEN) && !refused.contains(CREDENTIAL), "{refused}");
    }
    let shown = format!("{:?}", config(&FakeGraph::start().await.table("")).unwrap().providers);
    assert!(!shown.contains(CREDENTIAL));
}

/// A key without effect is a promise broken unseen (CVE-2021-21411).
#[test]
fn every_key_of_the_table_has_an_effect() {
    let credential = |name: &str| format!("{}/fixtures/keys/{name}", env!("CARGO_MANIFEST_DIR"));
    let table = |key: &str, value: &str| {
        let file = credential("directory-credential.test-only.txt");
        let usual = [("tenant", TENANT), ("credential_file", file.as_str())];
        let lines = usual.iter().filter(|(name, _)| *name != key).map(|(name, value)| format!("{name} = '{value}'\n"));
        format!("[provider.overage]\n{}{key} = '{value}'\n", lines.collect::<String>())
    };
    let shown = |text: &str| {
        let loaded = config(text).unwrap_or_else(|faults| panic!("{faults}"));
        let overage = loaded.providers[0].overage.clone().unwrap();
        let secret = String::from_utf8_lossy(overage.credential.expose()).into_owned();
        format!("{overage:?} {secret} {:?}", loaded.providers[0].provider.overage)
    };
    let usual = shown(&table("attribute", "id"));
    assert!(usual.contains("login.microsoftonline.com"), "{usual}");
    let other = credential("README.md");
    for (key, value) in [
        ("tenant", "00000000-0c3b-4b7c-9a51-8f1f3c1f6a10"),
        ("credential_file", &other),
        ("client_id", "another"),
        ("user", "sub"),
        ("attribute", "displayName"),
        ("attribute", "onPremisesSamAccountName"),
        ("scope", "all"),
        ("timeout", "4s"),
        ("endpoint", "https://graph.microsoft.us"),
        ("token_endpoint", "https://login.example.com/token"),
    ] {
        assert_ne!(shown(&table(key, value)), usual, "{key} = {value}");
    }
    let assigned = |id: &str| table("scope", "assigned") + &format!("service_principal = '{id}'\n");
    assert_ne!(shown(&assigned(SERVICE_PRINCIPAL)), shown(&assigned(TENANT)));
    assert!(shown(&table("endpoint", "https://microsoftgraph.chinacloudapi.cn")).contains("login.chinacloudapi.cn"));
    // The look-up ends before the login does, however short that is.
    let text = format!("{}[limits]\nlogin_timeout = '1s'\n", table("attribute", "id"));
    let short = config_with(&text, "").unwrap();
    assert_eq!(short.providers[0].overage.as_ref().unwrap().timeout, Duration::from_millis(500));
}

/// The alarm of promise 4, where an operator's alerts can see it.
#[tokio::test(flavor = "multi_thread")]
async fn look_ups_are_counted_by_their_outcome() {
    let fake = FakeGraph::start().await;
    let text = format!(
        "{COMMON}{OIDC_PROVIDER}{}[provider.claims.groups]\n{}",
        fake.table(""),
        MAPPINGS.replace("PROVIDER", "oidc")
    );
    let house = House::open(&text, &folder("login").join("oidc-first-login").join("config.toml"), NOW).await;
    for (number, mood) in [Mood::Well, Mood::Well, Mood::Broken(500)].into_iter().enumerate() {
        fake.set(mood);
        let cookies = house.leave(OIDC_LEAVE.unwrap()).await;
        let request = oidc_request(&json!({
            "sub": "alice", "jti": format!("t-{number}"), "hasgroups": "true", "tid": TENANT, "oid": ALICE,
        }));
        let (_, body) = request.split_once("\n\n").unwrap();
        let headers = [("content-type", "application/x-www-form-urlencoded"), ("cookie", cookies.as_str())];
        assert_eq!(house.send("POST", "/callback", &headers, body.as_bytes()).await.status, 200);
    }
    let metrics = metrics(&house).await;
    assert!(
        metrics.contains(r#"loginsync_directory_lookups_total{provider="oidc",outcome="answered"} 2"#),
        "{metrics}"
    );
    assert!(metrics.contains(r#"loginsync_directory_lookups_total{provider="oidc",outcome="failed"} 1"#), "{metrics}");
    house.running.stop().await;
}

async fn metrics(house: &House) -> String {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let mut stream = tokio::net::TcpStream::connect(house.running.admin).await.unwrap();
    stream.write_all(b"GET /metrics HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n").await.unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).await.unwrap();
    text
}
