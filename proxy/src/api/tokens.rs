//! Counts tokens: on the path by a calibrated estimate, off the path exactly.
//!
//! The estimate reads a text once, in pieces such as a tokenizer's pre-splitting gives (words with
//! the space before them, groups of three digits, runs of punctuation, line breaks with their
//! indentation), and charges each piece what it costs on average in OpenAI's o200k vocabulary: by
//! its length in Latin script, by the character in others. The weights are a least-squares fit over
//! prose in ten languages, source code, JSON, Markdown and logs; the tests hold it to 20 % on
//! samples of each. Other vocabularies of 100,000 and more entries differ by less than that.

use tiktoken_rs::CoreBPE;
use tiktoken_rs::tokenizer::{Tokenizer, get_tokenizer};

use super::text;

/// Most bytes that are encoded in one piece, so that one count does not hold a thread and memory for
/// the length of a whole prompt. A cut costs at most one token.
const EXACT_PIECE_BYTES: usize = 64 * 1024;

/// Hundredths of a token for a word of so many letters.
const WORD: [u64; 13] = [0, 98, 98, 98, 98, 98, 109, 120, 131, 148, 165, 182, 199];
/// For each letter of a word beyond the twelfth.
const LONG_WORD: u64 = 60;
/// On top, for each letter of a word that is not ASCII: of Latin-1, and of the rarer alphabets.
const ACCENT: u64 = 49;
const RARE_ACCENT: u64 = 90;
const DIGITS: u64 = 123;
const PUNCTUATION: u64 = 80;
/// For each character of a run of punctuation beyond the second.
const MORE_PUNCTUATION: u64 = 12;
const LINE_BREAK: u64 = 38;
const INDENT: u64 = 83;
/// For each run of Cyrillic, on top of its letters.
const CYRILLIC_WORD: u64 = 68;

/// What a byte begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Class {
    Lower,
    Upper,
    /// A Latin letter outside of ASCII, of two bytes.
    Accented,
    Digit,
    Space,
    Break,
    Punctuation,
    /// A character of a script that is counted by the character: bytes, and hundredths of a token.
    Character(u8, u8),
    Cyrillic,
    /// The second byte says which script it is.
    Three(u8),
}

impl Class {
    /// The class of a byte. One that begins no character is not met at a piece's start.
    #[expect(clippy::indexing_slicing, reason = "a byte is below 256")]
    fn of(byte: u8) -> Self {
        static CLASSES: [Class; 256] = {
            let mut classes = [Class::Punctuation; 256];
            let mut byte = u8::MIN;
            loop {
                classes[byte as usize] = Class::by_range(byte);
                match byte.checked_add(1) {
                    Some(next) => byte = next,
                    None => break classes,
                }
            }
        };
        CLASSES[usize::from(byte)]
    }

    const fn by_range(byte: u8) -> Self {
        match byte {
            b'\n' | b'\r' => Self::Break,
            b' ' | b'\t' => Self::Space,
            b'a'..=b'z' => Self::Lower,
            b'A'..=b'Z' => Self::Upper,
            b'0'..=b'9' => Self::Digit,
            0..=0x7f => Self::Punctuation,
            // Latin-1 signs.
            0x80..=0xc2 => Self::Character(2, 100),
            0xc3..=0xcc => Self::Accented,
            // Greek.
            0xcd..=0xcf => Self::Character(2, 43),
            0xd0..=0xd4 => Self::Cyrillic,
            // Armenian and Hebrew.
            0xd5..=0xd7 => Self::Character(2, 46),
            // Arabic.
            0xd8..=0xdf => Self::Character(2, 34),
            0xe0..=0xef => Self::Three(byte),
            // Emoji, mostly.
            0xf0.. => Self::Character(4, 130),
        }
    }
}

/// Hundredths of a token for a character of three bytes, by the first two.
fn three(first: u8, second: u8) -> u64 {
    match (first, second) {
        (0xe0, 0xb8..) => 44,          // Thai, Lao
        (0xe0, _) => 38,               // the scripts of India
        (0xe1, 0xb8..=0xbb) => 0,      // Vietnamese letters, inside of words
        (0xe3, 0x81..=0x83) => 80,     // kana
        (0xe3..=0xe9 | 0xef, _) => 79, // Chinese characters, full-width forms
        (0xea..=0xed, _) => 72,        // hangul
        (0xe2, _) => 100,              // dashes, quotes, arrows, boxes
        _ => 80,
    }
}

