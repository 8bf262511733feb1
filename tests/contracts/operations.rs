//! What an operator sees: health, numbers, and a log that gives nothing away.

use serde_json::Value;
use support::{demo_key, launch};

const POLICY: &str = "/v1/users/me/retry-policy";
const OFF: &str = r#"{"retry_policy":{"enabled":false}}"#;

#[test]
fn health_and_numbers_need_no_key() {
    let server = launch().demo().start();
    for path in ["/healthz", "/readyz", "/metrics"] {
        assert_eq!(server.get(path).send().status, 200, "{path}");
    }
}

#[test]
fn the_document_is_printed_without_a_database_and_is_the_one_that_is_served() {
    let output = launch().database("postgres://u@127.0.0.1:1/d").arg("openapi").output();
    assert!(output.status.success(), "{output:?}");
    let printed: Value = serde_json::from_slice(&output.stdout).unwrap();
    let served = launch().demo().start().get("/openapi.json").send();
    assert_eq!(served.header("content-type"), Some("application/json"));
    assert_eq!(served.json(), printed);
    assert_eq!(printed["openapi"], "3.1.0");
    for (path, operation) in [("/v1/validate", "validateDirect"), ("/identity/verify", "createVerification")]
    {
        assert_eq!(printed["paths"][path]["post"]["operationId"], operation);
    }
}

#[test]
fn the_reference_page_and_its_files_need_no_key_and_are_not_fetched_twice() {
    let server = launch().demo().start();
    let page = server.get("/docs").send();
    let (page, policy) = (page.text(), page.header("content-security-policy").unwrap().to_owned());
    assert!(policy.starts_with("default-src 'none'") && !policy.contains("http"), "{policy}");
    let files: Vec<_> = page.split('"').filter(|text| text.starts_with('/')).collect();
    assert!(files.len() >= 5, "{page}");
    for file in files.into_iter().chain(["/docs"]) {
        let answer = server.get(file).send();
        assert_eq!((answer.status, answer.body.is_empty()), (200, false), "{file}");
        let tag = answer.header("etag").unwrap();
        let again = server.get(file).header("If-None-Match", tag).send();
        assert_eq!((again.status, again.body.is_empty()), (304, true), "{file}");
        assert_eq!(server.get(file).header("If-None-Match", "\"0\"").send().status, 200, "{file}");
    }
}

#[test]
fn requests_are_counted_by_route_and_status_and_by_nothing_a_client_can_choose() {
    let server = launch().demo().start();
    for number in 0..5 {
        server.get(&format!("/v1/made-up-{number}")).bearer(&demo_key('1')).send();
        server.request(&format!("MADEUP{number}"), POLICY).bearer(&demo_key('1')).send();
    }
    server.get(POLICY).bearer(&demo_key('1')).send();
    let count = |labels: &[&str]| server.counted("http_requests_total", labels);
    let route = format!("route=\"{POLICY}\"");
    assert_eq!(count(&[&route, "method=\"GET\"", "status=\"200\""]), 1);
    assert_eq!(count(&[&route, "method=\"other\"", "status=\"405\""]), 5);
    assert_eq!(count(&["route=\"(none)\"", "method=\"GET\"", "status=\"404\""]), 5);
    assert_eq!(server.counted("http_request_duration_seconds_count", &[&route, "method=\"GET\""]), 1);
    assert!(!server.get("/metrics").send().text().to_lowercase().contains("made"));
}

#[test]
fn the_log_of_everything_holds_no_key_and_nothing_sent() {
    for format in ["text", "json"] {
        let server = launch().demo().arg("--log").arg(format).env("RUST_LOG", "trace").start();
        let put = |body: &str| server.put(POLICY).bearer(&demo_key('1')).json(body);
        let sent =
            ["grep-for-this-key", "grep for this invalid key", "grep-for-this-path", "grep-for-this-body"];
        for _ in 0..2 {
            put(OFF).key(sent[0]).send();
        }
        put(&OFF.replace("false", "true")).key(sent[0]).send();
        put(OFF).key(sent[1]).send();
        put(OFF).key(sent[0]).key(sent[0]).send();
        put(&OFF.replace("false", &format!("\"{}\"", sent[3]))).send();
        server.get(&format!("/v1/{}?q={}", sent[2], sent[2])).bearer(&demo_key('1')).send();
        server.get(POLICY).bearer(&demo_key('9')).send();
        server.get(POLICY).header("Authorization", demo_key('8')).send();

        let log = server.stop().stderr;
        // The demo says what to try, with a key that is public.
        let log: Vec<_> = log.lines().filter(|line| !line.contains(": curl -H 'Authorization: ")).collect();
        let log = log.join("\n");
        for secret in sent {
            assert!(!log.contains(secret), "{format}: {secret}: {log}");
        }
        for digit in ['1', '2', '3', '4', '8', '9'] {
            assert!(!log.contains(&digit.to_string().repeat(16)), "{format}: key {digit}: {log}");
        }
        assert!(
            log.contains("TRACE") || log.contains("DEBUG"),
            "{format}: the log was not at its most talkative: {log}"
        );
    }
}

#[test]
fn every_line_of_a_json_log_is_an_object_and_names_the_request() {
    let server = launch().demo().arg("--log").arg("json").start();
    let answer = server.get(POLICY).bearer(&demo_key('1')).send();
    let log = server.stop().stderr;
    let lines: Vec<Value> =
        log.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|_| panic!("{line}"))).collect();
    let id = answer.header("x-request-id").unwrap();
    let of_request: Vec<_> = lines.iter().filter(|line| line["span"]["request_id"] == id).collect();
    assert_eq!(of_request.len(), 1, "{log}");
    assert_eq!(of_request[0]["fields"]["status"], 200, "{log}");
    assert_eq!(of_request[0]["span"]["route"], POLICY, "{log}");
}

#[test]
fn where_there_is_nothing_the_api_answers_whose_key_it_is() {
    let server = launch().demo().start();
    for (key, status, code) in [
        (Some(demo_key('1').as_str()), 404, "/errors/0/code"),
        (Some("mfx_test_abc123def456"), 404, "/error"),
        (Some("txc_test_abc123def456"), 404, "/error/code"),
        // Looks like one of theirs, and is none.
        (Some("mfx_test_nobody000000"), 401, "/error"),
        (Some("nobody's"), 401, "/errors/0/code"),
        (None, 401, "/errors/0/code"),
    ] {
        let request = server.get("/v1/nothing");
        let answer = match key {
            Some(key) => request.bearer(key).send(),
            None => request.send(),
        };
        let body = answer.json();
        let said = body.pointer(code).and_then(Value::as_str);
        assert_eq!(answer.status, status, "{key:?}: {body}");
        assert!(
            said.is_some_and(|said| said == "not_found" || said.starts_with("unauth")),
            "{key:?}: {body}"
        );
    }
}
