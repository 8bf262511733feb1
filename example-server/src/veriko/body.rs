//! Request bodies.

use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::{FromRequest, FromRequestParts, Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use axum::{Extension, RequestExt};
use bytes::Bytes;
use http::request::Parts;
use http::{StatusCode, header};
use serde_json::Value;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

use super::envelope::Context;
use super::errors::Failure;
use crate::server::is_body_timeout;

/// A body that is JSON, of whatever shape and whatever it calls itself: this API takes nothing else, its keys travel in a
/// header no foreign page can set, and `curl -d` says "form" of everything. What it means is for the handler to judge, so that it can answer with
/// everything that is wrong at once.
#[derive(Debug)]
pub(super) struct Json(pub(super) Value);

impl<S: Send + Sync> FromRequest<S> for Json {
    type Rejection = Response;

    async fn from_request(mut request: Request, _: &S) -> Result<Self, Response> {
        let Extension(context) =
            request.extract_parts::<Extension<Context>>().await.map_err(IntoResponse::into_response)?;
        json(request).await.map(Self).map_err(|failure| context.fail(&failure))
    }
}

/// A body as it was sent, for who reads it by its own rules.
#[derive(Debug)]
pub(super) struct Raw(pub(super) Bytes);

impl<S: Send + Sync> FromRequest<S> for Raw {
    type Rejection = Response;

    async fn from_request(mut request: Request, _: &S) -> Result<Self, Response> {
        let Extension(context) =
            request.extract_parts::<Extension<Context>>().await.map_err(IntoResponse::into_response)?;
        read(request).await.map(Self).map_err(|failure| context.fail(&failure))
    }
}

/// Refuses a body that says it is too large before any of it is read. (Of one that does not say, the reading ends at the
/// bound.)
pub(crate) async fn bound(
    State(max_bytes): State<usize>,
    Extension(context): Extension<Context>,
    request: Request,
    next: Next,
) -> Response {
    let length = request.headers().get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok());
    let too_large =
        length.and_then(|length| length.parse::<u64>().ok()).is_some_and(|bytes| bytes > max_bytes as u64);
    if too_large { context.fail(&Failure::body_too_large()) } else { next.run(request).await }
}

/// Room for one large body, for as long as this lives.
#[derive(Debug, Clone)]
pub(crate) struct Place {
    _permit: Arc<OwnedSemaphorePermit>,
}

/// Lets in as many requests with large bodies as there are places; another one waits, before any of its body is read.
pub(crate) async fn admit(
    State(places): State<Arc<Semaphore>>,
    Extension(context): Extension<Context>,
    mut request: Request,
    next: Next,
) -> Response {
    let Ok(Ok(permit)) = timeout(PATIENCE, places.acquire_owned()).await else {
        return context.fail(&Failure::ocr_busy());
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

async fn read(request: Request) -> Result<Bytes, Failure> {
    Bytes::from_request(request, &()).await.map_err(|rejection| {
        let too_large = rejection.status() == StatusCode::PAYLOAD_TOO_LARGE;
        if too_large { Failure::body_too_large() } else { unreadable(&rejection) }
    })
}

async fn json(request: Request) -> Result<Value, Failure> {
    let body = read(request).await?;
    if body.trim_ascii().is_empty() {
        return Err(Failure::body_empty());
    }
    serde_json::from_slice(&body).map_err(|_| Failure::invalid_json())
}

/// Too slow, if that is at the bottom of it.
pub(super) fn unreadable(rejection: &(dyn Error + 'static)) -> Failure {
    if is_body_timeout(rejection) {
        return Failure::request_timeout();
    }
    Failure::body_unreadable()
}
