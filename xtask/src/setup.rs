//! What a machine needs before anything can be built, and how it gets there.
//!
//! Invariants: nothing is installed that is there already; nothing asks a question; what cannot be
//! installed ends in one [`Stop::Setup`] that names every command still to be typed.

use std::env;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::command::{output, program, run};
use crate::stop::Stop;

/// What plugins are built for.
const WASM_TARGET: &str = "wasm32-wasip2";

/// A program that builds ask for, and what brings it.
struct Tool {
    /// Any of these on the path will do.
    programs: &'static [&'static str],
    /// Variable that names another one.
    variable: Option<&'static str>,
    /// Debian's packages.
    apt: &'static [&'static str],
    /// Packages elsewhere: dnf, then brew.
    others: [&'static str; 2],
}

/// zlib-ng, below pingora, is built by cmake and make; several crates have some C.
const TOOLS: [Tool; 3] = [
    Tool {
        programs: &["cc", "gcc", "clang"],
        variable: Some("CC"),
        apt: &["gcc", "libc6-dev"],
        others: ["gcc", "gcc"],
    },
    Tool {
        programs: &["cmake"],
        variable: Some("CMAKE"),
        apt: &["cmake"],
        others: ["cmake"; 2],
    },
    Tool {
        programs: &["make", "gmake", "ninja"],
        variable: None,
        apt: &["make"],
        others: ["make"; 2],
    },
];

/// Sees to it that the workspace can be built.
///
/// # Errors
/// [`Stop::Setup`] with the commands to type, where this may not or cannot install something.
pub(crate) fn ready_to_build() -> Result<(), Stop> {
    let mut left = Vec::new();
    left.extend(tools_missing_after_install());
    left.extend(wasm_target_missing_after_install());
    if left.is_empty() {
        return Ok(());
    }
    Err(Stop::Setup(format!(
        "something is missing; run\n    {}\nand try again",
        left.join("\n    ")
    )))
}

/// The command that is left to the user, if any.
fn tools_missing_after_install() -> Option<String> {
    let missing = missing_tools();
    if missing.is_empty() {
        return None;
    }
    if can_apt_install() {
        let packages: Vec<&str> = missing.iter().flat_map(|tool| tool.apt).copied().collect();
        apt_install(&packages);
    }
    let missing = missing_tools();
    (!missing.is_empty()).then(|| install_command(&missing, |name| on_path(name).is_some()))
}

fn missing_tools() -> Vec<&'static Tool> {
    let named = |variable: Option<&str>| variable.and_then(env::var_os).is_some();
    TOOLS
        .iter()
        .filter(|tool| !named(tool.variable))
        .filter(|tool| !tool.programs.iter().any(|name| on_path(name).is_some()))
        .collect()
}

/// What to type on this system, by the package manager that it has.
fn install_command(missing: &[&Tool], has: impl Fn(&str) -> bool) -> String {
    let packages = |of: fn(&Tool) -> &[&'static str]| -> String {
        missing
            .iter()
            .flat_map(|tool| of(tool))
            .copied()
            .collect::<Vec<_>>()
            .join(" ")
    };
    if has("apt-get") {
        format!(
            "sudo apt-get update && sudo apt-get install --yes {}",
            packages(|tool| tool.apt)
        )
    } else if has("dnf") {
        format!(
            "sudo dnf install --assumeyes {}",
            packages(|tool| &tool.others[..1])
        )
    } else if has("brew") {
        format!("brew install {}", packages(|tool| &tool.others[1..]))
    } else {
        format!(
            "(your package manager) install {}",
            packages(|tool| &tool.others[..1])
        )
    }
}

/// The command that is left to the user, if any.
fn wasm_target_missing_after_install() -> Option<String> {
    if has_wasm_target() {
        return None;
    }
    let add = || {
        let mut command = program("rustup");
        command.args(["target", "add", WASM_TARGET]);
        command
    };
    if on_path("rustup").is_some() && run(&mut add()).is_ok() && has_wasm_target() {
        return None;
    }
    let toolchain = env::var("RUSTUP_TOOLCHAIN").ok();
    Some(match toolchain {
        Some(toolchain) => format!("rustup target add --toolchain {toolchain} {WASM_TARGET}"),
        None => format!("rustup target add {WASM_TARGET}    # rustup: https://rustup.rs"),
    })
}

