//! That a head, a body and a name are read as their own specifications say, in all APIs.

use private_postgres::shared_database;
use serde_json::{Value, json};
use support::{Connection, Form, Response, Server, demo_key, eventually, launch};

const MINTFAX: &str = "mfx_test_abc123def456";
const TXCLOUD: &str = "txc_test_abc123def456";

fn demo() -> Server {
    launch().demo().start()
}

/// The answer to these lines of a head, each API's own path among them.
fn answer(server: &Server, lines: &[&str]) -> Response {
    let mut connection: Connection = server.connect();
    connection.write(format!("{}\r\nConnection: close\r\n\r\n", lines.join("\r\n")).as_bytes());
    connection.answer()
}

/// A path of each API, and where its failures have their code.
const APIS: [(&str, &str); 4] = [
    ("/v1/users/me", "/errors/0/code"),
    ("/v1/faxes", "/error"),
    ("/identity/verifications", "/error/code"),
    ("/healthz", "/errors/0/code"),
];

fn code(answer: &Response, pointer: &str) -> String {
    let body = answer.json();
    body.pointer(pointer).and_then(Value::as_str).unwrap_or_else(|| panic!("no {pointer}: {body}")).to_owned()
}

#[test]
fn a_request_without_one_valid_host_is_refused_in_the_words_of_its_api() {
    let server = launch().start();
    for (path, pointer) in APIS {
        let get = format!("GET {path} HTTP/1.1");
        for hosts in [&[][..], &["Host: a", "Host: a"], &["Host: user@a"]] {
            let answer = answer(&server, &[&[get.as_str()], hosts].concat());
            assert_eq!(answer.status, 400, "{path}: {hosts:?}");
            assert!(!code(&answer, pointer).is_empty() && answer.header("x-request-id").is_some());
        }
        let usual = if path == "/healthz" { 200 } else { 401 };
        assert_eq!(answer(&server, &[&get, "Host: any.example:1"]).status, usual, "{path}");
        assert_eq!(answer(&server, &[&format!("GET {path} HTTP/1.0")]).status, usual, "{path}");
    }
}

#[test]
fn a_demo_answers_for_names_of_this_machine_only() {
    let server = demo();
    let port = server.address.port();
    for (path, pointer) in APIS {
        let get = format!("GET {path} HTTP/1.1");
        let usual = if path == "/healthz" { 200 } else { 401 };
        for host in ["localhost", "127.0.0.1", "[::1]", &format!("LOCALHOST:{port}")] {
            assert_eq!(answer(&server, &[&get, &format!("Host: {host}")]).status, usual, "{path}: {host}");
        }
        let key = format!("Authorization: Bearer {}", demo_key('1'));
        let rebound = format!("Host: rebound.example:{port}");
        let answer = answer(&server, &[&get, &rebound, &key]);
        assert_eq!(answer.status, 421, "{path}");
        assert!(!code(&answer, pointer).is_empty());
    }
}

#[test]
fn an_encoded_body_is_refused_and_its_key_can_be_used_again() {
    let server = demo();
    for (path, key, pointer, body) in [
        ("/v1/validate", demo_key('1'), "/errors/0/code", "{}".to_owned()),
        ("/v1/webhooks", demo_key('1'), "/errors/0/code", "{}".to_owned()),
        ("/identity/sessions", TXCLOUD.to_owned(), "/error/code", "{}".to_owned()),
        ("/v1/faxes", MINTFAX.to_owned(), "/error", String::new()),
    ] {
        let post = |headers: &[(&str, &str)]| {
            let request = server.post(path).bearer(&key).key("encoded-body-1");
            let request = headers.iter().fold(request, |request, (name, value)| request.header(name, value));
            request.body(if body.is_empty() { "x" } else { &body }).send()
        };
        for headers in [
            &[("Content-Encoding", "gzip")][..],
            &[("Content-Encoding", "identity, BR")],
            &[("Content-Type", "application/json; Charset=\"UTF-16\"")],
        ] {
            let answer = post(headers);
            assert_eq!(
                (answer.status, code(&answer, pointer).as_str()),
                (415, "unsupported_media_type"),
                "{path}"
            );
        }
        for headers in [
            &[("Content-Encoding", "identity")][..],
            &[("Content-Type", "application/json;charset=\"utf-8\"")],
        ] {
            let answer = post(headers);
            assert!([400, 422].contains(&answer.status), "{path}: {answer:?}");
        }
    }
    let change = server.put("/v1/account/fax-settings").bearer(MINTFAX).header("Content-Encoding", "gzip");
    assert_eq!(change.body("x").send().status, 415);
}

