//! Values with a unit: times and sizes, as typed.
//!
//! Both know their own text form in both directions, and the words for what was expected: the
//! schema carries them as `title`, so that an error can quote them.

use std::borrow::Cow;
use std::fmt;
use std::time::Duration;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// A time-out longer than this is a mistake; the bound also keeps `Instant + Duration` in range.
const LONGEST: Duration = Duration::from_secs(366 * 24 * 3600);

/// Name of the schema format that [`Time::parse`] checks.
pub(crate) const TIME_FORMAT: &str = "sluicegate-time";

/// Name of the schema format that [`Size::parse`] checks.
pub(crate) const SIZE_FORMAT: &str = "sluicegate-size";

/// A span of time: more than zero, at most 366 days; typed as `"500ms"`, `"120s"`, `"1h"`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Time(pub(crate) Duration);

/// Units of time and their length in microseconds, longest first.
const TIME_UNITS: [(&str, u64); 6] = [
    ("d", 86_400_000_000),
    ("h", 3_600_000_000),
    ("m", 60_000_000),
    ("s", 1_000_000),
    ("ms", 1_000),
    ("us", 1),
];

impl Time {
    /// A whole number of seconds.
    pub(crate) const fn seconds(seconds: u64) -> Self {
        Self(Duration::from_secs(seconds))
    }

    /// Reads a number and its unit.
    ///
    /// # Errors
    /// What was expected, as one clause.
    pub(crate) fn parse(text: &str) -> Result<Self, &'static str> {
        const SHAPE: &str = "a time such as \"500ms\", \"120s\", \"5m\", \"1h\" or \"7d\"";
        let (number, unit) = split(text);
        let number: u64 = number.parse().map_err(|_| SHAPE)?;
        let (_, micros) = TIME_UNITS
            .iter()
            .find(|(name, _)| *name == unit)
            .ok_or(SHAPE)?;
        let time = number.checked_mul(*micros).map(Duration::from_micros);
        match time {
            Some(Duration::ZERO) => Err("a time of more than zero"),
            Some(time) if time <= LONGEST => Ok(Self(time)),
            _ => Err("a time of at most 366 days"),
        }
    }
}

impl fmt::Display for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let micros = self.0.as_micros();
        // `1h` and `3600s` are the same time; the longest unit that divides it reads best.
        let (unit, length) = TIME_UNITS
            .iter()
            .find(|(_, length)| micros.is_multiple_of(u128::from(*length)))
            .unwrap_or(&("us", 1));
        write!(f, "{}{unit}", micros / u128::from(*length))
    }
}

impl Serialize for Time {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Time {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = Cow::<str>::deserialize(deserializer)?;
        Self::parse(&text).map_err(|expected| de::Error::custom(format!("expected {expected}")))
    }
}

impl JsonSchema for Time {
    fn schema_name() -> Cow<'static, str> {
        "Time".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "title": "a time such as \"500ms\" or \"120s\"",
            "type": "string",
            "pattern": "^[0-9]+(us|ms|s|m|h|d)$",
            "format": TIME_FORMAT,
            "examples": ["120s", "500ms"],
        })
    }
}

/// A size in bytes, typed as `"32MiB"`, `"64KB"` or a plain number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Size(pub(crate) u64);

/// Units of size and their bytes; those with `i` are powers of 1,024.
const SIZE_UNITS: [(&str, u64); 9] = [
    ("TiB", 1 << 40),
    ("GiB", 1 << 30),
    ("MiB", 1 << 20),
    ("KiB", 1 << 10),
    ("TB", 1_000_000_000_000),
    ("GB", 1_000_000_000),
    ("MB", 1_000_000),
    ("KB", 1_000),
    ("B", 1),
];

impl Size {
    /// So many KiB.
    pub(crate) const fn kib(kib: u64) -> Self {
        Self(kib << 10)
    }

    /// So many MiB.
    pub(crate) const fn mib(mib: u64) -> Self {
        Self(mib << 20)
    }

    /// Reads a number and its unit.
    ///
    /// # Errors
    /// What was expected, as one clause.
    pub(crate) fn parse(text: &str) -> Result<Self, &'static str> {
        const SHAPE: &str = "a size such as \"32MiB\", \"64KB\" or a number of bytes";
        let (number, unit) = split(text);
        let number: u64 = number.parse().map_err(|_| SHAPE)?;
        let bytes = match SIZE_UNITS.iter().find(|(name, _)| *name == unit) {
            Some((_, bytes)) => *bytes,
            None if unit.is_empty() => 1,
            None => return Err(SHAPE),
        };
        match number.checked_mul(bytes) {
            Some(bytes) if i64::try_from(bytes).is_ok() => Ok(Self(bytes)),
            _ => Err("a size below 8 EiB"),
        }
    }
}

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let binary = SIZE_UNITS.iter().take(4);
        match binary
            .into_iter()
            .find(|(_, bytes)| self.0 > 0 && self.0.is_multiple_of(*bytes))
        {
            Some((unit, bytes)) => write!(f, "{}{unit}", self.0 / bytes),
            None => write!(f, "{}B", self.0),
        }
    }
}

impl Serialize for Size {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Size {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Typed {
            Bytes(u64),
            Text(String),
        }
        match Typed::deserialize(deserializer)? {
            Typed::Bytes(bytes) => Ok(Self(bytes)),
            Typed::Text(text) => Self::parse(&text)
                .map_err(|expected| de::Error::custom(format!("expected {expected}"))),
        }
    }
}

impl JsonSchema for Size {
    fn schema_name() -> Cow<'static, str> {
        "Size".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "title": "a size such as \"32MiB\", or a number of bytes",
            "type": ["string", "integer"],
            "minimum": 0,
            "maximum": i64::MAX,
            "pattern": "^[0-9]+(B|KB|MB|GB|TB|KiB|MiB|GiB|TiB)?$",
            "format": SIZE_FORMAT,
            "examples": ["32MiB", 4096],
        })
    }
}

/// Splits where the digits end.
fn split(text: &str) -> (&str, &str) {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    text.split_at(digits)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_survive_their_own_text() {
        for text in ["250us", "500ms", "90s", "5m", "1h", "30d"] {
            assert_eq!(Time::parse(text).unwrap().to_string(), text);
        }
        assert_eq!(Time::parse("120s").unwrap().to_string(), "2m");
    }

    #[test]
    fn times_without_unit_sign_or_bound_are_refused() {
        for text in [
            "",
            "5",
            "-5s",
            "5 s",
            "1.5s",
            "s",
            "5x",
            "99999999999999999999s",
        ] {
            assert!(Time::parse(text).is_err(), "{text}");
        }
        assert_eq!(Time::parse("0s").unwrap_err(), "a time of more than zero");
        assert_eq!(
            Time::parse("367d").unwrap_err(),
            "a time of at most 366 days"
        );
    }

    #[test]
    fn sizes_survive_their_own_text() {
        for text in ["1B", "100B", "64KiB", "32MiB", "1GiB", "1023MiB", "0B"] {
            assert_eq!(Size::parse(text).unwrap().to_string(), text);
        }
        assert_eq!(Size::parse("2MB").unwrap(), Size(2_000_000));
        assert_eq!(Size::parse("4096").unwrap(), Size::kib(4));
    }

    #[test]
    fn sizes_with_unknown_units_or_above_the_bound_are_refused() {
        for text in ["", "-1", "1.5MiB", "MiB", "5mb", "9EiB", "99999999TiB"] {
            assert!(Size::parse(text).is_err(), "{text}");
        }
    }
}
