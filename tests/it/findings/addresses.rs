//! Addresses as apps have them: one file for every page, and the query says which page is meant.

use std::path::PathBuf;

use loginsync::cli::demo::mint::saml;
use loginsync::config::{Config, Surroundings};
use serde_json::json;

use crate::attacks::{Attack, FORM, Siege, claims, config, form, signed, with};
use crate::kit::{NOW, key, login, signed_assertion};
use crate::relying_party_saml::{logout, redirected};

/// Forms of address: php-saml and Zabbix, WordPress, Yii, two parameters.
const FORMS: [(&str, &str); 5] = [
    ("/index_sso.php?acs", "/index_sso.php?acs"),
    ("/wp-login.php?saml_acs", "/wp-login.php?saml_acs"),
    ("/index.php?r=saml/acs", "/index.php?r=saml/acs"),
    ("/index.php?r=saml%2Facs", "/index.php?r=saml/acs"),
    ("/app.php?option=saml&task=acs", "/app.php?task=acs&option=saml&lang=de"),
];

fn saml_at(address: &str) -> String {
    config("", "").replace("callback = \"/saml/acs\"", &format!("callback = \"{address}\""))
}

fn document(recipient: &str) -> String {
    let mut login = login();
    recipient.clone_into(&mut login.recipient);
    login.destination = Some(recipient.to_owned());
    signed_assertion(&login, &key("idp-rsa"))
}

fn body(recipient: &str) -> Vec<u8> {
    form(&[("SAMLResponse", &saml::field(&document(recipient))), ("RelayState", "/home")]).into_bytes()
}

