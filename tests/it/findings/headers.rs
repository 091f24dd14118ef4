//! Identity headers when the last group is gone.

use std::path::Path;

use http::HeaderMap;
use loginsync::config::{Config, Surroundings};
use serde_json::json;

use crate::api::{Office, WRITER, configuration};
use crate::attacks::{FORM, LEAVE, claims, form, signed};
use crate::kit::NOW;
use crate::relying_party::{Scene, Setting};
use crate::seeing::{Desk, Said, run};

const PLAIN: Setting = Setting { base: "", top: "", listen: "", session: "", provider: "", more: "" };

/// A header as the app gets it: "" where it is not there, since an app may take that for no change.
fn value<'h>(headers: &'h HeaderMap, name: &str) -> &'h str {
    let mut values = headers.get_all(name).iter();
    let first = values.next().map(|value| value.to_str().unwrap()).unwrap_or_default();
    assert!(values.next().is_none(), "{name} is there twice");
    first
}

/// What each preset sends of a person in two groups, in one, and in none.
#[tokio::test]
async fn sec18_the_app_hears_that_the_last_group_is_gone() {
    // Roles of the names that Grafana and Open WebUI know, which differ by case.
    let roles = |chief: &str, member: &str| {
        format!(
            "[[role]]\nname = \"{chief}\"\n[[role]]\nname = \"{member}\"\n\
             [[mapping]]\nprovider = \"idp\"\nclaim = \"groups\"\nvalue = \"board\"\nrole = \"{chief}\"\n\
             [[mapping]]\nprovider = \"idp\"\nclaim = \"groups\"\nvalue = \"staff\"\nrole = \"{member}\"\n"
        )
    };
    // The settings; the header; with staff and board, with staff, with none.
    let cases = [
        ("preset = \"loginsync\"", "x-loginsync-groups", "Board,Staff", "Staff", ""),
        ("no_groups = \"none\"", "x-loginsync-groups", "Board,Staff", "Staff", "none"),
        ("no_groups = \"none\"", "x-loginsync-roles", "Admin,Viewer,editor", "Viewer,editor", "none"),
        ("no_groups = \"none\"\ndelimiter = \"|\"", "x-loginsync-groups", "Board|Staff", "Staff", "none"),
        ("preset = \"authelia\"", "remote-groups", "Board,Staff", "Staff", ""),
        ("preset = \"authelia\"\nno_groups = \"-\"", "remote-groups", "Board,Staff", "Staff", "-"),
        ("preset = \"oauth2-proxy\"\nno_groups = \"-\"", "x-forwarded-groups", "Board,Staff", "Staff", "-"),
        ("preset = \"octoprint\"", "remote-groups", "Board,Staff", "Staff", "-"),
        ("preset = \"octoprint\"\nno_groups = \"nobody\"", "remote-groups", "Board,Staff", "Staff", "nobody"),
        ("preset = \"open-webui\"", "x-forwarded-groups", "Board,Staff", "Staff", "-"),
        ("preset = \"open-webui\"", "x-forwarded-role", "admin", "user", "pending"),
        ("preset = \"grafana\"", "x-webauth-groups", "Board,Staff", "Staff", "-"),
        ("preset = \"grafana\"", "x-webauth-role", "Admin", "Viewer", "None"),
        ("preset = \"jenkins\"", "x-forwarded-groups", "Board|Staff", "Staff", ""),
        ("preset = \"jenkins\"\ndelimiter = \",\"", "x-forwarded-groups", "Board,Staff", "Staff", ""),
        ("preset = \"netbox\"", "remote-user-group", "Board|Staff", "Staff", ""),
        ("preset = \"cloudbeaver\"", "x-team", "Board|Staff", "Staff", "user"),
    ];
    for (headers, name, both, one, none) in cases {
        let (chief, member) = if headers.contains("open-webui") { ("admin", "user") } else { ("Admin", "Viewer") };
        let more = format!("{}\n[headers]\n{headers}\n", roles(chief, member)).leak();
        let scene = Scene::open(Setting { more, ..PLAIN }).await;
        let mut browser = scene.browser();
        for (groups, expected) in [(&["staff", "board"][..], both), (&["staff"], one), (&[], none)] {
            assert_eq!(browser.log_in(|claims| claims["groups"] = json!(groups)).await.status, 303, "{headers}");
            let heard = browser.heard("/page").await.unwrap();
            assert_eq!(value(&heard, name), expected, "{headers}: {name} with {groups:?}");
            assert_eq!(heard.contains_key(name), !expected.is_empty(), "{headers}: {name} with {groups:?}");
            browser.cookies.clear();
            scene.later(1);
        }
    }
}

