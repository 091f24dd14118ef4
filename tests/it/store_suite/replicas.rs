//! Several sidecars on one PostgreSQL: each promise of one store holds between them. Skipped where no server is installed.

use std::time::Instant;

use super::*;

/// Two sidecars of one database.
async fn two() -> Option<[Arc<Store>; 2]> {
    let database = crate::support::postgres::database().await?;
    let mut stores = Vec::new();
    for _ in 0..2 {
        let settings = database.settings(Some(b"an audit key for tests, 32 bytes"));
        stores.push(Arc::new(Store::from(postgres::Shared::open(settings).await.unwrap())));
    }
    stores.try_into().ok()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_that_comes_to_two_sidecars_at_once_enters_once() {
    let Some([one, other]) = two().await else { return };
    let rules = Arc::new(rules());
    for round in 0..25 {
        let token = round.to_string();
        let case = || Case { token: &token, issued: round, values: &["b"], ..Case::default() };
        let (first, second) = tokio::join!(apply(&one, &rules, case()), apply(&other, &rules, case()));
        let outcomes = [first.unwrap(), second.unwrap()];
        let entered = outcomes.iter().filter(|it| matches!(it, Applied::Committed(_))).count();
        let replays = outcomes.iter().filter(|it| matches!(it, Applied::Replay)).count();
        assert_eq!((entered, replays), (1, 1), "round {round}");
    }
    assert_eq!(one.verify_audit().await.unwrap().broken, None);
    assert_eq!(one.check(false).await.unwrap(), Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_last_holders_who_log_in_at_two_sidecars_one_stays() {
    let Some([one, other]) = two().await else { return };
    let rules = Arc::new(rules());
    for round in 0..10_i64 {
        for user in ["alice", "bob"] {
            let token = format!("{user}-{round}");
            plan(&one, &rules, Case { user, token: &token, issued: 2 * round, values: &["a"], ..Case::default() })
                .await;
        }
        let (alice, bob) = (format!("alice+{round}"), format!("bob+{round}"));
        let leaves = |user, token| Case { user, token, issued: 2 * round + 1, values: &[], ..Case::default() };
        let (first, second) =
            tokio::join!(apply(&one, &rules, leaves("alice", &alice)), apply(&other, &rules, leaves("bob", &bob)));
        for login in [first, second] {
            login.unwrap();
        }
        let holders = [groups(&other, &rules, "alice").await, groups(&one, &rules, "bob").await].concat();
        assert_eq!(holders, ["A"], "round {round}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_one_sidecar_takes_away_is_gone_at_the_other() {
    let Some([one, other]) = two().await else { return };
    let rules = Arc::new(rules());
    plan(&one, &rules, Case { token: "1", values: &["b"], ..Case::default() }).await;
    assert!(one.sessions().begin(session("browser", "alice")).await.unwrap());
    let key = Digest::of(b"browser");
    assert!(other.sessions().find(key, Arc::clone(&rules), NOW).await.unwrap().is_some());
    assert_eq!(one.cookie_keys().await.unwrap(), other.cookie_keys().await.unwrap());
    one.act(user("alice"), Act::Disable, "test".into(), NOW).await.unwrap();
    assert!(other.sessions().find(key, Arc::clone(&rules), NOW).await.unwrap().is_none());
    let refused = apply(&other, &rules, Case { token: "2", issued: 1, values: &["b"], ..Case::default() }).await;
    assert!(matches!(refused.unwrap(), Applied::Disabled));
}

#[tokio::test(flavor = "multi_thread")]
async fn logins_of_one_user_at_two_sidecars_lose_nothing() {
    let Some(stores) = two().await else { return };
    let rules = Arc::new(rules());
    let logins = (0..60_i64).map(|number| {
        let (store, rules) = (Arc::clone(&stores[usize::try_from(number % 2).unwrap()]), Arc::clone(&rules));
        tokio::spawn(async move {
            let token = number.to_string();
            apply(&store, &rules, Case { issued: number, token: &token, values: &["b"], ..Case::default() })
                .await
                .unwrap();
        })
    });
    for login in logins.collect::<Vec<_>>() {
        login.await.unwrap();
    }
    let [one, other] = &stores;
    // Those that came late have an event of their own.
    let rows = one.audit(0, 1000).await.unwrap();
    assert_eq!(rows.iter().filter(|row| row.detail.get("login").is_some()).count(), 60, "{rows:?}");
    // Whichever came last, the newest token counts.
    let late = plan(other, &rules, Case { token: "late", issued: 30, values: &[], ..Case::default() }).await;
    assert!(late.older);
    assert_eq!(one.verify_audit().await.unwrap().broken, None);
    assert_eq!(one.check(false).await.unwrap(), Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_is_another_opens_no_secret() {
    let Some(database) = crate::support::postgres::database().await else { return };
    let first = Store::from(postgres::Shared::open(database.settings(None)).await.unwrap());
    first.cookie_keys().await.unwrap();
    let mut settings = database.settings(None);
    settings.key = Secret::new(vec![8; 32]);
    let second = Store::from(postgres::Shared::open(settings).await.unwrap());
    let error = second.cookie_keys().await.unwrap_err();
    assert!(error.to_string().contains("`store.key_file`"), "{error}");
}

/// Transactions are numbers: 100 comes after 99. By their texts a full batch would leave rows behind its last one, never to be sealed.
#[tokio::test(flavor = "multi_thread")]
async fn rows_are_sealed_in_the_order_of_their_transactions_whatever_their_digits() {
    let Some(database) = crate::support::postgres::database().await else { return };
    let settings = database.settings(Some(b"an audit key for tests, 32 bytes"));
    let store = Store::from(postgres::Shared::open(settings).await.unwrap());
    let rules = Arc::new(rules());
    let tokens: Vec<String> = (0..12).map(|number| format!("token-{number}")).collect();
    for (issued, token) in tokens.iter().enumerate() {
        let issued = i64::try_from(issued).unwrap();
        plan(&store, &rules, Case { token, issued, values: &["b"], ..Case::default() }).await;
    }
    let client = database.client().await;
    // The first is 95, the last 106.
    let renumber = "UPDATE loginsync.audit SET xid = (94 + place)::text::xid8
                    FROM (SELECT id, row_number() OVER (ORDER BY id) AS place FROM loginsync.audit) AS places
                    WHERE places.id = audit.id";
    assert_eq!(client.execute(renumber, &[]).await.unwrap(), 12);
    let sealed = store.audit(0, 100).await.unwrap();
    let sealed: Vec<&str> = sealed.iter().map(|row| row.detail["token"].as_str().unwrap()).collect();
    assert_eq!(sealed, tokens);
    assert_eq!(store.verify_audit().await.unwrap().broken, None);
}

/// Another transaction of the server keeps what is written after it without a seal: a user of whom such rows alone tell is in order, and
/// a row that was altered is not.
#[tokio::test(flavor = "multi_thread")]
async fn rows_that_wait_for_their_seal_are_verified_too() {
    let Some(database) = crate::support::postgres::database().await else { return };
    let mut settings = database.settings(Some(b"an audit key for tests, 32 bytes"));
    settings.timeout = Duration::from_secs(1);
    let store = Store::from(postgres::Shared::open(settings).await.unwrap());
    let (rules, client) = (Arc::new(rules()), database.client().await);
    client.batch_execute("BEGIN; SELECT pg_current_xact_id()").await.unwrap();
    plan(&store, &rules, Case { token: "1", issued: 1, values: &["b"], ..Case::default() }).await;
    assert_eq!(store.audit(0, 10).await.unwrap().len(), 0, "none has a seal");
    assert_eq!(store.verify_audit().await.unwrap().broken, None);
    let other = database.client().await;
    assert_eq!(other.execute("UPDATE loginsync.audit SET at = at + 1", &[]).await.unwrap(), 1);
    let broken = store.verify_audit().await.unwrap().broken.unwrap();
    assert_eq!(broken.row, Some(1));
    assert!(broken.fault.contains("MAC"), "{broken:?}");
}

/// It has as long as it takes, and not as long as a login may.
#[tokio::test(flavor = "multi_thread")]
async fn many_users_are_checked_however_long_it_takes() {
    let Some(database) = crate::support::postgres::database().await else { return };
    let mut settings = database.settings(None);
    settings.timeout = Duration::from_secs(1);
    let store = Store::from(postgres::Shared::open(settings).await.unwrap());
    plan(&store, &Arc::new(rules()), Case { token: "1", issued: 1, values: &["b"], ..Case::default() }).await;
    let copies = "INSERT INTO loginsync.users (id, namespace, subject, created_at, disabled, last_login_at, logins, record)
                      SELECT 1000 + copy, namespace, 'copy-' || copy, created_at, disabled, last_login_at, logins, record
                      FROM loginsync.users, generate_series(1, 30000) AS copy;
                  INSERT INTO loginsync.holdings SELECT kind, target, provider, mapping, 1000 + copy, at
                      FROM loginsync.holdings, generate_series(1, 30000) AS copy";
    database.client().await.batch_execute(copies).await.unwrap();
    let began = Instant::now();
    let faults = store.check(false).await.unwrap();
    assert!(faults.is_empty(), "{faults:?}");
    assert!(began.elapsed() > Duration::from_secs(1), "too few users for this test");
}

/// A dump names transactions of the server that it was made at, which mean nothing elsewhere.
#[tokio::test(flavor = "multi_thread")]
async fn a_dump_of_another_server_is_refused_until_it_is_told_so_and_its_chain_goes_on() {
    let Some(database) = crate::support::postgres::database().await else { return };
    let open = || postgres::Shared::open(database.settings(Some(b"an audit key for tests, 32 bytes")));
    let rules = Arc::new(rules());
    let case = |token, issued| Case { token, issued, values: &["b"], ..Case::default() };
    let store = Store::from(open().await.unwrap());
    plan(&store, &rules, case("1", 0)).await;
    assert!(store.audit_head().await.unwrap().is_some());
    plan(&store, &rules, case("2", 1)).await;
    drop(store);
    let (client, connection) = tokio_postgres::connect(&database.url, tokio_postgres::NoTls).await.unwrap();
    let connection = tokio::spawn(connection);
    // The other server was far ahead.
    client
        .batch_execute(
            "UPDATE loginsync.audit SET xid = (xid::text::bigint + 1000000)::text::xid8;
             UPDATE loginsync.seals SET xid = (xid::text::bigint + 1000000)::text::xid8;
             UPDATE loginsync.settings SET value = 'another' WHERE name = 'cluster'",
        )
        .await
        .unwrap();
    let refused = open().await.err().unwrap().to_string();
    assert!(refused.contains("loginsync db restored"), "{refused}");
    let settings = database.settings(Some(b"an audit key for tests, 32 bytes"));
    let store = Store::from(postgres::Shared::open_restored(settings).await.unwrap());
    store.restored("cli:test".into(), Timestamp(NOW.0 + 5)).await.unwrap();
    let store = Store::from(open().await.unwrap());
    assert!(matches!(apply(&store, &rules, case("3", 4)).await.unwrap(), Applied::BeforeRestore { .. }));
    plan(&store, &rules, case("4", 5)).await;
    assert_eq!(events(&store).await, ["login", "login", "restored", "login_refused", "login"]);
    let report = store.verify_audit().await.unwrap();
    assert_eq!((report.broken, report.rows), (None, 5));
    drop(client);
    let _ = connection.await;
}
