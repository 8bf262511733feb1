//! Points at which a test stops the process to kill it there. Without the feature `fault-points`, they are nothing.

use axum::extract::Request;
use axum::middleware::Next;
use axum::response::Response;

/// Stops here for good, if the environment variable `FAULT_POINT` names this point.
#[cfg(feature = "fault-points")]
pub async fn point(name: &str) {
    if std::env::var("FAULT_POINT").is_ok_and(|asked| asked == name) {
        eprintln!("at {name}");
        std::future::pending::<()>().await;
    }
}

/// Nothing.
#[cfg(not(feature = "fault-points"))]
#[expect(clippy::unused_async, reason = "with the feature, it waits")]
pub async fn point(_: &str) {}

/// Outside the idempotency layer: what is answered has been committed.
pub async fn after_commit(request: Request, next: Next) -> Response {
    let response = next.run(request).await;
    point("after-commit").await;
    response
}
