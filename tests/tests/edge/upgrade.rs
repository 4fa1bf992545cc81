//! One process replaces another on the same sockets, and no client notices.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use rustix::process::Signal;
use sluicegate_tests::{
    Backend, Certificate, Client, Config, Finished, Proxy, Request, Start, ask, ask_streaming,
    ends_with_done, run,
};
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval};

/// `sluicegate upgrade`, beside everything else.
async fn upgrade(proxy: &Proxy) -> Finished {
    let pid_file = proxy.pid_file();
    let command = move || run(&[&"upgrade", &"--pid-file", &pid_file], &[]);
    tokio::task::spawn_blocking(command).await.unwrap()
}

/// What the load saw.
#[derive(Default)]
struct Seen {
    stop: AtomicBool,
    answers: AtomicUsize,
    /// Answers that said that their connection ends.
    last_ones: AtomicUsize,
}

/// Where a client connects to, and the certificate that it asks for.
struct To(SocketAddr, Option<Certificate>);

impl To {
    async fn connect(&self) -> Client {
        match &self.1 {
            Some(certificate) => Client::connect_tls(self.0, certificate).await,
            None => Client::connect(self.0).await,
        }
    }
}

/// Asks at a steady rate, each time over a new connection or as long as one is kept.
async fn load(to: To, seen: Arc<Seen>, keeps: bool, streams: bool) {
    let mut tick = interval(Duration::from_millis(80));
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut kept = None;
    while !seen.stop.load(Ordering::SeqCst) {
        tick.tick().await;
        let mut client = match kept.take() {
            Some(client) => client,
            None => to.connect().await,
        };
        let request = if streams {
            ask_streaming("hi")
        } else {
            ask("hi")
        };
        let answer = client.try_send(&request).await.expect("no request breaks");
        assert_eq!(answer.status, 200, "{:?}", answer.body);
        assert!(
            !streams || ends_with_done(&answer.body),
            "{:?}",
            answer.body
        );
        seen.answers.fetch_add(1, Ordering::SeqCst);
        if answer.head.closes() {
            seen.last_ones.fetch_add(1, Ordering::SeqCst);
        } else if keeps {
            kept = Some(client);
        }
    }
}

