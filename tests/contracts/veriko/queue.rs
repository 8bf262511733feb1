//! `POST /v1/validate?async=1`, and what becomes of it.

use std::thread;

use serde_json::{Value, json};
use support::{Launch, Request, Response, Server, demo_key, eventually};

use super::validations::{data, on_both, payment, read};
use super::{code, demo, framed};

const NOT_FOUND_AGAIN: &str = "not_found";

fn enqueue(server: &Server, body: Value) -> Request {
    server.post("/v1/validate?async=1").bearer(&demo_key('1')).json(body)
}

fn with_retries(key: &str) -> Value {
    let mut body = payment(key);
    body["retry_policy"] = json!({
        "enabled": true, "max_retries": 3, "interval_seconds": 600, "outcomes": [NOT_FOUND_AGAIN],
    });
    body
}

/// Where the answer says that the validation is read.
fn location(accepted: &Response) -> String {
    assert_eq!(accepted.status, 202, "{accepted:?}");
    accepted.header("location").expect("it says where").to_owned()
}

/// The validation once it has its verdict.
fn ended(server: &Server, path: &str) -> Value {
    eventually("a verdict", || {
        let shown = data(&read(server, path));
        let status = shown["attributes"]["status"].as_str().expect("a status").to_owned();
        (!["queued", "processing"].contains(&status.as_str())).then_some(shown)
    })
}

/// So that one that is rate-limited for ever ends within a test.
fn expiring(launch: Launch, seconds: u32) -> Launch {
    launch.config(&format!("veriko.queue.expires_seconds = {seconds}"))
}

#[test]
fn a_validation_in_the_background_is_accepted_at_once_and_read_later() {
    for launch in on_both() {
        let server = launch.start();
        let accepted = enqueue(&server, payment("MX1-SLOW500")).send();
        let path = location(&accepted);
        assert_eq!(accepted.header("etag"), Some("W/\"0-queued\""));
        let body = framed(&accepted);
        assert!(
            body["meta"]["next_poll_after_seconds"].as_u64().is_some_and(|seconds| seconds > 0),
            "{body}"
        );
        let id = body["data"]["id"].as_str().expect("an id");
        assert_eq!(path, format!("/v1/validations/{id}"));
        let attributes = &body["data"]["attributes"];
        assert_eq!(body["data"]["type"], "validation");
        assert_eq!(attributes["validation_id"], id);
        assert_eq!((&attributes["status"], &attributes["etag_version"]), (&json!("queued"), &json!(0)));
        assert_eq!(attributes["retry_state"]["enabled"], json!(false), "{body}");
        let (from, to) = (time(&attributes["enqueued_at"]), time(&attributes["expires_at"]));
        assert_eq!(to - from, 3600, "{body}");

        let waiting = read(&server, &path);
        let etag = waiting.header("etag").expect("an entity tag").to_owned();
        let shown = data(&waiting);
        assert!(
            ["queued", "processing"].map(Value::from).contains(&shown["attributes"]["status"]),
            "{shown}"
        );
        assert_eq!(shown["attributes"]["banxico_status"], "pending", "{shown}");
        assert_eq!(shown["attributes"]["completed_at"], json!(null), "{shown}");
        assert!(
            shown["attributes"]["expires_at"].is_string() && shown["attributes"]["enqueued_at"].is_string()
        );
        assert!(waiting.number("retry-after") > 0);
        assert_eq!(framed(&waiting)["meta"]["next_poll_after_seconds"], waiting.number("retry-after"));

        let ended = ended(&server, &path);
        assert_eq!(ended["attributes"]["status"], "valid", "{ended}");
        assert_eq!(ended["attributes"]["banxico_status"], "valid", "{ended}");
        assert_eq!(ended["attributes"]["request_data"], payment("MX1-SLOW500"));
        assert_eq!(ended["attributes"].get("expires_at"), None, "{ended}");
        assert!(
            ended["attributes"]["processing_time_ms"].as_u64().is_some_and(|took| took >= 500),
            "{ended}"
        );
        let answer = server.get(&path).bearer(&demo_key('1')).header("If-None-Match", &etag).send();
        assert_eq!(answer.status, 200, "it changed since");
        assert_eq!((answer.header("retry-after"), answer.header("etag")), (None, Some("W/\"2-valid\"")));
        let answer = server.get(&path).bearer(&demo_key('1')).header("If-None-Match", "W/\"2-valid\"").send();
        assert_eq!((answer.status, answer.body.len()), (304, 0));
    }
}

/// Seconds within the day, of a time as the API shows it.
fn time(shown: &Value) -> i64 {
    let time = shown.as_str().expect("a time");
    let number = |range: std::ops::Range<usize>| time[range].parse::<i64>().expect("digits");
    ((number(8..10) * 24 + number(11..13)) * 60 + number(14..16)) * 60 + number(17..19)
}

#[test]
fn what_is_wrong_is_said_at_once_and_nothing_is_queued() {
    let server = demo();
    let answer = enqueue(&server, json!({"fecha": "2025-03-15", "clave_rastreo": "MX1"})).send();
    assert_eq!((answer.status, code(&answer).as_str()), (422, "required"));
    let answer = server.post("/v1/validate?async=1").bearer(&demo_key('4')).json(payment("MX1")).send();
    assert_eq!((answer.status, code(&answer).as_str()), (403, "forbidden"));
    assert_eq!(framed(&read(&server, "/v1/validations"))["meta"]["pagination"]["total"], 0);
    // Anything else is no wish for the background.
    let answer = server.post("/v1/validate?async=0").bearer(&demo_key('1')).json(payment("MX1")).send();
    assert_eq!(answer.status, 200, "{answer:?}");
}

