//! The vendor's own script for clients that try again, as it is printed but for the host.

use std::env;
use std::fs;
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::process::Command;
use std::thread;

use serde_json::json;
use support::prepared;

use super::{demo, ended, get};

const SCRIPT: &str = include_str!("../../mintfax/retry.sh");
const HOST: &str = "https://api.mintfax.com";
const TO: &str = "+12015550100";

/// What the script says of a server at this address, when it sends a fax to this number.
fn run(address: SocketAddr, to: &str) -> String {
    assert_eq!((SCRIPT.matches(HOST).count(), SCRIPT.matches(TO).count()), (1, 1));
    let folder = tempfile::tempdir().expect("the directory for temporary files takes one");
    let script = SCRIPT.replace(HOST, &format!("http://{address}")).replace(TO, to);
    fs::write(folder.path().join("retry.sh"), script).expect("it can be written");
    fs::write(folder.path().join("document.pdf"), "%PDF-1.7 a letter").expect("it can be written");
    let programs = ["TEST_CURL", "TEST_BC"]
        .map(|program| prepared(program).parent().expect("a program lies in a folder").to_owned());
    let path = env::var_os("PATH").unwrap_or_default();
    let path = env::join_paths(programs.into_iter().chain(env::split_paths(&path))).expect("folders");
    let script = Command::new("bash").arg("retry.sh").current_dir(folder.path()).env("PATH", path).output();
    let output = script.expect("bash is there");
    assert!(output.status.success() && output.stderr.is_empty(), "{output:?}");
    String::from_utf8(output.stdout).expect("it prints text")
}

#[test]
fn the_script_sends_one_fax_however_often_it_runs() {
    let server = demo();
    for _ in 0..3 {
        assert_eq!(run(server.address, TO), "Success\n");
    }
    let list = get(&server, "/v1/faxes");
    assert_eq!((&list["meta"]["total"], &list["data"][0]["to"]), (&json!(1), &json!(TO)));
}

/// What fails after the fax was accepted is none of the script's business.
#[test]
fn the_script_sends_a_fax_that_fails_at_first() {
    let server = demo();
    assert_eq!(run(server.address, "+15005550004"), "Success\n");
    let id = get(&server, "/v1/faxes")["data"][0]["id"].as_str().expect("an id").to_owned();
    let fax = ended(&server, &id);
    assert_eq!((&fax["status"], &fax["retries_remaining"]), (&json!("delivered"), &json!(2)), "{fax}");
}

#[test]
fn the_script_tries_again_until_the_server_is_there() {
    let server = demo();
    let said = run(unavailable_at_first(server.address, 2), TO);
    let lines: Vec<_> = said.lines().collect();
    assert!(lines.len() == 3 && lines[0].starts_with("Attempt 1 failed (503). Retrying in 1"), "{said}");
    assert!(lines[1].starts_with("Attempt 2 failed (503)") && lines[2] == "Success", "{said}");
    assert_eq!(get(&server, "/v1/faxes")["meta"]["total"], 1);
}

#[test]
fn the_script_does_not_try_again_what_is_refused() {
    let server = demo();
    for (to, status) in [("+15005550006", 402), ("+15005550099", 422)] {
        assert_eq!(run(server.address, to), format!("Non-retryable error: {status}\n"));
    }
}

/// Stands before a server, and answers so many connections with 503 before it lets any through.
fn unavailable_at_first(server: SocketAddr, times: usize) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = listener.local_addr().expect("it is bound");
    thread::spawn(move || {
        for (number, client) in listener.incoming().flatten().enumerate() {
            if number < times {
                refuse(client);
            } else {
                let server = TcpStream::connect(server).expect("the server accepts");
                pass(&client, &server);
                pass(&server, &client);
            }
        }
    });
    address
}

fn refuse(mut client: TcpStream) {
    let mut request = vec![0; 64 * 1024];
    let _ = client.read(&mut request);
    let _ = client.write_all(b"HTTP/1.1 503 Unavailable\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
    // To the end, so that no reset gets there before the answer.
    let _ = client.shutdown(Shutdown::Write);
    let _ = client.read_to_end(&mut Vec::new());
}

fn pass(from: &TcpStream, to: &TcpStream) {
    let (mut from, mut to) =
        (from.try_clone().expect("a socket can be shared"), to.try_clone().expect("a socket can be shared"));
    thread::spawn(move || {
        let _ = std::io::copy(&mut from, &mut to);
        let _ = to.shutdown(Shutdown::Write);
    });
}
