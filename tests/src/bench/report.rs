//! Medians, spreads and ratios, as Markdown.

use std::fmt::Write as _;

use super::Figures;

/// What one subject gave, a value for each round.
#[derive(Debug)]
pub(super) struct Line {
    pub(super) subject: &'static str,
    pub(super) rounds: Vec<Figures>,
}

/// One scenario's lines.
#[derive(Debug)]
pub(super) struct Table {
    pub(super) name: String,
    pub(super) lines: Vec<Line>,
}

/// The middle value; of an even number the lower one.
fn median(mut values: Vec<f64>) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    values.get(values.len().checked_sub(1)? / 2).copied()
}

/// A figure of a scenario: its column, and where it stands.
struct Column {
    title: &'static str,
    of: fn(&Figures) -> Option<f64>,
    /// Also as a ratio to nginx.
    compared: bool,
}

const COLUMNS: [Column; 9] = [
    Column::compared("requests/s", |f| f.rate),
    Column::compared("CPU µs a request", |f| f.cpu_per_request),
    Column::alone("p50 ms", |f| f.p50),
    Column::alone("p99 ms", |f| f.p99),
    Column::compared("CPU s per 1,000 tokens", |f| f.cpu_per_1000_tokens),
    Column::alone("TTFT p50 ms", |f| f.ttft_p50),
    Column::alone("TTFT p99 ms", |f| f.ttft_p99),
    Column::alone("gap p99 ms", |f| f.gap_p99),
    Column::alone("resident MB", |f| f.resident_mb),
];

impl Column {
    const fn alone(title: &'static str, of: fn(&Figures) -> Option<f64>) -> Self {
        Self {
            title,
            of,
            compared: false,
        }
    }

    const fn compared(title: &'static str, of: fn(&Figures) -> Option<f64>) -> Self {
        Self {
            compared: true,
            ..Self::alone(title, of)
        }
    }
}

impl Line {
    fn values(&self, column: &Column) -> Vec<f64> {
        self.rounds.iter().filter_map(column.of).collect()
    }

    /// Median, and least to most where rounds differ.
    fn cell(&self, column: &Column) -> String {
        let values = self.values(column);
        let least = values.iter().copied().min_by(f64::total_cmp);
        let most = values.iter().copied().max_by(f64::total_cmp);
        match (median(values), least, most) {
            (Some(median), Some(least), Some(most)) if least < most => {
                format!("{} ({} to {})", number(median), number(least), number(most))
            }
            (Some(median), ..) => number(median),
            _ => String::new(),
        }
    }
}

/// Three digits that matter.
fn number(value: f64) -> String {
    let digits = match value.abs() {
        x if x >= 100.0 => 0,
        x if x >= 10.0 => 1,
        x if x >= 1.0 => 2,
        _ => 3,
    };
    format!("{value:.digits$}")
}

impl Table {
    /// As Markdown, with a heading. Ratios are those of the medians, to nginx where it took part, else
    /// to the first line.
    pub(super) fn markdown(&self) -> String {
        let columns: Vec<&Column> = COLUMNS
            .iter()
            .filter(|column| {
                self.lines
                    .iter()
                    .any(|line| !line.values(column).is_empty())
            })
            .collect();
        let base = self.lines.iter().find(|line| line.subject == "nginx");
        let base = base.or(self.lines.first());
        let mut out = format!("### {}\n\n| |", self.name);
        let mut rule = "| --- |".to_owned();
        for column in &columns {
            let ratio = if column.compared { " | ratio" } else { "" };
            // Writing to a string cannot fail, here and below.
            let _ = write!(out, " {}{ratio} |", column.title);
            rule.push_str(if column.compared {
                " --: | --: |"
            } else {
                " --: |"
            });
        }
        let _ = writeln!(out, " failed |\n{rule} --: |");
        for line in &self.lines {
            let _ = write!(out, "| {} |", line.subject);
            for column in &columns {
                let _ = write!(out, " {} |", line.cell(column));
                if column.compared {
                    let own = median(line.values(column));
                    let base = base.and_then(|base| median(base.values(column)));
                    let ratio = own.zip(base).filter(|(_, base)| *base > 0.0);
                    let ratio =
                        ratio.map_or(String::new(), |(own, base)| format!("{:.2}", own / base));
                    let _ = write!(out, " {ratio} |");
                }
            }
            let failed: u64 = line.rounds.iter().map(|figures| figures.failed).sum();
            let _ = writeln!(out, " {failed} |");
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(subject: &'static str, rates: &[f64]) -> Line {
        let rounds = rates.iter().map(|rate| Figures {
            rate: Some(*rate),
            ..Figures::default()
        });
        Line {
            subject,
            rounds: rounds.collect(),
        }
    }

    #[test]
    fn ratios_are_of_medians_to_nginx() {
        let table = Table {
            name: "chat".to_owned(),
            lines: vec![
                line("direct", &[900.0]),
                line("nginx", &[400.0, 100.0, 200.0]),
                line("sluicegate", &[150.0, 50.0, 100.0]),
            ],
        };
        let text = table.markdown();
        assert!(
            text.contains("| nginx | 200 (100 to 400) | 1.00 | 0 |"),
            "{text}"
        );
        assert!(
            text.contains("| sluicegate | 100 (50.0 to 150) | 0.50 | 0 |"),
            "{text}"
        );
        assert!(!text.contains("TTFT"), "{text}");
    }
}
