//! What becomes of a delivery that is not taken at once, and the log of them.

use std::collections::BTreeSet;

use support::Reaction;

use super::*;

const COMPLETED: &[&str] = &["validation.completed"];

#[test]
fn a_delivery_is_made_again_until_it_is_taken_with_the_same_id_and_bytes() {
    for launch in on_both() {
        let server = impatient(launch.env("SEALING_KEY", &"5".repeat(64)), "[0.01, 1, 0.01, 0.01]");
        let receiver = Receiver::reacting(Reaction::Answer(503));
        let endpoint = register(&server, &receiver, COMPLETED);
        data(&validate(&server, payment("MX1")).send());
        receiver.wait_for(2);
        let waiting = eventually("two failures", || {
            let delivery = deliveries(&server, "").remove(0)["attributes"].clone();
            (delivery["attempt"] == 2).then_some(delivery)
        });
        assert_eq!((&waiting["status"], &waiting["response_status"]), (&json!("retrying"), &json!(503)));
        assert!(waiting["next_retry_at"].is_string(), "{waiting}");
        assert_eq!(shown(&server, &endpoint.id)["consecutive_failures"], 2);

        receiver.react(Reaction::Close);
        receiver.wait_for(3);
        receiver.react(Reaction::Answer(200));
        let delivery = settled(&server)["attributes"].clone();
        assert_eq!((&delivery["status"], &delivery["next_retry_at"]), (&json!("success"), &json!(null)));
        let heard = receiver.received();
        assert_eq!(delivery["attempt"], heard.len());
        let ids: BTreeSet<_> = heard.iter().map(|try_| try_.header("x-veriko-delivery-id")).collect();
        let bodies: BTreeSet<_> = heard.iter().map(|try_| &try_.body).collect();
        assert_eq!((ids.len(), bodies.len()), (1, 1));
        let times: Vec<_> = heard.iter().map(|try_| signed(try_, &endpoint.secret)).collect();
        assert!(times[2] > times[0], "signed anew at each try: {times:?}");
        assert_eq!(shown(&server, &endpoint.id)["consecutive_failures"], 0);
    }
}

#[test]
fn a_receiver_that_says_when_to_come_back_is_not_called_before_that() {
    for when in ["900", "Fri, 31 Dec 9999 23:59:59 GMT"] {
        let server = impatient(launch().demo(), "[0.01, 0.01, 0.01, 0.01]");
        let receiver = Receiver::reacting(Reaction::Later(when));
        register(&server, &receiver, COMPLETED);
        data(&validate(&server, payment("MX1")).send());
        let waiting = eventually("a failure", || {
            let delivery = deliveries(&server, "").remove(0)["attributes"].clone();
            (delivery["status"] == "retrying").then_some(delivery)
        });
        assert_eq!((&waiting["attempt"], &waiting["response_status"]), (&json!(1), &json!(503)));
        let seconds = |time: &serde_json::Value| {
            let time = time.as_str().expect("a time").parse::<jiff::Timestamp>().expect("a time");
            time.as_second()
        };
        let wait = seconds(&waiting["next_retry_at"]) - seconds(&waiting["created_at"]);
        let expected = if when == "900" { 900 } else { 24 * 60 * 60 };
        assert!((expected - 5..=expected + 30).contains(&wait), "{wait}");
        assert_eq!(receiver.received().len(), 1);
    }
}

#[test]
fn a_delivery_was_taken_whose_answer_breaks_off_behind_its_status() {
    let server = impatient(launch().demo(), "[0.01, 0.01, 0.01, 0.01]");
    let receiver = Receiver::reacting(Reaction::BreakOff(200));
    register(&server, &receiver, COMPLETED);
    data(&validate(&server, payment("MX1")).send());
    let delivery = settled(&server)["attributes"].clone();
    assert_eq!((&delivery["status"], &delivery["attempt"]), (&json!("success"), &json!(1)));
    assert_eq!((&delivery["response_status"], &delivery["response_body"]), (&json!(200), &json!("begun")));
    assert_eq!(receiver.received().len(), 1);
}

#[test]
fn an_endpoint_that_keeps_failing_is_disabled_and_begins_anew_when_it_is_enabled() {
    let server = demo(); // four tries, and disabled after three
    let receiver = Receiver::reacting(Reaction::Answer(500));
    let endpoint = register(&server, &receiver, COMPLETED);
    data(&validate(&server, payment("MX1")).send());
    let disabled = eventually("it is disabled", || {
        let shown = shown(&server, &endpoint.id);
        (shown["status"] == "auto_disabled").then_some(shown)
    });
    assert_eq!((&disabled["consecutive_failures"], &disabled["last_delivery_at"]), (&json!(4), &json!(null)));
    let delivery = settled(&server)["attributes"].clone();
    assert_eq!((&delivery["status"], &delivery["attempt"]), (&json!("failed"), &json!(4)));
    assert_eq!((&delivery["next_retry_at"], &delivery["response_body"]), (&json!(null), &json!("ok")));
    data(&validate(&server, payment("MX2")).send());
    assert_eq!(deliveries(&server, "").len(), 1, "it is told of nothing any more");

    receiver.react(Reaction::Answer(200));
    let enabled = data(&about(&server, "PUT", &endpoint.id, "", Some(&json!({"status": "active"}))));
    assert_eq!(enabled["attributes"]["consecutive_failures"], 0);
    data(&validate(&server, payment("MX3")).send());
    assert_eq!(receiver.wait_for(5).len(), 5, "what was given up is not sent again");
}

