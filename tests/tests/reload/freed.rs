//! What a swap replaces is freed, whatever is still open: a request keeps what it needs to its end,
//! and no snapshot, plugin or cache.

use sluicegate_tests::{
    ANSWER, Backend, Client, Config, Exchange, Guest, Metrics, Pool, Proxy, Reply, Request, Route,
    Slot, Start, ask, ask_streaming, ends_with_done, eventually, text_of,
};

const FILE: &str = "marked.wasm";
const SWAPS: usize = 20;

/// A config in which all that a snapshot holds has a name or settings of its own.
fn config(number: usize, backend: &Backend, files: &Backend) -> Config {
    let spares = 1 + i64::try_from(number % 2).unwrap();
    let policy = Slot::cache_policy("policy", "builtin:default-cache-policy");
    let name = |what: &str| format!("{what}-{number}");
    Config::new()
        .cached()
        .set("cache.max_entries", 100 + i64::try_from(number).unwrap())
        .pool(Pool::new(&name("main")).backend(backend))
        .pool(Pool::new(&name("files")).backend(files))
        .route(Route::to(&name("files")).set("match.path", "/v1/files"))
        .route(Route::to(&name("main")).set("compress", true))
        .slot(Slot::classify(&name("marked"), FILE).set("config.suffix", format!("-{number}")))
        .slot(Slot::compress("compressor", "builtin:topk-compressor").set("spares", spares))
        .slot(policy.set("spares", spares))
}

/// Requests that began under one config and are still open.
struct Held {
    stream: (Client, Exchange),
    plain: (Client, Exchange),
    upload: (Client, Exchange),
    download: (Client, Exchange),
    idle: Client,
}

impl Held {
    async fn begin(proxy: &Proxy, backend: &Backend, files: &Backend, number: usize) -> Self {
        let question = format!("question {number}");
        let mut stream = proxy.client().await;
        stream.begin(&ask_streaming(&question)).await;
        let mut answer = backend.next_request().await;
        answer.begin_events().await.unwrap();
        answer.token("begun ").await.unwrap();
        assert_eq!(stream.head().await.status(), 200);

        let mut plain = proxy.client().await;
        plain.begin(&ask(&question)).await;
        let waiting = backend.next_request().await;

        let mut upload = proxy.client().await;
        let chunked = Request::new("POST", "/v1/files", bytes::Bytes::new());
        upload
            .begin(&chunked.header("transfer-encoding", "chunked"))
            .await;
        upload.write_raw(b"5\r\nfirst\r\n").await;
        let mut receiving = files.next_request().await;
        assert_eq!(receiving.body_piece().await.unwrap().unwrap(), "first");

        let mut download = proxy.client().await;
        download.begin(&Request::get("/v1/files/1")).await;
        let mut sending = files.next_request().await;
        sending.begin(200, &[]).await.unwrap();
        sending.write("begun ").await.unwrap();
        assert_eq!(download.head().await.status(), 200);

        let mut idle = proxy.client().await;
        idle.send(&Request::get("/v1/models"))
            .await
            .expect_status(200);
        Self {
            stream: (stream, answer),
            plain: (plain, waiting),
            upload: (upload, receiving),
            download: (download, sending),
            idle,
        }
    }

    /// Ends all of them as if nothing had happened meanwhile.
    async fn finish(mut self) {
        let (mut client, mut exchange) = self.stream;
        exchange.token("ended").await.unwrap();
        exchange.finish_chat().await.unwrap();
        let body = client.rest().await.unwrap();
        assert!(ends_with_done(&body) && text_of(&body) == "begun ended");

        let (mut client, exchange) = self.plain;
        exchange.respond(Reply::json(200, ANSWER)).await.unwrap();
        assert_eq!(client.head().await.status(), 200);
        assert_eq!(client.rest().await.unwrap(), ANSWER);

        let (mut client, mut exchange) = self.upload;
        client.write_raw(b"6\r\nsecond\r\n0\r\n\r\n").await;
        assert_eq!(exchange.body_piece().await.unwrap().unwrap(), "second");
        assert!(exchange.body_piece().await.unwrap().is_none());
        exchange.respond(Reply::json(200, "{}")).await.unwrap();
        assert_eq!(client.head().await.status(), 200);

        let (mut client, mut exchange) = self.download;
        exchange.write("ended").await.unwrap();
        exchange.finish().await.unwrap();
        assert_eq!(client.rest().await.unwrap(), "begun ended");
        self.idle
            .send(&Request::get("/v1/models"))
            .await
            .expect_status(200);
    }
}

#[tokio::test]
async fn what_is_replaced_is_freed_while_requests_that_began_on_it_are_open() {
    let backend = Backend::scripted("b").await;
    let files = Start::new("f").scripted_at_head().start().await;
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join(FILE), Guest::marked().0).unwrap();
    let proxy = Proxy::start_in(folder, &config(0, &backend, &files), &[]).await;
    let mut held = Vec::new();
    for number in 0..SWAPS {
        held.push(Held::begin(&proxy, &backend, &files, number).await);
        let next = config(number + 1, &backend, &files);
        proxy.reload_and_wait(&next).await;
    }
    eventually("only the running generation is in memory", async || {
        let metrics = proxy.metrics().await;
        let snapshots = metrics.sum("sluicegate_snapshots", &[]);
        let plugins = metrics.sum("sluicegate_plugin_pools", &[]);
        let last = format!("marked-{SWAPS}");
        let named = metrics.sum("sluicegate_plugin_pools", &[("slot", &last)]);
        match (snapshots, plugins, named) {
            (1.0, 3.0, 1.0) => Ok(()),
            _ => Err((snapshots, metrics.lines("sluicegate_plugin_pools"))),
        }
    })
    .await;
    assert!(
        shows(&proxy.metrics().await, "main-0"),
        "it is still in use"
    );

    for requests in held {
        requests.finish().await;
    }
    proxy.await_idle().await;
    eventually("pools that are gone are shown no more", async || {
        proxy.admin_get("/admin/pools").await.expect_status(200);
        let metrics = proxy.metrics().await;
        let gone = |number| shows(&metrics, &format!("main-{number}"));
        match (0..SWAPS).any(gone) || !shows(&metrics, &format!("main-{SWAPS}")) {
            false => Ok(()),
            true => Err(metrics.lines("sluicegate_upstream_in_flight")),
        }
    })
    .await;
    assert_eq!(proxy.severe_lines(), Vec::<String>::new());
}

fn shows(metrics: &Metrics, pool: &str) -> bool {
    metrics.has("sluicegate_upstream_in_flight", &[("pool", pool)])
}
