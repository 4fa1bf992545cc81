//! Names, labels, header names and hashes: what characters they may have, and that they are unique.

use std::collections::HashMap;

use http::HeaderName;

use super::Checker;

/// What a name may be made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Alphabet {
    /// `a-z 0-9 - _ .`
    Name,
    /// `a-z 0-9 - _`
    Label,
    /// `a-z 0-9 -`
    Slot,
}

impl Alphabet {
    fn allows(self, byte: u8) -> bool {
        let extra: &[u8] = match self {
            Self::Name => b"-_.",
            Self::Label => b"-_",
            Self::Slot => b"-",
        };
        byte.is_ascii_lowercase() || byte.is_ascii_digit() || extra.contains(&byte)
    }

    fn in_words(self) -> &'static str {
        match self {
            Self::Name => "a-z 0-9 - _ .",
            Self::Label => "a-z 0-9 - _",
            Self::Slot => "a-z 0-9 -",
        }
    }

    /// Whether a text is such a name of 1 to 64 bytes.
    pub(crate) fn accepts(self, text: &str) -> bool {
        (1..=64).contains(&text.len()) && text.bytes().all(|byte| self.allows(byte))
    }

    /// A text as such a name: other characters become `-`.
    pub(crate) fn fit(self, text: &str) -> String {
        let lower = text.to_ascii_lowercase();
        let fitted = lower.chars().map(|c| match u8::try_from(c) {
            Ok(byte) if self.allows(byte) => c,
            _ => '-',
        });
        fitted.take(64).collect()
    }
}

/// Request headers that carry credentials: they stay between the client and this proxy.
const CREDENTIALS: [&str; 3] = ["authorization", "cookie", "proxy-authorization"];

/// Headers of one connection or of the body's framing, which this proxy writes itself.
const OWN: [&str; 10] = [
    "connection",
    "content-length",
    "expect",
    "host",
    "keep-alive",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

impl Checker<'_> {
    /// Checks the characters of a name.
    pub(super) fn name(&mut self, pointer: &str, name: &str, alphabet: Alphabet) {
        if !alphabet.accepts(name) {
            let expected = format!("expected 1 to 64 bytes of {}", alphabet.in_words());
            self.error(pointer, expected);
        }
    }

    /// Checks a text of any characters by its length in bytes.
    pub(super) fn text(&mut self, pointer: &str, text: &str, most: usize) {
        if text.is_empty() || text.len() > most || text.chars().any(char::is_control) {
            let expected = format!("expected 1 to {most} bytes without control characters");
            self.error(pointer, expected);
        }
    }

    /// Reports each entry whose value an earlier one has already.
    pub(super) fn unique<'t>(
        &mut self,
        what: &str,
        entries: impl IntoIterator<Item = (String, &'t str)>,
    ) {
        let mut seen: HashMap<&str, String> = HashMap::new();
        for (pointer, value) in entries {
            match seen.get(value) {
                Some(first) => {
                    let first = self.line_of(first);
                    self.error(&pointer, format!("{what} `{value}` is taken"))
                        .label(format!("first at {first}"));
                }
                None => {
                    seen.insert(value, pointer);
                }
            }
        }
    }

    /// Reads the name of a request header that may be handed on.
    pub(super) fn header_name(&mut self, pointer: &str, name: &str) -> Option<HeaderName> {
        let header = self.any_header(pointer, name)?;
        if CREDENTIALS.contains(&header.as_str()) {
            self.error(
                pointer,
                format!("`{header}` carries credentials: no route, plugin or backend sees it"),
            );
            return None;
        }
        Some(header)
    }

    /// Reads the name of a request header that may be sent to a backend.
    pub(super) fn forwarded_header(&mut self, pointer: &str, name: &str) -> Option<HeaderName> {
        let header = self.header_name(pointer, name)?;
        if OWN.contains(&header.as_str()) {
            self.error(
                pointer,
                format!("`{header}` belongs to one connection; the proxy sets it"),
            );
            return None;
        }
        Some(header)
    }

    /// Reads the name of an answer's header that may be kept from a client, or not.
    pub(super) fn answer_header(&mut self, pointer: &str, name: &str) -> Option<HeaderName> {
        let header = self.any_header(pointer, name)?;
        if OWN.contains(&header.as_str()) || header == http::header::CONTENT_TYPE {
            self.error(
                pointer,
                format!("`{header}` is needed to read the answer; the proxy sees to it"),
            );
            return None;
        }
        Some(header)
    }

    fn any_header(&mut self, pointer: &str, name: &str) -> Option<HeaderName> {
        let header = HeaderName::from_bytes(name.as_bytes()).ok();
        if header.is_none() {
            self.error(pointer, format!("`{name}` is no name of a header"))
                .label("for example \"x-team\"");
        }
        header
    }

    /// Checks that a secret can be sent in a header; says what is wrong with it, and nothing of it.
    pub(super) fn header_safe(&mut self, pointer: &str, secret: &str) {
        let wrong = secret
            .chars()
            .find(|character| !character.is_ascii_graphic());
        let found = match wrong {
            None if secret.is_empty() => "it is empty",
            None => return,
            Some('\n' | '\r') => "it has a line break",
            Some(' ' | '\t') => "it has a blank",
            Some(character) if character.is_control() => "it has a control character",
            Some(_) => "it has a character outside of ASCII",
        };
        self.error(pointer, "expected one or more visible ASCII characters")
            .label(found)
            .help("the value is sent in an HTTP header");
    }

    /// Reads 64 hexadecimal digits.
    pub(super) fn sha256(&mut self, pointer: &str, text: &str) -> Option<[u8; 32]> {
        let digest = hex(text);
        if digest.is_none() {
            self.error(pointer, "expected a SHA-256 as 64 hexadecimal digits")
                .label(format!("{} characters", text.chars().count()));
        }
        digest
    }
}

fn hex(text: &str) -> Option<[u8; 32]> {
    let digits: Option<Vec<u8>> = text
        .chars()
        .map(|digit| u8::try_from(digit.to_digit(16)?).ok())
        .collect();
    let bytes: Vec<u8> = digits?
        .chunks_exact(2)
        .map(|pair| pair.iter().fold(0, |byte, digit| byte << 4 | digit))
        .collect();
    (text.len() == 64).then_some(bytes)?.try_into().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sha256_takes_exactly_64_digits_of_either_case() {
        let digits = "0123456789abcdefABCDEF0123456789".repeat(2);
        let digest = hex(&digits).unwrap();
        assert_eq!(digest.get(..4), Some([0x01, 0x23, 0x45, 0x67].as_slice()));
        assert_eq!(hex(&digits.replace('a', "g")), None);
        assert_eq!(hex(digits.trim_end_matches('9')), None);
        assert_eq!(hex(&format!("{digits}0")), None);
    }
}
