//! `loginsync lint`: each kind of finding, and what is not one.

use super::{Desk, Said, run};

const HEAD: &str = r#"
public_url = "https://app.example.com"

[app]
url = "http://127.0.0.1:3000"

[[provider]]
name = "oidc"
mode = "oidc-form-post"
issuer = "https://idp.example.com"
client_id = "the-app"
callback = "/callback"
stages = ["production"]

[provider.claims.groups]
delimiter = ";"

[provider.claims.paths]
strip_prefix = "/"

[provider.claims.names]
dn = "first_rdn"

[provider.claims.ids]

[[role]]
name = "editor"

[[role]]
name = "admin"
protected = true

[[group]]
name = "Staff"
roles = ["editor"]

[[group]]
name = "Administrators"
roles = ["admin"]

[[mapping]]
name = "staff"
provider = "oidc"
claim = "groups"
value = "staff"
group = "Staff"

[[mapping]]
name = "administrators"
provider = "oidc"
claim = "groups"
value = "admins"
group = "Administrators"
"#;

fn lint(more: &str) -> Said {
    let desk = Desk::new();
    let config = desk.file("config.toml", &format!("{HEAD}{more}"));
    run(&["lint", "--config", &config])
}

/// A mapping of the long form that gives the role `editor`.
fn long(when: &str) -> String {
    format!("[[mapping]]\nname = \"m\"\nprovider = \"oidc\"\nwhen = [{when}]\nrole = \"editor\"\n")
}

#[test]
fn nothing_is_said_of_what_is_in_order() {
    let said = lint("");
    assert_eq!((said.code, said.out.as_str()), (0, "nothing suspicious\n"), "{}", said.err);
    let fine = [
        // Two values may meet two positive conditions.
        r#"{ claim = "ids", is = "a" }, { claim = "ids", is = "b" }"#,
        r#"{ claim = "ids", contains = "a" }, { claim = "ids", is_not = "a" }"#,
        r#"{ claim = "ids", is = "a", ignore_case = true }, { claim = "ids", is_not = "a" }"#,
        r#"{ last_login = { greater_than = 5 } }, { last_login = { less_than = 7 } }"#,
        r#"{ claim = "ids", regex = '^team-[a-z]+$' }"#,
        r#"{ claim = "ids", glob = "team;*" }"#,
    ];
    for when in fine {
        let said = lint(&long(when));
        assert_eq!(said.code, 0, "{when}: {}{}", said.out, said.err);
    }
}

#[test]
fn conditions_that_exclude_each_other_never_match() {
    let never = [
        r#"{ claim = "ids", is = "a" }, { claim = "ids", is_not = "a" }"#,
        r#"{ claim = "ids", is = "a" }, { claim = "ids", is_not = "A", ignore_case = true }"#,
        r#"{ claim = "ids", is = "team-a" }, { claim = "ids", not_contains = "team" }"#,
        r#"{ claim = "ids", begins_with = "team-" }, { claim = "ids", not_contains = "team" }"#,
        r#"{ claim = "ids", absent = true }, { claim = "ids", glob = "*" }"#,
        r#"{ claim = "ids", present = true }, { claim = "ids", absent = true }"#,
        r#"{ has_role = "admin" }, { lacks_role = "admin" }"#,
        r#"{ last_login = { greater_than = 5 } }, { last_login = { less_than = 6 } }"#,
    ];
    for when in never {
        let said = lint(&long(when));
        assert_eq!(said.code, 3, "{when}: {}{}", said.out, said.err);
        assert!(said.out.starts_with("never matches: mapping `m`: `"), "{when}: {}", said.out);
        assert!(said.out.contains("exclude each other"), "{when}: {}", said.out);
    }
    let any = long(never[0]).replace("provider = \"oidc\"", "provider = \"oidc\"\nmatch = \"any\"");
    assert_eq!(lint(&any).code, 0, "one of them is enough");
}

