//! The folder that the demo runs from: its config, and the plugin file that is dropped in.
//!
//! The embedded config is a whole config as it stands; only its addresses are replaced, so that
//! the demo starts beside whatever else runs here.

use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, ensure};
use tempfile::TempDir;

use super::backend::{Backend, Pace, Persona};

/// The config as it is embedded.
const CONFIG: &str = include_str!("demo.toml");

/// Where the embedded config listens for clients.
const DATA: &str = "127.0.0.1:8080";

/// Where the embedded config listens for operators.
const ADMIN: &str = "127.0.0.1:9090";

/// Line of the classifier's slot that the swap replaces …
const BUILT_IN: &str = "source = \"builtin:keyword-classifier\"\n";

/// … by this: another source, and a table that knows one more label.
const DROPPED_IN: &str = include_str!("dropped_in.toml");

/// The backends of the embedded config: name, address there, what it is for.
const BACKENDS: [(&str, &str, Persona); 8] = [
    ("general-1", "127.0.0.1:7101", Persona::General),
    ("general-2", "127.0.0.1:7102", Persona::General),
    ("code-1", "127.0.0.1:7103", Persona::Code),
    ("vision-1", "127.0.0.1:7104", Persona::Vision),
    ("research-1", "127.0.0.1:7105", Persona::Research),
    ("oncall-1", "127.0.0.1:7106", Persona::OnCall),
    ("embeddings-1", "127.0.0.1:7107", Persona::Embeddings),
    ("faults-1", "127.0.0.1:7108", Persona::Faults),
];

/// Starts every backend of the embedded config, on the current runtime.
///
/// # Errors
/// When there are no free ports.
pub(super) async fn backends(pace: Pace) -> io::Result<Vec<Backend>> {
    let mut running = Vec::with_capacity(BACKENDS.len());
    for (name, _, persona) in BACKENDS {
        running.push(Backend::start(name, persona, pace).await?);
    }
    Ok(running)
}

/// The addresses that the proxy is to listen on; port 0 is any free one.
#[derive(Debug, Clone, Copy)]
pub(super) struct Listen {
    pub(super) data: SocketAddr,
    pub(super) admin: SocketAddr,
}

impl Listen {
    /// What the user asked for, else the usual ports where they are free. A demo that ends with its
    /// tour needs no ports that anybody remembers.
    pub(super) fn choose(port: Option<u16>, once: bool) -> Self {
        let at = |port: u16| SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let free = |port: u16| {
            if TcpListener::bind(at(port)).is_ok() {
                port
            } else {
                0
            }
        };
        match port {
            Some(port) => Self {
                data: at(port),
                admin: at(0),
            },
            None if once => Self {
                data: at(0),
                admin: at(0),
            },
            None => Self {
                data: at(free(8080)),
                admin: at(free(9090)),
            },
        }
    }
}

/// The demo's folder, removed on drop.
pub(super) struct Folder(TempDir);

impl Folder {
    /// Makes the folder and writes the config into it.
    ///
    /// # Errors
    /// When the folder for temporary files cannot be written.
    pub(super) fn create(listen: Listen, backends: &[Backend]) -> anyhow::Result<Self> {
        let folder = tempfile::Builder::new()
            .prefix("sluicegate-demo-")
            .tempdir()
            .context("no folder for temporary files")?;
        let mut config = CONFIG
            .replace(DATA, &listen.data.to_string())
            .replace(ADMIN, &listen.admin.to_string());
        for (name, address, _) in BACKENDS {
            let backend = backends
                .iter()
                .find(|backend| backend.name() == name)
                .with_context(|| format!("backend {name} does not run"))?;
            config = config.replace(address, &backend.address().to_string());
        }
        let folder = Self(folder);
        folder.put("sluicegate.toml", config.as_bytes())?;
        Ok(folder)
    }

    /// The config file.
    pub(super) fn config(&self) -> PathBuf {
        self.path().join("sluicegate.toml")
    }

    pub(super) fn path(&self) -> &Path {
        self.0.path()
    }

