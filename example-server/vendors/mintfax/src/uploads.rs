//! Storage of documents, from their upload until their fax has ended. Each document is one file.
//!
//! While a document is being uploaded, its file has a temporary name. Once complete, it is renamed
//! to the fax's id, before the fax is committed, so that no fax is without its document. A file
//! without a fax, because the request failed or the process died, is [swept](Uploads::sweep).

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use sha2::{Digest, Sha256};
use tokio::fs::File;
use tokio::io::{AsyncWriteExt, BufWriter};

use super::config::Config;
use super::document::{MediaType, Sniffer};
use super::fax::{Document, FaxId};
use super::store::faxes;
use platform::clock;
use platform::db::{Database, Storage};

/// The maximum size of a document, in bytes.
pub(super) const MAX_BYTES: u64 = 10 * 1024 * 1024;

/// The folder of uploaded documents.
#[derive(Debug)]
pub(crate) struct Uploads {
    folder: PathBuf,
    /// Whether the folder is deleted with this value.
    temporary: bool,
}

/// A document that is being uploaded. It is deleted unless it is [kept](Arrived::keep).
#[derive(Debug)]
pub(super) struct Upload {
    file: BufWriter<File>,
    name: DeleteOnDrop,
    bytes: u64,
    sha256: Sha256,
    sniffer: Sniffer,
}

/// A complete document that belongs to no fax yet.
#[derive(Debug)]
pub(super) struct Arrived {
    name: DeleteOnDrop,
    pub(super) document: Document,
}

/// A document that was renamed to its fax's id. It is deleted unless [`Kept::leave`] is called.
#[derive(Debug)]
pub(super) struct Kept(DeleteOnDrop);

/// Why a document is refused.
#[derive(Debug, thiserror::Error)]
pub(super) enum DocumentError {
    #[error("the document is larger than {MAX_BYTES} bytes")]
    TooLarge,
    #[error("the document is empty")]
    Empty,
    #[error("the document has an unsupported type")]
    Unknown,
    #[error("the document names a character set that is none")]
    Charset,
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// The suffix of a file that is being uploaded.
const INCOMING: &str = ".incoming";
/// The age at which a file counts as an orphan if no fax needs it: longer than any request takes
/// from its last byte to its commit.
const ORPHAN_AGE: Duration = Duration::from_mins(5);
const SWEEP_EVERY: Duration = Duration::from_mins(5);
const BUFFER: usize = 64 * 1024;

impl Uploads {
    /// Uses the configured folder, or else one beside the database. The folder is created when it
    /// is first needed.
    pub(crate) fn configured(config: &Config, storage: &Storage) -> Self {
        let folder = config.uploads_folder.clone().or_else(|| storage.beside("uploads"));
        folder.map_or_else(Self::temporary, Self::new)
    }

    fn new(folder: PathBuf) -> Self {
        Self { folder, temporary: false }
    }

    /// Uses a temporary folder, which is deleted with the returned value.
    pub(super) fn temporary() -> Self {
        let folder = std::env::temp_dir().join(format!("example-server-{}", uuid::Uuid::new_v4()));
        Self { folder, temporary: true }
    }

    /// Returns the path of a fax's document.
    pub(super) fn path(&self, fax: &FaxId) -> PathBuf {
        self.folder.join(fax.as_str())
    }

    /// Starts an upload.
    pub(super) async fn begin(&self) -> io::Result<Upload> {
        // Other users of this machine must not read the documents.
        tokio::fs::DirBuilder::new().recursive(true).mode(0o700).create(&self.folder).await?;
        let name = DeleteOnDrop::new(self.folder.join(format!("{}{INCOMING}", uuid::Uuid::new_v4())));
        let file = File::options().write(true).create_new(true).mode(0o600).open(name.path()).await?;
        let file = BufWriter::with_capacity(BUFFER, file);
        Ok(Upload { file, name, bytes: 0, sha256: Sha256::new(), sniffer: Sniffer::default() })
    }

    /// Deletes the document of a fax that has ended.
    pub(super) async fn delete(&self, fax: &FaxId) {
        // The sweep deletes a file that remains.
        let _ = tokio::fs::remove_file(self.path(fax)).await;
    }

    /// Sweeps periodically, forever.
    pub(super) async fn run_sweep(&self, database: &Database) {
        loop {
            if let Err(error) = self.sweep(database).await {
                tracing::warn!(%error, "could not sweep the uploads");
            }
            tokio::time::sleep(SWEEP_EVERY).await;
        }
    }

