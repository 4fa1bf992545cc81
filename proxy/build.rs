//! Builds the bundled plugins from source and hands them to the crate as `builtin:NAME`.
//!
//! A nested cargo builds them for wasm32-wasip2, in a target folder of its own beside the profiles of
//! the outer one: in the same folder it would wait for the lock that its own parent holds. What the
//! outer build says in the environment (flags, wrappers of clippy and rust-analyzer, profiles) is
//! not meant for guests and is cleared, so that every outer build gets the same components. The
//! result is `$OUT_DIR/builtin.rs` with a table of names and bytes.

use std::error::Error;
use std::ffi::OsStr;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::{env, fs};

const TARGET: &str = "wasm32-wasip2";

/// Each is a member of the workspace in `plugins/`, and a file of that name with `-` as `_`.
const PLUGINS: [&str; 3] = [
    "default-cache-policy",
    "keyword-classifier",
    "topk-compressor",
];

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            println!("cargo::error={error}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<(), Box<dyn Error>> {
    let root = path("CARGO_MANIFEST_DIR")?.join("..").canonicalize()?;
    let out = path("OUT_DIR")?;
    watch(&root);
    require_target()?;
    let target_dir = target_dir(&out);
    build(&root.join("plugins"), &target_dir)?;
    embed(&target_dir.join(TARGET).join("release"), &out)
}

fn path(variable: &str) -> Result<PathBuf, String> {
    env::var_os(variable)
        .map(PathBuf::from)
        .ok_or_else(|| format!("cargo did not set {variable}"))
}

/// Names what the components are made of, and nothing more: a folder is watched with all that is in
/// it, so `plugins/` as a whole would take its own target folder in.
fn watch(root: &Path) {
    let mut inputs: Vec<_> = [
        "plugins/.cargo/config.toml",
        "plugins/Cargo.toml",
        "plugins/Cargo.lock",
        "plugin-sdk/Cargo.toml",
        "plugin-sdk/src",
        "plugin-sdk/edits/Cargo.toml",
        "plugin-sdk/edits/src",
        "wit",
    ]
    .map(|input| root.join(input))
    .into();
    for plugin in PLUGINS {
        let plugin = root.join("plugins").join(plugin);
        inputs.extend([plugin.join("Cargo.toml"), plugin.join("src")]);
    }
    for input in inputs {
        println!("cargo::rerun-if-changed={}", input.display());
    }
}

/// Fails where the compiler has no standard library for guests, before a page of compiler errors
/// says so.
fn require_target() -> Result<(), Box<dyn Error>> {
    let rustc = env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let output = Command::new(rustc)
        .args(["--print", "target-libdir", "--target", TARGET])
        .output()?;
    let libdir = String::from_utf8(output.stdout)?;
    let found = output.status.success() && Path::new(libdir.trim()).is_dir();
    found.then_some(()).ok_or_else(|| {
        format!("the bundled plugins need the target {TARGET}: rustup target add {TARGET}").into()
    })
}

/// One folder for all profiles of the outer build: `target/bundled-plugins`. Where the outer folder
/// is laid out in a way that this does not know, the build's own output folder serves.
fn target_dir(out: &Path) -> PathBuf {
    let profile = out
        .ancestors()
        .find(|path| path.ends_with("build"))
        .and_then(Path::parent);
    profile
        .and_then(Path::parent)
        .unwrap_or(out)
        .join("bundled-plugins")
}

fn build(plugins: &Path, target_dir: &Path) -> Result<(), Box<dyn Error>> {
    let cargo = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    // Cargo finds the guests' flags in `.cargo/config.toml` of the folder in which it runs.
    command
        .current_dir(plugins)
        .args([
            "build",
            "--release",
            "--locked",
            "--quiet",
            "--target",
            TARGET,
            "--target-dir",
        ])
        .arg(target_dir);
    for plugin in PLUGINS {
        command.args(["--package", plugin]);
    }
    for (name, _) in env::vars_os() {
        if is_about_the_outer_build(&name) {
            command.env_remove(name);
        }
    }
    if !command.status()?.success() {
        return Err("the bundled plugins did not build; the compiler's words are above".into());
    }
    Ok(())
}

/// True for the settings of this build; false for where crates come from and what runs cargo.
fn is_about_the_outer_build(variable: &OsStr) -> bool {
    let Some(name) = variable.to_str() else {
        return false;
    };
    let exact = [
        "CARGO_ENCODED_RUSTFLAGS",
        "CARGO_ENCODED_RUSTDOCFLAGS",
        "CLIPPY_ARGS",
        "CLIPPY_CONF_DIR",
        "RUSTC_WORKSPACE_WRAPPER",
        "RUSTC_WRAPPER",
        "RUSTFLAGS",
        "RUSTDOCFLAGS",
    ];
    let prefixes = [
        "CARGO_BUILD_",
        "CARGO_PROFILE_",
        "CARGO_TARGET_",
        "CARGO_UNSTABLE_",
    ];
    exact.contains(&name) || prefixes.iter().any(|prefix| name.starts_with(prefix))
}

/// Copies the components out of the shared folder and writes the table.
fn embed(from: &Path, out: &Path) -> Result<(), Box<dyn Error>> {
    let mut table = String::from(
        "/// The bundled plugins by name, in order of names.\n\
         pub(crate) static BUILTIN: &[(&str, &[u8])] = &[\n",
    );
    for plugin in PLUGINS {
        let file = format!("{}.wasm", plugin.replace('-', "_"));
        let copy = out.join(&file);
        write_changed(&copy, &fs::read(from.join(&file))?)?;
        writeln!(table, "    ({plugin:?}, include_bytes!({copy:?})),")?;
    }
    table.push_str("];\n");
    write_changed(&out.join("builtin.rs"), table.as_bytes())
}

/// An unchanged file keeps its time, so that nothing is compiled again for it.
fn write_changed(path: &Path, bytes: &[u8]) -> Result<(), Box<dyn Error>> {
    if fs::read(path).is_ok_and(|old| old == bytes) {
        return Ok(());
    }
    Ok(fs::write(path, bytes)?)
}
