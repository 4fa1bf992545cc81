//! Backends that speak HTTP/2: by prior knowledge, and by ALPN.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use h2::server::{Connection, SendResponse};
use h2::{Reason, RecvStream, SendStream};
use http::{Request, Response, StatusCode};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::join;
use tokio::task::JoinSet;

use super::super::testing::{Server, pick, pool, post, timeouts};
use super::super::{AttemptError, Exchange, Pool, Retry, UpstreamError, Wrote};
use super::over_tls::Authority;
use super::{body, in_flight};
use crate::config::Protocol;

/// A backend's end of a connection, driven in the background, which hands requests over.
struct H2 {
    requests: tokio::sync::mpsc::UnboundedReceiver<(Request<RecvStream>, SendResponse<Bytes>)>,
    _serving: JoinSet<()>,
}

impl H2 {
    async fn new<S: AsyncRead + AsyncWrite + Unpin + Send + 'static>(stream: S) -> Self {
        // Requests are read one after the other: those that wait must not shut the window of the
        // connection. That of a stream stays at 64 KiB.
        let mut server = h2::server::Builder::new();
        server.initial_connection_window_size(16 << 20);
        let mut connection: Connection<S, Bytes> = server.handshake(stream).await.unwrap();
        let (hand_over, requests) = tokio::sync::mpsc::unbounded_channel();
        let mut serving = JoinSet::new();
        serving.spawn(async move {
            while let Some(Ok(accepted)) = connection.accept().await {
                let _ = hand_over.send(accepted);
            }
        });
        Self {
            requests,
            _serving: serving,
        }
    }

    async fn request(&mut self) -> (Request<Vec<u8>>, SendResponse<Bytes>) {
        let (request, respond) = self.requests.recv().await.unwrap();
        let (parts, mut incoming) = request.into_parts();
        let mut body = Vec::new();
        while let Some(data) = incoming.data().await {
            let data = data.unwrap();
            incoming
                .flow_control()
                .release_capacity(data.len())
                .unwrap();
            body.extend_from_slice(&data);
        }
        (Request::from_parts(parts, body), respond)
    }
}

fn head(respond: &mut SendResponse<Bytes>, status: u16, end: bool) -> SendStream<Bytes> {
    respond
        .send_response(Response::builder().status(status).body(()).unwrap(), end)
        .unwrap()
}

fn answer(mut respond: SendResponse<Bytes>, text: &'static str) {
    let mut body = head(&mut respond, 200, false);
    body.send_data(Bytes::from_static(text.as_bytes()), true)
        .unwrap();
}

fn h2_pool(server: &Server) -> Arc<Pool> {
    let mut identity = server.identity();
    identity.protocol = Protocol::Http2;
    identity.base_path = "/openai".to_owned();
    pool(&[identity])
}

#[tokio::test]
async fn requests_share_one_connection() {
    let server = Server::start().await;
    let pool = h2_pool(&server);
    let clients = futures::future::join_all((0..20).map(|_| async {
        let out = post(vec![7; 100_000]);
        let mut exchange = Exchange::open(pick(&pool), &out, &timeouts())
            .await
            .unwrap();
        body(&mut exchange).await.unwrap()
    }));
    let (bodies, _h2) = join!(clients, async {
        let mut h2 = H2::new(server.accept().await.stream).await;
        for _ in 0..20 {
            let (request, respond) = h2.request().await;
            assert_eq!(request.uri().path(), "/openai/v1/chat/completions");
            let authority = request.uri().authority().unwrap().as_str();
            assert_eq!(authority, format!("127.0.0.1:{}", server.identity().port));
            assert_eq!(request.headers()["content-length"], "100000");
            assert_eq!(request.body().len(), 100_000);
            answer(respond, "ok");
        }
        h2
    });
    assert!(bodies.iter().all(|body| body == b"ok"));
    assert!(server.is_quiet().await);
    assert_eq!(in_flight(&pool), 0);
}

