//! The app over an in-memory connection, byte by byte as clients send it.

use std::sync::atomic::{AtomicU64, Ordering};

use async_trait::async_trait;
use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream};
use tokio::task::JoinSet;

use super::*;
use crate::admin::{ConfigView, KeptPlugin, ReloadRefused, Reloaded};
use crate::config::Secret;

#[derive(Default)]
struct Fake {
    reloads: AtomicU64,
}

#[async_trait]
impl Views for Fake {
    fn plugins(&self) -> Value {
        json!([{"slot": "classifier"}])
    }

    fn pools(&self) -> Value {
        json!([])
    }

    fn config(&self) -> ConfigView {
        ConfigView {
            generation: 3,
            config: json!({}),
            last_reload_error: Some("line 1".into()),
            kept: Vec::new(),
        }
    }

    /// The first reload succeeds, further ones are refused.
    async fn reload(&self) -> Result<Reloaded, ReloadRefused> {
        match self.reloads.fetch_add(1, Ordering::Relaxed) {
            0 => Ok(Reloaded {
                generation: 4,
                kept: vec![KeptPlugin {
                    slot: "words".into(),
                    problems: vec!["not wasm".into()],
                }],
            }),
            _ => Err(ReloadRefused {
                message: "bad".into(),
                problems: vec![json!("x")],
            }),
        }
    }

    fn clear_cache(&self) -> u64 {
        7
    }

    fn ready(&self) -> Readiness {
        Readiness::Starting
    }

    fn metrics_text(&self) -> String {
        "up 1\n".into()
    }
}

/// One connection to an app.
struct Connection {
    client: DuplexStream,
    _serving: JoinSet<()>,
}

impl Connection {
    fn open(token: Option<&str>) -> Self {
        let listen = "127.0.0.1:9090".parse().unwrap();
        let gate = Gate::new(listen, token.map(Secret::new).as_ref(), Scope::All);
        let app = App::new(Arc::new(Fake::default()), gate, Scope::All);
        let (client, server) = tokio::io::duplex(1 << 20);
        let mut serving = JoinSet::new();
        serving.spawn(async move {
            serve(&app, server).await;
        });
        Self {
            client,
            _serving: serving,
        }
    }

    /// Sends a request head as written, `host` added, and reads one answer.
    async fn ask(&mut self, head: &str) -> (u16, String, String) {
        let head = format!(
            "{}\r\nhost: localhost:9090\r\n\r\n",
            head.replace('\n', "\r\n")
        );
        self.client.write_all(head.as_bytes()).await.unwrap();
        self.answer(head.starts_with("HEAD")).await
    }

    /// Status, head and body of the next answer.
    async fn answer(&mut self, is_head: bool) -> (u16, String, String) {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(self.client.read_u8().await.unwrap());
        }
        let head = String::from_utf8(head).unwrap().to_lowercase();
        let length = head.split("content-length: ").nth(1).map_or(0, |rest| {
            rest.split("\r\n").next().unwrap().parse().unwrap()
        });
        let mut body = vec![0; if is_head { 0 } else { length }];
        self.client.read_exact(&mut body).await.unwrap();
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        (status, head, String::from_utf8(body).unwrap())
    }

    async fn is_closed(&mut self) -> bool {
        matches!(self.client.read_u8().await, Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof)
    }
}

/// Serves a connection for as long as its requests can be read.
async fn serve(app: &App, server: DuplexStream) -> Option<()> {
    let mut stream: pingora::protocols::Stream = Box::new(server);
    loop {
        let mut session = ServerSession::new_http1(stream);
        session.read_request().await.ok()?.then_some(())?;
        app.serve(&mut session).await?;
        (stream, _) = session.finish().await.ok()??.into_parts();
    }
}

fn parsed(body: &str) -> Value {
    serde_json::from_str(body).unwrap()
}

#[tokio::test]
async fn one_connection_serves_every_path() {
    let mut connection = Connection::open(None);
    let ask = &mut connection;
    assert_eq!(ask.ask("GET /livez HTTP/1.1").await.2, "alive");
    let (status, _, word) = ask.ask("GET /readyz HTTP/1.1").await;
    assert_eq!((status, word.as_str()), (503, "starting"));
    let (_, head, text) = ask.ask("GET /metrics?x=1 HTTP/1.1").await;
    assert!(
        head.contains("content-type: text/plain; version=0.0.4"),
        "{head}"
    );
    assert_eq!(text, "up 1\n");
    let (_, _, plugins) = ask.ask("GET /admin/plugins HTTP/1.1").await;
    assert_eq!(parsed(&plugins)["plugins"][0]["slot"], "classifier");
    assert_eq!(
        parsed(&ask.ask("GET /admin/pools HTTP/1.1").await.2)["pools"],
        json!([])
    );
    let config = parsed(&ask.ask("GET /admin/config HTTP/1.1").await.2);
    assert_eq!(config["generation"], 3);
    assert_eq!(config["last_reload_error"], "line 1");
    let (_, _, cleared) = ask
        .ask("POST /cache/clear HTTP/1.1\ncontent-length: 0")
        .await;
    assert_eq!(parsed(&cleared), json!({"cleared": 7}));
    let (status, _, reloaded) = ask
        .ask("POST /admin/reload HTTP/1.1\ncontent-length: 0")
        .await;
    let kept = json!([{"slot": "words", "problems": ["not wasm"]}]);
    let expected = json!({"generation": 4, "kept": kept});
    assert_eq!((status, parsed(&reloaded)), (200, expected));
    let (status, _, refused) = ask
        .ask("POST /admin/reload HTTP/1.1\ncontent-length: 0")
        .await;
    assert_eq!(
        (status, &parsed(&refused)["error"]["problems"]),
        (422, &json!(["x"]))
    );
    let (status, head, _) = ask.ask("GET /cache/clear HTTP/1.1").await;
    assert_eq!(status, 405);
    assert!(head.contains("allow: post"), "{head}");
    assert_eq!(ask.ask("GET /nothing HTTP/1.1").await.0, 404);
}

