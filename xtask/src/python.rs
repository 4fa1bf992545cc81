//! A Python with the OpenAI SDK, for the end-to-end tests that run it unchanged.
//!
//! Invariants: a person's own choice ([`VARIABLE`]) wins; the environment is made once and made
//! anew only when the SDK's version here changes; nothing here fails a test run, since the tests
//! themselves say what they miss.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::{env, fs};

use crate::command::{program, root, run};
use crate::setup::{apt_install, can_apt_install, on_path};

/// Tells the tests which Python to use.
pub(crate) const VARIABLE: &str = "SLUICEGATE_TEST_PYTHON";

/// What the tests were written against.
const SDK: &str = "openai==3.54.0";

/// The Python to hand to the tests; none when there is none and none could be made.
pub(crate) fn for_tests() -> Option<OsString> {
    if let Some(chosen) = env::var_os(VARIABLE).filter(|value| !value.is_empty()) {
        return Some(chosen);
    }
    let folder = root().join("target").join("python");
    let python = interpreter(&folder);
    if is_current(&folder) {
        return Some(python.into());
    }
    if on_path("python3").is_none() {
        println!("xtask: no python3, so no OpenAI SDK for the end-to-end tests");
        return None;
    }
    if make(&folder) {
        return Some(python.into());
    }
    println!(
        "xtask: could not install the OpenAI SDK for the end-to-end tests; by hand:\n    \
         python3 -m venv target/python && target/python/bin/pip install {SDK}"
    );
    None
}

fn make(folder: &Path) -> bool {
    // Half an environment is worse than none: pip may be missing in it.
    let fresh = || {
        _ = fs::remove_dir_all(folder);
        run(program("python3").args(["-m", "venv"]).arg(folder)).is_ok()
    };
    let made = fresh() || {
        // Debian ships venv without the part that it needs.
        can_apt_install() && {
            apt_install(&["python3-venv"]);
            fresh()
        }
    };
    made && run(program(interpreter(folder)).args([
        "-m",
        "pip",
        "install",
        "--quiet",
        "--disable-pip-version-check",
        "--no-input",
        SDK,
    ]))
    .is_ok()
        && fs::write(stamp(folder), SDK).is_ok()
}

/// Whether an earlier run got to the end with this version of the SDK.
fn is_current(folder: &Path) -> bool {
    interpreter(folder).is_file() && fs::read_to_string(stamp(folder)).is_ok_and(|text| text == SDK)
}

fn interpreter(folder: &Path) -> PathBuf {
    let place = if cfg!(windows) {
        "Scripts/python.exe"
    } else {
        "bin/python"
    };
    folder.join(place)
}

fn stamp(folder: &Path) -> PathBuf {
    folder.join("sluicegate-sdk")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_environment_is_current_only_when_it_was_finished_with_this_version() {
        let folder = env::temp_dir().join(format!("xtask-{}-python", std::process::id()));
        let python = interpreter(&folder);
        fs::create_dir_all(python.parent().unwrap()).unwrap();
        fs::write(&python, "").unwrap();
        assert!(!is_current(&folder), "no stamp: pip did not finish");
        fs::write(stamp(&folder), "openai==0.0.1").unwrap();
        assert!(!is_current(&folder), "another version");
        fs::write(stamp(&folder), SDK).unwrap();
        assert!(is_current(&folder));
        fs::remove_file(&python).unwrap();
        assert!(!is_current(&folder), "the interpreter is gone");
        fs::remove_dir_all(folder).unwrap();
    }
}
