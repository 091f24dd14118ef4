//! The processes under test: started on a core of their own, measured from outside, ended with the run.

use std::ffi::OsStr;
use std::io::{self, BufRead as _, BufReader, Write as _};
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::driver::{Driver, Load, Message, Until};

/// Which core is whose, where there are two.
#[derive(Debug, Clone, Copy)]
pub struct Cores {
    pub pinned: bool,
}

impl Cores {
    /// Keeps this process on the second core.
    pub fn split() -> Self {
        let enough = std::thread::available_parallelism().is_ok_and(|cores| cores.get() > 1);
        let own = std::process::id().to_string();
        let moved = || Command::new("taskset").args(["-cp", "1", &own]).stdout(Stdio::null()).status();
        let pinned = enough && moved().is_ok_and(|status| status.success());
        Self { pinned }
    }

    /// A command that runs on the first core.
    fn command(self, program: impl AsRef<OsStr>) -> Command {
        if !self.pinned {
            return Command::new(program);
        }
        let mut command = Command::new("taskset");
        command.args(["-c", "0"]).arg(program);
        command
    }
}

/// A process under test. Dropping it ends it.
pub struct Target {
    child: Child,
    pub address: SocketAddr,
}

impl Drop for Target {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Target {
    /// Processor time so far, of all its threads.
    pub fn cpu(&self) -> Duration {
        cpu_of(self.child.id())
    }

    /// Resident memory in MiB.
    pub fn resident(&self) -> io::Result<f64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id()))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap_or_default();
        let kib: f64 = line.trim().trim_end_matches(" kB").parse().map_err(io::Error::other)?;
        Ok(kib / 1024.0)
    }

    /// Whether it has not ended by itself.
    pub fn lives(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }
}

/// By the scheduler's own account of each thread, which is exact where the usual one counts hundredths of a second.
pub fn cpu_of(process: u32) -> Duration {
    let threads = std::fs::read_dir(format!("/proc/{process}/task")).into_iter().flatten().flatten();
    let nanoseconds = threads.filter_map(|thread| {
        let account = std::fs::read_to_string(thread.path().join("schedstat")).ok()?;
        account.split(' ').next()?.parse::<u64>().ok()
    });
    Duration::from_nanos(nanoseconds.sum())
}

/// Processor time of this process.
pub fn own_cpu() -> Duration {
    cpu_of(std::process::id())
}

/// A port of loopback that nobody has at this moment.
pub fn free_address() -> io::Result<SocketAddr> {
    TcpListener::bind("127.0.0.1:0")?.local_addr()
}

/// Waits until it answers a small request, and says how long that took from its start.
pub fn await_answer(target: &mut Target, driver: &mut Driver, started: Instant) -> io::Result<Duration> {
    let message = [Message::get("/b/16")];
    loop {
        let load = Load {
            targets: &[target.address],
            connections: 1,
            messages: &message,
            until: Until::Each,
            rate: None,
            keep_heads: false,
        };
        match driver.run(&load) {
            Ok(outcome) if outcome.all(200) => return Ok(started.elapsed()),
            _ if started.elapsed() > Duration::from_secs(20) || !target.lives() => {
                return Err(io::Error::other(format!("nothing answers at {}", target.address)));
            }
            _ => std::thread::sleep(Duration::from_micros(100)),
        }
    }
}

/// Where a program is, if it is installed.
pub fn installed(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    let usual = ["/usr/sbin", "/usr/local/sbin"].map(PathBuf::from);
    std::env::split_paths(&path).chain(usual).map(|folder| folder.join(name)).find(|file| file.is_file())
}

fn start(command: &mut Command, address: SocketAddr, folder: &Path, name: &str) -> io::Result<Target> {
    let log = std::fs::File::create(folder.join(format!("{name}.log")))?;
    let child = command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log).spawn()?;
    Ok(Target { child, address })
}

/// The app's own side alone: what a request costs with no proxy in between.
pub fn direct(cores: Cores) -> io::Result<Target> {
    let mut child = cores.command(std::env::current_exe()?).arg("--app").stdout(Stdio::piped()).spawn()?;
    let mut line = String::new();
    BufReader::new(child.stdout.take().ok_or(io::ErrorKind::BrokenPipe)?).read_line(&mut line)?;
    let address = line.trim().parse().map_err(io::Error::other)?;
    Ok(Target { child, address })
}

