//! Counts tests from what runners print.
//!
//! Invariants: only the summary lines of nextest and of libtest count; anything else a test prints
//! cannot be mistaken for one unless it begins like one. Colours are looked through.

use std::fmt;
use std::ops::AddAssign;

/// Tests by how they ended.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Tally {
    pub(crate) passed: u64,
    /// Those too that were killed because they hung.
    pub(crate) failed: u64,
    /// Ignored ones, and with nextest those that a filter left out.
    pub(crate) skipped: u64,
}

impl Tally {
    /// What a line of a runner's output says; nothing for any line but a summary.
    pub(crate) fn of_line(line: &str) -> Self {
        let line = without_colours(line);
        // Not trimmed: runners show a failed test's own output, and it may have run a runner,
        // indented.
        if let Some(counts) = line.strip_prefix("test result: ") {
            // `ok. 12 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.01s`
            return Self::of_counts(counts.split(['.', ';']));
        }
        if line.trim_start().starts_with("Summary [")
            && let Some((_, counts)) = line.split_once(" run: ")
        {
            // `Summary [ 0.512s] 6 tests run: 5 passed (1 slow), 1 failed, 2 skipped`
            return Self::of_counts(counts.split(','));
        }
        Self::default()
    }

    fn of_counts<'a>(counts: impl Iterator<Item = &'a str>) -> Self {
        let mut tally = Self::default();
        for count in counts {
            let mut words = count.split_whitespace();
            let number = words.next().and_then(|number| number.parse::<u64>().ok());
            let (Some(number), Some(what)) = (number, words.next()) else {
                continue;
            };
            match what {
                "passed" => tally.passed += number,
                // nextest: `1 timed out`, `1 exec failed`.
                "failed" | "timed" | "exec" => tally.failed += number,
                "skipped" | "ignored" => tally.skipped += number,
                _ => {}
            }
        }
        tally
    }
}

impl AddAssign for Tally {
    fn add_assign(&mut self, other: Self) {
        self.passed += other.passed;
        self.failed += other.failed;
        self.skipped += other.skipped;
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} passed, {} failed", self.passed, self.failed)?;
        if self.skipped > 0 {
            write!(f, ", {} skipped", self.skipped)?;
        }
        Ok(())
    }
}

/// The line without ANSI colour sequences (ECMA-48 `ESC [ … m`).
fn without_colours(line: &str) -> String {
    let mut plain = String::with_capacity(line.len());
    let mut characters = line.chars();
    while let Some(character) = characters.next() {
        if character == '\u{1b}' {
            // Up to the letter that ends the sequence; `[` is its second byte.
            characters.by_ref().find(char::is_ascii_alphabetic);
        } else {
            plain.push(character);
        }
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tally(passed: u64, failed: u64, skipped: u64) -> Tally {
        Tally {
            passed,
            failed,
            skipped,
        }
    }

    #[test]
    fn libtest_summary_is_counted() {
        let line = "test result: FAILED. 12 passed; 3 failed; 1 ignored; 0 measured; \
                    4 filtered out; finished in 0.10s";
        assert_eq!(Tally::of_line(line), tally(12, 3, 1));
    }

    #[test]
    fn nextest_summary_is_counted() {
        let line = "     Summary [   0.512s] 6 tests run: 5 passed (1 slow), 1 failed, 2 skipped";
        assert_eq!(Tally::of_line(line), tally(5, 1, 2));
        let line = "     Summary [   1.002s] 1 test run: 1 passed, 0 skipped";
        assert_eq!(Tally::of_line(line), tally(1, 0, 0));
    }

    #[test]
    fn cancelled_and_hanging_tests_are_failures() {
        let line = "     Summary [ 61.0s] 4/9 tests run: 1 passed, 1 failed, 1 exec failed, \
                    1 timed out, 0 skipped";
        assert_eq!(Tally::of_line(line), tally(1, 3, 0));
    }

    #[test]
    fn colours_are_looked_through() {
        let line = "\u{1b}[32;1m     Summary\u{1b}[0m [   0.1s] \u{1b}[1m2\u{1b}[0m tests run: \
                    \u{1b}[1m2\u{1b}[0m \u{1b}[32;1mpassed\u{1b}[0m, 0 skipped";
        assert_eq!(Tally::of_line(line), tally(2, 0, 0));
    }

    #[test]
    fn other_lines_count_nothing() {
        for line in [
            "",
            "running 3 tests",
            "test a::b ... ok",
            "5 passed; 2 failed",
            "Summary",
        ] {
            assert_eq!(Tally::of_line(line), Tally::default(), "{line}");
        }
    }

    #[test]
    fn sums_are_shown_in_the_form_that_ci_repeats() {
        let mut sum = tally(3, 0, 0);
        sum += tally(4, 1, 0);
        assert_eq!(sum.to_string(), "7 passed, 1 failed");
        sum += tally(0, 0, 2);
        assert_eq!(sum.to_string(), "7 passed, 1 failed, 2 skipped");
    }
}