/// The login that an app without our sessions hears of, and a group whose name the headers cannot carry: the store has it from
/// before.
#[tokio::test(flavor = "multi_thread")]
async fn sec18_a_login_tells_the_app_of_none() {
    let office = Office::open().await;
    for (name, claim) in [("-", "dash"), ("a|b", "bar"), ("Kept", "kept")] {
        office.post("/api/v1/groups", json!({ "name": name })).await;
        office.post("/api/v1/mappings", crate::api::short(claim, name)).await;
    }
    let app = office.get("/api/v1/providers/oidc").await["key"].as_str().unwrap().to_owned();
    let kept = office.get("/api/v1/groups/Kept").await["key"].as_str().unwrap().to_owned();
    office.post(&format!("/v1/idp-group-mappings/{app}/groups/{kept}"), json!({ "alias": "x|y" })).await;
    let told = async |jti: &str, groups: &[&str]| {
        let cookies = office.house.leave(LEAVE).await;
        let mut login = claims(jti);
        login["groups"] = json!(groups);
        let body = form(&[("id_token", &signed(&login)), ("state", "state-1")]);
        let headers = [("cookie", cookies.as_str()), ("content-type", FORM.1)];
        assert_eq!(office.house.send("POST", "/callback", &headers, body.as_bytes()).await.status, 200);
        office.house.app.seen().last().unwrap().headers.clone()
    };
    assert_eq!(value(&told("1", &["dash", "bar", "kept"]).await, "x-loginsync-groups"), "-,x|y,a|b");

    let text = configuration("").replace("http://127.0.0.1:1\"", &format!("{}\"", office.house.app_url));
    let text = text.replace("preset = \"loginsync\"", "preset = \"octoprint\"\ndelimiter = \"|\"");
    let text = text.replace("\"fixtures/", &format!("\"{}/fixtures/", env!("CARGO_MANIFEST_DIR")));
    std::fs::write(office.house.folder.path().join("unwatched.toml"), text).unwrap();
    office.house.running.reload().await;
    assert_eq!(value(&told("2", &["staff", "dash", "bar", "kept"]).await, "remote-groups"), "Staff");
    assert_eq!(value(&told("3", &["dash", "bar", "kept"]).await, "remote-groups"), "-");
    assert_eq!(value(&told("4", &[]).await, "remote-groups"), "-");

    // From now on no such name can be made, for a role or an alias either.
    let tries = [
        ("/api/v1/groups", json!({ "name": "c|d" }), "name", "holds `|`, which separates names in the headers"),
        ("/api/v1/roles", json!({ "name": "c|d" }), "name", "holds `|`, which separates names in the headers"),
        ("/v1/idp-group-mappings", json!({ "alias": "c|d" }), "alias", "holds `|`"),
    ];
    for (target, body, field, why) in tries {
        let target = if field == "alias" { format!("{target}/{app}/groups/{kept}") } else { target.to_owned() };
        let (status, _, answer) = office.call(WRITER, "POST", &target, &[], Some(body)).await;
        // Opal's dialect answers 400 to what ours answers 422.
        assert_eq!(status, if field == "alias" { 400 } else { 422 }, "{target}: {}", answer.body);
        assert!(answer.body.contains(field) && answer.body.contains(why), "{target}: {}", answer.body);
    }
    for body in [json!({ "alias": "-" }), json!({ "alias": "a,b" })] {
        let target = format!("/v1/idp-group-mappings/{app}/groups/{kept}");
        let status = office.call(WRITER, "POST", &target, &[], Some(body.clone())).await.0;
        assert_eq!(status, if body["alias"] == "-" { 400 } else { 200 }, "{body}");
    }
}