    /// Drops `component` in as the classifier and points its slot there.
    ///
    /// # Errors
    /// When a file cannot be written, or somebody has edited the slot in the meantime.
    pub(super) fn drop_in(&self, component: &[u8]) -> anyhow::Result<()> {
        let config = std::fs::read_to_string(self.config())?;
        ensure!(
            config.contains(BUILT_IN),
            "the classifier's slot has been edited"
        );
        self.put("classifier.wasm", component)?;
        self.put(
            "sluicegate.toml",
            config.replace(BUILT_IN, DROPPED_IN).as_bytes(),
        )?;
        Ok(())
    }

    /// Writes beside and renames, as careful editors do.
    fn put(&self, name: &str, bytes: &[u8]) -> io::Result<()> {
        let mut file = tempfile::NamedTempFile::new_in(self.path())?;
        io::Write::write_all(&mut file, bytes)?;
        file.persist(self.path().join(name))?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FAST: Pace = Pace {
        first_token: std::time::Duration::ZERO,
        token: std::time::Duration::ZERO,
    };

    fn slot(config: &str) -> toml::Value {
        let config: toml::Table = config.parse().unwrap();
        config["pipeline"]["classify"][0].clone()
    }

    #[test]
    fn the_embedded_config_holds_each_address_once() {
        let addresses = BACKENDS
            .iter()
            .map(|(_, address, _)| *address)
            .chain([DATA, ADMIN]);
        for address in addresses {
            assert_eq!(CONFIG.matches(address).count(), 1, "{address}");
        }
        for (name, address, _) in BACKENDS {
            let backend = format!("{{ name = \"{name}\", url = \"http://{address}\" }}");
            assert!(CONFIG.contains(&backend), "{backend}");
        }
        assert_eq!(CONFIG.matches("http://").count(), BACKENDS.len());
    }

    #[tokio::test]
    async fn the_written_config_has_the_real_addresses() {
        let backends = backends(FAST).await.unwrap();
        let folder = Folder::create(Listen::choose(Some(7), true), &backends).unwrap();
        let config = std::fs::read_to_string(folder.config()).unwrap();
        let table: toml::Table = config.parse().unwrap();
        assert_eq!(table["server"]["listen"].as_str(), Some("127.0.0.1:7"));
        assert_eq!(table["admin"]["listen"].as_str(), Some("127.0.0.1:0"));
        for backend in &backends {
            assert!(config.contains(&format!("http://{}", backend.address())));
        }
    }

    #[tokio::test]
    async fn dropping_in_changes_the_classifiers_slot_alone() {
        let backends = backends(FAST).await.unwrap();
        let folder = Folder::create(Listen::choose(None, true), &backends).unwrap();
        let before: toml::Table = std::fs::read_to_string(folder.config())
            .unwrap()
            .parse()
            .unwrap();
        folder.drop_in(b"component").unwrap();
        let text = std::fs::read_to_string(folder.config()).unwrap();
        let mut after: toml::Table = text.parse().unwrap();
        assert_eq!(slot(&text)["source"].as_str(), Some("classifier.wasm"));
        assert_eq!(slot(&text)["name"].as_str(), Some("classifier"));
        assert!(slot(&text)["config"]["labels"]["incident"].is_table());
        assert_eq!(
            std::fs::read(folder.path().join("classifier.wasm")).unwrap(),
            b"component"
        );
        after["pipeline"]["classify"] = before["pipeline"]["classify"].clone();
        assert_eq!(after, before);
        assert!(folder.drop_in(b"again").is_err());
    }

    #[test]
    fn a_tour_alone_takes_any_ports_and_a_wish_is_followed() {
        assert_eq!(Listen::choose(None, true).data.port(), 0);
        assert_eq!(Listen::choose(Some(4321), false).data.port(), 4321);
        let taken = TcpListener::bind(DATA);
        let chosen = Listen::choose(None, false).data.port();
        assert_eq!(chosen, 0, "{taken:?}");
    }
}