/// Sends a form whose parts have these heads, to a number that is delivered to.
fn fax(server: &Server, content_type: &str, parts: &[(&str, &[u8])]) -> Response {
    let mut body = Vec::new();
    for (head, content) in parts {
        body.extend_from_slice(format!("--BB\r\n{head}\r\n\r\n").as_bytes());
        body.extend_from_slice(content);
        body.extend_from_slice(b"\r\n");
    }
    body.extend_from_slice(b"--BB--\r\n");
    server.post("/v1/faxes").bearer(MINTFAX).header("Content-Type", content_type).body(body).send()
}

#[test]
fn a_form_is_read_whatever_the_case_and_quotes_of_its_heads() {
    let server = demo();
    let document: &[u8] = b"%PDF-1.7 a letter";
    for (content_type, to, file) in [
        (
            "multipart/form-data; boundary=BB",
            "Content-Disposition: form-data; name=\"to\"",
            "Content-Disposition: form-data; name=\"file\"; filename=\"a.pdf\"",
        ),
        (
            "Multipart/Form-Data; Charset=utf-8; Boundary=\"BB\"",
            "content-disposition: FORM-DATA; NAME=to",
            "CONTENT-DISPOSITION: form-data;FILENAME=\"name=to.pdf\";NAME=file",
        ),
        (
            "multipart/form-data;boundary=BB",
            "Content-Disposition: form-data; name=\"to\"\r\nContent-Type: text/plain; charset=ISO-8859-1",
            "Content-Disposition: form-data; name=\"file\"; filename*=UTF-8''se%C3%B1or.pdf\r\nContent-Transfer-Encoding: Binary",
        ),
    ] {
        let answer = fax(&server, content_type, &[(to, b"+15005550001"), (file, document)]);
        assert_eq!(answer.status, 201, "{content_type}: {answer:?}");
    }
}

#[test]
fn a_part_that_is_encoded_is_refused_and_not_faxed_as_its_letters() {
    let server = demo();
    let to = ("Content-Disposition: form-data; name=\"to\"", &b"+15005550001"[..]);
    for encoding in [
        "Content-Transfer-Encoding: base64",
        "Content-Transfer-Encoding: Quoted-Printable",
        "Content-Encoding: gzip",
    ] {
        let head = format!("Content-Disposition: form-data; name=\"file\"; filename=\"a.pdf\"\r\n{encoding}");
        let answer = fax(&server, "multipart/form-data; boundary=BB", &[to, (&head, b"JVBERi0xLjQKMSAw")]);
        assert_eq!(
            (answer.status, code(&answer, "/error").as_str()),
            (422, "validation_failed"),
            "{encoding}"
        );
        assert!(answer.json()["context"]["errors"]["file"].is_array(), "{answer:?}");
    }
    let unknown = "Content-Disposition: form-data; name=\"to\"\r\nContent-Type: text/plain; charset=ebcdic";
    let file = ("Content-Disposition: form-data; name=\"file\"; filename=\"a.pdf\"", &b"%PDF-1.7"[..]);
    let answer = fax(&server, "multipart/form-data; boundary=BB", &[(unknown, b"+15005550001"), file]);
    assert_eq!(answer.status, 422);
}

