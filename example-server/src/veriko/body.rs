//! Request bodies.

use std::error::Error;

use axum::extract::{FromRequest, Request};
use axum::response::{IntoResponse, Response};
use axum::{Extension, RequestExt};
use bytes::Bytes;
use http::{HeaderMap, StatusCode, header};
use serde_json::Value;
use tower_http::timeout::TimeoutError;

use super::envelope::Context;
use super::errors::Failure;

/// A body that is JSON, of whatever shape. What it means is for the handler to judge, so that it can answer with
/// everything that is wrong at once.
#[derive(Debug)]
pub(super) struct Json(pub(super) Value);

impl<S: Send + Sync> FromRequest<S> for Json {
    type Rejection = Response;

    async fn from_request(mut request: Request, _: &S) -> Result<Self, Response> {
        let Extension(context) =
            request.extract_parts::<Extension<Context>>().await.map_err(IntoResponse::into_response)?;
        read(request).await.map(Self).map_err(|failure| context.fail(&failure))
    }
}

async fn read(request: Request) -> Result<Value, Failure> {
    if !may_be_json(request.headers()) {
        return Err(Failure::unsupported_media_type());
    }
    let body = Bytes::from_request(request, &()).await.map_err(|rejection| {
        let too_large = rejection.status() == StatusCode::PAYLOAD_TOO_LARGE;
        if too_large { Failure::body_too_large() } else { unreadable(&rejection) }
    })?;
    if body.trim_ascii().is_empty() {
        return Err(Failure::body_empty());
    }
    serde_json::from_slice(&body).map_err(|_| Failure::invalid_json())
}

/// A body without a type is read as JSON, the one thing this API takes. One that says it is something else is refused
/// (a form post from another site's page is one), and so is one that says two things.
fn may_be_json(headers: &HeaderMap) -> bool {
    let mut types = headers.get_all(header::CONTENT_TYPE).iter();
    let Some(value) = types.next() else { return true };
    if types.next().is_some() {
        return false;
    }
    let essence =
        value.to_str().unwrap_or_default().split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    essence == "application/json"
        || essence.strip_prefix("application/").is_some_and(|rest| rest.ends_with("+json"))
}

/// Too slow, if that is at the bottom of it.
pub(super) fn unreadable(rejection: &(dyn Error + 'static)) -> Failure {
    let mut cause = Some(rejection);
    while let Some(error) = cause {
        if error.is::<TimeoutError>() {
            return Failure::request_timeout();
        }
        cause = error.source();
    }
    Failure::body_unreadable()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_under_any_of_its_names_and_untyped_bodies_are_read() {
        for value in ["application/json", "Application/JSON; charset=utf-8", "application/vnd.api+json"] {
            let headers = HeaderMap::from_iter([(header::CONTENT_TYPE, value.parse().unwrap())]);
            assert!(may_be_json(&headers), "{value}");
        }
        assert!(may_be_json(&HeaderMap::new()));
    }

    #[test]
    fn another_type_or_two_types_are_refused() {
        for value in ["text/plain", "application/x-www-form-urlencoded", "application/jsonp", "json", ""] {
            let headers = HeaderMap::from_iter([(header::CONTENT_TYPE, value.parse().unwrap())]);
            assert!(!may_be_json(&headers), "{value}");
        }
        let twice = ["application/json"; 2].map(|value| (header::CONTENT_TYPE, value.parse().unwrap()));
        assert!(!may_be_json(&twice.into_iter().collect()));
    }
}
