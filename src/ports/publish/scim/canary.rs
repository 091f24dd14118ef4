//! Learns what a server can, by a user and a group that are made for it and removed again.

use aws_lc_rs::rand;
use serde_json::Value;

use super::super::{Fault, FaultKind, Finding};
use super::Addresses;
use super::connection::Server;
use super::message::{Kind, Member, Person, Request, group, group_with, id, members, page, text};
use super::quirks::{Quirks, Way};
use super::users::{self, set_active};
use crate::pipeline::ids::Timestamp;

/// Tries everything that deliveries do.
///
/// # Errors
/// When the server cannot be reached, or makes no user.
pub(super) async fn learn(
    server: &dyn Server,
    addresses: &Addresses,
    now: Timestamp,
) -> Result<(Quirks, Vec<Finding>), Fault> {
    let mut tag = [0; 6];
    rand::fill(&mut tag)
        .map_err(|_| Fault::new(FaultKind::Refused, "the operating system returned no random bytes"))?;
    let tag: String = tag.iter().map(|byte| format!("{byte:02x}")).collect();
    let person = Person {
        external_id: format!("loginsync-canary/{tag}"),
        user_name: format!("loginsync-canary-{tag}"),
        former_id: None,
        former_name: None,
        display_name: Some("loginsync canary".into()),
        email: Some(format!("loginsync-canary-{tag}@example.com")),
    };
    let made = users::create(server, &person).await?;
    let user = made.ok_or_else(|| Fault::new(FaultKind::Refused, "the canary exists already"))?.id;
    let mut canary =
        Canary { server, findings: Vec::new(), quirks: Quirks { tested_at: Some(now.0), ..Quirks::default() } };
    let member = Member { display: person.user_name.clone(), address: addresses.of_user(&user), id: user.clone() };
    let outcome = canary.look(&person, member, &tag).await;
    // Whatever has happened, nothing is left there.
    let group = outcome.as_ref().ok().cloned().flatten();
    let mut left = Vec::new();
    for (kind, id) in group.iter().map(|id| (Kind::Groups, id)).chain([(Kind::Users, &user)]) {
        let answer = server.ask(Request::delete(kind, id)).await?;
        if !answer.is_success() && !answer.is_gone() {
            left.push(format!("`{}` (status {})", person.user_name, answer.status));
        }
    }
    outcome?;
    let removed = if left.is_empty() { "yes".to_owned() } else { format!("no: remove by hand {}", left.join(", ")) };
    canary.found("canary removed", removed);
    Ok((canary.quirks, canary.findings))
}

struct Canary<'s> {
    server: &'s dyn Server,
    findings: Vec<Finding>,
    quirks: Quirks,
}

