//! Apps with users and groups of their own, kept by SCIM 2.0 (RFC 7643, RFC 7644).
//!
//! A delivery brings one user's state to the app: the user is found or made, taken out of groups, and put into others. A status of
//! 200 proves nothing, so what was done is looked at where the app shows it. What is remembered of ids saves searches; what is not
//! there any more is learned again.
//!
//! ```text
//! connection   the way to a server
//! message      requests and answers, without reaching out
//! users        find, create, activate
//! groups       find, create, put in, take out
//! canary       learns what a server can, by a user and a group of its own
//! quirks       what was learned
//! work         what is to be done about a user, decided before anything is asked
//! survey       who would gain and lose what there
//! ```

mod canary;
mod connection;
mod groups;
mod message;
mod quirks;
mod survey;
#[cfg(test)]
mod tests;
mod users;
mod work;

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::sync::Arc;

use tokio::sync::Mutex;

use self::connection::{Connection, Server};
use self::groups::Look;
use self::message::{Member, Person};
use self::quirks::Quirks;
use self::survey::There as Shown;
pub use self::survey::{GroupSurvey, Ours, Survey};
use self::users::{Behind, There};
use self::work::{Work, external_id};
use super::super::BoxFuture;
use super::super::http::HttpClient;
use super::super::outbox::{Local, Outbox};
use super::{Fault, FaultKind, Finding, Notice, Progress, RESYNC, Receiver, Sent, Told};
use crate::clock::Clock;
use crate::config::{Filter, ReceiverSettings, Scim, ScimUsers, UserNameSource};
use crate::pipeline::ids::Timestamp;

/// Locks for groups: two that share one wait for each other, and nothing else comes of it.
const LOCKS: usize = 64;

/// A `[[scim]]` that is ready for deliveries.
pub struct ScimReceiver {
    settings: ReceiverSettings,
    scim: Scim,
    server: Box<dyn Server>,
    /// For addresses in what is sent.
    addresses: Addresses,
    outbox: Arc<dyn Outbox>,
    /// One change of a group at a time: many servers lose one of two.
    locks: [Mutex<()>; LOCKS],
}

/// How a server names its own resources.
struct Addresses(String);

impl Addresses {
    fn of_user(&self, id: &str) -> String {
        format!("{}/Users/{id}", self.0)
    }
}

impl ScimReceiver {
    pub fn new(
        settings: ReceiverSettings,
        scim: Scim,
        client: HttpClient,
        outbox: Arc<dyn Outbox>,
        clock: Clock,
    ) -> Self {
        let login = scim.login.clone();
        let addresses = Addresses(settings.url.as_str().trim_end_matches('/').to_owned());
        let server = Box::new(Connection::new(settings.url.clone(), client, login, clock, settings.timeout));
        Self { settings, scim, server, addresses, outbox, locks: std::array::from_fn(|_| Mutex::new(())) }
    }

    async fn quirks(&self) -> Result<Quirks, Fault> {
        Ok(Quirks::read(self.outbox.note(Quirks::note_of(&self.settings.name)).await?.as_deref()))
    }

    fn user_name(&self, told: &Told) -> Option<String> {
        match self.scim.user_name {
            UserNameSource::Subject => Some(told.subject.clone()),
            UserNameSource::Email => told.email.clone(),
            UserNameSource::Name => told.name.clone(),
        }
    }

    /// Who a user is there; `None` where what their name should be is not known.
    fn person(&self, told: &Told, before: Option<&Told>) -> Option<Person> {
        let former_name = before.and_then(|before| self.user_name(before));
        // One who has lost their address is still the one who had it.
        let user_name = self.user_name(told).filter(|name| !name.trim().is_empty());
        Some(Person {
            external_id: external_id(told),
            former_id: before.map(external_id),
            user_name: user_name.or_else(|| former_name.clone())?,
            former_name,
            display_name: told.name.clone(),
            email: told.email.clone(),
        })
    }