    /// Deletes the files that no fax needs.
    pub(super) async fn sweep(&self, database: &Database) -> io::Result<()> {
        let mut files = match tokio::fs::read_dir(&self.folder).await {
            Ok(files) => files,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(error),
        };
        while let Some(file) = files.next_entry().await? {
            let Ok(metadata) = file.metadata().await else { continue };
            let age = metadata.modified().ok().and_then(clock::since);
            if age.is_none_or(|age| age < ORPHAN_AGE) || !metadata.is_file() {
                continue;
            }
            let name = file.file_name();
            let Some(name) = name.to_str() else { continue };
            let orphan = match FaxId::parse(name) {
                Some(fax) => !is_pending(database, &fax).await?,
                // Any other file is not ours.
                None => name.ends_with(INCOMING),
            };
            if orphan {
                tracing::info!(name, "deleting an upload without a fax");
                tokio::fs::remove_file(file.path()).await?;
            }
        }
        Ok(())
    }
}

impl Drop for Uploads {
    fn drop(&mut self) {
        if self.temporary {
            let _ = std::fs::remove_dir_all(&self.folder);
        }
    }
}

impl Upload {
    /// Appends a chunk.
    pub(super) async fn write(&mut self, chunk: &[u8]) -> Result<(), DocumentError> {
        self.bytes += chunk.len() as u64;
        if self.bytes > MAX_BYTES {
            return Err(DocumentError::TooLarge);
        }
        self.sha256.update(chunk);
        self.sniffer.look_at(chunk);
        Ok(self.file.write_all(chunk).await?)
    }

    /// Completes the upload. The document is synced to the disk when this returns. `charset` is the
    /// character set that the sender named, which is kept for text only.
    pub(super) async fn finish(mut self, charset: Option<String>) -> Result<Arrived, DocumentError> {
        if self.bytes == 0 {
            return Err(DocumentError::Empty);
        }
        self.file.flush().await?;
        self.file.get_ref().sync_all().await?;
        let media_type = self.media_type().await?.ok_or(DocumentError::Unknown)?;
        let charset = charset.filter(|_| media_type.is_text());
        if charset.as_deref().is_some_and(|charset| !is_charset(charset)) {
            return Err(DocumentError::Charset);
        }
        let sha256 = hex::encode(self.sha256.finalize());
        let document = Document { media_type, bytes: self.bytes, sha256, charset };
        Ok(Arrived { name: self.name, document })
    }

    async fn media_type(&self) -> io::Result<Option<MediaType>> {
        let (sniffed, path) = (self.sniffer.sniffed(), self.name.path().to_owned());
        tokio::task::spawn_blocking(move || sniffed.media_type(&mut std::fs::File::open(path)?))
            .await
            .map_err(io::Error::other)?
    }
}

impl Arrived {
    /// Assigns the document to this fax.
    pub(super) async fn keep(self, uploads: &Uploads, fax: &FaxId) -> io::Result<(Kept, Document)> {
        // The sweep goes by age, and the rest of the form may have taken long, so the age is reset.
        let file = File::options().write(true).open(self.name.path()).await?.into_std().await;
        file.set_modified(clock::timestamp().into())?;
        let kept = DeleteOnDrop::new(uploads.path(fax));
        tokio::fs::rename(self.name.path(), kept.path()).await?;
        // Sync the folder, so that the new name survives a power failure.
        File::open(&uploads.folder).await?.sync_all().await?;
        Ok((Kept(kept), self.document))
    }
}

impl Kept {
    /// Keeps the file, because the fax is about to be committed. If the commit fails, the file is
    /// swept.
    pub(super) fn leave(mut self) {
        self.0.0 = None;
    }
}

/// Whether this can be the name of a character set (RFC 2978, section 2.3). It need not be known
/// here, because the carrier reads the text.
fn is_charset(name: &str) -> bool {
    let is_allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'+-^_`{}~".contains(&byte);
    (1..=40).contains(&name.len()) && name.bytes().all(is_allowed)
}

/// A file that is deleted when this value is dropped.
#[derive(Debug)]
struct DeleteOnDrop(Option<PathBuf>);

impl DeleteOnDrop {
    fn new(path: PathBuf) -> Self {
        Self(Some(path))
    }

    fn path(&self) -> &Path {
        self.0.as_deref().unwrap_or(Path::new(""))
    }
}

impl Drop for DeleteOnDrop {
    fn drop(&mut self) {
        if let Some(path) = &self.0 {
            let _ = std::fs::remove_file(path);
        }
    }
}

async fn is_pending(database: &Database, fax: &FaxId) -> io::Result<bool> {
    let mut reader = database.read().await.map_err(io::Error::other)?;
    faxes::is_pending(reader.connection(), fax).await.map_err(io::Error::other)
}

#[cfg(test)]
mod tests;