#[tokio::test]
async fn a_head_request_has_no_body_and_keeps_the_connection() {
    let mut connection = Connection::open(None);
    let (status, head, _) = connection.ask("HEAD /metrics HTTP/1.1").await;
    assert_eq!(status, 200);
    assert!(head.contains("content-length: 5"), "{head}");
    assert_eq!(connection.ask("GET /livez HTTP/1.1").await.2, "alive");
}

#[tokio::test]
async fn without_the_token_only_probes_are_answered() {
    let mut connection = Connection::open(Some("s3cret"));
    assert_eq!(connection.ask("GET /livez HTTP/1.1").await.0, 200);
    let (status, head, body) = connection.ask("GET /metrics HTTP/1.1").await;
    assert_eq!(status, 401);
    assert!(head.contains("www-authenticate: bearer"), "{head}");
    assert_eq!(parsed(&body)["error"]["code"], "missing_token");
    // Not even which paths exist.
    assert_eq!(connection.ask("GET /nothing HTTP/1.1").await.0, 401);
    let with_token = "GET /metrics HTTP/1.1\nauthorization: Bearer s3cret";
    assert_eq!(connection.ask(with_token).await.0, 200);
}

#[tokio::test]
async fn a_web_page_cannot_order_anything() {
    let mut connection = Connection::open(None);
    let request = "POST /cache/clear HTTP/1.1\ncontent-length: 0\norigin: http://evil.example";
    assert_eq!(connection.ask(request).await.0, 403);
}

#[tokio::test]
async fn a_target_with_another_host_is_not_served() {
    let mut connection = Connection::open(None);
    let own = "GET http://localhost:9090/livez HTTP/1.1";
    assert_eq!(connection.ask(own).await.2, "alive");
    let foreign = b"GET http://evil.example/livez HTTP/1.1\r\nhost: localhost:9090\r\n\r\n";
    connection.client.write_all(foreign).await.unwrap();
    assert!(connection.is_closed().await);
}

#[tokio::test]
async fn a_body_is_read_and_thrown_away() {
    let mut connection = Connection::open(None);
    let request =
        b"POST /cache/clear HTTP/1.1\r\nhost: localhost\r\ncontent-length: 5\r\n\r\nhello";
    connection.client.write_all(request).await.unwrap();
    assert_eq!(connection.answer(false).await.0, 200);
    assert_eq!(connection.ask("GET /livez HTTP/1.1").await.2, "alive");
}

#[tokio::test]
async fn a_client_that_waits_for_leave_to_send_its_body_gets_it() {
    let mut connection = Connection::open(None);
    let request = "POST /cache/clear HTTP/1.1\ncontent-length: 2\nexpect: 100-continue";
    assert_eq!(connection.ask(request).await.0, 100);
    connection.client.write_all(b"{}").await.unwrap();
    assert_eq!(connection.answer(false).await.0, 200);
}

#[tokio::test]
async fn a_large_body_is_refused_and_the_connection_closed() {
    let mut connection = Connection::open(None);
    let size = MAX_BODY_BYTES + 1;
    let head =
        format!("POST /cache/clear HTTP/1.1\r\nhost: localhost\r\ncontent-length: {size}\r\n\r\n");
    connection.client.write_all(head.as_bytes()).await.unwrap();
    connection
        .client
        .write_all(&vec![b'x'; size])
        .await
        .unwrap();
    let (status, _, body) = connection.answer(false).await;
    assert_eq!(
        (status, &parsed(&body)["error"]["code"]),
        (413, &json!("body_too_large"))
    );
    assert!(connection.is_closed().await);
}

#[tokio::test(start_paused = true)]
async fn a_body_that_never_comes_is_not_waited_for() {
    let mut connection = Connection::open(None);
    let request = "POST /cache/clear HTTP/1.1\ncontent-length: 10";
    assert_eq!(connection.ask(request).await.0, 408);
    assert!(connection.is_closed().await);
}