/// What `--app` does.
pub fn serve_app() -> io::Result<()> {
    let driver = Driver::new()?;
    println!("{}", driver.address);
    io::stdout().flush()?;
    driver.serve()
}

/// Which build of loginsync is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Build {
    This,
    /// The one that `BENCH_BEFORE` names, to compare with.
    Before,
}

impl Build {
    /// Whether an earlier build was named.
    pub fn has_before() -> bool {
        std::env::var_os(BEFORE).is_some()
    }

    fn program(self) -> io::Result<PathBuf> {
        match self {
            Self::This => Ok(env!("CARGO_BIN_EXE_loginsync").into()),
            Self::Before => std::env::var_os(BEFORE)
                .map(PathBuf::from)
                .ok_or_else(|| io::Error::other(format!("{BEFORE} names no build"))),
        }
    }
}

const BEFORE: &str = "BENCH_BEFORE";

/// A sidecar of one of the builds.
pub fn loginsync(
    cores: Cores,
    folder: &Path,
    name: &str,
    build: Build,
    configuration: &Path,
    listen: SocketAddr,
) -> io::Result<Target> {
    let mut command = cores.command(build.program()?);
    start(command.arg("serve").arg("--config").arg(configuration), listen, folder, name)
}

/// One process that does the work of one worker, with connections to the app kept alive.
pub fn nginx(cores: Cores, folder: &Path, app: SocketAddr) -> io::Result<Target> {
    let program = installed("nginx").ok_or_else(|| io::Error::other("nginx is not installed"))?;
    let listen = free_address()?;
    let folder_name = folder.display();
    let configuration = format!(
        "daemon off; master_process off; worker_processes 1; pid {folder_name}/nginx.pid; error_log stderr crit;
         events {{ worker_connections 4096; }}
         http {{
           access_log off; tcp_nodelay on; client_max_body_size 0; keepalive_requests 100000000;
           client_body_temp_path {folder_name}/body; proxy_temp_path {folder_name}/proxy;
           fastcgi_temp_path {folder_name}/fastcgi; uwsgi_temp_path {folder_name}/uwsgi; scgi_temp_path {folder_name}/scgi;
           upstream app {{ server {app}; keepalive 256; keepalive_requests 100000000; }}
           server {{
             listen {listen} reuseport;
             location / {{
               proxy_pass http://app; proxy_http_version 1.1; proxy_set_header Connection \"\";
               proxy_set_header Host $host; proxy_set_header X-Forwarded-For $remote_addr;
               proxy_set_header X-Forwarded-Proto $scheme; proxy_set_header X-Forwarded-Host $host;
             }}
             location /unbuffered/ {{
               proxy_pass http://app/; proxy_http_version 1.1; proxy_set_header Connection \"\";
               proxy_buffering off; proxy_request_buffering off;
             }}
           }}
         }}\n"
    );
    let file = folder.join("nginx.conf");
    std::fs::write(&file, configuration)?;
    let mut command = cores.command(program);
    start(command.arg("-p").arg(folder).arg("-c").arg(&file), listen, folder, "nginx")
}

pub fn haproxy(cores: Cores, folder: &Path, app: SocketAddr) -> io::Result<Option<Target>> {
    let Some(program) = installed("haproxy") else { return Ok(None) };
    let listen = free_address()?;
    let configuration = format!(
        "global\n  nbthread 1\n  maxconn 4096\n\
         defaults\n  mode http\n  timeout connect 3s\n  timeout client 60s\n  timeout server 60s\n  option forwardfor\n\
         frontend browsers\n  bind {listen}\n  default_backend app\n\
         backend app\n  http-reuse always\n  server app {app}\n"
    );
    let file = folder.join("haproxy.cfg");
    std::fs::write(&file, configuration)?;
    let mut command = cores.command(program);
    start(command.arg("-db").arg("-f").arg(&file), listen, folder, "haproxy").map(Some)
}
