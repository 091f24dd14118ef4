//! `loginsync demo`: a provider, an app and the sidecar between them, all on loopback with throw-away keys.
//!
//! ```text
//!            logs in at                        posts the answer to
//! browser ──────────────▶ provider   browser ──────────────────────▶ sidecar ──▶ app
//!                         [`provider`]                               [`sidecar`]  [`app`]
//! ```
//!
//! Provider and app are small; the sidecar is the real one ([`crate::app::start`]) with a real configuration in a temporary
//! directory, or three of them over one [`database`], with a [`balancer`] before them. [`recording`] tells of each plan, and [`walk`] plays a person's part over HTTP when no person is there to.

mod agreed;
pub mod app;
pub mod balancer;
pub mod browser;
pub mod database;
pub mod journal;
pub mod pages;
pub mod people;
pub mod provider;
pub mod scene;
pub mod server;
pub mod sidecar;
pub mod voice;
pub mod walk;

pub use loginsync_mint as mint;

use std::time::Duration;

use clap::Args;
use tokio::signal::unix::{SignalKind, signal};

use self::journal::Event;
use self::people::People;
use self::scene::Scene;
use self::voice::{Tone, Voice};
use super::{Failure, console};
use crate::clock::Clock;
use crate::config::{Log, LogFormat};
use crate::{app as wiring, telemetry};

/// The first of the demo's ports by default.
const PORT: u16 = 9400;
/// With `--replicas`.
pub const REPLICAS: usize = 3;
/// How long the link to the console works.
const LINK: Duration = Duration::from_secs(24 * 3600);
/// How often the demo checks whether the configuration was reloaded.
const LOOK: Duration = Duration::from_millis(500);

#[derive(Debug, Args)]
pub struct Demo {
    /// Run all steps without a browser, print each plan and exit; exit code 1 if a result is unexpected
    #[arg(long)]
    pub headless: bool,
    /// Run three sidecars that share a PostgreSQL database; requests go to each in turn
    #[arg(long)]
    pub replicas: bool,
    /// The first of four ports, nine with --replicas; 0 picks free ones [default: 9400, headless: 0]
    #[arg(long, value_name = "PORT")]
    pub port: Option<u16>,
}

impl Demo {
    /// # Errors
    /// When the demo cannot start, or a result is unexpected.
    pub fn run(self) -> Result<(), Failure> {
        let mut out = std::io::stdout();
        let mut voice = Voice::to_standard_output(&mut out);
        let runtime = wiring::runtime().map_err(Failure::new)?;
        let sidecars = if self.replicas { REPLICAS } else { 1 };
        runtime.block_on(async {
            match self.headless {
                true => walk::walk(self.port.unwrap_or(0), sidecars, &mut voice).await,
                false => show(self.port.unwrap_or(PORT), sidecars, &mut voice).await,
            }
        })
    }
}

/// Runs until it is stopped, and prints each plan as it happens.
async fn show(port: u16, sidecars: usize, voice: &mut Voice<'_>) -> Result<(), Failure> {
    let mut interrupt = signal(SignalKind::interrupt()).map_err(Failure::new)?;
    let mut terminate = signal(SignalKind::terminate()).map_err(Failure::new)?;
    // A refusal page carries an id; here is the log that it is found in.
    telemetry::install(&Log { format: LogFormat::Text, level: tracing::Level::WARN }).map_err(Failure::new)?;
    let scene = Scene::set_up(port, sidecars, People::of_the_story).await?;
    let link = console::link(&scene.sidecar.store, "demo", true, LINK, Clock::system().now()).await;
    welcome(&scene, &link.map_err(Failure::new)?, voice);
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
        () = tell(&scene, voice) => {}
    }
    voice.say("\nThe demo ends; its files are removed.");
    scene.take_down().await;
    Ok(())
}

/// Prints events until it is stopped.
async fn tell(scene: &Scene, voice: &mut Voice<'_>) {
    let mut news = scene.journal.watch();
    let mut look = tokio::time::interval(LOOK);
    let (mut seen, mut epoch) = (0, scene.sidecar.rules.current().epoch);
    loop {
        tokio::select! {
            _ = news.changed() => {}
            _ = look.tick() => {}
        }
        for event in scene.journal.after(seen) {
            tell_of(&event, voice);
            seen += 1;
        }
        let current = scene.sidecar.rules.current();
        if current.epoch != epoch {
            epoch = current.epoch;
            voice.say(&format!("\n  the configuration was read again: {} mappings", current.mappings().len()));
        }
    }
}

fn tell_of(event: &Event, voice: &mut Voice<'_>) {
    voice.say("");
    match event {
        Event::Committed(plan) => voice.plan(plan, "  "),
        Event::Refused { who, why } => {
            let line = voice.toned(Tone::Attention, &format!("  refused: {who}: {why}"));
            voice.say(&line);
        }
    }
}

fn welcome(scene: &Scene, link: &str, voice: &mut Voice<'_>) {
    let addresses = &scene.addresses;
    let config = scene.directory.config();
    let title = voice.toned(Tone::Title, "loginsync demo: a provider, an app, and the sidecar between them");
    let open = voice.toned(Tone::Address, &addresses.proxy);
    let provider = voice.toned(Tone::Address, &addresses.provider);
    let console = voice.toned(Tone::Address, &format!("{}{link}", addresses.admin));
    let program = std::env::current_exe().map_or_else(|_| "loginsync".into(), |path| path.display().to_string());
    let config = config.display();
    let beside = match addresses.sidecars.len() {
        1 => String::new(),
        count => format!(
            "\n  sidecars       {count}, over one PostgreSQL; each connection goes to the next. The others' configurations are \
             in the same directory: edit all of them"
        ),
    };
    voice.say(&format!(
        "\n{title}

  open this      {open}   the app, through the sidecar
  and this       {provider}   the provider: people, and their groups

  and this, once {console}
                 the console: who has what and why

  the app itself {}   no browser goes there
  admin          {}/metrics   /readyz /healthz
  configuration  {config}{beside}

  To try:
  1. Open the app, log in as alice by OIDC, and see her groups and roles, each with its reason.
  2. Remove alice from on-call at the provider, log in again: On-call goes, Engineering stays.
  3. Give alice a group by hand, and see that no login takes it away:
     {program} user assign --config {config} {} alice --group Marketing
  4. Let the provider forge a login: nothing changes, and the app never sees it.
  5. Edit the configuration while this runs: it is read again at once.

  Every plan appears here as it is committed. Ctrl-C ends it all.",
        addresses.app,
        addresses.admin,
        agreed::NAMESPACE,
    ));
}

/// 128 random bits in hexadecimal.
///
/// # Errors
/// When the operating system returned no random bytes.
fn fresh_id() -> Result<String, Failure> {
    Ok(fresh_bytes::<16>()?.iter().map(|byte| format!("{byte:02x}")).collect())
}

fn fresh_bytes<const N: usize>() -> Result<[u8; N], Failure> {
    let mut bytes = [0; N];
    aws_lc_rs::rand::fill(&mut bytes).map_err(|_| Failure("the operating system returned no random bytes".into()))?;
    Ok(bytes)
}
