//! Request bodies.

use axum::extract::{FromRequest, Request};
use axum::response::{IntoResponse, Response};
use axum::{Extension, RequestExt};
use bytes::Bytes;
use http::StatusCode;
use serde_json::Value;

use super::envelope::Context;
use super::errors::Failure;

/// A JSON body of any shape, whatever its `Content-Type`.
///
/// The `Content-Type` is ignored because the API accepts nothing but JSON, its keys travel in a
/// header that a foreign page cannot set, and `curl -d` always declares a form. The handler checks
/// the content, so that it can report all errors at once.
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

/// The raw body, for handlers that parse it themselves.
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

async fn read(request: Request) -> Result<Bytes, Failure> {
    Bytes::from_request(request, &()).await.map_err(|rejection| {
        let too_large = rejection.status() == StatusCode::PAYLOAD_TOO_LARGE;
        if too_large { Failure::body_too_large() } else { Failure::of_unreadable_body(&rejection) }
    })
}

async fn json(request: Request) -> Result<Value, Failure> {
    let body = read(request).await?;
    if body.trim_ascii().is_empty() {
        return Err(Failure::body_empty());
    }
    serde_json::from_slice(&body).map_err(|_| Failure::invalid_json())
}
