//! `sluicegate health`: asks a running proxy for its readiness, for containers without curl.

use std::io::{Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, bail};

use crate::config::{self, Overrides};

/// For connecting, and for each read.
const LIMIT: Duration = Duration::from_secs(5);
/// More than any answer to the question has.
const MAX_ANSWER: u64 = 64 * 1024;

/// Asks; the exit code is 0 when the proxy is ready.
#[expect(clippy::print_stdout, reason = "a command's output")]
pub(super) fn run(config: &Path) -> ExitCode {
    match ask(config) {
        Ok(word) => {
            println!("{word}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            super::serve::print_chain(&error);
            ExitCode::FAILURE
        }
    }
}

fn ask(path: &Path) -> Result<String, anyhow::Error> {
    let overrides = Overrides::from_env().map_err(|problems| anyhow::anyhow!("{problems}"))?;
    let loaded =
        config::load(path, &overrides).map_err(|problems| anyhow::anyhow!("{problems}"))?;
    let server = &loaded.config.server;
    let address = match loaded.config.admin.listen {
        Some(address) => address,
        None if server.tls.is_some() => {
            bail!("without an admin listener, only plain HTTP is asked")
        }
        None => server.listen,
    };
    if address.port() == 0 {
        bail!("port 0 in the config: nobody can know which port it became");
    }
    let address = reachable(address);
    let answer = get(address).with_context(|| format!("{address} cannot be asked"))?;
    let (head, word) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
    let status = head.split(' ').nth(1);
    match status {
        Some("200") => Ok(word.to_owned()),
        _ => bail!("{address} answers {}: {word}", status.unwrap_or("nothing")),
    }
}

/// Where a listener on every address is reached from its own machine.
fn reachable(mut address: SocketAddr) -> SocketAddr {
    match address.ip() {
        IpAddr::V4(Ipv4Addr::UNSPECIFIED) => address.set_ip(Ipv4Addr::LOCALHOST.into()),
        IpAddr::V6(Ipv6Addr::UNSPECIFIED) => address.set_ip(Ipv6Addr::LOCALHOST.into()),
        _ => {}
    }
    address
}

fn get(address: SocketAddr) -> std::io::Result<String> {
    let mut stream = TcpStream::connect_timeout(&address, LIMIT)?;
    stream.set_read_timeout(Some(LIMIT))?;
    stream.set_write_timeout(Some(LIMIT))?;
    let request = format!("GET /readyz HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes())?;
    let mut answer = String::new();
    stream.take(MAX_ANSWER).read_to_string(&mut answer)?;
    Ok(answer)
}
