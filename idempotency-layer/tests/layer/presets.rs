//! The table of the presets, row by row.

use std::time::Duration;

use http::{Method, Request, StatusCode};
use idempotency_layer::{Contract, InvalidKey, RejectionKind, Tombstone};
use serde_json::{Value, json};
use tokio::time::advance;
use tower::Layer;

use crate::scripted::{DOWN, Scripted, Verb};
use crate::support::{
    Answer, Count, Gate, Req, builder, counting, full, gated, handler, memory, post, request, response, send,
    settle, start, under, with,
};

/// A column of the table.
struct Preset {
    name: &'static str,
    contract: fn() -> Contract,
    key: &'static str,
    invalid: u16,
    /// `None` means that the first response is replayed.
    reused: Option<u16>,
    any_method: bool,
    bound_to_endpoint: bool,
    stores: fn(u16) -> bool,
    replayed: &'static str,
    fresh: Option<&'static str>,
    content_type: &'static str,
}

fn final_answer(status: u16) -> bool {
    status < 500 && ![401, 408, 425, 429].contains(&status)
}

const PRESETS: [Preset; 5] = [
    Preset {
        name: "veriko",
        contract: Contract::veriko,
        key: "policy-update-2025_v1",
        invalid: 400,
        reused: Some(422),
        any_method: true,
        bound_to_endpoint: true,
        stores: final_answer,
        replayed: "idempotent-replayed",
        fresh: Some("false"),
        content_type: "application/json",
    },
    Preset {
        name: "mintfax",
        contract: Contract::mintfax,
        key: "order 17: señor",
        invalid: 422,
        reused: None,
        any_method: false,
        bound_to_endpoint: false,
        stores: |status| status / 100 == 2,
        replayed: "idempotency-replayed",
        fresh: None,
        content_type: "application/json",
    },
    Preset {
        name: "txcloud",
        contract: Contract::txcloud,
        key: "order:17:charge",
        invalid: 400,
        reused: Some(409),
        any_method: true,
        bound_to_endpoint: true,
        stores: final_answer,
        replayed: "idempotent-replayed",
        fresh: None,
        content_type: "application/json",
    },
    Preset {
        name: "ietf",
        contract: Contract::ietf,
        key: "\"8e03978e-40d5-43e8-bc93-6894a57f9324\"",
        invalid: 400,
        reused: Some(422),
        any_method: false,
        bound_to_endpoint: true,
        stores: final_answer,
        replayed: "idempotent-replayed",
        fresh: None,
        content_type: "application/problem+json",
    },
    Preset {
        name: "stripe",
        contract: Contract::stripe,
        key: "KG5LxwFBepaKHyUD",
        invalid: 400,
        reused: Some(400),
        any_method: false,
        bound_to_endpoint: false,
        stores: |_| true,
        replayed: "idempotent-replayed",
        fresh: None,
        content_type: "application/json",
    },
];

impl Preset {
    fn ask(&self, body: &'static str) -> Req {
        with(Request::post("/orders").body(full(body)).unwrap(), "idempotency-key", self.key)
    }

    /// Checks the status and content type of a rejection, and returns its body.
    fn rejected(&self, answer: &Answer, status: u16) -> Value {
        assert_eq!(
            (answer.status, answer.header("content-type")),
            (status, Some(self.content_type)),
            "{}",
            self.name
        );
        // A rejection without a key carries no mark.
        let mark = self.fresh.filter(|_| answer.kind() != Some(RejectionKind::KeyMissing));
        assert_eq!(answer.header(self.replayed), mark, "{}", self.name);
        assert_eq!(answer.rejection.as_ref().unwrap().status(), StatusCode::from_u16(status).unwrap());
        answer.json()
    }
}

