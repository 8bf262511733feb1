//! A limit of the open transactions of an account, so that one account cannot fill the queue for
//! database connections.

use std::sync::Arc;

use axum::Extension;
use axum::body::{Body, HttpBody as _, to_bytes};
use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::Response;
use bytes::Bytes;
use futures_util::stream;
use http_body::Frame;
use http_body_util::StreamBody;

use crate::BoxError;
use crate::db::Turn;
use crate::places::Places;
use crate::vendor::Caller;

/// The transaction limit of a route.
#[derive(Debug, Clone)]
pub struct Turns {
    pub places: Arc<Places<String>>,
    /// Whether to wait before the idempotency layer, because the claim is part of the transaction. Otherwise,
    /// a request waits when its handler begins a transaction.
    pub at_once: bool,
    /// The maximum body size of the route.
    pub max_bytes: usize,
}

/// Middleware that adds a [`Turn`] to a request. The turn waits while the account has the maximum number of
/// open transactions.
pub async fn queue<U: Caller>(
    State(turns): State<Turns>,
    Extension(user): Extension<U>,
    mut request: Request,
    next: Next,
) -> Response {
    let turn = Turn::new(turns.places, user.account().clone());
    if turns.at_once {
        // Read the body first: a request must not hold a turn while it waits for its client.
        request = read(request, turns.max_bytes).await;
        turn.wait().await;
    }
    request.extensions_mut().insert(turn.clone());
    let response = next.run(request).await;
    drop(turn);
    response
}

/// Reads the body into memory. If that fails, the next read of the body returns the error.
async fn read(request: Request, max_bytes: usize) -> Request {
    if request.body().is_end_stream() {
        return request;
    }
    let (head, body) = request.into_parts();
    let body = match to_bytes(body, max_bytes).await {
        Ok(bytes) => Body::from(bytes),
        Err(error) => failing(error.into_inner()),
    };
    Request::from_parts(head, body)
}

/// Returns a body that fails with this error, without the wrappers that axum puts around it. The
/// extractors of axum look only two wrappers deep to find that a body was too large.
fn failing(mut error: BoxError) -> Body {
    let innermost = loop {
        match error.downcast::<axum::Error>() {
            Ok(wrapper) => error = wrapper.into_inner(),
            Err(innermost) => break innermost,
        }
    };
    Body::new(StreamBody::new(stream::iter([Err::<Frame<Bytes>, _>(innermost)])))
}

#[cfg(test)]
mod tests {
    use axum::extract::FromRequest as _;
    use axum::response::IntoResponse as _;
    use http::StatusCode;

    use super::*;

    #[tokio::test]
    async fn a_body_that_was_too_large_is_still_too_large_for_the_handler() {
        let chunked = Body::from_stream(stream::iter([Ok::<_, BoxError>(Bytes::from_static(b"four"))]));
        let request = read(Request::new(chunked), 3).await;
        let rejection = Bytes::from_request(request, &()).await.unwrap_err();
        assert_eq!(rejection.into_response().status(), StatusCode::PAYLOAD_TOO_LARGE);
    }

    #[tokio::test]
    async fn a_body_that_failed_fails_again() {
        let broken = Body::from_stream(stream::iter([Err::<Bytes, BoxError>("broken".into())]));
        let request = read(Request::new(broken), 3).await;
        let rejection = Bytes::from_request(request, &()).await.unwrap_err();
        assert_eq!(rejection.into_response().status(), StatusCode::BAD_REQUEST);
    }
}
