//! Components for tests: code blocks of the documentation, built as an author would build them, and
//! one guest whose label can be changed in its bytes.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;

use sha2::{Digest, Sha256};

use crate::proxy::target_dir;

/// Held while a component is built: builds share a target folder.
static BUILDING: Mutex<()> = Mutex::new(());

/// The label that is written into the guest, to be replaced in its bytes. Read at run time through
/// `black_box`, so that the compiler keeps it in one piece.
const MARK: &str = "marked-000";

/// Sections of a component, by their ids in the binary format.
const CUSTOM: u8 = 0;
const CORE_MODULE: u8 = 1;

/// Rounds of the function that is slow to compile.
const SLOW_STEPS: usize = 15_000;

/// A code block of a Markdown file that says which file it is.
#[derive(Debug, Clone)]
pub struct Snippet {
    /// The path after `file=` in the block's first line.
    pub file: String,
    /// The block's text.
    pub text: String,
}

/// The code blocks of a file of the repository whose first line says `file=…`, in order.
///
/// # Panics
/// When the file does not exist or has none.
#[must_use]
pub fn snippets(path: &str) -> Vec<Snippet> {
    let path = repository().join(path);
    let text = fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    let found = parse_snippets(&text);
    assert!(
        !found.is_empty(),
        "no block with file=… in {}",
        path.display()
    );
    found
}

fn parse_snippets(text: &str) -> Vec<Snippet> {
    let mut found: Vec<Snippet> = Vec::new();
    let mut open = false;
    for line in text.lines() {
        match line.strip_prefix("```") {
            Some(_) if open => open = false,
            Some(info) => {
                let file = info
                    .split_whitespace()
                    .find_map(|word| word.strip_prefix("file="));
                if let Some(file) = file {
                    found.push(Snippet {
                        file: file.into(),
                        text: String::new(),
                    });
                    open = true;
                }
            }
            None if open => {
                let block = &mut found.last_mut().expect("an open block").text;
                block.push_str(line);
                block.push('\n');
            }
            None => {}
        }
    }
    found
}

/// Builds a plugin project from its files and gives the component's bytes.
///
/// The dependency on the SDK is pointed to this repository; nothing else of the files is changed.
///
/// # Panics
/// When it does not build: with the compiler's output.
#[must_use]
pub fn build_component(name: &str, files: &[Snippet]) -> Vec<u8> {
    let _building = BUILDING.lock().unwrap();
    let project = target_dir().join("test-plugins").join(name);
    for file in files {
        let path = project.join(&file.file);
        fs::create_dir_all(path.parent().expect("inside of the project")).unwrap();
        let text = match file.file.as_str() {
            "Cargo.toml" => manifest(&file.text),
            _ => file.text.clone(),
        };
        write_if_changed(&path, &text);
    }
    let lock = repository().join("plugins/Cargo.lock");
    if !project.join("Cargo.lock").is_file() && lock.is_file() {
        fs::copy(&lock, project.join("Cargo.lock")).unwrap();
    }
    let target = target_dir().join("test-plugins").join("target");
    let output = Command::new(env!("CARGO"))
        .args([
            "build",
            "--release",
            "--target",
            "wasm32-wasip2",
            "--target-dir",
        ])
        .arg(&target)
        .current_dir(&project)
        // What the outer cargo set for the harness is not for this build.
        .env_remove("RUSTFLAGS")
        .env_remove("CARGO_ENCODED_RUSTFLAGS")
        .env_remove("CARGO_TARGET_DIR")
        .output()
        .expect("cargo runs");
    assert!(
        output.status.success(),
        "{name} does not build; is the target there? `rustup target add wasm32-wasip2`\n{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let package = package_name(&project.join("Cargo.toml"));
    let file = format!("{}.wasm", package.replace('-', "_"));
    fs::read(target.join("wasm32-wasip2/release").join(file)).expect("a cdylib of that name")
}

/// The author's manifest, with the SDK taken from this repository and out of any workspace.
fn manifest(text: &str) -> String {
    let mut table: toml::Table = text.parse().expect("the manifest is TOML");
    let dependencies = table["dependencies"].as_table_mut().expect("dependencies");
    let sdk = dependencies
        .get_mut("sluicegate-plugin")
        .expect("the manifest names the SDK");
    let mut source = toml::Table::new();
    let path = repository().join("plugin-sdk");
    source.insert("path".into(), path.display().to_string().into());
    *sdk = source.into();
    table
        .entry("workspace")
        .or_insert_with(|| toml::Table::new().into());
    toml::to_string(&table).expect("tables can be written")
}

fn package_name(manifest: &Path) -> String {
    let table: toml::Table = fs::read_to_string(manifest).unwrap().parse().unwrap();
    table["package"]["name"]
        .as_str()
        .expect("a package name")
        .to_owned()
}

/// Leaves an equal file alone, so that cargo does not build again.
fn write_if_changed(path: &Path, text: &str) {
    if fs::read_to_string(path).is_ok_and(|old| old == text) {
        return;
    }
    fs::write(path, text).unwrap();
}

/// The root of the repository.
///
/// # Panics
/// Never: this crate lies in it.
#[must_use]
pub fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("tests/ is in the repository")
        .to_owned()
}

