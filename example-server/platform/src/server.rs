//! Connections, from the socket to the router, and the way down.

use std::error::Error;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::Request;
use axum::middleware::{Next, from_fn};
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::Semaphore;
use tokio_util::task::TaskTracker;
use tower_http::timeout::{RequestBodyTimeoutLayer, TimeoutError};

/// Connections at one time. More wait in the kernel's queue. Below the usual 1,024 open files of a process.
const MAX_CONNECTIONS: usize = 960;
/// For the head of a request, and so for how long a connection may idle between two.
const HEAD_TIMEOUT: Duration = Duration::from_secs(30);
/// Between two pieces of a body.
const BODY_TIMEOUT: Duration = Duration::from_secs(15);
/// What the head of a request may take, and the buffer a connection may hold.
const HEAD_BYTES: usize = 64 * 1024;
/// For the last answers to be written, when the server stops.
const TO_WRITE: Duration = Duration::from_secs(1);
/// After a failed accept (out of files, mostly): trying at once would only burn the processor.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Serves until a signal comes. What is returned has the connections that are still open then, and the requests that still
/// run, for [`finish`].
///
/// `axum::serve` would be shorter, but it bounds neither the connections nor the time a head may take.
///
/// # Cancel safety
/// Dropped, it accepts no more; open connections go on.
pub async fn serve(
    listener: TcpListener,
    router: Router,
    mut signals: Signals,
) -> (GracefulShutdown, TaskTracker) {
    let requests = TaskTracker::new();
    let running = requests.clone();
    let counted = from_fn(move |request: Request, next: Next| {
        let token = running.token();
        async move {
            let response = next.run(request).await;
            drop(token);
            response
        }
    });
    let service =
        TowerToHyperService::new(router.layer(counted).layer(RequestBodyTimeoutLayer::new(BODY_TIMEOUT)));
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(HEAD_TIMEOUT).max_buf_size(HEAD_BYTES);
    let graceful = GracefulShutdown::new();
    let slots = Arc::new(Semaphore::new(MAX_CONNECTIONS));

    loop {
        let accepted = tokio::select! {
            () = signals.recv() => break,
            accepted = accept(&listener, &slots) => accepted,
        };
        let (stream, slot) = match accepted {
            Ok(accepted) => accepted,
            Err(fault) => {
                tracing::warn!(%fault, "cannot accept a connection");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let connection = graceful.watch(http.serve_connection(TokioIo::new(stream), service.clone()));
        tokio::spawn(async move {
            // A client that went away, or did not speak HTTP: nothing to do, and nothing an operator could do.
            if let Err(fault) = connection.await {
                tracing::debug!(%fault, "connection ended early");
            }
            drop(slot);
        });
    }
    (graceful, requests)
}

/// Waits for the connections to end, or for the requests, and then a moment for their answers to be written: a connection
/// that has sent half a head is owed nothing.
///
/// # Cancel safety
/// Dropped, it stops waiting.
pub async fn finish(connections: GracefulShutdown, requests: TaskTracker) {
    requests.close();
    tokio::select! {
        () = connections.shutdown() => {}
        () = async {
            // Again, if a request began in that moment.
            while {
                requests.wait().await;
                tokio::time::sleep(TO_WRITE).await;
                !requests.is_empty()
            } {}
        } => {}
    }
}

/// Whether at the bottom of it a body did not arrive in time.
pub fn is_body_timeout(error: &(dyn Error + 'static)) -> bool {
    let mut cause = Some(error);
    while let Some(error) = cause {
        if error.is::<TimeoutError>() {
            return true;
        }
        cause = error.source();
    }
    false
}

/// A connection and the slot it takes.
///
/// # Cancel safety
/// Dropped, no connection is lost: it is the last thing awaited.
async fn accept(
    listener: &TcpListener,
    slots: &Arc<Semaphore>,
) -> io::Result<(TcpStream, tokio::sync::OwnedSemaphorePermit)> {
    let slot = Arc::clone(slots).acquire_owned().await.map_err(io::Error::other)?;
    let (stream, _) = listener.accept().await?;
    // Answers are small and written whole; waiting to fill a packet would only delay them.
    stream.set_nodelay(true)?;
    Ok((stream, slot))
}

/// SIGTERM and SIGINT.
#[derive(Debug)]
pub struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    /// From now on they no longer kill the process.
    ///
    /// # Errors
    /// The system refuses the handlers.
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
    use bytes::Bytes;
    use http::StatusCode;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    /// Sends this on a connection and reads what comes until the server closes it. Time is paused: it jumps to the next
    /// time-out whenever nothing else can happen.
    async fn answer_to(sent: &str) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let router = Router::new().fallback(async |body: Result<Bytes, _>| match body {
            Ok(_) => StatusCode::OK,
            Err(_) => StatusCode::REQUEST_TIMEOUT,
        });
        let server = tokio::spawn(serve(listener, router, Signals::listen().unwrap()));
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(sent.as_bytes()).await.unwrap();
        let mut answer = String::new();
        let read = stream.read_to_string(&mut answer);
        tokio::time::timeout(Duration::from_mins(5), read).await.expect("it is closed at some time").unwrap();
        server.abort();
        answer
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
}
