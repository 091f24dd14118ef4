//! A store that is moved into another one: all that can be read of it is as it was, and nothing starts on the old one.

use loginsync::config::{Face, Scope};
use loginsync::pipeline::ids::MappingId;
use loginsync::pipeline::mapping::stored::Exposure;
use loginsync::ports::catalogue::{AccessToken, ApiClient, Catalogue, Search};
use loginsync::ports::outbox::Settled;
use loginsync::ports::outbox::events::Listening;
use loginsync::ports::store::sqlite::transfer::{self as file, Role};
use loginsync::ports::store::transfer::{self, Doing, Mark, STAY, TABLES, Transfer, Undone};
use loginsync::ports::store::{HoldFilter, Through, Users};

use super::rules::{Log, brought, configured, mapped, with_one_hold};
use super::*;
use crate::support::postgres::Database;

const KEY: &[u8] = b"an audit key for tests, 32 bytes";

/// All of a store that tests read, beside what [`Store`] brings along.
trait Parts: Users + Catalogue {}

impl<T: Users + Catalogue> Parts for T {}

/// Where a store is.
enum Place {
    File(std::path::PathBuf),
    Server(Database),
}

impl Place {
    async fn open(&self) -> Result<Store, StoreError> {
        Ok(match self {
            Self::File(path) => SqliteStore::open(path, settings(Some(KEY)))?.into(),
            Self::Server(database) => postgres::Shared::open(database.settings(Some(KEY))).await?.into(),
        })
    }

    /// The rest of what a store shows.
    async fn parts(&self) -> Box<dyn Parts> {
        match self {
            Self::File(path) => Box::new(SqliteStore::open(path, settings(Some(KEY))).unwrap()),
            Self::Server(database) => Box::new(postgres::Shared::open(database.settings(Some(KEY))).await.unwrap()),
        }
    }

    async fn side(&self, role: Role) -> Box<dyn Transfer> {
        match self {
            Self::File(path) => Box::new(file::Side::open(path, &settings(Some(KEY)), role).unwrap()),
            Self::Server(database) => Box::new(
                postgres::transfer::Side::open(database.settings(Some(KEY)), role == Role::Target).await.unwrap(),
            ),
        }
    }
}

/// Two files and two databases; `None` where no server is installed.
async fn places() -> Option<(tempfile::TempDir, [Place; 4])> {
    let folder = tempfile::tempdir().unwrap();
    let (one, other) = (crate::support::postgres::database().await?, crate::support::postgres::database().await?);
    let file = |name: &str| Place::File(folder.path().join(name));
    let places = [file("one.db"), Place::Server(one), Place::Server(other), file("other.db")];
    Some((folder, places))
}

fn now_rules() -> Arc<RuleSet> {
    configured(&(mapped(&[("staff", "Staff"), ("loose", "Loose")]) + "[brake]\nminimum = 2\nshare = \"10%\"\n"), 1)
}

fn person(who: &str) -> UserId {
    UserId { namespace: Namespace::parse("p").unwrap(), subject: Subject::parse(who).unwrap() }
}

fn digest(text: &str) -> Digest {
    Digest::of(text.as_bytes())
}

