//! Turns among an account's transactions, so that one account does not fill the queue for the database.

use std::sync::Arc;

use axum::Extension;
use axum::body::{Body, HttpBody as _, to_bytes};
use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::Response;
use bytes::Bytes;
use futures_util::stream;

use crate::db::Turn;
use crate::places::Places;
use crate::vendor::Caller;

/// When requests to a route take their turn.
#[derive(Debug, Clone)]
pub struct Turns {
    pub places: Arc<Places<String>>,
    /// Before the idempotency layer, whose claim is the transaction; else when the handler begins one.
    pub at_once: bool,
    /// The bound of the route's bodies.
    pub max_bytes: usize,
}

/// Gives a request its [`Turn`], which waits while its account has as many transactions open as it can have.
pub async fn queue<U: Caller>(
    State(turns): State<Turns>,
    Extension(user): Extension<U>,
    mut request: Request,
    next: Next,
) -> Response {
    let turn = Turn::new(turns.places, user.account().clone());
    if turns.at_once {
        // First, since a turn is not for waiting for a client.
        request = read(request, turns.max_bytes).await;
        turn.wait().await;
    }
    request.extensions_mut().insert(turn.clone());
    let response = next.run(request).await;
    drop(turn);
    response
}

/// Reads the body. Where that fails, whoever reads it next finds the same failure.
async fn read(request: Request, max_bytes: usize) -> Request {
    if request.body().is_end_stream() {
        return request;
    }
    let (head, body) = request.into_parts();
    let body = match to_bytes(body, max_bytes).await {
        Ok(bytes) => Body::from(bytes),
        Err(error) => Body::from_stream(stream::iter([Err::<Bytes, _>(error)])),
    };
    Request::from_parts(head, body)
}
