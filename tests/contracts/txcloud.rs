//! The `TXCloud` API.

mod errors;
mod idempotency;
mod identity;
mod operations;
mod rate_limit;
mod webhooks;

use std::sync::Barrier;
use std::thread;

use private_postgres::shared_database;
use serde_json::{Value, json};
use support::{Launch, Request, Response, Server, launch};

/// The demo account's key for trying things out, the same account's live key, and another account's.
const TEST: &str = "txc_test_abc123def456";
const LIVE: &str = "txc_live_abc123def456";
const OTHER: &str = "txc_test_other0account1";

fn demo() -> Server {
    patient().start()
}

/// The same on each kind of database.
fn demos() -> [Server; 2] {
    [demo(), patient().database(&shared_database()).start()]
}

fn patient() -> Launch {
    launch().demo().config("[txcloud]\nrate_per_minute = 100000\n")
}

/// What all of them get who ask this at once.
fn at_once<T: Send>(many: usize, ask: impl Fn() -> T + Sync) -> Vec<T> {
    let start = Barrier::new(many);
    thread::scope(|scope| {
        let client = || {
            start.wait();
            ask()
        };
        let clients: Vec<_> = (0..many).map(|_| scope.spawn(client)).collect();
        clients.into_iter().map(|client| client.join().expect("a client")).collect()
    })
}

/// A `POST` with the demo account's test key.
fn post(server: &Server, path: &str, body: &Value) -> Request {
    server.post(path).bearer(TEST).json(body)
}

/// A `GET` with the demo account's test key.
fn get(server: &Server, path: &str) -> Request {
    server.get(path).bearer(TEST)
}

/// A body that each operation takes, with the status it is answered by.
fn operations() -> [(&'static str, Value, u16); 6] {
    [
        ("/identity/verify", verification(), 200),
        ("/identity/sessions", json!({"document_type": "cin", "country": "MA"}), 201),
        ("/transactions/score", transaction(), 200),
        ("/lending/assess", application(), 200),
        (
            "/kyb/verify",
            json!({"business": {"legal_name": "Bakery", "registration_number": "RC-1", "country": "MA"}}),
            200,
        ),
        ("/watchlist/screen", json!({"entity": {"type": "individual", "name": "Amina Exemple"}}), 200),
    ]
}

/// `front`, in base64.
const FRONT: &str = "ZnJvbnQ=";

fn verification() -> Value {
    json!({"document_front": FRONT, "country": "MA", "document_type": "cin", "checks": ["ocr", "fraud"]})
}

fn transaction() -> Value {
    json!({
        "amount": 5000, "currency": "MAD", "type": "p2p_transfer",
        "sender": {"user_id": "usr_abc123", "device_id": "dev_xyz789", "ip_address": "192.0.2.1"},
        "recipient": {"type": "phone", "value": "+212612345678", "name": "Amina Exemple"},
    })
}

fn application() -> Value {
    json!({
        "applicant": {
            "id": "usr_abc123", "first_name": "Amina", "last_name": "Exemple", "date_of_birth": "1990-05-15",
            "phone": "+212612345678",
        },
        "loan_request": {"amount": 100_000, "currency": "MAD", "term_months": 36, "purpose": "personal"},
        "consent": {"bureau_check": true, "timestamp": "2025-01-15T10:30:00Z"},
        "employment": {"status": "employed", "monthly_income": 25000, "income_currency": "MAD"},
    })
}

/// The error's type and code, after a look at the document around them.
fn refused(response: &Response) -> (String, String) {
    let body = response.json();
    let error = body["error"].as_object().unwrap_or_else(|| panic!("no error: {body}"));
    assert_eq!(response.header("content-type"), Some("application/json"), "{response:?}");
    assert_eq!(error["request_id"], request_id(response), "{body}");
    assert!(error["message"].as_str().is_some_and(|message| !message.is_empty()), "{body}");
    let allowed = ["code", "message", "type", "param", "retry_after", "request_id"];
    assert!(error.keys().all(|name| allowed.contains(&name.as_str())), "{body}");
    let text = |name| error[name].as_str().expect("a text").to_owned();
    (text("type"), text("code"))
}

/// What `X-Request-Id` says, which every answer has.
fn request_id(response: &Response) -> &str {
    let id = response.header("x-request-id").unwrap_or_else(|| panic!("no request id: {response:?}"));
    let digits = id.strip_prefix("req_").unwrap_or_else(|| panic!("{id}"));
    assert!(
        digits.len() == 12 && digits.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b)),
        "{id}"
    );
    id
}

/// How often an engine judged anything.
fn judged(server: &Server) -> u64 {
    server.counted("txcloud_checks_total", &[])
}

/// How many verifications the demo account has, as its test key sees it.
fn verifications(server: &Server) -> Value {
    get(server, "/identity/verifications").send().json()["total_count"].clone()
}