/// Something in every table.
async fn fill(place: &Place) -> Store {
    let (opened, parts) = (place.open().await.unwrap(), place.parts().await);
    let store = &opened;
    let rules = now_rules();
    let hears = Listening { events: ["login.refused".to_owned()].into(), ..Listening::default() };
    store.follow(&[("app".to_owned(), hears)].into()).await.unwrap();
    store.adopt(Arc::clone(&rules), NOW).await.unwrap();
    with_one_hold(&mut Log::new(store), &rules).await;
    let act = async |who: &str, act: Act| store.act(person(who), act, "cli:test".into(), NOW).await.unwrap();
    act("user-0", Act::Assign(group("Editors"))).await;
    let until = Some(Timestamp(NOW.0 + 5_000_000));
    act("user-1", Act::Deny { target: group("Staff"), reason: "leaving".into(), until }).await;
    act("user-3", Act::Disable).await;
    act("gone", Act::Assign(role("editor"))).await;
    act("gone", Act::Deny { target: role("editor"), reason: "x".into(), until: None }).await;
    act("gone", Act::Erase).await;
    act("old-key", Act::Assign(group("Loose"))).await;
    act("new-key", Act::Assign(group("Editors"))).await;
    store.rekey(vec![(person("old-key"), person("new-key"))], true, Some("test".into()), NOW).await.unwrap();
    // The last number was another's, who is gone: it is not given again.
    act("last", Act::Assign(group("Editors"))).await;
    act("last", Act::Erase).await;
    let refusal = Refusal {
        id: "login-refused".into(),
        provider: provider("p"),
        token_id: "a refused token".into(),
        now: NOW,
        reason: "not for this".into(),
        arrived: Vec::new(),
        remember_until: Timestamp(NOW.0 + 600_000),
    };
    store.record_refusal(refusal).await.unwrap();
    let begun = NewSession {
        user: person("user-0"),
        app_cookie: Some(digest("app")),
        refresh: Some(vec![1, 2]),
        hint: Some(vec![0, 255]),
        ..session("browser", "user-0")
    };
    assert!(store.sessions().begin(begun).await.unwrap());
    store.cookie_keys().await.unwrap();
    store.assertion_key(|| Some(b"a private key".to_vec())).await.unwrap();
    let client = ApiClient {
        name: "office".into(),
        secret: digest("secret"),
        scopes: vec![Scope::Read, Scope::Admin],
        faces: vec![Face::V1],
    };
    parts.add_client(client, "root".into(), NOW).await.unwrap();
    let token = AccessToken {
        token: digest("token"),
        refresh: Some(digest("refresh")),
        client: digest("secret"),
        created_at: NOW,
        expires_at: at(HOUR),
    };
    assert!(parts.add_token(token, None).await.unwrap());
    let before = Arc::new(parts.stored().await.unwrap());
    let mut after = Stored::clone(&before);
    after.generation += 1;
    let number = after.next_number();
    let body = GroupBody { name: "Made".into(), own: Some(OwnGroup::default()) };
    after.groups.insert(number, Arc::new(Entry::new(number, "made".into(), NOW, body)));
    let shown = Exposure { provider: "p".into(), group: "Staff".into(), alias: Some("People".into()), hidden: false };
    after.exposures.insert(("p".into(), "Staff".into()), Arc::new(shown));
    let revision = Revision {
        before,
        after: Arc::new(after),
        renamed: Vec::new(),
        rules: Some(Arc::clone(&rules)),
        confirmed: true,
        client: None,
        events: Vec::new(),
        now: NOW,
    };
    store.revise(revision).await.unwrap();
    // A mapping is gone, and what that ends has not been swept.
    let fewer = configured(&(mapped(&[("loose", "Loose")]) + "[brake]\nminimum = 100\n"), 2);
    store.adopt(fewer, NOW).await.unwrap();
    // Some of the users were delivered, some wait, and some were not looked at yet.
    let outbox = store.outbox();
    outbox.spread(vec!["app".into()], NOW, 3).await.unwrap();
    let waiting = outbox.due("app".into(), NOW, 2).await.unwrap();
    let confirmed = Settled::Confirmed { version: waiting[0].wanted, state: Some("{}".into()) };
    outbox.settle("app".into(), waiting[0].number, confirmed).await.unwrap();
    let failed = Settled::Failed { fault: "it says no".into(), due: Timestamp(NOW.0 + 1) };
    outbox.settle("app".into(), waiting[1].number, failed).await.unwrap();
    opened
}

