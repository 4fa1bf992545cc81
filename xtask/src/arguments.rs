//! The command line of `cargo xtask`.

use std::ffi::OsString;

use crate::stop::Stop;

/// What `cargo xtask help` prints.
pub(crate) const HELP: &str = "\
usage: cargo xtask COMMAND [ARGUMENTS]

Checks what the machine lacks, installs it where it can, then builds and runs.

commands:
  demo [ARGUMENTS]   start `sluicegate demo` with these arguments; `--once` ends after the tour
  test [ARGUMENTS]   run every test: the workspace, its doc tests and the bundled plugins.
                     With arguments, only the workspace's tests, and the runner gets them:
                     `cargo xtask test -E 'package(sluicegate-tests)'` (nextest), or
                     `cargo xtask test -p sluicegate pipeline`
  soak [ARGUMENTS]   swap plugins and config under load, with streams open all the while, and print
                     what failed, and how files and memory grew; 2,000 swaps take about ten
                     minutes. `--swaps N`, `--streams N`, `--seed N`
  bench [ARGUMENTS]  measure the release build beside nginx, which has to be installed, and print tables
                     in Markdown; about ten minutes. `--quick`, `--rounds N`, `--only TEXT`
  schema             write the config's JSON Schema anew, from the types
  help               print this

environment:
  SLUICEGATE_TEST_PYTHON   Python with the package `openai` for the end-to-end tests;
                           without it `test` makes an environment in target/python
  CARGO, RUSTC             programs to use in place of those on the path

exit codes:
  0  done
  1  something failed
  2  wrong arguments, or something is missing that you have to install: the message says how";

/// One thing to do.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Task {
    Help,
    Demo(Vec<OsString>),
    Test(Vec<OsString>),
    Soak(Vec<OsString>),
    Bench(Vec<OsString>),
    Schema,
}

impl Task {
    /// Reads the arguments behind the program's name.
    ///
    /// # Errors
    /// [`Stop::Usage`] for an unknown command, or for arguments of one that takes none.
    pub(crate) fn parse(arguments: impl IntoIterator<Item = OsString>) -> Result<Self, Stop> {
        let mut arguments = arguments.into_iter();
        let Some(command) = arguments.next() else {
            return Ok(Self::Help);
        };
        let rest: Vec<OsString> = arguments.collect();
        match command.to_str() {
            Some("demo") => Ok(Self::Demo(rest)),
            Some("test") => Ok(Self::Test(rest)),
            Some("soak") => Ok(Self::Soak(rest)),
            Some("bench") => Ok(Self::Bench(rest)),
            Some("schema") if rest.is_empty() => Ok(Self::Schema),
            Some("schema") => Err(Stop::Usage("`schema` takes no arguments".to_owned())),
            Some("help" | "-h" | "--help") => Ok(Self::Help),
            _ => Err(Stop::Usage(format!(
                "no command `{}`; `cargo xtask help` lists them",
                command.display()
            ))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(words: &[&str]) -> Result<Task, Stop> {
        Task::parse(words.iter().map(OsString::from))
    }

    #[test]
    fn arguments_behind_the_command_are_handed_on_untouched() {
        let task = parse(&["test", "-p", "sluicegate", "--", "--nocapture"]).unwrap();
        let expected = ["-p", "sluicegate", "--", "--nocapture"].map(OsString::from);
        assert_eq!(task, Task::Test(expected.to_vec()));
        assert_eq!(
            parse(&["demo", "--once"]).unwrap(),
            Task::Demo(vec!["--once".into()])
        );
        assert_eq!(
            parse(&["soak", "--swaps", "100"]).unwrap(),
            Task::Soak(vec!["--swaps".into(), "100".into()])
        );
    }

    #[test]
    fn help_of_a_command_goes_to_the_command() {
        assert_eq!(
            parse(&["demo", "--help"]).unwrap(),
            Task::Demo(vec!["--help".into()])
        );
        assert_eq!(parse(&["--help"]).unwrap(), Task::Help);
        assert_eq!(parse(&[]).unwrap(), Task::Help);
    }

    #[test]
    fn an_unknown_command_is_named_and_has_exit_code_2() {
        let stop = parse(&["tset"]).unwrap_err();
        assert_eq!(stop.exit_code(), 2);
        assert!(stop.to_string().contains("`tset`"), "{stop}");
        assert_eq!(parse(&["schema", "--check"]).unwrap_err().exit_code(), 2);
    }

    #[test]
    fn help_lists_every_command() {
        for command in ["demo", "test", "soak", "bench", "schema", "help"] {
            assert!(HELP.contains(&format!("\n  {command} ")), "{command}");
        }
    }
}