/// A gateway copies what it hears, and drops a header without a value.
#[tokio::test]
async fn sec18_a_gateway_hears_that_the_last_group_is_gone() {
    let more = "[forward_auth]\ngateway = \"caddy\"\n[headers]\npreset = \"octoprint\"\n[assertion]\n";
    let scene = Scene::open(Setting { listen: "trusted_proxies = [\"127.0.0.1\"]", more, ..PLAIN }).await;
    let mut browser = scene.browser();
    for (groups, expected) in [(&["staff"][..], "Staff"), (&[], "-")] {
        browser.log_in(|claims| claims["groups"] = json!(groups)).await;
        let asks = [("x-forwarded-uri", "/page"), ("accept", "text/html")];
        let answer = browser.send("GET", "/.loginsync/auth", &asks, b"").await;
        assert_eq!((answer.status, value(&answer.headers, "remote-groups")), (200, expected));
        browser.cookies.clear();
        scene.later(1);
    }
}

/// Where a missing header means "no change", an identity that is told in part would leave what was revoked.
#[tokio::test]
async fn sec18_more_groups_than_fit_are_refused_where_missing_means_keep() {
    let many: String = (0..8).map(|n| group(&format!("A group with a rather long name {n}"), &n.to_string())).collect();
    let all: Vec<String> = (0..8).map(|n| n.to_string()).collect();
    let gateway = "[forward_auth]\ngateway = \"caddy\"\n";
    for (headers, refused) in [("preset = \"authelia\"", false), ("preset = \"authelia\"\nno_groups = \"-\"", true)] {
        let more = format!("{many}{gateway}[headers]\nmax_bytes = 256\n{headers}\n").leak();
        let scene = Scene::open(Setting { listen: "trusted_proxies = [\"127.0.0.1\"]", more, ..PLAIN }).await;
        let mut browser = scene.browser();
        browser.log_in(|claims| claims["groups"] = json!(all)).await;
        let page = browser.get("/page").await;
        let asked = browser.send("GET", "/.loginsync/auth", &[("x-forwarded-uri", "/page")], b"").await;
        let expected = if refused { 403 } else { 200 };
        assert_eq!((page.status, asked.status), (expected, expected), "{headers}: {page:?} {asked:?}");
        assert_eq!(scene.house.app.seen().is_empty(), refused, "{headers}");
        let metrics = scene.house.fetch(&format!("http://{}/metrics", scene.house.running.admin)).await;
        assert!(metrics.contains("loginsync_headers_over_budget_total 2\n"), "{metrics}");
        assert_eq!(metrics.contains("loginsync_refusals_total{stage=\"headers\"} 2\n"), refused, "{metrics}");
        if refused {
            assert!(page.body.contains("You are in too many groups"), "{}", page.body);
            // With groups that fit, the same person enters.
            browser.cookies.clear();
            scene.later(1);
            browser.log_in(|claims| claims["groups"] = json!(["staff"])).await;
            assert_eq!(browser.get("/page").await.status, 200);
        }
    }
}

/// The same for the login that an app hears of at its callback, which is committed by then and cannot be used again, and for a
/// token in a header.
#[tokio::test]
async fn sec18_a_login_with_more_groups_than_fit_is_refused() {
    use crate::support::app::App;
    use crate::support::wire::post;
    let app = App::start().await;
    let headers = "max_bytes = 256\nno_groups = \"-\"";
    let setting = crate::support::Setting { headers, binding: "observe", ..crate::support::Setting::default() };
    let proxy = crate::support::Proxy::with(app.address, setting).await;
    let token = proxy.token(|claims| claims["email"] = json!("a".repeat(190)));
    let answer = post(proxy.address, "/login/callback", "", &format!("id_token={token}")).await;
    assert_eq!(answer.status, 403, "{answer:?}");
    assert!(app.received().is_empty(), "the app hears of nothing");
    assert_eq!(proxy.counters.headers_over_budget.get(), 1);
    assert_eq!(proxy.outcomes.count("not_delivered"), 1);
    let again = post(proxy.address, "/login/callback", "", &format!("id_token={token}")).await;
    assert_eq!(again.status, 409, "{again:?}");
}

fn group(name: &str, claim: &str) -> String {
    format!(
        "[[group]]\nname = \"{name}\"\n[[mapping]]\nprovider = \"idp\"\nclaim = \"groups\"\nvalue = \"{claim}\"\n\
         group = \"{name}\"\n"
    )
}

