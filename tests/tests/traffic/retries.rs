//! Which failures are tried again, where, and whom they count against.

use serde_json::json;
use sluicegate_tests::{
    ANSWER, Backend, Config, Pool, Proxy, Reply, Route, Start, ask, chat_with, eventually,
};

#[tokio::test]
async fn fifty_client_errors_shut_nobody_out() {
    let backend = Backend::model("b").await;
    let pool = Pool::new("main").backend(&backend).health();
    let proxy = Proxy::start(&Config::new().pool(pool)).await;
    let mut client = proxy.client().await;
    for turn in 0..50 {
        let status: u16 = [400, 401, 404, 429][turn % 4];
        let request = chat_with("hi", &json!({"mock": {"status": status}}));
        let answer = client.send(&request).await.expect_status(status);
        assert_eq!(answer.error_code(), format!("mock_{status}"));
    }
    client.send(&ask("hi")).await.expect_status(200);
    assert_eq!(backend.request_count(), 51, "4xx are not tried again");
    assert_eq!(
        proxy
            .metrics()
            .await
            .sum("sluicegate_upstream_healthy", &[]),
        1.0
    );
}

#[tokio::test]
async fn gateway_errors_are_tried_again_on_another_backend() {
    for status in [502, 503, 504] {
        let (bad, good) = (Backend::model("bad").await, Backend::model("good").await);
        bad.behave(|behaviour| behaviour.status = Some(status));
        let pool = Pool::new("main").backend(&bad).backend(&good);
        let proxy = Proxy::start(&Config::new().pool(pool)).await;
        for _ in 0..6 {
            proxy.send(&ask("hi")).await.expect_status(200);
        }
        assert_eq!(good.request_count(), 6);
    }
}

#[tokio::test]
async fn internal_error_is_passed_on_at_the_first_attempt() {
    let backend = Backend::model("b").await;
    backend.behave(|behaviour| behaviour.status = Some(500));
    let proxy = Proxy::start(&Config::one(&backend)).await;
    let answer = proxy.send(&ask("hi")).await.expect_status(500);
    assert_eq!(answer.error_code(), "mock_500");
    assert_eq!(backend.request_count(), 1);
}

#[tokio::test]
async fn spent_attempts_tell_the_client_not_to_try_again() {
    let backend = Backend::model("b").await;
    backend.behave(|behaviour| behaviour.status = Some(503));
    let proxy = Proxy::start(&Config::one(&backend)).await;
    let answer = proxy.send(&ask("hi")).await.expect_status(503);
    assert_eq!(answer.header("x-should-retry"), Some("false"));
    assert_eq!(backend.request_count(), 2, "two attempts in all");
}

#[tokio::test]
async fn dead_pool_is_a_server_error_in_openai_form() {
    let (dead, _taken) = Backend::refusing();
    let config = Config::new().pool(Pool::new("main").url(format!("http://{dead}")));
    let proxy = Proxy::start(&config).await;
    let answer = proxy.send(&ask("hi")).await;
    assert!([502, 503].contains(&answer.status), "{answer:?}");
    assert!(!answer.error_code().is_empty());
    assert!(
        !answer.text().contains(&dead.port().to_string()),
        "an address leaks: {answer:?}"
    );
}

#[tokio::test]
async fn reset_before_any_byte_is_tried_again_for_chat() {
    let backend = Backend::scripted("b").await;
    let proxy = Proxy::start(&Config::one(&backend)).await;
    let mut client = proxy.client().await;
    client.begin(&ask("hi")).await;
    backend.next_request().await.reset();
    backend
        .next_request()
        .await
        .respond(Reply::json(200, ANSWER))
        .await
        .unwrap();
    assert_eq!(client.head().await.status(), 200);
}

#[tokio::test]
async fn reset_is_not_tried_again_where_the_route_forbids_it() {
    let backend = Backend::scripted("b").await;
    let route = Route::to("main").set("retry_ambiguous", false);
    let config = Config::one(&backend).route(route).set("server.workers", 1);
    let proxy = Proxy::start(&config).await;
    // The first request keeps the connection that was opened ahead, so the second has a fresh one:
    // a kept one may have been closed by the backend before it saw anything.
    let mut first = proxy.client().await;
    first.begin(&ask("hi")).await;
    let _kept = backend.next_request().await;
    let mut client = proxy.client().await;
    client.begin(&ask("hi")).await;
    backend.next_request().await.reset();
    assert_eq!(client.head().await.status(), 502);
    assert!(!backend.has_request().await);
}

#[tokio::test]
async fn refused_http2_stream_is_tried_again() {
    let backend = Start::new("b").http2().scripted().start().await;
    let proxy = Proxy::start(&Config::one(&backend)).await;
    let mut client = proxy.client().await;
    client.begin(&ask("hi")).await;
    backend.next_request().await.refuse_stream();
    backend
        .next_request()
        .await
        .respond(Reply::json(200, ANSWER))
        .await
        .unwrap();
    assert_eq!(client.head().await.status(), 200);
}