    /// The user at the receiver. `may_create`: one who is not there is made, if such are made at all.
    /// `anew`: an id that is another's now is forgotten.
    async fn user(&self, number: i64, person: &Person, may_create: bool, anew: bool) -> Result<Option<There>, Fault> {
        let (name, local) = (&self.settings.name, Local::User(number));
        let takes_over = self.scim.users == ScimUsers::Match;
        if let Some(id) = self.outbox.remote(name.clone(), local.clone()).await? {
            match users::remembered(&*self.server, person, takes_over, &id).await? {
                Behind::TheUser(there) => return Ok(Some(there)),
                Behind::Another if !anew => {
                    let why = "the user who was known there is another one now: run `loginsync delivery resync`";
                    return Err(Fault::new(FaultKind::Refused, why));
                }
                Behind::Another | Behind::Nothing => {}
            }
            self.outbox.set_remote(name.clone(), local.clone(), None, false).await?;
        }
        let mut found = users::find(&*self.server, person, takes_over, false).await?;
        if found.is_none() && may_create && self.scim.users.creates() {
            found = match users::create(&*self.server, person).await? {
                Some(made) => Some(made),
                // Another was faster, or it writes the name otherwise.
                None => users::find(&*self.server, person, takes_over, true).await?,
            };
            if found.is_none() {
                let why = "the receiver says that it has the user, and does not find it";
                return Err(Fault::new(FaultKind::Refused, why));
            }
        }
        let Some(there) = found else { return Ok(None) };
        match self.outbox.set_remote(name.clone(), local, Some(there.id.clone()), there.is_certain).await? {
            true => Ok(Some(there)),
            false => {
                let why = "the user of this `userName` there is another user of ours";
                Err(Fault::new(FaultKind::Refused, why))
            }
        }
    }

    /// The id of a group, and whether we have just made it; `None` where it is not there and not made.
    async fn group(
        &self,
        quirks: &Quirks,
        name: &str,
        first: Option<&Member>,
        notes: &mut Notes<'_>,
    ) -> Result<Option<(String, bool)>, Fault> {
        let (receiver, local) = (&self.settings.name, Local::Group(name.to_owned()));
        if let Some(id) = self.outbox.remote(receiver.clone(), local.clone()).await? {
            return Ok(Some((id, false)));
        }
        let mut found = groups::find(&*self.server, name).await?.map(|id| (id, false));
        if let (None, Some(first), true) = (&found, first, self.scim.create_groups) {
            notes.sends(name).await?;
            found = match groups::create(&*self.server, quirks, name, first).await? {
                Some(id) => Some((id, true)),
                None => groups::find(&*self.server, name).await?.map(|id| (id, false)),
            };
        }
        if let Some((id, _)) = &found {
            self.outbox.set_remote(receiver.clone(), local, Some(id.clone()), true).await?;
        }
        Ok(found)
    }

    async fn set_active(&self, quirks: &Quirks, id: &str, active: bool) -> Result<(), Fault> {
        if quirks.active == Some(false) {
            let why = "the receiver has no `active`, by its last `loginsync delivery test`";
            return Err(Fault::new(FaultKind::Refused, why));
        }
        users::set_active(&*self.server, id, active).await
    }