/// A name that would arrive as another, or as two.
#[test]
fn sec18_names_that_the_headers_cannot_carry_are_faults() {
    let faults = |headers: &str, kind: &str, name: &str| {
        let text = format!(
            "public_url = \"https://app.example\"\n[app]\nurl = \"http://127.0.0.1:1\"\n[headers]\n{headers}\n\
             [[provider]]\nname = \"oidc\"\nmode = \"oidc-form-post\"\nissuer = \"https://idp.example\"\n\
             client_id = \"x\"\ncallback = \"/cb\"\n[provider.claims.groups]\n[[{kind}]]\nname = \"{name}\"\n"
        );
        let file = Path::new("test.toml");
        let around = Surroundings { file, read: &|path| std::fs::read(path), environment: &|_| None, now: NOW };
        Config::from_text(&text, &around).err().map(|faults| faults.to_string()).unwrap_or_default()
    };
    let none = "is what the headers say if a user has no groups";
    let comma = "holds `,`, which separates names in the headers";
    let bar = "holds `|`, which separates names in the headers";
    for kind in ["group", "role"] {
        for (headers, name, why) in [
            ("no_groups = \"-\"", "-", none),
            ("no_groups = \"None\"", "nONE", none),
            ("preset = \"octoprint\"", "-", none),
            ("preset = \"cloudbeaver\"", "User", none),
            ("preset = \"authelia\"", "a,b", comma),
            ("preset = \"authelia\"\ndelimiter = \"|\"", "a|b", bar),
            ("preset = \"netbox\"", "a|b", bar),
            ("preset = \"grafana\"", "Domain Admins", "holds a blank, at which Grafana splits lists"),
        ] {
            let said = faults(headers, kind, name);
            let (key, named) = (format!("{kind}.name"), format!("`{name}` {why}"));
            assert!(said.contains(&key) && said.contains(&named), "{headers} {name}: {said}");
        }
        for (headers, name) in [
            ("", "-"),
            ("", "a,b"),
            ("delimiter = \"|\"", "a|b"),
            ("preset = \"none\"", "a,b"),
            ("preset = \"authelia\"", "a|b"),
            ("preset = \"authelia\"\ndelimiter = \"|\"", "a,b"),
            ("preset = \"netbox\"", "-"),
            ("preset = \"octoprint\"\nno_groups = \"none\"", "-"),
        ] {
            assert_eq!(faults(headers, kind, name), "", "{headers} {name}");
        }
    }
    for (headers, why) in [
        ("no_groups = \"\"", "found ``; expected 1 to 64 ASCII letters"),
        ("no_groups = \"a,b\"", "found `a,b`; expected 1 to 64 ASCII letters"),
        ("no_groups = \" - \"", "found ` - `; expected 1 to 64 ASCII letters"),
        ("delimiter = \";\"", "found `;`; expected `,` or `|`"),
        ("delimiter = \"\"", "found ``; expected `,` or `|`"),
        ("preset = \"octo\"", "found `octo`; expected `loginsync`, `oauth2-proxy`, `authelia`, `octoprint`"),
    ] {
        let said = faults(headers, "group", "Staff");
        assert!(said.contains(why), "{headers}: {said}");
    }
}

/// No client gets an identity past us under a name that some preset uses, whatever preset is set.
#[tokio::test]
async fn sec18_names_of_every_preset_are_removed_from_requests() {
    let names = [
        "X-Loginsync-Groups",
        "X-Forwarded-User",
        "X-Forwarded-Email",
        "X-Forwarded-Groups",
        "X-Forwarded-Role",
        "X-Forwarded-Preferred-Username",
        "X-Forwarded-Mail",
        "X-Forwarded-Displayname",
        "Remote-User",
        "Remote-Groups",
        "Remote-Email",
        "Remote-Name",
        "Remote-User-Group",
        "Remote-User-Email",
        "Remote-User-First-Name",
        "Remote-User-Last-Name",
        "X-Webauth-User",
        "X-Webauth-Email",
        "X-Webauth-Name",
        "X-Webauth-Groups",
        "X-Webauth-Role",
        "X-Webauth-Login",
        "X-User",
        "X-Team",
        "X-Role",
        "X-Role-TE",
        "X-First-name",
        "X-Last-name",
        "X-Full-name",
    ];
    for preset in ["loginsync", "cloudbeaver", "grafana", "none"] {
        let more = format!("[headers]\npreset = \"{preset}\"\n").leak();
        let setting = Setting { listen: "trusted_proxies = [\"127.0.0.1\"]", more, ..PLAIN };
        let scene = Scene::open(setting).await;
        let underscored: Vec<String> = names.iter().map(|name| name.replace('-', "_")).collect();
        let both = names.iter().copied().chain(underscored.iter().map(String::as_str));
        let forged: Vec<(&str, &str)> = both.map(|name| (name, "forged")).collect();
        let answer = scene.house.send("GET", "/public/page", &forged, b"").await;
        assert_eq!(answer.status, 200, "{preset}");
        let seen = scene.house.app.seen();
        let passed: Vec<_> = seen[0].headers.iter().filter(|(_, value)| value.as_bytes() == b"forged").collect();
        assert!(passed.is_empty(), "{preset}: {passed:?}");
    }
}

