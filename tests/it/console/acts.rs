//! What is done in the console: shown before it is done, by those who may, and in the audit under the name of the operator.

use loginsync::config::Scope;
use serde_json::{Value, json};

use super::Desk;
use super::operate::plain;
use crate::api::{WRITER, names, short};

async fn alice(scope: Scope) -> Desk {
    let desk = Desk::open(scope).await;
    desk.office.login("1", &["staff"]).await;
    desk
}

/// Previews an act, and carries it out as the page of the preview would.
async fn done(desk: &Desk, fields: &[(&str, &str)]) -> (String, u16) {
    let before = desk.office.house.memberships().await;
    let preview = desk.post("/console/people/1/preview", fields).await;
    assert_eq!(preview.status, 200, "{}", preview.body);
    assert_eq!(desk.office.house.memberships().await, before, "a preview changes nothing");
    for (name, value) in fields {
        assert!(preview.body.contains(&format!("name=\"{name}\" value=\"{value}\"")), "{name}: {}", preview.body);
    }
    (preview.body, desk.post("/console/people/1/act", fields).await.status)
}

#[tokio::test(flavor = "multi_thread")]
async fn each_act_is_shown_with_what_it_does_and_then_done() {
    let desk = alice(Scope::Admin).await;
    desk.office.post("/api/v1/groups", json!({"name": "Extra", "roles": ["editor"]})).await;
    let (shown, status) = done(&desk, &[("act", "assign"), ("target", "group:Extra")]).await;
    assert_eq!(status, 303);
    assert!(plain(&shown).contains("gainsgroup Extra") && !shown.contains("<dt>loses"), "{shown}");
    assert_eq!(desk.office.holds().await.0, names(&["Extra", "Staff"]));
    let (shown, _) =
        done(&desk, &[("act", "deny"), ("target", "group:Staff"), ("reason", "left the team"), ("days", "7")]).await;
    assert!(plain(&shown).contains("losesgroup Staff") && !plain(&shown).contains("role editor"), "{shown}");
    assert_eq!(desk.office.holds().await.0, names(&["Extra"]));
    let (shown, _) = done(&desk, &[("act", "unassign"), ("target", "group:Extra")]).await;
    assert!(plain(&shown).contains("group Extra") && plain(&shown).contains("role editor"), "{shown}");
    done(&desk, &[("act", "undeny"), ("target", "group:Staff")]).await;
    assert_eq!(desk.office.holds().await.0, names(&["Staff"]));
    done(&desk, &[("act", "disable")]).await;
    assert!(desk.get("/console/people/1").await.contains("This person cannot log in"));
    done(&desk, &[("act", "enable")]).await;
    let events = desk.office.events("denied").await;
    assert_eq!(events[0]["by"], "`root by link` in the console", "{events:?}");
    let (_, status) = done(&desk, &[("act", "erase")]).await;
    assert_eq!((status, desk.ask("GET", "/console/people/1", &[], "").await.status), (303, 404));
}

