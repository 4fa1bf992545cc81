//! Streams that stay open from first to last.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::BytesMut;
use serde_json::json;
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::swaps::LONG;
use crate::{Backend, Client, Exchange, Proxy, chat_with, ends_with_done, text_of};

/// From one token to the next.
const PACE: Duration = Duration::from_secs(1);

/// Chat streams whose backends send a token every second.
pub(super) struct Streams {
    backends: JoinSet<()>,
    clients: JoinSet<Option<String>>,
    finish: watch::Sender<bool>,
    broken: Arc<AtomicUsize>,
}

impl Streams {
    /// Opens streams, each on a connection of its own.
    pub(super) async fn open(proxy: &Proxy, backend: &Backend, count: usize) -> Self {
        let mut streams = Self {
            backends: JoinSet::new(),
            clients: JoinSet::new(),
            finish: watch::Sender::new(false),
            broken: Arc::default(),
        };
        for number in 0..count {
            let mut client = proxy.client().await;
            let members = json!({"model": LONG, "stream": true});
            let request = chat_with(&format!("stream {number}"), &members);
            client.begin(&request).await;
            let exchange = backend.next_request().await;
            let finished = streams.finish.subscribe();
            streams.backends.spawn(talk(exchange, number, finished));
            let broken = Arc::clone(&streams.broken);
            streams.clients.spawn(async move {
                let fault = listen(client, number).await;
                broken.fetch_add(usize::from(fault.is_some()), Ordering::SeqCst);
                fault
            });
        }
        streams
    }

    /// How many have broken so far.
    pub(super) fn broken(&self) -> usize {
        self.broken.load(Ordering::SeqCst)
    }

    /// Lets the backends finish; gives what was wrong with each stream that did not come whole.
    pub(super) async fn finish(mut self) -> Vec<String> {
        self.finish.send_replace(true);
        while self.backends.join_next().await.is_some() {}
        let mut faults = Vec::new();
        while let Some(fault) = self.clients.join_next().await {
            faults.extend(fault.expect("clients note what fails"));
        }
        faults
    }
}

/// The backend's side: the stream's number and a count in each token.
#[expect(clippy::disallowed_methods, reason = "a slow model is played")]
async fn talk(mut exchange: Exchange, number: usize, mut finish: watch::Receiver<bool>) {
    let sent: std::io::Result<()> = async {
        exchange.begin_events().await?;
        for count in 0.. {
            exchange.token(&format!("{number}.{count} ")).await?;
            tokio::select! {
                () = tokio::time::sleep(PACE) => {}
                _ = finish.wait_for(|finish| *finish) => break,
            }
        }
        exchange.finish_chat().await
    }
    .await;
    // Whatever broke, the client sees it: its stream then has no end.
    let _ = sent;
}

/// The client's side; what is wrong, if anything.
async fn listen(mut client: Client, number: usize) -> Option<String> {
    let fault = |what: String| Some(format!("stream {number}: {what}"));
    let status = client.head().await.status();
    if status != 200 {
        return fault(format!("status {status}"));
    }
    let mut body = BytesMut::new();
    loop {
        match client.piece().await {
            Ok(Some(piece)) => body.extend_from_slice(&piece),
            Ok(None) => break,
            Err(error) => return fault(error.to_string()),
        }
    }
    let text = text_of(&body);
    let tokens = text.split_whitespace().count();
    let expected: String = (0..tokens)
        .map(|count| format!("{number}.{count} "))
        .collect();
    match ends_with_done(&body) && tokens > 0 && text == expected {
        true => None,
        false => fault(format!("{tokens} tokens, ending in {:?}", tail(&body))),
    }
}

fn tail(body: &[u8]) -> String {
    let from = body.len().saturating_sub(200);
    String::from_utf8_lossy(&body[from..]).into_owned()
}
