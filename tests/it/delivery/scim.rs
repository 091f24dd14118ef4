//! Apps whose own users and groups follow, by SCIM.

use super::*;
use crate::seeing::Said;
use crate::support::scim::{Mood, ScimServer, TOKEN, Ways};

pub const USUAL: &str = "groups = \"all\"\ncreate_groups = true";

pub struct Apps {
    pub scene: Scene,
    pub server: ScimServer,
}

impl Apps {
    pub async fn new(clock: Clock) -> Self {
        let scene = Scene::new(clock).await;
        std::fs::write(scene.folder.path().join("scim.token"), TOKEN).unwrap();
        Self { scene, server: ScimServer::start().await }
    }

    pub fn text(&self, more: &str) -> String {
        let url = self.server.url();
        self.scene.base("\"editor\"")
            + &format!("[[scim]]\nname = \"app\"\nurl = \"{url}\"\ntoken_file = \"scim.token\"\n{more}\n")
    }

    async fn house(&self, more: &str) -> House {
        let place = Place::File(self.scene.folder.path().join("store.db"));
        self.scene.house_at(place, &self.text(more)).await
    }

    /// Runs a command beside the sidecar.
    async fn command(&self, arguments: &str) -> Said {
        let file = self.scene.file().to_str().unwrap().to_owned();
        let arguments: Vec<String> = arguments.split(' ').map(str::to_owned).chain(["--config".into(), file]).collect();
        let running =
            tokio::task::spawn_blocking(move || run(&arguments.iter().map(String::as_str).collect::<Vec<_>>()));
        running.await.unwrap()
    }

    pub async fn log_in(&self, at: &House, person: &str, groups: &[&str]) -> u16 {
        self.scene.log_in(at, person, groups).await
    }

