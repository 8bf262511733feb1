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
