//! Whether the head of an HTTP/1.1 request is written as the grammar says, to the byte.
//!
//! Pingora's parser forgives what another server on the way may read differently: line feeds alone,
//! a request without a host, bytes that no target may have, lengths that come twice. Two servers
//! that disagree where a request ends let one client speak for another (request smuggling, RFC 9112
//! §11.2). So what leaves room for a second reading is refused here, before pingora sees it, also
//! where the standard would allow to mend it.

use http::uri::Authority;

/// What is wrong with a head, for the client to read.
pub(crate) type Fault = &'static str;

/// How a head frames the body that follows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Framed {
    /// By a length, which may be zero.
    Length,
    Chunked,
}

/// Checks a head from its request line to its empty line.
///
/// # Errors
/// [`Fault`].
pub(crate) fn check(head: &[u8]) -> Result<Framed, Fault> {
    let mut lines = Lines { rest: head };
    let line = lines.next()?;
    let version = request_line(line)?;
    let mut fields = Fields::default();
    loop {
        let line = lines.next()?;
        if line.is_empty() {
            break;
        }
        let (name, value) = field(line)?;
        fields.note(name, value)?;
    }
    if !lines.rest.is_empty() {
        return Err("bytes behind the head");
    }
    fields.judge(version)
}

/// Lines, each ended by CR LF (RFC 9112 §2.2).
struct Lines<'a> {
    rest: &'a [u8],
}

impl<'a> Lines<'a> {
    fn next(&mut self) -> Result<&'a [u8], Fault> {
        let end = memchr::memchr(b'\n', self.rest).ok_or("a line without an end")?;
        let (line, rest) = self.rest.split_at(end);
        self.rest = rest.get(1..).unwrap_or_default();
        line.strip_suffix(b"\r")
            .ok_or("a line that ends with LF alone, and not with CR LF")
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Version {
    Http10,
    Http11,
}

/// `METHOD SP TARGET SP VERSION` (RFC 9112 §3).
fn request_line(line: &[u8]) -> Result<Version, Fault> {
    let mut parts = line.split(|byte| *byte == b' ');
    let (Some(method), Some(target), Some(version), None) =
        (parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return Err("the request line is not `METHOD TARGET VERSION`");
    };
    if !is_token(method) {
        return Err("the method is no token");
    }
    // What follows it is meant for somebody else, and must not be read as a request.
    if method == b"CONNECT" {
        return Err("CONNECT, and nothing is tunnelled here");
    }
    target_form(target)?;
    match version {
        b"HTTP/1.1" => Ok(Version::Http11),
        b"HTTP/1.0" => Ok(Version::Http10),
        _ => Err("the version is neither HTTP/1.1 nor HTTP/1.0"),
    }
}

/// A path with its query, a whole `http` URI, or the `*` of OPTIONS (RFC 9112 §3.2).
fn target_form(target: &[u8]) -> Result<(), Fault> {
    let is_visible = |byte: &u8| byte.is_ascii_graphic() && *byte != b'#';
    if target.is_empty() || !target.iter().all(is_visible) {
        return Err("the request target holds bytes that no URI has");
    }
    let begins = |scheme: &[u8]| {
        let begin = target.get(..scheme.len()).unwrap_or_default();
        begin.eq_ignore_ascii_case(scheme)
    };
    let is_path = target.starts_with(b"/") || target == b"*";
    match is_path || begins(b"http://") || begins(b"https://") {
        true => Ok(()),
        false => Err("the request target is neither a path nor an http URI"),
    }
}

/// `NAME: VALUE` (RFC 9112 §5). A line that goes on (obs-fold) begins with a space, which no name
/// does.
fn field(line: &[u8]) -> Result<(&[u8], &[u8]), Fault> {
    if matches!(line.first(), Some(b' ' | b'\t')) {
        return Err("a header line begins with a space");
    }
    let colon = memchr::memchr(b':', line).ok_or("a header line without a colon")?;
    let (name, value) = line.split_at(colon);
    let value = value.get(1..).unwrap_or_default();
    if !is_token(name) {
        return Err("a header's name is no token");
    }
    let is_text = |byte: &u8| matches!(*byte, b'\t' | b' '..=b'~' | 0x80..);
    if !value.iter().all(is_text) {
        return Err("a header's value holds control characters");
    }
    Ok((name, value.trim_ascii()))
}

/// RFC 9110 §5.6.2.
fn is_token(bytes: &[u8]) -> bool {
    let is_token = |byte: &u8| {
        byte.is_ascii_alphanumeric()
            || matches!(
                byte,
                b'!' | b'#'
                    | b'$'
                    | b'%'
                    | b'&'
                    | b'\''
                    | b'*'
                    | b'+'
                    | b'-'
                    | b'.'
                    | b'^'
                    | b'_'
                    | b'`'
                    | b'|'
                    | b'~'
            )
    };
    !bytes.is_empty() && bytes.iter().all(is_token)
}

/// What decides where the request ends and whom it is for.
#[derive(Default)]
struct Fields {
    has_host: bool,
    has_length: bool,
    is_chunked: bool,
}

impl Fields {
    fn note(&mut self, name: &[u8], value: &[u8]) -> Result<(), Fault> {
        let once = |seen: &mut bool, fault| match std::mem::replace(seen, true) {
            true => Err(fault),
            false => Ok(()),
        };
        if name.eq_ignore_ascii_case(b"host") {
            once(&mut self.has_host, "more than one `host`")?;
            if !value.is_empty() && Authority::try_from(value).is_err() {
                return Err("`host` is no host");
            }
        } else if name.eq_ignore_ascii_case(b"content-length") {
            // RFC 9112 §6.3 lets equal ones pass as one. Nobody has a reason to send two.
            once(&mut self.has_length, "more than one `content-length`")?;
            let digits = value.iter().all(u8::is_ascii_digit);
            let number = std::str::from_utf8(value).ok().filter(|_| digits);
            if number.is_none_or(|number| number.parse::<i64>().is_err()) {
                return Err("`content-length` is no number of bytes");
            }
        } else if name.eq_ignore_ascii_case(b"transfer-encoding") {
            once(&mut self.is_chunked, "more than one `transfer-encoding`")?;
            if !value.eq_ignore_ascii_case(b"chunked") {
                return Err("`transfer-encoding` is not `chunked`");
            }
        }
        Ok(())
    }