#[test]
fn what_waits_for_an_endpoint_that_is_disabled_or_removed_is_given_up() {
    let server = impatient(launch().demo(), "[0.5, 600]");
    let receiver = Receiver::reacting(Reaction::Answer(500));
    let [disabled, removed] = [(); 2].map(|()| register(&server, &receiver, COMPLETED));
    data(&validate(&server, payment("MX1")).send());
    receiver.wait_for(2);
    eventually("both failed once", || (deliveries(&server, "status=retrying").len() == 2).then_some(()));
    data(&about(&server, "PUT", &disabled.id, "", Some(&json!({"status": "disabled"}))));
    assert_eq!(about(&server, "DELETE", &removed.id, "", None).status, 204);
    let left = deliveries(&server, "");
    assert_eq!(left.len(), 1, "its history goes with an endpoint: {left:?}");
    let left = &left[0]["attributes"];
    assert_eq!((&left["endpoint_id"], &left["status"]), (&json!(disabled.id), &json!("failed")));
    assert_eq!(left["next_retry_at"], json!(null));
    // Enabled at once, before the cycle is due: what was given up stays so.
    data(&about(&server, "PUT", &disabled.id, "", Some(&json!({"status": "active"}))));
    receiver.react(Reaction::Answer(200));
    data(&validate(&server, payment("MX2")).send());
    receiver.wait_for(3);
    eventually("the cycles have ended", || {
        (server.counted("webhook_tries_total", &[r#"outcome="success""#]) == 1).then_some(())
    });
    assert_eq!(receiver.received().len(), 3);
}

#[test]
fn a_receiver_that_hangs_keeps_nobody_else_waiting() {
    let config = "[veriko.webhooks]\ntimeout_seconds = 30\n[scheduler]\nconcurrency = 8";
    let server = launch().demo().config(config).start();
    let hanging = Receiver::reacting(Reaction::Hang);
    register(&server, &hanging, COMPLETED);
    for n in 0..20 {
        data(&validate(&server, payment(&format!("MX{n}"))).send());
    }
    hanging.wait_for(2);
    let receiver = Receiver::start();
    let asked = json!({"url": receiver.url(), "events": COMPLETED});
    assert_eq!(server.post(WEBHOOKS).bearer(&demo_key('2')).json(&asked).send().status, 201);
    let validated = server.post("/v1/validate").bearer(&demo_key('2')).json(payment("MX1")).send();
    assert_eq!(validated.status, 200);
    receiver.wait_for(1);
    assert_eq!(hanging.received().len(), 2, "a quarter of the worker's places");
}

#[test]
fn the_log_is_filtered_and_has_pages() {
    let server = demo();
    let (good, bad) = (Receiver::start(), Receiver::reacting(Reaction::Answer(404)));
    let [good_id, bad_id] = [&good, &bad].map(|receiver| register(&server, receiver, COMPLETED).id);
    let id = data(&validate(&server, payment("MX1")).send())["id"].as_str().expect("an id").to_owned();
    data(&validate(&server, payment("MX2")).send());
    eventually("all are over", || {
        let over = deliveries(&server, "status=success,failed").len();
        (over == 3 || over == 4).then_some(())
    });
    let all = deliveries(&server, "").len();
    for (query, expected) in [
        (format!("endpoint_id={good_id}"), 2),
        (format!("endpoint_id={good_id},{bad_id}"), all),
        ("status=success".to_owned(), 2),
        ("status=pending,retrying".to_owned(), 0),
        ("event_type=validation.completed".to_owned(), all),
        ("event_type=test,validation.error".to_owned(), 0),
        (format!("validation_id={id}&status=success"), 1),
        ("response_status=404".to_owned(), all - 2),
        ("response_status=4xx,2xx".to_owned(), all),
        ("response_status=5xx,none".to_owned(), 0),
        ("min_attempt=2".to_owned(), all - 2),
        ("min_response_time_ms=600000".to_owned(), 0),
        (format!("q={}", &good_id[..13].to_uppercase()), 2),
        ("q=%25".to_owned(), 0),
        ("from=2020-01-01&to=2999-12-31".to_owned(), all),
        ("to=2020-01-01".to_owned(), 0),
        ("from=2999-01-01T00:00:00Z".to_owned(), 0),
        ("to=2999-01-01T00:00:00-06:00".to_owned(), all),
        ("status=&q=&from=".to_owned(), all),
    ] {
        assert_eq!(deliveries(&server, &query).len(), expected, "{query}");
    }
    let of_one = read(&server, &format!("{WEBHOOKS}/{good_id}/deliveries?per_page=1&page=2"));
    let page = framed(&of_one);
    assert_eq!(page["meta"]["pagination"], json!({"page": 2, "per_page": 1, "total": 2, "total_pages": 2}));
    let [first] = &page["data"].as_array().expect("a page")[..] else { panic!("{page}") };
    assert_eq!(first["attributes"]["validation_id"], id, "the latest come first");
    assert!(first["attributes"].get("endpoint_url").is_none(), "{first}");
    let page = framed(&read(&server, DELIVERIES));
    assert_eq!(page["meta"]["pagination"]["per_page"], 50);
    for query in [
        "status=sent",
        "status=,",
        "event_type=validation.done",
        "endpoint_id=17",
        "validation_id=17",
        "response_status=600",
        "response_status=6xx",
        "from=yesterday",
        "to=2026-02-30",
        "min_attempt=0",
        "min_attempt=256",
        "min_response_time_ms=600001",
        "page=x",
        "from[]=2026-01-01",
    ] {
        let answer = read(&server, &format!("{DELIVERIES}?{query}"));
        assert_eq!((answer.status, code(&answer).as_str()), (422, "invalid_filter"), "{query}");
    }
}