#[tokio::test]
async fn alpn_over_tls() {
    let server = Server::start().await;
    let authority = Authority::new(&[b"h2"]);
    let mut identity = authority.identity(&server);
    identity.protocol = Protocol::Http2;
    let pool = pool(&[identity]);
    let (out, limits) = (post("{}"), timeouts());
    let (exchange, _h2) = join!(Exchange::open(pick(&pool), &out, &limits), async {
        let mut h2 = H2::new(authority.accept(&server).await.unwrap()).await;
        let (request, respond) = h2.request().await;
        assert!(
            request
                .uri()
                .authority()
                .unwrap()
                .as_str()
                .starts_with("backend.test:")
        );
        answer(respond, "ok");
        h2
    });
    assert_eq!(body(&mut exchange.unwrap()).await.unwrap(), b"ok");
}

#[tokio::test]
async fn dropping_resets_the_stream_and_spares_the_connection() {
    let server = Server::start().await;
    let pool = h2_pool(&server);
    let (out, limits) = (post("{}"), timeouts());
    let mut took = Vec::new();
    let (first, mut h2) = join!(Exchange::open(pick(&pool), &out, &limits), async {
        let mut h2 = H2::new(server.accept().await.stream).await;
        let (_, respond) = h2.request().await;
        answer(respond, "warm");
        h2
    });
    body(&mut first.unwrap()).await.unwrap();
    for _ in 0..20 {
        // While the head is awaited.
        let mut opening = Box::pin(Exchange::open(pick(&pool), &out, &limits));
        let (_, mut respond) = tokio::select! {
            _ = &mut opening => panic!("nobody answered"),
            request = h2.request() => request,
        };
        drop(opening);
        assert_eq!(in_flight(&pool), 0);
        let dropped = std::time::Instant::now();
        let reset = std::future::poll_fn(|cx| respond.poll_reset(cx)).await;
        assert_eq!(reset.unwrap(), Reason::CANCEL);
        took.push(dropped.elapsed());
        // In the middle of the body.
        let (exchange, (_respond, mut sending)) =
            join!(Exchange::open(pick(&pool), &out, &limits), async {
                let (_, mut respond) = h2.request().await;
                let mut sending = head(&mut respond, 200, false);
                sending
                    .send_data(Bytes::from_static(b"data: 1"), false)
                    .unwrap();
                (respond, sending)
            });
        let mut exchange = exchange.unwrap();
        assert_eq!(exchange.chunk().await.unwrap().unwrap(), "data: 1");
        assert_eq!(in_flight(&pool), 1);
        drop(exchange);
        assert_eq!(in_flight(&pool), 0);
        let dropped = std::time::Instant::now();
        let reset = std::future::poll_fn(|cx| sending.poll_reset(cx)).await;
        assert_eq!(reset.unwrap(), Reason::CANCEL);
        took.push(dropped.elapsed());
    }
    assert!(server.is_quiet().await, "the connection lives on");
    took.sort();
    let median = took[took.len() / 2];
    assert!(median < Duration::from_millis(50), "median {median:?}");
}

#[tokio::test]
async fn a_refused_stream_is_safe_to_retry_and_blames_no_backend() {
    let server = Server::start().await;
    let pool = h2_pool(&server);
    let (out, limits) = (post("{}"), timeouts());
    let (exchange, _h2) = join!(Exchange::open(pick(&pool), &out, &limits), async {
        let mut h2 = H2::new(server.accept().await.stream).await;
        let (_, mut respond) = h2.request().await;
        respond.send_reset(Reason::REFUSED_STREAM);
        h2
    });
    let error = exchange.err().unwrap();
    assert!(matches!(error, AttemptError::Refused(_)), "{error}");
    assert_eq!(error.retry(), Retry::Safe);
    assert_eq!(pool.backends()[0].state.failures(), 0);
}

