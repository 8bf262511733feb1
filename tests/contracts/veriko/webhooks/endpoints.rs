//! `/v1/webhooks`: what an endpoint may be, and whose it is.

use support::Reaction;

use super::*;

const URL: &str = "http://127.0.0.1:9/hook";

fn is_hex(text: &str, digits: usize) -> bool {
    text.len() == digits && text.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte))
}

/// A key of a new account in this database.
fn new_key(database: &str) -> String {
    let arguments = ["keys", "create", "--api", "veriko", "--account", "acme"];
    let launch = arguments.iter().fold(launch().database(database), |launch, argument| launch.arg(argument));
    String::from_utf8(launch.output().stdout).expect("a key is text").trim_end().to_owned()
}

#[test]
fn an_endpoint_shows_its_secret_when_it_is_made_and_never_again() {
    for launch in on_both() {
        // Made for this database, which is not one of ours alone.
        let server = launch.env("SEALING_KEY", &"5".repeat(64)).start();
        let asked = json!({"url": URL, "events": ["validation.completed", "validation.error", "validation.completed"],
            "description": "Paid orders"});
        let created = create(&server, &asked);
        assert_eq!(created.status, 201, "{created:?}");
        let created = framed(&created)["data"].clone();
        assert_eq!(created["type"], "webhook_endpoint");
        let id = created["id"].as_str().expect("an id").to_owned();
        let mut attributes = created["attributes"].clone();
        let secret = attributes["secret"].as_str().expect("a secret").to_owned();
        assert!(is_hex(&secret, 64), "{secret}");
        let created_at = attributes["created_at"].clone();
        let mut expected = json!({
            "url": URL, "events": ["validation.completed", "validation.error"], "description": "Paid orders",
            "status": "active", "consecutive_failures": 0, "last_delivery_at": null, "created_at": created_at,
            "updated_at": created_at, "secret": secret,
        });
        assert_eq!(attributes, expected);

        attributes.as_object_mut().expect("attributes").remove("secret");
        attributes["secret_hint"] = format!("...{}", &secret[60..]).into();
        assert_eq!(shown(&server, &id), attributes);

        let changed =
            about(&server, "PUT", &id, "", Some(&json!({"description": null, "status": "disabled"})));
        let changed = data(&changed)["attributes"].clone();
        expected = attributes;
        (expected["description"], expected["status"]) = (Value::Null, "disabled".into());
        expected["updated_at"] = changed["updated_at"].clone();
        assert_eq!(changed, expected);
        assert_eq!(shown(&server, &id), expected);

        let rotated = data(&about(&server, "POST", &id, "/regenerate-secret", None))["attributes"].clone();
        let second = rotated["secret"].as_str().expect("a secret");
        assert!(is_hex(second, 64) && second != secret && rotated.get("secret_hint").is_none(), "{rotated}");
        assert_eq!(shown(&server, &id)["secret_hint"], format!("...{}", &second[60..]));

        let deleted = about(&server, "DELETE", &id, "", None);
        assert_eq!((deleted.status, deleted.body.len()), (204, 0));
        assert!(deleted.header("x-request-id").is_some());
        assert_eq!(data(&read(&server, WEBHOOKS)), json!([]));
        assert_eq!(code(&about(&server, "DELETE", &id, "", None)), "not_found");
    }
}

