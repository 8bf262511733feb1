//! A request's body that has to come in at some pace.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::Body;
use axum::extract::Request;
use axum::middleware::Next;
use axum::response::Response;
use bytes::Bytes;
use http_body::{Frame, SizeHint};
use tokio::time::{Instant, Sleep, sleep_until};

use crate::clock;

/// Between two pieces of a body.
const BETWEEN: Duration = Duration::from_secs(15);
/// How long a body may take in all, beyond the time its bytes take at the slowest pace.
const GRACE: Duration = Duration::from_secs(15);
/// The slowest pace, in bytes a second.
const SLOWEST: u64 = 8 * 1024;
/// How long a body may take, however long it is.
const LONGEST: Duration = Duration::from_mins(3);

/// The body of a request did not come in in time.
#[derive(Debug, thiserror::Error)]
#[error("the body did not arrive in time")]
pub struct TooSlow;

/// Paces the body of a request.
pub async fn pace(request: Request, next: Next) -> Response {
    if http_body::Body::is_end_stream(request.body()) {
        return next.run(request).await;
    }
    next.run(request.map(|body| Body::new(Paced::new(body)))).await
}

/// The body.
#[derive(Debug)]
struct Paced {
    body: Body,
    received: u64,
    /// How long it was waited for, in all: what the server takes is not the client's.
    waited: Duration,
    waiting: Option<Waiting>,
}

#[derive(Debug)]
struct Waiting {
    since: Instant,
    deadline: Pin<Box<Sleep>>,
}

impl Paced {
    fn new(body: Body) -> Self {
        Self { body, received: 0, waited: Duration::ZERO, waiting: None }
    }

    /// How long the next piece may be waited for.
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
            return Poll::Ready(frame.map(|frame| frame.map_err(Into::into)));
        }
        let patience = this.patience();
        let waiting = this.waiting.get_or_insert_with(|| {
            let since = clock::timers();
            Waiting { since, deadline: Box::pin(sleep_until(since + patience)) }
        });
        waiting.deadline.as_mut().poll(cx).map(|()| Some(Err(TooSlow.into())))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use axum::body::to_bytes;
    use futures_util::stream;

    use super::*;

    /// How long this body is read for that comes in such pieces, and whether all of it was.
    async fn read(piece: usize, every: Duration, pieces: usize) -> (Duration, bool) {
        let body = stream::unfold(0, move |sent| async move {
            tokio::time::sleep(every).await;
            (sent < pieces).then(|| (Ok::<_, TooSlow>(Bytes::from(vec![b'a'; piece])), sent + 1))
        });
        let began = clock::timers();
        let read = to_bytes(Body::new(Paced::new(Body::from_stream(body))), usize::MAX).await;
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
        let body = futures_util::StreamExt::chain(body, stream::pending());
        let began = clock::timers();
        assert!(to_bytes(Body::new(Paced::new(Body::from_stream(body))), usize::MAX).await.is_err());
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
}
