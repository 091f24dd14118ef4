//! `loginsync delivery`: the pending deliveries of receivers.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use clap::{Args, Subcommand};

use super::{ConfigArgument, Failure, block_on, parse_user, print_json, undeclared};
use crate::app;
use crate::clock::Clock;
use crate::config::{Config, ReceiverKind, ReceiverSettings, SECRET_PREFIX};
use crate::pipeline::ids::{GroupName, Target};
use crate::ports::publish::receivers::{PendingView, ReceiverView, TestFinding};
use crate::ports::publish::scim::ScimReceiver;
use crate::ports::store::Store;

#[derive(Debug, Args)]
pub struct DeliveryCommand {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// List receivers and their state
    List(List),
    /// Show a receiver and its pending deliveries
    Show(Named),
    /// Send a webhook a `ping`, or test what a SCIM server supports: creates a user and a group there, and removes them
    Test(Test),
    /// Print the secrets that sign messages to a receiver
    Secret(Named),
    /// Retry failed deliveries now
    Retry(Act),
    /// Send a receiver the full state of all users; for SCIM, first show who would gain and lose what there
    Resync(Resync),
    /// Stop deliveries to a receiver until it is resumed
    Pause(Act),
    /// Resume deliveries to a paused or disabled receiver
    Resume(Act),
}

#[derive(Debug, Args)]
struct List {
    #[command(flatten)]
    config: ConfigArgument,
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
struct Named {
    /// The `name` of a receiver
    name: String,
    #[command(flatten)]
    config: ConfigArgument,
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
struct Act {
    #[command(flatten)]
    named: Named,
    /// Only this user, such as okta/alice (`retry` and `resync`)
    #[arg(long, value_name = "NAMESPACE/SUBJECT")]
    user: Option<String>,
    /// Name of the operator, for the audit
    #[arg(long, env = "USER", default_value = "unknown")]
    by: String,
}

#[derive(Debug, Args)]
struct Test {
    #[command(flatten)]
    named: Named,
    /// Name of the operator, for the audit
    #[arg(long, env = "USER", default_value = "unknown")]
    by: String,
}

#[derive(Debug, Args)]
struct Resync {
    #[command(flatten)]
    act: Act,
    /// Only show who would gain and lose what at the receiver
    #[arg(long)]
    dry_run: bool,
    /// Allow more revocations at once than the brake permits
    #[arg(long)]
    confirm: bool,
    /// Adopt memberships that others gave there: they end when a user loses the group here
    #[arg(long)]
    adopt: bool,
}

/// Deliveries that `show` lists.
const MOST: usize = 100;

impl DeliveryCommand {
    /// # Errors
    /// Faults of the configuration, of the store, or of what was asked.
    pub fn run(self) -> Result<(), Failure> {
        match self.action {
            Action::List(list) => list.run(),
            Action::Show(named) => named.show(),
            Action::Test(test) => test.run(),
            Action::Secret(named) => named.secret(),
            Action::Retry(act) => act.count("retried", async |store, name, user, by| {
                store.retry(name, user, by, Clock::system().now()).await
            }),
            Action::Resync(resync) => resync.run(),
            Action::Pause(act) => act.pause(true),
            Action::Resume(act) => act.pause(false),
        }
    }
}

fn line(view: &ReceiverView) -> String {
    let ReceiverView { name, state, pending, stuck, oldest, events_waiting, events_dropped, fault, .. } = view;
    let since = oldest.as_ref().map(|oldest| format!(", the oldest of {oldest}")).unwrap_or_default();
    let why = fault.as_ref().map(|fault| format!("; last failure: {fault}")).unwrap_or_default();
    let events = match (events_waiting, events_dropped) {
        (0, 0) => String::new(),
        (waiting, dropped) => format!("; events: {waiting} waiting, {dropped} dropped"),
    };
    format!("{name}  {state}  {pending} pending{since}, {stuck} stuck{events}{why}")
}

impl List {
    fn run(&self) -> Result<(), Failure> {
        let (config, store) = self.config.open()?;
        let mut views = Vec::new();
        for receiver in &config.receivers {
            views.push(block_on(async { store.receiver(&receiver.name).await.map_err(Failure::new) })?);
        }
        if self.json {
            return print_json(&views);
        }
        views.iter().for_each(|view| say!("{}", line(view)));
        Ok(())
    }
}

impl Named {
    fn receiver<'c>(&self, config: &'c Config) -> Result<&'c ReceiverSettings, Failure> {
        let found = config.receivers.iter().find(|receiver| receiver.name == self.name);
        let names = || config.receivers.iter().map(|receiver| receiver.name.as_str());
        found.ok_or_else(|| undeclared("receiver", &self.name, names()))
    }

