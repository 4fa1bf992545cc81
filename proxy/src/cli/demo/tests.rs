//! The tour against a stand-in for the proxy: it must succeed where all is done, and fail at the
//! very step where something is not.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use bytes::Bytes;
use pingora::apps::{HttpServerApp, ReusedHttpStream, ServerApp as _};
use pingora::http::ResponseHeader;
use pingora::protocols::http::ServerSession;
use pingora::protocols::l4::stream::Stream;
use pingora::server::ShutdownWatch;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::*;

const FAST: Pace = Pace {
    first_token: Duration::ZERO,
    token: Duration::ZERO,
};

/// What the stand-in leaves out or gets wrong.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Flaw {
    None,
    WrongLabel,
    LostPicture,
    NoCache,
    NoCompression,
    NoSwap,
    LostRequests,
}

/// Does what the tour expects of the proxy, by looking for words.
struct StandIn {
    flaw: Flaw,
    config: PathBuf,
    backends: HashMap<&'static str, SocketAddr>,
    http: reqwest::Client,
    cache: Mutex<HashMap<String, Bytes>>,
}

struct Answer {
    status: u16,
    headers: Vec<(&'static str, String)>,
    body: Bytes,
}

impl StandIn {
    fn is_swapped(&self) -> bool {
        std::fs::read_to_string(&self.config)
            .unwrap()
            .contains("classifier.wasm")
    }

    fn route(&self, text: &str) -> (&'static str, &'static str, &'static str) {
        if text.contains("image_url") {
            ("multimodal", "vision", "vision-1")
        } else if text.contains("Rust") {
            let label = if self.flaw == Flaw::WrongLabel {
                "chat"
            } else {
                "code"
            };
            (label, "code", "code-1")
        } else if text.contains("refund") {
            ("rag", "research", "research-1")
        } else if text.contains("answers slowly") && self.is_swapped() && self.flaw != Flaw::NoSwap
        {
            ("incident", "oncall", "oncall-1")
        } else {
            ("chat", "general", "general-1")
        }
    }

    async fn chat(&self, mut body: Value) -> Answer {
        let text = body.to_string();
        let (label, pool, backend) = self.route(&text);
        let mut saved = 0;
        if label == "rag" && self.flaw != Flaw::NoCompression {
            body["messages"][0]["content"] = json!(questions::RELEVANT);
            saved = 500;
        }
        if self.flaw == Flaw::LostPicture && label == "multimodal" {
            body["messages"][0]["content"] = json!("What is in this picture?");
        }
        body.as_object_mut().unwrap().remove("sluicegate");
        let stored = self.cache.lock().unwrap().get(&text).cloned();
        let (cache, answer) = match stored.filter(|_| self.flaw != Flaw::NoCache) {
            Some(answer) => ("hit", answer),
            None => ("miss", self.forward(backend, &body).await),
        };
        self.cache
            .lock()
            .unwrap()
            .insert(text.clone(), answer.clone());
        let is_lost = self.flaw == Flaw::LostRequests && text.contains("something nice");
        let (pool, backend) = if cache == "hit" {
            ("", "")
        } else {
            (pool, backend)
        };
        let kind = if body["stream"] == true {
            "text/event-stream"
        } else {
            "application/json"
        };
        Answer {
            status: if is_lost { 503 } else { 200 },
            headers: vec![
                ("content-type", kind.into()),
                ("x-sluicegate-label", label.into()),
                ("x-sluicegate-pool", pool.into()),
                ("x-sluicegate-backend", backend.into()),
                ("x-sluicegate-cache", cache.into()),
                ("x-sluicegate-tokens-saved", saved.to_string()),
                (
                    "server-timing",
                    "parse;dur=0.012, classify;dur=0.031".into(),
                ),
            ],
            body: answer,
        }
    }

    async fn forward(&self, backend: &str, body: &Value) -> Bytes {
        let url = format!("http://{}/v1/chat/completions", self.backends[backend]);
        let answer = self
            .http
            .post(url)
            .body(body.to_string())
            .send()
            .await
            .unwrap();
        answer.bytes().await.unwrap()
    }

