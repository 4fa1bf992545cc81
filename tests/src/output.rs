//! What a program prints that must succeed.

use std::process::Command;

/// Runs a command and gives its standard output.
///
/// # Panics
/// When it cannot be run or fails: with `hint`, and with all that it printed.
pub(crate) fn output_of(command: &mut Command, hint: &str) -> String {
    let output = match command.output() {
        Ok(output) => output,
        Err(error) => panic!("{command:?}: {error}\n{hint}"),
    };
    assert!(
        output.status.success(),
        "{hint}\n{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout).expect("UTF-8")
}
