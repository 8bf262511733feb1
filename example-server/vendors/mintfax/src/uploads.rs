//! Documents, from their arrival until their fax has ended: each is one file, held nowhere else.
//!
//! A document is written under another name while it comes in, and has its fax's once it is whole. That is done before
//! the row of the fax is committed, so no fax is without its document; what has no fax in the end, because the request
//! failed or the process died, is [swept](Uploads::sweep).

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
use platform::db::{Database, Storage};
use platform::{clock, hex};

/// The largest document.
pub(super) const MAX_BYTES: u64 = 10 * 1024 * 1024;

/// The folder.
#[derive(Debug)]
pub(crate) struct Uploads {
    folder: PathBuf,
    /// Whether it goes with this process.
    temporary: bool,
}

/// A document that comes in. What is not [kept](Upload::keep) is deleted.
#[derive(Debug)]
pub(super) struct Upload {
    file: BufWriter<File>,
    name: Deleted,
    bytes: u64,
    sha256: Sha256,
    sniffer: Sniffer,
}

/// A document that is whole and nobody's yet.
#[derive(Debug)]
pub(super) struct Arrived {
    name: Deleted,
    pub(super) document: Document,
}

/// A document that has its fax's name, and is deleted unless the fax comes to be.
#[derive(Debug)]
pub(super) struct Kept(Deleted);

/// Why a document is not taken.
#[derive(Debug, thiserror::Error)]
pub(super) enum UploadFault {
    #[error("the document is larger than {MAX_BYTES} bytes")]
    TooLarge,
    #[error("the document is empty")]
    Empty,
    #[error("the document is of no known type")]
    Unknown,
    #[error("the document names a character set that is none")]
    Charset,
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// While it comes in.
const INCOMING: &str = ".incoming";
/// How long a file lies untouched before it can be an orphan: longer than any request takes from its last byte to its
/// commit.
const UNTOUCHED: Duration = Duration::from_mins(5);
const SWEEP_EVERY: Duration = Duration::from_mins(5);
const BUFFER: usize = 64 * 1024;

impl Uploads {
    /// Where the configuration says, or else beside the database; the folder is made when it is first needed.
    pub(crate) fn configured(config: &Config, storage: &Storage) -> Self {
        let folder = config.uploads_folder.clone().or_else(|| storage.beside("uploads"));
        folder.map_or_else(Self::temporary, Self::new)
    }

    fn new(folder: PathBuf) -> Self {
        Self { folder, temporary: false }
    }

    /// For as long as this is kept.
    pub(super) fn temporary() -> Self {
        let folder = std::env::temp_dir().join(format!("example-server-{}", uuid::Uuid::new_v4()));
        Self { folder, temporary: true }
    }

    /// Where the document of a fax lies.
    pub(super) fn path(&self, fax: &FaxId) -> PathBuf {
        self.folder.join(fax.as_str())
    }

    /// Begins one.
    pub(super) async fn begin(&self) -> io::Result<Upload> {
        // Documents are for nobody else on this machine.
        tokio::fs::DirBuilder::new().recursive(true).mode(0o700).create(&self.folder).await?;
        let name = Deleted::later(self.folder.join(format!("{}{INCOMING}", uuid::Uuid::new_v4())));
        let file = File::options().write(true).create_new(true).mode(0o600).open(name.path()).await?;
        let file = BufWriter::with_capacity(BUFFER, file);
        Ok(Upload { file, name, bytes: 0, sha256: Sha256::new(), sniffer: Sniffer::default() })
    }

    /// Deletes the document of a fax that has ended.
    pub(super) async fn delete(&self, fax: &FaxId) {
        // What is left behind is swept.
        let _ = tokio::fs::remove_file(self.path(fax)).await;
    }

    /// Sweeps again and again, for ever.
    pub(super) async fn keep_swept(&self, database: &Database) {
        loop {
            if let Err(error) = self.sweep(database).await {
                tracing::warn!(%error, "the uploads were not swept");
            }
            tokio::time::sleep(SWEEP_EVERY).await;
        }
    }

