//! Requests whose bodies arrive in parts.

use bytes::Bytes;
use http::StatusCode;
use tokio::join;

use super::super::testing::{Server, pick, pool, post, timeouts};
use super::super::{AttemptError, Exchange, Wrote};
use super::{body, in_flight, warmed};

#[tokio::test]
async fn a_body_of_known_length_arrives_as_it_came() {
    let server = Server::start().await;
    let pool = pool(&[server.identity()]);
    let limits = timeouts();
    let client = async {
        let started = Exchange::start(pick(&pool), post(""), Some(11), &limits).await;
        let mut upload = started.unwrap();
        assert_eq!(
            upload.write(Bytes::from_static(b"hello ")).await.unwrap(),
            Wrote::More
        );
        assert_eq!(
            upload.write(Bytes::from_static(b"world")).await.unwrap(),
            Wrote::More
        );
        body(&mut upload.finish().await.unwrap()).await.unwrap()
    };
    let (answer, _conn) = join!(client, async {
        let mut conn = server.accept().await;
        let request = conn.request().await;
        assert!(request.head.contains("content-length: 11\r\n"));
        assert!(
            request.first_read > request.head.len(),
            "the first part leaves with the head"
        );
        assert_eq!(request.body, b"hello world");
        conn.answer("200 OK", "done").await;
        conn
    });
    assert_eq!(answer, b"done");
    assert_eq!(in_flight(&pool), 0);
}

#[tokio::test]
async fn a_body_of_unknown_length_is_chunked() {
    let server = Server::start().await;
    let pool = pool(&[server.identity()]);
    let limits = timeouts();
    let client = async {
        let mut upload = Exchange::start(pick(&pool), post(""), None, &limits)
            .await
            .unwrap();
        for part in ["hello ", "", "world, this is long"] {
            assert_eq!(
                upload
                    .write(Bytes::from_static(part.as_bytes()))
                    .await
                    .unwrap(),
                Wrote::More
            );
        }
        body(&mut upload.finish().await.unwrap()).await.unwrap()
    };
    let (answer, _conn) = join!(client, async {
        let mut conn = server.accept().await;
        let request = conn.until(b"0\r\n\r\n").await;
        let request = String::from_utf8(request).unwrap();
        assert!(
            request.contains("transfer-encoding: chunked\r\n\r\n"),
            "{request}"
        );
        assert!(
            request.ends_with("\r\n\r\n6\r\nhello \r\n13\r\nworld, this is long\r\n0\r\n\r\n"),
            "{request}"
        );
        conn.answer("200 OK", "done").await;
        conn
    });
    assert_eq!(answer, b"done");
}

#[tokio::test]
async fn a_large_body_is_relayed_byte_for_byte() {
    let server = Server::start().await;
    let pool = pool(&[server.identity()]);
    let limits = timeouts();
    let content: Vec<u8> = (0..=250).cycle().take(16 << 20).collect();
    let client = async {
        let length = Some(content.len() as u64);
        let mut upload = Exchange::start(pick(&pool), post(""), length, &limits)
            .await
            .unwrap();
        for part in content.chunks(100_003) {
            assert_eq!(
                upload.write(Bytes::copy_from_slice(part)).await.unwrap(),
                Wrote::More
            );
        }
        upload.finish().await.unwrap().status()
    };
    let (status, _conn) = join!(client, async {
        let mut conn = server.accept().await;
        let request = conn.request().await;
        assert!(request.body == content);
        conn.answer("200 OK", "").await;
        conn
    });
    assert_eq!(status, StatusCode::OK);
}

#[tokio::test]
async fn a_small_body_outlives_a_dead_kept_connection() {
    for (length, dies_early) in [
        (Some(9), false),
        (None, false),
        (Some(9), true),
        (None, true),
    ] {
        let server = Server::start().await;
        let pool = pool(&[server.identity()]);
        let mut old = warmed(&pool, &server).await;
        let limits = timeouts();
        let (gone, is_gone) = tokio::sync::oneshot::channel();
        let client = async {
            let mut upload = Exchange::start(pick(&pool), post(""), length, &limits)
                .await
                .unwrap();
            assert_eq!(
                upload.write(Bytes::from_static(b"first")).await.unwrap(),
                Wrote::More
            );
            if dies_early {
                is_gone.await.unwrap();
            }
            assert_eq!(
                upload.write(Bytes::from_static(b"last")).await.unwrap(),
                Wrote::More
            );
            body(&mut upload.finish().await.unwrap()).await.unwrap()
        };
        let (answer, _conn) = join!(client, async {
            old.until(if dies_early { b"first" } else { b"last" }).await;
            old.reset();
            let _ = gone.send(());
            let mut conn = server.accept().await;
            if length.is_some() {
                assert_eq!(conn.request().await.body, b"firstlast");
            } else {
                let sent = String::from_utf8(conn.until(b"0\r\n\r\n").await).unwrap();
                assert!(
                    sent.ends_with("\r\n\r\n9\r\nfirstlast\r\n0\r\n\r\n"),
                    "{sent}"
                );
            }
            conn.answer("200 OK", "fresh").await;
            conn
        });
        assert_eq!(answer, b"fresh", "{length:?}, early: {dies_early}");
    }
}

#[tokio::test]
async fn an_early_answer_stops_the_upload_and_is_handed_on() {
    let server = Server::start().await;
    let pool = pool(&[server.identity()]);
    let limits = timeouts();
    let client = async {
        let mut upload = Exchange::start(pick(&pool), post(""), None, &limits)
            .await
            .unwrap();
        let mut parts = 0;
        while upload
            .write(Bytes::from(vec![b'x'; 1 << 20]))
            .await
            .unwrap()
            == Wrote::More
        {
            parts += 1;
            assert!(parts < 1_000, "the answer went unnoticed");
        }
        let mut exchange = upload.finish().await.unwrap();
        (exchange.status(), body(&mut exchange).await.unwrap())
    };
    let ((status, body), _conn) = join!(client, async {
        let mut conn = server.accept().await;
        conn.head().await;
        conn.answer("413 Payload Too Large", "too large").await;
        conn
    });
    assert_eq!(
        (status, body.as_slice()),
        (StatusCode::PAYLOAD_TOO_LARGE, &b"too large"[..])
    );
}

#[tokio::test]
async fn a_body_of_the_wrong_length_ends_the_exchange_and_blames_no_backend() {
    let server = Server::start().await;
    let pool = pool(&[server.identity()]);
    let limits = timeouts();
    let mut upload = Exchange::start(pick(&pool), post(""), Some(3), &limits)
        .await
        .unwrap();
    let error = upload
        .write(Bytes::from_static(b"four"))
        .await
        .err()
        .unwrap();
    assert!(matches!(error, AttemptError::Request(_)), "{error}");
    drop(upload);
    server.accept().await.closed().await;

    let mut upload = Exchange::start(pick(&pool), post(""), Some(3), &limits)
        .await
        .unwrap();
    assert_eq!(
        upload.write(Bytes::from_static(b"on")).await.unwrap(),
        Wrote::More
    );
    let error = upload.finish().await.err().unwrap();
    assert!(matches!(error, AttemptError::Request(_)), "{error}");
    server.accept().await.closed().await;
    assert_eq!(in_flight(&pool), 0);
    assert_eq!(pool.backends()[0].state.failures(), 0);
}