    /// Puts a user into a group, or takes them out. Returns whether they were there, or not there, before. `anew`: an id that is
    /// another group's now is forgotten. What is put in is noted before.
    async fn set_member(
        &self,
        quirks: &Quirks,
        name: &str,
        member: &Member,
        (is_in, anew): (bool, bool),
        notes: &mut Notes<'_>,
    ) -> Result<Put, Fault> {
        let mut hasher = DefaultHasher::new();
        name.hash(&mut hasher);
        let lock = usize::try_from(hasher.finish() % LOCKS as u64).unwrap_or_default();
        let _alone = match self.locks.get(lock) {
            Some(lock) => Some(lock.lock().await),
            None => None,
        };
        let server = &*self.server;
        // An id that is good no more is learned again, once.
        for _ in 0..2 {
            let Some((id, is_ours)) = self.group(quirks, name, is_in.then_some(member), notes).await? else {
                return match is_in {
                    false => Ok(Put::Already),
                    true => Err(Fault::new(FaultKind::Refused, self.missing(name))),
                };
            };
            match groups::look(server, quirks, (&id, name), member, (is_in, anew)).await? {
                // A group of ours may have been made with its first member.
                Look::Already if is_ours => return Ok(Put::Done),
                Look::Already => return Ok(Put::Already),
                Look::Other(shown) => {
                    if is_in {
                        notes.sends(name).await?;
                    }
                    if groups::change(server, quirks, (&id, name), member, is_in, &shown).await? {
                        return Ok(Put::Done);
                    }
                }
                Look::Gone => {}
            }
            let (receiver, group) = (self.settings.name.clone(), Local::Group(name.to_owned()));
            self.outbox.set_remote(receiver, group, None, false).await?;
        }
        match is_in {
            false => Ok(Put::Already),
            true => Err(Fault::new(
                FaultKind::Refused,
                format!("group `{name}` is there, and the receiver does not find it"),
            )),
        }
    }

    /// Compares what users hold with what is there, for groups of these names. Nothing is changed.
    ///
    /// # Errors
    /// When the server fails.
    pub async fn survey(&self, groups: &[String], ours: &[Ours]) -> Result<Survey, Fault> {
        let quirks = self.quirks().await?;
        let (mut ids, mut places) = (BTreeMap::new(), BTreeMap::new());
        for (local, id) in self.outbox.remotes(self.settings.name.clone()).await? {
            match local {
                Local::User(number) => drop(ids.insert(number, id)),
                Local::Group(name) => drop(places.insert(name, id)),
            }
        }
        if quirks.names_members {
            let named = ours.iter().filter_map(|one| Some((one.number, self.user_name(one.told.as_ref()?)?)));
            ids = named.collect();
        }
        let mut there = Vec::new();
        for name in groups {
            let place = match places.get(name) {
                Some(place) => Some(place.clone()),
                None => groups::find(&*self.server, name).await?,
            };
            let shown = match &place {
                Some(place) => groups::read(&*self.server, &quirks, place, name).await?,
                None => None,
            };
            let found = match shown {
                None => Shown::Missing,
                Some(shown) => shown.members.map_or(Shown::Hidden, Shown::Members),
            };
            there.push((name.clone(), found));
        }
        Ok(survey::survey(there, ours, &ids, self.scim.authoritative))
    }

    /// Takes members out of a group whom others put there. Returns how many.
    ///
    /// # Errors
    /// When one is not taken out.
    pub async fn remove(&self, group: &str, ids: &[String]) -> Result<u64, Fault> {
        let quirks = self.quirks().await?;
        let mut removed = 0;
        for id in ids {
            let member = Member { id: id.clone(), display: id.clone(), address: self.addresses.of_user(id) };
            let notes = &mut Notes { receiver: self, number: 0, told: Told::default() };
            if self.set_member(&quirks, group, &member, (false, false), notes).await? == Put::Done {
                removed += 1;
            }
        }
        Ok(removed)
    }

    fn missing(&self, name: &str) -> String {
        match self.scim.create_groups {
            true => format!("the receiver says that it has group `{name}`, and does not find it"),
            false => format!("there is no group `{name}` there: make it, or set `create_groups = true`"),
        }
    }

