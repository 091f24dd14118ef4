//! Who holds what by hand, and who may not.

use std::collections::BTreeSet;

use super::{Call, Refused, Service};
use crate::config::Scope;
use crate::pipeline::ids::{ProviderName, Target, UserId};
use crate::pipeline::mapping::RuleSet;
use crate::ports::store::{Act, Foreseen, HoldFilter, Rekeyed, StoreError, UserView};

/// Acts on people that are carried out together or not at all.
pub type MembersChange = Vec<(UserId, Act)>;

impl Service {
    /// # Errors
    /// When there is no such user, or the store cannot be read.
    pub async fn user(&self, user: UserId) -> Result<UserView, Refused> {
        let found = self.inspect.store().user(user.clone(), self.inspect.rules(), self.inspect.now()).await?;
        found.ok_or_else(|| Refused::NotFound(format!("there is no user `{user}`")))
    }

    /// Carries out all acts in one transaction. What concerns something privileged is for `admin` alone.
    ///
    /// # Errors
    /// When the caller may not, a target is not declared, or one of the acts has nothing to do.
    pub async fn act(&self, call: &Call, acts: MembersChange) -> Result<(), Refused> {
        call.caller.may(Scope::WriteMembers)?;
        let rules = self.inspect.rules();
        for (user, act) in &acts {
            self.check(call, &rules, user, act).await?;
        }
        let outcome = self.inspect.store().act_all(acts, call.caller.acts(&rules), self.inspect.now()).await;
        outcome.map_err(undone)
    }

    /// The outcome of an act. Nothing is written; who may not act learns nothing.
    ///
    /// # Errors
    /// As for [`Self::act`].
    pub async fn foresee(&self, call: &Call, user: UserId, act: Act) -> Result<Foreseen, Refused> {
        call.caller.may(Scope::WriteMembers)?;
        let rules = self.inspect.rules();
        self.check(call, &rules, &user, &act).await?;
        let (by, now) = (call.caller.acts(&rules), self.inspect.now());
        self.inspect.store().foresee_act(user, act, by, rules, now).await.map_err(undone)
    }

    /// Whether a caller may do something to a user.
    async fn check(&self, call: &Call, rules: &RuleSet, user: &UserId, act: &Act) -> Result<(), Refused> {
        self.check_namespace(user, act).await?;
        let target = match act {
            Act::Assign(target) | Act::Deny { target, .. } => {
                if !rules.declares(target) {
                    return Err(Refused::NotFound(format!("there is no {target}")));
                }
                Some(target)
            }
            Act::Unassign(target) => Some(target),
            // What will bear the name of something that is gone is not known.
            Act::Undeny(target) if !rules.declares(target) => {
                call.caller.may(Scope::Admin)?;
                None
            }
            Act::Undeny(target) => Some(target),
            Act::Erase | Act::Forget => {
                call.caller.may(Scope::Admin)?;
                None
            }
            Act::Create { .. } | Act::Rename(_) => None,
            Act::Disable | Act::Enable => {
                self.check_disabling(call, user).await?;
                None
            }
        };
        match target.is_some_and(|target| rules.is_privileged(target)) && !call.caller.is_admin() {
            true => Err(Refused::Forbidden("what is privileged takes scope `admin`".into())),
            false => Ok(()),
        }
    }

    /// Releases holds: plans each again, without the brake. Answers how many holds that were.
    ///
    /// # Errors
    /// When the caller may not, or the store is not available; what was released before that stays so.
    pub async fn release_holds(&self, call: &Call, filter: HoldFilter) -> Result<u64, Refused> {
        call.caller.may(Scope::Admin)?;
        let (rules, by) = (self.inspect.rules(), call.caller.by());
        Ok(self.inspect.store().release(filter, rules, by, self.inspect.now()).await?)
    }

    /// Discards holds: the grants stay until a later login decides otherwise. Answers how many holds that were.
    ///
    /// # Errors
    /// As for [`Self::release_holds`].
    pub async fn discard_holds(&self, call: &Call, filter: HoldFilter) -> Result<u64, Refused> {
        call.caller.may(Scope::Admin)?;
        let (rules, by) = (self.inspect.rules(), call.caller.by());
        Ok(self.inspect.store().discard(filter, rules, by, self.inspect.now()).await?)
    }

