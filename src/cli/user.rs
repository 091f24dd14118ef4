//! `loginsync user`: who is known, what they hold and why; and an operator's own grants and denies.

mod rekey;

use std::sync::Arc;

use clap::{Args, Subcommand};

use super::{ConfigArgument, Failure, PAGE, all_users, block_on, moment, parse_user, print_json, undeclared, user_id};
use crate::clock::Clock;
use crate::config::Config;
use crate::pipeline::ids::{GroupName, RoleName, Target, Timestamp, UserId};
use crate::pipeline::mapping::RuleSet;
use crate::ports::store::{Act, By, DisabledView, Store, UserView};

#[derive(Debug, Args)]
pub struct UserCommand {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// List all users, one per line
    List {
        #[command(flatten)]
        config: ConfigArgument,
        #[arg(long)]
        json: bool,
    },
    /// Show one user: groups, roles, and the reason for each
    Show {
        #[command(flatten)]
        config: ConfigArgument,
        #[command(flatten)]
        user: UserArgument,
        #[arg(long)]
        json: bool,
    },
    /// Assign a group or role manually; no login revokes it
    Assign(TargetAct),
    /// Remove a manual assignment
    Unassign(TargetAct),
    /// Deny a group or role, whatever mappings give
    Deny {
        #[command(flatten)]
        act: TargetAct,
        /// Reason, shown with the deny
        #[arg(long)]
        reason: String,
        /// Expiry of the deny, such as 2027-01-31T00:00:00Z [default: none]
        #[arg(long, value_parser = moment)]
        until: Option<Timestamp>,
    },
    /// Lift a deny
    Undeny(TargetAct),
    /// Disable a user: refuse their logins and end their sessions
    Disable(UserAct),
    /// Enable a user, or all users that a mapping disabled
    Enable {
        #[command(flatten)]
        config: ConfigArgument,
        #[command(flatten)]
        user: Option<UserArgument>,
        /// All users that this mapping (name, number or ID) disabled; lists them, and enables them with --yes
        #[arg(long, value_name = "MAPPING", conflicts_with_all = ["user", "subject"], required_unless_present = "user")]
        disabled_by: Option<String>,
        /// Apply the change
        #[arg(long)]
        yes: bool,
        /// Name of the operator, for the audit
        #[arg(long, env = "USER", default_value = "unknown")]
        by: String,
    },
    /// Give users new keys and keep their grants, denies and disabled state; shows the change, and applies it with --yes
    Rekey(rekey::Rekey),
    /// Export all data about one user as JSON; times are milliseconds since 1970
    Export {
        #[command(flatten)]
        config: ConfigArgument,
        #[command(flatten)]
        user: UserArgument,
    },
    /// Erase a user and their personal data; the audit chain still verifies
    ///
    /// If the user is disabled or has denies, a keyed digest of their key is kept so that these still apply.
    Erase {
        #[command(flatten)]
        act: UserAct,
        /// Also remove the disabled state and denies, including those of a user erased earlier
        #[arg(long)]
        forget: bool,
    },
}

#[derive(Debug, Args)]
struct UserArgument {
    /// User as `user list` prints it, such as okta/alice; or the namespace alone (the provider's name unless configured otherwise)
    #[arg(value_name = "NAMESPACE/SUBJECT")]
    user: String,
    /// Value of the user claim, if the first argument is the namespace alone
    subject: Option<String>,
}

#[derive(Debug, Args)]
struct UserAct {
    #[command(flatten)]
    config: ConfigArgument,
    #[command(flatten)]
    user: UserArgument,
    /// Name of the operator, for the audit
    #[arg(long, env = "USER", default_value = "unknown")]
    by: String,
}

#[derive(Debug, Args)]
struct TargetAct {
    #[command(flatten)]
    act: UserAct,
    #[command(flatten)]
    target: TargetArgument,
}

#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
struct TargetArgument {
    #[arg(long)]
    group: Option<String>,
    #[arg(long)]
    role: Option<String>,
}

impl UserArgument {
    fn id(&self) -> Result<UserId, Failure> {
        match &self.subject {
            Some(subject) => user_id(&self.user, subject),
            None => parse_user(&self.user),
        }
    }
}