    /// Waits until nothing of a user is unconfirmed.
    pub async fn confirmed(&self, at: &House, who: &str) {
        let began = Instant::now();
        loop {
            let standing = at.store().outbox().standing(person(who)).await.unwrap();
            if standing.receivers.iter().any(|row| row.version >= standing.version) {
                return;
            }
            assert!(began.elapsed() < Duration::from_secs(30), "{standing:?} {:#?}", self.server.asked());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Waits until a delivery has failed with a text.
    pub async fn fails(&self, at: &House, text: &str) {
        let began = Instant::now();
        loop {
            let pending = at.store().pending("app", 10).await.unwrap();
            if pending.iter().any(|it| it.fault.as_ref().is_some_and(|fault| fault.contains(text))) {
                return;
            }
            assert!(began.elapsed() < Duration::from_secs(30), "{text}: {pending:?}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_app_s_own_groups_follow_and_keep_those_of_others() {
    let apps = Apps::new(Clock::fixed(NOW)).await;
    let other = apps.server.add_user("bob", None);
    apps.server.add_group("Admins", &[&other]);
    let house = apps.house(USUAL).await;
    assert_eq!(apps.log_in(&house, "alice", &["staff", "admins"]).await, 200);
    apps.server.has("Staff", &["alice"]).await;
    apps.server.has("Admins", &["alice", "bob"]).await;
    let alice = apps.server.user("alice").unwrap();
    assert_eq!((&alice["externalId"], &alice["active"]), (&json!("idp/alice"), &json!(true)));
    assert_eq!(alice["emails"][0]["value"], "alice@example.com");
    apps.confirmed(&house, "alice").await;
    // One change asks for the user, and for the group before and after.
    let before = apps.server.asked().len();
    apps.log_in(&house, "alice", &["staff"]).await;
    apps.server.has("Admins", &["bob"]).await;
    apps.confirmed(&house, "alice").await;
    assert_eq!(apps.server.asked().len() - before, 4, "{:#?}", apps.server.asked());
    // A login that changes nothing asks for nothing; the last group goes as well.
    let before = apps.server.asked().len();
    apps.log_in(&house, "alice", &["staff"]).await;
    apps.log_in(&house, "alice", &[]).await;
    apps.server.has("Staff", &[]).await;
    apps.confirmed(&house, "alice").await;
    assert_eq!(apps.server.asked().len() - before, 4);
    assert_eq!(apps.server.count(), (2, 2));
    house.running.stop().await;
}

/// Who was in a group before stays in it, and is so known after a failure as well.
#[tokio::test(flavor = "multi_thread")]
async fn who_was_in_a_group_before_stays_in_it() {
    for (more, left) in [("", vec!["alice"]), ("authoritative = true", vec![])] {
        let apps = Apps::new(Clock::fixed(NOW)).await;
        let alice = apps.server.add_user("alice", None);
        apps.server.add_group("Staff", &[&alice]);
        let house = apps.house(&format!("groups = [\"Staff\", \"Admins\"]\nusers = \"match\"\n{more}")).await;
        apps.log_in(&house, "alice", &["staff", "admins"]).await;
        // There is no such group, so that the delivery as a whole fails.
        apps.fails(&house, "there is no group `Admins` there").await;
        apps.server.add_group("Admins", &[]);
        apps.scene.pass(10);
        apps.server.has("Admins", &["alice"]).await;
        apps.confirmed(&house, "alice").await;
        apps.log_in(&house, "alice", &[]).await;
        apps.server.has("Admins", &[]).await;
        apps.server.has("Staff", &left).await;
        apps.confirmed(&house, "alice").await;
        house.running.stop().await;
    }
}

/// The same where the first try did not come so far as to see it, and where the app has no way to switch a user off.
#[tokio::test(flavor = "multi_thread")]
async fn a_failure_makes_no_membership_ours() {
    let apps = Apps::new(Clock::fixed(NOW)).await;
    let alice = apps.server.add_user("alice", Some("idp/alice"));
    apps.server.add_group("Staff", &[&alice]);
    let house = apps.house(&format!("{USUAL}\nusers = \"create-and-deactivate\"")).await;
    apps.server.next(&[Mood::Says("503 Service Unavailable", "", "")]);
    apps.log_in(&house, "alice", &["staff", "admins"]).await;
    apps.fails(&house, "status 503").await;
    apps.scene.pass(10);
    apps.server.has("Admins", &["alice"]).await;
    apps.confirmed(&house, "alice").await;
    apps.server.with(Ways { no_active: true, ..Ways::default() });
    house.store().act(person("alice"), Act::Disable, "root".into(), NOW).await.unwrap();
    apps.fails(&house, "failed to deactivate the user").await;
    apps.server.has("Admins", &[]).await;
    apps.server.has("Staff", &["alice"]).await;
    house.running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn only_the_groups_that_are_named_are_touched() {
    let apps = Apps::new(Clock::fixed(NOW)).await;
    let house = apps.house("groups = [\"Admins\"]\ncreate_groups = true").await;
    // Who holds none of them is not made there.
    apps.log_in(&house, "bob", &["staff"]).await;
    apps.log_in(&house, "alice", &["staff", "admins"]).await;
    apps.server.has("Admins", &["alice"]).await;
    apps.confirmed(&house, "bob").await;
    assert_eq!((apps.server.count(), apps.server.members("Staff")), ((1, 1), None));
    house.running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_user_is_switched_off_where_that_was_asked_for() {
    for (users, active) in [("create", true), ("create-and-deactivate", false)] {
        let apps = Apps::new(Clock::fixed(NOW)).await;
        let house = apps.house(&format!("{USUAL}\nusers = \"{users}\"")).await;
        apps.log_in(&house, "alice", &["staff"]).await;
        apps.server.has("Staff", &["alice"]).await;
        apps.confirmed(&house, "alice").await;
        let act = async |act: Act| house.store().act(person("alice"), act, "root".into(), NOW).await.unwrap();
        act(Act::Disable).await;
        apps.server.has("Staff", &[]).await;
        apps.confirmed(&house, "alice").await;
        assert_eq!(apps.server.user("alice").unwrap()["active"], active, "{users}");
        act(Act::Enable).await;
        apps.server.has("Staff", &["alice"]).await;
        apps.confirmed(&house, "alice").await;
        assert_eq!(apps.server.user("alice").unwrap()["active"], true);
        // Who is erased loses everything there, and stays as a user.
        act(Act::Erase).await;
        apps.server.has("Staff", &[]).await;
        apps.server.until("switched off", |it| it.user("alice").unwrap()["active"] == active).await;
        assert_eq!(apps.server.count().0, 1);
        house.running.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_server_has_lost_is_made_again_at_the_next_change() {
    for again in [false, true] {
        let apps = Apps::new(Clock::fixed(NOW)).await;
        let house = apps.house(USUAL).await;
        apps.log_in(&house, "bob", &["admins"]).await;
        apps.log_in(&house, "alice", &["staff"]).await;
        apps.server.has("Staff", &["alice"]).await;
        apps.server.has("Admins", &["bob"]).await;
        apps.confirmed(&house, "alice").await;
        apps.server.lose_all(again);
        apps.log_in(&house, "alice", &["staff", "admins"]).await;
        apps.server.has("Staff", &["alice"]).await;
        apps.server.has("Admins", &["alice"]).await;
        apps.confirmed(&house, "alice").await;
        house.running.stop().await;
    }
}

/// An id that means another user now must not give them anything.
#[tokio::test(flavor = "multi_thread")]
async fn an_id_that_is_another_s_now_gives_them_nothing() {
    let apps = Apps::new(Clock::fixed(NOW)).await;
    apps.server.with(Ways { no_externals: true, ..Ways::default() });
    let house = apps.house(USUAL).await;
    apps.log_in(&house, "alice", &["staff"]).await;
    apps.server.has("Staff", &["alice"]).await;
    apps.confirmed(&house, "alice").await;
    apps.server.lose_all(true);
    apps.server.add_user("mallory", None);
    apps.server.add_group("Admins", &[]);
    apps.log_in(&house, "alice", &["staff", "admins"]).await;
    apps.fails(&house, "is another one now").await;
    assert_eq!(apps.server.members("Admins").unwrap(), Vec::<String>::new());
    house.store().resync("app", None, "root", NOW).await.unwrap();
    apps.server.has("Admins", &["alice"]).await;
    apps.server.has("Staff", &["alice"]).await;
    house.running.stop().await;
}

/// One user there is one user here.
#[tokio::test(flavor = "multi_thread")]
async fn a_user_of_another_name_space_is_not_taken_for_this_one() {
    let apps = Apps::new(Clock::fixed(NOW)).await;
    apps.server.add_user("alice", Some("other/alice"));
    let house = apps.house(USUAL).await;
    apps.log_in(&house, "alice", &["staff"]).await;
    apps.fails(&house, "another `externalId`").await;
    assert_eq!(apps.server.count(), (1, 0));
    house.running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_group_that_was_renamed_there_loses_its_members_and_gains_none() {
    let apps = Apps::new(Clock::fixed(NOW)).await;
    let house = apps.house(USUAL).await;
    apps.log_in(&house, "alice", &["staff"]).await;
    apps.log_in(&house, "bob", &["staff"]).await;
    apps.server.has("Staff", &["alice", "bob"]).await;
    apps.confirmed(&house, "alice").await;
    apps.confirmed(&house, "bob").await;
    apps.server.rename_group("Staff", "Crew");
    apps.log_in(&house, "alice", &[]).await;
    apps.server.has("Crew", &["bob"]).await;
    apps.log_in(&house, "carol", &["staff"]).await;
    apps.fails(&house, "group `Staff` is called otherwise there now").await;
    assert_eq!(apps.server.members("Crew").unwrap(), ["bob"]);
    // One that was deleted is made again.
    apps.server.delete_group("Crew");
    apps.scene.pass(10);
    apps.server.has("Staff", &["carol"]).await;
    house.running.stop().await;
}

/// The whole way of a user who may not be made there: nothing waits for them, and they follow once they are there.
#[tokio::test(flavor = "multi_thread")]
async fn who_is_not_there_and_is_not_made_enters_and_is_told_of_later() {
    let apps = Apps::new(Clock::fixed(NOW)).await;
    apps.server.add_group("Staff", &[]);
    let more = "groups = \"all\"\nusers = \"match\"\ndeliver = \"before-entry\"\nentry_timeout = \"30s\"\nwhen_unconfirmed = \"refuse\"";
    let house = apps.house(more).await;
    assert_eq!(apps.log_in(&house, "alice", &["staff"]).await, 200);
    apps.server.add_user("alice", None);
    apps.scene.pass(10);
    apps.server.has("Staff", &["alice"]).await;
    apps.confirmed(&house, "alice").await;
    house.running.stop().await;
}

/// What the app sees of a login comes after what its own list of members shows.
#[tokio::test(flavor = "multi_thread")]
async fn the_app_s_own_list_lacks_a_person_before_it_sees_their_login() {
    let apps = Apps::new(Clock::fixed(NOW)).await;
    let house = apps
        .house(&format!("{USUAL}\ndeliver = \"before-entry\"\nentry_timeout = \"30s\"\nwhen_unconfirmed = \"refuse\""))
        .await;
    let (server, seen) = (apps.server.clone(), Arc::<Mutex<Vec<Option<Vec<String>>>>>::default());
    let noted = Arc::clone(&seen);
    house.app.on_arrival(move |_| noted.lock().unwrap().push(server.members("Staff")));
    assert_eq!(apps.log_in(&house, "alice", &["staff"]).await, 200);
    assert_eq!(apps.log_in(&house, "alice", &[]).await, 200);
    assert_eq!(*seen.lock().unwrap(), [Some(vec!["alice".to_owned()]), Some(vec![])]);
    house.running.stop().await;
}

/// Whatever a server does wrong once, the change arrives, and once in effect.
#[tokio::test(flavor = "multi_thread")]
async fn whatever_a_server_does_wrong_once_the_change_arrives() {
    let moods = [
        Mood::Says("500 Internal Server Error", "", "hunter2"),
        Mood::Says("503 Service Unavailable", "retry-after: 3\r\n", ""),
        Mood::Says("429 Too Many Requests", "", ""),
        Mood::Says("400 Bad Request", "", "{\"scimType\": \"hunter2 <b>\"}"),
        Mood::Says("418 I'm a teapot", "", ""),
        Mood::Says("302 Found", "location: http://127.0.0.1:1/\r\n", ""),
        Mood::Says("200 OK", "", "<html>hunter2</html>"),
        Mood::Says("200 OK", "", "{\"Resources\": 7}"),
        Mood::Hangs,
        Mood::Closes,
        Mood::Half,
        Mood::Slow(Duration::from_millis(400)),
        Mood::DoesAndCloses,
    ];
    // At each of the requests of a first delivery, and of a change.
    let running = tokio::task::LocalSet::new();
    let mut handles = Vec::new();
    for mood in moods {
        handles.push(running.spawn_local(async move {
            let apps = Apps::new(Clock::fixed(NOW)).await;
            let house = apps.house(&format!("{USUAL}\ntimeout = \"300ms\"")).await;
            for at in 0..7 {
                let who = format!("user-{at}");
                for groups in [vec!["staff"], vec![]] {
                    let before = apps.server.asked().len();
                    // The requests before the one that goes wrong.
                    let fine = vec![Mood::Slow(Duration::ZERO); at];
                    apps.server.next(&fine);
                    apps.server.next(std::slice::from_ref(&mood));
                    apps.log_in(&house, &who, &groups).await;
                    apps.server.until("asked", |it| it.asked().len() > before).await;
                    let began = Instant::now();
                    loop {
                        let standing = house.store().outbox().standing(person(&who)).await.unwrap();
                        if standing.receivers.iter().any(|row| row.version >= standing.version) {
                            break;
                        }
                        apps.scene.pass(10);
                        assert!(began.elapsed() < Duration::from_secs(60), "{who} {:#?}", apps.server.asked());
                        tokio::time::sleep(Duration::from_millis(50)).await;
                    }
                    let members = apps.server.members("Staff").unwrap_or_default();
                    assert_eq!(members, groups.iter().map(|_| who.clone()).collect::<Vec<_>>(), "{who}");
                    assert!(apps.server.asked().len() - before < 60, "{:#?}", apps.server.asked());
                }
            }
            house.running.stop().await;
        }));
    }
    let ended = running.run_until(async {
        for handle in handles {
            handle.await.unwrap();
        }
    });
    ended.await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_takes_no_token_is_left_alone_until_it_does() {
    let apps = Apps::new(Clock::fixed(NOW)).await;
    apps.server.takes(&["another"]);
    let house = apps.house(USUAL).await;
    for number in 0..9 {
        apps.log_in(&house, &format!("user-{number}"), &["staff"]).await;
    }
    apps.fails(&house, "status 401").await;
    tokio::time::sleep(Duration::from_millis(1500)).await;
    assert!(apps.server.asked().len() <= 4, "{:?}", apps.server.asked());
    assert_eq!(house.store().receiver("app").await.unwrap().state, "fails");
    // The file's new token counts at the next try, without a reload.
    std::fs::write(apps.scene.folder.path().join("scim.token"), "another\n").unwrap();
    apps.scene.pass(61);
    apps.server.until("all are in", |it| it.members("Staff").is_some_and(|members| members.len() == 9)).await;
    house.running.stop().await;
}

/// With one space wherever there are some.
fn plain(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// As a client of an authorization server: a token that ran out, or that is taken no more, is renewed.
#[tokio::test(flavor = "multi_thread")]
async fn tokens_of_an_authorization_server_are_renewed() {
    let apps = Apps::new(Clock::fixed(NOW)).await;
    std::fs::write(apps.scene.folder.path().join("client.secret"), "client+secret\n").unwrap();
    let endpoint = apps.server.url().replace("/scim/v2", "/token");
    let client = format!(
        "token_endpoint = \"{endpoint}\"\nclient_id = \"loginsync\"\nclient_secret_file = \"client.secret\"\nscopes = [\"scim\"]"
    );
    let text = apps.text(USUAL).replace("token_file = \"scim.token\"", &client);
    let place = Place::File(apps.scene.folder.path().join("store.db"));
    let house = apps.scene.house_at(place, &text).await;
    let tokens = |apps: &Apps| apps.server.asked().iter().filter(|asked| *asked == "POST /token").count();
    apps.log_in(&house, "alice", &["staff"]).await;
    apps.server.has("Staff", &["alice"]).await;
    apps.confirmed(&house, "alice").await;
    assert_eq!(tokens(&apps), 1);
    apps.server.takes(&["none"]);
    apps.log_in(&house, "alice", &[]).await;
    apps.server.has("Staff", &[]).await;
    apps.confirmed(&house, "alice").await;
    assert_eq!(tokens(&apps), 2);
    apps.scene.pass(61);
    apps.log_in(&house, "alice", &["staff"]).await;
    apps.server.has("Staff", &["alice"]).await;
    apps.confirmed(&house, "alice").await;
    assert_eq!(tokens(&apps), 3);
    // One that issues none stops the receiver, and nothing of what it says is repeated.
    apps.scene.pass(61);
    apps.server.always(Some(Mood::Says(
        "400 Bad Request",
        "",
        "{\"error\": \"invalid_scope\", \"error_description\": \"hunter2\"}",
    )));
    apps.log_in(&house, "alice", &[]).await;
    apps.fails(&house, "no access token: status 400 (`invalid_scope`)").await;
    // Of the receiver it is noted after it was of what was sent.
    let began = Instant::now();
    while house.store().receiver("app").await.unwrap().state != "fails" {
        assert!(began.elapsed() < Duration::from_secs(30), "the receiver is not said to fail");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    apps.server.always(None);
    apps.scene.pass(61);
    apps.server.has("Staff", &[]).await;
    house.running.stop().await;
}

/// A user who is known by an address, or by another key, is the same user there afterwards.
#[tokio::test(flavor = "multi_thread")]
async fn a_user_who_is_called_otherwise_now_is_renamed_there() {
    let apps = Apps::new(Clock::fixed(NOW)).await;
    let house = apps.house(&format!("{USUAL}\nuser_name = \"email\"")).await;
    apps.log_in(&house, "alice", &["staff"]).await;
    apps.server.has("Staff", &["alice@example.com"]).await;
    apps.confirmed(&house, "alice").await;
    let keys = vec![(person("alice"), person("anna"))];
    house.store().rekey(keys, false, Some("root".into()), NOW).await.unwrap();
    apps.server
        .until("renamed", |it| it.user("alice@example.com").is_some_and(|user| user["externalId"] == "idp/anna"))
        .await;
    apps.confirmed(&house, "anna").await;
    apps.log_in(&house, "anna", &["staff", "admins"]).await;
    apps.server.has("Admins", &["anna@example.com"]).await;
    apps.server.has("Staff", &["anna@example.com"]).await;
    assert_eq!(apps.server.count().0, 1);
    house.running.stop().await;
}

/// Who was made by a delivery that failed, and is disabled meanwhile, has no access there in the end.
#[tokio::test(flavor = "multi_thread")]
async fn who_is_disabled_before_anything_was_confirmed_is_switched_off() {
    let apps = Apps::new(Clock::fixed(NOW)).await;
    apps.server.add_group("Staff", &[]);
    let house = apps.house("groups = \"all\"\nusers = \"create-and-deactivate\"").await;
    apps.log_in(&house, "alice", &["staff", "admins"]).await;
    apps.fails(&house, "there is no group `Admins`").await;
    apps.server.has("Staff", &["alice"]).await;
    house.store().act(person("alice"), Act::Disable, "root".into(), NOW).await.unwrap();
    apps.scene.pass(10);
    apps.server.has("Staff", &[]).await;
    apps.confirmed(&house, "alice").await;
    assert_eq!(apps.server.user("alice").unwrap()["active"], false);
    house.running.stop().await;
}

/// Servers that say 200 and do nothing: a failure, until a test has learned what they need.
#[tokio::test(flavor = "multi_thread")]
async fn a_test_learns_what_a_server_needs() {
    let apps = Apps::new(Clock::system()).await;
    apps.server.with(Ways {
        ignores_filter: true,
        needs_name: true,
        needs_members: true,
        patch_lies: true,
        no_externals: true,
        ..Ways::default()
    });
    for number in 0..12 {
        apps.server.add_user(&format!("other-{number}"), None);
    }
    let text = apps.text(USUAL);
    std::fs::write(apps.scene.file(), text.replacen("[app]", "[store]\npath = \"store.db\"\n[app]", 1)).unwrap();
    let house = apps.scene.house_at(Place::File(apps.scene.folder.path().join("store.db")), &text).await;
    apps.log_in(&house, "alice", &["staff"]).await;
    apps.server.has("Staff", &["alice"]).await;
    apps.log_in(&house, "alice", &[]).await;
    apps.fails(&house, "says that it has, and has not").await;
    let run = async |arguments: &str| apps.command(arguments).await;
    let said = run("delivery test app").await;
    assert_eq!(said.code, 0, "{said:?}");
    for line in [
        "filter by userName ignored",
        "externalId not kept",
        "group created yes, with a member alone",
        "member put in by PUT",
        "member taken out by PUT",
        "canary removed yes",
    ] {
        assert!(plain(&said.out).contains(line), "{line}: {}", said.out);
    }
    assert_eq!(apps.server.count(), (13, 1), "nothing of the canary is left");
    assert!(run("delivery retry app").await.out.contains("1 retried"));
    apps.server.has("Staff", &[]).await;
    // One whose members are hidden is believed.
    apps.server.with(Ways { hides_members: true, no_active: true, ..Ways::default() });
    let said = run("delivery test app").await;
    assert!(
        plain(&said.out).contains("members shown no") && plain(&said.out).contains("switched off and on no"),
        "{}",
        said.out
    );
    apps.log_in(&house, "alice", &["staff"]).await;
    apps.server.has("Staff", &["alice"]).await;
    apps.confirmed(&house, "alice").await;
    house.running.stop().await;
}

/// What `delivery resync` would do is shown first, and what others did is ours on command alone.
#[tokio::test(flavor = "multi_thread")]
async fn a_resync_shows_what_it_does_and_adopts_on_command_alone() {
    let apps = Apps::new(Clock::system()).await;
    let [alice, stranger] = ["alice", "stranger"].map(|name| apps.server.add_user(name, Some(&format!("idp/{name}"))));
    apps.server.add_group("Staff", &[&alice, &stranger]);
    let text = apps.text(USUAL);
    let with_store = |text: &str| text.replacen("[app]", "[store]\npath = \"store.db\"\n[app]", 1);
    std::fs::write(apps.scene.file(), with_store(&text)).unwrap();
    let house = apps.scene.house_at(Place::File(apps.scene.folder.path().join("store.db")), &text).await;
    let run = async |arguments: &str| apps.command(arguments).await;
    apps.log_in(&house, "alice", &["staff"]).await;
    apps.log_in(&house, "bob", &["staff", "admins"]).await;
    apps.confirmed(&house, "alice").await;
    apps.confirmed(&house, "bob").await;
    // Behind our back: one of ours is gone, and a group.
    apps.server.delete_group("Admins");
    let said = run("delivery resync app --dry-run").await;
    assert_eq!(said.code, 0, "{said:?}");
    for line in
        ["Admins: is not there", "+ idp/bob", "Staff: 3 members", "= idp/alice was put in by others", "1 others stay"]
    {
        assert!(said.out.contains(line), "{line}: {}", said.out);
    }
    assert_eq!(apps.server.members("Admins"), None, "nothing was done");
    assert_eq!(run("delivery resync app").await.code, 0);
    apps.server.has("Admins", &["bob"]).await;
    apps.confirmed(&house, "alice").await;
    assert!(run("delivery resync app --dry-run").await.out.contains("= idp/alice"));
    assert_eq!(run("delivery resync app --adopt").await.code, 0);
    apps.confirmed(&house, "alice").await;
    let said = run("delivery resync app --dry-run").await.out;
    assert!(!said.contains("= idp/alice") && !said.contains("+ "), "{said}");
    apps.log_in(&house, "alice", &[]).await;
    apps.server.has("Staff", &["bob", "stranger"]).await;
    house.running.stop().await;
    // Under `authoritative` the others go as well, no more at once than the brake permits.
    std::fs::write(
        apps.scene.file(),
        with_store(&text).replace("minimum = 100", "minimum = 0") + "authoritative = true\n",
    )
    .unwrap();
    let said = run("delivery resync app").await;
    assert!(
        said.code == 1 && format!("{said:?}").contains("more would be revoked at once than the brake permits"),
        "{said:?}"
    );
    assert_eq!(apps.server.members("Staff").unwrap(), ["bob", "stranger"]);
    assert_eq!(run("delivery resync app --confirm").await.code, 0);
    assert_eq!(apps.server.members("Staff").unwrap(), ["bob"]);
}

/// A receiver that is gone from the file keeps nothing of those who are erased meanwhile.
#[tokio::test(flavor = "multi_thread")]
async fn deliveries_of_a_receiver_that_was_taken_out_wait_for_it() {
    let apps = Apps::new(Clock::fixed(NOW)).await;
    let house = apps.house(USUAL).await;
    apps.log_in(&house, "alice", &["staff"]).await;
    apps.server.has("Staff", &["alice"]).await;
    apps.confirmed(&house, "alice").await;
    apps.server.always(Some(Mood::Says("503 Service Unavailable", "", "")));
    apps.log_in(&house, "alice", &[]).await;
    apps.fails(&house, "503").await;
    let without = apps.scene.base("\"editor\"");
    let house = house.restart(&without, &apps.scene.file()).await;
    apps.log_in(&house, "alice", &["admins"]).await;
    apps.server.always(None);
    let house = house.restart(&apps.text(USUAL), &apps.scene.file()).await;
    apps.scene.pass(10);
    apps.log_in(&house, "alice", &["admins"]).await;
    apps.server.has("Staff", &[]).await;
    apps.server.has("Admins", &["alice"]).await;
    house.running.stop().await;
}

/// Nothing secret, and nothing that a server says, is in what is kept and shown.
#[tokio::test(flavor = "multi_thread")]
async fn what_a_server_says_is_not_repeated() {
    let apps = Apps::new(Clock::fixed(NOW)).await;
    let house = apps.house(USUAL).await;
    apps.server.always(Some(Mood::Says(
        "400 Bad Request",
        "",
        "{\"scimType\": \"invalidValue\", \"detail\": \"hunter2\"}",
    )));
    apps.log_in(&house, "alice", &["staff"]).await;
    apps.fails(&house, "status 400 (`invalidValue`)").await;
    let shown = serde_json::to_string(&house.store().pending("app", 10).await.unwrap()).unwrap();
    assert!(!shown.contains("hunter2") && !shown.contains(TOKEN), "{shown}");
    apps.server.always(None);
    apps.scene.pass(10);
    apps.server.has("Staff", &["alice"]).await;
    assert!(!apps.server.bodies().contains(TOKEN));
    house.running.stop().await;
}