#[tokio::test]
async fn a_stream_reset_before_the_head_is_ambiguous_and_after_it_an_error() {
    let server = Server::start().await;
    let pool = h2_pool(&server);
    let (out, limits) = (post("{}"), timeouts());
    let (exchange, mut h2) = join!(Exchange::open(pick(&pool), &out, &limits), async {
        let mut h2 = H2::new(server.accept().await.stream).await;
        let (_, mut respond) = h2.request().await;
        respond.send_reset(Reason::INTERNAL_ERROR);
        h2
    });
    let error = exchange.err().unwrap();
    assert_eq!(error.retry(), Retry::Ambiguous, "{error}");

    let (exchange, mut sending) = join!(Exchange::open(pick(&pool), &out, &limits), async {
        let (_, mut respond) = h2.request().await;
        let mut sending = head(&mut respond, 200, false);
        sending
            .send_data(Bytes::from_static(b"data: 1"), false)
            .unwrap();
        sending
    });
    let mut exchange = exchange.unwrap();
    assert_eq!(exchange.chunk().await.unwrap().unwrap(), "data: 1");
    sending.send_reset(Reason::INTERNAL_ERROR);
    assert!(matches!(
        exchange.chunk().await,
        Err(UpstreamError::Reset(_))
    ));
    assert!(exchange.chunk().await.is_err(), "and stays one");
    assert_eq!(in_flight(&pool), 0);
}

#[tokio::test]
async fn a_shared_connection_that_died_is_replaced() {
    let server = Server::start().await;
    let pool = h2_pool(&server);
    let (out, limits) = (post("{}"), timeouts());
    let (exchange, h2) = join!(Exchange::open(pick(&pool), &out, &limits), async {
        let mut h2 = H2::new(server.accept().await.stream).await;
        answer(h2.request().await.1, "first");
        h2
    });
    body(&mut exchange.unwrap()).await.unwrap();
    let (exchange, _h2) = join!(Exchange::open(pick(&pool), &out, &limits), async {
        let mut old = h2;
        // It takes the request and is gone.
        old.request().await;
        drop(old);
        let mut h2 = H2::new(server.accept().await.stream).await;
        answer(h2.request().await.1, "second");
        h2
    });
    assert_eq!(body(&mut exchange.unwrap()).await.unwrap(), b"second");
}

#[tokio::test]
async fn an_early_answer_ends_the_sending() {
    let server = Server::start().await;
    let pool = h2_pool(&server);
    let limits = timeouts();
    // More than the backend's window: it never reads the body.
    let out = post(vec![0; 4 << 20]);
    let (exchange, h2) = join!(Exchange::open(pick(&pool), &out, &limits), async {
        let mut h2 = H2::new(server.accept().await.stream).await;
        let (request, mut respond) = h2.requests.recv().await.unwrap();
        let mut sending = head(&mut respond, 413, false);
        sending
            .send_data(Bytes::from_static(b"too large"), true)
            .unwrap();
        (h2, request)
    });
    let mut exchange = exchange.unwrap();
    assert_eq!(exchange.status(), StatusCode::PAYLOAD_TOO_LARGE);
    assert_eq!(body(&mut exchange).await.unwrap(), b"too large");
    drop(h2);
}

#[tokio::test]
async fn a_body_in_parts_arrives_whole() {
    let server = Server::start().await;
    let pool = h2_pool(&server);
    let limits = timeouts();
    let client = async {
        let mut upload = Exchange::start(pick(&pool), post(""), None, &limits)
            .await
            .unwrap();
        for _ in 0..50 {
            assert_eq!(
                upload.write(Bytes::from(vec![b'x'; 10_000])).await.unwrap(),
                Wrote::More
            );
        }
        body(&mut upload.finish().await.unwrap()).await.unwrap()
    };
    let (got, _h2) = join!(client, async {
        let mut h2 = H2::new(server.accept().await.stream).await;
        let (request, respond) = h2.request().await;
        assert!(!request.headers().contains_key("content-length"));
        assert!(*request.body() == vec![b'x'; 500_000]);
        answer(respond, "ok");
        h2
    });
    assert_eq!(got, b"ok");
    assert_eq!(in_flight(&pool), 0);
}
