//! The PROXY protocol, versions 1 and 2, as a balancer that passes connections through says whose they are.
//!
//! It is read from trusted balancers alone, and there it must come: were it optional, a client whose bytes the balancer passes on could
//! write it.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use tokio::io::{AsyncRead, AsyncReadExt as _};

/// What version 2 begins with; no method of HTTP and no TLS handshake does.
const SIGNATURE: [u8; 12] = *b"\r\n\r\n\0\r\nQUIT\n";
/// Bytes of a header of version 1, its end included.
const MOST_TEXT: usize = 107;
/// Bytes of addresses and further fields in version 2. Balancers send a few hundred.
const MOST_FIELDS: usize = 4096;

/// Reads the header, and no byte of what follows. `None` where the balancer speaks for itself, such as for a health check, or does not
/// say whose connection it is.
///
/// # Errors
/// When the header is missing, or cannot be read.
pub async fn read(stream: &mut (impl AsyncRead + Unpin)) -> io::Result<Option<IpAddr>> {
    // The shortest header of either version is longer.
    let mut start = [0; SIGNATURE.len()];
    stream.read_exact(&mut start).await?;
    if start == SIGNATURE {
        return read_binary(stream).await;
    }
    if !start.starts_with(b"PROXY ") {
        return Err(invalid("a trusted balancer sent no PROXY header"));
    }
    let mut line = start.to_vec();
    while !line.ends_with(b"\r\n") {
        if line.len() == MOST_TEXT {
            return Err(invalid("a PROXY header that does not end"));
        }
        line.push(stream.read_u8().await?);
    }
    read_text(&line)
}

fn read_text(line: &[u8]) -> io::Result<Option<IpAddr>> {
    let bad = || invalid("a PROXY header of version 1 that cannot be read");
    let line = std::str::from_utf8(line).ok().and_then(|line| line.strip_suffix("\r\n")).ok_or_else(bad)?;
    let fields: Vec<&str> = line.split(' ').collect();
    match fields.as_slice() {
        ["PROXY", "UNKNOWN", ..] => Ok(None),
        ["PROXY", kind @ ("TCP4" | "TCP6"), source, target, from, to] => {
            let (source, target): (IpAddr, IpAddr) =
                (source.parse().map_err(|_| bad())?, target.parse().map_err(|_| bad())?);
            let fits = |address: IpAddr| address.is_ipv4() == (*kind == "TCP4");
            let is_port = |text: &str| text.parse::<u16>().is_ok();
            if fits(source) && fits(target) && is_port(from) && is_port(to) { Ok(Some(source)) } else { Err(bad()) }
        }
        _ => Err(bad()),
    }
}

async fn read_binary(stream: &mut (impl AsyncRead + Unpin)) -> io::Result<Option<IpAddr>> {
    let (command, family) = (stream.read_u8().await?, stream.read_u8().await?);
    let length = usize::from(stream.read_u16().await?);
    if length > MOST_FIELDS {
        return Err(invalid("a PROXY header of version 2 that is too long"));
    }
    let mut fields = vec![0; length];
    stream.read_exact(&mut fields).await?;
    let bad = || invalid("a PROXY header of version 2 that cannot be read");
    match (command, family) {
        // LOCAL: the balancer itself.
        (0x20, _) => Ok(None),
        // Over TCP. The source comes first, and both addresses and ports must be there.
        (0x21, 0x11) => {
            let (source, _) = fields.split_first_chunk::<4>().filter(|_| length >= 12).ok_or_else(bad)?;
            Ok(Some(Ipv4Addr::from(*source).into()))
        }
        (0x21, 0x21) => {
            let (source, _) = fields.split_first_chunk::<16>().filter(|_| length >= 36).ok_or_else(bad)?;
            Ok(Some(Ipv6Addr::from(*source).into()))
        }
        // Unspecified, or a socket of the balancer's machine: it does not say.
        (0x21, 0x00 | 0x31) => Ok(None),
        _ => Err(bad()),
    }
}

fn invalid(why: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, why)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is read, and how much is left.
    async fn outcome(mut bytes: &[u8]) -> (Result<Option<String>, ()>, usize) {
        let read = read(&mut bytes).await;
        (read.map(|address| address.map(|address| address.to_string())).map_err(|_| ()), bytes.len())
    }

    fn binary(command: u8, family: u8, fields: &[u8]) -> Vec<u8> {
        let length = u16::try_from(fields.len()).unwrap().to_be_bytes();
        [&SIGNATURE[..], &[command, family], &length, fields, b"GET /"].concat()
    }

    #[tokio::test]
    async fn both_versions_are_read_to_their_end() {
        let six = [vec![0x20, 0x01, 0x0d, 0xb8], vec![0; 11], vec![1], vec![0; 20]].concat();
        let with_fields = [&[192, 0, 2, 1, 10, 0, 0, 1, 0, 1, 0, 2][..], &[0x03, 0, 4, 1, 2, 3, 4]].concat();
        for (header, expected) in [
            (b"PROXY TCP4 192.0.2.1 10.0.0.1 56324 443\r\nGET /".to_vec(), Ok(Some("192.0.2.1"))),
            (b"PROXY TCP6 2001:db8::1 ::1 1 65535\r\nGET /".to_vec(), Ok(Some("2001:db8::1"))),
            (b"PROXY UNKNOWN\r\nGET /".to_vec(), Ok(None)),
            (b"PROXY UNKNOWN ffff::1 ffff::2 1 2\r\nGET /".to_vec(), Ok(None)),
            (binary(0x21, 0x11, &with_fields), Ok(Some("192.0.2.1"))),
            (binary(0x21, 0x21, &six), Ok(Some("2001:db8::1"))),
            (binary(0x20, 0x00, &[]), Ok(None)),
            (binary(0x21, 0x31, &[0; 216]), Ok(None)),
            (binary(0x21, 0x00, &[]), Ok(None)),
        ] {
            let expected = expected.map(|address: Option<&str>| address.map(str::to_owned));
            assert_eq!(outcome(&header).await, (expected, b"GET /".len()), "{}", String::from_utf8_lossy(&header));
        }
    }

    #[tokio::test]
    async fn what_is_no_header_is_refused() {
        for header in [
            &b"GET / HTTP/1.1\r\n\r\n"[..],
            b"PROXY TCP4 192.0.2.1\r\n",
            b"PROXY TCP4 2001:db8::1 ::1 1 2\r\n",
            b"PROXY TCP6 192.0.2.1 10.0.0.1 1 2\r\n",
            b"PROXY TCP4 192.0.2.1 10.0.0.1 1 65536\r\n",
            b"PROXY TCP4 192.0.2.1 10.0.0.1 1 2 3\r\n",
            b"PROXY TCP4  192.0.2.1 10.0.0.1 1 2\r\n",
            b"PROXY UDP4 192.0.2.1 10.0.0.1 1 2\r\n",
            b"proxy TCP4 192.0.2.1 10.0.0.1 1 2\r\n",
            &[&b"PROXY UNKNOWN "[..], &[b'x'; 200]].concat(),
            &binary(0x31, 0x11, &[0; 12]),
            &binary(0x22, 0x11, &[0; 12]),
            &binary(0x21, 0x12, &[0; 12]),
            &binary(0x21, 0x11, &[0; 11]),
            &binary(0x21, 0x21, &[0; 35]),
            &binary(0x21, 0x11, &[0; 5000]),
            &SIGNATURE,
            b"PRO",
            b"",
        ] {
            assert!(outcome(header).await.0.is_err(), "{}", String::from_utf8_lossy(header));
        }
    }
}
