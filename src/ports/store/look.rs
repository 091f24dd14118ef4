//! Looking at users and what they hold.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::{Known, MembershipView, RoleThroughGroups, Store, StoreError, UserView};
use crate::pipeline::decision::recorded;
use crate::pipeline::ids::{ProviderName, Target, Timestamp, UserId};
use crate::pipeline::mapping::RuleSet;
use crate::pipeline::plan::{Effective, Source};
use crate::pipeline::record::{Record, RecordedClaim};
use crate::ports::catalogue::{Found, Person, RecordedClaims, Search};

impl Store {
    /// A user as of `now`: a deny past its end shows no more, also before it is cleared away.
    ///
    /// # Errors
    /// When the store cannot be read; so below.
    pub async fn user(
        &self,
        user: UserId,
        rules: Arc<RuleSet>,
        now: Timestamp,
    ) -> Result<Option<UserView>, StoreError> {
        Ok(self.users.user(user).await?.map(|known| view(&known, &rules, now)))
    }

    /// Whether there is such a user.
    pub async fn has(&self, user: UserId) -> Result<bool, StoreError> {
        Ok(self.users.user(user).await?.is_some())
    }

    /// Users in order of namespace and subject, after the given one.
    pub async fn users(&self, after: Option<UserId>, limit: usize) -> Result<Vec<UserId>, StoreError> {
        self.users.keys(None, after, limit).await
    }

    /// Users with a live grant of the target itself, in order, after the given one.
    pub async fn members(
        &self,
        target: Target,
        after: Option<UserId>,
        limit: usize,
    ) -> Result<Vec<UserId>, StoreError> {
        self.users.keys(Some(target), after, limit).await
    }

    /// A page of the people whom a search finds, and how many those are.
    pub async fn find(&self, search: Search) -> Result<Found, StoreError> {
        self.users.find(search).await
    }

    /// Users by the numbers that faces know them by, after a number.
    pub async fn persons(&self, after: i64, limit: usize) -> Result<Vec<Person>, StoreError> {
        Ok(self.users.page(after, limit).await?.into_iter().map(person).collect())
    }

    /// The user with a number.
    pub async fn person(&self, number: i64) -> Result<Option<Person>, StoreError> {
        Ok(self.users.numbered(number).await?.map(person))
    }

    /// The number of a user.
    pub async fn number(&self, user: UserId) -> Result<Option<i64>, StoreError> {
        Ok(self.users.user(user).await?.map(|known| known.number))
    }

    /// The user with a number, as of `now`.
    pub async fn numbered(
        &self,
        number: i64,
        rules: Arc<RuleSet>,
        now: Timestamp,
    ) -> Result<Option<UserView>, StoreError> {
        Ok(self.users.numbered(number).await?.map(|known| view(&known, &rules, now)))
    }

    /// Through which providers a user has logged in, and when last.
    pub async fn logins(&self, number: i64) -> Result<Vec<(String, Timestamp)>, StoreError> {
        let logins = self.users.numbered(number).await?.map(|known| known.record.logins).unwrap_or_default();
        Ok(logins.into_iter().map(|(provider, login)| (provider.to_string(), login.last_login_at)).collect())
    }

    /// What the last logins of a user brought of what mappings read, by provider, as these rules read it.
    pub async fn recorded(&self, user: UserId, rules: Arc<RuleSet>) -> Result<Vec<RecordedClaims>, StoreError> {
        let Some(known) = self.users.user(user).await? else { return Ok(Vec::new()) };
        let read = |(provider, claims): (&ProviderName, &Vec<RecordedClaim>)| {
            (provider.clone(), recorded::read(claims, &known.user, provider, &rules))
        };
        Ok(known.record.claims.iter().map(read).collect())
    }

    /// Everything that is kept of one person, as JSON; `None` when there is no such user. Times are milliseconds since 1970.
    pub async fn export(&self, user: UserId) -> Result<Option<serde_json::Value>, StoreError> {
        let Some(known) = self.users.user(user.clone()).await? else { return Ok(None) };
        let sessions = self.sessions.list(user).await?;
        let audit = self.journal.about(known.number).await?;
        Ok(Some(export(&known, &sessions, &audit)))
    }
}

fn person(Known { number, user, record }: Known) -> Person {
    Person {
        number,
        user,
        enabled: record.disabled.is_none(),
        last_login_at: record.last_login(),
        email: record.email,
        display_name: record.display_name,
    }
}

/// What a user effectively holds at a moment: the groups and the roles.
pub(super) fn effective(record: &Record, rules: &RuleSet, now: Timestamp) -> Effective {
    Effective::of(record.holdings.keys().map(|grant| &grant.target), &record.denied(now), rules)
}

/// What is known of one target of one user, while it is gathered.
#[derive(Default)]
struct Reasons {
    mapped: bool,
    assigned: bool,
    denied: bool,
    words: Vec<String>,
}

/// A user as of `now`.
pub fn view(Known { user, record, .. }: &Known, rules: &RuleSet, now: Timestamp) -> UserView {
    let reasons = reasons(record, rules, now);
    let effective = effective(record, rules, now);
    UserView {
        namespace: user.namespace.to_string(),
        subject: user.subject.to_string(),
        email: record.email.clone(),
        enabled: record.disabled.is_none(),
        disabled_by: record.disabled.as_ref().and_then(|disabled| disabled.by.as_ref()).map(|(_, label)| label.clone()),
        created_at: record.created_at.to_string(),
        last_login_at: record.last_login().map(|at| at.to_string()),
        groups: effective.groups.iter().map(ToString::to_string).collect(),
        roles: effective.roles.iter().map(ToString::to_string).collect(),
        roles_through_groups: roles_through_groups(&reasons, rules),
        memberships: reasons.into_iter().map(|(target, reasons)| membership(target, reasons)).collect(),
    }
}

