//! Connections and graceful shutdown.

mod peer;
mod stream;

use std::error::Error;
use std::io;
use std::num::NonZeroU64;
use std::time::Duration;

use axum::Router;
use axum::extract::Request;
use axum::middleware::{Next, from_fn};
use axum::response::{IntoResponse, Response};
use http::{StatusCode, header};
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use tokio::net::TcpListener;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::time::timeout;
use tokio_util::task::TaskTracker;

use self::peer::Peer;
use self::stream::Stream;
use crate::bodies::{TooSlow, pace};
use crate::places::{Place, Places};

/// Maximum concurrent connections. Together with the reserve, they stay below the usual limit of
/// 1,024 open files per process.
const MAX_CONNECTIONS: u64 = 928;
/// Additional short-lived connections, of which one peer gets at most a quarter. They respond to
/// health checks, or report that there are too many connections.
const RESERVE: u64 = 32;
/// The time-out of a connection of the reserve.
const RESERVE_TIME: Duration = Duration::from_secs(5);
/// The time-out for the head of a request, and therefore also for an idle connection.
const HEAD_TIMEOUT: Duration = Duration::from_secs(30);
/// Maximum size of a request head, and of the buffer of a connection.
const HEAD_BYTES: usize = 64 * 1024;
/// Time to write the last responses when the server stops.
const TO_WRITE: Duration = Duration::from_secs(1);
/// The delay after a failed accept, usually for lack of file descriptors. An immediate retry would
/// only use CPU time.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// The routers to serve, and the limit of connections.
#[derive(Debug)]
pub struct Service {
    /// Serves connections within the limits.
    pub router: Router,
    /// Serves connections beyond the limits: too many in total, or too many from this peer.
    pub reserve: Router,
    /// Maximum concurrent connections from a peer: an IPv4 address, or a /64 network of IPv6.
    pub connections_per_peer: NonZeroU64,
}

