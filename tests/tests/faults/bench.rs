//! One proxy before one faulty backend, and what became of a request.

use std::cell::{Cell, RefCell};
use std::fmt::Write as _;
use std::time::Duration;

use serde_json::Value;
use sluicegate_tests::{Config, Faulty, Head, Pool, Proxy, Request, Route};

/// The values of the metric label `result`.
const RESULTS: [&str; 12] = [
    "2xx",
    "3xx",
    "4xx",
    "5xx",
    "bad_request",
    "closed",
    "connect_failed",
    "connect_timeout",
    "first_byte_timeout",
    "protocol_error",
    "refused",
    "tls_failed",
];

/// A proxy with one worker and the cache on, and the one backend that it has.
pub(crate) struct Bench {
    pub(crate) backend: Faulty,
    pub(crate) proxy: Proxy,
    asked: Cell<u32>,
    broken: RefCell<Vec<Request>>,
}

/// What became of a request.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) head: Head,
    /// As far as it came.
    pub(crate) body: Vec<u8>,
    /// The body ended in good order.
    pub(crate) is_whole: bool,
    /// The request's line of the access log.
    pub(crate) line: Value,
    /// Attempts by their result, such as `2xx 1, closed 1`.
    pub(crate) attempts: String,
}

impl Bench {
    /// With the route's own settings.
    pub(crate) async fn new(route: Route) -> Self {
        Self::with(route, |config| config).await
    }

    /// With settings beyond those of the route.
    pub(crate) async fn with(route: Route, settings: impl FnOnce(Config) -> Config) -> Self {
        let backend = Faulty::new();
        let pool = Pool::new("main").url(backend.url());
        let config = Config::new().cached().pool(pool).route(route);
        let config = settings(config.set("server.workers", 1));
        let proxy = Proxy::start(&config).await;
        let bench = Self {
            backend,
            proxy,
            asked: Cell::new(0),
            broken: RefCell::default(),
        };
        bench.use_up_what_was_opened_ahead().await;
        bench
    }

    /// One attempt for each request.
    pub(crate) async fn once() -> Self {
        Self::new(Route::to("main").set("attempts", 1)).await
    }

    /// A connection that was opened ahead counts as kept, and a kept one may be replaced unseen.
    async fn use_up_what_was_opened_ahead(&self) {
        let request = Request::get("/v1/first");
        let outcome = self.ask(&request, async |backend| {
            let mut peer = backend.next().await;
            peer.request().await;
            let answer = "HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 0\r\n\r\n";
            peer.write(answer).await.unwrap();
        });
        assert_eq!(outcome.await.head.status(), 200);
    }

    /// Sends a request on a connection of its own, while `script` plays the backend. What `script`
    /// gives lives until the client has the whole answer.
    pub(crate) async fn ask<T>(
        &self,
        request: &Request,
        script: impl AsyncFnOnce(&Faulty) -> T,
    ) -> Outcome {
        let number = self.asked.replace(self.asked.get() + 1);
        let id = format!("fault-{number}");
        let before = self.results().await;
        let request = request.clone().header("x-request-id", &id);
        let client = async {
            let mut client = self.proxy.client().await;
            client.begin(&request).await;
            let head = client.head().await;
            let mut body = Vec::new();
            let is_whole = loop {
                match client.piece().await {
                    Ok(Some(piece)) => body.extend_from_slice(&piece),
                    Ok(None) => break true,
                    Err(_) => break false,
                }
            };
            (head, body, is_whole)
        };
        let ((head, body, is_whole), _held) = tokio::join!(client, script(&self.backend));
        let line = self.proxy.access_line(&id).await;
        let after = self.results().await;
        let mut attempts = String::new();
        for ((result, before), (_, after)) in before.into_iter().zip(after) {
            if after > before {
                let comma = if attempts.is_empty() { "" } else { ", " };
                write!(attempts, "{comma}{result} {}", after - before).unwrap();
            }
        }
        Outcome {
            head,
            body,
            is_whole,
            line,
            attempts,
        }
    }

    /// As [`Bench::ask`], for an answer that must never be stored.
    pub(crate) async fn ask_broken<T>(
        &self,
        request: &Request,
        script: impl AsyncFnOnce(&Faulty) -> T,
    ) -> Outcome {
        self.broken.borrow_mut().push(request.clone());
        self.ask(request, script).await
    }

    /// Asks the cache alone for everything that [`Bench::ask_broken`] asked.
    pub(crate) async fn nothing_broken_is_cached(self) {
        for request in self.broken.take() {
            let request = request.header("x-sluicegate-cache", "only");
            let answer = self.proxy.send(&request).await;
            assert_eq!(answer.status, 504, "it is stored: {request:?}");
            assert_eq!(answer.error_code(), "not_cached");
        }
        assert!(
            !self.backend.has_next().await,
            "an attempt that nobody expected"
        );
        self.proxy.await_idle().await;
    }

    async fn results(&self) -> Vec<(&'static str, f64)> {
        let metrics = self.proxy.metrics().await;
        let sum = |result| metrics.sum("sluicegate_upstream_attempts_total", &[("result", result)]);
        RESULTS
            .iter()
            .map(|result| (*result, sum(result)))
            .collect()
    }
}

impl Outcome {
    /// The body as text.
    pub(crate) fn text(&self) -> &str {
        std::str::from_utf8(&self.body).expect("the answer is UTF-8")
    }

    /// Asserts the status of a status line such as `404 Not Found`.
    pub(crate) fn has_status(&self, what: &str, line: &str) {
        let status = self.head.status().to_string();
        assert!(line.starts_with(&status), "{what}: {status}, not {line}");
    }

    /// Asserts an error of the proxy's own, in OpenAI's form, and that it tells nobody where the
    /// backend is.
    pub(crate) fn is_error(&self, what: &str, status: u16, code: &str) {
        assert_eq!(self.head.status(), status, "{what}: {self:?}");
        let body: Value = serde_json::from_slice(&self.body).expect(what);
        let error = &body["error"];
        assert_eq!(error["code"], code, "{what}: {body}");
        assert!(
            error["message"].is_string() && error["type"] == "server_error",
            "{what}: {body}"
        );
        assert!(!body.to_string().contains("127.0.0.1"), "{what}: {body}");
        assert_eq!(self.line["error"], code, "{what}: {}", self.line);
        assert!(self.is_whole, "{what}");
    }

    /// Asserts how many attempts were made and how each ended.
    pub(crate) fn attempts_were(&self, what: &str, attempts: &str) {
        assert_eq!(self.attempts, attempts, "{what}: {}", self.line);
    }
}

/// Lets time pass that is itself what a test is about: a backend that is slow, or down for a while.
#[expect(clippy::disallowed_methods, reason = "the time itself is played")]
pub(crate) async fn pause(time: Duration) {
    tokio::time::sleep(time).await;
}

/// A whole answer with a `content-length`. `headers` are lines, each with its end.
pub(crate) fn answer(status: &str, headers: &str, body: &str) -> String {
    let length = body.len();
    format!("HTTP/1.1 {status}\r\n{headers}content-length: {length}\r\n\r\n{body}")
}

/// The same, as JSON.
pub(crate) fn json(status: &str, body: &str) -> String {
    answer(status, "content-type: application/json\r\n", body)
}