    fn show(&self) -> Result<(), Failure> {
        let (config, store) = self.config.open()?;
        let name = &self.receiver(&config)?.name;
        let (view, pending) = block_on(async {
            let view = store.receiver(name).await.map_err(Failure::new)?;
            Ok((view, store.pending(name, MOST).await.map_err(Failure::new)?))
        })?;
        if self.json {
            return print_json(&serde_json::json!({ "receiver": view, "pending": pending }));
        }
        say!("{}", line(&view));
        for PendingView { user, namespace, subject, version, confirmed, changed_at, cause, failures, fault, next } in
            &pending
        {
            let who = namespace.as_ref().zip(subject.as_ref());
            let who = who.map_or_else(|| format!("erased user {user}"), |(space, name)| format!("{space}/{name}"));
            let fault = fault.as_ref().map(|fault| format!(", {failures} failures: {fault}")).unwrap_or_default();
            let next = next.as_ref().map_or_else(|| "stuck".into(), |next| format!("next {next}"));
            say!("{changed_at}  {who}  version {version} ({cause}), confirmed {confirmed}; {next}{fault}");
        }
        Ok(())
    }

    fn secret(&self) -> Result<(), Failure> {
        let (config, store) = self.config.open()?;
        let settings = self.receiver(&config)?;
        let ReceiverKind::Webhook(webhook) = &settings.kind else {
            return Err(Failure(format!(
                "`{}` receives SCIM requests, which are not signed; expected a `[[webhook]]`",
                self.name
            )));
        };
        let mut secrets = webhook.secrets.clone();
        if secrets.is_empty() {
            secrets.push(block_on(async { store.webhook_secret(&settings.name).await.map_err(Failure::new) })?);
        }
        let secrets: Vec<String> =
            secrets.iter().map(|secret| format!("{SECRET_PREFIX}{}", STANDARD.encode(secret.expose()))).collect();
        if self.json {
            return print_json(&serde_json::json!({ "secrets": secrets }));
        }
        secrets.iter().for_each(|secret| say!("{secret}"));
        Ok(())
    }
}

impl Test {
    fn run(&self) -> Result<(), Failure> {
        let (config, store) = self.named.config.open()?;
        let settings = self.named.receiver(&config)?;
        let by = format!("cli:{}", self.by);
        let tested = block_on(async {
            let clock = Clock::system();
            let receiver = app::receiver_of(&config, settings, &store, &clock).await.map_err(Failure::new)?;
            store.test_receiver(&*receiver, &by, clock.now()).await.map_err(Failure::new)
        })?;
        if let Some(fault) = tested.fault {
            return Err(Failure(fault));
        }
        let found = tested.findings;
        if self.named.json {
            let found: serde_json::Map<_, _> =
                found.into_iter().map(|it| (it.what, serde_json::Value::String(it.how))).collect();
            return print_json(&found);
        }
        let width = found.iter().map(|it| it.what.len()).max().unwrap_or_default();
        found.iter().for_each(|TestFinding { what, how }| say!("{what:width$}  {how}"));
        Ok(())
    }
}