/// The bytes of a component.
#[derive(Clone)]
pub struct Guest(pub Vec<u8>);

impl Guest {
    /// A classifier that gives every request the label of its `label` setting, else the one that is
    /// written into it; see `guests/marked.rs` for what else it can be told to do.
    #[must_use]
    pub fn marked() -> Self {
        let files = [
            Snippet {
                file: "Cargo.toml".into(),
                text: include_str!("../guests/marked.toml").into(),
            },
            Snippet {
                file: "src/lib.rs".into(),
                text: include_str!("../guests/marked.rs").into(),
            },
        ];
        Self(build_component("marked", &files))
    }

    /// The same component with another label written into it: another SHA-256, the same code.
    ///
    /// # Panics
    /// When the label is not there exactly once.
    #[must_use]
    pub fn with_label(&self, number: usize) -> (Self, String) {
        let label = format!("marked-{number:03}");
        assert_eq!(label.len(), MARK.len(), "three digits");
        let mut bytes = self.0.clone();
        let places: Vec<usize> = bytes
            .windows(MARK.len())
            .enumerate()
            .filter(|(_, window)| *window == MARK.as_bytes())
            .map(|(place, _)| place)
            .collect();
        assert_eq!(places.len(), 1, "the label's places in the component");
        bytes[places[0]..places[0] + MARK.len()].copy_from_slice(label.as_bytes());
        (Self(bytes), label)
    }

    /// The same component with a label that breaks the contract, as the smoke call shows.
    ///
    /// # Panics
    /// When there is no label in it.
    #[must_use]
    pub fn with_wrong_label(&self) -> Self {
        let mark = &MARK.as_bytes()[..MARK.len() - 3];
        let mut bytes = self.0.clone();
        let place = bytes
            .windows(mark.len())
            .position(|window| window == mark)
            .expect("the label is there");
        bytes[place..place + mark.len()].copy_from_slice(b"MARKED!");
        Self(bytes)
    }

    /// The same component, made as large as this by a section that nobody reads.
    #[must_use]
    pub fn padded(mut self, bytes: usize) -> Self {
        let mut section = vec![3];
        section.extend_from_slice(b"pad");
        section.resize(bytes.saturating_sub(self.0.len()), 0);
        self.add_section(CUSTOM, &section);
        self
    }

    /// The same component with a core module that nobody instantiates, but that takes a compiler a
    /// second or more.
    #[must_use]
    pub fn slow_to_compile(mut self) -> Self {
        // One function, so that more cores do not make it faster: i32 -> i32, which goes on adding
        // and shifting its argument.
        let mut body = vec![0]; // locals
        body.extend_from_slice(&[0x20, 0]); // local.get 0
        for _ in 0..SLOW_STEPS {
            // local.get 0, i32.add, local.tee 0, i32.const 7, i32.rotl
            body.extend_from_slice(&[0x20, 0, 0x6a, 0x22, 0, 0x41, 7, 0x77]);
        }
        body.push(0x0b); // end
        let mut code = vec![1];
        code.extend_from_slice(&leb128(body.len()));
        code.extend_from_slice(&body);
        let mut module = Self(b"\0asm\x01\0\0\0".to_vec());
        module.add_section(1, &[1, 0x60, 1, 0x7f, 1, 0x7f]); // types
        module.add_section(3, &[1, 0]); // functions
        module.add_section(10, &code);
        self.add_section(CORE_MODULE, &module.0);
        self
    }

    fn add_section(&mut self, id: u8, content: &[u8]) {
        self.0.push(id);
        self.0.extend_from_slice(&leb128(content.len()));
        self.0.extend_from_slice(content);
    }

    /// SHA-256 in hex, as the admin API shows it.
    #[must_use]
    pub fn sha256(&self) -> String {
        Sha256::digest(&self.0)
            .iter()
            .fold(String::new(), |mut hex, byte| {
                let _ = write!(hex, "{byte:02x}");
                hex
            })
    }
}

/// A length as WebAssembly writes it: seven bits a byte, the low ones first.
fn leb128(mut number: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    loop {
        let low = u8::try_from(number & 0x7f).expect("seven bits");
        number >>= 7;
        if number == 0 {
            bytes.push(low);
            return bytes;
        }
        bytes.push(low | 0x80);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_are_found_by_their_file() {
        let text = "# A\n```toml file=Cargo.toml\n[package]\n```\ntext\n```rust\nno\n```\n\
                    ```rust file=src/lib.rs\nfn a() {}\n\nfn b() {}\n```\n";
        let found = parse_snippets(text);
        assert_eq!(found.len(), 2);
        assert_eq!(
            (found[0].file.as_str(), found[0].text.as_str()),
            ("Cargo.toml", "[package]\n")
        );
        assert_eq!(found[1].text, "fn a() {}\n\nfn b() {}\n");
    }

    #[test]
    fn the_label_stands_once_in_the_guest_and_can_be_replaced() {
        let guest = Guest::marked();
        let (other, label) = guest.with_label(7);
        assert_eq!(
            (label.as_str(), other.0.len()),
            ("marked-007", guest.0.len())
        );
        assert_ne!(other.sha256(), guest.sha256());
    }
}