#[test]
fn what_an_endpoint_may_not_be_is_said_field_by_field() {
    let server = demo();
    let events = json!(["validation.completed"]);
    let of = |field: &str, value: Value| {
        let mut body = json!({"url": URL, "events": events});
        body[field] = value;
        body
    };
    let many: Vec<_> = std::iter::repeat_n("validation.completed", 11).collect();
    for (body, code_wanted, field) in [
        (json!({"events": events}), "webhook_url_required", "url"),
        (of("url", json!(null)), "webhook_url_required", "url"),
        (of("url", json!("")), "webhook_url_required", "url"),
        (of("url", json!(7)), "webhook_url_invalid_type", "url"),
        (of("url", json!("hook")), "webhook_url_invalid_format", "url"),
        (of("url", json!("http://u:p@127.0.0.1/")), "webhook_url_invalid_format", "url"),
        (of("url", json!("ftp://127.0.0.1/")), "webhook_url_not_https", "url"),
        (of("url", json!(format!("http://127.0.0.1/{}", "a".repeat(2048)))), "webhook_url_too_long", "url"),
        (json!({"url": URL}), "webhook_events_required", "events"),
        (of("events", json!([])), "webhook_events_required", "events"),
        (of("events", json!("validation.completed")), "webhook_events_required", "events"),
        (of("events", json!(many)), "webhook_events_too_many", "events"),
        (of("events", json!(["validation.done"])), "webhook_event_invalid", "events"),
        (of("events", json!(["test"])), "webhook_event_invalid", "events"),
        (of("description", json!(["x"])), "webhook_description_invalid_type", "description"),
        (of("description", json!("ñ".repeat(256))), "webhook_description_too_long", "description"),
    ] {
        let answer = create(&server, &body);
        assert_eq!((answer.status, code(&answer).as_str()), (422, code_wanted), "{body}");
        let answer = answer.json();
        assert_eq!(answer["errors"][0]["source"]["pointer"], format!("/data/attributes/{field}"), "{body}");
        let event = (code_wanted == "webhook_event_invalid").then(|| body["events"][0].clone());
        assert_eq!(answer["meta"].get("event"), event.as_ref(), "{answer}");
    }
    let all_wrong = create(&server, &json!({"url": "hook", "events": 1, "description": 1}));
    let expected =
        ["webhook_url_invalid_format", "webhook_events_required", "webhook_description_invalid_type"];
    assert_eq!(codes(&all_wrong), expected);
    for (body, status, wanted) in [(&b""[..], 400, "body_empty"), (b"{", 400, "invalid_json")] {
        let answer = server.post(WEBHOOKS).bearer(&demo_key('1')).body(body).send();
        assert_eq!((answer.status, code(&answer).as_str()), (status, wanted));
    }
    assert_eq!(codes(&create(&server, &json!([]))), ["webhook_url_required", "webhook_events_required"]);
    assert_eq!(create(&server, &of("description", json!("ñ".repeat(255)))).status, 201);

    let id = shown_ids(&server).remove(0);
    for (body, wanted) in [
        (json!({}), "no_valid_fields"),
        (json!({"secret": "x"}), "no_valid_fields"),
        (json!({"url": ""}), "webhook_url_empty"),
        (json!({"url": null}), "webhook_url_invalid_type"),
        (json!({"events": null}), "webhook_events_required"),
        (json!({"status": "auto_disabled"}), "webhook_status_invalid"),
        (json!({"status": null}), "webhook_status_invalid"),
    ] {
        let answer = about(&server, "PUT", &id, "", Some(&body));
        assert_eq!((answer.status, code(&answer).as_str()), (422, wanted), "{body}");
    }
}

fn shown_ids(server: &Server) -> Vec<String> {
    let listed = data(&read(server, WEBHOOKS));
    let ids = listed.as_array().expect("a list").iter().map(|endpoint| endpoint["id"].as_str());
    ids.map(|id| id.expect("an id").to_owned()).collect()
}

#[test]
fn an_account_has_so_many_endpoints_and_no_more() {
    let server = launch().demo().config("[veriko.webhooks]\nmax_endpoints = 2").start();
    let asked = json!({"url": URL, "events": ["validation.completed"]});
    let made: Vec<_> = (0..2).map(|_| create(&server, &asked).status).collect();
    assert_eq!(made, [201, 201]);
    let refused = create(&server, &asked);
    assert_eq!((refused.status, code(&refused).as_str()), (422, "webhook_limit_reached"));
    assert_eq!(refused.json()["meta"]["limit"], 2);
    let other = server.post(WEBHOOKS).bearer(&demo_key('2')).json(&asked).send();
    assert_eq!(other.status, 201, "it is each account's own");
    about(&server, "DELETE", &shown_ids(&server)[0], "", None);
    assert_eq!(create(&server, &asked).status, 201);
}

