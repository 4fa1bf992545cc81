//! The short sections: `[cache]`, `[admin]`, `[telemetry]`.

use std::net::SocketAddr;

use tracing::level_filters::LevelFilter;
use tracing_subscriber::EnvFilter;

use super::Checker;
use super::network::collide;
use crate::config::overrides::{CacheSize, Overrides};
use crate::config::resolved::{Admin, Cache, LogFormat, Secret, Telemetry};
use crate::config::schema::{self, Expose, Size, Time};

pub(super) fn cache(
    typed: &mut schema::Cache,
    overrides: &Overrides,
    checker: &mut Checker<'_>,
) -> Cache {
    match overrides.cache_size {
        Some(CacheSize::Entries(0)) => typed.enabled = false,
        Some(CacheSize::Entries(entries)) => typed.max_entries = entries,
        Some(CacheSize::Bytes(bytes)) => typed.max_bytes = Size(bytes),
        None => {}
    }
    if let Some(ttl) = overrides.cache_ttl {
        typed.ttl = Time(ttl);
        // Who sets a longer life by hand means it, whatever the file's bound was.
        typed.max_ttl = Time(typed.max_ttl.0.max(ttl));
    }
    if typed.ttl.0 > typed.max_ttl.0 && checker.knows("/cache/max_ttl") {
        let message = format!("longer than `max_ttl`, {}", typed.max_ttl);
        checker
            .error("/cache/ttl", message)
            .help("lower it, or raise `max_ttl`");
    }
    if typed.max_entry_bytes > typed.max_bytes && checker.knows("/cache/max_bytes") {
        let message = format!(
            "more than all answers may take together, {}",
            typed.max_bytes
        );
        checker.error("/cache/max_entry_bytes", message);
    }
    let largest = Size::mib(1 << 20);
    checker.size("/cache/max_bytes", typed.max_bytes, Size(1), largest);
    Cache {
        enabled: typed.enabled,
        max_entries: typed.max_entries,
        max_bytes: typed.max_bytes.0,
        max_entry_bytes: checker.size(
            "/cache/max_entry_bytes",
            typed.max_entry_bytes,
            Size(1),
            largest,
        ),
        ttl: typed.ttl.0,
        max_ttl: typed.max_ttl.0,
        epoch: typed.epoch.clone(),
    }
}

pub(super) fn admin(typed: &schema::Admin, server: SocketAddr, checker: &mut Checker<'_>) -> Admin {
    let listen = checker.address("/admin/listen", &typed.listen);
    if let Some(token) = &typed.token {
        checker.secret("/admin/token");
        checker.header_safe("/admin/token", token);
    }
    if typed.enabled && checker.knows("/admin/enabled") {
        if !listen.ip().is_loopback() && typed.token.is_none() && checker.knows("/admin/token") {
            let message = "an address that other machines can reach needs a `token`";
            checker
                .error("/admin/listen", message)
                .help("set [admin] token = \"${NAME}\", or listen on 127.0.0.1");
        }
        free(checker, "/admin/listen", listen, server, "server");
    }
    Admin {
        listen: typed.enabled.then_some(listen),
        token: typed.token.as_deref().map(Secret::new),
    }
}

pub(super) fn telemetry(
    typed: &schema::Telemetry,
    server: SocketAddr,
    admin: Option<SocketAddr>,
    checker: &mut Checker<'_>,
) -> Telemetry {
    let place = "/telemetry/listen";
    let listen = typed.listen.as_deref();
    let listen = listen.map(|listen| checker.address(place, listen));
    if let Some(listen) = listen {
        free(checker, place, listen, server, "server");
        if let Some(admin) = admin {
            free(checker, place, listen, admin, "admin");
        }
    }
    if let Err(error) = EnvFilter::builder().parse(&typed.log_level) {
        checker
            .error("/telemetry/log_level", format!("no log filter: {error}"))
            .label("for example \"info\" or \"warn,sluicegate::plugin=debug\"");
    }
    // A word alone is a level, or it would silence all that is not of this name.
    let word = typed.log_level.split(',').map(str::trim).find(|word| {
        let names = !word.contains(['=', ':', '[']);
        names && word.parse::<LevelFilter>().is_err()
    });
    if let Some(word) = word {
        checker
            .error("/telemetry/log_level", format!("`{word}` is no level"))
            .label("one of error, warn, info, debug, trace, off; `TARGET=LEVEL` for a part of it");
    }
    Telemetry {
        listen,
        log_format: match typed.log_format {
            schema::LogFormat::Text => LogFormat::Text,
            schema::LogFormat::Json => LogFormat::Json,
        },
        log_level: typed.log_level.clone(),
        access_log: typed.access_log,
        expose_all: match typed.expose {
            Some(Expose::All) => true,
            Some(Expose::Basic) => false,
            None => server.ip().is_loopback(),
        },
    }
}

fn free(
    checker: &mut Checker<'_>,
    pointer: &str,
    listen: SocketAddr,
    other: SocketAddr,
    whose: &str,
) {
    if collide(listen, other) && checker.knows(&format!("/{whose}/listen")) {
        let message = format!("[{whose}] listen takes port {} already", other.port());
        checker.error(pointer, message);
    }
}
