//! What outlives a snapshot is not disturbed by a reload.

use sluicegate_tests::{
    Backend, Client, Config, Pool, Proxy, Route, Start, ask, ask_streaming, ends_with_done,
    eventually, text_of,
};

const CLIENTS: usize = 16;

fn config(well: &Backend, ill: &Backend, cap: u32) -> Config {
    Config::new()
        .cached()
        .pool(
            Pool::new("main")
                .backend(well)
                .named("well")
                .backend(ill)
                .named("ill")
                .health(),
        )
        .route(Route::to("main").set("caps.max_tokens", cap))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn editing_a_route_keeps_connections_gauges_cache_and_health() {
    let (well, ill) = (
        Backend::model("well").await,
        Start::new("ill").start().await,
    );
    ill.behave(|behaviour| behaviour.health = 500);
    let proxy = Proxy::start(&config(&well, &ill, 1000)).await;
    eventually("the ill backend is known to be ill", async || {
        let healthy = health(&proxy, "ill").await;
        if healthy == 0.0 { Ok(()) } else { Err(healthy) }
    })
    .await;
    proxy.send(&ask("remember this")).await.expect_status(200);
    eventually("it is in the cache", async || {
        let entries = entries(&proxy).await;
        if entries == 1.0 { Ok(()) } else { Err(entries) }
    })
    .await;

    let before_load = well.request_count();
    well.hold();
    let mut clients = Vec::new();
    for number in 0..CLIENTS {
        let mut client = proxy.client().await;
        client
            .begin(&ask_streaming(&format!("held {number}")))
            .await;
        clients.push(client);
    }
    eventually("all requests wait at the backend", async || {
        match well.request_count() - before_load {
            CLIENTS => Ok(()),
            other => Err(other),
        }
    })
    .await;
    let connections = well.connections();

    for round in 1..=5 {
        proxy.put_config(&config(&well, &ill, 1000 + round));
        let generation = u64::from(round);
        // The gauges are read all the while, so that a dip would be seen.
        eventually("the edited route runs", async || {
            assert_eq!(in_flight(&proxy).await, CLIENTS as f64, "a gauge dipped");
            assert_eq!(
                health(&proxy, "ill").await,
                0.0,
                "a health state was forgotten"
            );
            assert_eq!(entries(&proxy).await, 1.0, "the cache lost its entry");
            let now = proxy.generation().await;
            if now > generation { Ok(()) } else { Err(now) }
        })
        .await;
    }
    assert_eq!(
        well.connections(),
        connections,
        "a reload opened connections"
    );
    let again = proxy.send(&ask("remember this")).await.expect_status(200);
    assert_eq!(again.header("x-sluicegate-cache"), Some("hit"));

    well.release();
    for client in &mut clients {
        finish(client).await;
    }
    for (number, client) in clients.iter_mut().enumerate() {
        client
            .send(&ask(&format!("after {number}")))
            .await
            .expect_status(200);
    }
    assert_eq!(
        well.connections(),
        connections,
        "kept connections are used again"
    );
    assert_eq!(ill.request_count(), 0);
    proxy.await_idle().await;
}

async fn finish(client: &mut Client) {
    assert_eq!(client.head().await.status(), 200);
    let body = client.rest().await.unwrap();
    assert!(ends_with_done(&body) && text_of(&body) == "well t1 t2 t3");
}

async fn in_flight(proxy: &Proxy) -> f64 {
    proxy
        .metrics()
        .await
        .sum("sluicegate_upstream_in_flight", &[])
}

async fn entries(proxy: &Proxy) -> f64 {
    proxy.metrics().await.sum("sluicegate_cache_entries", &[])
}

async fn health(proxy: &Proxy, backend: &str) -> f64 {
    proxy
        .metrics()
        .await
        .sum("sluicegate_upstream_healthy", &[("backend", backend)])
}
