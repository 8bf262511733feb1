//! The future of a response, and what happens when it is dropped.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use http::{Request, Response};
use pin_project_lite::pin_project;
use tokio::runtime::Handle;
use tokio_util::task::TaskTracker;
use tower_service::Service;

use crate::body::Replayable;
use crate::cancellation::CancellationState;
use crate::config::OnDisconnect;
use crate::engine::Engine;
use crate::handler_error::Unclaimed;
use crate::store::Store;
use crate::trace;

pin_project! {
    /// The response future of [`IdempotencyService`](crate::IdempotencyService).
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped while its request holds a claim, it moves to the runtime that
    /// polled it. There it finishes, or cancels the handler and releases the claim, depending on
    /// [`OnDisconnect`]. If that runtime is gone, the claim ends with its lease, and the record is
    /// an orphan.
    pub struct ResponseFuture<F, R, E>
    where
        R: Send,
        R: 'static,
        E: Send,
        E: 'static,
    {
        #[pin]
        state: State<F, R, E>,
    }
}

pin_project! {
    #[project = StateProjection]
    enum State<F, R, E>
    where
        R: Send,
        R: 'static,
        E: Send,
        E: 'static,
    {
        Bypass { #[pin] future: F, unclaimed: Unclaimed },
        Rejected { response: Option<Response<R>> },
        WithoutKey { future: BoxFuture<Result<Response<R>, E>> },
        Engaged { engaged: Engaged<R, E> },
    }
}

impl<F, R: Send + 'static, E: Send + 'static> ResponseFuture<F, R, E> {
    pub(crate) fn bypass(future: F, unclaimed: Unclaimed) -> Self {
        Self { state: State::Bypass { future, unclaimed } }
    }

    pub(crate) fn rejected(response: Response<R>) -> Self {
        Self { state: State::Rejected { response: Some(response) } }
    }

    /// Makes the future of a request without a key. If it is dropped, its transaction is rolled
    /// back.
    pub(crate) fn without_key(future: impl Future<Output = Result<Response<R>, E>> + Send + 'static) -> Self {
        Self { state: State::WithoutKey { future: Box::pin(future) } }
    }

    pub(crate) fn engaged<S, B, St>(engine: Arc<Engine<St>>, request: Request<B>, inner: S) -> Self
    where
        S: Service<Request<B>, Response = Response<R>, Error = E> + Clone + Send + 'static,
        S::Future: Send,
        St: Store,
        B: Replayable,
        R: Replayable,
    {
        let engaged = Engaged {
            request: engine.clone(),
            runtime: None,
            future: Some(Box::pin(trace::in_span(engine.engage(request, inner)))),
        };
        Self { state: State::Engaged { engaged } }
    }
}

impl<F, R, E> Future for ResponseFuture<F, R, E>
where
    F: Future<Output = Result<Response<R>, E>>,
    R: Replayable,
    E: Send + 'static,
{
    type Output = Result<Response<R>, E>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match self.project().state.project() {
            StateProjection::Bypass { future, unclaimed } => {
                future.poll(cx).map_ok(|response| unclaimed.answer(response))
            }
            StateProjection::Rejected { response } => match response.take() {
                Some(response) => Poll::Ready(Ok(response)),
                None => Poll::Pending,
            },
            StateProjection::WithoutKey { future } => future.as_mut().poll(cx),
            StateProjection::Engaged { engaged } => engaged.poll(cx),
        }
    }
}

impl<F, R: Send + 'static, E: Send + 'static> fmt::Debug for ResponseFuture<F, R, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ResponseFuture").finish_non_exhaustive()
    }
}

type BoxFuture<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// What the response future needs from its request, independent of the type of the store.
trait Detachable: Send + Sync {
    fn cancellation(&self) -> &CancellationState;

    /// Returns whether the request is cancelled when its client disconnects.
    fn cancels(&self) -> bool;

    /// Returns the tracker of the requests whose client disconnected.
    fn detached(&self) -> &TaskTracker;

    /// Returns how many requests may run without a client before this one is rolled back when its
    /// client disconnects. `None` if it always runs to its end: only a claim in the transaction can
    /// be dropped.
    fn drops_beyond(&self) -> Option<usize>;

    /// Lets waiters ask the store again.
    fn wake_waiters(&self);
}

impl<St: Store> Detachable for Engine<St> {
    fn cancellation(&self) -> &CancellationState {
        self.cancellation()
    }

    fn cancels(&self) -> bool {
        self.config().on_disconnect == OnDisconnect::Cancel
    }

    fn detached(&self) -> &TaskTracker {
        &self.config().detached
    }

    fn drops_beyond(&self) -> Option<usize> {
        self.config().in_transaction.is_some().then_some(self.config().max_detached)
    }

    fn wake_waiters(&self) {
        Self::wake_waiters(self);
    }
}

/// The future of a keyed request.
struct Engaged<R: Send + 'static, E: Send + 'static> {
    /// `None` after it has answered or panicked.
    future: Option<BoxFuture<Result<Response<R>, E>>>,
    request: Arc<dyn Detachable>,
    /// The runtime on which the future was first pending.
    runtime: Option<Handle>,
}

impl<R: Send + 'static, E: Send + 'static> Engaged<R, E> {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<Response<R>, E>> {
        // Taken out while it is polled, so that a future that panicked is not polled again in
        // `drop`.
        let Some(mut future) = self.future.take() else { return Poll::Pending };
        let poll = future.as_mut().poll(cx);
        if poll.is_pending() {
            self.future = Some(future);
            if self.runtime.is_none() {
                self.runtime = Handle::try_current().ok();
            }
        }
        poll
    }
}

/// The client disconnected. If the future holds a claim or may hold one, it finishes on the
/// runtime.
impl<R: Send + 'static, E: Send + 'static> Drop for Engaged<R, E> {
    fn drop(&mut self) {
        let Some(future) = self.future.take() else { return };
        let cancellation = self.request.cancellation();
        if !cancellation.holds_claim() {
            return;
        }
        if self.request.drops_beyond().is_some_and(|max| self.request.detached().len() >= max) {
            // The transaction ends with its future, and a waiter may run then.
            drop(future);
            self.request.wake_waiters();
            return;
        }
        cancellation.disconnect();
        if self.request.cancels() {
            cancellation.cancel();
        }
        // Its timers and connections belong to the runtime that polled it, so it finishes there
        // even if it is dropped elsewhere.
        if let Some(runtime) = self.runtime.take().or_else(|| Handle::try_current().ok()) {
            self.request.detached().spawn_on(
                async move {
                    // Nobody receives the response.
                    let _ = future.await;
                },
                &runtime,
            );
        }
    }
}
