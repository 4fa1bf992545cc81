//! What comes over HTTP before anything is decided: heads, chunks, bodies, directives.

use http::{HeaderMap, HeaderName, HeaderValue};

use crate::api::{Endpoint, request};
use crate::cache::control;
use crate::server::{Chunks, Framed, check_head};

/// More than any server here takes, so that the second reader is never the stricter one.
const FIELDS: usize = 1024;

/// A head as it came, request line and empty line included. What is taken has one reading: another
/// parser finds the same fields, and one way to tell where the body ends.
pub fn http_head(data: &[u8]) {
    is_taken(data);
    directives(data);
}

/// [`http_head`], for a test that wants to know whether it tests anything.
pub(super) fn is_taken(data: &[u8]) -> bool {
    let Ok(framed) = check_head(data) else {
        return false;
    };
    let lines: Vec<&[u8]> = data.split(|byte| *byte == b'\n').collect();
    let whole = lines.iter().take(lines.len() - 1);
    for line in whole {
        let line = line.strip_suffix(b"\r").expect("each LF follows a CR");
        assert!(!line.contains(&b'\r') && !line.contains(&0));
    }
    let mut fields = [httparse::EMPTY_HEADER; FIELDS];
    let mut parsed = httparse::Request::new(&mut fields);
    let end = match parsed.parse(data) {
        Ok(end) => end,
        Err(httparse::Error::TooManyHeaders) => return true,
        // Bytes in a target that one takes and the other does not: never the other way round.
        Err(httparse::Error::Token) => return true,
        Err(error) => panic!("{error}: {:?}", data.escape_ascii().to_string()),
    };
    assert_eq!(end, httparse::Status::Complete(data.len()));
    assert_eq!(parsed.headers.len(), lines.len() - 3);
    let values = |name: &str| -> Vec<&[u8]> {
        let named = parsed.headers.iter();
        let named = named.filter(|field| field.name.eq_ignore_ascii_case(name));
        named.map(|field| field.value).collect()
    };
    let (lengths, codings) = (values("content-length"), values("transfer-encoding"));
    match framed {
        Framed::Chunked => {
            assert!(lengths.is_empty() && codings.len() == 1);
            assert!(codings[0].eq_ignore_ascii_case(b"chunked"));
        }
        Framed::Length => {
            assert!(codings.is_empty() && lengths.len() <= 1);
            assert!(
                lengths
                    .iter()
                    .all(|value| value.iter().all(u8::is_ascii_digit))
            );
        }
    }
    assert!(values("host").len() + usize::from(parsed.version == Some(0)) >= 1);
    true
}

/// What a client says about the cache only ever narrows, and says nothing without the grant.
fn directives(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let mut headers = HeaderMap::new();
    let mut before = control::parse(&headers, true);
    for line in text.lines().take(64) {
        let Some((name, value)) = line.split_once(':') else {
            continue;
        };
        let name = match name {
            "c" => HeaderName::from_static("cache-control"),
            _ => HeaderName::from_static("x-sluicegate-cache"),
        };
        let Ok(value) = HeaderValue::from_str(value) else {
            continue;
        };
        headers.append(name, value);
        let now = control::parse(&headers, true);
        assert!(before.lookup || !now.lookup, "{headers:?}");
        assert!(before.store || !now.store, "{headers:?}");
        assert!(!before.only || now.only, "{headers:?}");
        assert!(before.max_age.is_none() || now.max_age <= before.max_age);
        before = now;
        let ungranted = control::parse(&headers, false);
        assert!(ungranted.lookup && ungranted.store && !ungranted.only);
        assert_eq!(ungranted.ignored.is_empty(), headers.is_empty());
    }
}

/// A request's body, as chunks and as JSON.
pub fn http_body(data: &[u8]) {
    chunks(data);
    for endpoint in [Endpoint::Chat, Endpoint::Completions, Endpoint::Embeddings] {
        fate(endpoint, data);
    }
}

/// In whatever pieces it comes, a chunked body passes or does not; one that passes is one to another
/// reader of chunks too, and ends where that one ends it.
fn chunks(data: &[u8]) {
    let mut whole = Chunks::begin();
    let seen = whole.see(data);
    let mut piecemeal = Chunks::begin();
    let each = data.chunks(3).try_for_each(|piece| piecemeal.see(piece));
    assert_eq!(seen, each);
    if seen.is_err() || !whole.has_ended() {
        return;
    }
    let mut rest = data;
    loop {
        let read = httparse::parse_chunk_size(rest);
        let Ok(httparse::Status::Complete((line, size))) = read else {
            panic!("{read:?} of {:?}", rest.escape_ascii().to_string());
        };
        let size = usize::try_from(size).expect("it has been read");
        rest = &rest[line..];
        if size == 0 {
            break;
        }
        assert_eq!(rest.get(size..size + 2), Some(&b"\r\n"[..]));
        rest = &rest[size + 2..];
    }
}

/// What became of a body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fate {
    Screened,
    NoRequest,
    Checked,
    Taken,
}

/// What is refused names a field or says that it is no JSON, in few words; what is taken is JSON.
pub(super) fn fate(endpoint: Endpoint, data: &[u8]) -> Fate {
    let screened = request::screen(data);
    if let Err(error) = &screened {
        assert_told(error);
        return Fate::Screened;
    }
    let request = match request::parse(endpoint, bytes::Bytes::copy_from_slice(data)) {
        Ok(request) => request,
        Err(error) => {
            assert_told(&error);
            return Fate::NoRequest;
        }
    };
    let text = std::str::from_utf8(data).expect("it was read");
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    serde_json::from_str::<serde::de::IgnoredAny>(text).expect("it was read");
    let rules = request::Rules {
        extra_roles: &[],
        max_choices: 128,
    };
    match request.check(rules) {
        Ok(()) => {
            assert!(request.prompt.parameters.choices <= 128);
            Fate::Taken
        }
        Err(error) => {
            assert_told(&error);
            assert!(error.param.is_some());
            Fate::Checked
        }
    }
}

fn assert_told(error: &request::RequestError) {
    assert!(error.message.len() < 512, "{}", error.message);
    assert!(!error.code.is_empty());
    if let Some(param) = &error.param {
        assert!(error.message.contains(param.as_str()), "{error:?}");
    }
}
