//! A log that cannot be written, and a log that nobody reads.

use std::fs::OpenOptions;
use std::io::{PipeReader, Read, pipe};
use std::net::TcpListener;
use std::process::Stdio;

use support::{Server, eventually, launch, launch_with_file_limit};

use crate::{database_in, pay};

/// The size of a pipe on Linux. The log below exceeds it.
const PIPE_BYTES: usize = 64 * 1024;

#[test]
fn a_log_on_a_full_disk_does_not_end_the_server() {
    let full = OpenOptions::new().write(true).open("/dev/full").expect("Linux has it");
    let server = launch().demo().stderr(full).start();
    ask(&server, 3);
    eventually("lines were counted", || (server.counted("log_lines_dropped_total", &[]) >= 3).then_some(()));
    assert!(server.stop().status.success());
}

#[test]
fn a_log_whose_reader_has_gone_does_not_end_the_server() {
    let (reader, writer) = pipe().expect("there are pipes");
    let server = launch().demo().stderr(writer).start();
    drop(reader);
    ask(&server, 3);
    eventually("lines were counted", || (server.counted("log_lines_dropped_total", &[]) >= 3).then_some(()));
    assert!(server.stop().status.success());
}

#[test]
fn a_log_that_is_not_read_delays_neither_requests_nor_the_shutdown() {
    let (_reader, writer) = pipe().expect("there are pipes");
    let server = launch().demo().stderr(writer).start();
    ask(&server, PIPE_BYTES / 100);
    assert!(server.stop().status.success());
}

#[test]
fn a_log_that_is_read_again_says_how_many_lines_are_missing() {
    let (reader, writer) = pipe().expect("there are pipes");
    let server = launch().demo().arg("--log").arg("json").env("RUST_LOG", "trace").stderr(writer).start();
    eventually("the queue is full as well", || {
        ask(&server, 100);
        (server.counted("log_lines_dropped_total", &[]) > 0).then_some(())
    });
    let lines = read_on(reader, "log lines were dropped");
    for line in lines.lines() {
        assert!(line.starts_with('{') && line.ends_with('}'), "half a line: {line}");
    }
    let notice = lines.lines().last().expect("that is where it stopped");
    let missing = serde_json::from_str::<serde_json::Value>(notice).expect("a line is JSON");
    assert!(missing["fields"]["lines"].as_u64() > Some(0), "{notice}");
}

#[test]
fn a_server_whose_standard_output_fails_still_serves() {
    let full = OpenOptions::new().write(true).open("/dev/full").expect("Linux has it");
    let (reader, gone) = pipe().expect("there are pipes");
    drop(reader);
    for stdout in [Stdio::from(full), Stdio::from(gone)] {
        let server = launch().demo().stdout(stdout).start_at(free_address());
        eventually("it serves", || server.get("/healthz").try_send().filter(|answer| answer.status == 200));
        let stopped = server.stop();
        assert!(stopped.status.success() && stopped.stderr.contains("standard output"), "{stopped:?}");
    }
}

#[test]
fn a_failed_start_ends_even_if_standard_error_is_blocked() {
    let (_reader, mut writer) = pipe().expect("there are pipes");
    std::io::Write::write_all(&mut writer, &vec![b'.'; PIPE_BYTES]).expect("as much as it holds");
    let output = launch().demo().database("nothing:").stderr(writer).output();
    assert!(!output.status.success());
}

#[test]
fn a_limit_on_the_size_of_files_fails_requests_and_not_the_server() {
    let folder = tempfile::tempdir().expect("a folder for temporary files");
    let url = database_in(folder.path());
    let server = launch_with_file_limit(1024).demo().database(&url).start();
    let mut number = 0;
    let refused = eventually("the limit is reached", || {
        number += 1;
        let answer = pay(&server, &format!("key-{number}"));
        (answer.status != 200).then_some(answer)
    });
    assert_eq!(refused.status, 503, "{refused:?}");
    assert_eq!(server.get("/healthz").send().status, 200);
    assert!(server.stop().status.success());
}

fn ask(server: &Server, times: usize) {
    for _ in 0..times {
        assert_eq!(server.get("/healthz").send().status, 200);
        assert_eq!(server.get("/v1/users/me").send().status, 401);
    }
}

/// Returns an address that was free a moment ago, for a server that cannot print its own.
fn free_address() -> std::net::SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr());
    listener.expect("there is a free port")
}

/// Reads until a line contains `end`.
fn read_on(mut reader: PipeReader, end: &str) -> String {
    let (mut bytes, mut text, mut buffer) = (Vec::new(), String::new(), [0; 16 * 1024]);
    while !text.lines().any(|line| line.contains(end) && text.ends_with('\n')) {
        let length = reader.read(&mut buffer).expect("a pipe can be read");
        assert_ne!(length, 0, "the log ended: {text}");
        bytes.extend_from_slice(&buffer[..length]);
        // A read may end within a character.
        let whole = bytes.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
        text.push_str(std::str::from_utf8(&bytes[..whole]).expect("the log is UTF-8"));
        bytes.drain(..whole);
    }
    let after = text.find(end).and_then(|at| text[at..].find('\n').map(|length| at + length + 1));
    text.truncate(after.expect("it is there"));
    text
}
