//! Exchanges over real sockets, the backend's side scripted. HTTP/2 is in [`over_h2`], TLS in
//! [`over_tls`], bodies that arrive in parts in [`uploads`].

mod over_h2;
mod over_tls;
mod uploads;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, Method, StatusCode, header};
use tokio::join;
use tokio::task::JoinSet;

use super::testing::{Server, get, identity, pick, pool, pool_config, post, registry, timeouts};
use super::{AttemptError, Exchange, Outgoing, Pool, Retry, UpstreamError};
use crate::config::PoolName;

/// Opens an exchange, whose backend then answers with `answer`.
async fn exchange(pool: &Pool, server: &Server, out: &Outgoing, answer: &[u8]) -> Opened {
    let limits = timeouts();
    let (opened, conn) = join!(Exchange::open(pick(pool), out, &limits), async {
        let mut conn = server.accept().await;
        conn.request().await;
        conn.write(answer).await;
        conn
    });
    Opened {
        exchange: opened,
        _conn: conn,
    }
}

/// What came of it, and the backend's end, which must live as long.
struct Opened {
    exchange: Result<Exchange, AttemptError>,
    _conn: super::testing::Conn<tokio::net::TcpStream>,
}

async fn body(exchange: &mut Exchange) -> Result<Vec<u8>, UpstreamError> {
    let mut body = Vec::new();
    while let Some(bytes) = exchange.chunk().await? {
        assert!(!bytes.is_empty());
        body.extend_from_slice(&bytes);
    }
    Ok(body)
}

fn in_flight(pool: &Pool) -> u32 {
    pool.backends()
        .iter()
        .map(|backend| backend.state.in_flight())
        .sum()
}

#[tokio::test]
async fn head_and_body_leave_in_one_write() {
    let server = Server::start().await;
    let mut backend = server.identity();
    backend.base_path = "/openai".to_owned();
    let pool = pool(&[backend]);
    let mut out = post("{\"model\":\"m\"}");
    out.headers.insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("application/json"),
    );
    let limits = timeouts();
    let (exchange, _conn) = join!(Exchange::open(pick(&pool), &out, &limits), async {
        let mut conn = server.accept().await;
        let request = conn.request().await;
        assert_eq!(
            request.head,
            format!(
                "POST /openai/v1/chat/completions HTTP/1.1\r\nhost: 127.0.0.1:{}\r\n\
                 content-type: application/json\r\ncontent-length: 13\r\n\r\n",
                server.identity().port
            )
        );
        assert_eq!(request.body, b"{\"model\":\"m\"}");
        assert_eq!(request.first_read, request.head.len() + request.body.len());
        conn.write(b"HTTP/1.1 429 Too Many Requests\r\nretry-after: 7\r\nconnection: x-hop\r\nx-hop: 1\r\ncontent-length: 5\r\n\r\nslow!").await;
        conn
    });
    let mut exchange = exchange.unwrap();
    assert_eq!(exchange.status(), StatusCode::TOO_MANY_REQUESTS);
    assert_eq!(exchange.headers()["retry-after"], "7");
    assert!(!exchange.headers().contains_key("x-hop"));
    assert_eq!(exchange.backend().name().as_str(), "p-1");
    assert_eq!(body(&mut exchange).await.unwrap(), b"slow!");
}

