//! The PROXY protocol's header: which client a balancer speaks for.
//!
//! The specification: "The PROXY protocol, Versions 1 & 2" (HAProxy). It must be there, whole and
//! well-formed: to guess would let every client claim an address.

use std::io;
use std::net::SocketAddr;

use ppp::{HeaderResult, PartialResult, v1, v2};

use super::transport::Transport;

/// Longest header that is read: version 1 has at most 107 bytes, version 2 what its sender adds.
const MAX_HEADER_BYTES: usize = 4096;

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
        if before > MAX_HEADER_BYTES {
            return Err(io::Error::other("the PROXY header is too long"));
        }
        if transport.peek_more().await?.len() == before {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
}

/// The header's length, and the client that it names; none: more is needed. A balancer that speaks
/// for itself (`LOCAL`, `UNKNOWN`, a Unix socket) names nobody.
fn parse(bytes: &[u8]) -> io::Result<Option<(usize, Option<SocketAddr>)>> {
    let parsed = HeaderResult::parse(bytes);
    if parsed.is_incomplete() {
        return Ok(None);
    }
    match parsed {
        HeaderResult::V1(Ok(header)) => {
            let client = match header.addresses {
                v1::Addresses::Tcp4(pair) => Some((pair.source_address, pair.source_port).into()),
                v1::Addresses::Tcp6(pair) => Some((pair.source_address, pair.source_port).into()),
                v1::Addresses::Unknown => None,
            };
            Ok(Some((header.header.len(), client)))
        }
        HeaderResult::V2(Ok(header)) => {
            let client = match (header.command, header.addresses) {
                (v2::Command::Local, _) => None,
                (_, v2::Addresses::IPv4(pair)) => {
                    Some((pair.source_address, pair.source_port).into())
                }
                (_, v2::Addresses::IPv6(pair)) => {
                    Some((pair.source_address, pair.source_port).into())
                }
                (_, v2::Addresses::Unspecified | v2::Addresses::Unix(_)) => None,
            };
            Ok(Some((header.len(), client)))
        }
        HeaderResult::V1(Err(error)) => Err(io::Error::other(error.to_string())),
        HeaderResult::V2(Err(error)) => Err(io::Error::other(error.to_string())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const V2_SIGNATURE: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";

    fn v2(command: u8, family: u8, addresses: &[u8]) -> Vec<u8> {
        let length = u16::try_from(addresses.len()).unwrap().to_be_bytes();
        [V2_SIGNATURE, &[0x20 | command, family], &length, addresses].concat()
    }

    #[test]
    fn both_versions_give_the_client() {
        let one = b"PROXY TCP4 192.0.2.7 192.0.2.1 4711 443\r\n";
        let with_request = [one.as_slice(), b"GET / HTTP/1.1\r\n"].concat();
        let client = "192.0.2.7:4711".parse().unwrap();
        assert_eq!(
            parse(&with_request).unwrap(),
            Some((one.len(), Some(client)))
        );
        let addresses = [192, 0, 2, 7, 192, 0, 2, 1, 0x12, 0x67, 1, 0xbb];
        let two = v2(1, 0x11, &addresses);
        assert_eq!(parse(&two).unwrap(), Some((28, Some(client))));
    }

    #[test]
    fn balancers_that_speak_for_themselves_name_nobody() {
        assert_eq!(parse(b"PROXY UNKNOWN\r\n").unwrap(), Some((15, None)));
        assert_eq!(parse(&v2(0, 0, &[])).unwrap(), Some((16, None)));
    }

    #[test]
    fn every_beginning_of_a_header_asks_for_more() {
        let addresses = [192, 0, 2, 7, 192, 0, 2, 1, 0x12, 0x67, 1, 0xbb];
        let headers = [
            b"PROXY TCP6 2001:db8::1 2001:db8::2 1 2\r\n".to_vec(),
            v2(1, 0x11, &addresses),
        ];
        for header in headers {
            for end in 0..header.len() {
                let begun = header.get(..end).unwrap();
                assert_eq!(parse(begun).unwrap(), None, "{begun:?}");
            }
        }
    }

    #[test]
    fn anything_else_is_refused() {
        for bytes in [
            b"GET / HTTP/1.1\r\n\r\n".as_slice(),
            b"PROXY TCP4 1.2.3.4 \r\n",
            b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\x00\x00\x00\x00",
        ] {
            assert!(parse(bytes).is_err(), "{bytes:?}");
        }
    }
}