    /// Deletes what no fax is waiting for.
    pub(super) async fn sweep(&self, database: &Database) -> io::Result<()> {
        let mut files = match tokio::fs::read_dir(&self.folder).await {
            Ok(files) => files,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(error),
        };
        while let Some(file) = files.next_entry().await? {
            let Ok(metadata) = file.metadata().await else { continue };
            let age = metadata.modified().ok().and_then(clock::since);
            if age.is_none_or(|age| age < UNTOUCHED) || !metadata.is_file() {
                continue;
            }
            let name = file.file_name();
            let Some(name) = name.to_str() else { continue };
            let orphan = match FaxId::parse(name) {
                Some(fax) => !is_waited_for(database, &fax).await?,
                // Whatever else lies here is not ours.
                None => name.ends_with(INCOMING),
            };
            if orphan {
                tracing::info!(name, "an upload without a fax is deleted");
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
    /// Takes the next piece.
    pub(super) async fn write(&mut self, piece: &[u8]) -> Result<(), UploadFault> {
        self.bytes += piece.len() as u64;
        if self.bytes > MAX_BYTES {
            return Err(UploadFault::TooLarge);
        }
        self.sha256.update(piece);
        self.sniffer.look_at(piece);
        Ok(self.file.write_all(piece).await?)
    }

    /// That was all of it: it is on the disk when this returns. `charset` is what its sender says of a text; of anything
    /// else, it means nothing.
    pub(super) async fn finish(mut self, charset: Option<String>) -> Result<Arrived, UploadFault> {
        if self.bytes == 0 {
            return Err(UploadFault::Empty);
        }
        self.file.flush().await?;
        self.file.get_ref().sync_all().await?;
        let media_type = self.media_type().await?.ok_or(UploadFault::Unknown)?;
        let charset = charset.filter(|_| media_type.is_text());
        if charset.as_deref().is_some_and(|charset| !is_charset(charset)) {
            return Err(UploadFault::Charset);
        }
        let sha256 = hex::encode(&self.sha256.finalize());
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
    /// Makes it the document of this fax.
    pub(super) async fn keep(self, uploads: &Uploads, fax: &FaxId) -> io::Result<(Kept, Document)> {
        // The rest of a form may have taken long, and the sweep goes by age: under its new name the file begins anew.
        let file = File::options().write(true).open(self.name.path()).await?.into_std().await;
        file.set_modified(clock::timestamp().into())?;
        let kept = Deleted::later(uploads.path(fax));
        tokio::fs::rename(self.name.path(), kept.path()).await?;
        // So that the name, too, outlives a power failure.
        File::open(&uploads.folder).await?.sync_all().await?;
        Ok((Kept(kept), self.document))
    }
}

impl Kept {
    /// The fax is about to be: if it is not after all, the sweep finds that out.
    pub(super) fn leave(mut self) {
        self.0.0 = None;
    }
}

/// Whether it can be the name of a character set (RFC 2978, section 2.3), known here or not: the carrier reads the text.
fn is_charset(name: &str) -> bool {
    let is_of_it = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'+-^_`{}~".contains(&byte);
    (1..=40).contains(&name.len()) && name.bytes().all(is_of_it)
}

/// A file that is deleted when this is dropped.
#[derive(Debug)]
struct Deleted(Option<PathBuf>);

impl Deleted {
    fn later(path: PathBuf) -> Self {
        Self(Some(path))
    }

    fn path(&self) -> &Path {
        self.0.as_deref().unwrap_or(Path::new(""))
    }
}

impl Drop for Deleted {
    fn drop(&mut self) {
        if let Some(path) = &self.0 {
            let _ = std::fs::remove_file(path);
        }
    }
}

async fn is_waited_for(database: &Database, fax: &FaxId) -> io::Result<bool> {
    let mut reader = database.read().await.map_err(io::Error::other)?;
    faxes::is_waited_for(reader.connection(), fax).await.map_err(io::Error::other)
}

#[cfg(test)]
mod tests;
