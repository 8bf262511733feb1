//! Failures that are not about a policy.

use serde_json::json;
use support::{Request, Response, demo_key, launch};

use super::{POLICY, code, demo, framed, policy, put};

#[test]
fn who_has_no_good_key_is_answered_401_whatever_is_wrong_with_it() {
    let server = demo();
    let key = demo_key('1');
    let bad = [
        String::new(),
        "Bearer".to_owned(),
        "Bearer ".to_owned(),
        key.clone(),
        format!("Basic {key}"),
        format!("Bearer {}", demo_key('9')),
        format!("Bearer {}", demo_key('a').to_uppercase()),
        format!("Bearer {key}1"),
        format!("Bearer {}", &key[..key.len() - 1]),
        format!("Bearer {}", key.replace("mxcep_", "mxcep-")),
        format!("Bearer {}", key.replace("mxcep_", "")),
        format!("Bearer {key}, Bearer {key}"),
        "Bearer ñ".to_owned(),
    ];
    let mut answers: Vec<Response> =
        bad.iter().map(|value| server.get(POLICY).header("Authorization", value).send()).collect();
    answers.push(server.get(POLICY).send());
    answers.push(server.get(POLICY).bearer(&key).bearer(&key).send());
    answers.push(server.put(POLICY).key("nobody").json(policy(3)).send());
    for answer in &answers {
        assert_eq!((answer.status, code(answer)), (401, "unauthorized".to_owned()), "{answer:?}");
        assert_eq!(answer.header("www-authenticate"), Some("Bearer"));
        assert!(answer.headers.iter().all(|(name, _)| !name.starts_with("x-ratelimit")), "{answer:?}");
        assert_eq!(
            framed(answer)["errors"],
            framed(&answers[0])["errors"],
            "one answer to all: nothing to learn"
        );
    }
}

#[test]
fn the_scheme_may_be_written_in_any_case() {
    let server = demo();
    for scheme in ["Bearer", "bearer", "BEARER"] {
        let answer = server.get(POLICY).header("Authorization", format!("{scheme} {}", demo_key('1'))).send();
        assert_eq!(answer.status, 200, "{scheme}");
    }
}

#[test]
fn what_is_not_there_is_404_in_the_frame() {
    let server = demo();
    for path in
        ["/v1/nothing", "/v1", "/v1/", "/v1/users/me/retry-policy/", "/v1/users/me//retry-policy", "/v1/%00"]
    {
        let answer = server.get(path).bearer(&demo_key('1')).send();
        assert_eq!((answer.status, code(&answer)), (404, "not_found".to_owned()), "{path}");
        let answer = server.get(path).send();
        assert!(
            matches!((answer.status, code(&answer).as_str()), (401, "unauthorized") | (404, "not_found")),
            "{path}"
        );
    }
    for path in ["/", "/v2/users/me/retry-policy", "/favicon.ico"] {
        assert_eq!(code(&server.get(path).send()), "not_found", "{path}");
    }
}

#[test]
fn what_cannot_be_done_there_is_405_in_the_frame_and_says_what_can() {
    let server = demo();
    for method in ["POST", "DELETE", "PATCH", "OPTIONS", "BREW"] {
        let answer = server.request(method, POLICY).bearer(&demo_key('1')).send();
        assert_eq!((answer.status, code(&answer)), (405, "method_not_allowed".to_owned()), "{method}");
        let mut allowed: Vec<_> = answer.header("allow").expect("Allow").split(',').map(str::trim).collect();
        allowed.sort_unstable();
        assert_eq!(allowed, ["GET", "HEAD", "PUT"], "{method}");
    }
    assert_eq!(code(&server.request("POST", "/healthz").send()), "method_not_allowed");
}

/// With a key and without: the layer reads the body before the handler does, and both must say the same.
fn both(request: &Request, check: impl Fn(&Response)) {
    check(&request.send());
    check(&request.clone().key("with-a-key").send());
}

#[test]
fn a_body_that_is_not_json_is_400() {
    let server = demo();
    let broken: [&[u8]; 6] =
        [b"{", b"{} {}", b"{'a':1}", b"\xff\xfe", b"{\"retry_policy\":1e999}", &b"[".repeat(100_000)];
    for body in broken {
        let request =
            server.put(POLICY).bearer(&demo_key('1')).header("Content-Type", "application/json").body(body);
        let key = format!("broken-{}-{}", body.len(), body[body.len() - 1]);
        for answer in [request.send(), request.clone().key(&key).send()] {
            assert_eq!(
                (answer.status, code(&answer)),
                (400, "invalid_json".to_owned()),
                "{:?}",
                &body[..body.len().min(30)]
            );
        }
    }
}

#[test]
fn a_body_that_is_not_there_is_400() {
    let server = demo();
    let request = server.put(POLICY).bearer(&demo_key('1'));
    both(&request, |answer| assert_eq!((answer.status, code(answer)), (400, "body_empty".to_owned())));
    let spaces = request.json(" \r\n\t ");
    assert_eq!(code(&spaces.send()), "body_empty");
}

