//! What the tour prints: one aligned block for each step.

use std::io::{self, IsTerminal as _, Write};
use std::time::Duration;

use super::client::Reply;
use super::tour::Step;

/// Columns of a line, wherever a value is wrapped.
const WIDTH: usize = 92;

/// Columns of the names in front of the values.
const NAMES: usize = 14;

/// Characters of an answer that are shown.
const ANSWER: usize = 160;

/// The terminal, or whatever stands for it.
pub(super) struct Report<W> {
    out: W,
    /// Bold titles and coloured marks.
    is_styled: bool,
}

impl Report<io::Stdout> {
    /// Prints to stdout, styled where that is a terminal and `NO_COLOR` is not set.
    pub(super) fn stdout() -> Self {
        let is_styled = io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none();
        Self {
            out: io::stdout(),
            is_styled,
        }
    }
}

impl<W: Write> Report<W> {
    /// Prints lines as they are.
    ///
    /// # Errors
    /// When the terminal is gone.
    pub(super) fn lines(&mut self, text: &str) -> io::Result<()> {
        writeln!(self.out, "{text}")?;
        self.out.flush()
    }

    /// Prints a step that has been taken.
    ///
    /// # Errors
    /// When the terminal is gone.
    pub(super) fn step(&mut self, number: usize, title: &str, step: &Step) -> io::Result<()> {
        self.title(number, title)?;
        for exchange in &step.exchanges {
            writeln!(self.out)?;
            if let Some(heading) = exchange.heading {
                writeln!(self.out, "  {heading}")?;
            }
            self.pair("question", exchange.question)?;
            self.reply(&exchange.reply)?;
        }
        writeln!(self.out)?;
        for (name, value) in &step.facts {
            self.pair(name, value)?;
        }
        for check in &step.checks {
            let mark = match (check.holds, self.is_styled) {
                (true, true) => "\u{1b}[32m✓\u{1b}[0m",
                (true, false) => "✓",
                (false, true) => "\u{1b}[31m✗\u{1b}[0m",
                (false, false) => "✗",
            };
            writeln!(self.out, "  {mark} {}", check.claim)?;
        }
        writeln!(self.out)?;
        self.out.flush()
    }

    /// Prints a step that could not be taken.
    ///
    /// # Errors
    /// When the terminal is gone.
    pub(super) fn failed(
        &mut self,
        number: usize,
        title: &str,
        error: &anyhow::Error,
    ) -> io::Result<()> {
        self.title(number, title)?;
        writeln!(self.out, "\n  ✗ {error:#}\n")?;
        self.out.flush()
    }

    fn title(&mut self, number: usize, title: &str) -> io::Result<()> {
        let (on, off) = if self.is_styled {
            ("\u{1b}[1m", "\u{1b}[0m")
        } else {
            ("", "")
        };
        writeln!(self.out, "{on}{number}. {title}{off}")
    }

    fn reply(&mut self, reply: &Reply) -> io::Result<()> {
        self.pair("answer", &shortened(&reply.text))?;
        self.pair("label", or_dash(reply.label()))?;
        self.pair(
            "backend",
            &format!(
                "{} of pool {}",
                or_dash(reply.backend()),
                or_dash(reply.pool())
            ),
        )?;
        self.pair("cache", or_dash(reply.cache()))?;
        self.pair("tokens saved", &reply.tokens_saved().to_string())?;
        let time = if reply.text_events > 0 {
            format!(
                "first token after {}, all after {}, in {} events",
                shown(reply.first),
                shown(reply.total),
                reply.text_events
            )
        } else {
            shown(reply.total)
        };
        self.pair("time", &time)?;
        let stages: Vec<String> = reply
            .stages()
            .iter()
            .map(|(stage, ms)| format!("{stage} {ms}"))
            .collect();
        self.pair("stages, ms", or_dash(&stages.join(" · ")))
    }

    /// A name and a value, wrapped at white space, all lines of the value in one column.
    fn pair(&mut self, name: &str, value: &str) -> io::Result<()> {
        let mut name = name;
        for line in wrapped(value, WIDTH - NAMES - 2) {
            writeln!(self.out, "  {name:<NAMES$}{line}")?;
            name = "";
        }
        Ok(())
    }
}

fn or_dash(value: &str) -> &str {
    if value.is_empty() { "–" } else { value }
}

/// The text on one line, cut after [`ANSWER`] characters.
fn shortened(text: &str) -> String {
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    let mut out: String = line.chars().take(ANSWER).collect();
    if out.len() < line.len() {
        out.push('…');
    }
    out
}

fn shown(time: Duration) -> String {
    if time < Duration::from_millis(10) {
        format!("{:.1} ms", time.as_secs_f64() * 1000.0)
    } else if time < Duration::from_secs(1) {
        format!("{} ms", time.as_millis())
    } else {
        format!("{:.2} s", time.as_secs_f64())
    }
}

fn wrapped(text: &str, width: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in text.split(' ') {
        let last = lines.len() - 1;
        let line = &mut lines[last];
        if line.is_empty() {
            line.push_str(word);
        } else if line.chars().count() + 1 + word.chars().count() <= width {
            line.push(' ');
            line.push_str(word);
        } else {
            lines.push(word.to_owned());
        }
    }
    lines
}
