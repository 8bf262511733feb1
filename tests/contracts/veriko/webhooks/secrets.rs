//! Secrets are kept sealed, and shown to nobody.

use std::fs;
use std::path::Path;

use super::*;

/// Every file of a folder, as one.
fn bytes(folder: &Path) -> Vec<u8> {
    let files = fs::read_dir(folder).expect("it can be read").map(|file| file.expect("a file").path());
    files.filter(|path| path.is_file()).flat_map(|path| fs::read(path).expect("it can be read")).collect()
}

fn contains(bytes: &[u8], text: &str) -> bool {
    bytes.windows(text.len()).any(|window| window == text.as_bytes())
}

#[test]
fn a_secret_is_neither_in_the_database_nor_in_the_log() {
    let folder = tempfile::tempdir().expect("a folder");
    let server = launch().demo().database_of_its_own(folder.path()).env("RUST_LOG", "trace").start();
    let receiver = Receiver::start();
    let endpoint = register(&server, &receiver, &["validation.completed"]);
    data(&validate(&server, payment("MX1")).send());
    signed(&receiver.wait_for(1)[0], &endpoint.secret);
    settled(&server);
    let stopped = server.stop();
    assert!(stopped.stderr.len() > 100, "it has a log");
    let kept = bytes(folder.path());
    assert!(contains(&kept, &endpoint.id), "it has a database");
    for text in [endpoint.secret.as_str(), &endpoint.secret[..16]] {
        assert!(!contains(&kept, text), "in a file");
        assert!(!stopped.stderr.contains(text), "in the log");
    }
    let key = fs::read_to_string(folder.path().join("example-server.db.key")).expect("a key file");
    assert!(!stopped.stderr.contains(key.trim()), "the key is in the log");
}

#[test]
fn a_secret_outlives_its_server_and_a_lost_key_is_said_to_be_lost() {
    let folder = tempfile::tempdir().expect("a folder");
    let start = || launch().demo().database_of_its_own(folder.path());
    let receiver = Receiver::start();
    let server = start().start();
    assert!(!folder.path().join("example-server.db.key").exists(), "nobody needed one yet");
    let endpoint = register(&server, &receiver, &["validation.completed"]);
    server.stop();

    let server = start().start();
    data(&validate(&server, payment("MX1")).send());
    signed(&receiver.wait_for(1)[0], &endpoint.secret);
    server.stop();

    let key = folder.path().join("example-server.db.key");
    let digits = fs::read_to_string(&key).expect("a key file");
    fs::remove_file(&key).expect("it was there");
    for launch in [start(), start().env("SEALING_KEY", &"5".repeat(64))] {
        let said = launch.fail();
        assert!(said.contains("SEALING_KEY") && !said.contains("panicked"), "{said}");
    }
    let said = start().env("SEALING_KEY", "hunter2").fail();
    assert!(said.contains("SEALING_KEY") && !said.contains("hunter2"), "{said}");

    let both = format!("{},{}", "5".repeat(64), digits.trim());
    let server = start().env("SEALING_KEY", &both).start();
    data(&validate(&server, payment("MX2")).send());
    signed(&receiver.wait_for(2)[1], &endpoint.secret);
    let rotated = data(&about(&server, "POST", &endpoint.id, "/regenerate-secret", None));
    server.stop();
    let server = start().env("SEALING_KEY", &"5".repeat(64)).start();
    data(&validate(&server, payment("MX3")).send());
    let secret = rotated["attributes"]["secret"].as_str().expect("a secret");
    signed(&receiver.wait_for(3)[2], secret);
}
