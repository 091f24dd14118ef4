//! Where the proxy takes connections: an address of the network, or a socket of this machine.

use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};

/// Who may connect to the socket: its owner and its group, which an operator chooses by the directory.
const SOCKET_MODE: u32 = 0o660;

/// A listener.
#[derive(Debug)]
pub enum Door {
    Tcp(TcpListener),
    Socket(Socket),
}

/// A socket of this machine, whose file goes with it.
#[derive(Debug)]
pub struct Socket {
    listener: UnixListener,
    path: PathBuf,
    /// Device and number of the file: what another process put in its place is left alone.
    file: Option<(u64, u64)>,
}

/// A connection, and the address that counts as the other end's.
#[derive(Debug)]
pub enum Taken {
    Tcp(TcpStream, IpAddr),
    Socket(UnixStream, IpAddr),
}

impl From<TcpListener> for Door {
    fn from(listener: TcpListener) -> Self {
        Self::Tcp(listener)
    }
}

impl Door {
    /// Listens on a socket. A file that a process left there which no longer runs is removed.
    ///
    /// # Errors
    /// When something else is there, another process listens, or the directory cannot be written.
    pub async fn socket(path: &Path) -> io::Result<Self> {
        if let Ok(found) = std::fs::symlink_metadata(path) {
            if !found.file_type().is_socket() {
                return Err(io::Error::new(io::ErrorKind::AlreadyExists, "the file there is not a socket"));
            }
            match UnixStream::connect(path).await {
                Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => std::fs::remove_file(path)?,
                Err(error) => return Err(error),
                Ok(_) => return Err(io::Error::new(io::ErrorKind::AddrInUse, "another process listens there")),
            }
        }
        let listener = UnixListener::bind(path)?;
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(SOCKET_MODE))?;
        Ok(Self::Socket(Socket { listener, path: path.to_owned(), file: identity(path) }))
    }

    pub async fn accept(&self) -> io::Result<Taken> {
        match self {
            Self::Tcp(listener) => {
                let (stream, address) = listener.accept().await?;
                // Without it small answers wait for a client's acknowledgement; a socket that refuses it works all the same.
                let _ = stream.set_nodelay(true);
                Ok(Taken::Tcp(stream, address.ip()))
            }
            // A client that may open the socket is on this machine.
            Self::Socket(socket) => {
                let (stream, _) = socket.listener.accept().await?;
                Ok(Taken::Socket(stream, IpAddr::V4(Ipv4Addr::LOCALHOST)))
            }
        }
    }
}

fn identity(path: &Path) -> Option<(u64, u64)> {
    std::fs::symlink_metadata(path).ok().map(|found| (found.dev(), found.ino()))
}

impl Drop for Socket {
    fn drop(&mut self) {
        if self.file.is_some() && identity(&self.path) == self.file {
            let _ = std::fs::remove_file(&self.path);
        }
    }
}
