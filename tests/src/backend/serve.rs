//! Accepts connections and reads requests off them, one after the other (HTTP/1.1) or as streams.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::{Bytes, BytesMut};
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;

use super::exchange::{Exchange, Reply, Side, Socket};
use super::{Received, State, model};
use crate::wire::{Framing, Head, Wire};

/// What is asked by health checks, apart from models.
const HEALTH: &str = "/health";

/// Accepts until it is aborted; its connections end with it.
pub(super) async fn accept(
    listener: TcpListener,
    tls: Option<TlsAcceptor>,
    http2: bool,
    state: Arc<State>,
) {
    let mut connections = JoinSet::new();
    while let Ok((tcp, _)) = listener.accept().await {
        let ordinal = state.accepted.fetch_add(1, Ordering::SeqCst) + 1;
        let (tls, state) = (tls.clone(), Arc::clone(&state));
        connections.spawn(async move {
            // A connection that breaks is what some tests are about; counters tell the story.
            let _ = connection(tcp, tls, http2, ordinal, state).await;
        });
        while connections.try_join_next().is_some() {}
    }
}

async fn connection(
    tcp: TcpStream,
    tls: Option<TlsAcceptor>,
    http2: bool,
    ordinal: usize,
    state: Arc<State>,
) -> io::Result<()> {
    tcp.set_nodelay(true)?;
    let socket = match tls {
        None => Socket::Plain(tcp),
        Some(tls) => {
            let stream = tls.accept(tcp).await?;
            state.handshakes.fetch_add(1, Ordering::SeqCst);
            Socket::Tls(Box::new(stream))
        }
    };
    match http2 {
        true => http2_connection(socket, ordinal, state).await,
        false => http1_connection(socket, ordinal, state).await,
    }
}

async fn http1_connection(socket: Socket, ordinal: usize, state: Arc<State>) -> io::Result<()> {
    let mut wire = Wire::new(socket);
    let mut first = true;
    while let Some(head) = wire.head().await? {
        count_connection(&state, &head, &mut first);
        let mut unread = head.request_framing()?;
        if head.header("expect").is_some() {
            wire.stream
                .write_all(b"HTTP/1.1 100 Continue\r\n\r\n")
                .await?;
        }
        let body = match state.at_head {
            true => Bytes::new(),
            false => {
                wire.body(std::mem::replace(&mut unread, Framing::Done))
                    .await?
            }
        };
        let (back, returned) = oneshot::channel();
        let request = Received {
            head,
            body,
            connection: ordinal,
        };
        let exchange = Exchange::new(request, Side::Http1 { wire, unread, back });
        dispatch(exchange, &state).await;
        match returned.await {
            Ok(again) => wire = again,
            Err(_) => return Ok(()),
        }
    }
    Ok(())
}

async fn http2_connection(socket: Socket, ordinal: usize, state: Arc<State>) -> io::Result<()> {
    let mut connection = h2::server::handshake(socket)
        .await
        .map_err(io::Error::other)?;
    let mut streams = JoinSet::new();
    let mut first = true;
    while let Some(stream) = connection.accept().await {
        let (request, respond) = stream.map_err(io::Error::other)?;
        let (parts, mut receive) = request.into_parts();
        let head = Head {
            raw: Bytes::new(),
            line: format!(
                "{} {} HTTP/2",
                parts.method,
                parts.uri.path_and_query().map_or("/", |p| p.as_str())
            ),
            headers: parts
                .headers
                .iter()
                .map(|(name, value)| {
                    (
                        name.to_string(),
                        String::from_utf8_lossy(value.as_bytes()).into_owned(),
                    )
                })
                .collect(),
        };
        count_connection(&state, &head, &mut first);
        let state = Arc::clone(&state);
        streams.spawn(async move {
            let mut body = BytesMut::new();
            while !state.at_head
                && let Some(piece) = receive.data().await
            {
                let Ok(piece) = piece else { return };
                body.extend_from_slice(&piece);
                if receive
                    .flow_control()
                    .release_capacity(piece.len())
                    .is_err()
                {
                    return;
                }
            }
            let request = Received {
                head,
                body: body.freeze(),
                connection: ordinal,
            };
            let side = Side::Http2 {
                respond,
                send: None,
                receive,
            };
            dispatch(Exchange::new(request, side), &state).await;
        });
        while streams.try_join_next().is_some() {}
    }
    Ok(())
}

/// Sorts a connection by its first request.
fn count_connection(state: &State, head: &Head, first: &mut bool) {
    if std::mem::take(first) {
        let kind = match head.target() {
            HEALTH => &state.health_connections,
            _ => &state.model_connections,
        };
        kind.fetch_add(1, Ordering::SeqCst);
    }
}

/// Gives a request to whoever answers it.
async fn dispatch(exchange: Exchange, state: &State) {
    if exchange.request.head.target() == HEALTH {
        state.health_requests.fetch_add(1, Ordering::SeqCst);
        let status = state.behaviour.lock().unwrap().health;
        // A checker that left has nothing to hear.
        let _ = exchange.respond(Reply::json(status, "{}")).await;
        return;
    }
    let mut record = exchange.request.clone();
    if !state.keep_bodies.load(Ordering::SeqCst) {
        record.body = Bytes::new();
        record.head.raw = Bytes::new();
        record.head.headers = Vec::new();
    }
    state.requests.lock().unwrap().push(record);
    state.count.fetch_add(1, Ordering::SeqCst);
    if state.scripted {
        // Nobody takes requests any more once the test has dropped its handle.
        let _ = state.incoming.send(exchange);
        return;
    }
    let mut held = state.held.subscribe();
    if held.wait_for(|held| !held).await.is_err() {
        return;
    }
    let counter = match model::answer(exchange, state).await {
        Ok(()) => &state.answered,
        Err(_) => &state.cancelled,
    };
    counter.fetch_add(1, Ordering::SeqCst);
}
