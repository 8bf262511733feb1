//! Points at which a test stops the process to kill it there. Without the feature `failpoints`, they are nothing.

use axum::extract::Request;
use axum::middleware::Next;
use axum::response::Response;

/// Stops here for good, if the environment variable `FAILPOINT` names this point.
#[cfg(feature = "failpoints")]
pub async fn hit(name: &str) {
    if std::env::var("FAILPOINT").is_ok_and(|failpoint| failpoint == name) {
        eprintln!("at {name}");
        std::future::pending::<()>().await;
    }
}

/// Nothing.
#[cfg(not(feature = "failpoints"))]
#[expect(clippy::unused_async, reason = "with the feature, it waits")]
pub async fn hit(_: &str) {}

/// Outside the idempotency layer: what is answered has been committed.
pub async fn after_commit(request: Request, next: Next) -> Response {
    let response = next.run(request).await;
    hit("after-commit").await;
    response
}