#[tokio::test(flavor = "multi_thread")]
async fn log6_a_login_arrives_at_an_address_with_a_query() {
    for (configured, asked) in FORMS {
        let siege = Siege::with(&saml_at(configured)).await;
        let wrong = [
            ("no query", format!("https://app.example{}", configured.split('?').next().unwrap())),
            ("another query", format!("https://app.example{configured}&x=1")),
            ("another case", format!("https://app.example{}", configured.to_uppercase())),
        ];
        for (what, recipient) in wrong {
            let answer = siege.send(asked, FORM.1, &body(&recipient)).await;
            assert_eq!(answer.status, 403, "{configured}, {what}: {}", answer.body);
        }
        let answer = siege.send(asked, FORM.1, &body(&format!("https://app.example{configured}"))).await;
        assert_eq!(answer.status, 200, "{configured}: {}", answer.body);
        let seen = siege.house.app.seen().pop().unwrap();
        assert_eq!(seen.target, asked, "the app gets the address as it came");
        assert_eq!(seen.headers["x-loginsync-groups"], "Staff");
        assert!(siege.house.memberships().await.contains("saml/alice: groups [\"Staff\"]"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn log6_an_id_token_arrives_at_an_address_with_a_query() {
    let text = config("", "").replace("\"/callback\", \"/x/other\"", "\"/index.php?page=oidc/cb\"");
    let siege = Siege::with(&text).await;
    let body = form(&[("id_token", &signed(&claims("query"))), ("state", "state-1")]);
    let answer = siege.send("/index.php?page=oidc%2Fcb", FORM.1, body.as_bytes()).await;
    assert_eq!(answer.status, 200, "{}", answer.body);
    assert!(siege.house.memberships().await.contains("oidc/alice: groups [\"Staff\"]"));
}

/// Each of these is the address to some app, so that a login there is synced, or refused for what it is.
#[tokio::test(flavor = "multi_thread")]
async fn log6_no_spelling_of_the_query_hides_a_login() {
    let siege = Siege::with(&saml_at("/index.php?r=saml/acs")).await;
    for target in [
        "/index.php?x=1&r=saml/acs",
        "/index.php?r=site/index&r=saml/acs",
        "/index.php?r=saml/acs&r=site/index",
        "/index.php?R=SAML/ACS",
        "/index.php?r[]=saml/acs",
        "/index.php?r=saml%252Facs",
        "/index.php?r=%2Fsaml%2Facs%2F",
        "/INDEX.PHP?r=saml/acs",
        "/index.php/x?r=saml/acs",
        "/?r=saml/acs",
        "/index.php?x?r=saml/acs",
    ] {
        let groups = siege.house.happened();
        let mut login = login();
        login.recipient = "https://app.example/index.php?r=saml/acs".into();
        login.destination = Some(login.recipient.clone());
        login.assertion_id = format!("_assertion-{groups}");
        let field = saml::field(&signed_assertion(&login, &key("idp-rsa")));
        let answer = siege.send(target, FORM.1, form(&[("SAMLResponse", &field)]).as_bytes()).await;
        assert_eq!(answer.status, 200, "{target}: {}", answer.body);
        assert_eq!(siege.house.plans_after(groups).len(), 1, "{target}: not synced");
    }
}

/// At another query the same path serves the whole app, and no login gets through there however the app finds its page.
#[tokio::test(flavor = "multi_thread")]
async fn log6_any_other_query_is_an_ordinary_request_without_logins() {
    for guard in ["refuse", "pass"] {
        let text = saml_at("/index.php?r=saml/acs")
            .replace("\"/callback\", \"/x/other\"", "\"/index.php?r=oidc/cb\"")
            .replace("[headers]", &format!("[guard]\nelsewhere = \"{guard}\"\n\n[headers]"));
        let siege = Siege::with(&text).await;
        for target in ["/index.php", "/index.php?r=site/index", "/index.php?code=42&state=x", "/index.php?r=saml/acs2"]
        {
            let answer = siege.house.send("GET", target, &[], b"").await;
            assert_eq!(answer.status, 200, "{target}");
            let answer = siege.send(target, FORM.1, b"name=alice&text=hello").await;
            assert_eq!(answer.status, 200, "{target}: {}", answer.body);
            let seen = siege.house.app.seen().pop().unwrap();
            assert_eq!((seen.target.as_str(), &*seen.body), (target, &b"name=alice&text=hello"[..]));
        }
        let response = saml::field(&document("https://app.example/index.php?r=saml/acs"));
        let token = signed(&with(&json!({"jti": "beside"})));
        let page = "r=saml%2Facs";
        let mut attacks = Vec::new();
        for (what, target, form) in [
            ("a response at another page", "/index.php?r=site/index", form(&[("SAMLResponse", &response)])),
            ("the page in the form", "/index.php", format!("{page}&{}", form(&[("SAMLResponse", &response)]))),
            ("an ID token, the page in the form", "/index.php", format!("r=oidc/cb&id_token={token}&state=state-1")),
            ("a code, the page in the form", "/index.php", "r=oidc/cb&code=42&state=state-1".to_owned()),
            ("a code in the query, the page in the form", "/index.php?code=42", "r=oidc/cb".to_owned()),
            ("an artifact", "/index.php?SAMLart=42", page.to_owned()),
            ("a code, another page in the query", "/index.php?r=site/index", "r[]=OIDC/cb&code=42".to_owned()),
        ] {
            attacks.push(Attack::body(what, target, form.into_bytes(), false));
        }
        for attack in &attacks {
            siege.withstands_one(attack).await;
        }
        // The page in a cookie, which some of PHP's settings make a parameter too.
        let cookies = [("cookie", "r=oidc/cb"), ("accept", "text/html")];
        let answer = siege.house.send("POST", "/index.php", &[FORM, cookies[0]], b"code=42&state=x").await;
        assert_eq!(answer.status, 400, "{}", answer.body);
        let answer = siege.house.send("GET", "/index.php?code=42", &cookies, b"").await;
        assert!((400..=405).contains(&answer.status), "{} {}", answer.status, answer.body);
        // The same with nothing to log in with is the app's own business.
        let answer = siege.send("/index.php", FORM.1, b"r=oidc/cb&text=hello").await;
        assert_eq!(answer.status, 200, "{}", answer.body);
    }
}

#[test]
fn log6_an_address_that_cannot_be_one_is_a_fault() {
    let file = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("addresses.toml");
    let around = Surroundings { file: &file, read: &|path| std::fs::read(path), environment: &|_| None, now: NOW };
    for (address, expected) in [
        ("/index.php?", "parameters with `&` between them"),
        ("/index.php?=1", "parameters with `&` between them"),
        ("/index.php?a;b", "parameters with `&` between them"),
        ("/index.php?a?b", "parameters with `&` between them"),
        ("/index.php?acs&code=1", "a query without `code`"),
        ("/index.php?SAMLResponse", "a query without `samlresponse`"),
        ("/index.php?acs#x", "parameters with `&` between them"),
        ("index.php?acs", "a path that begins with one `/`"),
    ] {
        let faults = Config::from_text(&saml_at(address), &around).unwrap_err().to_string();
        assert!(faults.contains("provider.callback") && faults.contains(expected), "{address}: {faults}");
    }
    let twice = config("", "").replace("\"/callback\", \"/x/other\"", "\"/i.php?acs\", \"/I.php?ACS=1\"");
    let faults = Config::from_text(&twice, &around).unwrap_err().to_string();
    assert!(faults.contains("may be the same address as `/i.php?acs`"), "{faults}");
}

/// A logout's Destination is the address with its query.
#[tokio::test(flavor = "multi_thread")]
async fn log6_logouts_arrive_at_an_address_with_a_query() {
    let session = "identity = \"session\"\napp_session_cookie = \"sid\"\nlogout_paths = [\"/index.php?sls\"]\n";
    let text = format!("{session}{}", saml_at("/index.php?acs"));
    let siege = Siege::with(&text).await;
    siege.house.app.sets(302, "sid=abc; Path=/; HttpOnly");
    let answer = siege.send("/index.php?acs", FORM.1, &body("https://app.example/index.php?acs")).await;
    assert_eq!(answer.status, 302, "{}", answer.body);
    let set = answer.headers.get_all("set-cookie").iter();
    let cookies: Vec<&str> = set.map(|cookie| cookie.to_str().unwrap().split(';').next().unwrap()).collect();
    let cookies = cookies.join("; ");
    let who = async || {
        siege.house.send("GET", "/", &[("cookie", &cookies)], b"").await;
        let seen = siege.house.app.seen().pop().unwrap();
        seen.headers.get("x-loginsync-user").is_some()
    };
    assert!(who().await);
    let key = key("idp-rsa");
    for (destination, remains) in
        [("https://app.example/other.php?sls", true), ("https://app.example/index.php?sls", false)]
    {
        let id = format!("_logout-{remains}");
        let change = |text: String| text.replace("https://app.example/.loginsync/slo", destination);
        let query = redirected(&logout(&id, change, NOW), &key, None);
        siege.house.send("GET", &format!("/index.php?sls&{query}"), &[], b"").await;
        assert_eq!(who().await, remains, "{destination}");
    }
}

/// What an app needs to take where no login belongs, the operator lets pass there and nowhere else.
#[tokio::test(flavor = "multi_thread")]
async fn prx1_the_guard_lets_pass_by_path_what_an_app_needs() {
    let paths = "[[path]]\nprefix = \"/hooks\"\nelsewhere = \"pass\"\n\n[[path]]\nprefix = \"/hooks/strict\"\n\
                 elsewhere = \"refuse\"\n\n[[path]]\nprefix = \"/put\"\nmethods = [\"PUT\"]\nelsewhere = \"pass\"\n\n[headers]";
    let siege = Siege::with(&config("", "").replace("[headers]", paths)).await;
    let form = form(&[("id_token", &signed(&claims("hook"))), ("state", "state-1")]);
    let utf16 = "text/plain; charset=utf-16";
    for (method, target, kind, status) in [
        ("POST", "/hooks", FORM.1, 200),
        ("POST", "/hooks/a/b", FORM.1, 200),
        ("POST", "/hooks", utf16, 200),
        ("PUT", "/put/a", FORM.1, 200),
        ("POST", "/put/a", FORM.1, 403),
        ("PUT", "/put/a?_method=POST", FORM.1, 403),
        ("POST", "/hooks/strict", FORM.1, 403),
        ("POST", "/hooks/strict.json", FORM.1, 403),
        ("POST", "/Hooks", FORM.1, 403),
        ("POST", "/index.php/hooks", FORM.1, 403),
        ("POST", "/hooks%2f..%2fother", FORM.1, 400),
        ("POST", "/other", FORM.1, 403),
        ("POST", "/other", utf16, 415),
        // The callback stays one.
        ("POST", "/callback", utf16, 415),
    ] {
        let seen = siege.house.app.seen().len();
        let headers = [("content-type", kind), ("accept", "text/html")];
        let answer = siege.house.send(method, target, &headers, form.as_bytes()).await;
        assert_eq!(answer.status, status, "{method} {target} {kind}: {}", answer.body);
        assert_eq!(siege.house.app.seen().len() - seen, usize::from(status == 200), "{method} {target}");
        if target == "/other" {
            assert!(answer.body.contains("by the setting `elsewhere`"), "{}", answer.body);
        }
    }
}

#[tokio::test]
async fn prx1_the_log_names_the_key() {
    let log = crate::deployments::Log::listen();
    let siege = Siege::open().await;
    let form = form(&[("id_token", &signed(&claims("hook"))), ("state", "state-1")]);
    assert_eq!(siege.send("/other", FORM.1, form.as_bytes()).await.status, 403);
    let told = log.lines("WARN", "`[[path]]`, or of `[guard]`, would let it through unread");
    assert_eq!(told.len(), 1);
    let reason = told[0]["reason"].as_str().unwrap();
    assert!(reason.contains("add the address to the `callback` of the provider"), "{reason}");
}