/// Estimates the tokens of a text. Within 20 % for prose and code of some hundred bytes and more
/// (Turkish and other scripts of many rare letters: 30 %);
/// one to two nanoseconds a byte.
pub(crate) fn estimate(text: &str) -> u32 {
    let mut sum = 0_u64;
    let mut rest = text.as_bytes();
    while let Some((&first, behind)) = rest.split_first() {
        let class = Class::of(first);
        let is_same = |byte: &&u8| Class::of(**byte) == class;
        let run = || 1 + behind.iter().take_while(is_same).count();
        let length = match class {
            Class::Lower | Class::Upper | Class::Accented => {
                let (length, cost) = word(rest);
                sum += cost;
                length
            }
            Class::Digit => {
                let length = run();
                sum += DIGITS * length.div_ceil(3) as u64;
                length
            }
            // The space before a word is part of its token.
            Class::Space if behind.first().copied().map(Class::of) != Some(class) => 1,
            Class::Space => {
                sum += INDENT;
                run()
            }
            Class::Break => {
                sum += LINE_BREAK;
                run()
            }
            Class::Punctuation => {
                let length = run();
                sum += PUNCTUATION + MORE_PUNCTUATION * length.saturating_sub(2) as u64;
                length
            }
            Class::Cyrillic => {
                let letters = rest.iter().step_by(2).take_while(is_same).count();
                sum += CYRILLIC_WORD + 15 * letters as u64;
                2 * letters
            }
            Class::Character(length, cost) => {
                sum += u64::from(cost);
                usize::from(length)
            }
            Class::Three(lead) => {
                sum += three(lead, behind.first().copied().unwrap_or_default());
                3
            }
        };
        rest = rest.get(length..).unwrap_or_default();
    }
    u32::try_from(sum.div_ceil(100)).unwrap_or(u32::MAX)
}

/// The Latin word that begins here, up to the next `aB`: its bytes and its cost.
fn word(bytes: &[u8]) -> (usize, u64) {
    let (mut at, mut after_lower) = (0, false);
    // Most words are ASCII and end within eight letters: then this is all.
    while let Some(eight) = bytes
        .get(at..at + 8)
        .and_then(|eight| eight.try_into().ok())
    {
        let run = ascii_letters(u64::from_le_bytes(eight), after_lower);
        at += run;
        if run < 8 {
            if bytes.get(at).is_some_and(u8::is_ascii) && at > 0 {
                return (at, cost(at));
            }
            break;
        }
        after_lower = bytes.get(at - 1).is_some_and(u8::is_ascii_lowercase);
    }
    let mut letters = at;
    let mut accents = 0;
    let mut after_upper = letters == 0 || bytes.get(at - 1).is_some_and(u8::is_ascii_uppercase);
    while let Some(byte) = bytes.get(at) {
        match Class::of(*byte) {
            Class::Lower => {
                after_upper = false;
                at += 1;
            }
            Class::Upper if after_upper => at += 1,
            Class::Accented => {
                after_upper = false;
                accents += if *byte == 0xc3 { ACCENT } else { RARE_ACCENT };
                at += 2;
            }
            Class::Upper
            | Class::Digit
            | Class::Space
            | Class::Break
            | Class::Punctuation
            | Class::Character(..)
            | Class::Cyrillic
            | Class::Three(_) => break,
        }
        letters += 1;
    }
    (at, cost(letters) + accents)
}

/// Hundredths of a token for a word of so many letters.
fn cost(letters: usize) -> u64 {
    let [.., longest] = WORD;
    let more = letters.saturating_sub(WORD.len() - 1) as u64;
    WORD.get(letters).copied().unwrap_or(longest) + LONG_WORD * more
}