async fn await_answers(seen: &Seen, more: usize) {
    let enough = seen.answers.load(Ordering::SeqCst) + more;
    sluicegate_tests::eventually("the load goes on", async || {
        let answers = seen.answers.load(Ordering::SeqCst);
        if answers >= enough {
            Ok(())
        } else {
            Err(answers)
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn upgrade_under_load_refuses_and_breaks_nothing() {
    let backend = Backend::model("b").await;
    let held = Start::new("held").scripted().start().await;
    let config = Config::new()
        .pool(sluicegate_tests::Pool::new("main").backend(&backend))
        .pool(sluicegate_tests::Pool::new("held").backend(&held))
        .route(sluicegate_tests::Route::to("held").set("match.model", "held"));
    let mut proxy = Proxy::start(&config).await;
    let seen = Arc::new(Seen::default());
    let mut clients = JoinSet::new();
    // Four at 12.5 requests a second each: new connections and kept ones, plain and streaming.
    for (keeps, streams) in [(false, false), (false, true), (true, false), (true, true)] {
        let to = To(proxy.data(), None);
        clients.spawn(load(to, Arc::clone(&seen), keeps, streams));
    }
    let request =
        sluicegate_tests::chat_with("hi", &serde_json::json!({"model": "held", "stream": true}));
    let mut streams = Vec::new();
    for _ in 0..4 {
        let mut client = proxy.client().await;
        client.begin(&request).await;
        let mut exchange = held.next_request().await;
        exchange.begin_events().await.unwrap();
        exchange.token("before ").await.unwrap();
        client.head().await;
        streams.push((client, exchange));
    }
    let mut h2 = proxy.h2_client().await;
    let mut h2_stream = h2.begin(&request).await;
    let mut h2_exchange = held.next_request().await;
    let mut half = proxy.client().await;
    half.write_raw(b"GET /livez HT").await;
    await_answers(&seen, 20).await;

    let finished = upgrade(&proxy).await;
    assert!(finished.status.success(), "{}", finished.output());
    let successor = proxy.successor().await;
    assert!(
        finished.stdout.contains(&successor.to_string()),
        "{}",
        finished.stdout
    );
    await_answers(&seen, 20).await;
    // What had begun in the old process ends there.
    half.write_raw(b"TP/1.1\r\nhost: x\r\n\r\n").await;
    let head = half.head().await;
    assert!(head.status() == 200 && head.closes(), "{head:?}");
    h2_exchange.begin_events().await.unwrap();
    h2_exchange.token("all").await.unwrap();
    h2_exchange.event("[DONE]").await.unwrap();
    h2_exchange.finish().await.unwrap();
    assert_eq!(h2_stream.head().await.status(), 200);
    while h2_stream.piece().await.unwrap().is_some() {}
    for (client, mut exchange) in streams {
        exchange.token("after").await.unwrap();
        exchange.finish_chat().await.unwrap();
        let mut client: Client = client;
        let body = client.rest().await.unwrap();
        assert!(ends_with_done(&body), "{body:?}");
    }
    assert!(proxy.exit().await.success(), "the old process drained");
    await_answers(&seen, 20).await;
    seen.stop.store(true, Ordering::SeqCst);
    clients.join_all().await;
    assert!(
        seen.last_ones.load(Ordering::SeqCst) >= 1,
        "kept connections are told to move on"
    );
    // The admin listener has moved along.
    let metrics = proxy.metrics().await;
    assert!(metrics.sum("sluicegate_requests_total", &[]) >= 20.0);
    assert_eq!(proxy.serving_id(), Some(successor));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn new_process_takes_no_connection_before_it_is_ready() {
    let backend = Backend::model("b").await;
    // Accepts, and never shakes hands: connecting the pools takes its whole time.
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = silent.local_addr().unwrap();
    let config = Config::one(&backend)
        .pool(sluicegate_tests::Pool::new("silent").url(format!("https://{address}")));
    let proxy = Proxy::start(&config).await;
    // The line is printed before the pools are connected.
    sluicegate_tests::eventually("the first process is ready", async || {
        proxy.serving_id().ok_or("not yet")
    })
    .await;
    proxy.signal(Signal::QUIT);
    let mut asked = 0;
    sluicegate_tests::within("the new process takes over", async {
        while proxy.serving_id() == Some(proxy.id()) {
            let answer = proxy.send(&Request::get("/readyz")).await;
            assert_eq!(answer.text(), "ready", "{asked} said so before");
            asked += 1;
        }
    })
    .await;
    assert!(asked > 1, "some were asked meanwhile");
}

#[tokio::test]
async fn idle_connections_of_the_old_process_are_answered_once_more() {
    let backend = Backend::model("b").await;
    let config = Config::one(&backend).set("server.drain_timeout", "1m");
    let mut proxy = Proxy::start(&config).await;
    let mut kept = proxy.client().await;
    kept.send(&ask("one")).await.expect_status(200);
    proxy.signal(Signal::QUIT);
    proxy.successor().await;
    let answer = kept.send(&ask("two")).await.expect_status(200);
    assert!(answer.head.closes(), "{:?}", answer.head);
    kept.closed().await;
    assert!(proxy.exit().await.success());
}

#[tokio::test]
async fn idle_connections_of_the_old_process_close_before_its_deadline() {
    let backend = Backend::model("b").await;
    let config = Config::one(&backend).set("server.drain_timeout", "3s");
    let mut proxy = Proxy::start(&config).await;
    let mut kept = proxy.client().await;
    kept.send(&ask("one")).await.expect_status(200);
    let mut silent = proxy.client().await;
    proxy.signal(Signal::QUIT);
    proxy.successor().await;
    kept.closed().await;
    silent.closed().await;
    assert!(proxy.exit().await.success(), "nothing was cut");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn upgrade_over_tls_refuses_and_breaks_nothing() {
    let certificate = Certificate::new();
    let backend = Backend::model("b").await;
    let config = Config::one(&backend)
        .set("server.tls.cert_file", certificate.file("cert.pem"))
        .set("server.tls.key_file", certificate.file("key.pem"));
    let mut proxy = Proxy::start(&config).await;
    let seen = Arc::new(Seen::default());
    let mut clients = JoinSet::new();
    for (keeps, streams) in [(false, true), (true, false)] {
        let to = To(proxy.data(), Some(certificate.clone()));
        clients.spawn(load(to, Arc::clone(&seen), keeps, streams));
    }
    await_answers(&seen, 10).await;
    let finished = upgrade(&proxy).await;
    assert!(finished.status.success(), "{}", finished.output());
    await_answers(&seen, 10).await;
    assert!(proxy.exit().await.success(), "the old process drained");
    await_answers(&seen, 10).await;
    seen.stop.store(true, Ordering::SeqCst);
    clients.join_all().await;
}

#[tokio::test]
async fn upgrade_to_what_cannot_serve_changes_nothing() {
    let backend = Backend::model("b").await;
    let config = Config::one(&backend);
    let proxy = Proxy::start(&config).await;
    let mut kept = proxy.client().await;
    // Every reload refuses it, and so does the new process.
    proxy.put_file("sluicegate.toml", b"[server]\nlistne = \"127.0.0.1:0\"\n");
    let finished = upgrade(&proxy).await;
    assert!(!finished.status.success(), "{}", finished.output());
    for expected in ["refused", "goes on", "listne"] {
        assert!(
            finished.stderr.contains(expected),
            "{expected:?} in {}",
            finished.stderr
        );
    }
    proxy
        .await_line("upgrade refused, this process goes on")
        .await;
    kept.send(&ask("hi")).await.expect_status(200);
    proxy.send(&ask("hi")).await.expect_status(200);
    assert_eq!(proxy.serving_id(), Some(proxy.id()));

    // Mended, it goes through.
    proxy.put_config(&config);
    let finished = upgrade(&proxy).await;
    assert!(finished.status.success(), "{}", finished.output());
    proxy.send(&ask("hi")).await.expect_status(200);
}

async fn with_binary(config: &Config, script: &str) -> Proxy {
    let folder = tempfile::tempdir().unwrap();
    let binary = folder.path().join("new");
    write_script(&binary, script);
    let binary = binary.to_str().unwrap().to_owned();
    Proxy::start_told(
        folder,
        &config.to_toml(),
        &[],
        &["--upgrade-binary", &binary],
    )
    .await
}

fn write_script(path: &Path, script: &str) {
    use std::os::unix::fs::PermissionsExt;
    std::fs::write(path, format!("#!/bin/sh\n{script}\n")).unwrap();
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).unwrap();
}

#[tokio::test]
async fn new_process_that_dies_hangs_or_is_no_program_changes_nothing() {
    let backend = Backend::model("b").await;
    let config = Config::one(&backend);
    let proxy = with_binary(&config, "exit 3").await;
    let binary = proxy.folder().join("new");
    let finished = upgrade(&proxy).await;
    assert!(
        finished.stderr.contains("ended before it was ready"),
        "{}",
        finished.stderr
    );
    assert!(
        finished.stderr.contains("exit status: 3"),
        "{}",
        finished.stderr
    );

    let impatient = config.set("server.upgrade_timeout", "3s");
    proxy.reload_and_wait(&impatient).await;
    let id_file = proxy.folder().join("id");
    write_script(
        &binary,
        &format!("echo $$ > {}\nexec sleep 600", id_file.display()),
    );
    let finished = upgrade(&proxy).await;
    assert!(
        finished.stderr.contains("not ready within 3s"),
        "{}",
        finished.stderr
    );
    let id = std::fs::read_to_string(id_file).unwrap();
    let id = rustix::process::Pid::from_raw(id.trim().parse().unwrap()).unwrap();
    sluicegate_tests::eventually("it was killed", async || {
        let gone = rustix::process::test_kill_process(id).is_err();
        if gone { Ok(()) } else { Err("it runs") }
    })
    .await;

    std::fs::remove_file(&binary).unwrap();
    let finished = upgrade(&proxy).await;
    assert!(
        finished.stderr.contains("cannot be started"),
        "{}",
        finished.stderr
    );
    proxy.send(&ask("hi")).await.expect_status(200);
    assert_eq!(proxy.serving_id(), Some(proxy.id()));
}

#[tokio::test]
async fn a_stop_in_the_middle_of_an_upgrade_is_a_stop() {
    let backend = Backend::model("b").await;
    let mut proxy = with_binary(&Config::one(&backend), "exec sleep 600").await;
    proxy.signal(Signal::QUIT);
    proxy.await_line("upgrading").await;
    proxy.signal(Signal::TERM);
    assert!(proxy.exit().await.success());
}

#[tokio::test]
async fn processes_can_be_upgraded_again_and_stop_well() {
    let backend = Backend::model("b").await;
    let proxy = Proxy::start(&Config::one(&backend)).await;
    let mut served = vec![proxy.id()];
    for _ in 0..2 {
        let finished = upgrade(&proxy).await;
        assert!(finished.status.success(), "{}", finished.output());
        let now = proxy.serving_id().unwrap();
        assert!(!served.contains(&now), "{now} in {served:?}");
        served.push(now);
        proxy.send(&ask("hi")).await.expect_status(200);
        let ready = proxy.admin_send(Request::get("/readyz")).await;
        assert_eq!(ready.text(), "ready");
    }
    let last = i32::try_from(*served.last().unwrap()).unwrap();
    let last = rustix::process::Pid::from_raw(last).unwrap();
    rustix::process::kill_process(last, Signal::TERM).unwrap();
    sluicegate_tests::eventually("the pid file is gone", async || {
        proxy.serving_id().map_or(Ok(()), Err)
    })
    .await;
}

#[test]
fn upgrade_without_a_process_says_so() {
    let folder = tempfile::tempdir().unwrap();
    let missing = folder.path().join("none.pid");
    let finished = run(&[&"upgrade", &"--pid-file", &missing], &[]);
    assert!(!finished.status.success());
    assert!(
        finished.stderr.contains("cannot read the pid file"),
        "{}",
        finished.stderr
    );
    // A stranger must not be sent a signal that kills.
    std::fs::write(&missing, format!("{}\n", std::process::id())).unwrap();
    let finished = run(&[&"upgrade", &"--pid-file", &missing], &[]);
    assert!(
        finished.stderr.contains("does not serve"),
        "{}",
        finished.stderr
    );
}