impl TargetArgument {
    /// The target, which the configuration must declare.
    fn target(&self, rules: &RuleSet) -> Result<Target, Failure> {
        match (&self.group, &self.role) {
            (Some(name), _) => match GroupName::parse(name) {
                Ok(group) if rules.groups.contains_key(&group) => Ok(Target::Group(group)),
                _ => Err(undeclared("group", name, rules.groups.keys().map(GroupName::as_str))),
            },
            (None, Some(name)) => match RoleName::parse(name) {
                Ok(role) if rules.roles.contains_key(&role) => Ok(Target::Role(role)),
                _ => Err(undeclared("role", name, rules.roles.keys().map(RoleName::as_str))),
            },
            (None, None) => Err(Failure("expected --group or --role".into())),
        }
    }
}

impl UserCommand {
    /// # Errors
    /// Faults of the configuration, of the store, or of what was asked.
    pub fn run(self) -> Result<(), Failure> {
        match self.action {
            Action::List { config, json } => list(&config, json),
            Action::Show { config, user, json } => show(&config, &user, json),
            Action::Assign(act) => act.on_target(Act::Assign),
            Action::Unassign(act) => act.on_target(Act::Unassign),
            Action::Deny { act, reason, until } => act.on_target(|target| Act::Deny { target, reason, until }),
            Action::Export { config, user } => export(&config, &user),
            Action::Undeny(act) => act.undeny(),
            Action::Disable(act) => act.disable(),
            Action::Enable { config, user, disabled_by, yes, by } => match (user, disabled_by) {
                (_, Some(mapping)) => enable_all(&config, mapping, yes, &by),
                (Some(user), None) => UserAct { config, user, by }.carry_out(Act::Enable),
                (None, None) => Err(Failure("expected a user, or --disabled-by".into())),
            },
            Action::Rekey(rekey) => rekey.run(),
            Action::Erase { act, forget } => act.erase(forget),
        }
    }
}

impl TargetAct {
    fn on_target(self, act: impl FnOnce(Target) -> Act) -> Result<(), Failure> {
        let (config, store) = self.act.config.open_to_act()?;
        let act = act(self.target.target(&config.rules)?);
        let user = self.act.user.id()?;
        if let Err(why) = config.check_namespace(&user)
            && act.creates()
            && !block_on(async { store.has(user.clone()).await.map_err(Failure::new) })?
        {
            return Err(Failure(format!("the namespace `{}` {why}", user.namespace)));
        }
        carry_out(&store, &self.act, act)
    }

    /// A deny outlives what it is of, so that the name may be one that is not declared any more.
    fn undeny(self) -> Result<(), Failure> {
        let (config, store) = self.act.config.open()?;
        let target = match (self.target.target(&config.rules), &self.target) {
            (Ok(target), _) => target,
            (Err(_), TargetArgument { group: Some(name), .. }) => {
                Target::Group(GroupName::parse(name).map_err(|error| Failure(format!("the group {error}")))?)
            }
            (Err(_), TargetArgument { role: Some(name), .. }) => {
                Target::Role(RoleName::parse(name).map_err(|error| Failure(format!("the role {error}")))?)
            }
            (Err(failure), _) => return Err(failure),
        };
        carry_out(&store, &self.act, Act::Undeny(target))
    }
}

impl UserAct {
    fn carry_out(self, act: Act) -> Result<(), Failure> {
        let (_, store) = self.config.open()?;
        carry_out(&store, &self, act)
    }

    fn disable(self) -> Result<(), Failure> {
        let (_, store) = self.config.open()?;
        let done = carry_out(&store, &self, Act::Disable);
        let user = self.user.id()?;
        if done.is_err() && !block_on(async { store.has(user.clone()).await.map_err(Failure::new) })? {
            return Err(Failure(format!(
                "there is no user `{user}`; `loginsync user list` prints users as they are named here. A person who has not logged in \
                 yet cannot be disabled: a `[[gate]]` refuses them at their first login"
            )));
        }
        done
    }

    fn erase(self, forget: bool) -> Result<(), Failure> {
        let (config, store) = self.config.open()?;
        let (user, rules) = (self.user.id()?, Arc::clone(&config.rules));
        let view = block_on(async { store.user(user, rules, Clock::system().now()).await.map_err(Failure::new) })?;
        let bound = view.map(|view| view.binding()).unwrap_or_default();
        carry_out(&store, &self, if forget { Act::Forget } else { Act::Erase })?;
        if !bound.binds() {
            return Ok(());
        }
        let mut was: Vec<String> = bound.denies.iter().map(|target| format!("denied {target}")).collect();
        if bound.disabled {
            was.insert(0, "disabled".into());
        }
        match forget {
            true => remark!("this person was {}; none of this applies to them any more", was.join(", ")),
            false => remark!(
                "this person was {}: a keyed digest of their key is kept, so that this still applies if they come back; \
                 `user erase --forget` removes it",
                was.join(", ")
            ),
        }
        Ok(())
    }
}