/// How many of eight bytes, from the lowest on, are ASCII letters of one word: up to the first that
/// is none, or that is a capital behind a small letter. All eight at once, in one register: adding
/// to a byte below 0x80 sets its high bit when it is at or above a bound, and never carries over.
fn ascii_letters(eight: u64, after_lower: bool) -> usize {
    const ONES: u64 = 0x0101_0101_0101_0101;
    const HIGH: u64 = 0x80 * ONES;
    let seven = eight & !HIGH;
    let within = |first: u8, last: u8| {
        let from = seven + u64::from(0x80 - first) * ONES;
        let past = seven + u64::from(0x7f - last) * ONES;
        from & !past & !eight & HIGH
    };
    let lower = within(b'a', b'z');
    let upper = within(b'A', b'Z');
    let behind_lower = lower << 8 | if after_lower { 0x80 } else { 0 };
    let end = HIGH & !(lower | upper) | upper & behind_lower;
    (end.trailing_zeros() / 8).min(8) as usize
}

/// Counts the tokens of a text in the vocabulary of a model; o200k for one that is not known. Not
/// for the path: it takes 50 to 200 ns a byte, and the first count of a vocabulary loads it, which
/// takes some hundred milliseconds and 50 MB.
pub(crate) fn exact(model: &str, text: &str) -> u32 {
    let vocabulary = vocabulary(model);
    let mut rest = text;
    let mut count = 0_usize;
    while !rest.is_empty() {
        let (piece, left) = rest.split_at_checked(cut(rest)).unwrap_or((rest, ""));
        count += vocabulary.encode_ordinary(piece).len();
        rest = left;
    }
    u32::try_from(count).unwrap_or(u32::MAX)
}

/// Where to cut a long text: in front of a space near the limit, else between characters.
fn cut(text: &str) -> usize {
    let piece = text::cut(text, EXACT_PIECE_BYTES);
    if piece.len() == text.len() {
        return piece.len();
    }
    memchr::memrchr(b' ', piece.as_bytes())
        .filter(|at| *at > EXACT_PIECE_BYTES / 2)
        .unwrap_or(piece.len())
}