fn reasons<'r>(record: &'r Record, rules: &RuleSet, now: Timestamp) -> BTreeMap<&'r Target, Reasons> {
    let mut all: BTreeMap<&Target, Reasons> = BTreeMap::new();
    let mut holdings: Vec<_> = record.holdings.iter().collect();
    // Those by hand first, then by provider and age.
    holdings.sort_by_key(|(grant, holding)| match &grant.source {
        Source::Assigned => (None, holding.granted_at),
        Source::Mapped { provider, .. } => (Some(provider), holding.granted_at),
    });
    for (grant, holding) in holdings {
        let entry = all.entry(&grant.target).or_default();
        let since = holding.granted_at;
        match &grant.source {
            Source::Assigned => {
                entry.assigned = true;
                entry.words.push(format!("assigned by {} at {since}", holding.granted_by));
            }
            Source::Mapped { provider, mapping } => {
                let label =
                    rules.mapping(*mapping).map_or_else(|| format!("removed mapping {mapping}"), |rule| rule.label());
                entry.mapped = true;
                entry.words.push(format!("mapped by `{label}` through {provider} since {since}"));
            }
        }
    }
    for (target, deny) in record.denies.iter().filter(|(_, deny)| deny.binds(now)) {
        let entry = all.entry(target).or_default();
        entry.denied = true;
        entry.words.push(format!("denied by {} at {}: {}", deny.by, deny.at, deny.reason));
    }
    all
}

fn membership(target: &Target, reasons: Reasons) -> MembershipView {
    let membership = match (reasons.mapped, reasons.assigned) {
        (true, true) => "both",
        (true, false) => "mapped",
        (false, true) => "assigned",
        (false, false) => "denied",
    };
    MembershipView {
        kind: target.kind(),
        name: target.name().to_owned(),
        membership,
        effective: (reasons.mapped || reasons.assigned) && !reasons.denied,
        denied: reasons.denied,
        reasons: reasons.words,
    }
}

fn roles_through_groups(reasons: &BTreeMap<&Target, Reasons>, rules: &RuleSet) -> Vec<RoleThroughGroups> {
    let mut roles: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    for (target, why) in reasons {
        let Target::Group(group) = target else { continue };
        if why.denied || !(why.mapped || why.assigned) {
            continue;
        }
        for role in rules.roles_of(group) {
            let denied = reasons.get(&Target::Role(role.clone())).is_some_and(|role| role.denied);
            if !denied {
                roles.entry(role.as_str()).or_default().push(group.to_string());
            }
        }
    }
    roles.into_iter().map(|(role, groups)| RoleThroughGroups { role: role.to_owned(), groups }).collect()
}

// --------------------------------------------------------------------------------------------------------------- export

fn export(
    Known { user, record, .. }: &Known,
    sessions: &[crate::ports::sessions::SessionView],
    audit: &[super::AuditRow],
) -> serde_json::Value {
    use serde_json::json;
    let grants = record.holdings.iter().map(|(grant, holding)| {
        let (provider, mapping) = match &grant.source {
            Source::Assigned => (String::new(), String::new()),
            Source::Mapped { provider, mapping } => (provider.to_string(), mapping.to_string()),
        };
        json!({
            "kind": grant.target.kind(), "name": grant.target.name(), "provider": provider, "mapping": mapping,
            "granted_at": holding.granted_at.0, "granted_by": holding.granted_by, "as_admin": holding.as_admin,
            "held_at": holding.held_at.map(|at| at.0),
        })
    });
    let denies = record.denies.iter().map(|(target, deny)| {
        json!({
            "kind": target.kind(), "name": target.name(), "denied_at": deny.at.0, "denied_by": deny.by,
            "reason": deny.reason, "until": deny.until.map(|until| until.0),
        })
    });
    let logins = record.logins.iter().map(|(provider, login)| {
        json!({
            "provider": provider.as_str(), "issued_at": login.issued_at.0, "last_login_at": login.last_login_at.0,
        })
    });
    let claims = record.claims.iter().map(|(provider, claims)| {
        let claims = claims.iter().map(|claim| json!({ "name": claim.name, "values": claim.values }));
        json!({ "provider": provider.as_str(), "claims": claims.collect::<Vec<_>>() })
    });
    let sessions = sessions.iter().map(|session| {
        json!({
            "provider": session.provider, "created_at": session.created_at.0, "seen_at": session.seen_at.0,
            "expires_at": session.expires_at.0,
        })
    });
    json!({
        "user": [{
            "namespace": user.namespace.as_str(), "subject": user.subject.as_str(), "email": record.email,
            "display_name": record.display_name, "created_at": record.created_at.0,
            "disabled_at": record.disabled.as_ref().map(|disabled| disabled.at.0),
        }],
        "logins": logins.collect::<Vec<_>>(),
        "claims": claims.collect::<Vec<_>>(),
        "grants": grants.collect::<Vec<_>>(),
        "denies": denies.collect::<Vec<_>>(),
        "sessions": sessions.collect::<Vec<_>>(),
        "audit": audit.iter().map(|row| json!({
            "sequence": row.sequence, "at": row.at, "event": row.event, "detail": row.detail, "person": row.person,
        })).collect::<Vec<_>>(),
    })
}