#[test]
fn outside_of_the_demo_a_url_is_https_and_leads_to_the_public_internet() {
    let folder = tempfile::tempdir().expect("a folder");
    let url = format!("sqlite://{}/test.db", folder.path().display());
    let key = new_key(&url);
    let server = launch().database(&url).start();
    for (given, status, wanted) in [
        ("http://example.com/hook", 422, "webhook_url_not_https"),
        ("https://127.0.0.1/hook", 400, "url_ssrf_blocked"),
        ("https://[::1]/hook", 400, "url_ssrf_blocked"),
        ("https://169.254.169.254/latest", 400, "url_ssrf_blocked"),
        ("https://0x7f.1/hook", 400, "url_ssrf_blocked"),
        ("https://localhost/hook", 400, "url_ssrf_blocked"),
        ("https://no-such-host.invalid/hook", 400, "url_dns_failed"),
    ] {
        let asked = json!({"url": given, "events": ["validation.completed"]});
        let answer = server.post(WEBHOOKS).bearer(&key).json(&asked).send();
        assert_eq!((answer.status, code(&answer).as_str()), (status, wanted), "{given}");
    }
    let public = json!({"url": "https://1.1.1.1/hook", "events": ["validation.completed"]});
    let answer = server.post(WEBHOOKS).bearer(&key).json(&public).send();
    assert_eq!(answer.status, 201, "{answer:?}");
    let id = framed(&answer)["data"]["id"].as_str().expect("an id").to_owned();
    let moved = server.put(&format!("{WEBHOOKS}/{id}")).bearer(&key);
    assert_eq!(code(&moved.json(json!({"url": "https://10.0.0.1/"})).send()), "url_ssrf_blocked");
}

#[test]
fn what_was_allowed_when_it_was_made_is_not_called_once_it_is_not() {
    let receiver = Receiver::start();
    let folder = tempfile::tempdir().expect("a folder");
    let url = format!("sqlite://{}/test.db", folder.path().display());
    let key = new_key(&url);
    let allowed = "[veriko.webhooks]\nallow_http = true\nallow_private = true";
    let server = launch().database(&url).config(allowed).start();
    let asked = json!({"url": receiver.url(), "events": ["validation.completed"]});
    let created = server.post(WEBHOOKS).bearer(&key).json(&asked).send();
    let id = framed(&created)["data"]["id"].as_str().expect("an id").to_owned();
    let test = |server: &Server| {
        let answer = server.post(&format!("{WEBHOOKS}/{id}/test")).bearer(&key).send();
        data(&answer)["attributes"].clone()
    };
    assert_eq!(test(&server)["delivered"], true);
    server.stop();

    for config in ["[veriko.webhooks]\nallow_http = true", "[veriko.webhooks]\nallow_private = true"] {
        let server = launch().database(&url).config(config).start();
        let result = test(&server);
        assert_eq!((&result["delivered"], &result["http_status"]), (&json!(false), &json!(0)), "{result}");
        assert!(result["error"].as_str().is_some_and(|error| error.contains("URL")), "{result}");
        server.stop();
    }
    assert_eq!(receiver.received().len(), 1);
}

