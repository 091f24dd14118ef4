//! A network in between: what arrives at a socket goes on after a while, each way.

use std::io::{self, Read as _, Write as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::{Duration, Instant};

/// The name of the socket of a server on its usual port.
pub const SOCKET: &str = ".s.PGSQL.5432";

/// Takes connections for ever, and carries each to the server, so late each way.
pub fn serve(from: &Path, to: &Path, one_way: Duration) -> io::Result<()> {
    let listener = UnixListener::bind(from)?;
    for client in listener.incoming() {
        let (client, server) = (client?, UnixStream::connect(to)?);
        carry(client.try_clone()?, server.try_clone()?, one_way);
        carry(server, client, one_way);
    }
    Ok(())
}

fn carry(mut from: UnixStream, mut to: UnixStream, one_way: Duration) {
    let (sender, receiver): (SyncSender<(Instant, Vec<u8>)>, Receiver<_>) = sync_channel(1024);
    std::thread::spawn(move || {
        let mut bytes = vec![0; 64 * 1024];
        while let Ok(length @ 1..) = from.read(&mut bytes) {
            let piece = bytes.get(..length).unwrap_or_default().to_vec();
            if sender.send((Instant::now() + one_way, piece)).is_err() {
                break;
            }
        }
    });
    std::thread::spawn(move || {
        for (due, piece) in receiver {
            std::thread::sleep(due.saturating_duration_since(Instant::now()));
            if to.write_all(&piece).is_err() {
                break;
            }
        }
        let _ = to.shutdown(std::net::Shutdown::Both);
    });
}