    /// A user whom nothing could log in as is not made: what is denied or given to them would reach no one.
    async fn check_namespace(&self, user: &UserId, act: &Act) -> Result<(), Refused> {
        match self.inspect.config().check_namespace(user) {
            Err(why) if act.creates() && !self.inspect.store().has(user.clone()).await? => {
                Err(Refused::fault("namespace", Some(user.namespace.as_str()), why))
            }
            _ => Ok(()),
        }
    }

    /// Who holds something privileged is disabled and enabled by `admin` alone.
    async fn check_disabling(&self, call: &Call, user: &UserId) -> Result<(), Refused> {
        let rules = self.inspect.rules();
        let Some(view) = self.inspect.store().user(user.clone(), self.inspect.rules(), self.inspect.now()).await?
        else {
            // A user who was erased holds nothing. Whether there was such a person, the store says.
            return Ok(());
        };
        let privileged = |name: &String| rules.groups.get(name.as_str()).is_some_and(|group| group.privileged);
        let privileged_role = |name: &String| rules.roles.get(name.as_str()).is_some_and(|role| role.privileged);
        let holds = view.groups.iter().any(privileged) || view.roles.iter().any(privileged_role);
        match holds && !call.caller.is_admin() {
            true => Err(Refused::Forbidden(format!("`{user}` holds something privileged: this takes scope `admin`"))),
            false => Ok(()),
        }
    }

    /// The stages that some provider or group is in, by name.
    pub fn stages(&self) -> BTreeSet<String> {
        let rules = self.inspect.rules();
        let of_providers = rules.providers.values().flat_map(|provider| &provider.stages);
        let stages = of_providers.chain(rules.groups.values().flat_map(|group| &group.stages));
        stages.map(ToString::to_string).collect()
    }

    /// Gives people new keys, all of them or none, or tells the outcome of that. It moves what binds people, so that it is
    /// for `admin` alone.
    ///
    /// # Errors
    /// When the caller may not, a user does not exist, or a user has a new key already and `merge` is not set.
    pub async fn rekey(
        &self,
        call: &Call,
        keys: Vec<(UserId, UserId)>,
        merge: bool,
        carry_out: bool,
    ) -> Result<Vec<Rekeyed>, Refused> {
        call.caller.may(Scope::Admin)?;
        let by = carry_out.then(|| call.caller.acts(&self.inspect.rules()));
        let outcome = self.inspect.store().rekey(keys, merge, by, self.inspect.now()).await;
        outcome.map_err(|error| match error {
            StoreError::Invalid(why) => Refused::Conflict(why),
            other => other.into(),
        })
    }

    /// Whether a target may be changed by this caller.
    ///
    /// # Errors
    /// When it is privileged and the caller is not `admin`.
    pub fn check_privileged(&self, call: &Call, target: &Target) -> Result<(), Refused> {
        match self.inspect.rules().is_privileged(target) && !call.caller.is_admin() {
            true => Err(Refused::Forbidden(format!("{target} is privileged: this takes scope `admin`"))),
            false => Ok(()),
        }
    }
}

fn undone(error: StoreError) -> Refused {
    match error {
        StoreError::Invalid(why) if why.starts_with("there is no user") => Refused::NotFound(why),
        StoreError::Invalid(why) => Refused::Conflict(why),
        other => other.into(),
    }
}

/// The UUID by which faces know a provider: made of its name, since providers are in the file alone (RFC 9562 section 5.8).
pub fn provider_key(name: &ProviderName) -> String {
    key_of(&format!("provider {name}"))
}

/// The UUID by which faces know a stage: made of its name, since a stage has nothing else.
pub fn stage_key(name: &str) -> String {
    key_of(&format!("stage {name}"))
}

fn key_of(text: &str) -> String {
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, text.as_bytes());
    let mut bytes = [0; 16];
    bytes.copy_from_slice(digest.as_ref().get(..16).unwrap_or(&[0; 16]));
    uuid::Builder::from_custom_bytes(bytes).into_uuid().to_string()
}