#[test]
fn another_accounts_endpoint_does_not_exist() {
    let server = demo();
    let receiver = Receiver::start();
    let id = register(&server, &receiver, &["validation.completed"]).id;
    let other = demo_key('2');
    for (method, more) in [
        ("PUT", ""),
        ("DELETE", ""),
        ("POST", "/test"),
        ("POST", "/regenerate-secret"),
        ("GET", "/deliveries"),
    ] {
        let path = format!("{WEBHOOKS}/{id}{more}");
        let answer = server.request(method, &path).bearer(&other).json(json!({"status": "disabled"})).send();
        assert_eq!((answer.status, code(&answer).as_str()), (404, "not_found"), "{method} {more}");
        let path = format!("{WEBHOOKS}/17{more}");
        let answer = server.request(method, &path).bearer(&other).json(json!({"status": "disabled"})).send();
        assert_eq!((answer.status, code(&answer).as_str()), (422, "invalid_uuid"), "{method} {more}");
    }
    assert_eq!(data(&server.get(WEBHOOKS).bearer(&other).send()), json!([]));
    assert_eq!(shown(&server, &id)["status"], "active");

    data(&validate(&server, payment("MX1")).send());
    assert_eq!(settled(&server)["attributes"]["status"], "success");
    assert_eq!(data(&server.get(DELIVERIES).bearer(&other).send()), json!([]));
    let named = server.get(&format!("{DELIVERIES}?endpoint_id={id}")).bearer(&other).send();
    assert_eq!(data(&named), json!([]));
    let others = server.post("/v1/validate").bearer(&other).json(payment("MX2")).send();
    assert_eq!(others.status, 200);
    assert_eq!(receiver.received().len(), 1, "another's validation is none of its business");
}

#[test]
fn who_may_only_read_changes_nothing() {
    let server = demo();
    let key = demo_key('4');
    assert_eq!(server.get(WEBHOOKS).bearer(&key).send().status, 200);
    assert_eq!(server.get(DELIVERIES).bearer(&key).send().status, 200);
    let id = "018f3c2e-7b1a-4c3d-9e4f-5a6b7c8d9e0f";
    for (method, more) in [
        ("POST", ""),
        ("PUT", "/id"),
        ("DELETE", "/id"),
        ("POST", "/id/test"),
        ("POST", "/id/regenerate-secret"),
    ] {
        let path = format!("{WEBHOOKS}{}", more.replace("id", id));
        let answer = server.request(method, &path).bearer(&key).json(json!({})).send();
        assert_eq!((answer.status, code(&answer).as_str()), (403, "forbidden"), "{method} {more}");
    }
}

#[test]
fn a_test_says_what_the_receiver_answered_and_counts_for_nothing() {
    let server = impatient(launch().demo(), "[0.01]\ntimeout_seconds = 1");
    let receiver = Receiver::start();
    let endpoint = register(&server, &receiver, &["validation.completed"]);
    for (reaction, delivered, status) in [
        (Reaction::Answer(204), true, 204),
        (Reaction::Answer(500), false, 500),
        (Reaction::Redirect, false, 307),
        (Reaction::Close, false, 0),
        (Reaction::Hang, false, 0),
    ] {
        receiver.react(reaction);
        let answer = data(&about(&server, "POST", &endpoint.id, "/test", None));
        assert_eq!(answer["type"], "webhook_test_result");
        let result = &answer["attributes"];
        assert_eq!(
            (&result["delivered"], &result["http_status"]),
            (&json!(delivered), &json!(status)),
            "{reaction:?}"
        );
        assert_eq!(result["error"].is_null(), status != 0, "{result}");
        assert!(result["response_time_ms"].is_u64(), "{result}");
    }
    let heard = receiver.received();
    assert_eq!(heard.len(), 5, "a redirect is not followed");
    signed(&heard[0], &endpoint.secret);
    assert_eq!(heard[0].header("x-veriko-event"), "test");
    assert_eq!(heard[0].json()["event"], "test");
    let shown = shown(&server, &endpoint.id);
    assert_eq!((&shown["status"], &shown["consecutive_failures"]), (&json!("active"), &json!(0)));
    assert_eq!(shown["last_delivery_at"], json!(null));
    let logged = deliveries(&server, "event_type=test");
    let logged: Vec<_> = logged.iter().map(|delivery| delivery["attributes"]["status"].clone()).collect();
    assert_eq!(logged, ["failed", "failed", "failed", "failed", "success"]);
}
