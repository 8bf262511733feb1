//! What is told of, when, and with which words.

use super::*;

const ALL: [&str; 7] = [
    "validation.completed",
    "validation.failed",
    "validation.error",
    "validation.retry.scheduled",
    "validation.retry.resolved",
    "validation.retry.exhausted",
    "validation.returned",
];

fn with_retries(key: &str, max_retries: u32) -> Value {
    let mut body = payment(key);
    body["retry_policy"] = json!({"enabled": true, "max_retries": max_retries, "interval_seconds": 1,
        "outcomes": ["not_found", "cep_unavailable", "error"]});
    body
}

/// The events heard, once there are so many, in the order of the alphabet: deliveries overtake each other.
fn told(receiver: &Receiver, count: usize) -> Vec<String> {
    let mut events: Vec<String> =
        receiver.wait_for(count).iter().map(|heard| heard.header("x-veriko-event").to_owned()).collect();
    events.sort_unstable();
    events
}

#[test]
fn a_verdict_is_told_as_it_is_read_and_signed_both_ways() {
    for launch in on_both() {
        let server = impatient(launch.env("SEALING_KEY", &"5".repeat(64)), "[0.01]");
        let receiver = Receiver::start();
        let endpoint = register(&server, &receiver, &ALL);
        let validated = data(&validate(&server, payment("MX1")).send());
        let [heard] = &receiver.wait_for(1)[..] else { panic!("told twice") };
        let body = heard.json();
        assert_eq!(body["event"], "validation.completed");
        assert_eq!(body["data"], validated);
        assert_eq!(body["meta"], json!({"datetime": {"timezone": "UTC", "format": "ISO 8601"}}));
        assert!(
            body["timestamp"].as_str().is_some_and(|time| time.len() == 20 && time.ends_with('Z')),
            "{body}"
        );

        signed(heard, &endpoint.secret);
        assert_eq!(heard.header("x-veriko-event"), "validation.completed");
        assert_eq!(heard.header("content-type"), "application/json; charset=utf-8");
        let sent_at = heard.header("x-veriko-timestamp");
        assert!(sent_at.len() == 20 && sent_at.ends_with('Z'), "{sent_at}");

        let delivery = settled(&server);
        assert_eq!(delivery["type"], "webhook_delivery");
        assert_eq!(delivery["id"], heard.header("x-veriko-delivery-id"));
        let attributes = &delivery["attributes"];
        assert!(attributes["response_time_ms"].is_u64(), "{attributes}");
        let expected = json!({
            "endpoint_id": endpoint.id, "endpoint_url": receiver.url(), "event_type": "validation.completed",
            "validation_id": validated["id"], "response_status": 200, "response_body": "ok",
            "response_time_ms": attributes["response_time_ms"], "attempt": 1, "status": "success",
            "next_retry_at": null, "error_message": null, "created_at": attributes["created_at"],
        });
        assert_eq!(attributes, &expected);
        let shown = shown(&server, &endpoint.id);
        assert!(shown["last_delivery_at"].is_string(), "{shown}");
    }
}

#[test]
fn every_verdict_and_every_step_of_a_retry_has_its_event() {
    let server = demo();
    for (body, events) in [
        (payment("MX1"), &["validation.completed"][..]),
        (payment("MX1-NOTFOUND"), &["validation.completed"]),
        (payment("MX1-UNAVAILABLE"), &["validation.completed"]),
        (payment("MX1-RETURNED"), &["validation.completed"]),
        (payment("MX1-ERROR"), &["validation.error"]),
        (
            with_retries("MX1-VALIDAFTER2", 5),
            &[
                "validation.completed",
                "validation.retry.resolved",
                "validation.retry.scheduled",
                "validation.retry.scheduled",
            ],
        ),
        (
            with_retries("MX1-ERROR", 1),
            &["validation.error", "validation.retry.exhausted", "validation.retry.scheduled"],
        ),
    ] {
        let receiver = Receiver::start();
        let endpoint = register(&server, &receiver, &ALL);
        let key = body["clave_rastreo"].clone();
        data(&validate(&server, body).send());
        assert_eq!(told(&receiver, events.len()), events, "{key}");
        about(&server, "DELETE", &endpoint.id, "", None);
    }
}

