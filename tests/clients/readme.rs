//! What the README says can be done with the server, as it is written there.

use std::path::Path;
use std::process::Command;
use std::{env, iter};

use support::{Server, demo_key, launch, prepared};

const README: &str = include_str!("../../README.md");

#[test]
fn the_lines_of_the_readme_validate_a_payment() {
    let server = launch().demo().start();
    let lines = lines(&server, "pip install veriko");
    let python = prepared("TEST_PYTHON");
    let folder = python.parent().expect("a program is in a folder").to_owned();
    let path = env::var_os("PATH").unwrap_or_default();
    let path = env::join_paths(iter::once(folder).chain(env::split_paths(&path))).expect("it was one before");
    for _ in 0..2 {
        let mut shell = Command::new("bash");
        let output = shell.args(["-ec", &lines]).env("PATH", &path).env("no_proxy", "*").output();
        let output = output.expect("a shell starts");
        let said = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success() && said.lines().last() == Some("valid"), "{output:?}");
    }
    let used = server.get("/v1/usage/summary").bearer(&demo_key('1')).send().json();
    assert_eq!(used["data"]["attributes"]["used"], 1, "{used}");
}

#[test]
fn the_lines_of_the_readme_send_a_fax_and_score_a_transfer() {
    let server = launch().demo().start();
    let lines = lines(&server, "invoice-17");
    let folder = tempfile::tempdir().expect("a folder");
    let [first, again] = [(); 2].map(|()| in_a_shell(&lines, folder.path()));
    for said in [&first, &again] {
        assert!(said.contains("HTTP/1.1 201 Created") && said.contains("HTTP/1.1 200 OK"), "{said}");
        assert!(said.contains(r#""total":1"#), "one fax: {said}");
    }
    assert_eq!([&first, &again].map(|said| said.matches("replayed: true").count()), [0, 2], "{again}");
}

/// The block that says this, for a server on another port; everything else is as it is written.
fn lines(server: &Server, of: &str) -> String {
    let block = README.split("```").find(|block| block.contains(of)).expect("they are there");
    let lines = block.strip_prefix("bash\n").expect("they are for a shell");
    assert!(lines.contains("http://127.0.0.1:8080"), "{lines}");
    lines.replace("127.0.0.1:8080", &server.address.to_string())
}

fn in_a_shell(lines: &str, folder: &Path) -> String {
    let mut shell = Command::new("bash");
    let output = shell.args(["-ec", lines]).current_dir(folder).env("no_proxy", "*").output();
    let output = output.expect("a shell starts");
    assert!(output.status.success(), "{output:?}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}