/// The vocabulary of a model by its name, a provider's prefix (`openai/gpt-4o`) apart.
fn vocabulary(model: &str) -> &'static CoreBPE {
    let name = model.rsplit('/').next().unwrap_or(model);
    match get_tokenizer(name) {
        Some(Tokenizer::Cl100kBase) => tiktoken_rs::cl100k_base_singleton(),
        Some(Tokenizer::P50kBase | Tokenizer::P50kEdit) => tiktoken_rs::p50k_base_singleton(),
        Some(Tokenizer::R50kBase | Tokenizer::Gpt2) => tiktoken_rs::r50k_base_singleton(),
        Some(Tokenizer::O200kBase | Tokenizer::O200kHarmony) | None => {
            tiktoken_rs::o200k_base_singleton()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Every sample: prose in ten languages, code, JSON, Markdown, a log.
    fn samples() -> Vec<(String, String)> {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/src/api/tokens/samples");
        let mut samples: Vec<(String, String)> = std::fs::read_dir(folder)
            .unwrap()
            .map(|entry| {
                let path = entry.unwrap().path();
                let name = path.file_stem().unwrap().to_string_lossy().into_owned();
                (name, std::fs::read_to_string(path).unwrap())
            })
            .collect();
        samples.sort();
        assert_eq!(samples.len(), 16);
        samples
    }

    #[test]
    fn estimate_is_within_20_percent_of_the_exact_count() {
        for (name, text) in samples() {
            let exact = exact("gpt-4o", &text);
            let ratio = f64::from(estimate(&text)) / f64::from(exact);
            println!("{name}: {exact} tokens, estimated {ratio:.3} of it");
            assert!(
                (0.8..=1.2).contains(&ratio),
                "{name}: {ratio:.3} of {exact} tokens"
            );
        }
    }

    #[test]
    fn estimate_of_texts_that_were_not_fitted_is_near() {
        let cases = [
            (
                "Greek",
                "Το τρένο έφτασε νωρίς το πρωί, όταν τα φώτα στην αποβάθρα ήταν ακόμα αναμμένα.",
            ),
            (
                "Vietnamese",
                "Chuyến tàu đến từ sáng sớm, khi đèn trên sân ga vẫn còn sáng. Không ai đón chúng tôi.",
            ),
            (
                "Polish",
                "Pociąg przyjechał wcześnie rano, gdy na peronie paliły się jeszcze światła.",
            ),
            (
                "Turkish",
                "Tren sabah erkenden geldi, perondaki ışıklar hâlâ yanıyordu. Bizi kimse beklemiyordu.",
            ),
            (
                "Thai",
                "รถไฟมาถึงแต่เช้าตรู่ ขณะที่ไฟบนชานชาลายังเปิดอยู่ ไม่มีใครมารอรับเรา",
            ),
            (
                "capitals",
                "WARNING: DO NOT REMOVE THE BATTERY BEFORE SWITCHING OFF THE MAIN UNIT.",
            ),
            ("emoji", "😀 🎉 👍 🚀 🙏 🔥 😂"),
        ];
        for (name, text) in cases {
            let ratio = f64::from(estimate(text)) / f64::from(exact("gpt-4o", text));
            println!("{name}: {ratio:.3}");
            assert!((0.7..=1.3).contains(&ratio), "{name}: {ratio:.3}");
        }
        assert_eq!(estimate(""), 0);
        assert_eq!(estimate("yes"), 1);
    }

    #[test]
    fn long_texts_are_counted_in_pieces_to_about_the_same() {
        let (_, text) = samples().remove(3);
        let long = text.repeat(100);
        let whole = vocabulary("gpt-4o").encode_ordinary(&long).len();
        let pieces = usize::try_from(exact("gpt-4o", &long)).unwrap();
        assert!(pieces.abs_diff(whole) <= 2 * (long.len() / EXACT_PIECE_BYTES + 1));
        assert!(exact("gpt-4o", &"é".repeat(EXACT_PIECE_BYTES)) > 0);
    }

    #[test]
    fn a_model_has_its_own_vocabulary() {
        let text = "Überraschungen gibt es überall.";
        assert_eq!(
            exact("openai/gpt-4o-mini", text),
            exact("some-local-model", text)
        );
        assert_ne!(exact("gpt-3.5-turbo", text), exact("gpt-4o", text));
    }

    /// What [`ascii_letters`] says, byte by byte.
    fn letters_one_by_one(eight: [u8; 8], after_lower: bool) -> usize {
        let mut after_lower = after_lower;
        let is_part = |byte: &&u8| {
            let goes_on = byte.is_ascii_lowercase() || (byte.is_ascii_uppercase() && !after_lower);
            after_lower = byte.is_ascii_lowercase();
            goes_on
        };
        eight.iter().take_while(is_part).count()
    }

    #[test]
    fn words_end_where_case_rises_in_any_position() {
        for (text, words) in [
            ("getElementById", 4),
            ("abcdefghIjklmnopQ", 3),
            ("HTTPServer", 1),
        ] {
            let mut rest = text.as_bytes();
            let mut count = 0;
            while !rest.is_empty() {
                rest = &rest[word(rest).0..];
                count += 1;
            }
            assert_eq!(count, words, "{text}");
        }
    }

    proptest! {
        #[test]
        fn eight_bytes_at_once_are_as_one_by_one(
            letters in "[a-zA-Z@\\[`{é0]{8}", raw in any::<[u8; 8]>(), after_lower in any::<bool>(),
        ) {
            let letters: [u8; 8] = letters.as_bytes()[..8].try_into().unwrap();
            for eight in [letters, raw] {
                prop_assert_eq!(
                    ascii_letters(u64::from_le_bytes(eight), after_lower),
                    letters_one_by_one(eight, after_lower)
                );
            }
        }

        #[test]
        fn any_text_is_estimated(text in any::<String>()) {
            let estimate = usize::try_from(estimate(&text)).unwrap();
            prop_assert!(estimate <= 2 * text.len());
        }
    }

    /// A measurement, run by hand: `cargo test --release -- --ignored speed_of --nocapture`.
    #[test]
    #[ignore = "measures, and asserts nothing"]
    fn speed_of_estimate_and_exact() {
        for (name, text) in samples() {
            let text = text.repeat(200);
            let ns_per_byte = |started: std::time::Instant| {
                started.elapsed().as_secs_f64() * 1e9 / text.len() as f64
            };
            let started = std::time::Instant::now();
            std::hint::black_box(estimate(&text));
            let estimated = ns_per_byte(started);
            exact("gpt-4o", "warm");
            let started = std::time::Instant::now();
            std::hint::black_box(exact("gpt-4o", &text));
            println!(
                "{name}: estimate {estimated:.2}, exact {:.1} ns/byte",
                ns_per_byte(started)
            );
        }
    }
}