/// Whether the compiler that cargo will use has the target's standard library.
fn has_wasm_target() -> bool {
    let rustc = env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let mut command = program(rustc);
    command.args(["--print", "target-libdir", "--target", WASM_TARGET]);
    output(&mut command).is_some_and(|folder| has_std(Path::new(folder.trim())))
}

fn has_std(folder: &Path) -> bool {
    let Ok(entries) = folder.read_dir() else {
        return false;
    };
    entries.flatten().any(|entry| {
        let name = entry.file_name();
        name.to_str()
            .is_some_and(|name| name.starts_with("libstd-") && name.ends_with(".rlib"))
    })
}

/// Whether apt can be used without asking anybody.
pub(crate) fn can_apt_install() -> bool {
    on_path("apt-get").is_some()
        && output(program("id").arg("-u")).is_some_and(|id| id.trim() == "0")
}

/// Installs Debian packages; the caller looks whether it helped.
pub(crate) fn apt_install(packages: &[&str]) {
    let install = || run(apt(&["install", "--yes", "--no-install-recommends"]).args(packages));
    // A fresh image has no package lists yet; where there are some, fetching them is time lost.
    if install().is_err() && run(&mut apt(&["update"])).is_ok() {
        _ = install();
    }
}

fn apt(arguments: &[&str]) -> Command {
    let mut command = program("apt-get");
    command
        .args(arguments)
        .env("DEBIAN_FRONTEND", "noninteractive")
        .stdin(Stdio::null());
    command
}

/// Where a shell would find a program.
pub(crate) fn on_path(name: &str) -> Option<PathBuf> {
    find(&env::var_os("PATH")?, name)
}

fn find(path: &OsStr, name: &str) -> Option<PathBuf> {
    let name = format!("{name}{}", env::consts::EXE_SUFFIX);
    env::split_paths(path)
        .map(|folder| folder.join(&name))
        .find(|file| file.is_file())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scratch(name: &str) -> PathBuf {
        let folder = env::temp_dir().join(format!("xtask-{}-{name}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        folder
    }

    #[test]
    fn the_command_left_to_the_user_fits_the_system() {
        let all: Vec<&Tool> = TOOLS.iter().collect();
        let on = |manager: &'static str| install_command(&all, move |name| name == manager);
        assert_eq!(
            on("apt-get"),
            "sudo apt-get update && sudo apt-get install --yes gcc libc6-dev cmake make"
        );
        assert_eq!(on("dnf"), "sudo dnf install --assumeyes gcc cmake make");
        assert_eq!(on("brew"), "brew install gcc cmake make");
        assert!(on("none").ends_with("install gcc cmake make"));
        assert!(!install_command(&all[1..], |name| name == "apt-get").contains("gcc"));
    }

    #[test]
    fn a_program_is_found_in_the_first_folder_that_has_it() {
        let (empty, full) = (scratch("empty"), scratch("full"));
        let file = full.join(format!("tool{}", env::consts::EXE_SUFFIX));
        std::fs::write(&file, "").unwrap();
        let path = env::join_paths([&empty, &full]).unwrap();
        assert_eq!(find(&path, "tool"), Some(file));
        assert_eq!(find(&path, "other"), None);
        assert_eq!(find(empty.as_os_str(), "tool"), None);
        std::fs::remove_dir_all(empty).unwrap();
        std::fs::remove_dir_all(full).unwrap();
    }

    #[test]
    fn a_target_without_its_standard_library_is_missing() {
        let folder = scratch("target");
        assert!(!has_std(&folder.join("none")));
        assert!(!has_std(&folder));
        std::fs::write(folder.join("libstd-0123.rlib"), "").unwrap();
        assert!(has_std(&folder));
        std::fs::remove_dir_all(folder).unwrap();
    }
}
