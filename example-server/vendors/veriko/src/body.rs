//! Request bodies.

use axum::extract::{FromRequest, Request};
use axum::response::{IntoResponse, Response};
use axum::{Extension, RequestExt};
use bytes::Bytes;
use http::StatusCode;
use serde_json::Value;

use super::envelope::Context;
use super::errors::Failure;

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