#[test]
fn fifty_requests_with_one_key_queue_one_validation() {
    for launch in on_both() {
        let server = launch.start();
        let request = enqueue(&server, payment("MX1-NOTFOUND")).key("one");
        let answers: Vec<Response> = thread::scope(|scope| {
            let clients: Vec<_> = (0..50).map(|_| scope.spawn(|| request.send())).collect();
            clients.into_iter().map(|client| client.join().expect("it is answered")).collect()
        });
        let accepted: Vec<_> = answers.iter().filter(|answer| answer.status == 202).collect();
        let first = accepted.first().expect("one is accepted");
        assert!(accepted.iter().all(|answer| answer.lasting() == first.lasting()));
        for refused in answers.iter().filter(|answer| answer.status != 202) {
            assert_eq!((refused.status, code(refused).as_str()), (409, "idempotency_key_in_progress"));
        }
        assert_eq!(ended(&server, &location(first))["attributes"]["status"], "not_found");
        let replay = request.send();
        assert_eq!(replay.header("idempotent-replayed"), Some("true"));
        assert_eq!(
            replay.lasting(),
            first.lasting(),
            "a replay is the receipt, also when there is a verdict"
        );
        assert_eq!(framed(&read(&server, "/v1/validations"))["meta"]["pagination"]["total"], 1);
        assert_eq!(server.counted("cep_queries_total", &[]), 1);
    }
}

#[test]
fn the_verdict_begins_the_retries_as_it_does_in_the_foreground() {
    for launch in on_both() {
        let server = launch.start();
        let path = location(&enqueue(&server, with_retries("MX1-NOTFOUND")).send());
        let state = &ended(&server, &path)["attributes"]["retry_state"];
        assert_eq!(
            (&state["enabled"], &state["terminal_state"]),
            (&json!(true), &json!("pending")),
            "{state}"
        );
        assert_eq!((&state["max_retries"], &state["attempts_completed"]), (&json!(3), &json!(0)), "{state}");
        let path = location(&enqueue(&server, with_retries("MX1")).send());
        let state = &ended(&server, &path)["attributes"]["retry_state"];
        assert_eq!((&state["enabled"], &state["terminal_state"]), (&json!(false), &json!(null)), "{state}");
    }
}

#[test]
fn one_in_the_queue_has_no_retries_to_change_and_is_in_the_lists() {
    // Nobody takes it out of the queue while Banxico takes no more queries.
    for launch in on_both() {
        let server = launch.start();
        let first = location(&enqueue(&server, with_retries("MX1-RATELIMITED")).send());
        eventually("that it was asked", || (server.counted("cep_queries_total", &[]) > 0).then_some(()));
        let as_pro = |request: Request| request.bearer(&demo_key('1'));
        let answer = as_pro(server.post(&format!("{first}/cancel-retries"))).send();
        assert_eq!((answer.status, code(&answer).as_str()), (422, "retry_not_active"));
        let policy = json!({"retry_policy": {
            "enabled": true, "max_retries": 1, "interval_seconds": 600, "outcomes": ["error"],
        }});
        let answer = as_pro(server.put(&format!("{first}/retry-policy"))).json(policy).send();
        assert_eq!((answer.status, code(&answer).as_str()), (422, "retry_not_applicable"));

        let list = data(&read(&server, "/v1/validations?status=queued,processing"));
        let [item] = &list.as_array().expect("a list")[..] else { panic!("one of them: {list}") };
        assert_eq!(first, format!("/v1/validations/{}", item["id"].as_str().expect("an id")));
        assert_eq!(item["attributes"]["banxico_status"], "pending", "{item}");
        assert_eq!(item["attributes"]["retry_state"]["terminal_state"], json!(null), "{item}");
        assert_eq!(data(&read(&server, "/v1/validations?retry_state=pending")), json!([]));
        assert_eq!(data(&read(&server, "/v1/validations?status=valid")), json!([]));
    }
}

#[test]
fn the_place_of_retries_that_may_come_is_taken_when_the_validation_is_accepted() {
    for launch in on_both() {
        let server = launch.config("veriko.caps.max_pending_per_user = 1").start();
        let path = location(&enqueue(&server, with_retries("MX1-SLOW500")).send());
        for refused in [
            enqueue(&server, with_retries("MX2")).send(),
            server.post("/v1/validate").bearer(&demo_key('1')).json(with_retries("MX2")).send(),
        ] {
            assert_eq!((refused.status, code(&refused).as_str()), (422, "retry_pending_cap_exceeded"));
        }
        location(&enqueue(&server, payment("MX3")).send());
        ended(&server, &path);
        location(&enqueue(&server, with_retries("MX2")).send());
    }
}

#[test]
fn the_quota_is_charged_when_a_validation_is_accepted() {
    let server = support::launch().demo().config("veriko.plans.pro.monthly_quota = 2").start();
    for _ in 0..2 {
        location(&enqueue(&server, payment("MX1")).send());
    }
    let answer = enqueue(&server, payment("MX1")).send();
    assert_eq!((answer.status, code(&answer).as_str()), (429, "quota_exceeded"));
}

#[test]
fn without_an_answer_in_time_it_ends_as_an_error_of_ours() {
    for launch in on_both() {
        let server = expiring(launch, 2).start();
        let path = location(&enqueue(&server, payment("MX1-RATELIMITED")).send());
        let shown = ended(&server, &path);
        let attributes = &shown["attributes"];
        assert_eq!(
            (&attributes["status"], &attributes["error_code"]),
            (&json!("error"), &json!("ttl_expired"))
        );
        assert_eq!(attributes["banxico_status"], "pending", "{shown}");
        // What Banxico has time for is asked about again, once that is known.
        let path = location(&enqueue(&server, payment("MX2")).send());
        assert_eq!(ended(&server, &path)["attributes"]["status"], "valid");
    }
}
