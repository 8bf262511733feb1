//! Only the server's user can read its data.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use serde_json::json;
use support::{Form, demo_key, eventually, launch};

use crate::{database_in, pay};

#[test]
fn only_the_servers_user_can_read_what_it_creates() {
    let folder = tempfile::tempdir().expect("a folder for temporary files");
    let url = database_in(folder.path());
    let server = launch().demo().database(&url).start();
    assert_eq!(pay(&server, "the-payment").status, 200);
    let hook = json!({"url": "http://127.0.0.1:9/", "events": ["validation.completed"]});
    let made = server.post("/v1/webhooks").bearer(&demo_key('1')).key("the-webhook").json(hook).send();
    assert_eq!(made.status, 201, "{made:?}");
    // An unfinished upload keeps its document in the folder meanwhile.
    let mut upload = server.connect();
    let head = "POST /v1/faxes HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer mfx_test_abc123def456\r\n\
                Content-Type: multipart/form-data; boundary=a-boundary\r\nContent-Length: 1000000\r\n\r\n";
    upload.write(head.as_bytes());
    upload.write(&Form::to("+15005550001").begun());
    let uploads = folder.path().join("test.db.uploads");
    eventually("the document comes in", || fs::read_dir(&uploads).ok()?.next()?.ok());
    let backup = folder.path().join("backup.db");
    let output = launch().database(&url).arg("backup").arg(&backup.display().to_string()).output();
    assert!(output.status.success(), "{output:?}");

    let files = files_in(folder.path());
    for name in
        ["test.db", "test.db-wal", "test.db-shm", "test.db.key", "test.db.uploads", "backup.db", ".incoming"]
    {
        assert!(files.iter().any(|(file, _)| file.ends_with(name)), "{name} is not in {files:?}");
    }
    for (file, mode) in files {
        let is_folder = Path::new(&file).is_dir();
        assert_eq!(mode, if is_folder { 0o700 } else { 0o600 }, "{file}");
    }
    drop(upload);
}

/// Lists everything below this folder, with its permissions.
fn files_in(folder: &Path) -> Vec<(String, u32)> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).expect("it is a folder") {
        let entry = entry.expect("it can be read");
        let metadata = entry.metadata().expect("it is there");
        files.push((entry.path().display().to_string(), metadata.permissions().mode() & 0o777));
        if metadata.is_dir() {
            files.extend(files_in(&entry.path()));
        }
    }
    files
}