    fn judge(&self, version: Version) -> Result<Framed, Fault> {
        if version == Version::Http11 && !self.has_host {
            return Err("`host` is missing");
        }
        match (self.is_chunked, self.has_length) {
            (true, true) => Err("both `content-length` and `transfer-encoding`"),
            (true, false) if version == Version::Http10 => {
                Err("`transfer-encoding` in an HTTP/1.0 request")
            }
            (true, false) => Ok(Framed::Chunked),
            (false, _) => Ok(Framed::Length),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(fields: &str) -> Result<Framed, Fault> {
        check(format!("POST /v1/files HTTP/1.1\r\nhost: a\r\n{fields}\r\n").as_bytes())
    }

    #[test]
    fn heads_as_clients_write_them_pass() {
        assert_eq!(
            with("content-length: 5\r\nX-a:\tb \r\nx:\r\n"),
            Ok(Framed::Length)
        );
        assert_eq!(with("Transfer-Encoding: Chunked\r\n"), Ok(Framed::Chunked));
        assert_eq!(with("x: caf\u{e9}, \"a;b\"\r\n"), Ok(Framed::Length));
        for line in [
            "GET /v1/models?a=%20&b[]=c|d HTTP/1.1",
            "GET http://a/v1/models HTTP/1.1",
            "GET HTTPS://a/v1 HTTP/1.1",
            "GET /v1/http://b HTTP/1.1",
            "OPTIONS * HTTP/1.1",
        ] {
            let head = format!("{line}\r\nhost: a\r\n\r\n");
            assert_eq!(check(head.as_bytes()), Ok(Framed::Length), "{line}");
        }
        assert_eq!(check(b"GET / HTTP/1.0\r\n\r\n"), Ok(Framed::Length));
        for host in ["", "a:80", "[::1]:80", "127.0.0.1"] {
            let head = format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n");
            assert!(check(head.as_bytes()).is_ok(), "{host}");
        }
    }

    #[test]
    fn lengths_that_can_be_read_twice_are_refused() {
        for fields in [
            "content-length: 5\r\ncontent-length: 5\r\n",
            "content-length: 5\r\ncontent-length: 6\r\n",
            "content-length: 5, 5\r\n",
            "content-length: +5\r\n",
            "content-length: -1\r\n",
            "content-length: 0x5\r\n",
            "content-length: 5 5\r\n",
            "content-length: \r\n",
            "content-length: 99999999999999999999\r\n",
            "transfer-encoding: chunked\r\ncontent-length: 5\r\n",
            "transfer-encoding: chunked\r\ntransfer-encoding: chunked\r\n",
            "transfer-encoding: chunked, identity\r\n",
            "transfer-encoding: gzip, chunked\r\n",
            "transfer-encoding: xchunked\r\n",
            "transfer-encoding: \u{b}chunked\r\n",
            "transfer-encoding : chunked\r\n",
            "transfer-encoding: chunked\n",
            "x: y\r\n transfer-encoding: chunked\r\n",
            "x: y\rtransfer-encoding: chunked\r\n",
            "x: \0\r\n",
            ": y\r\n",
            "x\r\n",
            "host: b\r\n",
        ] {
            assert!(with(fields).is_err(), "{fields:?}");
        }
    }

    #[test]
    fn request_lines_that_can_be_read_twice_are_refused() {
        for line in [
            "GET  / HTTP/1.1",
            "GET / HTTP/1.1 ",
            " GET / HTTP/1.1",
            "GET /a b HTTP/1.1",
            "GET\t/ HTTP/1.1",
            "GET / HTTP/1.1 HTTP/1.1",
            "GET /",
            "GET / HTTP/0.9",
            "GET / HTTP/2.0",
            "GET / http/1.1",
            "GET / HTTP/1.10",
            "G@T / HTTP/1.1",
            "GET /a#b HTTP/1.1",
            "GET /\u{e9} HTTP/1.1",
            "GET /\0 HTTP/1.1",
            "GET ftp://a/v1 HTTP/1.1",
            "GET v1/models HTTP/1.1",
            "GET a:80 HTTP/1.1",
            "CONNECT a:443 HTTP/1.1",
            "",
        ] {
            let head = format!("{line}\r\nhost: a\r\n\r\n");
            assert!(check(head.as_bytes()).is_err(), "{line:?}");
        }
        assert!(check(b"GET / HTTP/1.1\r\n\r\n").is_err(), "no host");
        assert!(check(b"GET / HTTP/1.1\r\nhost: a b\r\n\r\n").is_err());
        let chunked = b"GET / HTTP/1.0\r\ntransfer-encoding: chunked\r\n\r\n";
        assert!(check(chunked).is_err());
    }
}
