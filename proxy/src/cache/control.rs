//! What a client says about the cache: `x-sluicegate-cache`, and `Cache-Control` (RFC 9111 §5.2.1).
//!
//! Both only narrow what the policy allows. Words that are not known are passed over. A caller
//! without the grant has no say; its headers are named, so that they can be counted.

use std::time::Duration;

use http::HeaderMap;
use http::header::{CACHE_CONTROL, HeaderName};

/// The proxy's own request header.
pub(crate) const HEADER: HeaderName = HeaderName::from_static("x-sluicegate-cache");

/// What may be done for one request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Control {
    /// A stored answer may serve.
    pub(crate) lookup: bool,
    /// The answer may be stored.
    pub(crate) store: bool,
    /// Only a stored answer will do; without one the request fails.
    pub(crate) only: bool,
    /// Life of what is stored, in place of the policy's; never longer than the operator allows.
    pub(crate) ttl: Option<Duration>,
    /// Oldest stored answer that may serve.
    pub(crate) max_age: Option<Duration>,
    /// Names of the headers that were sent and not granted.
    pub(crate) ignored: Vec<&'static str>,
}

impl Default for Control {
    fn default() -> Self {
        Self {
            lookup: true,
            store: true,
            only: false,
            ttl: None,
            max_age: None,
            ignored: vec![],
        }
    }
}

/// Reads both headers. All words count, and the narrower one wins.
pub(crate) fn parse(headers: &HeaderMap, granted: bool) -> Control {
    let mut control = Control::default();
    for (name, header) in [
        ("x-sluicegate-cache", HEADER),
        ("cache-control", CACHE_CONTROL),
    ] {
        let is_ours = header == HEADER;
        for value in headers.get_all(&header) {
            if !granted {
                if !control.ignored.contains(&name) {
                    control.ignored.push(name);
                }
                continue;
            }
            for word in value.to_str().unwrap_or_default().split(',') {
                let word = word.trim().to_ascii_lowercase();
                if is_ours {
                    control.narrow_by_ours(&word)
                } else {
                    control.narrow(&word)
                }
            }
        }
    }
    control
}

impl Control {
    /// A word of `x-sluicegate-cache`.
    fn narrow_by_ours(&mut self, word: &str) {
        match word {
            "no-cache" => self.lookup = false,
            "no-store" => self.store = false,
            "bypass" => {
                self.lookup = false;
                self.store = false;
            }
            "only" => self.only = true,
            word => {
                let seconds = word
                    .strip_prefix("ttl=")
                    .and_then(|ttl| ttl.trim().parse().ok());
                if let Some(ttl) = seconds.map(Duration::from_secs) {
                    self.ttl = Some(self.ttl.map_or(ttl, |earlier| earlier.min(ttl)));
                    self.store &= !ttl.is_zero();
                }
            }
        }
    }

    /// A word of `Cache-Control`.
    fn narrow(&mut self, word: &str) {
        match word {
            "no-cache" => self.lookup = false,
            "no-store" => self.store = false,
            "only-if-cached" => self.only = true,
            word => {
                let age = word
                    .strip_prefix("max-age=")
                    .map(|age| age.trim_matches('"'));
                if let Some(age) = age
                    .and_then(|age| age.parse().ok())
                    .map(Duration::from_secs)
                {
                    self.max_age = Some(self.max_age.map_or(age, |earlier| earlier.min(age)));
                    self.lookup &= !age.is_zero();
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(values: &[(&'static str, &'static str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in values {
            headers.append(*name, http::HeaderValue::from_static(value));
        }
        headers
    }

    fn ours(value: &'static str) -> Control {
        parse(&headers(&[("x-sluicegate-cache", value)]), true)
    }

    fn standard(value: &'static str) -> Control {
        parse(&headers(&[("cache-control", value)]), true)
    }

    #[test]
    fn each_word_of_ours_narrows() {
        let all = Control::default();
        assert_eq!(parse(&HeaderMap::new(), true), all);
        assert_eq!(
            ours("no-cache"),
            Control {
                lookup: false,
                ..all.clone()
            }
        );
        assert_eq!(
            ours("No-Store"),
            Control {
                store: false,
                ..all.clone()
            }
        );
        assert_eq!(
            ours("bypass"),
            Control {
                lookup: false,
                store: false,
                ..all.clone()
            }
        );
        assert_eq!(
            ours("only"),
            Control {
                only: true,
                ..all.clone()
            }
        );
        let minute = Some(Duration::from_secs(60));
        assert_eq!(
            ours("ttl=60"),
            Control {
                ttl: minute,
                ..all.clone()
            }
        );
        assert_eq!(
            ours("ttl=99, ttl=60, no-cache"),
            Control {
                ttl: minute,
                lookup: false,
                ..all
            }
        );
        assert!(!ours("ttl=0").store);
    }

    #[test]
    fn the_standard_header_is_honoured() {
        let all = Control::default();
        assert_eq!(
            standard("no-cache"),
            Control {
                lookup: false,
                ..all.clone()
            }
        );
        assert_eq!(
            standard("no-store"),
            Control {
                store: false,
                ..all.clone()
            }
        );
        assert_eq!(
            standard("only-if-cached"),
            Control {
                only: true,
                ..all.clone()
            }
        );
        let control = standard("private, max-age=30");
        assert_eq!(
            control,
            Control {
                max_age: Some(Duration::from_secs(30)),
                ..all
            }
        );
        assert!(!standard("max-age=0").lookup);
    }

    #[test]
    fn unknown_words_and_bytes_are_passed_over() {
        for value in [
            "",
            "ttl=",
            "ttl=-1",
            "ttl=99999999999999999999999",
            "maybe",
            ",,",
        ] {
            assert_eq!(ours(value), Control::default(), "{value}");
        }
        let mut headers = HeaderMap::new();
        headers.insert(
            HEADER,
            http::HeaderValue::from_bytes(b"no-cache\xff").unwrap(),
        );
        assert_eq!(parse(&headers, true), Control::default());
    }

    #[test]
    fn without_the_grant_headers_are_only_named() {
        let headers = headers(&[
            ("x-sluicegate-cache", "bypass"),
            ("cache-control", "no-store"),
        ]);
        let ignored = vec!["x-sluicegate-cache", "cache-control"];
        assert_eq!(
            parse(&headers, false),
            Control {
                ignored,
                ..Control::default()
            }
        );
    }
}
