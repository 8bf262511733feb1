//! What the README says of the vendor's client, as it is written there.

use std::process::Command;
use std::{env, iter};

use support::{demo_key, launch, prepared};

const README: &str = include_str!("../../README.md");

#[test]
fn the_lines_of_the_readme_validate_a_payment() {
    let server = launch().demo().start();
    let block =
        README.split("```").find(|block| block.contains("pip install veriko")).expect("they are there");
    let lines = block.strip_prefix("bash\n").expect("they are for a shell");
    assert!(lines.contains("http://127.0.0.1:8080/v1"), "{lines}");
    // A test has no port of its own, and everything else is as it is written.
    let lines = lines.replace("127.0.0.1:8080", &server.address.to_string());

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