#[test]
fn metadata_is_given_back_digit_for_digit() {
    let metadata = r#"{"price":1.10,"large":1e400,"id":12345678901234567890123,"text":"\u00f1"}"#;
    for database in ["sqlite::memory:".to_owned(), shared_database()] {
        let server = launch().demo().database(&database).start();
        let asked = format!(r#"{{"document_type":"passport","country":"MX","metadata":{metadata}}}"#);
        let post = || {
            server
                .post("/identity/sessions")
                .bearer(TXCLOUD)
                .key("digit-for-digit")
                .body(asked.as_str())
                .open()
                .answer()
        };
        let made = post();
        assert_eq!(made.status, 201, "{made:?}");
        let id =
            made.text().split("\"id\":\"").nth(1).and_then(|rest| rest.split('"').next().map(str::to_owned));
        let path = format!("/identity/sessions/{}", id.expect("an id"));
        for answer in [made, post(), server.get(&path).bearer(TXCLOUD).open().answer()] {
            let expected = format!("\"metadata\":{metadata}");
            assert!(answer.text().contains(&expected), "{}", answer.text());
        }
    }
}

/// A NUL is a character of JSON, and of no text that PostgreSQL keeps.
#[test]
fn a_text_that_no_database_keeps_is_refused_before_it_is_kept() {
    let server = launch().demo().database(&shared_database()).start();
    let veriko = demo_key('1');
    let payment = json!({"fecha": "2025-03-15", "monto": 1500.50, "clave_rastreo": "MXNUL", "cuenta_beneficiaria": "012180004412345678"});
    let session = json!({"document_type": "passport", "country": "MX"});
    let screening = json!({"entity": {"type": "individual", "name": "Boris Fictivov"}});
    let transaction = json!({"amount": 5000, "currency": "MAD", "type": "p2p_transfer", "sender": {"user_id": "usr_1"}, "recipient": {"value": "1"}});
    let hook = json!({"url": "http://127.0.0.1:1/hook", "events": ["validation.completed"]});
    for (path, key, body, fields) in [
        (
            "/v1/validate?async=1",
            veriko.as_str(),
            &payment,
            &[
                "fecha",
                "clave_rastreo",
                "cuenta_beneficiaria",
                "client_ref",
                "emisor",
                "receptor",
                "numero_referencia",
            ][..],
        ),
        ("/v1/webhooks", &veriko, &hook, &["url", "description"]),
        ("/identity/sessions", TXCLOUD, &session, &["document_type", "metadata/a"]),
        (
            "/transactions/score",
            TXCLOUD,
            &transaction,
            &["transaction_id", "sender/user_id", "recipient/name", "metadata/a"],
        ),
        ("/watchlist/screen", TXCLOUD, &screening, &["entity/name"]),
    ] {
        for field in fields {
            let mut body = body.clone();
            match field.split_once('/') {
                Some((object, member)) => body[object][member] = json!("a\0b"),
                None => body[*field] = json!("a\0b"),
            }
            let answer = server.post(path).bearer(key).json(&body).send();
            let unknown = answer.status < 300 && !answer.text().contains("\\u0000");
            assert!([400, 422].contains(&answer.status) || unknown, "{path} {field}: {answer:?}");
        }
    }
    for path in [
        "/v1/validations?search=a%00b",
        "/v1/validations?client_ref=a%00b",
        "/v1/webhooks/deliveries?event=a%00b",
        "/v1/faxes/a%00b",
        "/identity/verify/a%00b",
        "/identity/verifications?starting_after=a%00",
    ] {
        let key = if path.starts_with("/v1/faxes") {
            MINTFAX
        } else if path.starts_with("/identity") {
            TXCLOUD
        } else {
            &veriko
        };
        let answer = server.get(path).bearer(key).open().answer();
        assert!(answer.status < 500, "{path}: {answer:?}");
    }
}

#[test]
fn head_says_what_get_says_and_304_what_matters_of_it() {
    let server = demo();
    let veriko = demo_key('1');
    let payment = json!({"fecha": "2025-03-15", "monto": 1500.50, "clave_rastreo": "MXHEAD", "cuenta_beneficiaria": "012180004412345678"});
    let made = server.post("/v1/validate").bearer(&veriko).json(&payment).send().json();
    let id = made["data"]["id"].as_str().expect("an id").to_owned();
    let raw = |method: &str, path: &str, key: &str, more: &str| {
        let mut connection = server.connect();
        let head = format!(
            "{method} {path} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {key}\r\n{more}Connection: close\r\n\r\n"
        );
        connection.write(head.as_bytes());
        connection.read_to_end()
    };
    let head_of = |answer: &str| {
        let (head, body) = answer.split_once("\r\n\r\n").expect("a head");
        let volatile = ["x-request-id", "date", "x-ratelimit", "set-cookie"];
        let lines = head.lines().map(|line| match line.split_once(':') {
            Some((name, value)) => format!("{}:{value}", name.to_ascii_lowercase()),
            None => line.to_owned(),
        });
        let lasting = lines.filter(|line| !volatile.iter().any(|name| line.starts_with(name)));
        (lasting.collect::<Vec<_>>(), body.to_owned())
    };
    for (path, key) in [
        (format!("/v1/validations/{id}"), veriko.as_str()),
        (format!("/v1/validations/{id}/cep"), &veriko),
        ("/v1/public/banks".to_owned(), &veriko),
        ("/v1/users/me".to_owned(), &veriko),
        ("/v1/faxes".to_owned(), MINTFAX),
        ("/identity/verifications".to_owned(), TXCLOUD),
        ("/docs".to_owned(), &veriko),
        ("/openapi.json".to_owned(), &veriko),
        ("/healthz".to_owned(), &veriko),
        ("/v1/validations/none".to_owned(), &veriko),
        ("/v1/faxes/none".to_owned(), MINTFAX),
        ("/identity/sessions/none".to_owned(), TXCLOUD),
    ] {
        let (got, _) = head_of(&raw("GET", &path, key, ""));
        let (head, body) = head_of(&raw("HEAD", &path, key, ""));
        assert_eq!((head, body.as_str()), (got.clone(), ""), "{path}");
        assert!(got.iter().any(|line| line.starts_with("content-length:")), "{path}: {got:?}");
        let Some(tag) = got.iter().find_map(|line| line.strip_prefix("etag: ")) else { continue };
        for method in ["GET", "HEAD"] {
            let (head, body) = head_of(&raw(method, &path, key, &format!("If-None-Match: {tag}\r\n")));
            assert_eq!((head[0].as_str(), body.as_str()), ("HTTP/1.1 304 Not Modified", ""), "{path}");
            // RFC 9110, section 15.4.5; and no length but that of the 200.
            for line in &got {
                let kept = ["etag", "cache-control", "vary", "expires", "content-location"];
                if kept.iter().any(|name| line.starts_with(&format!("{name}:"))) {
                    assert!(head.contains(line), "{path}: {line} not in {head:?}");
                }
            }
            let length = head.iter().find(|line| line.starts_with("content-length:"));
            assert!(length.is_none_or(|length| got.contains(length)), "{path}: {head:?}");
            assert!(!head.iter().any(|line| line.starts_with("content-type:")), "{path}: {head:?}");
        }
    }
}

#[test]
fn a_test_key_can_have_its_request_wait() {
    let server = demo();
    let post = |delay: &Value| {
        let session =
            json!({"document_type": "passport", "country": "MX", "metadata": {"sandbox_delay_ms": delay}});
        let key = format!("waits-for-{delay}").replace(['"', '.', '-'], "_");
        server.post("/identity/sessions").bearer(TXCLOUD).key(&key).json(session)
    };
    let fax = |delay: &str| {
        Form::to("+15005550001").field("sandbox_delay_ms", delay).post(&server, MINTFAX).key("waits")
    };
    for delay in [json!(5001), json!(-1), json!(0.5), json!("100")] {
        let answer = post(&delay).send();
        assert_eq!(
            (answer.status, code(&answer, "/error/code").as_str()),
            (400, "invalid_parameter"),
            "{delay}"
        );
    }
    for delay in ["5001", "-1", "0.5", "soon", "+5"] {
        let answer = fax(delay).send();
        assert_eq!((answer.status, code(&answer, "/error").as_str()), (422, "validation_failed"), "{delay}");
    }
    // While the first one waits, its key is in use.
    let waiting = [post(&json!(2000)).open(), fax("2000").open()];
    for again in [&post(&json!(2000)), &fax("0")] {
        eventually("the first one runs", || (again.send().status == 409).then_some(()));
    }
    for waiting in waiting {
        assert_eq!(waiting.answer().status, 201);
    }
}

#[test]
fn what_is_answered_to_a_key_is_kept_by_no_cache_and_taken_for_nothing_else() {
    let server = demo();
    let veriko = demo_key('1');
    for (path, key) in [
        ("/v1/users/me", veriko.as_str()),
        ("/v1/validations", &veriko),
        ("/v1/faxes", MINTFAX),
        ("/identity/verifications", TXCLOUD),
        ("/v1/validations/none", &veriko),
        ("/v1/users/me", "nobody"),
    ] {
        let answer = server.get(path).bearer(key).send();
        assert_eq!(answer.header("cache-control"), Some("no-store"), "{path}");
        assert_eq!(answer.header("x-content-type-options"), Some("nosniff"), "{path}");
        assert_eq!(answer.header("referrer-policy"), Some("no-referrer"), "{path}");
        let policy = answer.header("content-security-policy").expect("a policy");
        assert!(policy.contains("default-src 'none'"), "{path}: {policy}");
    }
    let hook = json!({"url": "http://127.0.0.1:1/hook", "events": ["validation.completed"]});
    let made = server.post("/v1/webhooks").bearer(&veriko).json(&hook).send();
    assert_eq!((made.status, made.header("cache-control")), (201, Some("no-store")), "it holds a secret");
    // What says how it is kept, says it.
    let docs = server.get("/docs").bearer(&veriko).send();
    assert_eq!(docs.header("cache-control"), Some("no-cache"));
    assert!(
        docs.header("content-security-policy").is_some_and(|policy| policy.contains("script-src 'self'"))
    );
    assert_eq!(server.get("/v1/public/banks").send().header("cache-control"), Some("private, max-age=3600"));
}
