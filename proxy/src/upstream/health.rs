//! Active health checks: a GET every interval, on the control runtime, through reqwest.
//!
//! Checks are opt-in per pool, since not every backend has a path for them (vLLM has `/health`,
//! Ollama `/`, hosted APIs none). Only a 2xx is healthy: a 404 means that the path is wrong or the
//! model server is not what was expected there, and a redirect is not followed, because it says
//! nothing about this backend. A wrong path is no outage, though: with all backends unhealthy the
//! least bad is still tried ([`super::balance`]). The path counts from the server's root and not
//! from the pool's base path; the pool's key is sent along.
//!
//! Each check opens a connection of its own: over an old one it would not notice that new ones are
//! refused. The task ends when its [`Check`] is dropped.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use reqwest::redirect;
use tokio::runtime::Handle;
use tokio::task::AbortHandle;
use tokio::time::MissedTickBehavior;

use super::address::host_header;
use super::backend::State;
use crate::config::{self, BackendIdentity, HealthCheck, Protocol, Secret};

/// What is checked, besides where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Spec {
    check: HealthCheck,
    api_key: Option<Secret>,
}

impl Spec {
    /// The checks of a pool's backends; none where it has none.
    pub(super) fn of(pool: &config::Pool) -> Option<Self> {
        let check = pool.health.clone()?;
        Some(Self {
            check,
            api_key: pool.api_key.clone(),
        })
    }
}

/// A running check; stops when dropped.
#[derive(Debug)]
pub(super) struct Check {
    spec: Spec,
    state: Arc<State>,
    task: AbortHandle,
}

impl Check {
    /// Starts checking.
    pub(super) fn start(spec: Spec, state: Arc<State>, control: &Handle) -> Self {
        let task = control
            .spawn(run(spec.clone(), Arc::clone(&state)))
            .abort_handle();
        Self { spec, state, task }
    }

    /// Whether this is the check of that state, by those rules.
    pub(super) fn is(&self, spec: &Spec, state: &Arc<State>) -> bool {
        self.spec == *spec && Arc::ptr_eq(&self.state, state)
    }

    /// Whose check it is.
    pub(super) fn state(&self) -> &State {
        &self.state
    }
}

impl Drop for Check {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Checks until aborted.
async fn run(spec: Spec, state: Arc<State>) {
    let HealthCheck {
        interval,
        unhealthy_after,
        healthy_after,
        ..
    } = spec.check;
    // Spread out, lest all backends of a large pool are asked in the same instant for ever.
    let jitter = interval
        .min(Duration::from_secs(1))
        .mul_f64(fastrand::f64());
    let mut ticks = tokio::time::interval_at(tokio::time::Instant::now() + jitter, interval);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut streak = Streak::default();
    let mut client = None;
    loop {
        ticks.tick().await;
        let found = probe(&spec, &state.identity, &mut client).await;
        let (is_good, found) = match found {
            Ok(found) => (true, found),
            Err(found) => (false, found),
        };
        let run = streak.add(is_good);
        let needed = if is_good {
            healthy_after
        } else {
            unhealthy_after
        };
        let verdict = if run >= needed {
            is_good
        } else {
            state.passes_checks()
        };
        let backend = &state.identity;
        if state.set_passes_checks(verdict, found.clone()) {
            if verdict {
                tracing::info!(%backend, found, "backend passes its health checks again");
            } else {
                tracing::warn!(%backend, found, "backend fails its health checks");
            }
        }
    }
}

/// Equal outcomes in a row.
#[derive(Debug, Default)]
struct Streak {
    is_good: bool,
    length: u32,
}

impl Streak {
    /// Adds an outcome; how many of its kind there are in a row now.
    fn add(&mut self, is_good: bool) -> u32 {
        if self.is_good == is_good {
            self.length = self.length.saturating_add(1);
        } else {
            *self = Self { is_good, length: 1 };
        }
        self.length
    }
}

/// One check: what was found, as an error when it speaks against the backend. `client` is built
/// here, so that a certificate file that appears later is found.
async fn probe(
    spec: &Spec,
    identity: &BackendIdentity,
    client: &mut Option<reqwest::Client>,
) -> Result<String, String> {
    let client = match client {
        Some(client) => client,
        None => client.insert(build(spec, identity).await?),
    };
    let scheme = if identity.tls { "https" } else { "http" };
    let url = format!("{scheme}://{}{}", host_header(identity), spec.check.path);
    let mut request = client.get(url);
    if let Some(key) = &spec.api_key {
        request = request.bearer_auth(key.expose());
    }
    let answer = request.send().await.map_err(|error| chain(&error))?;
    let found = format!("{} for {}", answer.status(), spec.check.path);
    if answer.status().is_success() {
        Ok(found)
    } else {
        Err(found)
    }
}

async fn build(spec: &Spec, identity: &BackendIdentity) -> Result<reqwest::Client, String> {
    // reqwest takes the process's provider. An error says that one is installed, which will do:
    // the binary contains no other.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let mut builder = reqwest::Client::builder()
        .user_agent("sluicegate-health")
        .redirect(redirect::Policy::none())
        .no_proxy()
        .timeout(spec.check.timeout)
        .pool_max_idle_per_host(0)
        .dns_resolver(Arc::new(To {
            host: identity.host.clone(),
            port: identity.port,
        }));
    if identity.protocol == Protocol::Http1 {
        builder = builder.http1_only();
    } else if !identity.tls {
        builder = builder.http2_prior_knowledge();
    }
    if let Some(file) = &identity.ca_file {
        let read = tokio::fs::read(file).await;
        let pem = read.map_err(|error| format!("{}: {error}", file.display()))?;
        let certificates = reqwest::Certificate::from_pem_bundle(&pem)
            .map_err(|error| format!("{}: {}", file.display(), chain(&error)))?;
        builder = builder.tls_certs_only(certificates);
    }
    builder.build().map_err(|error| chain(&error))
}

/// Resolves every name to the backend: the URL carries the name that TLS is to check.
struct To {
    host: String,
    port: u16,
}

impl Resolve for To {
    fn resolve(&self, _name: Name) -> Resolving {
        let (host, port) = (self.host.clone(), self.port);
        async move {
            let found: Vec<SocketAddr> = tokio::net::lookup_host((host, port)).await?.collect();
            Ok(Box::new(found.into_iter()) as Addrs)
        }
        .boxed()
    }
}

/// An error with its causes: reqwest's own text names none.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::PoolName;
    use crate::upstream::testing::{self, Server, eventually, pool_config};