#[tokio::test]
async fn too_many_requests_falls_back_only_where_the_route_says_so() {
    let (busy, spare) = (Backend::model("busy").await, Backend::model("spare").await);
    busy.behave(|behaviour| behaviour.status = Some(429));
    let config = Config::new()
        .pool(Pool::new("busy").backend(&busy))
        .pool(Pool::new("spare").backend(&spare));
    let route = Route::to("busy").fallback(&["spare"]);
    let strict = config.clone().route(route.clone());
    let proxy = Proxy::start(&strict).await;
    let answer = proxy.send(&ask("hi")).await.expect_status(429);
    assert_eq!(answer.header("retry-after"), Some("7"));
    assert_eq!(spare.request_count(), 0);

    proxy
        .reload_and_wait(&config.route(route.set("fallback_on_429", true)))
        .await;
    let answer = proxy.send(&ask("hi")).await.expect_status(200);
    assert_eq!(answer.header("x-sluicegate-pool"), Some("spare"));

    // Where the fallback gives nothing better, the client learns when to come again, and from whom.
    spare.behave(|behaviour| behaviour.status = Some(503));
    let answer = proxy.send(&ask("hi")).await.expect_status(429);
    assert_eq!(answer.header("retry-after"), Some("7"));
    assert_eq!(answer.header("x-sluicegate-pool"), Some("busy"));
    assert_eq!(answer.header("x-sluicegate-backend"), Some("busy-1"));
}

#[tokio::test]
async fn fallback_gets_its_own_model_name_and_is_not_cached_as_the_first() {
    let (first, second) = (
        Backend::model("first").await,
        Backend::model("second").await,
    );
    first.behave(|behaviour| behaviour.status = Some(503));
    let config = Config::new()
        .cached()
        .pool(
            Pool::new("one")
                .backend(&first)
                .models(&["m"])
                .set("model_map.m", "one-m"),
        )
        .pool(
            Pool::new("two")
                .backend(&second)
                .models(&["other"])
                .set("model_map.other", "two-m"),
        )
        .route(Route::to("one").fallback(&["two"]));
    let proxy = Proxy::start(&config).await;
    let answer = proxy.send(&ask("hi")).await.expect_status(200);
    assert_eq!(answer.header("x-sluicegate-pool"), Some("two"));
    assert_eq!(first.last_request().json()["model"], "one-m");
    assert_eq!(second.last_request().json()["model"], "two-m");

    first.behave(|behaviour| behaviour.status = None);
    let answer = proxy.send(&ask("hi")).await.expect_status(200);
    assert_eq!(answer.header("x-sluicegate-cache"), Some("miss"));
    assert!(answer.text().contains("first t1"), "{}", answer.text());
}

#[tokio::test]
async fn unhealthy_backend_is_passed_over_until_it_is_well() {
    let (ill, well) = (Backend::model("ill").await, Backend::model("well").await);
    let pool = Pool::new("main")
        .backend(&ill)
        .named("ill")
        .backend(&well)
        .named("well")
        .health();
    let proxy = Proxy::start(&Config::new().pool(pool)).await;
    let healthy = async |backend: &str, wanted: f64| {
        eventually("the health gauge follows the checks", async || {
            let metrics = proxy.metrics().await;
            match metrics.sum("sluicegate_upstream_healthy", &[("backend", backend)]) {
                value if (value - wanted).abs() < 0.5 => Ok(()),
                _ => Err(metrics.lines("sluicegate_upstream_healthy")),
            }
        })
        .await;
    };
    healthy("ill", 1.0).await;
    ill.behave(|behaviour| behaviour.health = 500);
    healthy("ill", 0.0).await;
    for _ in 0..10 {
        proxy.send(&ask("hi")).await.expect_status(200);
    }
    assert_eq!((ill.request_count(), well.request_count()), (0, 10));

    // With nobody well, the least bad is tried and nobody is refused unseen.
    well.behave(|behaviour| behaviour.health = 500);
    healthy("well", 0.0).await;
    proxy.send(&ask("hi")).await.expect_status(200);

    ill.behave(|behaviour| behaviour.health = 200);
    healthy("ill", 1.0).await;
    proxy.send(&ask("hi")).await.expect_status(200);
    assert!(ill.request_count() >= 1);
}

#[tokio::test]
async fn load_goes_to_the_backend_with_the_fewest_requests() {
    let (one, two) = (Backend::model("one").await, Backend::model("two").await);
    one.hold();
    two.hold();
    let pool = Pool::new("main").backend(&one).backend(&two);
    let proxy = Proxy::start(&Config::new().pool(pool)).await;
    let mut clients = Vec::new();
    for waiting in 1..=8 {
        let mut client = proxy.client().await;
        client.begin(&ask("hi")).await;
        clients.push(client);
        eventually("the request reaches a backend", async || {
            match one.request_count() + two.request_count() {
                count if count == waiting => Ok(()),
                count => Err(count),
            }
        })
        .await;
    }
    assert_eq!((one.request_count(), two.request_count()), (4, 4));
    let metrics = proxy.metrics().await;
    assert_eq!(metrics.sum("sluicegate_upstream_in_flight", &[]), 8.0);
    one.release();
    two.release();
    for client in &mut clients {
        assert_eq!(client.head().await.status(), 200);
    }
    drop(clients);
    proxy.await_idle().await;
}
