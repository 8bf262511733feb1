//! The last response is returned, or kept in the error.

use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;

use account_retry_policy::Backoff;
use account_retry_policy::client::{Error, ErrorKind, MAX_KEPT_BODY_BYTES, Retries};
use bytes::Bytes;
use http::{Request, Response};
use http_body::{Body, Frame};
use tower::{Layer, Service, ServiceExt};

use crate::server::{Does, Server, post, seconds, send, status, times, with};

fn kept(error: &Error) -> (u16, &[u8]) {
    let response = error.response().expect("the error keeps the last response");
    (response.status().as_u16(), response.body())
}

#[tokio::test(start_paused = true)]
async fn an_error_after_a_response_keeps_the_response() {
    for (last, kind) in [(Does::Fail, ErrorKind::Client), (Does::Hang, ErrorKind::TryTimeout)] {
        let server = Server::that([status(500), with(503, "x-reason", "maintenance"), Does::Fail, last]);
        let error = send(&Retries::new().max_tries(times(4)), &server, post()).await.unwrap_err();
        assert_eq!(error.kind(), kind);
        assert_eq!(kept(&error), (503, b"12.50".as_slice()));
        assert_eq!(error.response().unwrap().headers()["x-reason"], "maintenance");
        assert!(error.to_string().contains("503"), "{error}");
        assert_eq!(error.into_response().unwrap().body(), "12.50");
    }
}

#[tokio::test(start_paused = true)]
async fn the_deadline_keeps_the_response() {
    let retries = Retries::new().deadline(seconds(15)).try_timeout(seconds(60));
    let error = send(&retries, &Server::that([status(503), Does::Hang]), post()).await.unwrap_err();
    assert_eq!((error.kind(), kept(&error)), (ErrorKind::Deadline, (503, b"12.50".as_slice())));
}

#[tokio::test(start_paused = true)]
async fn an_error_without_any_response_has_none_and_shows_its_source() {
    let error = send(&Retries::new(), &Server::always(Does::Fail), post()).await.unwrap_err();
    assert!(error.response().is_none());
    assert_eq!(error.to_string(), "the request failed: connection reset");
}

/// Ready once, and never again.
#[derive(Clone, Default)]
struct Once(Arc<AtomicBool>);

impl Service<Request<String>> for Once {
    type Response = Response<String>;
    type Error = io::Error;
    type Future = std::future::Ready<io::Result<Response<String>>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.0.load(Ordering::Relaxed) { Poll::Pending } else { Poll::Ready(Ok(())) }
    }

    fn call(&mut self, _: Request<String>) -> Self::Future {
        self.0.store(true, Ordering::Relaxed);
        std::future::ready(Ok(Response::builder().status(503).body("busy".to_owned()).unwrap()))
    }
}

#[tokio::test(start_paused = true)]
async fn a_client_that_is_never_ready_again_ends_at_the_deadline_with_the_response() {
    let mut client = Retries::new().layer().layer(Once::default());
    let error = client.ready().await.unwrap().call(post()).await.unwrap_err();
    assert_eq!((error.kind(), kept(&error)), (ErrorKind::Deadline, (503, b"busy".as_slice())));
}

/// A body of this many more bytes, which may never end.
struct Long {
    left: usize,
    ends: bool,
    /// Held for as long as the body.
    open: Arc<()>,
}

impl Body for Long {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        debug_assert!(Arc::strong_count(&self.open) > 0);
        let length = self.left.min(1000);
        self.left -= length;
        match (length, self.ends) {
            (0, true) => Poll::Ready(None),
            (0, false) => Poll::Pending,
            _ => Poll::Ready(Some(Ok(Frame::data(Bytes::from(vec![b'x'; length]))))),
        }
    }
}

/// Answers 503 with such a body, and then fails. Returns the error, and whether the second try found the body still held.
async fn after_a_long_body(left: usize, ends: bool) -> (Error, bool) {
    let open = Arc::new(());
    let watch = Arc::downgrade(&open);
    let body = Mutex::new(Some(Long { left, ends, open }));
    let is_held = Arc::new(AtomicBool::new(false));
    let held = Arc::clone(&is_held);
    let server = tower::service_fn(move |_: Request<String>| {
        let answer = if let Some(body) = body.lock().unwrap().take() {
            Ok(Response::builder().status(503).body(body).unwrap())
        } else {
            held.fetch_or(watch.strong_count() > 0, Ordering::Relaxed);
            Err(io::Error::from(io::ErrorKind::ConnectionReset))
        };
        std::future::ready(answer)
    });
    let server = tower::buffer::Buffer::new(server, 1);
    let retries = Retries::new().backoff(Backoff::fixed(Duration::from_millis(10)));
    let error = retries.layer().layer(server).oneshot(post()).await.err().unwrap();
    (error, is_held.load(Ordering::Relaxed))
}

#[tokio::test(start_paused = true)]
async fn the_body_is_read_up_to_a_limit_and_let_go_before_the_next_try() {
    for (left, ends, read) in [
        (0, true, 0),
        (5_000, true, 5_000),
        (5_000, false, 5_000),
        (MAX_KEPT_BODY_BYTES, true, MAX_KEPT_BODY_BYTES),
        (10_000_000, true, MAX_KEPT_BODY_BYTES),
        (10_000_000, false, MAX_KEPT_BODY_BYTES),
    ] {
        let (error, is_held) = after_a_long_body(left, ends).await;
        assert_eq!(error.response().unwrap().body().len(), read, "{left}");
        assert!(!is_held, "the first try still holds its connection");
    }
}