#[tokio::test]
async fn a_connection_is_idle_again_before_the_last_bytes_are_handed_on() {
    let server = Server::start().await;
    let (registry, metrics) = registry();
    let pools = registry.pools_of(&[Arc::new(pool_config("p", vec![server.identity()]))]);
    let pool = &pools[&PoolName::new("p")];
    let answers: [&[u8]; 3] = [
        b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nhe\r\n3\r\nllo\r\n0\r\n\r\n",
        b"HTTP/1.1 204 No Content\r\n\r\n",
    ];
    let client = async {
        for round in 0..30 {
            let out = post(format!("{{\"n\":{round}}}"));
            let mut exchange = Exchange::open(pick(pool), &out, &timeouts()).await.unwrap();
            let mut got = 0;
            let expected = if round % 3 == 2 { 0 } else { 5 };
            while got < expected {
                got += exchange.chunk().await.unwrap().unwrap().len();
            }
            // The end itself was never asked for, and yet the next round finds the connection.
            assert_eq!(in_flight(pool), 0, "round {round}");
        }
    };
    let backend = async {
        let mut conn = server.accept().await;
        for round in 0..30 {
            conn.request().await;
            conn.write(answers[round % 3]).await;
        }
        conn
    };
    let ((), _conn) = join!(client, backend);
    assert!(server.is_quiet().await);
    assert_eq!(
        metrics
            .upstream_connections
            .with_label_values(&["p", "p-1"])
            .get(),
        1
    );
    let ok = metrics
        .upstream_attempts
        .with_label_values(&["p", "p-1", "2xx"]);
    assert_eq!(ok.get(), 30);
}

#[tokio::test]
async fn sixteen_clients_open_at_most_sixteen_connections() {
    let server = Arc::new(Server::start().await);
    let (registry, metrics) = registry();
    let pools = registry.pools_of(&[Arc::new(pool_config("p", vec![server.identity()]))]);
    let pool = Arc::clone(&pools[&PoolName::new("p")]);
    let accepting = Arc::clone(&server);
    let mut backend = JoinSet::new();
    backend.spawn(async move {
        let mut connections = JoinSet::new();
        loop {
            let mut conn = accepting.accept().await;
            connections.spawn(async move {
                loop {
                    conn.request().await;
                    conn.answer("200 OK", "{}").await;
                }
            });
        }
    });
    let clients = (0..16).map(|_| async {
        for _ in 0..63 {
            let mut exchange = Exchange::open(pick(&pool), &post("{}"), &timeouts())
                .await
                .unwrap();
            body(&mut exchange).await.unwrap();
        }
    });
    futures::future::join_all(clients).await;
    let opened = metrics
        .upstream_connections
        .with_label_values(&["p", "p-1"])
        .get();
    assert!(opened <= 16, "{opened} connections for 1,008 requests");
}

#[tokio::test]
async fn a_preconnected_connection_serves_the_first_request() {
    let server = Server::start().await;
    let gone = Server::start().await;
    let gone_at = gone.identity();
    drop(gone);
    let (registry, metrics) = registry();
    let pools = registry.pools_of(&[Arc::new(pool_config(
        "p",
        vec![server.identity(), gone_at.clone()],
    ))]);
    // Twice: the second finds it open.
    registry.preconnect(&pools, Duration::from_secs(2)).await;
    registry.preconnect(&pools, Duration::from_secs(2)).await;
    let picked = pools[&PoolName::new("p")].pick(&[gone_at]).unwrap();
    let mut conn = server.accept().await;
    let out = post("{}");
    let timeouts = timeouts();
    let (exchange, ()) = join!(Exchange::open(picked, &out, &timeouts), async {
        conn.request().await;
        conn.answer("200 OK", "{}").await;
    });
    exchange.unwrap();
    assert!(server.is_quiet().await);
    let opened = |name| {
        metrics
            .upstream_connections
            .with_label_values(&["p", name])
            .get()
    };
    assert_eq!((opened("p-1"), opened("p-2")), (1, 0));
}

/// Leaves an idle connection behind and gives the backend's end of it.
async fn warmed(pool: &Pool, server: &Server) -> super::testing::Conn<tokio::net::TcpStream> {
    let out = post("warm");
    let mut opened = exchange(
        pool,
        server,
        &out,
        b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n",
    )
    .await;
    assert_eq!(body(opened.exchange.as_mut().unwrap()).await.unwrap(), b"");
    opened._conn
}

