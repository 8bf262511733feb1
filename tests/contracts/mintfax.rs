//! The mintfax API.

mod account;
mod carrier;
mod deliveries;
mod errors;
mod faxes;
mod idempotency;
mod money;
mod retry_script;
mod uploads;
mod webhooks;

use std::ops::Deref;
use std::path::Path;

use private_postgres::shared_database;
use serde_json::{Value, json};
use support::{Form, Launch, Response, Server, eventually, launch};
use tempfile::TempDir;

const TEST: &str = "mfx_test_abc123def456";
const LIVE: &str = "mfx_live_abc123def456";
const OTHER: &str = "mfx_test_other0account1";

const DELIVERED: &str = "+15005550001";
const BUSY: &str = "+15005550002";

/// A server of the demo, whose uploads go with it.
struct Demo {
    server: Server,
    uploads: TempDir,
}

impl Demo {
    fn uploads(&self) -> &Path {
        self.uploads.path()
    }

    /// The files that wait for a fax to end.
    fn files(&self) -> Vec<String> {
        let files = self.uploads().read_dir().expect("the folder is there");
        files.map(|file| file.expect("it can be read").file_name().to_string_lossy().into_owned()).collect()
    }
}

impl Deref for Demo {
    type Target = Server;

    fn deref(&self) -> &Server {
        &self.server
    }
}

/// One that is not slow to try again.
fn demo() -> Demo {
    demo_with("")
}

/// The same with more, or other, keys of `[mintfax]`.
fn demo_with(more: &str) -> Demo {
    demo_of(launch().demo(), more)
}

/// The same on SQLite, and on PostgreSQL.
fn on_both(more: &str) -> [Demo; 2] {
    [launch().demo(), launch().demo().database(&shared_database())].map(|launch| demo_of(launch, more))
}

fn demo_of(launch: Launch, more: &str) -> Demo {
    let uploads = tempfile::tempdir().expect("the directory for temporary files takes one");
    let folder = format!("uploads_folder = '{}'", uploads.path().display());
    let own = ["retry_base_seconds = 0.02", "retry_max_seconds = 0.1", "rate_per_minute = 100000", &folder];
    let key = |line: &str| line.split('=').next().unwrap_or_default().trim().to_owned();
    let own = own.into_iter().filter(|line| more.lines().all(|given| key(given) != key(line)));
    let lines: Vec<_> = own.chain(more.lines()).collect();
    let server = launch.config(&format!("[mintfax]\n{}\n", lines.join("\n"))).start();
    Demo { server, uploads }
}

/// Sends a fax that is accepted; its id.
fn sent(server: &Server, form: &Form) -> String {
    accepted(&form.post(server, TEST).send())
}

/// The id in the answer to a fax that was accepted.
fn accepted(answer: &Response) -> String {
    assert_eq!(answer.status, 201, "{answer:?}");
    let id = answer.json()["id"].as_str().expect("an id").to_owned();
    assert!(id.starts_with("fax_") && id.len() == 30, "{id}");
    id
}

fn get(server: &Server, path: &str) -> Value {
    let answer = server.get(path).bearer(TEST).send();
    assert_eq!(answer.status, 200, "{answer:?}");
    answer.json()
}

/// The fax, once it has ended.
fn ended(server: &Server, id: &str) -> Value {
    eventually("the fax ends", || {
        let fax = get(server, &format!("/v1/faxes/{id}"));
        ["delivered", "failed"].iter().any(|end| fax["status"] == *end).then_some(fax)
    })
}

/// What the holder of a key has: available, held.
fn balance(server: &Server, key: &str) -> (i64, i64) {
    let balance = server.get("/v1/account/balance").bearer(key).send().json();
    let cents = |name: &str| balance[name].as_i64().unwrap_or_else(|| panic!("{balance}"));
    (cents("available"), cents("held"))
}

/// The body of a failure, after a look at what every one has.
fn failure(answer: &Response) -> Value {
    let body = answer.json();
    let text = |name: &str| body[name].as_str().unwrap_or_else(|| panic!("{name}: {body}")).to_owned();
    assert_eq!(answer.header("content-type"), Some("application/json"), "{answer:?}");
    assert!(text("request_id").starts_with("req_"), "{body}");
    assert_eq!(answer.header("x-request-id"), Some(text("request_id").as_str()), "{answer:?}");
    assert_eq!(text("docs"), format!("https://mintfax.com/docs/errors/{}", text("error").replace('_', "-")));
    assert!(!text("message").is_empty() && !text("action").is_empty(), "{body}");
    let known = ["error", "message", "action", "docs", "request_id", "context"];
    assert!(body.as_object().expect("an object").keys().all(|key| known.contains(&key.as_str())), "{body}");
    body
}

/// Its code, for programs.
fn code(answer: &Response) -> String {
    failure(answer)["error"].as_str().expect("a code").to_owned()
}

/// The fields of a request that was not valid.
fn fields(answer: &Response) -> Vec<String> {
    assert_eq!((answer.status, code(answer).as_str()), (422, "validation_failed"));
    let errors = &failure(answer)["context"]["errors"];
    let errors = errors.as_object().unwrap_or_else(|| panic!("{answer:?}"));
    for messages in errors.values() {
        assert!(messages.as_array().is_some_and(|messages| !messages.is_empty()), "{errors:?}");
    }
    errors.keys().cloned().collect()
}

/// What a fax looks like that nobody has begun on, but for its id and times.
fn shown(to: &str) -> Value {
    json!({
        "status": "queued", "to": to, "retries_remaining": 3, "pages": null, "error_code": null,
        "error_message": null, "webhook_url": null, "idempotency_key": null,
    })
}
