//! `loginsync health`: asks the running proxy, for a container's health check that has no other program to ask with.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use clap::Args;

use super::{ConfigArgument, Failure};

const TIMEOUT: Duration = Duration::from_secs(3);

#[derive(Debug, Args)]
pub struct Health {
    #[command(flatten)]
    config: ConfigArgument,
}

impl Health {
    /// # Errors
    /// When the admin address does not answer with status 200.
    pub fn run(&self) -> Result<(), Failure> {
        let address = self.config.load()?.admin.address;
        let status = ask(address).map_err(|error| Failure(format!("{address} does not answer: {error}")))?;
        if !status.contains(" 200 ") {
            return Err(Failure(format!("{address} answers `{status}`; expected 200")));
        }
        println!("ok");
        Ok(())
    }
}

/// The status line of `/healthz`.
fn ask(address: SocketAddr) -> std::io::Result<String> {
    let mut stream = TcpStream::connect_timeout(&address, TIMEOUT)?;
    stream.set_read_timeout(Some(TIMEOUT))?;
    stream.set_write_timeout(Some(TIMEOUT))?;
    stream.write_all(format!("GET /healthz HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n").as_bytes())?;
    let mut answer = String::new();
    stream.take(4096).read_to_string(&mut answer)?;
    Ok(answer.lines().next().unwrap_or_default().to_owned())
}