    #[test]
    fn a_streak_counts_equal_outcomes() {
        let mut streak = Streak::default();
        assert_eq!(
            [true, true, false, false, false, true].map(|o| streak.add(o)),
            [1, 2, 1, 2, 3, 1]
        );
    }

    fn checked(server: &Server, unhealthy_after: u32) -> Arc<config::Pool> {
        let mut pool = pool_config("p", vec![server.identity()]);
        pool.api_key = Some(Secret::new("k"));
        pool.health = Some(HealthCheck {
            path: "/health".to_owned(),
            interval: Duration::from_millis(20),
            timeout: Duration::from_secs(2),
            unhealthy_after,
            healthy_after: 1,
        });
        Arc::new(pool)
    }

    #[tokio::test]
    async fn checks_turn_a_backend_unhealthy_and_back_and_end_with_their_pool() {
        let server = Server::start().await;
        let (registry, metrics) = testing::registry();
        let pools = registry.pools_of(&[checked(&server, 2)]);
        let pool = Arc::clone(&pools[&PoolName::new("p")]);
        registry.supervise_all(vec![Arc::clone(&pool)]);
        // Supervising the same pools again leaves the check running.
        registry.supervise_all(vec![Arc::clone(&pool)]);
        let healthy = || {
            pool.backends()[0]
                .state
                .is_healthy(std::time::Instant::now())
        };
        let gauge = metrics.upstream_healthy.with_label_values(&["p", "p-1"]);
        assert!(healthy(), "until the checks say otherwise");

        let mut connection = server.accept().await;
        let request = connection.request().await;
        assert!(
            request.head.starts_with("GET /health HTTP/1.1\r\n"),
            "{}",
            request.head
        );
        assert!(request.head.contains("authorization: Bearer k\r\n"));
        connection.answer("404 Not Found", "").await;
        eventually("the check's finding is shown", || {
            registry.status()[0].backends[0]
                .last_check
                .clone()
                .is_some_and(|c| c.contains("404"))
        })
        .await;
        assert!(healthy(), "one failure is not two");
        let mut connection = server.accept().await;
        connection.request().await;
        // A redirect is not followed: nothing listens there.
        connection
            .write(b"HTTP/1.1 307 Temporary Redirect\r\nlocation: http://127.0.0.1:1/\r\ncontent-length: 0\r\n\r\n")
            .await;
        eventually("unhealthy after two", || !healthy()).await;
        assert_eq!(gauge.get(), 0);

        let mut connection = server.accept().await;
        connection.request().await;
        connection.answer("204 No Content", "").await;
        eventually("healthy after one", healthy).await;
        assert_eq!(gauge.get(), 1);

        registry.supervise_all(vec![]);
        let mut late = 0;
        // A check that was under way may still arrive; none may follow.
        while tokio::time::timeout(Duration::from_millis(200), server.accept())
            .await
            .is_ok()
        {
            late += 1;
            assert!(late <= 1, "the check outlived its pool");
        }
    }

    #[tokio::test]
    async fn a_check_that_is_removed_leaves_no_verdict_behind() {
        let server = Server::start().await;
        let (registry, _) = testing::registry();
        let pools = registry.pools_of(&[checked(&server, 1)]);
        let pool = Arc::clone(&pools[&PoolName::new("p")]);
        registry.supervise_all(vec![Arc::clone(&pool)]);
        let mut connection = server.accept().await;
        connection.request().await;
        connection.answer("503 Service Unavailable", "").await;
        let healthy = || {
            pool.backends()[0]
                .state
                .is_healthy(std::time::Instant::now())
        };
        eventually("unhealthy", || !healthy()).await;
        let unchecked = registry.pools_of(&[Arc::new(pool_config("p", vec![server.identity()]))]);
        registry.supervise_all(unchecked.values().cloned().collect());
        assert!(healthy());
    }
}
