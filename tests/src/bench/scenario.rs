//! What is measured, and between what.

use std::fmt::Write as _;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::time::Duration;

use super::backend::Backend;
use super::subject::{Subject, config};

/// One question to all its subjects.
pub(super) struct Scenario {
    pub(super) name: String,
    pub(super) load: Load,
    pub(super) subjects: Vec<Kind>,
}

/// What the clients do.
#[derive(Debug, Clone)]
pub(super) enum Load {
    /// Ask again as soon as the answer is there.
    Closed { body: String, connections: usize },
    /// Streams of 100 tokens, one each 10 ms, that begin at fixed times: so many are open at once.
    Open { streams: u64 },
    /// As [`Self::Closed`]; memory is read before it, after 10,000 requests and after 100,000 more.
    Memory { body: String, connections: usize },
}

/// What stands between clients and backend.
#[derive(Debug, Clone)]
pub(super) enum Kind {
    Direct,
    Nginx,
    Sluicegate {
        name: &'static str,
        plugins: bool,
        cache: bool,
        routes: usize,
        backends: usize,
    },
}

/// Tokens of a stream.
pub(super) const TOKENS: u64 = 100;
/// Between two tokens.
pub(super) const DELAY: Duration = Duration::from_millis(10);

impl Kind {
    const OFF: Self = Self::Sluicegate {
        name: "sluicegate, plugins off",
        plugins: false,
        cache: false,
        routes: 0,
        backends: 1,
    };

    const ON: Self = Self::Sluicegate {
        name: "sluicegate, plugins on",
        plugins: true,
        cache: false,
        routes: 0,
        backends: 1,
    };

    const CACHED: Self = Self::Sluicegate {
        name: "sluicegate, from its cache",
        plugins: true,
        cache: true,
        routes: 0,
        backends: 1,
    };

    fn of(name: &'static str, routes: usize, backends: usize) -> Self {
        Self::Sluicegate {
            name,
            plugins: false,
            cache: false,
            routes,
            backends,
        }
    }

    /// Starts it.
    ///
    /// # Errors
    /// When it does not start.
    pub(super) fn start(&self, binary: &Path, backend: &Backend) -> io::Result<Subject> {
        match self {
            Self::Direct => Subject::direct(backend.address),
            Self::Nginx => Subject::nginx(backend.address),
            Self::Sluicegate {
                name,
                plugins,
                cache,
                routes,
                backends,
            } => {
                let backends = addresses(backend.address.port(), *backends);
                let config = config(&backends, *plugins, *cache, &unmatched(*routes));
                Subject::sluicegate(name, binary, &config)
            }
        }
    }
}

/// The loopback network has room for many backends that are one.
fn addresses(port: u16, count: usize) -> Vec<SocketAddr> {
    let last = u32::from(Ipv4Addr::new(127, 0, 0, 0));
    (1..=count)
        .map(|number| {
            let address = Ipv4Addr::from(last + u32::try_from(number).expect("few backends"));
            SocketAddr::from((address, port))
        })
        .collect()
}

/// Routes that a request has to pass by.
fn unmatched(count: usize) -> String {
    (0..count).fold(String::new(), |mut routes, number| {
        // Writing to a string cannot fail.
        let _ = write!(
            routes,
            "[[routes]]\nname = \"r{number}\"\npool = \"main\"\n[routes.match]\nmodel = \"other-{number}\"\n"
        );
        routes
    })
}

/// All of them.
pub(super) fn all() -> Vec<Scenario> {
    let everyone = || vec![Kind::Direct, Kind::Nginx, Kind::OFF, Kind::ON];
    let mut all = Vec::new();
    let mut add = |name: String, load: Load, subjects: Vec<Kind>| {
        all.push(Scenario {
            name,
            load,
            subjects,
        });
    };
    for connections in [64, 1, 512] {
        let name = format!("chat 2 KiB, {connections} connections");
        add(name, closed(2, connections), everyone());
    }
    for (size, kib, connections) in [("64 KiB", 64, 16), ("1 MiB", 1024, 4)] {
        let name = format!("chat {size}, {connections} connections");
        add(name, closed(kib, connections), everyone());
    }
    let cached = vec![Kind::Nginx, Kind::ON, Kind::CACHED];
    let name = "chat 2 KiB, the same each time, 64 connections";
    add(name.to_owned(), closed(2, 64), cached);
    for streams in [8, 64, 256] {
        let name = format!("{streams} streams of {TOKENS} tokens");
        add(name, Load::Open { streams }, everyone());
    }
    let routes = vec![
        Kind::of("1 route", 0, 1),
        Kind::of("100 routes", 99, 1),
        Kind::of("10,000 routes", 9_999, 1),
    ];
    add("routes".to_owned(), closed(2, 64), routes);
    let backends = vec![
        Kind::of("1 backend", 0, 1),
        Kind::of("100 backends", 0, 100),
        Kind::of("1,000 backends", 0, 1000),
    ];
    add("backends".to_owned(), closed(2, 64), backends);
    let memory = Load::Memory {
        body: chat(2 * 1024, false),
        connections: 64,
    };
    let name = "memory after 10,000 requests (idle, and after 110,000), 64 connections";
    add(
        name.to_owned(),
        memory,
        vec![Kind::Nginx, Kind::OFF, Kind::ON],
    );
    all
}

/// Chat requests of about so many KiB of text.
fn closed(kib: usize, connections: usize) -> Load {
    Load::Closed {
        body: chat(kib * 1024, false),
        connections,
    }
}

/// A chat request whose text has about so many bytes.
pub(super) fn chat(bytes: usize, stream: bool) -> String {
    const SENTENCE: &str =
        "Please explain how the borrow checker decides that a reference may outlive its value. ";
    let text = SENTENCE.repeat(bytes.div_ceil(SENTENCE.len()));
    let text = text.get(..bytes).unwrap_or(&text).trim_end();
    format!(
        r#"{{"model":"m","messages":[{{"role":"system","content":"You answer in short sentences."}},{{"role":"user","content":"{text}"}}],"temperature":0.7,"max_tokens":256,"stream":{stream}}}"#
    )
}