impl Canary<'_> {
    fn found(&mut self, what: &'static str, how: impl Into<String>) {
        self.findings.push((what, how.into()));
    }

    /// Returns the group that was made.
    async fn look(&mut self, person: &Person, mut member: Member, tag: &str) -> Result<Option<String>, Fault> {
        self.found("user created", "yes");
        self.search(person, &member.id).await?;
        self.access(&member.id).await?;
        let name = format!("loginsync-canary-{tag}");
        let mut place = None;
        let mut statuses = Vec::new();
        for first in [None, Some(&member)] {
            let answer = self.server.ask(Request::create(Kind::Groups, group(&name, first))).await?;
            if let Some(id) = id(&answer.body).filter(|_| answer.is_success()) {
                self.quirks.empty_groups = Some(first.is_none());
                place = Some(id);
                break;
            }
            statuses.push(answer.status.to_string());
        }
        let Some(place) = place else {
            self.found("group created", format!("no (status {})", statuses.join(", ")));
            return Ok(None);
        };
        let empty = self.quirks.empty_groups == Some(true);
        self.found("group created", if empty { "yes, empty" } else { "yes, with a member alone" });
        let looked = self.membership(&place, &mut member, !empty).await;
        // What was made is removed also where this went wrong.
        if looked.is_err() {
            let _ = self.server.ask(Request::delete(Kind::Groups, &place)).await;
        }
        looked?;
        Ok(Some(place))
    }

    async fn search(&mut self, person: &Person, id: &str) -> Result<(), Fault> {
        let answer = self.server.ask(Request::find(Kind::Users, "userName", &person.user_name, 1)).await?;
        let how = match page(&answer.body).filter(|_| answer.is_success()) {
            None => format!("no (status {})", answer.status),
            Some((found, total)) => match found.iter().any(|it| text(it, "userName") == Some(&person.user_name)) {
                true if total == 1 => "yes".into(),
                _ if total > 0 => format!("ignored: {total} were returned, and are looked through"),
                _ => "no: it finds nothing".into(),
            },
        };
        self.found("filter by userName", how);
        let answer = self.server.ask(Request::get(Kind::Users, id)).await?;
        let keeps = text(&answer.body, "externalId") == Some(&person.external_id);
        self.found("externalId", if keeps { "kept" } else { "not kept" });
        Ok(())
    }

    async fn access(&mut self, user: &str) -> Result<(), Fault> {
        let off = tolerant(set_active(self.server, user, false).await)?;
        let on = tolerant(set_active(self.server, user, true).await)?;
        let works = off.is_none() && on.is_none();
        self.quirks.active = Some(works);
        self.found("active switched off and on", off.or(on).unwrap_or_else(|| "yes".into()));
        Ok(())
    }

    /// `None`: not shown.
    async fn shown(&self, place: &str) -> Result<Option<(Vec<String>, Value)>, Fault> {
        let answer = self.server.ask(Request::get(Kind::Groups, place)).await?;
        Ok(answer.is_success().then(|| (members(&answer.body), answer.body)))
    }

    /// Whether a member is shown; by whichever name, which is kept from then on.
    async fn has(&mut self, place: &str, member: &mut Member) -> Result<bool, Fault> {
        let Some((members, _)) = self.shown(place).await? else { return Ok(false) };
        if !members.contains(&member.id) && members.contains(&member.display) {
            self.quirks.names_members = true;
            member.id.clone_from(&member.display);
        }
        Ok(members.contains(&member.id))
    }

    async fn membership(&mut self, place: &str, member: &mut Member, mut is_in: bool) -> Result<(), Fault> {
        // One who came with the group has to go before adding can be looked at.
        if is_in {
            if !self.has(place, member).await? {
                self.hidden();
                return Ok(());
            }
            self.quirks.remove = self.change(place, member, false).await?;
            is_in = self.has(place, member).await?;
        }
        if !is_in {
            self.quirks.add = self.change(place, member, true).await?;
            if self.quirks.add == Way::No {
                self.hidden();
                return Ok(());
            }
            let how = if self.quirks.names_members { "yes, by their userName" } else { "yes" };
            self.found("members shown", how);
            self.found("member put in", self.quirks.add.word());
        }
        self.quirks.remove = self.change(place, member, false).await?;
        self.found("member taken out", self.quirks.remove.word());
        Ok(())
    }

    fn hidden(&mut self) {
        self.quirks.hides_members = true;
        self.quirks.add = Way::Patch;
        self.found("members shown", "no: whether a change was made cannot be looked at");
    }

    /// How a member gets in or out.
    async fn change(&mut self, place: &str, member: &mut Member, is_in: bool) -> Result<Way, Fault> {
        let operation = if is_in { member.add() } else { member.remove() };
        self.server.ask(Request::patch(Kind::Groups, place, operation)).await?;
        if self.has(place, member).await? == is_in {
            return Ok(Way::Patch);
        }
        if let Some((_, read)) = self.shown(place).await? {
            let body = group_with(&read, member, is_in);
            self.server.ask(Request::put(Kind::Groups, place, body)).await?;
            if self.has(place, member).await? == is_in {
                return Ok(Way::Put);
            }
        }
        Ok(Way::No)
    }
}

/// What a server refuses is a finding; that it cannot be reached is a fault.
fn tolerant(done: Result<(), Fault>) -> Result<Option<String>, Fault> {
    match done {
        Ok(()) => Ok(None),
        Err(fault) if matches!(fault.kind, FaultKind::Refused | FaultKind::Away(None)) => {
            Ok(Some(format!("no: {fault}")))
        }
        Err(fault) => Err(fault),
    }
}
