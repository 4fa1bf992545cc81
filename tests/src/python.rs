//! A Python environment with the OpenAI SDK, made once below the target folder.

use std::path::PathBuf;
use std::process::Command;
use std::sync::Mutex;

use crate::output::output_of;
use crate::proxy::target_dir;

/// Held while the environment is made, for tests of one process.
static MAKING: Mutex<()> = Mutex::new(());

/// A virtual environment with `openai` from PyPI.
pub struct Venv {
    python: PathBuf,
}

impl Venv {
    /// Finds it, or makes it.
    ///
    /// # Panics
    /// When Python or pip is missing, or PyPI cannot be reached: with the commands to run.
    #[must_use]
    pub fn with_openai() -> Self {
        let _making = MAKING.lock().unwrap();
        let folder = target_dir().join("openai-venv");
        let python = folder.join("bin/python");
        let ready = folder.join("ready");
        if !ready.is_file() {
            let make = format!("python3 -m venv {}", folder.display());
            let install = format!("{} -m pip install openai", python.display());
            let hint = format!(
                "the OpenAI SDK is needed; run:\n  apt-get install -y python3 python3-venv\n  \
                 {make}\n  {install}\n  touch {}",
                ready.display()
            );
            output_of(
                Command::new("python3").args(["-m", "venv"]).arg(&folder),
                &hint,
            );
            let pip = [
                "-m",
                "pip",
                "install",
                "--quiet",
                "--disable-pip-version-check",
                "openai",
            ];
            output_of(Command::new(&python).args(pip), &hint);
            std::fs::write(&ready, "").unwrap();
        }
        Self { python }
    }

    /// Runs a script and gives what it printed.
    ///
    /// # Panics
    /// When it fails: with all its output.
    #[must_use]
    pub fn run(&self, script: &str, arguments: &[&str]) -> String {
        let mut command = Command::new(&self.python);
        command.arg("-c").arg(script).args(arguments);
        for name in [
            "OPENAI_API_KEY",
            "OPENAI_BASE_URL",
            "http_proxy",
            "https_proxy",
            "HTTP_PROXY",
        ] {
            command.env_remove(name);
        }
        output_of(&mut command, "the script failed")
    }
}
