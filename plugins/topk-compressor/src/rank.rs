//! Which entries a question is about: BM25 (Robertson and Zaragoza, "The Probabilistic Relevance
//! Framework", 2009) over the entries of one request.

use crate::tokens::{Token, TokenMap, each_token, tokens};

/// How fast a word's repetitions stop to count.
const K1: f32 = 1.2;
/// How much a long entry must say more often what a short one says once.
const B: f32 = 0.6;
/// What a word of an entry's name counts, against 1 for one of its text.
const NAME_WEIGHT: f32 = 2.5;

/// What is asked for: tokens with their weights.
#[derive(Debug, Default, Clone)]
pub(crate) struct Query(TokenMap<f32>);

impl Query {
    /// Adds the words of a text; a word keeps its greatest weight.
    pub(crate) fn add(&mut self, text: &str, weight: f32, stop: &[Token]) {
        for token in tokens(text) {
            if stop.binary_search(&token).is_err() {
                let known = self.0.entry(token).or_default();
                *known = known.max(weight);
            }
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// How often the words of a query stand in one entry.
struct Counted {
    counts: TokenMap<f32>,
    length: f32,
}

/// The score of each entry, given as name and text; 0: it shares no word with the query.
pub(crate) fn scores(query: &Query, entries: &[(&str, &str)]) -> Vec<f32> {
    let counted: Vec<_> = entries
        .iter()
        .map(|(name, text)| count(query, name, text))
        .collect();
    let mut holders: TokenMap<f32> = TokenMap::default();
    for token in counted.iter().flat_map(|entry| entry.counts.keys()) {
        *holders.entry(*token).or_default() += 1.0;
    }
    let all = small(entries.len()).max(1.0);
    let mean = counted.iter().map(|entry| entry.length).sum::<f32>() / all;
    let score = |entry: &Counted| {
        let room = K1 * (1.0 - B + B * entry.length / mean.max(1.0));
        entry
            .counts
            .iter()
            .map(|(token, count)| {
                let holders = holders.get(token).copied().unwrap_or_default();
                let rarity = (1.0 + (all - holders + 0.5) / (holders + 0.5)).ln();
                let weight = query.0.get(token).copied().unwrap_or_default();
                weight * rarity * count * (K1 + 1.0) / (count + room)
            })
            .sum()
    };
    counted.iter().map(score).collect()
}

fn count(query: &Query, name: &str, text: &str) -> Counted {
    let mut counts: TokenMap<f32> = TokenMap::default();
    let mut length = 0.0;
    for (text, weight) in [(name, NAME_WEIGHT), (text, 1.0)] {
        each_token(text, |token| {
            length += 1.0;
            if query.0.contains_key(&token) {
                *counts.entry(token).or_default() += weight;
            }
        });
    }
    Counted { counts, length }
}

/// A count as a number; what lies above 65,535 makes no difference here.
fn small(count: usize) -> f32 {
    f32::from(u16::try_from(count).unwrap_or(u16::MAX))
}
