//! Webhooks: who is told of what, how it is signed, and what becomes of it.

mod deliveries;
mod endpoints;
mod events;
mod secrets;

use serde_json::{Value, json};
use support::{Launch, Received, Receiver, Response, Server, demo_key, eventually, launch};

use super::validations::{data, on_both, payment, read, validate};
use super::{code, codes, framed};
use crate::signatures::hmac;

const WEBHOOKS: &str = "/v1/webhooks";
const DELIVERIES: &str = "/v1/webhooks/deliveries";

/// The demo, whose retries may be a second apart and which sends again at once, so often.
fn impatient(launch: Launch, delays: &str) -> Server {
    let webhooks = format!("[veriko.webhooks]\nretry_delays_seconds = {delays}\n");
    let config = "[veriko.caps]\nmin_interval_seconds = 1\n[veriko.plans.pro]\nrate_per_minute = 1000000\n";
    launch.config(&format!("{webhooks}{config}")).start()
}

fn demo() -> Server {
    impatient(launch().demo(), "[0.01, 0.01, 0.01]")
}

/// An answer to a `POST /v1/webhooks` by `demo-pro`.
fn create(server: &Server, body: &Value) -> Response {
    server.post(WEBHOOKS).bearer(&demo_key('1')).json(body).send()
}

/// Another request of `demo-pro` about one endpoint.
fn about(server: &Server, method: &str, id: &str, more: &str, body: Option<&Value>) -> Response {
    let request = server.request(method, &format!("{WEBHOOKS}/{id}{more}")).bearer(&demo_key('1'));
    match body {
        Some(body) => request.json(body).send(),
        None => request.send(),
    }
}

/// An endpoint of `demo-pro`.
struct Registered {
    id: String,
    secret: String,
}

fn register(server: &Server, receiver: &Receiver, events: &[&str]) -> Registered {
    let answer = create(server, &json!({"url": receiver.url(), "events": events}));
    assert_eq!(answer.status, 201, "{answer:?}");
    let data = framed(&answer)["data"].clone();
    let text = |value: &Value| value.as_str().expect("text").to_owned();
    Registered { id: text(&data["id"]), secret: text(&data["attributes"]["secret"]) }
}

/// The attributes of an endpoint, as they are listed.
fn shown(server: &Server, id: &str) -> Value {
    let listed = data(&read(server, WEBHOOKS));
    let listed = listed.as_array().expect("a list").clone();
    let found = listed.into_iter().find(|endpoint| endpoint["id"] == id);
    found.unwrap_or_else(|| panic!("no endpoint {id}"))["attributes"].clone()
}

/// Every delivery of `demo-pro` that the query lets through, the latest first.
fn deliveries(server: &Server, query: &str) -> Vec<Value> {
    data(&read(server, &format!("{DELIVERIES}?{query}"))).as_array().expect("a list").clone()
}

/// The only delivery, once it is over.
fn settled(server: &Server) -> Value {
    eventually("the end of the delivery", || {
        let mut deliveries = deliveries(server, "status=success,failed");
        assert!(deliveries.len() <= 1, "{deliveries:?}");
        deliveries.pop()
    })
}

/// That it is signed with this secret, both ways; its time.
fn signed(received: &Received, secret: &str) -> u64 {
    let expected = format!("sha256={}", hmac(secret, &received.body));
    assert_eq!(received.header("x-webhook-signature"), expected, "{received:?}");
    let timestamped = received.header("x-webhook-signature-timestamped");
    let (time, signature) = timestamped
        .strip_prefix("t=")
        .and_then(|rest| rest.split_once(",v1="))
        .unwrap_or_else(|| panic!("{timestamped}"));
    let bytes = [time.as_bytes(), b".", &received.body].concat();
    assert_eq!(signature, hmac(secret, &bytes), "{received:?}");
    time.parse().expect("seconds")
}