#[test]
fn a_body_that_is_too_large_is_413_said_or_not() {
    let server = launch().demo().config("[idempotency]\nmax_body_bytes = 500\n").start();
    let padded = |length: usize| {
        let body = policy(3).to_string();
        let padding = " ".repeat(length - body.len());
        body + &padding
    };
    let put = || server.put(POLICY).bearer(&demo_key('1'));
    assert_eq!(put().json(padded(500)).send().status, 200);
    for _ in 0..2 {
        both(&put().json(padded(501)), |answer| {
            assert_eq!((answer.status, code(answer)), (413, "body_too_large".to_owned()));
            assert_ne!(answer.header("idempotent-replayed"), Some("true"), "it was stored: {answer:?}");
        });
    }
    // One that is announced is refused before it comes.
    for key in ["", "Idempotency-Key: announced\r\n"] {
        let mut connection = server.connect();
        let head = format!(
            "PUT {POLICY} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nAuthorization: Bearer {}\r\n{key}\
             Content-Length: 99999999\r\n\r\n{{",
            demo_key('1')
        );
        connection.write(head.as_bytes());
        let answer = connection.answer();
        assert_eq!((answer.status, code(&answer)), (413, "body_too_large".to_owned()), "{answer:?}");
    }
    // Without a length, nobody knows before it has come.
    let chunked = |key: &str| {
        let mut connection = server.connect();
        let head = format!(
            "PUT {POLICY} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nAuthorization: Bearer {}\r\n{key}\
             Content-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n1f5\r\n{}\r\n0\r\n\r\n",
            demo_key('1'),
            padded(501)
        );
        connection.write(head.as_bytes());
        connection.answer()
    };
    for answer in [chunked(""), chunked("Idempotency-Key: chunked\r\n")] {
        assert_eq!((answer.status, code(&answer)), (413, "body_too_large".to_owned()), "{answer:?}");
    }
}

#[test]
fn json_is_read_whatever_it_calls_itself() {
    let server = demo();
    let put = || server.put(POLICY).bearer(&demo_key('1'));
    for kind in ["application/json; charset=utf-8", "application/x-www-form-urlencoded", "text/plain"] {
        assert_eq!(
            put().header("Content-Type", kind).body(policy(3).to_string()).send().status,
            200,
            "{kind}"
        );
        let answer = put().header("Content-Type", kind).body("max_retries=3".to_owned()).send();
        assert_eq!((answer.status, code(&answer)), (400, "invalid_json".to_owned()), "{kind}");
    }
    assert_eq!(put().body(policy(3).to_string()).send().status, 200, "no type");
}

#[test]
fn a_failure_speaks_the_language_asked_for_and_english_otherwise() {
    let server = demo();
    let said = |language: &str| {
        let answer =
            server.get("/v1/nothing").bearer(&demo_key('1')).header("Accept-Language", language).send();
        framed(&answer)["errors"][0]["detail"].as_str().unwrap().to_owned()
    };
    let (english, spanish) = (said("en"), said("es"));
    assert_ne!(english, spanish);
    for language in ["", "fr", "*", "es;q=0.1, en;q=0.2", "es;q=0", "en-GB,es;q=0.9"] {
        assert_eq!(said(language), english, "{language}");
    }
    for language in ["es-MX", "ES", "en;q=0.1, es;q=0.2", "fr, es;q=0.1", "es-419,es;q=0.9,en;q=0.8"] {
        assert_eq!(said(language), spanish, "{language}");
    }
    assert_eq!(
        framed(&server.get("/v1/nothing").bearer(&demo_key('1')).send())["errors"][0]["detail"],
        english
    );
}

#[test]
fn the_request_id_is_always_ours() {
    let server = demo();
    let answer = server.get(POLICY).bearer(&demo_key('1')).header("X-Request-Id", "mine").send();
    assert_ne!(answer.header("x-request-id"), Some("mine"));
    framed(&answer);
    for path in ["/healthz", "/metrics"] {
        assert_eq!(server.get(path).send().header("x-request-id").map(str::len), Some(12), "{path}");
    }
}

#[test]
fn a_failure_says_nothing_of_the_request_back() {
    let server = demo();
    let marker = "echo-of-mine";
    let sent =
        json!({"retry_policy": {"enabled": true, "max_retries": marker, "outcomes": [marker], marker: 1}});
    let answers = [
        server.put(POLICY).bearer(&demo_key('1')).json(sent).send(),
        server.get(&format!("/v1/{marker}")).bearer(&demo_key('1')).send(),
        put(&server).header("Idempotency-Key", format!("{marker} {marker}")).send(),
    ];
    for answer in answers {
        assert!(!answer.text().contains(marker), "{answer:?}");
    }
}
