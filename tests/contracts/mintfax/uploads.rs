//! Documents on their way in.

use std::fs;
use std::time::Duration;

use support::{Connection, Server, eventually};

use super::{DELIVERED, Demo, Form, TEST, accepted, code, demo, get};

const MB: usize = 1024 * 1024;

/// A request of which this many bytes of the document are sent.
fn half_sent(server: &Server, key: &str, bytes: usize) -> Connection {
    let form = Form::to(DELIVERED);
    let whole = form.whole().len() + 8 * MB;
    let mut connection = Form::head(server, TEST).key(key).header("Content-Length", whole.to_string()).open();
    connection.write(&start());
    connection.write(&vec![b'x'; bytes]);
    connection
}

/// The form up to the document.
fn start() -> Vec<u8> {
    Form::default().field("to", DELIVERED).file(b"").begun()
}

/// How much has arrived.
fn on_disk(server: &Demo) -> u64 {
    let sizes = server
        .uploads()
        .read_dir()
        .into_iter()
        .flatten()
        .map(|file| file.and_then(|file| file.metadata()).map_or(0, |metadata| metadata.len()));
    sizes.sum()
}

/// It would not if anybody waited for the rest of the body.
#[test]
fn a_document_goes_to_the_disk_while_it_comes_in() {
    let server = demo();
    let connection = half_sent(&server, "half", 4 * MB);
    eventually("most of it is there", || (on_disk(&server) > 3 * MB as u64).then_some(()));
    assert_eq!(get(&server, "/v1/faxes")["meta"]["total"], 0);
    let meanwhile = Form::to(DELIVERED).post(&server, TEST).key("half").send();
    assert_eq!((meanwhile.status, code(&meanwhile).as_str()), (409, "idempotency_key_in_progress"));
    drop(connection);
    eventually("what was given up is gone", || server.files().is_empty().then_some(()));
    assert_eq!(get(&server, "/v1/faxes")["meta"]["total"], 0);
    let after = eventually("the key is free again", || {
        let answer = Form::to(DELIVERED).post(&server, TEST).key("half").send();
        (answer.status != 409).then_some(answer)
    });
    accepted(&after);
}

/// What this process has in memory, in bytes.
#[cfg(target_os = "linux")]
fn memory(server: &Server) -> u64 {
    let status = fs::read_to_string(format!("/proc/{}/status", server.id())).expect("it runs");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("it has memory");
    line.trim().trim_end_matches(" kB").trim().parse::<u64>().expect("a number") * 1024
}

#[cfg(target_os = "linux")]
#[test]
fn documents_that_come_in_are_not_in_memory() {
    const UPLOADS: usize = 16;
    let server = demo();
    accepted(&Form::to(DELIVERED).post(&server, TEST).send());
    let before = memory(&server);
    let connections: Vec<_> =
        (0..UPLOADS).map(|number| half_sent(&server, &format!("k{number}"), 6 * MB)).collect();
    support::eventually_within(Duration::from_mins(1), "most of it is there", || {
        (on_disk(&server) > (UPLOADS * 5 * MB) as u64).then_some(())
    });
    let taken = memory(&server).saturating_sub(before);
    assert!(taken < (UPLOADS * 2 * MB) as u64, "{taken} bytes for {UPLOADS} documents");
    drop(connections);
}

#[test]
fn a_document_of_more_than_ten_megabytes_is_refused() {
    let server = demo();
    for bytes in [10 * MB, 10 * MB + 1, 11 * MB] {
        let form = Form::default().field("to", DELIVERED).file(&vec![b'x'; bytes]);
        let answer = form.post(&server, TEST).key(&bytes.to_string()).send();
        if bytes == 10 * MB {
            accepted(&answer);
        } else {
            assert_eq!((answer.status, code(&answer).as_str()), (413, "file_too_large"), "{bytes}");
        }
    }
    eventually("nothing is left behind", || server.files().is_empty().then_some(()));
}

/// Of a body that does not say how long it is, no more is read than it takes to know.
#[test]
fn of_a_document_that_is_too_large_the_rest_is_not_read() {
    let server = demo();
    let mut connection = Form::head(&server, TEST).header("Transfer-Encoding", "chunked").open();
    let mut chunk = |bytes: &[u8]| {
        connection.write(format!("{:x}\r\n", bytes.len()).as_bytes());
        connection.write(bytes);
        connection.write(b"\r\n");
    };
    chunk(&start());
    for _ in 0..11 {
        chunk(&vec![b'x'; MB]);
    }
    // It has not come to its end.
    let answer = connection.answer();
    assert_eq!((answer.status, code(&answer).as_str()), (413, "file_too_large"));
}

#[test]
fn a_form_without_an_end_is_a_bad_request() {
    let server = demo();
    let body = [&start()[..], b"and then nothing"].concat();
    let answer = Form::head(&server, TEST).body(body).send();
    assert_eq!((answer.status, code(&answer).as_str()), (400, "bad_request"));
    assert!(server.files().is_empty());
}