#[test]
fn every_other_finding_has_its_line() {
    let short = |claim: &str, value: &str| {
        format!(
            "[[mapping]]\nname = \"m\"\nprovider = \"oidc\"\nclaim = \"{claim}\"\nvalue = \"{value}\"\nrole = \"editor\"\n"
        )
    };
    let until = long(r#"{ claim = "ids", is = "a" }"#) + "until = 2020-01-01T00:00:00Z\n";
    let stage = "[[group]]\nname = \"Test\"\nstages = [\"test\"]\n\n[[mapping]]\nname = \"m\"\nprovider = \"oidc\"\nclaim = \"ids\"\nvalue = \"a\"\ngroup = \"Test\"\n";
    let capture = "[[mapping]]\nname = \"m\"\nprovider = \"oidc\"\nwhen = [{ claim = \"ids\", regex = '^(?<x>.+)$' }]\nthen = [{ add_group = \"Team ${x}\" }]\nallow = { x = \"any\" }\n";
    let guids = short("ids", "a").replace("\"m\"", "\"n\"") + &short("ids", "2f1c7d0a-51f2-4a5e-8a46-8b6f8c3b7a11");
    let spellings = short("ids", "a").replace("\"m\"", "\"n\"") + &short("ids", "A");
    let twice = short("groups", "staff").replace("role = \"editor\"", "group = \"Staff\"");
    let wide =
        long(r#"{ claim = "groups", begins_with = "adm" }"#).replace("role = \"editor\"", "group = \"Administrators\"");
    let narrow = long(r#"{ claim = "groups", is = "staff" }, { claim = "ids", is = "a" }"#)
        .replace("role = \"editor\"", "group = \"Staff\"");
    let gate =
        long(r#"{ claim = "ids", is = "a" }"#) + "enabled = false\n\n[[gate]]\nname = \"g\"\nrequire = [\"m\"]\n";
    let cases = [
        (
            short("groups", " a"),
            "never matches: mapping `m`: ` a` has white space at an end, which splitting takes away",
        ),
        (short("paths", "/a"), "never matches: mapping `m`: `/a` begins with `/`, which the claim loses"),
        (
            short("names", "CN=a,OU=b"),
            "never matches: mapping `m`: `CN=a,OU=b` is a distinguished name, and the claim is reduced to its first part",
        ),
        (until, "never matches: mapping `m`: it ended 2020-01-01T00:00:00.000Z"),
        (stage.to_owned(), "never matches: mapping `m`: its provider and what it gives share no stage"),
        (gate, "never matches: gate `g`: mapping `m` takes no part"),
        (twice, "shadowed: mapping `m`: `staff` gives the same to all that it holds for"),
        (narrow, "shadowed: mapping `m`: `staff` gives the same to all that it holds for"),
        (wide.clone(), "shadowed: mapping `administrators`: `m` gives the same to all that it holds for"),
        (spellings, "differs by case only: mapping `m`: `A` is `a` of `n`, case aside"),
        (
            guids,
            "guid among names: mapping `m`: `2f1c7d0a-51f2-4a5e-8a46-8b6f8c3b7a11` is a GUID, and other values of claim `ids` are names",
        ),
        (
            long(r#"{ claim = "groups", glob = "a;*" }"#),
            "delimiter in a pattern: mapping `m`: `a;*` holds `;`, by which values are split",
        ),
        (
            wide,
            "privileged behind a pattern: mapping `m`: group `Administrators` carries the protected role `admin`, and is given by more than an exact match",
        ),
        (capture.to_owned(), "no such target: mapping `m`: no declared name looks like `Team ${x}`"),
        (
            long(r#"{ claim = "ids", regex = "team" }"#),
            "unanchored: mapping `m`: `team` is found anywhere in a value; expected `^…$`",
        ),
        (
            long(r#"{ claim = "ids", regex = "^a|b$" }"#),
            "unanchored: mapping `m`: `^a|b$` has alternatives that its `^` and `$` do not both hold; expected `^(…|…)$`",
        ),
        ("[[group]]\nname = \"Nobody\"\n".to_owned(), "never given: group `Nobody`: no mapping gives it"),
        (
            "[[role]]\nname = \"nothing\"\n".to_owned(),
            "never given: role `nothing`: no mapping gives it, nor a group that one gives",
        ),
    ];
    for (text, expected) in cases {
        let said = lint(&text);
        assert_eq!(said.code, 3, "{expected}: {}{}", said.out, said.err);
        assert!(said.out.lines().any(|line| line == expected), "{expected}\nin {}", said.out);
    }
}

#[test]
fn findings_have_a_form_for_programs_and_a_fault_is_none() {
    let desk = Desk::new();
    let config = desk.file("config.toml", &format!("{HEAD}[[group]]\nname = \"Nobody\"\n"));
    let said = run(&["lint", "--config", &config, "--json"]);
    assert_eq!(
        said.json(),
        serde_json::json!([{"lint": "never_given", "about": "group `Nobody`", "message": "no mapping gives it"}])
    );
    let undeclared = lint(&long(r#"{ claim = "ids", is = "a" }"#).replace("role = \"editor\"", "role = \"edtior\""));
    assert_eq!(undeclared.code, 1);
    assert!(undeclared.err.contains("no role `edtior`") || undeclared.err.contains("`edtior`"), "{}", undeclared.err);
}

/// The configuration that we ship says nothing suspicious.
#[test]
fn the_example_is_clean_but_for_what_it_shows() {
    let example = format!("{}/config/minimal.toml", env!("CARGO_MANIFEST_DIR"));
    let said = run(&["lint", "--config", &example]);
    assert_eq!(said.code, 0, "{said:?}");
}

#[test]
fn one_issuer_in_two_namespaces_is_told() {
    let desk = Desk::new();
    let text = |second: &str| {
        format!(
            "public_url = \"https://app.example\"\n[app]\nurl = \"http://127.0.0.1:1\"\n\
             [[provider]]\nname = \"web\"\nmode = \"oidc-form-post\"\nissuer = \"https://id.example.com\"\nclient_id = \"app\"\n\
             callback = \"/callback\"\n\
             [[provider]]\nname = \"api\"\nmode = \"bearer\"\nissuer = \"https://id.example.com\"\naudience = \"app\"\n\
             header = \"authorization\"\n{second}\n"
        )
    };
    let said = run(&["lint", "--config", &desk.file("two.toml", &text(""))]);
    assert_eq!(said.code, 3, "{said:?}");
    assert!(said.out.contains("one issuer, two namespaces: provider `web`, namespace `web`: "), "{}", said.out);
    assert!(said.out.contains("namespace `api`"), "{}", said.out);
    let said = run(&["lint", "--config", &desk.file("one.toml", &text("namespace = \"web\""))]);
    assert!(!said.out.contains("namespaces"), "{}", said.out);
}

#[test]
fn further_addresses_of_a_saml_library_are_told() {
    let desk = Desk::new();
    let certificate = concat!(env!("CARGO_MANIFEST_DIR"), "/fixtures/keys/idp-rsa.certificate.test-only.pem");
    let text = |callback: &str| {
        format!(
            "public_url = \"https://app.example\"\n[app]\nurl = \"http://127.0.0.1:1\"\n\
             [[provider]]\nname = \"saml\"\nmode = \"saml-post\"\nissuer = \"https://id.example.com\"\naudience = \"app\"\n\
             sso_url = \"https://id.example.com/sso\"\ncertificate_files = [\"{certificate}\"]\ncallback = {callback}\n"
        )
    };
    for (number, (callback, expected)) in [
        (
            "\"/mellon/postResponse\"",
            "mod_auth_mellon also takes logins at `/mellon/artifactResponse`, `/mellon/paosResponse`",
        ),
        ("[\"/a/postresponse\", \"/a/paosResponse\"]", "also takes logins at `/a/artifactResponse`, which"),
        ("[\"/m/postResponse\", \"/m/artifactResponse\", \"/m/paosResponse\"]", ""),
        ("\"/Shibboleth.sso/SAML2/POST\"", "`/Shibboleth.sso/SAML2/Artifact`, `/Shibboleth.sso/SAML2/ECP`"),
        ("\"/saml/acs\"", ""),
    ]
    .into_iter()
    .enumerate()
    {
        let said = run(&["lint", "--config", &desk.file(&format!("{number}.toml"), &text(callback))]);
        let told = said.out.contains("further endpoints: provider `saml`");
        assert_eq!(told, !expected.is_empty(), "{callback}: {said:?}");
        assert!(said.out.contains(expected), "{callback}: {}", said.out);
        // The web server answers there, and not the app.
        let answers = said.out.contains("answered by a library: provider `saml`, callback");
        assert_eq!(answers, !callback.contains("/saml/acs"), "{callback}: {}", said.out);
        let bound =
            text(callback).replacen('\n', "\nidentity = \"session\"\napp_session_cookie = \"mellon-cookie\"\n", 1);
        let said = run(&["lint", "--config", &desk.file(&format!("{number}-bound.toml"), &bound)]);
        assert!(!said.out.contains("answered by a library"), "{callback}: {}", said.out);
    }
}

/// What is suspicious in receivers, and what is not.
#[test]
fn receivers_are_looked_at() {
    let hook = |more: &str| format!("[[webhook]]\nname = \"app\"\nurl = \"https://app.example.com/hook\"\n{more}\n");
    let scim = |more: &str| {
        format!(
            "[[scim]]\nname = \"wiki\"\nurl = \"https://wiki.example.com/scim/v2\"\ntoken_file = \"token\"\n{more}\n"
        )
    };
    let second = |name: &str, more: &str| hook(more).replace("name = \"app\"", &format!("name = \"{name}\""));
    let waits = "deliver = \"before-entry\"";
    let long = "[limits]\nlogin_timeout = \"60s\"\n";
    let said = |more: &str| {
        let desk = Desk::new();
        desk.file("token", "a-token-for-tests");
        run(&["lint", "--config", &desk.file("config.toml", &format!("{HEAD}{more}"))])
    };
    for (more, expected) in [
        (hook("") + &second("other", ""), "told twice: receiver `other`: it has the `url` of receiver `app`"),
        (
            scim("groups = [\"Staff\"]")
                + &scim("groups = [\"Administrators\"]").replace("name = \"wiki\"", "name = \"w2\""),
            "told twice: receiver `w2`",
        ),
        (hook("groups = [\"Stuff\"]"), "no such target: receiver `app`: its `groups` name `Stuff`"),
        (hook("roles = [\"edtior\"]"), "no such target: receiver `app`: its `roles` name `edtior`"),
        (
            long.to_owned() + &hook(&format!("{waits}\nentry_timeout = \"20s\"")),
            "long wait: receiver `app`: `entry_timeout` is 20 s",
        ),
        (hook(&format!("{waits}\nevents = [\"user.disabled\"]")), "waits for nothing: receiver `app`"),
        (hook(&format!("{waits}\ngroups = []\nroles = []")), "its `groups` and `roles` are empty"),
        (scim("groups = \"all\"\nauthoritative = true"), "owns every group: receiver `wiki`"),
        (scim("groups = [\"Staff\"]\nuser_name = \"name\"\nusers = \"match\""), "takes over the user of that name"),
    ] {
        let said = said(&more);
        assert_eq!(said.code, 3, "{more}: {said:?}");
        assert!(said.out.contains(expected), "{expected}: {}", said.out);
    }
    for fine in [
        hook("groups = [\"Staff\"]") + &second("other", "groups = [\"Administrators\"]"),
        hook(&format!("{waits}\nevents = [\"user.memberships.changed\"]\ngroups = [\"Staff\"]")),
        hook("events = [\"user.disabled\"]\ngroups = []\nroles = []"),
        scim("groups = [\"Staff\"]\nauthoritative = true\nuser_name = \"email\"") + &hook(""),
        scim("groups = \"all\""),
    ] {
        let said = said(&fine);
        assert_eq!((said.code, said.out.as_str()), (0, "nothing suspicious\n"), "{fine}: {}", said.err);
    }
}