    fn admin(&self, path: &str) -> Answer {
        let swapped = self.is_swapped();
        let source = if swapped {
            "classifier.wasm"
        } else {
            "builtin:keyword-classifier"
        };
        let body = match path {
            "/readyz" => json!("ready"),
            "/admin/config" => {
                json!({"generation": 1 + u64::from(swapped), "last_reload_error": null})
            }
            _ => json!({"plugins": [{"slot": "classifier", "source": source}]}),
        };
        Answer {
            status: 200,
            headers: Vec::new(),
            body: body.to_string().into(),
        }
    }
}

#[async_trait]
impl HttpServerApp for StandIn {
    async fn process_new_http(
        self: &Arc<Self>,
        mut session: ServerSession,
        _shutdown: &ShutdownWatch,
    ) -> Option<ReusedHttpStream> {
        session.read_request().await.ok()?;
        let answer = if session.req_header().method == http::Method::POST {
            let mut body = Vec::new();
            while let Some(chunk) = session.read_request_body().await.ok()? {
                body.extend_from_slice(&chunk);
            }
            self.chat(serde_json::from_slice(&body).unwrap()).await
        } else {
            self.admin(session.req_header().uri.path())
        };
        let mut head = ResponseHeader::build(answer.status, None).unwrap();
        head.insert_header("content-length", answer.body.len())
            .unwrap();
        for (name, value) in answer.headers {
            head.insert_header(name, value).unwrap();
        }
        session.set_keepalive(None);
        session.write_response_header(Box::new(head)).await.ok()?;
        session.write_response_body(answer.body, true).await.ok()?;
        session.finish().await.ok()?;
        None
    }
}

/// Takes the tour against a stand-in; whether it succeeded, and what it printed.
async fn tour_with(flaw: Flaw) -> (bool, String) {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let backends = setup::backends(FAST).await.unwrap();
    let folder = Folder::create(Listen::choose(None, true), &backends).unwrap();
    let stand_in = Arc::new(StandIn {
        flaw,
        config: folder.config(),
        backends: backends
            .iter()
            .map(|backend| (backend.name(), backend.address()))
            .collect(),
        http: reqwest::Client::builder()
            .no_proxy()
            .tls_certs_only([])
            .build()
            .unwrap(),
        cache: Mutex::default(),
    });
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (_never, shutdown) = watch::channel(false);
    let mut serving = JoinSet::new();
    serving.spawn(async move {
        let mut connections = JoinSet::new();
        while let Ok((socket, _)) = listener.accept().await {
            let (stand_in, shutdown) = (stand_in.clone(), shutdown.clone());
            connections.spawn(async move {
                stand_in
                    .process_new(Box::new(Stream::from(socket)), &shutdown)
                    .await
            });
        }
    });
    let client = Client::new(address, address).unwrap();
    client.ready(START_LIMIT).await.unwrap();
    let mut printed = Vec::new();
    let mut report = Report::new(&mut printed, false);
    let mut tour = Tour::new(&client, &backends, &folder, b"component");
    let succeeded = take_tour(&mut tour, &mut report).await.unwrap();
    (succeeded, String::from_utf8(printed).unwrap())
}

/// Number of the only step that failed, and its failed checks.
async fn failing_step(flaw: Flaw) -> (usize, String) {
    let (succeeded, printed) = tour_with(flaw).await;
    assert!(!succeeded, "{printed}");
    assert!(
        printed.contains("4 of 5 steps did what they say."),
        "{printed}"
    );
    let (before, _) = printed.split_once('✗').unwrap();
    let number = (1..=Tour::TITLES.len())
        .rfind(|number| before.contains(Tour::TITLES[number - 1]))
        .unwrap();
    let failed: Vec<&str> = printed.lines().filter(|line| line.contains('✗')).collect();
    (number, failed.join("\n"))
}

#[tokio::test]
async fn a_proxy_that_does_it_all_is_reported_step_by_step() {
    let (succeeded, printed) = tour_with(Flaw::None).await;
    assert!(succeeded, "{printed}");
    for title in Tour::TITLES {
        assert!(printed.contains(title), "{title}\n{printed}");
    }
    assert!(
        printed.contains("5 of 5 steps did what they say."),
        "{printed}"
    );
    assert!(
        printed.contains("  backend       code-1 of pool code\n"),
        "{printed}"
    );
    assert!(
        printed.contains("  stages, ms    parse 0.012 · classify 0.031\n"),
        "{printed}"
    );
    assert!(
        printed.contains("  backend       none was asked\n"),
        "{printed}"
    );
    assert!(!printed.contains('✗'), "{printed}");
    assert!(
        printed.lines().all(|line| line.chars().count() <= 120),
        "{printed}"
    );
}

#[tokio::test]
async fn a_wrong_label_fails_the_first_step() {
    let (step, failed) = failing_step(Flaw::WrongLabel).await;
    assert_eq!(
        (step, failed.as_str()),
        (1, "  ✗ the label is code, but was chat")
    );
}

#[tokio::test]
async fn a_lost_picture_fails_the_second_step() {
    assert_eq!(failing_step(Flaw::LostPicture).await.0, 2);
}

#[tokio::test]
async fn a_repeat_that_reaches_a_backend_fails_the_third_step() {
    let (step, failed) = failing_step(Flaw::NoCache).await;
    assert_eq!(step, 3);
    assert!(failed.contains("no backend was asked"), "{failed}");
}

#[tokio::test]
async fn a_prompt_that_arrives_whole_fails_the_fourth_step() {
    let (step, failed) = failing_step(Flaw::NoCompression).await;
    assert_eq!(step, 4);
    assert!(failed.contains("0 tokens were saved"), "{failed}");
}

#[tokio::test]
async fn a_swap_without_effect_fails_the_fifth_step() {
    let (step, failed) = failing_step(Flaw::NoSwap).await;
    assert_eq!(step, 5);
    assert!(
        failed.contains("the pool, now, is oncall, but was general"),
        "{failed}"
    );
}

#[tokio::test]
async fn a_request_that_fails_during_the_swap_fails_the_fifth_step() {
    let (step, failed) = failing_step(Flaw::LostRequests).await;
    assert_eq!(step, 5);
    assert!(failed.contains("failed"), "{failed}");
}
