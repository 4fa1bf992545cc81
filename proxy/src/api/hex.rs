//! Bytes as lower-case hexadecimal digits.

/// The digits of these bytes.
pub(crate) fn hex(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len() * 2);
    text.extend(bytes.iter().flat_map(|byte| digits(*byte)));
    text
}

/// The two digits of a byte.
pub(crate) fn digits(byte: u8) -> [char; 2] {
    let digit = |half: u8| match half {
        0..=9 => char::from(b'0' + half),
        _ => char::from(b'a' + (half - 10)),
    };
    [digit(byte >> 4), digit(byte & 0x0f)]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_byte_has_the_digits_that_the_standard_library_writes() {
        for byte in 0..=u8::MAX {
            assert_eq!(hex(&[byte]), format!("{byte:02x}"));
        }
        assert_eq!(hex(&[0xde, 0xad]), "dead");
    }
}
