//! A single client or account cannot use up what others need.

use std::io::{Read, Write};
use std::net::TcpStream;

use serde_json::json;
use support::{Reaction, Receiver, Server, demo_key, launch};

use crate::database_in;

fn start() -> (tempfile::TempDir, Server) {
    let folder = tempfile::tempdir().expect("a folder for temporary files");
    let server = launch().demo().database(&database_in(folder.path())).start();
    (folder, server)
}

#[test]
fn an_answer_given_before_the_body_was_read_reaches_a_client_that_sends_all_of_it_first() {
    let (_folder, server) = start();
    for _ in 0..5 {
        let mut stream = TcpStream::connect(server.address).expect("it listens");
        let key = demo_key('1');
        let head = format!(
            "POST /v1/validate HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {key}\r\n\
             Content-Type: application/json\r\nContent-Length: 8000000\r\n\r\n"
        );
        stream.write_all(head.as_bytes()).expect("it is sent");
        stream.write_all(&vec![b' '; 8_000_000]).expect("it is taken in");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("the answer is not lost");
        assert!(answer.starts_with("HTTP/1.1 413") && answer.contains("connection: close"), "{answer}");
    }
}

#[test]
fn an_account_that_trickles_large_bodies_leaves_room_for_others() {
    let (_folder, server) = start();
    let key = demo_key('3');
    let trickling: Vec<_> = (0..8)
        .map(|number| {
            let mut stream = TcpStream::connect(server.address).expect("it listens");
            let head = format!(
                "POST /v1/validate-ocr HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {key}\r\n\
                 Idempotency-Key: slow-{number}\r\nContent-Type: application/json\r\nContent-Length: 9000000\r\n\r\n "
            );
            stream.write_all(head.as_bytes()).expect("it is sent");
            stream
        })
        .collect();
    // A request without a place would get 503 after a while.
    for number in 0..4 {
        let request = server.post("/v1/validate-ocr").bearer(&demo_key('1')).key(&format!("other-{number}"));
        assert_eq!(request.json(json!({"image": "AAAA"})).send().status, 422);
    }
    drop(trickling);
}

#[test]
fn slow_endpoints_of_one_account_leave_places_for_deliveries_of_others() {
    let (_folder, server) = start();
    let (slow, fast) = (Receiver::reacting(Reaction::Hang), Receiver::start());
    for (digit, url) in [
        ('2', fast.url()),
        ('1', slow.url()),
        ('1', format!("{}/b", slow.url())),
        ('1', format!("{}/c", slow.url())),
    ] {
        let endpoint = json!({"url": url, "events": ["validation.completed"]});
        let made = server.post("/v1/webhooks").bearer(&demo_key(digit)).json(endpoint).send();
        assert_eq!(made.status, 201, "{}", made.text());
    }
    let pay = |digit| {
        let payment = json!({"fecha": "2025-03-15", "monto": 1500.50, "clave_rastreo": "MXBA2025",
            "cuenta_beneficiaria": "012180004412345678"});
        let paid = server.post("/v1/validate").bearer(&demo_key(digit)).json(payment).send();
        assert_eq!(paid.status, 200, "{}", paid.text());
    };
    (0..10).for_each(|_| pay('1'));
    slow.wait_for(4);
    pay('2');
    fast.wait_for(1);
    assert_eq!(slow.received().len(), 4, "a quarter of 16");
}

#[test]
fn operators_ask_for_metrics_where_the_public_does_not() {
    let folder = tempfile::tempdir().expect("a folder for temporary files");
    let free = std::net::TcpListener::bind("127.0.0.9:0").and_then(|listener| listener.local_addr());
    let admin = free.expect("a free port");
    let server =
        launch().demo().database(&database_in(folder.path())).env("ADMIN_LISTEN", &admin.to_string()).start();
    assert_eq!(server.get("/metrics").send().status, 404);
    assert_eq!(server.get("/healthz").send().status, 200);
    for (path, expected) in
        [("/metrics", "200"), ("/healthz", "200"), ("/readyz", "200"), ("/v1/users/me", "404")]
    {
        let mut stream = TcpStream::connect(admin).expect("it listens");
        let head = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
        stream.write_all(head.as_bytes()).expect("it is sent");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("it is answered");
        assert_eq!(answer.split(' ').nth(1), Some(expected), "{path}: {answer}");
    }
    let stopped = server.stop();
    assert!(stopped.status.success());
}