impl Act {
    fn count(
        self,
        done: &str,
        act: impl AsyncFn(
            &crate::ports::store::Store,
            &str,
            Option<crate::pipeline::ids::UserId>,
            &str,
        ) -> Result<u64, crate::ports::store::StoreError>,
    ) -> Result<(), Failure> {
        let (config, store) = self.named.config.open()?;
        let name = &self.named.receiver(&config)?.name;
        let user = self.user.as_deref().map(parse_user).transpose()?;
        let by = format!("cli:{}", self.by);
        let count = block_on(async { act(&store, name, user, &by).await.map_err(Failure::new) })?;
        match self.named.json {
            true => print_json(&serde_json::json!({ "users": count })),
            false => {
                say!("{count} {done}");
                Ok(())
            }
        }
    }

    fn pause(self, paused: bool) -> Result<(), Failure> {
        if self.user.is_some() {
            return Err(Failure("`--user` applies only to `retry` and `resync`".into()));
        }
        let (config, store) = self.named.config.open()?;
        let name = &self.named.receiver(&config)?.name;
        let (by, now) = (format!("cli:{}", self.by), Clock::system().now());
        block_on(async { store.pause(name, paused, &by, now).await.map_err(Failure::new) })?;
        let view = block_on(async { store.receiver(name).await.map_err(Failure::new) })?;
        match self.named.json {
            true => print_json(&view),
            false => {
                say!("{}", line(&view));
                Ok(())
            }
        }
    }
}

impl Resync {
    fn run(self) -> Result<(), Failure> {
        let (config, store) = self.act.named.config.open()?;
        let settings = self.act.named.receiver(&config)?;
        let clock = Clock::system();
        let receiver =
            block_on(async { app::receiver_of(&config, settings, &store, &clock).await.map_err(Failure::new) })?;
        match (receiver.as_scim(), &self.act.user) {
            (Some(scim), None) => block_on(self.compare(&config, &store, settings, scim))?,
            _ if self.dry_run || self.adopt => {
                return Err(Failure("`--dry-run` and `--adopt` apply only to all users of a `[[scim]]`".into()));
            }
            _ => {}
        }
        if self.dry_run {
            return Ok(());
        }
        self.act
            .count("to resync", async |store, name, user, by| store.resync(name, user, by, Clock::system().now()).await)
    }

    /// Shows what would change there, and prepares what needs more than telling.
    async fn compare(
        &self,
        config: &Config,
        store: &Store,
        settings: &ReceiverSettings,
        scim: &ScimReceiver,
    ) -> Result<(), Failure> {
        let (rules, filter) = (&config.rules, &settings.filter);
        let takes = |name: &&GroupName| filter.groups.as_ref().is_none_or(|only| only.contains(*name));
        let mut groups: Vec<GroupName> = rules.groups.keys().filter(takes).cloned().collect();
        groups.sort();
        let names: Vec<String> = groups.iter().map(ToString::to_string).collect();
        let ours = store.outlook(&settings.name, filter, rules, Clock::system().now()).await.map_err(Failure::new)?;
        let found = scim.survey(&names, &ours).await.map_err(Failure::new)?;
        match self.act.named.json && self.dry_run {
            true => print_json(&found)?,
            false if self.act.named.json => {}
            false => say_part!("{found}"),
        }
        let brake = rules.sync.brake;
        let excess = found.groups.iter().zip(&groups).filter(|(found, name)| {
            rules.is_braked(&Target::Group((*name).clone())) && found.losing() > brake.allowed(found.members)
        });
        let excess: Vec<String> =
            excess.map(|(found, _)| format!("{} from `{}`", found.losing(), found.group)).collect();
        if !excess.is_empty() && !self.confirm {
            let why = "more would be revoked at once than the brake permits; `--confirm` allows it";
            return Err(Failure(format!("{}: {why}", excess.join(", "))));
        }
        if self.dry_run {
            return Ok(());
        }
        for one in ours.iter().filter(|_| self.adopt) {
            let foreign = found.groups.iter().filter(|group| group.foreign.contains(&one.user));
            let foreign: Vec<&str> = foreign.map(|group| group.group.as_str()).collect();
            if !foreign.is_empty() {
                store.take_over(&settings.name, one, &foreign).await.map_err(Failure::new)?;
            }
        }
        for group in &found.groups {
            scim.remove(&group.group, &group.removed).await.map_err(Failure::new)?;
        }
        Ok(())
    }
}
