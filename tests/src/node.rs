//! A folder with the OpenAI SDK for Node, made once below the target folder.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;

use crate::output::output_of;
use crate::proxy::target_dir;

/// Held while the folder is made, for tests of one process.
static MAKING: Mutex<()> = Mutex::new(());

/// Set where a missing Node is a failure.
const REQUIRED: &str = "SLUICEGATE_TEST_NODE";

const PACKAGE: &str = include_str!("../node/package.json");
const LOCK: &str = include_str!("../node/package-lock.json");

/// A folder with `openai` from npm, as `tests/node/package-lock.json` pins it.
pub struct Node {
    folder: PathBuf,
}

impl Node {
    /// Finds it, or makes it. None where Node is not installed, unless the environment variable
    /// `SLUICEGATE_TEST_NODE` is set.
    ///
    /// # Panics
    /// When npm is missing or cannot reach its registry: with the commands to run.
    #[must_use]
    pub fn with_openai() -> Option<Self> {
        let found = Command::new("node").arg("--version").output();
        if found.is_err() {
            assert!(
                std::env::var_os(REQUIRED).is_none(),
                "node is needed; run:\n  apt-get install -y nodejs npm"
            );
            return None;
        }
        let _making = MAKING.lock().unwrap();
        let folder = target_dir().join("openai-node");
        let made_of = folder.join("made-of.json");
        if std::fs::read_to_string(&made_of).is_ok_and(|made_of| made_of == LOCK) {
            return Some(Self { folder });
        }
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::write(folder.join("package.json"), PACKAGE).unwrap();
        std::fs::write(folder.join("package-lock.json"), LOCK).unwrap();
        let arguments = ["ci", "--ignore-scripts", "--no-audit", "--no-fund"];
        let hint = format!(
            "the OpenAI SDK for Node is needed; run:\n  apt-get install -y nodejs npm\n  \
             cd {} && npm {}",
            folder.display(),
            arguments.join(" ")
        );
        let mut install = Command::new("npm");
        install.args(arguments).current_dir(&folder);
        output_of(&mut install, &hint);
        std::fs::write(&made_of, LOCK).unwrap();
        Some(Self { folder })
    }

    /// Runs an ES module and gives what it printed.
    ///
    /// # Panics
    /// When it fails: with all its output.
    #[must_use]
    pub fn run(&self, name: &str, module: &str, arguments: &[&str]) -> String {
        // Imports are looked up from where the module lies.
        let script = self.folder.join(Path::new(name));
        std::fs::write(&script, module).unwrap();
        let mut command = Command::new("node");
        command.arg(&script).args(arguments);
        for name in ["OPENAI_API_KEY", "OPENAI_BASE_URL", "NODE_OPTIONS"] {
            command.env_remove(name);
        }
        output_of(&mut command, "the script failed")
    }
}
