//! What still binds a person who was erased, by an HMAC of their key; and the box that secrets of this store are kept in.

use std::collections::BTreeMap;

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};

use super::super::rows::{erased_digest, kind_of, target_of};
use super::super::{StoreError, random_key};
use super::PgStore;
use super::pipe::{Failed, Pipe, Statement, get, values};
use crate::config::Secret;
use crate::pipeline::decision::Bearer;
use crate::pipeline::ids::{MappingId, Timestamp, UserId};
use crate::pipeline::record::{Bound, Deny, Disabled, Rest};

/// Seals the secrets that a shared database keeps: who reads the database reads no key.
pub(super) struct Safe(LessSafeKey);

impl Safe {
    pub(super) fn new(key: &Secret) -> Result<Self, StoreError> {
        let key = UnboundKey::new(&AES_256_GCM, key.expose());
        key.map(|key| Self(LessSafeKey::new(key)))
            .map_err(|_| StoreError::Invalid("`store.key_file` has no 32 bytes".into()))
    }

    pub(super) fn seal(&self, name: &str, secret: &[u8]) -> Result<Vec<u8>, StoreError> {
        let unsealed = || StoreError::Unavailable("the operating system returned no random bytes".into());
        let mut nonce = [0; NONCE_LEN];
        aws_lc_rs::rand::fill(&mut nonce).map_err(|_| unsealed())?;
        let mut sealed = secret.to_vec();
        self.0
            .seal_in_place_append_tag(Nonce::assume_unique_for_key(nonce), Aad::from(name.as_bytes()), &mut sealed)
            .map_err(|_| unsealed())?;
        Ok([nonce.as_slice(), &sealed].concat())
    }

    pub(super) fn open(&self, name: &str, whole: &[u8]) -> Result<Vec<u8>, StoreError> {
        let other = || {
            StoreError::Invalid(format!(
                "the secret `{name}` in the database was sealed with another key: set `store.key_file` to the file of before"
            ))
        };
        let (nonce, sealed) = whole.split_first_chunk::<NONCE_LEN>().ok_or_else(other)?;
        let mut plain = sealed.to_vec();
        let opened = self.0.open_in_place(Nonce::assume_unique_for_key(*nonce), Aad::from(name.as_bytes()), &mut plain);
        opened.map(|plain| plain.to_vec()).map_err(|_| other())
    }
}

const KEY: &str = "erased_key";

/// The digest of a user, by the key that is made at the first need.
pub(super) async fn digest_of(store: &PgStore, pipe: &Pipe, user: &UserId) -> Result<Vec<u8>, Failed> {
    Ok(erased_digest(&store.secret(pipe, KEY, random_key).await?, user))
}

/// What binds a user whom the store does not know.
pub(super) async fn find(store: &PgStore, pipe: &Pipe, user: &UserId) -> Result<Option<Bound>, Failed> {
    if pipe.row("SELECT 1 FROM loginsync.erased LIMIT 1", &[]).await?.is_none() {
        return Ok(None);
    }
    let row = pipe.row("SELECT value FROM loginsync.settings WHERE name = $1", &values![KEY]).await?;
    let Some(row) = row else { return Ok(None) };
    let key = store.secrets.open(KEY, get(&row, 0)?)?;
    of_digest(pipe, &erased_digest(&key, user)).await
}

async fn of_digest(pipe: &Pipe, digest: &[u8]) -> Result<Option<Bound>, Failed> {
    let found = pipe
        .row(
            "SELECT disabled_at, disabled_by, disabled_label FROM loginsync.erased WHERE digest = $1",
            &values![digest],
        )
        .await?;
    let Some(row) = found else { return Ok(None) };
    let disabled = match get::<Option<i64>>(&row, 0)? {
        None => None,
        Some(at) => {
            let mapping = get::<Option<&[u8]>>(&row, 1)?.and_then(|bytes| bytes.try_into().ok()).map(MappingId);
            let label = get::<Option<String>>(&row, 2)?.unwrap_or_default();
            Some(Disabled { at: Timestamp(at), by: mapping.map(|mapping| (mapping, label)) })
        }
    };
    let mut denies = BTreeMap::new();
    let rows = pipe
        .rows(
            "SELECT kind, name, denied_at, denied_by, until FROM loginsync.erased_denies WHERE digest = $1",
            &values![digest],
        )
        .await?;
    for row in rows {
        let deny = Deny {
            at: Timestamp(get(&row, 2)?),
            by: get(&row, 3)?,
            reason: "denied before the person was erased".into(),
            until: get::<Option<i64>>(&row, 4)?.map(Timestamp),
            rest: Rest::new(),
        };
        denies.insert(target_of(get(&row, 0)?, get(&row, 1)?)?, deny);
    }
    Ok(Some(Bound { disabled, denies }))
}

/// Erased people whom a mapping disabled, by their digests.
pub(super) async fn disabled(pipe: &Pipe) -> Result<Vec<(Vec<u8>, Bound)>, Failed> {
    bound_by(pipe, pipe.rows("SELECT digest FROM loginsync.erased WHERE disabled_by IS NOT NULL", &[]).await?).await
}

/// Erased people of whom a deny has ended.
pub(super) async fn lapsed(pipe: &Pipe, now: Timestamp) -> Result<Vec<(Vec<u8>, Bound)>, Failed> {
    let of = "SELECT DISTINCT digest FROM loginsync.erased_denies WHERE until <= $1";
    bound_by(pipe, pipe.rows(of, &values![now.0]).await?).await
}

async fn bound_by(pipe: &Pipe, rows: Vec<tokio_postgres::Row>) -> Result<Vec<(Vec<u8>, Bound)>, Failed> {
    let mut found = Vec::with_capacity(rows.len());
    for row in rows {
        let digest: Vec<u8> = get(&row, 0)?;
        if let Some(bound) = of_digest(pipe, &digest).await? {
            found.push((digest, bound));
        }
    }
    Ok(found)
}

/// The digest of an erased person.
pub(super) async fn digest(store: &PgStore, pipe: &Pipe, bearer: &Bearer) -> Result<Vec<u8>, Failed> {
    match bearer {
        Bearer::User(user) => digest_of(store, pipe, user).await,
        Bearer::Digest(digest) => Ok(digest.clone()),
    }
}

/// Writes down what binds a person from now on, in place of what did.
pub(super) fn bind(digest: &[u8], bound: &Bound, now: Timestamp) -> Vec<Statement> {
    let mut statements =
        vec![Statement { text: "DELETE FROM loginsync.erased WHERE digest = $1".into(), values: values![digest] }];
    if !bound.binds() {
        return statements;
    }
    let by = bound.disabled.as_ref().and_then(|disabled| disabled.by.as_ref());
    statements.push(Statement {
        text: "INSERT INTO loginsync.erased (digest, erased_at, disabled_at, disabled_by, disabled_label)
               VALUES ($1, $2, $3, $4, $5)"
            .into(),
        values: values![
            digest,
            now.0,
            bound.disabled.as_ref().map(|disabled| disabled.at.0),
            by.map(|(mapping, _)| mapping.0.to_vec()),
            by.map(|(_, label)| label.clone()),
        ],
    });
    for (target, Deny { at, by, until, .. }) in &bound.denies {
        statements.push(Statement {
            text: "INSERT INTO loginsync.erased_denies (digest, kind, name, denied_at, denied_by, until)
                   VALUES ($1, $2, $3, $4, $5, $6)"
                .into(),
            values: values![digest, kind_of(target), target.name(), at.0, by.clone(), until.map(|until| until.0)],
        });
    }
    statements
}
