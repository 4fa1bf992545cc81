//! What the proxy holds at once: connections, requests, and the bytes of requests and answers.
//!
//! [`Connections`], [`Places`] and [`Budget`] count against a limit of the config and say no beyond
//! it, at once; nothing waits here. Whoever gets a [`Place`] or [`Held`] bytes gives them back by
//! dropping it. The limits may change while things are held: what is above a lower limit stays until
//! it ends.

mod budget;
mod connections;
mod places;

use std::sync::Arc;

pub(crate) use self::budget::{Budget, Full, Held};
pub(crate) use self::connections::{Connections, Standing};
pub(crate) use self::places::{Place, Places};
use crate::config::Server;
use crate::telemetry::Metrics;

/// Connections of clients above the limit that are still heard.
const CROWD: usize = 128;

/// Connections of operators: people, a scraper, a balancer's probes.
const OPERATORS: usize = 1024;

/// What one process counts.
#[derive(Debug)]
pub(crate) struct Admission {
    /// Of clients.
    pub(crate) connections: Arc<Connections>,
    /// Of operators, on the other listeners.
    pub(crate) operators: Arc<Connections>,
    /// Requests of clients that have begun and not ended.
    pub(crate) requests: Arc<Places>,
    /// Bytes of requests and answers in memory.
    pub(crate) buffered: Arc<Budget>,
}

impl Admission {
    /// Nothing of clients is let in before [`Self::limit`].
    pub(crate) fn new(metrics: &Metrics) -> Self {
        let connections = Places::shown_by(metrics.client_connections.clone());
        let refused = &metrics.connections_refused;
        Self {
            connections: Arc::new(Connections::new(connections, CROWD, refused)),
            operators: Arc::new(Connections::new(Places::new(OPERATORS), 0, refused)),
            requests: Arc::new(Places::new(0)),
            buffered: Arc::new(Budget::shown_by(metrics.buffered_bytes.clone())),
        }
    }

    /// Takes over the limits of a config.
    pub(crate) fn limit(&self, server: &Server) {
        self.connections.served.limit(server.max_connections);
        self.requests.limit(server.max_requests_in_flight);
        self.buffered.limit(server.max_buffered_bytes);
    }
}