/// All that can be read.
async fn readable(place: &Place) -> Vec<String> {
    let store = place.open().await.unwrap();
    let users = place.parts().await;
    let rules = now_rules();
    let mut told = vec![format!("{} users", users.count().await.unwrap())];
    for known in users.page(0, 100).await.unwrap() {
        told.push(format!("{known:?}"));
        told.push(format!("{:?}", users.numbered(known.number).await.unwrap()));
        let view = store.user(known.user.clone(), Arc::clone(&rules), NOW).await.unwrap();
        told.push(serde_json::to_string(&view).unwrap());
        told.push(format!("{:?}", store.export(known.user.clone()).await.unwrap()));
        told.push(format!("{:?}", store.sessions().list(known.user).await.unwrap()));
    }
    for through in [
        Through::Held,
        Through::Disabled,
        Through::Due(Timestamp(NOW.0 + 10_000_000)),
        Through::Target(group("Staff")),
        Through::Denied(group("Staff")),
        Through::Mapping(MappingId([0; 16])),
    ] {
        told.push(format!("{through:?}: {:?}", users.through(through.clone(), 0, 100).await.unwrap()));
    }
    let outbox = store.outbox();
    told.push(format!("{:?}", outbox.due("app".into(), Timestamp(NOW.0 + 1), 100).await.unwrap()));
    told.push(format!("{:?}", outbox.standing(person("user-0")).await.unwrap()));
    told.push(format!("{:?}", outbox.note("round".into()).await.unwrap()));
    told.push(format!("{:?}", users.work().await.unwrap()));
    told.push(format!("{:?}", store.holds(HoldFilter::default(), Arc::clone(&rules)).await.unwrap()));
    told.push(format!("{:?}", store.members(group("Staff"), None, 100).await.unwrap()));
    told.push(format!("{:?}", store.find(Search { limit: 100, ..Search::default() }).await.unwrap()));
    told.push(format!("{:?}", store.audit(0, 1000).await.unwrap()));
    told.push(format!("{:?}", store.audit_of("login-1".into()).await.unwrap()));
    told.push(format!("{:?}", store.verify_audit().await.unwrap()));
    told.push(format!("{:?}", store.check(false).await.unwrap()));
    told.push(format!("{:?}", users.stored().await.unwrap()));
    told.push(format!("{:?}", users.clients().await.unwrap()));
    told.push(format!("{:?}", users.token(digest("token"), NOW).await.unwrap()));
    told.push(format!("{:?}", users.refreshed(digest("refresh")).await.unwrap()));
    told.push(format!("{:?}", store.sessions().find(digest("browser"), rules, NOW).await.unwrap()));
    told.push(format!("{:?} {:?}", store.cookie_keys().await.unwrap(), store.assertion_key(|| None).await.unwrap()));
    told
}

async fn moved(
    from: &Place,
    to: &Place,
    told: &mut (dyn FnMut(Doing, u64) -> Result<(), StoreError> + Send),
) -> Result<u64, StoreError> {
    let (source, target) = (from.side(Role::Source).await, to.side(Role::Target).await);
    transfer::carry_out(&*source, &*target, 3, NOW, told).await
}

/// Logins and acts after the move go on as they would have.
async fn assert_goes_on(place: &Place) {
    let store = place.open().await.unwrap();
    let rules = configured(&mapped(&[("loose", "Loose")]), 2);
    let mut log = Log::new(&store);
    // `login-1` of before, once more.
    let replay = log.apply(&rules, "user-0", brought(&["loose"]), 0).await.unwrap();
    assert!(matches!(replay, Applied::Replay), "{replay:?}");
    let users = place.parts().await;
    let highest = users.page(0, 100).await.unwrap().last().unwrap().number;
    store.act(person("newcomer"), Act::Assign(group("Fresh")), "test".into(), NOW).await.unwrap();
    let fresh = users.user(person("newcomer")).await.unwrap().unwrap().number;
    assert!(fresh > highest + 1, "the number {fresh} was another's");
    // What still binds the person who was erased.
    let back = store.user(person("gone"), Arc::clone(&rules), NOW).await.unwrap();
    assert!(back.is_none());
    store.act(person("gone"), Act::Assign(role("editor")), "test".into(), NOW).await.unwrap();
    let back = store.user(person("gone"), Arc::clone(&rules), NOW).await.unwrap().unwrap();
    assert_eq!((back.roles.len(), back.binding().denies), (0, vec!["role `editor`".to_owned()]));
    store.finish_work().await.unwrap();
    assert_eq!(store.verify_audit().await.unwrap().broken, None);
    assert_eq!(store.check(false).await.unwrap(), Vec::<String>::new());
}