#[tokio::test]
async fn a_kept_connection_that_turns_out_dead_is_replaced() {
    for resets in [false, true] {
        let server = Server::start().await;
        let pool = pool(&[server.identity()]);
        let mut old = warmed(&pool, &server).await;
        let out = post("again");
        let timeouts = timeouts();
        let (exchange, (request, _conn)) =
            join!(Exchange::open(pick(&pool), &out, &timeouts), async {
                // It takes the request and is gone: as when it closes at the moment of reuse.
                old.request().await;
                if resets {
                    old.reset()
                } else {
                    drop(old)
                }
                let mut conn = server.accept().await;
                let request = conn.request().await;
                conn.answer("200 OK", "fresh").await;
                (request, conn)
            });
        assert_eq!(request.body, b"again");
        assert_eq!(body(&mut exchange.unwrap()).await.unwrap(), b"fresh");
        assert!(
            pool.backends()[0].state.failures() == 0,
            "an idle close is no failure"
        );
    }
}

#[tokio::test]
async fn a_fresh_connection_that_closes_is_ambiguous_and_not_repeated() {
    let server = Server::start().await;
    let pool = pool(&[server.identity()]);
    let out = post("once");
    let timeouts = timeouts();
    let (exchange, ()) = join!(Exchange::open(pick(&pool), &out, &timeouts), async {
        server.accept().await.request().await;
    });
    let error = exchange.err().unwrap();
    assert!(
        matches!(error, AttemptError::ClosedBeforeAnswer { reused: false }),
        "{error}"
    );
    assert_eq!(error.retry(), Retry::Ambiguous);
    assert!(server.is_quiet().await);
    assert_eq!(pool.backends()[0].state.failures(), 1);
    assert_eq!(in_flight(&pool), 0);
}

#[tokio::test]
async fn a_connection_that_closes_after_a_byte_of_the_answer_is_never_retried() {
    let server = Server::start().await;
    let pool = pool(&[server.identity()]);
    for answer in ["HTTP/1.1 2", "HTTP/1.1 100 Continue\r\n\r\n"] {
        let mut old = warmed(&pool, &server).await;
        let out = post("again");
        let timeouts = timeouts();
        let (exchange, ()) = join!(Exchange::open(pick(&pool), &out, &timeouts), async {
            old.request().await;
            old.write(answer.as_bytes()).await;
            drop(old);
        });
        let error = exchange.err().unwrap();
        assert_eq!(error.retry(), Retry::Never, "{error}");
        assert!(server.is_quiet().await);
    }
}