/// `lint` warns where an app of which nothing is known may be left with old groups.
#[test]
fn sec18_lint_names_presets_that_leave_the_header_out() {
    let head = "public_url = \"https://app.example\"\n[app]\nurl = \"http://127.0.0.1:1\"\n[[provider]]\nname = \"oidc\"\n\
                mode = \"MODE\"\nissuer = \"https://idp.example\"\nclient_id = \"x\"\ncallback = \"/cb\"\n\
                [provider.claims.groups]\n[[group]]\nname = \"Staff\"\n[[mapping]]\nprovider = \"oidc\"\n\
                claim = \"groups\"\nvalue = \"staff\"\ngroup = \"Staff\"\n[headers]\n";
    let lint = |mode: &str, more: &str| -> Said {
        let desk = Desk::new();
        let relay = if mode == "token-relay" { "\n[relay]\naddress = \"127.0.0.1:0\"\n" } else { "" };
        let config = desk.file("config.toml", &format!("{}{more}{relay}", head.replace("MODE", mode)));
        run(&["lint", "--config", &config])
    };
    let floor = "[[group]]\nname = \"Everyone\"\n[[mapping]]\nname = \"all\"\nprovider = \"oidc\"\nalways = true\ngroup = \"Everyone\"\n";
    for preset in ["authelia", "oauth2-proxy"] {
        let said = lint("oidc-form-post", &format!("preset = \"{preset}\"\n"));
        assert_eq!(said.code, 3, "{said:?}");
        assert!(
            said.out
                .starts_with("kept by the app: `headers.no_groups`: a person of provider `oidc` can end with no group")
                && said.out.contains(&format!("preset `{preset}`")),
            "{said:?}"
        );
        for quiet in ["no_groups = \"-\"\n", floor] {
            let said = lint("oidc-form-post", &format!("preset = \"{preset}\"\n{quiet}"));
            assert_eq!((said.code, said.out.as_str()), (0, "nothing suspicious\n"), "{quiet}: {said:?}");
        }
        assert_eq!(lint("token-relay", &format!("preset = \"{preset}\"\n")).code, 0, "{preset}");
    }
    for preset in ["loginsync", "octoprint", "open-webui", "grafana", "jenkins", "netbox", "cloudbeaver", "none"] {
        let said = lint("oidc-form-post", &format!("preset = \"{preset}\"\n"));
        assert_eq!(said.code, 0, "{preset}: {said:?}");
    }
    // An app that keeps a session of its own, whose cookies the operator lets through.
    let relying = head.replace("MODE", "relying-party").replace("callback = \"/cb\"", "client_auth = \"none\"");
    for (more, expected) in [
        ("preset = \"octoprint\"\n", ""),
        (
            "preset = \"octoprint\"\ndrop_cookies = []\n",
            "kept by the app: `headers.drop_cookies`: the app of preset `octoprint`",
        ),
        ("preset = \"grafana\"\ndrop_cookies = []\n", ""),
    ] {
        let desk = Desk::new();
        let said = run(&["lint", "--config", &desk.file("config.toml", &format!("{relying}{more}"))]);
        assert_eq!((said.code == 3, said.out.starts_with(expected)), (!expected.is_empty(), true), "{more}: {said:?}");
    }
    // A group for everyone that ends with a lease is no floor.
    let leased = format!("preset = \"authelia\"\n{floor}");
    let desk = Desk::new();
    let text = head.replace("MODE", "oidc-form-post").replace("client_id", "lease = \"1h\"\nclient_id");
    let said = run(&["lint", "--config", &desk.file("config.toml", &format!("{text}{leased}"))]);
    assert_eq!(said.code, 3, "{said:?}");
}
