//! How much of request bodies is taken in, before anybody reads them. What is refused here is answered with a bare status: each
//! API's frame puts it into its own words.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::{FromRequestParts, Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use http::request::Parts;
use http::{StatusCode, header};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

/// Refuses a body that says it is too large before any of it is read. (Of one that does not say, the reading ends at the
/// bound.)
pub async fn bound(State(max_bytes): State<usize>, request: Request, next: Next) -> Response {
    let length = request.headers().get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok());
    let too_large =
        length.and_then(|length| length.parse::<u64>().ok()).is_some_and(|bytes| bytes > max_bytes as u64);
    if too_large { StatusCode::PAYLOAD_TOO_LARGE.into_response() } else { next.run(request).await }
}

/// Room for one large body, for as long as this lives.
#[derive(Debug, Clone)]
pub struct Place {
    _permit: Arc<OwnedSemaphorePermit>,
}

/// Why there is a bare 503: no [`Place`] became free. It stands in the extensions of the answer.
#[derive(Debug, Clone, Copy)]
pub struct NoPlace;

/// Lets in as many requests with large bodies as there are places; another one waits, before any of its body is read.
pub async fn admit(State(places): State<Arc<Semaphore>>, mut request: Request, next: Next) -> Response {
    let Ok(Ok(permit)) = timeout(PATIENCE, places.acquire_owned()).await else {
        let mut refusal = (StatusCode::SERVICE_UNAVAILABLE, [(header::RETRY_AFTER, "1")]).into_response();
        refusal.extensions_mut().insert(NoPlace);
        return refusal;
    };
    // It goes with the request, also where that goes on without its client.
    request.extensions_mut().insert(Place { _permit: Arc::new(permit) });
    next.run(request).await
}

/// How long a request waits for room for its body.
const PATIENCE: Duration = Duration::from_secs(10);

impl<S: Send + Sync> FromRequestParts<S> for Place {
    type Rejection = StatusCode;

    /// The route is one without large bodies: a fault of ours.
    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, StatusCode> {
        parts.extensions.remove().ok_or(StatusCode::INTERNAL_SERVER_ERROR)
    }
}