/// Serves until a signal arrives. Returns the open connections and the running requests, for
/// [`finish`].
///
/// `axum::serve` would be shorter, but it limits neither the number of connections nor the time for
/// a request head.
///
/// # Cancel safety
///
/// When dropped, it stops accepting connections. Open connections continue.
pub async fn serve(
    listener: TcpListener,
    Service { router, reserve, connections_per_peer }: Service,
    mut signals: Signals,
) -> (GracefulShutdown, TaskTracker) {
    let requests = TaskTracker::new();
    let running = requests.clone();
    let counted = from_fn(move |request: Request, next: Next| {
        let token = running.token();
        async move {
            take_turns().await;
            let response = next.run(request).await;
            drop(token);
            response
        }
    });
    let service = TowerToHyperService::new(router.layer(counted).layer(from_fn(pace)));
    let reserve = TowerToHyperService::new(reserve);
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(HEAD_TIMEOUT).max_buf_size(HEAD_BYTES);
    // A connection of the reserve serves one request.
    let mut once = http.clone();
    once.keep_alive(false);
    let graceful = GracefulShutdown::new();
    let places = Places::new(MAX_CONNECTIONS, connections_per_peer.get());
    let reserved = Places::quartered(RESERVE);

    loop {
        let accepted = tokio::select! {
            () = signals.recv() => break,
            accepted = listener.accept() => accepted,
        };
        let (stream, peer) = match accepted {
            Ok((stream, address)) => (stream, Peer::of(address.ip())),
            Err(error) => {
                tracing::warn!(%error, "cannot accept a connection");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        // Responses are small and written at once, so Nagle's algorithm would only delay them.
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(%error, "connection ended early");
            continue;
        }
        let stream = TokioIo::new(Stream::new(stream));
        if let Some(place) = places.enter(&peer) {
            let connection = graceful.watch(http.serve_connection(stream, service.clone()));
            tokio::spawn(run(connection, place));
        } else if let Some(place) = reserved.enter(&peer) {
            let connection = once.serve_connection(stream, reserve.clone());
            tokio::spawn(run(async { timeout(RESERVE_TIME, connection).await.unwrap_or(Ok(())) }, place));
        }
        // Beyond the reserve, the connection is closed.
    }
    (graceful, requests)
}

/// Maximum requests of one connection that run before the other connections get a turn. A client that
/// sends requests without waiting for responses would otherwise run a hundred at a time.
const REQUESTS_PER_TURN: u32 = 4;
/// The number of steps after which Tokio makes a task wait for its next turn.
const TASK_BUDGET: u32 = 128;

/// Takes a request's part of the budget of its connection's task. On a connection that sends one request
/// at a time, this never waits.
async fn take_turns() {
    for _ in 0..TASK_BUDGET / REQUESTS_PER_TURN {
        tokio::task::consume_budget().await;
    }
}

/// Waits until all connections have ended, or until all requests have ended and one second has
/// passed for their responses to be written. Does not wait for connections with an incomplete
/// request head.
///
/// # Cancel safety
///
/// When dropped, it stops waiting.
pub async fn finish(connections: GracefulShutdown, requests: TaskTracker) {
    requests.close();
    tokio::select! {
        () = connections.shutdown() => {}
        () = async {
            // Wait again if a request began during the sleep.
            while {
                requests.wait().await;
                tokio::time::sleep(TO_WRITE).await;
                !requests.is_empty()
            } {}
        } => {}
    }
}

/// Returns whether the cause of an error is a request body that did not arrive in time.
pub fn is_body_timeout(error: &(dyn Error + 'static)) -> bool {
    let mut cause = Some(error);
    while let Some(error) = cause {
        if error.is::<TooSlow>() {
            return true;
        }
        cause = error.source();
    }
    false
}

/// Runs a connection to its end, and holds its place until then.
async fn run(connection: impl Future<Output = hyper::Result<()>>, place: Place<Peer>) {
    // The client disconnected or did not speak HTTP. An operator cannot do anything about it.
    if let Err(error) = connection.await {
        tracing::debug!(%error, "connection ended early");
    }
    drop(place);
}

/// Returns the response to any request when there are too many connections.
pub fn too_many_connections() -> Response {
    let again = [(header::RETRY_AFTER, "1")];
    (StatusCode::SERVICE_UNAVAILABLE, again, "too many connections\n").into_response()
}

/// The signals SIGTERM and SIGINT.
#[derive(Debug)]
pub struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    /// Installs the handlers. From now on, the signals do not kill the process.
    ///
    /// # Errors
    ///
    /// If the handlers cannot be installed.
    pub fn listen() -> io::Result<Self> {
        Ok(Self { terminate: signal(SignalKind::terminate())?, interrupt: signal(SignalKind::interrupt())? })
    }

    async fn recv(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU32, Ordering};

    use bytes::Bytes;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpStream;
    use tokio::task::JoinHandle;

    use super::*;

    /// Starts a server with this limit of connections per peer. Returns it and its address.
    async fn start(connections_per_peer: u64) -> (JoinHandle<()>, std::net::SocketAddr) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let router = Router::new().fallback(async |body: Result<Bytes, _>| match body {
            Ok(_) => StatusCode::OK,
            Err(_) => StatusCode::REQUEST_TIMEOUT,
        });
        let reserve = Router::new().fallback(async || too_many_connections());
        let connections_per_peer = NonZeroU64::new(connections_per_peer).unwrap();
        let service = Service { router, reserve, connections_per_peer };
        let server = serve(listener, service, Signals::listen().unwrap());
        (tokio::spawn(async move { drop(server.await) }), address)
    }

    /// Sends a text on a connection, and returns everything that the server sends until it closes
    /// the connection. Time is paused: it jumps to the next time-out whenever nothing else can
    /// happen.
    async fn answer_to(sent: &str) -> String {
        let (server, address) = start(1).await;
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(sent.as_bytes()).await.unwrap();
        let mut answer = String::new();
        let read = stream.read_to_string(&mut answer);
        timeout(Duration::from_mins(5), read).await.expect("it is closed at some time").unwrap();
        server.abort();
        answer
    }

    /// Sends a request. Returns the connection and the first bytes of the response.
    async fn ask(address: std::net::SocketAddr) -> (TcpStream, String) {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(b"GET / HTTP/1.1\r\nHost: h\r\n\r\n").await.unwrap();
        let mut answer = [0; 12];
        let read = stream.read_exact(&mut answer).await.map_or(0, |read| read);
        (stream, String::from_utf8_lossy(&answer[..read]).into_owned())
    }

    #[tokio::test]
    async fn a_peer_with_too_many_connections_is_told_so_and_others_are_served() {
        let (server, address) = start(4).await;
        let mut held = Vec::new();
        for expected in ["HTTP/1.1 200"; 4].into_iter().chain(["HTTP/1.1 503"; 3]) {
            let (stream, answer) = ask(address).await;
            assert_eq!(answer, expected);
            held.push(stream);
        }
        let other = tokio::net::TcpSocket::new_v4().unwrap();
        other.bind("127.0.0.2:0".parse().unwrap()).unwrap();
        let mut other = other.connect(address).await.unwrap();
        other.write_all(b"GET / HTTP/1.1\r\nHost: h\r\n\r\n").await.unwrap();
        let mut answer = [0; 12];
        other.read_exact(&mut answer).await.unwrap();
        assert_eq!(&answer, b"HTTP/1.1 200");

        drop(held);
        while ask(address).await.1 != "HTTP/1.1 200" {}
        server.abort();
    }

    #[tokio::test]
    async fn a_connection_of_the_reserve_that_asks_nothing_takes_its_place_for_a_moment_only() {
        let (server, address) = start(1).await;
        let (_held, answer) = ask(address).await;
        assert_eq!(answer, "HTTP/1.1 200");
        // One peer gets at most a quarter of the reserve.
        let mut silent = Vec::new();
        for _ in 0..RESERVE / 4 {
            silent.push(TcpStream::connect(address).await.unwrap());
        }
        assert_eq!(ask(address).await.1, "", "it is hung up on");
        tokio::time::pause();
        tokio::time::advance(RESERVE_TIME).await;
        tokio::time::resume();
        while ask(address).await.1 != "HTTP/1.1 503" {}
        server.abort();
    }

    #[tokio::test(start_paused = true)]
    async fn a_head_that_does_not_end_is_not_waited_for() {
        let answer = answer_to("GET / HTTP/1.1\r\nHost: h\r\n").await;
        assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 408"), "{answer}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_that_does_not_come_is_not_waited_for() {
        let answer = answer_to("PUT / HTTP/1.1\r\nHost: h\r\nContent-Length: 9\r\n\r\n{").await;
        assert!(answer.starts_with("HTTP/1.1 408"), "{answer}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_that_idles_between_requests_is_closed() {
        let answer = answer_to("GET / HTTP/1.1\r\nHost: h\r\n\r\n").await;
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    }

    #[tokio::test]
    async fn a_connection_runs_a_few_requests_before_others_get_a_turn() {
        let finished = Arc::new(AtomicU32::new(0));
        let counter = Arc::clone(&finished);
        let connection = tokio::spawn(async move {
            for _ in 0..100 {
                take_turns().await;
                counter.fetch_add(1, Ordering::Relaxed);
            }
        });
        while !connection.is_finished() {
            let before = finished.load(Ordering::Relaxed);
            tokio::task::yield_now().await;
            assert!(finished.load(Ordering::Relaxed) - before <= REQUESTS_PER_TURN);
        }
        assert_eq!(finished.load(Ordering::Relaxed), 100);
    }
}
