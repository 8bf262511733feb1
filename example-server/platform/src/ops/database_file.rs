//! Maintenance of the database file: checkpoints, and detection of a moved or replaced file.

use std::time::Duration;

use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use http::StatusCode;

use crate::db::Database;

/// The interval between checks that the file is in place. Requests check for themselves.
const CHECK_INTERVAL: Duration = Duration::from_millis(500);

/// Responds with 503 if the database file was moved or replaced. Data read from the old file is
/// stale, and data written to it is lost.
pub async fn refuse_if_moved(State(database): State<Database>, request: Request, next: Next) -> Response {
    if !database.is_in_place() {
        return StatusCode::SERVICE_UNAVAILABLE.into_response();
    }
    let response = next.run(request).await;
    // The file may have been moved since the commit. A success response would promise data that
    // is lost.
    if database.is_in_place() { response } else { StatusCode::SERVICE_UNAVAILABLE.into_response() }
}

/// Checkpoints the database while the server is idle, and blocks writes to a file that was moved.
/// Runs forever.
///
/// # Cancel safety
///
/// When dropped, it releases the writer.
pub async fn keep_database(database: Database) {
    tokio::join!(database.checkpoint_when_idle(), hold_writer_while_moved(&database));
}

/// Holds the writer while the file is not in place. Otherwise, the worker would continue with the
/// old file, and repeat that work after a restart.
async fn hold_writer_while_moved(database: &Database) {
    loop {
        tokio::time::sleep(CHECK_INTERVAL).await;
        if database.is_in_place() {
            continue;
        }
        tracing::error!(
            "the database file was moved or replaced; refusing all requests until it is back or the server restarts"
        );
        let Ok(_writer) = database.hold_writer().await else { continue };
        while !database.is_in_place() {
            tokio::time::sleep(CHECK_INTERVAL).await;
        }
        tracing::info!("the database file is back in place");
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use axum::Router;
    use axum::body::Body;
    use axum::middleware::from_fn_with_state;
    use axum::routing::post;
    use tower::ServiceExt;

    use super::*;

    #[tokio::test]
    async fn a_response_is_withheld_when_the_file_is_moved_during_the_request() {
        let folder = std::env::temp_dir().join(format!("example-server-{}", uuid::Uuid::new_v4()));
        fs::create_dir(&folder).unwrap();
        let (file, other) = (folder.join("a.db"), folder.join("b.db"));
        let database = Database::open(&format!("sqlite://{}", file.display())).await.unwrap();
        let router = Router::new()
            .route("/quiet", post(async || StatusCode::OK))
            .route("/moved", post(async move || fs::rename(file, other).unwrap()))
            .layer(from_fn_with_state(database.clone(), refuse_if_moved));
        let status = async |path: &str| {
            let request = http::Request::post(path).body(Body::empty()).unwrap();
            router.clone().oneshot(request).await.unwrap().status()
        };
        assert_eq!(status("/quiet").await, StatusCode::OK);
        assert_eq!(status("/moved").await, StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(status("/quiet").await, StatusCode::SERVICE_UNAVAILABLE);
        database.close().await;
        fs::remove_dir_all(folder).unwrap();
    }
}
