//! Words of any script, as numbers that can be compared.
//!
//! A word becomes lower case, loses the accents of Latin letters and all behind its sixth letter: a
//! stem that is good enough for inflected languages and needs no dictionary. Chinese, Japanese and
//! Thai have no spaces between words: there, each pair of neighbouring characters is a token.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

/// Letters of a stem.
const STEM_CHARS: usize = 6;

/// A token: the hash of its stem.
pub(crate) type Token = u64;

/// A map by tokens, which are hashes already.
pub(crate) type TokenMap<V> = HashMap<Token, V, BuildHasherDefault<Identity>>;

/// Hands a token on as its own hash. The request's author can make tokens collide; the maps hold
/// the words of one question or the names of one request, so that it only slows his own call.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct Identity(u64);

impl Hasher for Identity {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = self.0.rotate_left(8) ^ u64::from(*byte);
        }
    }

    fn write_u64(&mut self, token: u64) {
        // The upper bits of FNV-1a are the better ones, and a map looks at the lower ones, too.
        self.0 = token ^ (token >> 32);
    }
}

/// Words that say nothing about what a question is about.
const STOP_WORDS: &str = "a an and are as at be been but by can could did do does for from had has \
    have he her his how i if in into is it its me more most my no not of on one or our she so some \
    such than that the their them then there these they this those to was we were what when where \
    which who whom whose why will with would you your \
    au aux avec ce ces cet cette comme comment dans de des du elle en est et etait etre il ils je la \
    le les leur leurs lui mais ne nous on ou par pas plus pour pourquoi qu quand que quel quelle \
    quelles quels qui quoi sa se ses son sont sur un une vous y \
    als am auf aus bei das dass dem den der des die ein eine einem einen einer es fur hat ist mit \
    nach nicht oder sich sie sind uber und vom von war warum was welche welcher wer wie wird wo zu \
    zum zur \
    al como con cual cuando del donde el ella en era es esta este fue ha hay las lo los no para pero \
    por que quien se sin sobre su sus un una y \
    che chi con cosa da dei del della di dove e gli i il in la le nel per quale quando sono un una \
    ao com como da das do dos e em foi mais na no nos o os ou para por quem se um uma";

/// Calls `each` with every token of a text, in order.
pub(crate) fn each_token(text: &str, mut each: impl FnMut(Token)) {
    let mut word = Word::default();
    let mut before: Option<char> = None;
    for c in text.chars() {
        if c.is_ascii() {
            before = None;
            if c.is_ascii_alphanumeric() {
                word.push(c.to_ascii_lowercase());
            } else {
                word.finish(&mut each);
            }
        } else if is_unspaced(c) {
            word.finish(&mut each);
            if let Some(before) = before {
                each(mixed(mixed(SEED, before), c));
            }
            before = Some(c);
        } else {
            before = None;
            if c.is_alphanumeric() {
                fold(c).for_each(|c| word.push(c));
            } else {
                word.finish(&mut each);
            }
        }
    }
    word.finish(&mut each);
}

/// Where a hash begins.
const SEED: u64 = 0xcbf2_9ce4_8422_2325;

/// One step of the hash FNV-1a, over a whole character.
fn mixed(hash: u64, c: char) -> u64 {
    (hash ^ u64::from(c)).wrapping_mul(0x0000_0100_0000_01b3)
}

/// The word that is being read.
struct Word {
    hash: u64,
    letters: usize,
}

impl Default for Word {
    fn default() -> Self {
        Self {
            hash: SEED,
            letters: 0,
        }
    }
}

impl Word {
    /// Numbers stay whole, for 2001 is not 2002; words are cut to their stem.
    fn push(&mut self, c: char) {
        if self.letters < STEM_CHARS || c.is_ascii_digit() || !c.is_ascii() && c.is_numeric() {
            self.hash = mixed(self.hash, c);
        }
        self.letters += 1;
    }

    fn finish(&mut self, each: &mut impl FnMut(Token)) {
        if self.letters > 0 {
            each(std::mem::take(self).hash);
        }
    }
}

/// All tokens of a text.
pub(crate) fn tokens(text: &str) -> Vec<Token> {
    let mut found = Vec::new();
    each_token(text, |token| found.push(token));
    found
}

/// The tokens that no question is about, sorted.
pub(crate) fn stop_tokens() -> Vec<Token> {
    let mut stop = tokens(STOP_WORDS);
    stop.sort_unstable();
    stop.dedup();
    stop
}

/// Lower case, without accents of Latin letters, white space as single spaces: the form in which
/// headings, names and sentences are compared.
pub(crate) fn folded(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for word in text.split_whitespace() {
        if !out.is_empty() {
            out.push(' ');
        }
        for c in word.chars() {
            match c.is_ascii() {
                true => out.push(c.to_ascii_lowercase()),
                false => out.extend(fold(c)),
            }
        }
    }
    out
}

fn fold(c: char) -> impl Iterator<Item = char> {
    c.to_lowercase().map(|c| match c {
        'à' | 'á' | 'â' | 'ã' | 'ä' | 'å' | 'ā' | 'ă' | 'ą' => 'a',
        'ç' | 'ć' | 'č' => 'c',
        'ď' | 'đ' => 'd',
        'è' | 'é' | 'ê' | 'ë' | 'ē' | 'ė' | 'ę' | 'ě' => 'e',
        'ğ' => 'g',
        'ì' | 'í' | 'î' | 'ï' | 'ī' | 'ı' => 'i',
        'ł' | 'ľ' => 'l',
        'ñ' | 'ń' | 'ň' => 'n',
        'ò' | 'ó' | 'ô' | 'õ' | 'ö' | 'ø' | 'ō' | 'ő' => 'o',
        'ř' => 'r',
        'ś' | 'š' | 'ş' | 'ș' => 's',
        'ť' | 'ț' | 'ţ' => 't',
        'ù' | 'ú' | 'û' | 'ü' | 'ū' | 'ů' | 'ű' => 'u',
        'ý' | 'ÿ' => 'y',
        'ź' | 'ż' | 'ž' => 'z',
        '\u{2019}' => '\'',
        other => other,
    })
}

/// Scripts that are written without spaces between words.
fn is_unspaced(c: char) -> bool {
    matches!(
        u32::from(c),
        0x0e00..=0x0eff      // Thai, Lao
        | 0x1000..=0x109f    // Myanmar
        | 0x1780..=0x17ff    // Khmer
        | 0x3040..=0x30ff    // Hiragana, Katakana
        | 0x3400..=0x4dbf    // CJK extension A
        | 0x4e00..=0x9fff    // CJK
        | 0xf900..=0xfaff    // CJK compatibility
        | 0x20000..=0x3ffff  // CJK extensions B and later
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_meet_over_case_accents_and_endings() {
        assert_eq!(tokens("Élections"), tokens("election"));
        assert_eq!(
            tokens("ambassadeurs, permanents"),
            tokens("Ambassadeur permanente")
        );
        assert_ne!(tokens("2001"), tokens("2002"));
        assert_ne!(tokens("12345678"), tokens("12345679"));
    }

    #[test]
    fn scripts_without_spaces_become_pairs() {
        assert_eq!(tokens("森林砍伐率").len(), 4);
        assert!(tokens("热带森林砍伐").contains(&tokens("森林")[0]));
        assert_eq!(tokens("GDP增长").len(), 2);
    }
}
