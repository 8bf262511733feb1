//! The Veriko API.

mod account;
mod banxico;
mod ceps;
mod errors;
mod idempotency;
mod ocr;
mod queue;
mod rate_limit;
mod retries;
mod retry_policy;
mod validations;
mod webhooks;

use serde_json::{Value, json};
use support::{Request, Response, Server, demo_key, launch};

const POLICY: &str = "/v1/users/me/retry-policy";

/// A `PUT` of a policy that every plan but `free` allows, by `demo-pro`.
fn put(server: &Server) -> Request {
    server.put(POLICY).bearer(&demo_key('1')).json(policy(3))
}

/// A `GET` by `demo-pro`.
fn get(server: &Server) -> Request {
    server.get(POLICY).bearer(&demo_key('1'))
}

fn policy(max_retries: u32) -> Value {
    json!({"retry_policy": {
        "enabled": true,
        "max_retries": max_retries,
        "interval_seconds": 600,
        "outcomes": ["not_found", "cep_unavailable"],
    }})
}

/// How often a policy was saved: how often the handler of `PUT` ran to its end.
fn saved(server: &Server) -> u64 {
    server.counted("veriko_retry_policies_saved_total", &[])
}

/// The answer's one error code, after a look at the frame around it.
fn code(response: &Response) -> String {
    let codes = codes(response);
    assert_eq!(codes.len(), 1, "{response:?}");
    codes.into_iter().next().expect("one was counted")
}

/// The codes of the answer's errors, after a look at the frame around them.
fn codes(response: &Response) -> Vec<String> {
    let body = framed(response);
    let errors = body["errors"].as_array().unwrap_or_else(|| panic!("no errors: {body}"));
    assert!(body.get("data").is_none(), "{body}");
    for error in errors {
        assert_eq!(error["status"], response.status.to_string(), "{body}");
        assert!(error["detail"].as_str().is_some_and(|detail| !detail.is_empty()), "{body}");
    }
    errors.iter().map(|error| error["code"].as_str().expect("codes are strings").to_owned()).collect()
}

/// The body, after a look at what every body has.
fn framed(response: &Response) -> Value {
    assert_eq!(response.header("content-type"), Some("application/json; charset=utf-8"), "{response:?}");
    let body = response.json();
    let meta = &body["meta"];
    assert_eq!(meta["api_version"], "v1", "{body}");
    assert_eq!(meta["datetime"], json!({"timezone": "UTC", "format": "ISO 8601"}), "{body}");
    let version = meta["version"].as_str().expect("a version");
    assert_eq!(version.split('.').filter(|part| part.parse::<u32>().is_ok()).count(), 3, "{version}");
    let id = meta["request_id"].as_str().expect("a request id");
    assert!(id.len() == 12 && id.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b)), "{id}");
    assert_eq!(response.header("x-request-id"), Some(id), "{response:?}");
    body
}

fn demo() -> Server {
    launch().demo().start()
}
