//! From sums of evidence to an opinion.

use sluicegate_plugin::{Opinion, Scored};

use crate::config::LabelRule;

/// Runners-up in an opinion.
const MAX_ALTERNATIVES: usize = 8;
/// Reasons in an opinion, and bytes of one.
const MAX_REASONS: usize = 16;
const MAX_REASON_BYTES: usize = 256;
/// Sums nearer than this are equal: the order of the table decides.
const TIE: f32 = 1e-4;
/// Confidence of the fallback: nothing spoke for it.
const FALLBACK_CONFIDENCE: f32 = 0.3;
/// How fast confidence grows with the distance to the runners-up.
const STEEPNESS: f32 = 1.5;

/// What speaks for each label.
#[derive(Debug)]
pub struct Standing {
    labels: Vec<(String, f32)>,
    /// None where nobody reads them.
    reasons: Option<Vec<(f32, String)>>,
}

impl Standing {
    pub(crate) fn new(rules: &[LabelRule], explain: bool) -> Self {
        Self {
            labels: rules.iter().map(|rule| (rule.name.clone(), 0.0)).collect(),
            reasons: explain.then(Vec::new),
        }
    }

    /// Adds evidence to the label at `rule`.
    pub(crate) fn add(&mut self, rule: usize, weight: f32, reason: impl FnOnce() -> String) {
        if let Some((label, sum)) = self.labels.get_mut(rule) {
            *sum += weight;
            if let Some(reasons) = &mut self.reasons {
                reasons.push((
                    weight.abs(),
                    format!("{} {weight:+.2} for `{label}`", reason()),
                ));
            }
        }
    }

    /// The label with the greatest sum that reaches the threshold; of equal ones the first of the
    /// table.
    #[must_use]
    pub fn winner(&self, threshold: f32) -> Option<&str> {
        let mut best: Option<&(String, f32)> = None;
        for label in &self.labels {
            if label.1 >= threshold - TIE && best.is_none_or(|best| label.1 > best.1 + TIE) {
                best = Some(label);
            }
        }
        best.map(|(label, _)| label.as_str())
    }

    /// Each label's sum, in the order of the table.
    #[must_use]
    pub fn sums(&self) -> &[(String, f32)] {
        &self.labels
    }

    pub(crate) fn into_opinion(self, threshold: f32, fallback: Option<&str>) -> Opinion {
        let winner = self.winner(threshold).map(str::to_owned);
        let alternatives = self.alternatives(winner.as_deref());
        let label = match (winner, fallback) {
            (Some(label), _) => Some(Scored {
                confidence: self.confidence(&label),
                label,
            }),
            (None, Some(fallback)) => Some(Scored {
                label: fallback.to_owned(),
                confidence: FALLBACK_CONFIDENCE,
            }),
            (None, None) => None,
        };
        let mut reasons = self.reasons.unwrap_or_default();
        reasons.sort_by(|a, b| b.0.total_cmp(&a.0));
        let reasons = reasons
            .into_iter()
            .take(MAX_REASONS)
            .map(|(_, mut reason)| {
                reason.truncate(reason.floor_char_boundary(MAX_REASON_BYTES));
                reason
            });
        Opinion {
            label,
            alternatives,
            reasons: reasons.collect(),
            ..Opinion::abstain()
        }
    }

    fn alternatives(&self, winner: Option<&str>) -> Vec<Scored> {
        let all = self.all();
        let mut others: Vec<_> = self
            .labels
            .iter()
            .filter(|(label, sum)| *sum > 0.0 && Some(label.as_str()) != winner)
            .map(|(label, sum)| Scored {
                label: label.clone(),
                confidence: self.weigh(*sum) / all,
            })
            .collect();
        others.sort_by(|a, b| b.confidence.total_cmp(&a.confidence));
        others.truncate(MAX_ALTERNATIVES);
        others
    }

    /// The label's share of all labels, each weighed by the exponential of its sum.
    fn confidence(&self, label: &str) -> f32 {
        let own = self.labels.iter().find(|(name, _)| name == label);
        own.map_or(0.0, |(_, sum)| self.weigh(*sum) / self.all())
    }

    /// What all labels weigh: at least 1, since the best one does.
    fn all(&self) -> f32 {
        self.labels
            .iter()
            .map(|(_, sum)| self.weigh(*sum))
            .sum::<f32>()
            .max(1.0)
    }

    /// 1 for the best label, less for the others.
    fn weigh(&self, sum: f32) -> f32 {
        let best = self
            .labels
            .iter()
            .map(|(_, sum)| *sum)
            .fold(f32::MIN, f32::max);
        ((sum - best) * STEEPNESS).exp()
    }
}