fn enable_all(config: &ConfigArgument, mapping: String, yes: bool, by: &str) -> Result<(), Failure> {
    let (_, store) = config.open()?;
    let found = block_on(async { store.disabled_by(mapping.clone()).await.map_err(Failure::new) })?;
    if found.is_empty() {
        return Err(Failure(format!(
            "no mapping `{mapping}` disabled a user who is still disabled; expected its name or number"
        )));
    }
    for DisabledView { user, mapping, since } in &found {
        let user = user.as_ref().map_or_else(|| String::from("an erased person"), ToString::to_string);
        say!("{user}  disabled by `{mapping}` since {since}");
    }
    if !yes {
        remark!("nothing was changed; `--yes` enables these {}", found.len());
        return Ok(());
    }
    let by = By::operator(format!("cli:{by}"));
    let done =
        block_on(async { store.enable_disabled_by(mapping, by, Clock::system().now()).await.map_err(Failure::new) })?;
    say!("{done} enabled");
    Ok(())
}

fn carry_out(store: &Store, arguments: &UserAct, act: Act) -> Result<(), Failure> {
    let user = arguments.user.id()?;
    let by = By::operator(format!("cli:{}", arguments.by));
    block_on(async { store.act(user, act, by, Clock::system().now()).await.map_err(Failure::new) })?;
    say!("done");
    Ok(())
}

fn list(config: &ConfigArgument, json: bool) -> Result<(), Failure> {
    let (_, store) = config.open()?;
    let users = block_on(all_users(async |after| store.users(after, PAGE).await))?;
    print_users(&users, json)
}

/// Prints users one per line, or as a JSON list.
pub(super) fn print_users(users: &[UserId], json: bool) -> Result<(), Failure> {
    if json {
        let rows: Vec<_> = users
            .iter()
            .map(|user| serde_json::json!({ "namespace": user.namespace.as_str(), "subject": user.subject.as_str() }))
            .collect();
        return print_json(&rows);
    }
    users.iter().for_each(|user| say!("{user}"));
    Ok(())
}

fn show(arguments: &ConfigArgument, user: &UserArgument, json: bool) -> Result<(), Failure> {
    let (config, store) = arguments.open()?;
    let Config { rules, .. } = config;
    let id = user.id()?;
    let view = block_on(async {
        store.user(id.clone(), Arc::clone(&rules), Clock::system().now()).await.map_err(Failure::new)
    })?;
    let view = view.ok_or_else(|| Failure(format!("no such user: `{id}`")))?;
    if json {
        return print_json(&view);
    }
    say_part!("{}", in_words(&view));
    Ok(())
}

/// A user as text.
pub fn in_words(view: &UserView) -> String {
    use std::fmt::Write as _;
    let mut text = format!("{}/{}", view.namespace, view.subject);
    if let Some(email) = &view.email {
        let _ = write!(text, "  {email}");
    }
    let disabled = match (view.enabled, &view.disabled_by) {
        (true, _) => String::new(),
        (false, None) => String::from("  DISABLED"),
        (false, Some(mapping)) => format!("  DISABLED by mapping `{mapping}`"),
    };
    let _ = writeln!(text, "{disabled}");
    let _ = writeln!(text, "last login: {}", view.last_login_at.as_deref().unwrap_or("none"));
    for membership in &view.memberships {
        let state = if membership.effective { membership.membership } else { "denied" };
        let _ = writeln!(text, "{} {} ({state})", membership.kind, membership.name);
        for reason in &membership.reasons {
            let _ = writeln!(text, "    {reason}");
        }
    }
    for role in &view.roles_through_groups {
        let _ = writeln!(text, "role {} (through {})", role.role, role.groups.join(", "));
    }
    text
}

fn export(config: &ConfigArgument, user: &UserArgument) -> Result<(), Failure> {
    let (_, store) = config.open()?;
    let id = user.id()?;
    let found = block_on(async { store.export(id.clone()).await.map_err(Failure::new) })?;
    let Some(found) = found else { return Err(Failure(format!("no such user: `{id}`"))) };
    print_json(&found)
}
