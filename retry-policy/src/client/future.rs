use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll};

use http::HeaderValue;
use pin_project_lite::pin_project;
use tokio::time::{Sleep, sleep};
use tower::BoxError;
use tower_service::Service;

use super::error::{Error, ErrorKind};
use super::event::{Next, TryOutcome};
use super::failure;
use super::kept::Kept;
use super::message::{ClientRequest, ClientResponse};
use super::session::Session;

pin_project! {
    /// The future of a [`Retry`](super::Retry).
    #[must_use = "futures do nothing unless polled"]
    pub struct ResponseFuture<S, Req>
    where
        S: Service<Req>,
        S::Response: ClientResponse,
    {
        service: S,
        session: Session,
        key: Option<HeaderValue>,
        // For the next try; `None` if there is none.
        request: Option<Req>,
        // The last response so far.
        kept: Option<Kept<<S::Response as ClientResponse>::Body>>,
        #[pin]
        deadline: Sleep,
        #[pin]
        state: State<S::Future>,
    }
}

pin_project! {
    #[project = StateProjection]
    enum State<F> {
        NotReplayable,
        Trying { #[pin] response: F, #[pin] timeout: Sleep },
        Waiting { #[pin] wait: Sleep },
        // For the service to be ready.
        Readying,
    }
}

impl<S, Req> ResponseFuture<S, Req>
where
    S: Service<Req>,
    S::Response: ClientResponse,
{
    pub(super) fn not_replayable(service: S, session: Session, key: Option<HeaderValue>) -> Self {
        Self::new(service, session, key, None, State::NotReplayable)
    }

    pub(super) fn trying(
        service: S,
        session: Session,
        key: Option<HeaderValue>,
        request: Option<Req>,
        first: S::Future,
    ) -> Self {
        let timeout = sleep(session.config().try_timeout);
        Self::new(service, session, key, request, State::Trying { response: first, timeout })
    }

    fn new(
        service: S,
        session: Session,
        key: Option<HeaderValue>,
        request: Option<Req>,
        state: State<S::Future>,
    ) -> Self {
        let deadline = sleep(session.config().deadline);
        Self { service, session, key, request, kept: None, deadline, state }
    }

    fn fail(self: Pin<&mut Self>, error: Error) -> Poll<Result<S::Response, Error>> {
        let this = self.project();
        let response = this.kept.take().map(Kept::into_response);
        Poll::Ready(Err(error.with(this.key.take(), response)))
    }
}

impl<S, Req> Future for ResponseFuture<S, Req>
where
    S: Service<Req>,
    S::Response: ClientResponse,
    S::Error: Into<BoxError>,
    Req: ClientRequest,
{
    type Output = Result<S::Response, Error>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        loop {
            let mut this = self.as_mut().project();
            match this.state.as_mut().project() {
                StateProjection::NotReplayable => return self.fail(Error::new(ErrorKind::NotReplayable)),
                StateProjection::Trying { response, timeout } => {
                    let (next, error) = match response.poll(context) {
                        Poll::Ready(Ok(response)) => {
                            let outcome = TryOutcome::Response(response.status());
                            match this.session.end_try(outcome, Some(response.headers())) {
                                Next::RetryIn(wait) => {
                                    *this.kept = Some(Kept::new(response));
                                    (Next::RetryIn(wait), None)
                                }
                                Next::Done | Next::GiveUp(_) => return Poll::Ready(Ok(response)),
                            }
                        }
                        Poll::Ready(Err(error)) => {
                            let error = error.into();
                            let next = this.session.end_try(failure::classify(&error), None);
                            (next, Some(Error::client(error)))
                        }
                        Poll::Pending if this.deadline.poll(context).is_ready() => {
                            this.session.end_at_deadline();
                            return self.fail(Error::new(ErrorKind::Deadline));
                        }
                        Poll::Pending if timeout.poll(context).is_ready() => {
                            let next = this.session.end_try(TryOutcome::Timeout, None);
                            (next, Some(Error::new(ErrorKind::TryTimeout)))
                        }
                        Poll::Pending => return Poll::Pending,
                    };
                    match (next, error) {
                        // This drops a try that took too long before the next one begins.
                        (Next::RetryIn(wait), _) => this.state.set(State::Waiting { wait: sleep(wait) }),
                        (_, error) => {
                            let error = error.unwrap_or_else(|| Error::new(ErrorKind::Deadline));
                            return self.fail(error);
                        }
                    }
                }
                StateProjection::Waiting { wait } => {
                    if let Some(kept) = this.kept {
                        kept.poll_read(context);
                    }
                    if wait.poll(context).is_pending() {
                        return Poll::Pending;
                    }
                    if let Some(kept) = this.kept {
                        kept.stop_reading();
                    }
                    this.state.set(State::Readying);
                }
                StateProjection::Readying => {
                    match this.service.poll_ready(context) {
                        Poll::Ready(Ok(())) => {}
                        Poll::Ready(Err(error)) => return self.fail(Error::client(error.into())),
                        Poll::Pending if this.deadline.poll(context).is_ready() => {
                            return self.fail(Error::new(ErrorKind::Deadline));
                        }
                        Poll::Pending => return Poll::Pending,
                    }
                    // The last try takes the request, and the others copy it.
                    let copy = if this.session.is_last_try() {
                        None
                    } else {
                        this.request.as_ref().and_then(ClientRequest::try_clone)
                    };
                    let Some(request) = std::mem::replace(this.request, copy) else {
                        return self.fail(Error::new(ErrorKind::NotReplayable));
                    };
                    let response = this.service.call(request);
                    let timeout = sleep(this.session.config().try_timeout);
                    this.state.set(State::Trying { response, timeout });
                }
            }
        }
    }
}

impl<S, Req> fmt::Debug for ResponseFuture<S, Req>
where
    S: Service<Req>,
    S::Response: ClientResponse,
{
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ResponseFuture").finish_non_exhaustive()
    }
}
