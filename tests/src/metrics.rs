//! Prometheus' text format, as far as tests read it.

use std::collections::BTreeMap;

/// One reading of all metrics.
#[derive(Debug, Clone)]
pub struct Metrics {
    samples: Vec<Sample>,
}

#[derive(Debug, Clone)]
struct Sample {
    name: String,
    labels: BTreeMap<String, String>,
    value: f64,
}

impl Metrics {
    /// Reads the text form.
    ///
    /// # Panics
    /// When a line is malformed.
    #[must_use]
    pub fn parse(text: &str) -> Self {
        let lines = text
            .lines()
            .filter(|line| !line.is_empty() && !line.starts_with('#'));
        Self {
            samples: lines.map(sample).collect(),
        }
    }

    /// The sum of all samples of a family that have these labels; 0 when there are none.
    #[must_use]
    pub fn sum(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        self.matching(name, labels).map(|sample| sample.value).sum()
    }

    /// Whether the family has a sample with these labels.
    #[must_use]
    pub fn has(&self, name: &str, labels: &[(&str, &str)]) -> bool {
        self.matching(name, labels).next().is_some()
    }

    /// All samples whose name begins like this, as lines: for messages.
    #[must_use]
    pub fn lines(&self, prefix: &str) -> Vec<String> {
        let samples = self
            .samples
            .iter()
            .filter(|sample| sample.name.starts_with(prefix));
        samples
            .map(|s| format!("{}{:?} {}", s.name, s.labels, s.value))
            .collect()
    }

    fn matching(&self, name: &str, labels: &[(&str, &str)]) -> impl Iterator<Item = &Sample> {
        self.samples.iter().filter(move |sample| {
            sample.name == name
                && labels
                    .iter()
                    .all(|(key, value)| sample.labels.get(*key).is_some_and(|found| found == value))
        })
    }
}

fn sample(line: &str) -> Sample {
    let (series, value) = line.rsplit_once(' ').expect("a series and a value");
    let (name, labels) = match series.split_once('{') {
        None => (series, ""),
        Some((name, labels)) => (name, labels.strip_suffix('}').expect("closed labels")),
    };
    let labels = labels
        .split("\",")
        .filter(|pair| !pair.is_empty())
        .map(|pair| {
            let (key, value) = pair.split_once("=\"").expect("label=\"value\"");
            (key.to_owned(), value.trim_end_matches('"').to_owned())
        });
    Sample {
        name: name.to_owned(),
        labels: labels.collect(),
        value: value.parse().expect("a number"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_are_summed_by_their_labels() {
        let metrics =
            Metrics::parse("# HELP a b\na{x=\"1\",y=\"p, q\"} 2\na{x=\"2\",y=\"r\"} 3.5\nb 1\n");
        assert!((metrics.sum("a", &[]) - 5.5).abs() < f64::EPSILON);
        assert!((metrics.sum("a", &[("y", "p, q")]) - 2.0).abs() < f64::EPSILON);
        assert!(metrics.has("b", &[]) && !metrics.has("a", &[("x", "3")]));
    }
}
