//! What the environment says in place of the file.

use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;
use std::time::Duration;

use super::problem::{Problem, Problems};
use super::schema::{Size, Time};

/// Values that win over the file's.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Overrides {
    /// `SLUICEGATE_HOST`: the address of `[server] listen`.
    pub(crate) host: Option<IpAddr>,
    /// `SLUICEGATE_PORT`: its port; 0 takes any free one.
    pub(crate) port: Option<u16>,
    /// `SLUICEGATE_WORKERS`: 1 to 1,024.
    pub(crate) workers: Option<u32>,
    /// `SLUICEGATE_CACHE_SIZE`.
    pub(crate) cache_size: Option<CacheSize>,
    /// `SLUICEGATE_CACHE_TTL`: a time, or a number of seconds.
    pub(crate) cache_ttl: Option<Duration>,
}

/// A plain number counts answers, 0 switches the cache off; a size with a unit counts bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum CacheSize {
    /// Most answers.
    Entries(u64),
    /// Most bytes, more than zero.
    Bytes(u64),
}

impl Overrides {
    /// Reads the environment of this process. An empty variable counts as not set.
    ///
    /// # Errors
    /// Every variable whose value cannot be used.
    pub(crate) fn from_env() -> Result<Self, Problems> {
        Self::from(|name| std::env::var(name).ok())
    }

    fn from(variable: impl Fn(&str) -> Option<String>) -> Result<Self, Problems> {
        let mut reader = Reader {
            variable,
            problems: Vec::new(),
        };
        let overrides = Self {
            host: reader.read("SLUICEGATE_HOST", "an IP address or `localhost`", host),
            port: reader.read("SLUICEGATE_PORT", "a port from 0 to 65535", |text| {
                text.parse().ok()
            }),
            workers: reader.read("SLUICEGATE_WORKERS", "a number from 1 to 1024", workers),
            cache_size: reader.read(
                "SLUICEGATE_CACHE_SIZE",
                "a number of answers such as 10000, or a size such as 256MiB",
                cache_size,
            ),
            cache_ttl: reader.read(
                "SLUICEGATE_CACHE_TTL",
                "a time such as 1h, or a number of seconds, more than zero and at most 366 days",
                ttl,
            ),
        };
        match reader.problems.is_empty() {
            true => Ok(overrides),
            false => Err(Problems::new(reader.problems)),
        }
    }
}

struct Reader<F> {
    variable: F,
    problems: Vec<Problem>,
}

impl<F: Fn(&str) -> Option<String>> Reader<F> {
    fn read<T>(
        &mut self,
        name: &str,
        expected: &str,
        parse: impl FnOnce(&str) -> Option<T>,
    ) -> Option<T> {
        let text = (self.variable)(name).filter(|text| !text.is_empty())?;
        let value = parse(text.trim());
        if value.is_none() {
            let message = format!("{name}: expected {expected}, found {text:?}");
            self.problems
                .push(Problem::nowhere(Path::new("environment"), message));
        }
        value
    }
}

fn host(text: &str) -> Option<IpAddr> {
    match text {
        "localhost" => Some(IpAddr::V4(Ipv4Addr::LOCALHOST)),
        address => address.trim_matches(['[', ']']).parse().ok(),
    }
}

fn workers(text: &str) -> Option<u32> {
    let workers = text.parse().ok()?;
    (1..=1024).contains(&workers).then_some(workers)
}

fn cache_size(text: &str) -> Option<CacheSize> {
    match text.parse() {
        Ok(entries) => Some(CacheSize::Entries(entries)),
        Err(_) => {
            let Size(bytes) = Size::parse(text).ok()?;
            (bytes > 0).then_some(CacheSize::Bytes(bytes))
        }
    }
}

fn ttl(text: &str) -> Option<Duration> {
    let is_plain = text.bytes().all(|byte| byte.is_ascii_digit());
    let seconds = format!("{text}s");
    let Time(ttl) = Time::parse(if is_plain { &seconds } else { text }).ok()?;
    Some(ttl)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn from(values: &[(&str, &str)]) -> Result<Overrides, Problems> {
        Overrides::from(|name| {
            let value = values.iter().find(|(known, _)| *known == name);
            value.map(|(_, value)| (*value).to_owned())
        })
    }

    #[test]
    fn every_variable_is_read() {
        let overrides = from(&[
            ("SLUICEGATE_HOST", "::1"),
            ("SLUICEGATE_PORT", "0"),
            ("SLUICEGATE_WORKERS", "3"),
            ("SLUICEGATE_CACHE_SIZE", "5"),
            ("SLUICEGATE_CACHE_TTL", "90"),
        ]);
        let expected = Overrides {
            host: Some("::1".parse().unwrap()),
            port: Some(0),
            workers: Some(3),
            cache_size: Some(CacheSize::Entries(5)),
            cache_ttl: Some(Duration::from_secs(90)),
        };
        assert_eq!(overrides.unwrap(), expected);
    }

    #[test]
    fn units_are_understood_and_empty_variables_are_not_set() {
        let overrides = from(&[
            ("SLUICEGATE_PORT", ""),
            ("SLUICEGATE_CACHE_SIZE", "1MiB"),
            ("SLUICEGATE_CACHE_TTL", "5m"),
        ])
        .unwrap();
        assert_eq!(overrides.port, None);
        assert_eq!(overrides.cache_size, Some(CacheSize::Bytes(1 << 20)));
        assert_eq!(overrides.cache_ttl, Some(Duration::from_secs(300)));
    }

    #[test]
    fn every_bad_value_is_named_with_what_was_expected() {
        let problems = from(&[
            ("SLUICEGATE_HOST", "example.org"),
            ("SLUICEGATE_PORT", "65536"),
            ("SLUICEGATE_WORKERS", "0"),
            ("SLUICEGATE_CACHE_SIZE", "lots"),
            ("SLUICEGATE_CACHE_TTL", "0"),
        ])
        .unwrap_err();
        insta::assert_snapshot!(problems);
    }
}
