//! The PROXY protocol's header: which client a balancer speaks for.
//!
//! The specification: "The PROXY protocol, Versions 1 & 2" (HAProxy). The header must be there,
//! whole and exactly as specified: to guess would let a client in behind a broken balancer claim an
//! address.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::str::FromStr;

use super::transport::Transport;

/// Begins version 1, a line of text.
const V1: &[u8] = b"PROXY ";
/// The longest such line, its end included (§2.1).
const V1_MAX_BYTES: usize = 107;
/// Begins version 2, which is binary.
const V2: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";
/// That, version and command, family, and the length of the rest.
const V2_FIXED_BYTES: usize = 16;
/// The longest rest that is read: addresses, and whatever the sender adds.
const V2_MAX_REST_BYTES: usize = 4096;

/// Reads the header, and lets the connection speak for the client in it.
///
/// # Errors
/// When there is none, or the socket's.
pub(super) async fn read(transport: &mut Transport) -> io::Result<()> {
    loop {
        let before = transport.peeked().len();
        if let Some((length, client)) = parse(transport.peeked())? {
            transport.skip(length);
            if let Some(client) = client {
                transport.set_peer(client);
            }
            return Ok(());
        }
        if transport.peek_more().await?.len() == before {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
}

/// The header's length, and the client that it names; none: more is needed. A balancer that speaks
/// for itself (`LOCAL`, `UNKNOWN`, a Unix socket) names nobody.
fn parse(bytes: &[u8]) -> io::Result<Option<(usize, Option<SocketAddr>)>> {
    if begins(bytes, V1) {
        let line = bytes.get(..bytes.len().min(V1_MAX_BYTES)).unwrap_or(bytes);
        match line.windows(2).position(|pair| pair == b"\r\n") {
            Some(end) => text(line.get(V1.len()..end).unwrap_or_default())
                .map(|client| Some((end + 2, client)))
                .ok_or_else(|| malformed("version 1")),
            None if line.len() == V1_MAX_BYTES => Err(malformed("version 1 without its end")),
            None => Ok(None),
        }
    } else if begins(bytes, V2) {
        let Some((fixed, rest)) = bytes.split_first_chunk::<V2_FIXED_BYTES>() else {
            return Ok(None);
        };
        let [.., command, family, high, low] = *fixed;
        let length = usize::from(u16::from_be_bytes([high, low]));
        if length > V2_MAX_REST_BYTES {
            return Err(malformed("version 2, too long"));
        }
        let Some(rest) = rest.get(..length) else {
            return Ok(None);
        };
        let client = binary(command, family, rest).ok_or_else(|| malformed("version 2"))?;
        Ok(Some((V2_FIXED_BYTES + length, client)))
    } else {
        Err(malformed("neither version 1 nor 2"))
    }
}

/// Whether `bytes` and the signature are the same as far as both go.
fn begins(bytes: &[u8], signature: &[u8]) -> bool {
    bytes.iter().zip(signature).all(|(one, other)| one == other)
}

fn malformed(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("PROXY header: {what}"))
}

/// What stands in a line of version 1 after its first word; none when it is malformed.
fn text(line: &[u8]) -> Option<Option<SocketAddr>> {
    let line = std::str::from_utf8(line).ok()?;
    let words: Vec<&str> = line.split(' ').collect();
    match *words.as_slice() {
        // The rest of such a line means nothing (§2.1).
        ["UNKNOWN", ..] => Some(None),
        ["TCP4", source, destination, from, to] => {
            let addresses = [source, destination].map(|word| Ipv4Addr::from_str(word).ok());
            client(addresses, [from, to])
        }
        ["TCP6", source, destination, from, to] => {
            let addresses = [source, destination].map(|word| Ipv6Addr::from_str(word).ok());
            client(addresses, [from, to])
        }
        _ => None,
    }
}

fn client<A: Into<IpAddr>>(
    [source, destination]: [Option<A>; 2],
    ports: [&str; 2],
) -> Option<Option<SocketAddr>> {
    let [from, to] = ports.map(port);
    destination.and(to)?;
    Some(Some(SocketAddr::new(source?.into(), from?)))
}

/// A port as the specification writes it: digits, without leading zeros.
fn port(word: &str) -> Option<u16> {
    let port: u16 = word.parse().ok()?;
    (port.to_string() == word).then_some(port)
}

/// What version 2 says; none when it is malformed.
fn binary(command: u8, family: u8, rest: &[u8]) -> Option<Option<SocketAddr>> {
    match command {
        0x20 => return Some(None), // LOCAL
        0x21 => {}
        _ => return None,
    }
    let client = match family {
        // TCP over IPv4: two addresses, two ports.
        0x11 => {
            let ([a, b, c, d, _, _, _, _, high, low, _, _], _) = rest.split_first_chunk()?;
            let address = Ipv4Addr::new(*a, *b, *c, *d);
            SocketAddr::new(address.into(), u16::from_be_bytes([*high, *low]))
        }
        // TCP over IPv6.
        0x21 => {
            let (source, rest) = rest.split_first_chunk::<16>()?;
            let (_, rest) = rest.split_first_chunk::<16>()?;
            let ([high, low, _, _], _) = rest.split_first_chunk()?;
            let address = Ipv6Addr::from(*source);
            SocketAddr::new(address.into(), u16::from_be_bytes([*high, *low]))
        }
        // Unspecified, or a Unix socket.
        0x00 | 0x31 => return Some(None),
        _ => return None, // datagrams are no connection
    };
    Some(Some(client))
}

#[cfg(test)]
mod tests {
    use super::*;

    const TCP4: [u8; 12] = [192, 0, 2, 7, 192, 0, 2, 1, 0x12, 0x67, 1, 0xbb];

    fn v2(command: u8, family: u8, rest: &[u8]) -> Vec<u8> {
        let length = u16::try_from(rest.len()).unwrap().to_be_bytes();
        [V2, &[0x20 | command, family], &length, rest].concat()
    }

    fn headers() -> Vec<(Vec<u8>, Option<&'static str>)> {
        let six = "2001:db8::1".parse::<Ipv6Addr>().unwrap().octets();
        let tcp6 = [six.as_slice(), &six, &[0x12, 0x67, 1, 0xbb]].concat();
        let with_more = [TCP4.as_slice(), b"\x04\x00\x01x"].concat();
        let line = |line: &str| format!("PROXY {line}\r\n").into_bytes();
        vec![
            (
                line("TCP4 192.0.2.7 192.0.2.1 4711 443"),
                Some("192.0.2.7:4711"),
            ),
            (
                line("TCP6 2001:db8::1 2001:db8::2 4711 443"),
                Some("[2001:db8::1]:4711"),
            ),
            (line("UNKNOWN"), None),
            (line("UNKNOWN ffff::1 whatever"), None),
            (v2(1, 0x11, &TCP4), Some("192.0.2.7:4711")),
            (v2(1, 0x11, &with_more), Some("192.0.2.7:4711")),
            (v2(1, 0x21, &tcp6), Some("[2001:db8::1]:4711")),
            (v2(0, 0, &[]), None),
            (v2(0, 0x11, &TCP4), None),
            (v2(1, 0x31, &[0; 216]), None),
        ]
    }

    #[test]
    fn both_versions_give_the_client_or_say_that_there_is_none() {
        for (header, client) in headers() {
            let client = client.map(|client| client.parse().unwrap());
            let parsed = Some((header.len(), client));
            assert_eq!(parse(&header).unwrap(), parsed, "{header:?}");
            let with_request = [header.as_slice(), b"GET / HTTP/1.1\r\n\r\n"].concat();
            assert_eq!(parse(&with_request).unwrap(), parsed, "{header:?}");
        }
    }

    #[test]
    fn every_beginning_of_a_header_asks_for_more() {
        for (header, _) in headers() {
            for end in 0..header.len() {
                let begun = &header[..end];
                assert_eq!(parse(begun).unwrap(), None, "{begun:?}");
            }
        }
    }

    #[test]
    fn anything_else_is_refused() {
        let endless = [V1, &[b'x'; V1_MAX_BYTES]].concat();
        let huge = [V2, &[0x21, 0x11, 0xff, 0xff]].concat();
        for bytes in [
            b"GET / HTTP/1.1\r\n\r\n".as_slice(),
            b"PROXY TCP4 192.0.2.7 192.0.2.1 4711\r\n",
            b"PROXY TCP4 192.0.2.7 192.0.2.1 4711 443 1\r\n",
            b"PROXY TCP4  192.0.2.7 192.0.2.1 4711 443\r\n",
            b"PROXY TCP4 192.0.2.7 192.0.2.1 +4711 443\r\n",
            b"PROXY TCP4 192.0.2.7 192.0.2.1 04711 443\r\n",
            b"PROXY TCP4 192.0.2.7 192.0.2.1 4711 65536\r\n",
            b"PROXY TCP4 2001:db8::1 192.0.2.1 4711 443\r\n",
            b"PROXY TCP6 192.0.2.7 2001:db8::1 4711 443\r\n",
            b"PROXY UDP4 192.0.2.7 192.0.2.1 4711 443\r\n",
            b"PROXY \r\n",
            b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\x00\x00\x00\x00",
            b"\r\n\r\n\0\r\nQUIT\n\x11\x11\x00\x00",
            &v2(2, 0x11, &TCP4),
            &v2(1, 0x12, &TCP4),
            &v2(1, 0x11, &TCP4[..11]),
            &v2(1, 0x21, &TCP4),
            &endless,
            &huge,
        ] {
            assert!(parse(bytes).is_err(), "{bytes:?}");
        }
    }
}
