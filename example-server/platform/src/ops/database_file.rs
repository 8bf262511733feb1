//! What the server does about its database file: it keeps the data in it, and notices when it is moved or replaced.

use std::time::Duration;

use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use http::StatusCode;

use crate::db::Database;

/// How often to look whether the file is in place. Requests look for themselves.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// Answers 503 when the database file was moved or replaced. What is read from the old file is out of date, and what is
/// written into it is lost.
pub async fn refuse_if_moved(State(database): State<Database>, request: Request, next: Next) -> Response {
    if !database.is_in_place() {
        return StatusCode::SERVICE_UNAVAILABLE.into_response();
    }
    let response = next.run(request).await;
    // An answer is a promise, and the file may be gone since the commit.
    if database.is_in_place() { response } else { StatusCode::SERVICE_UNAVAILABLE.into_response() }
}

/// Keeps the data of an idle server in the database file, and everybody from writing into one that was moved. Runs for
/// ever.
///
/// # Cancel safety
/// Dropped, it gives the writer back.
pub async fn keep_database(database: Database) {
    tokio::join!(database.checkpoint_when_idle(), hold_writer_while_moved(&database));
}

/// Holds the writer for as long as the file is not in place: the worker would go on from the old file, and after a restart
/// do all of it again.
async fn hold_writer_while_moved(database: &Database) {
    loop {
        tokio::time::sleep(LOOK_EVERY).await;
        if database.is_in_place() {
            continue;
        }
        tracing::error!(
            "the database file was moved or replaced: every request is refused until it is back, or the server is restarted"
        );
        let Ok(_writer) = database.hold_writer().await else { continue };
        while !database.is_in_place() {
            tokio::time::sleep(LOOK_EVERY).await;
        }
        tracing::info!("the database file is back");
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
    async fn an_answer_is_withheld_when_the_file_is_moved_meanwhile() {
        let folder = std::env::temp_dir().join(format!("example-server-{}", uuid::Uuid::new_v4()));
        fs::create_dir(&folder).unwrap();
        let (file, other) = (folder.join("a.db"), folder.join("b.db"));
        let database = Database::open(&format!("sqlite://{}", file.display())).await.unwrap();
        let router = Router::new()
            .route("/quiet", post(async || StatusCode::OK))
            .route("/moved", post(async move || fs::rename(file, other).unwrap()))
            .layer(from_fn_with_state(database.clone(), refuse_if_moved));
        let answer = async |path: &str| {
            let request = http::Request::post(path).body(Body::empty()).unwrap();
            router.clone().oneshot(request).await.unwrap().status()
        };
        assert_eq!(answer("/quiet").await, StatusCode::OK);
        assert_eq!(answer("/moved").await, StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(answer("/quiet").await, StatusCode::SERVICE_UNAVAILABLE);
        database.close().await;
        fs::remove_dir_all(folder).unwrap();
    }
}