#[tokio::test]
async fn a_refused_connection_is_safe_to_retry_and_bodies_of_any_size_arrive_elsewhere() {
    let gone = Server::start().await;
    let gone_at = gone.identity();
    drop(gone);
    let server = Server::start().await;
    let pool = pool(&[gone_at.clone(), server.identity()]);
    for size in [1 << 10, 65_536, 65_537, 1 << 20, 16 << 20] {
        let content: Bytes = (0..=250).cycle().take(size).collect::<Vec<u8>>().into();
        let out = post(content.clone());
        let picked = pool.pick(&[server.identity()]).unwrap();
        let error = Exchange::open(picked, &out, &timeouts())
            .await
            .err()
            .unwrap();
        assert!(matches!(error, AttemptError::Connect(_)), "{error}");
        assert_eq!(error.retry(), Retry::Safe);
        let picked = pool.pick(std::slice::from_ref(&gone_at)).unwrap();
        let timeouts = timeouts();
        let (exchange, conn) = join!(Exchange::open(picked, &out, &timeouts), async {
            let mut conn = server.accept().await;
            let request = conn.request().await;
            assert!(request.body == content, "{size} bytes");
            // Closed, so that each size finds a new connection.
            conn.write(b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 2\r\n\r\nok")
                .await;
            conn
        });
        assert_eq!(body(&mut exchange.unwrap()).await.unwrap(), b"ok");
        drop(conn);
    }
}

#[tokio::test]
async fn an_early_error_answer_ends_the_sending() {
    for closes in [false, true] {
        let server = Server::start().await;
        let pool = pool(&[server.identity()]);
        // More than both socket buffers hold, and the backend reads the head alone.
        let out = post(vec![0; 32 << 20]);
        let timeouts = timeouts();
        let (exchange, mut conn) = join!(Exchange::open(pick(&pool), &out, &timeouts), async {
            let mut conn = server.accept().await;
            conn.head().await;
            conn.answer("413 Payload Too Large", "too large").await;
            if closes {
                tokio::io::AsyncWriteExt::shutdown(&mut conn.stream)
                    .await
                    .unwrap();
            }
            conn
        });
        let mut exchange = exchange.unwrap();
        assert_eq!(exchange.status(), StatusCode::PAYLOAD_TOO_LARGE);
        assert_eq!(body(&mut exchange).await.unwrap(), b"too large");
        // The rest of the request would pass for a new one: the connection is not kept.
        conn.closed().await;
    }
}

#[tokio::test]
async fn interim_answers_are_skipped() {
    let server = Server::start().await;
    let pool = pool(&[server.identity()]);
    let answer = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";
    let opened = exchange(&pool, &server, &post("{}"), answer).await;
    let mut exchange = opened.exchange.unwrap();
    assert_eq!(exchange.status(), StatusCode::OK);
    assert!(!exchange.headers().contains_key("link"));
    assert_eq!(body(&mut exchange).await.unwrap(), b"ok");
}

#[tokio::test]
async fn answers_that_two_parties_could_read_differently_are_refused() {
    let answers: [&[u8]; 6] = [
        b"HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: upgrade\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\ncontent-length : 3\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: 3\r\ncontent-length: 4\r\n\r\nabcd",
        b"SSH-2.0-OpenSSH_9.6\r\n\r\n",
    ];
    let server = Server::start().await;
    let pool = pool(&[server.identity()]);
    for answer in answers {
        let mut opened = exchange(&pool, &server, &post("{}"), answer).await;
        let error = opened.exchange.err().unwrap();
        assert!(matches!(error, AttemptError::Protocol(_)), "{error}");
        assert_eq!(error.retry(), Retry::Never);
        opened._conn.closed().await;
    }
}

#[tokio::test]
async fn a_body_that_is_cut_off_is_an_error_and_stays_one() {
    let heads: [&[u8]; 2] = [
        b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhello",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n",
    ];
    for head in heads {
        for resets in [false, true] {
            let server = Server::start().await;
            let pool = pool(&[server.identity()]);
            let opened = exchange(&pool, &server, &post("{}"), head).await;
            let mut exchange = opened.exchange.unwrap();
            assert_eq!(exchange.chunk().await.unwrap().unwrap(), "hello");
            assert_eq!(in_flight(&pool), 1);
            if resets {
                opened._conn.reset()
            } else {
                drop(opened._conn)
            }
            let error = exchange.chunk().await.unwrap_err();
            match error {
                UpstreamError::Reset(_) => assert!(resets),
                UpstreamError::Truncated(_) => assert!(!resets),
                UpstreamError::Timeout | UpstreamError::Protocol(_) => panic!("{error}"),
            }
            exchange.chunk().await.unwrap_err();
            assert_eq!(in_flight(&pool), 0);
            assert_eq!(pool.backends()[0].state.failures(), 1);
        }
    }
}

#[tokio::test]
async fn what_was_sent_before_a_close_is_still_handed_on() {
    let server = Server::start().await;
    let pool = pool(&[server.identity()]);
    let head = b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhello";
    let opened = exchange(&pool, &server, &post("{}"), head).await;
    drop(opened._conn);
    let mut exchange = opened.exchange.unwrap();
    assert_eq!(exchange.chunk().await.unwrap().unwrap(), "hello");
    assert!(matches!(
        exchange.chunk().await,
        Err(UpstreamError::Truncated(_))
    ));
}

#[tokio::test]
async fn a_body_that_ends_with_its_connection_is_whole() {
    let server = Server::start().await;
    let pool = pool(&[server.identity()]);
    let mut opened = exchange(
        &pool,
        &server,
        &post("{}"),
        b"HTTP/1.1 200 OK\r\n\r\ndata: [DONE]\n\n",
    )
    .await;
    opened._conn.write(b"more").await;
    drop(opened._conn);
    let mut exchange = opened.exchange.unwrap();
    assert_eq!(body(&mut exchange).await.unwrap(), b"data: [DONE]\n\nmore");
    assert_eq!(pool.backends()[0].state.failures(), 0);
}

#[tokio::test]
async fn a_stream_is_handed_on_as_it_comes() {
    let server = Server::start().await;
    let pool = pool(&[server.identity()]);
    let mut opened = exchange(
        &pool,
        &server,
        &post("{}"),
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n",
    )
    .await;
    let mut exchange = opened.exchange.unwrap();
    for n in 0..5 {
        let event = format!("data: {n}\n\n");
        opened
            ._conn
            .write(format!("{:x}\r\n{event}\r\n", event.len()).as_bytes())
            .await;
        assert_eq!(exchange.chunk().await.unwrap().unwrap(), event);
        assert_eq!(in_flight(&pool), 1);
    }
    // A dropped read loses nothing, in the middle of a chunk's head either.
    opened._conn.write(b"7\r\npart").await;
    assert_eq!(exchange.chunk().await.unwrap().unwrap(), "part");
    let waited = tokio::time::timeout(Duration::from_millis(20), exchange.chunk()).await;
    assert!(waited.is_err());
    opened._conn.write(b"ial\r\n0").await;
    assert_eq!(exchange.chunk().await.unwrap().unwrap(), "ial");
    let waited = tokio::time::timeout(Duration::from_millis(20), exchange.chunk()).await;
    assert!(waited.is_err());
    opened._conn.write(b"\r\n\r\n").await;
    assert_eq!(exchange.chunk().await.unwrap(), None);
    assert_eq!(exchange.chunk().await.unwrap(), None);
    assert_eq!(in_flight(&pool), 0);
}

#[tokio::test]
async fn dropping_closes_the_connection_at_once() {
    let mut took = Vec::new();
    for _ in 0..20 {
        let server = Server::start().await;
        let pool = pool(&[server.identity()]);
        // While the head is awaited.
        let (out, limits) = (post("{}"), timeouts());
        let opening = Exchange::open(pick(&pool), &out, &limits);
        let mut conn = {
            let mut opening = std::pin::pin!(opening);
            tokio::select! {
                _ = &mut opening => panic!("nobody answered"),
                conn = async { let mut conn = server.accept().await; conn.request().await; conn } => conn,
            }
        };
        assert_eq!(in_flight(&pool), 0);
        let dropped = std::time::Instant::now();
        conn.closed().await;
        took.push(dropped.elapsed());
        // In the middle of the body.
        let head = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n";
        let mut opened = exchange(&pool, &server, &post("{}"), head).await;
        let mut exchange = opened.exchange.unwrap();
        exchange.chunk().await.unwrap();
        assert_eq!(in_flight(&pool), 1);
        drop(exchange);
        assert_eq!(in_flight(&pool), 0);
        let dropped = std::time::Instant::now();
        opened._conn.closed().await;
        took.push(dropped.elapsed());
        assert_eq!(
            pool.backends()[0].state.failures(),
            0,
            "a client's leaving is no failure"
        );
    }
    took.sort();
    let median = took[took.len() / 2];
    assert!(median < Duration::from_millis(50), "median {median:?}");
}

#[tokio::test]
async fn a_head_request_has_an_answer_without_a_body() {
    let server = Server::start().await;
    let pool = pool(&[server.identity()]);
    let out = Outgoing {
        method: Method::HEAD,
        ..get("/v1/files/f")
    };
    let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n";
    let opened = exchange(&pool, &server, &out, answer).await;
    let mut exchange = opened.exchange.unwrap();
    assert_eq!(exchange.headers()["content-length"], "100");
    assert_eq!(body(&mut exchange).await.unwrap(), b"");
    assert_eq!(in_flight(&pool), 0);
}

#[tokio::test]
async fn silence_ends_by_the_limit_of_its_phase() {
    let server = Server::start().await;
    let pool = pool(&[server.identity()]);
    let mut limits = timeouts();
    limits.first_token = Duration::from_millis(60);
    let out = post("{}");
    let error = Exchange::open(pick(&pool), &out, &limits)
        .await
        .err()
        .unwrap();
    assert!(matches!(error, AttemptError::FirstByteTimeout), "{error}");
    let _first = server.accept().await;

    limits.first_token = Duration::from_secs(20);
    limits.between_bytes = Duration::from_millis(60);
    let head = b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\n";
    let (exchange, mut conn) = join!(Exchange::open(pick(&pool), &out, &limits), async {
        let mut conn = server.accept().await;
        conn.request().await;
        conn.write(head).await;
        conn
    });
    let mut exchange = exchange.unwrap();
    // The first bytes have the first token's time, which is longer here.
    let (first, ()) = join!(exchange.chunk(), async {
        #[expect(clippy::disallowed_methods, reason = "the time itself is tested")]
        tokio::time::sleep(Duration::from_millis(120)).await;
        conn.write(b"hello").await;
    });
    assert_eq!(first.unwrap().unwrap(), "hello");
    assert!(matches!(
        exchange.chunk().await,
        Err(UpstreamError::Timeout)
    ));
    conn.closed().await;
}

#[tokio::test]
async fn a_black_hole_ends_by_the_connect_time_out() {
    // Reserved for documentation (RFC 5737): routed nowhere, or refused at once.
    let pool = pool(&[identity("192.0.2.1", 81)]);
    let mut limits = timeouts();
    limits.connect = Duration::from_millis(50);
    let started = std::time::Instant::now();
    let error = Exchange::open(pick(&pool), &post("{}"), &limits)
        .await
        .err()
        .unwrap();
    assert_eq!(error.retry(), Retry::Safe, "{error}");
    assert!(started.elapsed() < Duration::from_secs(5));
}

#[tokio::test]
async fn error_answers_eject_nobody_and_broken_connections_do() {
    let server = Server::start().await;
    let pool = pool(&[server.identity()]);
    let healthy = || {
        pool.backends()[0]
            .state
            .is_healthy(std::time::Instant::now())
    };
    let mut conn = warmed(&pool, &server).await;
    let (out, limits) = (post("{}"), timeouts());
    for round in 0..50 {
        let status = [
            "400 Bad Request",
            "401 Unauthorized",
            "404 Not Found",
            "429 Too Many Requests",
        ];
        let (exchange, ()) = join!(Exchange::open(pick(&pool), &out, &limits), async {
            conn.request().await;
            conn.answer(status[round % 4], "{}").await;
        });
        body(&mut exchange.unwrap()).await.unwrap();
    }
    assert!(healthy());
    drop(conn);
    for _ in 0..5 {
        let (exchange, ()) = join!(Exchange::open(pick(&pool), &out, &limits), async {
            server.accept().await.request().await;
        });
        assert!(exchange.is_err());
    }
    assert!(!healthy());
    // Nobody else is there, so it is tried all the same, and one whole answer readmits it.
    let mut opened = exchange(
        &pool,
        &server,
        &out,
        b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok",
    )
    .await;
    body(opened.exchange.as_mut().unwrap()).await.unwrap();
    assert!(healthy());
}

#[tokio::test]
async fn a_backend_that_announces_a_short_idle_time_is_not_reused() {
    let server = Server::start().await;
    let pool = pool(&[server.identity()]);
    for _ in 0..2 {
        let answer = b"HTTP/1.1 200 OK\r\nkeep-alive: timeout=1\r\nconnection: keep-alive\r\ncontent-length: 2\r\n\r\nok";
        let mut opened = exchange(&pool, &server, &post("{}"), answer).await;
        body(opened.exchange.as_mut().unwrap()).await.unwrap();
        opened._conn.closed().await;
    }
}

#[test]
fn the_futures_may_move_between_threads() {
    fn is_send<T: Send>(_: impl FnOnce() -> T) {}
    is_send(|| async {
        let pool = Arc::<Pool>::clone(type_only());
        let out = post("{}");
        let mut exchange = Exchange::open(pick(&pool), &out, &timeouts())
            .await
            .unwrap();
        let _ = exchange.chunk().await;
        let mut upload = Exchange::start(pick(&pool), out, None, &timeouts())
            .await
            .unwrap();
        let _ = upload.write(Bytes::new()).await;
        let _ = upload.finish().await;
    });
}

/// Gives a type to a future that is never run.
fn type_only<T>() -> &'static T {
    panic!("only the type is looked at")
}