#[tokio::test(flavor = "multi_thread")]
async fn acts_take_the_scopes_that_they_take_at_the_api() {
    let desk = alice(Scope::Read).await;
    assert!(!desk.get("/console/people/1").await.contains("Change something"));
    for target in ["/console/people/1/preview", "/console/people/1/act"] {
        let answer = desk.post(target, &[("act", "assign"), ("target", "group:Staff")]).await;
        assert_eq!((answer.status, answer.body.contains("your session does not have")), (403, true), "{}", answer.body);
    }
    assert_eq!(desk.post("/console/mappings/new", &[("act", "save"), ("definition", "{}")]).await.status, 403);
    let hold = [("provider", "oidc"), ("target", "group:Staff"), ("typed", "Staff"), ("act", "release")];
    assert_eq!(desk.post("/console/holds", &hold).await.status, 403);
    // Who writes members may not give what is privileged, nor erase.
    let writer = Desk { cookie: super::sign_in(&desk.office.house, Scope::WriteMembers).await, office: desk.office };
    for fields in [vec![("act", "assign"), ("target", "role:owner")], vec![("act", "erase")]] {
        assert_eq!(writer.post("/console/people/1/preview", &fields).await.status, 403);
        assert_eq!(writer.post("/console/people/1/act", &fields).await.status, 403);
    }
    assert_eq!(writer.office.holds().await.0, names(&["Staff"]));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_done_says_so() {
    let desk = alice(Scope::Admin).await;
    for (fields, status) in [
        (vec![("act", "deny"), ("target", "group:Staff")], 422),
        (vec![("act", "deny"), ("target", "group:Staff"), ("reason", "x"), ("days", "0")], 422),
        (vec![("act", "assign"), ("target", "Staff")], 422),
        (vec![("act", "assign"), ("target", "group:No such")], 404),
        (vec![("act", "enable")], 409),
        (vec![("act", "dance")], 422),
    ] {
        let answer = desk.post("/console/people/1/preview", &fields).await;
        assert_eq!(answer.status, status, "{fields:?}: {}", answer.body);
    }
    assert_eq!(desk.post("/console/people/77/preview", &[("act", "disable")]).await.status, 404);
}

fn definition(value: &str, group: &str) -> String {
    short(value, group)["definition"].to_string()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mapping_is_tried_saved_edited_and_removed() {
    let desk = alice(Scope::Admin).await;
    desk.office.post("/api/v1/groups", json!({"name": "Extra"})).await;
    let form = desk.get("/console/mappings/new?provider=oidc&claim=groups&value=staff&target=group%3AExtra").await;
    assert!(form.contains("&#34;add_group&#34;: &#34;Extra&#34;"), "{form}");
    let text = definition("staff", "Extra");
    let tried = desk.post("/console/mappings/new", &[("act", "try"), ("definition", &text)]).await;
    assert_eq!(tried.status, 200, "{}", tried.body);
    assert!(
        tried.body.contains("1 person, of whom 1 gain") && plain(&tried.body).contains("group Extra"),
        "{}",
        tried.body
    );
    assert!(tried.body.contains("&#34;add_group&#34;"), "what was typed stays");
    let saved = desk.post("/console/mappings/new", &[("act", "save"), ("definition", &text)]).await;
    assert_eq!(saved.status, 303, "{}", saved.body);
    assert_eq!(desk.office.login("2", &["staff"]).await.0, names(&["Extra", "Staff"]));
    let listed = desk.get("/console/mappings?q=extra").await;
    let (_, rest) = listed.split_once("<th scope=\"row\"><a href=\"/console/mappings/").expect("its row");
    let id = rest.split('"').next().unwrap().to_owned();
    let target = format!("/console/mappings/{id}");
    let page = desk.get(&target).await;
    assert!(page.contains("name=\"version\" value=\"1\""), "{page}");
    let removal = desk.post(&target, &[("act", "try-removal"), ("version", "1"), ("definition", &text)]).await;
    assert!(
        removal.body.contains("What removing it would change") && removal.body.contains("oidc/alice"),
        "{}",
        removal.body
    );
    assert_eq!(desk.office.holds().await.0, names(&["Extra", "Staff"]));
    let disabled = desk.post(&target, &[("act", "disable"), ("version", "1"), ("definition", &text)]).await;
    assert_eq!((disabled.status, desk.office.holds().await.0), (303, names(&["Staff"])));
    let removed = desk.post(&target, &[("act", "remove"), ("version", "2"), ("definition", &text)]).await;
    assert_eq!((removed.status, desk.ask("GET", &target, &[], "").await.status), (303, 404));
    let made = desk.office.events("mapping_created").await;
    assert_eq!(made[0]["by"], "`root by link` in the console");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_typed_comes_back_with_what_is_wrong() {
    let desk = Desk::open(Scope::Admin).await;
    for (text, says) in [
        ("{\"then\": [", "is not JSON"),
        (
            "{\"then\": [{\"add_group\": \"Stff\"}], \"when\": [{\"claim\": \"groups\", \"is\": \"x\"}]}",
            "then[0].add_group",
        ),
        (
            "{\"then\": [{\"add_group\": \"Staff\"}], \"when\": [{\"claim\": \"groups\", \"regex\": \"(\"}]}",
            "when[0].regex",
        ),
    ] {
        for act in ["try", "save"] {
            let answer = desk.post("/console/mappings/new", &[("act", act), ("definition", text)]).await;
            assert_eq!(answer.status, 422, "{}", answer.body);
            let typed = text.replace('&', "&#38;").replace('"', "&#34;");
            assert!(answer.body.contains(says) && answer.body.contains(&typed), "{act} {text}: {}", answer.body);
        }
    }
    let file =
        desk.office.get("/api/v1/mappings?origin=file&limit=1").await["items"][0]["id"].as_str().unwrap().to_owned();
    let page = desk.get(&format!("/console/mappings/{file}")).await;
    assert!(page.contains("read-only here") && !page.contains("<textarea"), "{page}");
    let answer = desk.post(&format!("/console/mappings/{file}"), &[("act", "remove"), ("version", "1")]).await;
    assert_eq!(answer.status, 409, "{}", answer.body);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_second_of_two_editors_sees_what_the_first_has_made() {
    let desk = Desk::open(Scope::Admin).await;
    let made = desk.office.post("/api/v1/mappings", short("one", "Staff")).await;
    let target = format!("/console/mappings/{}", made["id"].as_str().unwrap());
    let api = format!("/api/v1/mappings/{}", made["id"].as_str().unwrap());
    let (status, ..) =
        desk.office.call(WRITER, "PUT", &api, &[("if-match", "\"1\"")], Some(short("two", "Staff"))).await;
    assert_eq!(status, 200);
    let mine = definition("three", "Staff");
    let answer = desk.post(&target, &[("act", "save"), ("version", "1"), ("definition", &mine)]).await;
    assert_eq!(answer.status, 412, "{}", answer.body);
    for line in ["&#34;is&#34;: &#34;two&#34;</del>", "&#34;is&#34;: &#34;three&#34;</ins>"] {
        assert!(answer.body.contains(line), "{line}: {}", answer.body);
    }
    assert!(answer.body.contains("name=\"version\" value=\"2\""), "saving again is meant: {}", answer.body);
    assert_eq!(desk.post(&target, &[("act", "save"), ("version", "2"), ("definition", &mine)]).await.status, 303);
    let is: Value = desk.office.get(&api).await["definition"]["when"][0]["is"].clone();
    assert_eq!(is, "three");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_brake_takes_a_step_of_its_own_and_holds_need_the_name() {
    let desk = Desk::with(Scope::Admin, "[brake]\nminimum = 0\nshare = \"0%\"\n").await;
    desk.office.post("/api/v1/groups", json!({"name": "Extra"})).await;
    let made = desk.office.post("/api/v1/mappings", short("staff", "Extra")).await;
    for who in ["alice", "bob", "carol"] {
        log_in(&desk, who, 0, &["staff"]).await;
    }
    // A login that loses it past the limit is held, and named.
    log_in(&desk, "alice", 1, &[]).await;
    let held = desk.get("/console/holds").await;
    assert!(held.contains("Type <bdi>Extra</bdi>") && held.contains("oidc/alice"), "{held}");
    let fields = |typed| [("provider", "oidc"), ("target", "group:Extra"), ("act", "release"), ("typed", typed)];
    let wrong = desk.post("/console/holds", &fields("extra")).await;
    assert_eq!((wrong.status, wrong.body.contains("Nothing was changed")), (422, true));
    assert!(desk.get("/console/holds").await.contains("oidc/alice"));
    assert_eq!(desk.post("/console/holds", &fields("Extra")).await.status, 303);
    assert!(!desk.get("/console/holds").await.contains("Extra"));
    let members = || async { desk.get("/console/groups/group?name=Extra").await.matches("/console/people/").count() };
    assert_eq!(members().await, 2);
    // So is a change of the rules, until it is confirmed.
    let target = format!("/console/mappings/{}", made["id"].as_str().unwrap());
    let text = definition("staff", "Extra");
    let answer = desk.post(&target, &[("act", "remove"), ("version", "1"), ("definition", &text)]).await;
    assert_eq!((answer.status, members().await), (409, 2), "{}", answer.body);
    assert!(answer.body.contains("too much at once") && answer.body.contains("remove-confirmed"), "{}", answer.body);
    let answer = desk.post(&target, &[("act", "remove-confirmed"), ("version", "1"), ("definition", &text)]).await;
    assert_eq!((answer.status, members().await), (303, 0), "{}", answer.body);
}

async fn log_in(desk: &Desk, who: &str, at: usize, groups: &[&str]) {
    use crate::attacks::{FORM, LEAVE, claims, form, signed};
    let house = &desk.office.house;
    house.clock.set(loginsync::pipeline::ids::Timestamp(crate::kit::NOW.0 + i64::try_from(at).unwrap() * 1000));
    let cookies = house.leave(LEAVE).await;
    let mut login = claims(&format!("{who}-{at}"));
    (login["sub"], login["groups"]) = (json!(who), json!(groups));
    login["iat"] = json!(crate::kit::NOW.seconds() + i64::try_from(at).unwrap());
    let body = form(&[("id_token", &signed(&login)), ("state", "state-1")]);
    let headers = [("cookie", cookies.as_str()), ("content-type", FORM.1)];
    assert_eq!(house.send("POST", "/callback", &headers, body.as_bytes()).await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn groups_and_roles_show_their_marks_and_members() {
    let desk = alice(Scope::Read).await;
    let page = desk.get("/console/groups").await;
    assert!(page.contains("Staff") && page.contains("privileged") && page.contains("owner"), "{page}");
    let page = desk.get("/console/groups/group?name=Staff").await;
    assert!(page.contains("1 member") && page.contains("by a mapping") && page.contains("oidc/alice"), "{page}");
    let page = desk.get("/console/groups/role?name=editor").await;
    assert!(page.contains("carried by <bdi>Staff</bdi>"), "{page}");
    assert_eq!(desk.ask("GET", "/console/groups/group?name=None", &[], "").await.status, 404);
}
