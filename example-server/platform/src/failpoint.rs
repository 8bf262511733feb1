//! Points at which a test stops the process and then kills it. They do nothing without the feature
//! `failpoints`.

use axum::extract::Request;
use axum::middleware::Next;
use axum::response::Response;

/// Waits forever if the environment variable `FAILPOINT` names this point.
#[cfg(feature = "failpoints")]
pub async fn hit(name: &str) {
    if std::env::var("FAILPOINT").is_ok_and(|failpoint| failpoint == name) {
        eprintln!("at {name}");
        std::future::pending::<()>().await;
    }
}

/// Does nothing.
#[cfg(not(feature = "failpoints"))]
#[expect(clippy::unused_async, reason = "with the feature, it waits")]
pub async fn hit(_: &str) {}

/// Middleware outside the idempotency layer, which stops after the commit and before the response.
pub async fn after_commit(request: Request, next: Next) -> Response {
    let response = next.run(request).await;
    hit("after-commit").await;
    response
}