/// From a file to a server, to another server, and back into a file; killed after each page and after each step behind those.
#[tokio::test(flavor = "multi_thread")]
async fn a_move_loses_nothing_wherever_it_is_killed() {
    let Some((_folder, places)) = places().await else { return };
    drop(fill(&places[0]).await);
    let before = readable(&places[0]).await;
    for pair in places.windows(2) {
        let [from, to] = pair else { continue };
        let (mut survives, mut kills, mut copied) = (0_i64, 0, 0);
        let rows = loop {
            let (mut left, mut is_copied) = (survives, false);
            let outcome = moved(from, to, &mut |doing, rows| {
                if matches!(doing, Doing::Copying(_)) {
                    copied += rows;
                } else {
                    is_copied = true;
                }
                left -= 1;
                if left < 0 { Err(StoreError::Unavailable("killed".into())) } else { Ok(()) }
            })
            .await;
            match outcome {
                Ok(rows) => break rows,
                Err(error) => assert_eq!(error, StoreError::Unavailable("killed".into())),
            }
            let error = from.open().await.err().unwrap().to_string();
            assert!(error.contains(" to ") && error.contains("--undo"), "{error}");
            let error = to.open().await.err().unwrap().to_string();
            assert!(error.contains("unfinished move"), "{error}");
            kills += 1;
            // A page at a time; then one step more each time, since what is compared is compared anew.
            survives += i64::from(is_copied);
        };
        assert!(kills > 40, "{kills}");
        assert_eq!(copied, rows, "no page came twice");
        assert_eq!(readable(to).await, before);
        let error = from.open().await.err().unwrap().to_string();
        assert!(error.contains("was moved to") && error.contains("no longer in use"), "{error}");
    }
    assert_goes_on(&places[3]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_moved_store_goes_on_in_postgres() {
    let Some((_folder, [from, to, ..])) = places().await else { return };
    drop(fill(&from).await);
    moved(&from, &to, &mut |_, _| Ok(())).await.unwrap();
    assert_goes_on(&to).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_left_takes_no_writes_until_it_is_taken_back() {
    let Some((_folder, [one, other, ..])) = places().await else { return };
    let (from, to) = (&one, &other);
    let store = fill(from).await;
    let before = readable(from).await;
    let begun = moved(from, to, &mut |_, _| Err(StoreError::Timeout)).await;
    assert!(begun.is_err());
    // This one was open before.
    let write = store.act(person("late"), Act::Assign(group("Editors")), "test".into(), NOW).await;
    let write = write.unwrap_err().to_string();
    assert!(write.contains("moved"), "{write}");
    let (source, target) = (from.side(Role::Source).await, to.side(Role::Source).await);
    assert_eq!(transfer::undo(&*source, Some(&*target), NOW).await.unwrap(), Undone::GivenUp);
    let counts = target.counts().await.unwrap();
    assert_eq!((counts.iter().sum::<u64>(), target.mark().await.unwrap()), (0, None));
    drop((source, target));
    assert_eq!(readable(from).await, before);
    store.act(person("late"), Act::Assign(group("Editors")), "test".into(), NOW).await.unwrap();
}

/// From a server, whose replicas may be running; and a move that has ended is taken back.
#[tokio::test(flavor = "multi_thread")]
async fn a_move_that_has_ended_is_taken_back() {
    let Some((_folder, [_, from, _, to])) = places().await else { return };
    let store = fill(&from).await;
    moved(&from, &to, &mut |_, _| Ok(())).await.unwrap();
    let write = store.act(person("late"), Act::Assign(group("Editors")), "test".into(), NOW).await;
    let write = write.unwrap_err().to_string();
    assert!(write.contains("moved"), "{write}");
    to.open().await.unwrap().act(person("since"), Act::Assign(group("Editors")), "test".into(), NOW).await.unwrap();
    let (source, target) = (from.side(Role::Source).await, to.side(Role::Source).await);
    assert_eq!(transfer::undo(&*source, Some(&*target), NOW).await.unwrap(), Undone::TakenBack);
    assert!(transfer::undo(&*source, Some(&*target), NOW).await.is_err(), "once");
    drop((source, target));
    store.act(person("late"), Act::Assign(group("Editors")), "test".into(), NOW).await.unwrap();
    assert!(to.open().await.err().unwrap().to_string().contains("no longer in use"));
    // What has rows takes no move.
    let again = moved(&from, &to, &mut |_, _| Ok(())).await.unwrap_err().to_string();
    assert!(again.contains("was moved to"), "{again}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_move_is_refused_before_anything_is_written() {
    let Some((_folder, [from, to, other, same])) = places().await else { return };
    drop(fill(&from).await);
    let refused = async |source: &dyn Transfer, target: &dyn Transfer| {
        let refused = transfer::look(source, Some(target), target.name()).await.unwrap().refused.join("; ");
        assert_eq!(transfer::carry_out(source, target, 9, NOW, &mut |_, _| Ok(())).await.is_err(), !refused.is_empty());
        refused
    };
    // A target with rows.
    to.open().await.unwrap().act(person("there"), Act::Assign(group("Editors")), "test".into(), NOW).await.unwrap();
    let (source, target) = (from.side(Role::Source).await, to.side(Role::Target).await);
    assert!(refused(&*source, &*target).await.contains("is not empty"));
    assert_eq!((source.mark().await.unwrap(), target.mark().await.unwrap()), (None, None));
    // Another audit key, and none.
    let Place::Server(database) = &other else { return };
    for key in [Some(b"another audit key for tests, 32 b".as_slice()), None] {
        let target = postgres::transfer::Side::open(database.settings(key), true).await.unwrap();
        assert!(refused(&*source, &target).await.contains("audit key"));
    }
    // Into itself, and from what is no longer there.
    let Place::File(path) = &from else { return };
    let looked = file::Side::open(path, &settings(Some(KEY)), Role::Look).unwrap();
    assert!(refused(&*source, &looked).await.contains("both configurations name"));
    let Place::File(path) = &same else { return };
    let none = file::Side::open(path, &settings(Some(KEY)), Role::Look).err().unwrap().to_string();
    assert!(none.contains("does not exist"), "{none}");
    // Something serves it.
    let Place::File(path) = &from else { return };
    let served = file::Side::open(path, &settings(Some(KEY)), Role::Source).err().unwrap().to_string();
    assert!(served.contains("in use"), "{served}");
    assert_eq!(source.mark().await.unwrap(), None::<Mark>);
}

/// Every table of both schemas is moved, or is named as one that stays.
#[test]
fn every_table_is_moved_or_stays_with_a_reason() {
    let schemas = [
        include_str!("../../../src/ports/store/sqlite/schema/current.sql"),
        include_str!("../../../src/ports/store/sqlite/schema/10-delivery.sql"),
        include_str!("../../../src/ports/store/sqlite/schema/11-console.sql"),
        include_str!("../../../src/ports/store/sqlite/schema/12-remote.sql"),
        include_str!("../../../src/ports/store/sqlite/schema/13-events.sql"),
        include_str!("../../../src/ports/store/postgres/console.sql"),
        include_str!("../../../src/ports/store/postgres/remote.sql"),
        include_str!("../../../src/ports/store/postgres/events.sql"),
        include_str!("../../../src/ports/store/postgres/schema.sql"),
        include_str!("../../../src/ports/store/postgres/delivery.sql"),
    ];
    let known =
        |name: &str| TABLES.iter().any(|table| table.name == name) || STAY.iter().any(|(stays, _)| *stays == name);
    let mut found = 0;
    for line in schemas.iter().flat_map(|schema| schema.lines()) {
        let Some(rest) = line.strip_prefix("CREATE TABLE ") else { continue };
        let name = rest.trim_start_matches("loginsync.").split([' ', '(']).next().unwrap();
        assert!(known(name), "`{name}` is in no list: `db move` would leave it behind");
        found += 1;
    }
    assert!(found > 40, "{found} tables");
}