    async fn bring(&self, notice: &Notice) -> Result<Sent, Fault> {
        let Some(work) = Work::of(notice, &self.scim) else { return Ok(Sent::Nothing) };
        let (number, wants) = (notice.number, !work.wanted.is_empty());
        let anew = notice.cause == RESYNC;
        let Some(person) = self.person(work.told, notice.before.as_ref().or(notice.known.as_ref())) else {
            let why = "the user has no e-mail address or name, which is to be their `userName` there";
            return if wants { Err(Fault::new(FaultKind::Refused, why)) } else { Ok(Sent::taken()) };
        };
        let Some(there) = self.user(number, &person, wants, anew).await? else {
            // Who is not there holds nothing there.
            return Ok(if wants { Sent::Absent } else { Sent::taken() });
        };
        let quirks = self.quirks().await?;
        let mut refused = None;
        // Of one thing; others may go well.
        let mut collect = |fault: Fault| match fault.kind {
            FaultKind::Refused => {
                refused.get_or_insert(fault);
                Ok(())
            }
            _ => Err(fault),
        };
        if let Some(active) = work.active.filter(|active| there.active != Some(*active)) {
            self.set_active(&quirks, &there.id, active).await.or_else(&mut collect)?;
        }
        let member = Member {
            display: person.user_name.clone(),
            address: self.addresses.of_user(&there.id),
            id: if quirks.names_members { person.user_name.clone() } else { there.id.clone() },
        };
        let mut notes = Notes { receiver: self, number, told: notice.noted() };
        let mut foreign = work.foreign.clone();
        let mut progress = if there.is_new { Progress::default() } else { work.progress(notice.version) };
        progress.version = notice.version;
        let mut away = None;
        for (name, is_in) in work.steps(there.is_new) {
            match self.set_member(&quirks, name, &member, (is_in, anew), &mut notes).await {
                Ok(Put::Already) if is_in && work.may_be_foreign(name) => {
                    foreign.insert(name.clone());
                    progress.done.insert(name.clone());
                }
                Ok(put) if is_in => {
                    if put == Put::Done {
                        foreign.remove(name);
                    }
                    progress.done.insert(name.clone());
                }
                Ok(_) => notes.lost(name),
                Err(fault) => {
                    away = collect(fault).err();
                    if away.is_some() {
                        break;
                    }
                }
            }
        }
        if let Some(fault) = away.or(refused) {
            progress.foreign = foreign;
            notes.keep(progress).await?;
            return Err(fault);
        }
        if !there.is_new && self.scim.users.creates() {
            users::rename(&*self.server, &there.id, &person).await?;
        }
        foreign.retain(|name| work.wanted.contains(name));
        Ok(Sent::Taken { foreign })
    }
}

/// What became of a member.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Put {
    /// It is in, or out, by our doing.
    Done,
    /// It was so before.
    Already,
}

/// What is noted of a user before something is sent: an answer that is lost leaves open what was taken.
struct Notes<'r> {
    receiver: &'r ScimReceiver,
    number: i64,
    told: Told,
}

impl Notes<'_> {
    /// They were seen out of a group.
    fn lost(&mut self, group: &str) {
        self.told.groups.remove(group);
        self.told.foreign.remove(group);
    }

    /// The next try goes on where this one has failed.
    async fn keep(mut self, progress: Progress) -> Result<(), Fault> {
        self.told.progress = Some(progress);
        let name = self.receiver.settings.name.clone();
        Ok(self.receiver.outbox.attempt(name, self.number, self.told.text()).await?)
    }

    /// From now on they may be in a group by us.
    async fn sends(&mut self, group: &str) -> Result<(), Fault> {
        if self.told.unsent.remove(group) {
            let name = self.receiver.settings.name.clone();
            self.receiver.outbox.attempt(name, self.number, self.told.text()).await?;
        }
        Ok(())
    }
}

impl Receiver for ScimReceiver {
    fn name(&self) -> &str {
        &self.settings.name
    }

    fn filter(&self) -> &Filter {
        &self.settings.filter
    }

    fn tell<'a>(&'a self, notice: &'a Notice) -> BoxFuture<'a, Result<Sent, Fault>> {
        Box::pin(self.bring(notice))
    }

    fn as_scim(&self) -> Option<&ScimReceiver> {
        Some(self)
    }

    fn test(&self, now: Timestamp) -> BoxFuture<'_, Result<Vec<Finding>, Fault>> {
        Box::pin(async move {
            let (quirks, findings) = canary::learn(&*self.server, &self.addresses, now).await?;
            self.outbox.set_note(Quirks::note_of(&self.settings.name), quirks.text()).await?;
            Ok(findings)
        })
    }
}
