use std::time::SystemTime;

use super::*;
use crate::fax::tests::fax;
use crate::fax::{Fax, Status};

async fn arrive(uploads: &Uploads, chunks: &[&[u8]]) -> Result<Arrived, DocumentError> {
    let mut upload = uploads.begin().await.unwrap();
    for chunk in chunks {
        upload.write(chunk).await?;
    }
    upload.finish(None).await
}

fn files(uploads: &Uploads) -> Vec<String> {
    let mut names: Vec<_> = std::fs::read_dir(&uploads.folder)
        .unwrap()
        .map(|file| file.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

#[tokio::test]
async fn a_document_is_one_file_from_its_first_byte_on() {
    let uploads = Uploads::temporary();
    let arrived = arrive(&uploads, &[b"%PDF", b"-1.7"]).await.unwrap();
    assert_eq!(files(&uploads).len(), 1);
    let id = FaxId::random();
    let (kept, document) = arrived.keep(&uploads, &id).await.unwrap();
    assert_eq!(files(&uploads), [id.as_str()]);
    assert_eq!((document.bytes, document.media_type), (8, MediaType::Pdf));
    assert_eq!(document.sha256, hex::encode(Sha256::digest(b"%PDF-1.7")));
    assert_eq!(std::fs::read(uploads.path(&id)).unwrap(), b"%PDF-1.7");
    kept.leave();
    assert_eq!(files(&uploads).len(), 1);
    uploads.delete(&id).await;
    assert!(files(&uploads).is_empty());
}

#[tokio::test]
async fn a_refused_or_abandoned_upload_leaves_no_file() {
    let uploads = Uploads::temporary();
    assert!(matches!(arrive(&uploads, &[]).await, Err(DocumentError::Empty)));
    assert!(matches!(arrive(&uploads, &[b"\x7fELF\x00"]).await, Err(DocumentError::Unknown)));
    let half = vec![b'x'; 6 * 1024 * 1024];
    assert!(matches!(arrive(&uploads, &[&half, &half]).await, Err(DocumentError::TooLarge)));
    drop(arrive(&uploads, &[b"whole"]).await.unwrap());
    drop(uploads.begin().await.unwrap());
    let arrived = arrive(&uploads, &[b"whole"]).await.unwrap();
    drop(arrived.keep(&uploads, &FaxId::random()).await.unwrap());
    assert_eq!(files(&uploads), <[&str; 0]>::default());
}

async fn insert(database: &Database, fax: &Fax) {
    let mut transaction = database.begin().await.unwrap();
    faxes::insert(transaction.connection(), fax).await.unwrap();
    faxes::update(transaction.connection(), fax).await.unwrap();
    transaction.commit().await.unwrap();
}

#[tokio::test]
async fn old_files_without_a_waiting_fax_are_swept() {
    let database = Database::open("sqlite::memory:").await.unwrap();
    let uploads = Uploads::temporary();
    assert!(uploads.sweep(&database).await.is_ok(), "before there is a folder");
    let (waiting, mut ended) = (fax(3), fax(3));
    ended.status = Status::Failed;
    insert(&database, &waiting).await;
    insert(&database, &ended).await;
    let unknown = FaxId::random();
    std::fs::create_dir_all(&uploads.folder).unwrap();
    let incoming = format!("x{INCOMING}");
    let all = [waiting.id.as_str(), ended.id.as_str(), unknown.as_str(), &incoming, "unrelated file"];
    for name in all {
        std::fs::write(uploads.folder.join(name), "x").unwrap();
    }
    uploads.sweep(&database).await.unwrap();
    assert_eq!(files(&uploads).len(), all.len(), "none of them is old");
    for name in all {
        let file = std::fs::File::options().write(true).open(uploads.folder.join(name)).unwrap();
        file.set_modified(SystemTime::UNIX_EPOCH).unwrap();
    }
    uploads.sweep(&database).await.unwrap();
    let mut left = [waiting.id.as_str(), "unrelated file"];
    left.sort_unstable();
    assert_eq!(files(&uploads), left);
}

#[tokio::test]
async fn a_document_whose_form_took_long_is_not_swept_before_its_fax_is_committed() {
    let database = Database::open("sqlite::memory:").await.unwrap();
    let uploads = Uploads::temporary();
    let arrived = arrive(&uploads, &[b"whole"]).await.unwrap();
    let file = std::fs::File::options().write(true).open(arrived.name.path()).unwrap();
    file.set_modified(SystemTime::UNIX_EPOCH).unwrap();
    let id = FaxId::random();
    let (_kept, _) = arrived.keep(&uploads, &id).await.unwrap();
    uploads.sweep(&database).await.unwrap();
    assert_eq!(files(&uploads), [id.as_str()]);
}

#[test]
fn uploads_are_stored_beside_the_database_or_in_the_configured_folder() {
    let mut config = crate::config::tests::config();
    let folder = |config: &Config, url| Uploads::configured(config, &Storage::of(url)).folder.clone();
    assert_eq!(folder(&config, "sqlite://a/b.db"), Path::new("a/b.db.uploads"));
    assert_eq!(folder(&config, "sqlite:///a/b.db?mode=rwc"), Path::new("/a/b.db.uploads"));
    assert_eq!(folder(&config, "postgres://host/db"), Path::new("example-server.uploads"));
    assert!(Uploads::configured(&config, &Storage::Memory).temporary);
    config.uploads_folder = Some("/there".into());
    assert_eq!(folder(&config, "sqlite::memory:"), Path::new("/there"));
}