/// The fields of a preset's error body that its clients read.
fn fields(name: &str, body: &Value) -> Value {
    let text = |value: &Value| value.as_str().is_some_and(|text| text.ends_with('.'));
    match name {
        "veriko" => {
            let [error] = &body["errors"].as_array().unwrap()[..] else { panic!("{body}") };
            assert!(text(&error["detail"]), "{body}");
            json!([error["status"], error["code"]])
        }
        "mintfax" => {
            assert!(text(&body["message"]), "{body}");
            json!([body["error"], body["action"]])
        }
        "txcloud" => {
            assert!(text(&body["error"]["message"]), "{body}");
            json!([body["error"]["code"], body["error"]["type"]])
        }
        "ietf" => {
            assert!(text(&body["detail"]) && body["type"].is_string(), "{body}");
            json!([body["status"], body["title"]])
        }
        _ => {
            assert!(text(&body["error"]["message"]), "{body}");
            json!([body["error"]["type"], body["error"].get("code")])
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_success_is_stored_and_its_replay_is_marked() {
    for preset in PRESETS {
        let runs = Count::default();
        let service = under((preset.contract)(), counting(&runs));
        let fresh = send(&service, preset.ask("body")).await;
        assert_eq!((fresh.text(), fresh.header(preset.replayed)), ("run 1", preset.fresh), "{}", preset.name);
        let replay = send(&service, preset.ask("body")).await;
        assert_eq!((replay.status, replay.text()), (201, "run 1"), "{}", preset.name);
        assert_eq!(replay.header(preset.replayed), Some("true"), "{}", preset.name);
        assert_eq!(runs.get(), 1);
    }
}

#[tokio::test(start_paused = true)]
async fn only_mintfax_echoes_the_key_on_every_answer_to_a_valid_one_byte_for_byte() {
    for preset in PRESETS {
        let service = under((preset.contract)(), counting(&Count::default()));
        for _ in 0..2 {
            let answer = send(&service, preset.ask("body")).await;
            let echo = answer.headers.get("x-idempotency-key").map(http::HeaderValue::as_bytes);
            assert_eq!(
                echo,
                (preset.name == "mintfax").then_some("order 17: señor".as_bytes()),
                "{}",
                preset.name
            );
        }
    }
    let gate = Gate::closed();
    let service = under(Contract::mintfax(), gated(&Count::default(), &gate));
    let _owner = start(&service, post("key", "body"));
    settle().await;
    assert_eq!(
        send(&service, post("key", "body")).await.header("x-idempotency-key"),
        Some("key"),
        "a rejection too"
    );
    assert_eq!(send(&service, post(&"k".repeat(256), "body")).await.header("x-idempotency-key"), None);
}

#[tokio::test(start_paused = true)]
async fn a_repeated_header_is_an_invalid_key() {
    let expected = [
        json!(["400", "invalid_idempotency_key"]),
        json!(["validation_failed", "fix_request"]),
        json!(["invalid_idempotency_key", "validation_error"]),
        json!([400, "Idempotency-Key is not valid"]),
        json!(["invalid_request_error", null]),
    ];
    for (preset, expected) in PRESETS.iter().zip(expected) {
        let runs = Count::default();
        let service = under((preset.contract)(), counting(&runs));
        let answer = send(&service, with(preset.ask("body"), "idempotency-key", preset.key)).await;
        assert_eq!(fields(preset.name, &preset.rejected(&answer, preset.invalid)), expected);
        assert_eq!((answer.kind(), runs.get()), (Some(RejectionKind::KeyInvalid(InvalidKey::Repeated)), 0));
    }
}

#[tokio::test(start_paused = true)]
async fn a_missing_key_passes_and_where_it_is_required_is_answered_400() {
    let expected = [
        json!(["400", "idempotency_key_missing"]),
        json!(["validation_failed", "fix_request"]),
        json!(["idempotency_key_missing", "validation_error"]),
        json!([400, "Idempotency-Key is missing"]),
        json!(["invalid_request_error", null]),
    ];
    for (preset, expected) in PRESETS.iter().zip(expected) {
        let runs = Count::default();
        let keyless = || Request::post("/orders").body(full("")).unwrap();
        let service = under((preset.contract)(), counting(&runs));
        assert_eq!(send(&service, keyless()).await.status, 201, "{}", preset.name);
        let service = under((preset.contract)().required(), counting(&runs));
        let answer = send(&service, keyless()).await;
        assert_eq!(fields(preset.name, &preset.rejected(&answer, 400)), expected);
        assert_eq!(runs.get(), 1);
    }
}

#[tokio::test(start_paused = true)]
async fn another_body_under_a_used_key_is_refused_but_by_mintfax() {
    let expected = [
        json!(["422", "idempotency_key_reused"]),
        Value::Null,
        json!(["idempotency_key_conflict", "idempotency_error"]),
        json!([422, "Idempotency-Key is already used"]),
        json!(["idempotency_error", null]),
    ];
    for (preset, expected) in PRESETS.iter().zip(expected) {
        let runs = Count::default();
        let service = under((preset.contract)(), counting(&runs));
        send(&service, preset.ask("body")).await;
        let answer = send(&service, preset.ask("another")).await;
        if let Some(status) = preset.reused {
            assert_eq!(fields(preset.name, &preset.rejected(&answer, status)), expected);
            assert_eq!(answer.header("retry-after"), None, "it will never be another answer");
        } else {
            assert_eq!((answer.text(), answer.header(preset.replayed)), ("run 1", Some("true")));
        }
        assert_eq!(runs.get(), 1);
    }
}

#[tokio::test(start_paused = true)]
async fn a_request_in_progress_is_409_with_retry_after() {
    let expected = [
        json!(["409", "idempotency_key_in_progress"]),
        json!(["idempotency_key_in_progress", "wait_and_retry"]),
        json!(["idempotency_key_in_progress", "idempotency_error"]),
        json!([409, "A request is outstanding for this Idempotency-Key"]),
        json!(["idempotency_error", "idempotency_key_in_use"]),
    ];
    for (preset, expected) in PRESETS.iter().zip(expected) {
        let (runs, gate) = (Count::default(), Gate::closed());
        let service = under((preset.contract)(), gated(&runs, &gate));
        let owner = start(&service, preset.ask("body"));
        settle().await;
        let answer = send(&service, preset.ask("body")).await;
        assert_eq!(fields(preset.name, &preset.rejected(&answer, 409)), expected);
        assert_eq!((answer.header("retry-after"), runs.get()), (Some("1"), 1));
        gate.open();
        assert_eq!(owner.await.unwrap().status, 201);
    }
}

#[tokio::test(start_paused = true)]
async fn a_response_that_cannot_be_replayed_is_409_without_retry_after() {
    let code = "idempotent_response_unavailable";
    let expected = [
        json!(["409", code]),
        json!([code, "contact_support"]),
        json!([code, "idempotency_error"]),
        json!([409, "Conflict"]),
        json!(["idempotency_error", null]),
    ];
    for (preset, expected) in PRESETS.iter().zip(expected) {
        let layer = builder(memory()).contract((preset.contract)()).max_response_bytes(1).build();
        let service = layer.layer(counting(&Count::default()));
        assert_eq!(send(&service, preset.ask("body")).await.text(), "run 1");
        let answer = send(&service, preset.ask("body")).await;
        assert_eq!(fields(preset.name, &preset.rejected(&answer, 409)), expected);
        assert_eq!(answer.kind(), Some(RejectionKind::Tombstone(Tombstone::Unreplayable)));
        assert_eq!(answer.header("retry-after"), None);
    }
}

#[tokio::test(start_paused = true)]
async fn a_store_that_is_down_is_503_with_retry_after_and_says_nothing_internal() {
    let expected = [
        json!(["503", "idempotency_unavailable"]),
        json!(["service_unavailable", "wait_and_retry"]),
        json!(["idempotency_unavailable", "api_error"]),
        json!([503, "Service Unavailable"]),
        json!(["api_error", null]),
    ];
    for (preset, expected) in PRESETS.iter().zip(expected) {
        let (store, runs) = (Scripted::new(), Count::default());
        store.always(Verb::Claim, DOWN);
        let service = builder(store).contract((preset.contract)()).build().layer(counting(&runs));
        let answer = send(&service, preset.ask("body")).await;
        assert_eq!(fields(preset.name, &preset.rejected(&answer, 503)), expected);
        assert_eq!((answer.header("retry-after"), runs.get()), (Some("1"), 0));
        assert!(!answer.text().contains("scripted"), "the store's own words");
    }
}

#[tokio::test(start_paused = true)]
async fn a_request_too_long_is_413_but_by_mintfax() {
    let expected = [
        json!(["413", "body_too_large"]),
        Value::Null,
        json!(["body_too_large", "validation_error"]),
        json!([413, "Payload Too Large"]),
        json!(["invalid_request_error", null]),
    ];
    for (preset, expected) in PRESETS.iter().zip(expected) {
        let layer = builder(memory()).contract((preset.contract)()).max_request_bytes(3).build();
        let answer = send(&layer.layer(counting(&Count::default())), preset.ask("body")).await;
        if preset.reused.is_some() {
            assert_eq!(fields(preset.name, &preset.rejected(&answer, 413)), expected);
        } else {
            assert_eq!(answer.status, 201, "its bodies are not read");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn without_a_scope_each_answers_500_in_its_own_words() {
    for preset in PRESETS {
        let layer = idempotency_layer::IdempotencyLayer::builder(memory()).contract((preset.contract)());
        let service = layer.scope(|_| None).build().layer(counting(&Count::default()));
        let answer = send(&service, preset.ask("body")).await;
        fields(preset.name, &preset.rejected(&answer, 500));
    }
}

#[tokio::test(start_paused = true)]
async fn the_methods_are_those_of_the_contract() {
    for preset in PRESETS {
        for method in [Method::GET, Method::POST, Method::PUT, Method::PATCH, Method::DELETE] {
            let runs = Count::default();
            let service = under((preset.contract)(), counting(&runs));
            for _ in 0..2 {
                let mut request = preset.ask("body");
                *request.method_mut() = method.clone();
                send(&service, request).await;
            }
            let concerned =
                preset.any_method || method == "POST" || (preset.name == "ietf" && method == "PATCH");
            assert_eq!(runs.get() == 1, concerned, "{} {method}", preset.name);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn the_scope_is_the_endpoint_or_the_principal_alone() {
    for preset in PRESETS {
        let runs = Count::default();
        let service = under((preset.contract)(), counting(&runs));
        for path in ["/a", "/b"] {
            let mut request = preset.ask("body");
            *request.uri_mut() = path.parse().unwrap();
            send(&service, request).await;
        }
        assert_eq!(runs.get() == 2, preset.bound_to_endpoint, "{}", preset.name);
    }
}

#[tokio::test(start_paused = true)]
async fn every_status_is_stored_or_not_as_the_contract_says() {
    for preset in PRESETS {
        let runs = Count::default();
        let counted = runs.clone();
        let service = under(
            (preset.contract)(),
            handler(move |request: Req| {
                counted.one();
                let status = request.headers()["x-status"].to_str().unwrap().parse().unwrap();
                async move { response(status, "") }
            }),
        );
        for status in 200..=599 {
            let key = if preset.name == "ietf" {
                format!("\"key-of-{status}\"")
            } else {
                format!("key-of-{status}")
            };
            let before = runs.get();
            for _ in 0..2 {
                let answer = send(&service, with(post(&key, "body"), "x-status", &status.to_string())).await;
                assert_eq!(answer.status, status);
            }
            assert_eq!(runs.get() - before == 1, (preset.stores)(status), "{} {status}", preset.name);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn every_preset_remembers_a_key_for_a_day() {
    for preset in PRESETS {
        let runs = Count::default();
        let service = under((preset.contract)(), counting(&runs));
        for (run, wait) in [(1, 24 * 3600 - 1), (1, 1), (2, 0)] {
            assert_eq!(
                send(&service, preset.ask("body")).await.text(),
                format!("run {run}"),
                "{}",
                preset.name
            );
            advance(Duration::from_secs(wait)).await;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_preset_is_a_value_like_any_other() {
    for preset in PRESETS {
        let contract = (preset.contract)().ttl(Duration::from_secs(1)).methods(&[Method::PUT]);
        let runs = Count::default();
        let service = under(contract.clone(), counting(&runs));
        let key = if preset.name == "ietf" { "\"a-longer-key\"" } else { "a-longer-key" };
        for _ in 0..2 {
            send(&service, request(Method::PUT, "/orders", key, "body")).await;
        }
        assert_eq!(runs.get(), 1, "{}", preset.name);
        assert!(format!("{contract:?}").contains("[PUT]"));
    }
}