#[test]
fn a_validation_in_the_background_is_told_of_when_it_has_its_verdict() {
    let server = demo();
    let receiver = Receiver::start();
    register(&server, &receiver, &ALL);
    let queued = server.post("/v1/validate?async=1").bearer(&demo_key('1'));
    assert_eq!(queued.json(with_retries("MX1-SLOW500-NOTFOUND", 1)).send().status, 202);
    let events = ["validation.completed", "validation.retry.exhausted", "validation.retry.scheduled"];
    assert_eq!(told(&receiver, 3), events);
}

#[test]
fn a_cycle_that_is_begun_later_is_told_of_and_one_that_is_called_off_is_not() {
    let server = demo();
    let receiver = Receiver::start();
    register(&server, &receiver, &ALL);
    let id = data(&validate(&server, payment("MX1-NOTFOUND")).send())["id"].clone();
    let path = format!("/v1/validations/{}", id.as_str().expect("an id"));
    let policy = json!({"retry_policy": with_retries("", 3)["retry_policy"]});
    let mut policy_in_an_hour = policy.clone();
    policy_in_an_hour["retry_policy"]["interval_seconds"] = 3600.into();
    let begin =
        || server.put(&format!("{path}/retry-policy")).bearer(&demo_key('1')).json(&policy_in_an_hour).send();
    data(&begin());
    assert_eq!(told(&receiver, 2), ["validation.completed", "validation.retry.scheduled"]);
    // Goes on by the same policy, is called off, and is begun anew.
    data(&begin());
    data(&server.post(&format!("{path}/cancel-retries")).bearer(&demo_key('1')).send());
    data(&begin());
    let expected = ["validation.completed", "validation.retry.scheduled", "validation.retry.scheduled"];
    assert_eq!(told(&receiver, 3), expected);
    assert_eq!(deliveries(&server, "").len(), 3);
}

#[test]
fn an_endpoint_is_told_of_what_it_asked_for_and_while_it_is_active() {
    let server = demo();
    let (errors, off) = (Receiver::start(), Receiver::start());
    let endpoint = register(&server, &errors, &["validation.error"]);
    let disabled = register(&server, &off, &ALL);
    data(&about(&server, "PUT", &disabled.id, "", Some(&json!({"status": "disabled"}))));
    data(&validate(&server, payment("MX1")).send());
    data(&validate(&server, payment("MX1-ERROR")).send());
    assert_eq!(told(&errors, 1), ["validation.error"]);
    let changed = json!({"events": ["validation.completed"]});
    data(&about(&server, "PUT", &endpoint.id, "", Some(&changed)));
    data(&validate(&server, payment("MX2")).send());
    assert_eq!(told(&errors, 2), ["validation.completed", "validation.error"]);
    assert_eq!(deliveries(&server, "").len(), 2);
    assert_eq!(off.received(), []);
}

#[test]
fn a_replay_and_a_refusal_tell_of_nothing() {
    let server = demo();
    let receiver = Receiver::start();
    register(&server, &receiver, &ALL);
    let ask = || validate(&server, payment("MX1")).key("the-key").send();
    let first = ask();
    let replays: Vec<_> = (0..3).map(|_| ask()).collect();
    for replay in replays {
        assert_eq!(replay.header("idempotent-replayed"), Some("true"));
        assert_eq!(replay.body, first.body);
    }
    assert_eq!(validate(&server, payment("")).key("another").send().status, 422);
    settled(&server);
    assert_eq!(deliveries(&server, "").len(), 1);
    assert_eq!(receiver.received().len(), 1);
}
