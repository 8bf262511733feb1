//! A request body that must arrive at a minimum rate.

use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::body::Body;
use axum::extract::Request;
use axum::middleware::Next;
use axum::response::Response;
use bytes::Bytes;
use futures_util::StreamExt;
use http::{HeaderValue, header};
use http_body::{Body as _, Frame, SizeHint};
use tokio::time::{Instant, Sleep, sleep_until, timeout};

use crate::clock;

/// The time-out between two chunks of a body.
const BETWEEN: Duration = Duration::from_secs(15);
/// Additional time for a body, beyond the time its bytes take at the minimum rate.
const GRACE: Duration = Duration::from_secs(15);
/// The minimum rate, in bytes per second.
const SLOWEST: u64 = 8 * 1024;
/// The time-out for a body of any length.
const LONGEST: Duration = Duration::from_mins(3);

/// The error of a request body that did not arrive in time.
#[derive(Debug, thiserror::Error)]
#[error("the body did not arrive in time")]
pub struct TooSlow;

/// Maximum bytes to discard of an unread body, so that the connection can be reused.
const REST_BYTES: u64 = 64 * 1024;
/// Maximum time to discard an unread body.
const REST_TIME: Duration = Duration::from_millis(200);

/// Middleware that enforces the rate of a request's body.
///
/// If the handler responds before the end of the body, this function discards the rest of the body.
/// If the rest is too long or too slow, the response closes the connection instead.
pub async fn pace(request: Request, next: Next) -> Response {
    if request.body().is_end_stream() {
        return next.run(request).await;
    }
    // Reading the body would send `100 Continue` to a client that waits for it.
    let is_expected = request.headers().contains_key(header::EXPECT);
    let rest = Rest::default();
    let mut response = next.run(request.map(|body| Body::new(Paced::new(body, rest.clone())))).await;
    let Some(body) = rest.take() else { return response };
    if is_expected || !matches!(timeout(REST_TIME, skip(body)).await, Ok(true)) {
        response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    response
}

/// Reads a body and discards it. Returns whether it ended within the limit.
async fn skip(body: Body) -> bool {
    let mut body = body.into_data_stream();
    let mut read = 0;
    while let Some(piece) = body.next().await {
        let Ok(piece) = piece else { return false };
        read += piece.len() as u64;
        if read > REST_BYTES {
            return false;
        }
    }
    true
}

/// The rest of a body that was not read to its end.
#[derive(Debug, Clone, Default)]
struct Rest(Arc<Mutex<Option<Body>>>);

impl Rest {
    fn take(&self) -> Option<Body> {
        self.lock().take()
    }

    fn lock(&self) -> MutexGuard<'_, Option<Body>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A body with a minimum rate.
#[derive(Debug)]
struct Paced {
    body: Body,
    /// Receives the body if it is dropped before its end.
    rest: Rest,
    has_ended: bool,
    received: u64,
    /// The total time spent waiting for the client. It excludes the time that the server takes.
    waited: Duration,
    waiting: Option<Waiting>,
}

#[derive(Debug)]
struct Waiting {
    since: Instant,
    deadline: Pin<Box<Sleep>>,
}

impl Paced {
    fn new(body: Body, rest: Rest) -> Self {
        Self { body, rest, has_ended: false, received: 0, waited: Duration::ZERO, waiting: None }
    }

    /// Returns the time-out of the next chunk.
    fn patience(&self) -> Duration {
        let in_all = GRACE + Duration::from_secs(self.received / SLOWEST);
        in_all.min(LONGEST).saturating_sub(self.waited).min(BETWEEN)
    }
}

impl http_body::Body for Paced {
    type Data = Bytes;
    type Error = axum::BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::BoxError>>> {
        let this = &mut *self;
        if let Poll::Ready(frame) = Pin::new(&mut this.body).poll_frame(cx) {
            if let Some(waiting) = this.waiting.take() {
                this.waited += waiting.since.elapsed();
            }
            let bytes = frame.as_ref().and_then(|frame| frame.as_ref().ok()?.data_ref()).map(Bytes::len);
            this.received += bytes.unwrap_or_default() as u64;
            this.has_ended = !matches!(frame, Some(Ok(_)));
            return Poll::Ready(frame.map(|frame| frame.map_err(Into::into)));
        }
        let patience = this.patience();
        let waiting = this.waiting.get_or_insert_with(|| {
            let since = clock::timers();
            Waiting { since, deadline: Box::pin(sleep_until(since + patience)) }
        });
        ready!(waiting.deadline.as_mut().poll(cx));
        // Do not wait for the rest either.
        this.has_ended = true;
        Poll::Ready(Some(Err(TooSlow.into())))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl Drop for Paced {
    fn drop(&mut self) {
        if !self.has_ended && !self.body.is_end_stream() {
            *self.rest.lock() = Some(std::mem::take(&mut self.body));
        }
    }
}

#[cfg(test)]
mod tests {
    use axum::body::to_bytes;
    use axum::middleware::from_fn;
    use futures_util::stream;
    use http::StatusCode;
    use tower::ServiceExt;

    use super::*;

    /// Reads a body that arrives in such pieces. Returns the time it took, and whether it was
    /// complete.
    async fn read(piece: usize, every: Duration, pieces: usize) -> (Duration, bool) {
        let body = stream::unfold(0, move |sent| async move {
            tokio::time::sleep(every).await;
            (sent < pieces).then(|| (Ok::<_, TooSlow>(Bytes::from(vec![b'a'; piece])), sent + 1))
        });
        let began = clock::timers();
        let read =
            to_bytes(Body::new(Paced::new(Body::from_stream(body), Rest::default())), usize::MAX).await;
        (began.elapsed(), read.is_ok())
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_that_trickles_in_ends_soon() {
        let (took, whole) = read(1, Duration::from_secs(10), 100).await;
        assert!(!whole);
        assert_eq!(took, GRACE);
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_that_stops_ends_though_it_was_fast() {
        let body = stream::iter([Ok::<_, TooSlow>(Bytes::from(vec![b'a'; 1_000_000]))]);
        let body = body.chain(stream::pending());
        let began = clock::timers();
        assert!(
            to_bytes(Body::new(Paced::new(Body::from_stream(body), Rest::default())), usize::MAX)
                .await
                .is_err()
        );
        assert_eq!(began.elapsed(), BETWEEN);
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_at_a_slow_and_steady_pace_is_read() {
        let (_, whole) = read(10 * 1024, Duration::from_secs(1), 100).await;
        assert!(whole);
    }

    #[tokio::test(start_paused = true)]
    async fn no_body_takes_longer_than_the_longest() {
        let (took, whole) = read(10 * 1024, Duration::from_secs(1), 1000).await;
        assert!(!whole && took <= LONGEST, "{took:?}");
    }

    /// Returns whether the response closes the connection when nobody reads a body of these pieces.
    async fn ends_connection(pieces: usize, is_whole: bool, expect: bool) -> bool {
        let pieces = stream::iter((0..pieces).map(|_| Ok::<_, TooSlow>(Bytes::from(vec![b'a'; 1024]))));
        let body = if is_whole {
            Body::from_stream(pieces)
        } else {
            Body::from_stream(pieces.chain(stream::pending()))
        };
        let router = axum::Router::new().fallback(async || StatusCode::TOO_MANY_REQUESTS);
        let mut request = http::Request::post("/");
        if expect {
            request = request.header(header::EXPECT, "100-continue");
        }
        let answer = router.layer(from_fn(pace)).oneshot(request.body(body).unwrap()).await.unwrap();
        answer.headers().get(header::CONNECTION).is_some_and(|value| value == "close")
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_before_the_body_was_read_keeps_the_connection_if_the_rest_is_short() {
        assert!(!ends_connection(1, true, false).await);
        assert!(!ends_connection(64, true, false).await);
        assert!(ends_connection(65, true, false).await, "it is long");
        assert!(ends_connection(1, false, false).await, "it does not come");
        assert!(ends_connection(1, true, true).await, "it was not asked for");
    }
}
