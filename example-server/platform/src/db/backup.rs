//! `backup FILE`: a consistent copy of a SQLite database, also while servers use it.

use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{ConnectOptions, Connection};

use super::Database;

/// Why there is no backup. The URL, which may hold a password, is not shown.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    #[error("`backup` copies SQLite databases; for PostgreSQL, use `pg_dump`")]
    Postgres,
    #[error("a database in memory has no backup: it is gone with its process")]
    InMemory,
    #[error("the database URL must begin with sqlite: or postgres:")]
    Scheme,
    #[error("{} exists, and a backup overwrites nothing", .0.display())]
    Exists(PathBuf),
    #[error("the name of a backup must be UTF-8, and not that of a folder")]
    Name,
    #[error("cannot open the database file {}", path.display())]
    Source { path: PathBuf, source: Box<dyn std::error::Error + Send + Sync> },
    #[error("cannot copy the database")]
    Copy(#[from] sqlx::Error),
    #[error("cannot write {}", path.display())]
    Write { path: PathBuf, source: io::Error },
}

/// Copies the database of this URL into a new file, for its owner alone.
///
/// The file has its name only when all of it is on the disk: until then it is hidden beside it, and a process that is killed
/// leaves it there.
///
/// # Errors
/// The database is not in a file, or cannot be read; or the copy exists, or cannot be written.
///
/// # Cancel safety
/// Dropped, no copy is left.
pub async fn back_up(url: &str, target: &Path) -> Result<(), BackupError> {
    let source = match url.split(':').next() {
        Some("sqlite") => Database::file(url).ok_or(BackupError::InMemory)?,
        Some("postgres" | "postgresql") => return Err(BackupError::Postgres),
        _ => return Err(BackupError::Scheme),
    };
    if target.symlink_metadata().is_ok() {
        return Err(BackupError::Exists(target.to_owned()));
    }
    let failed = |source| BackupError::Write { path: target.to_owned(), source };
    let draft = Draft::create(target)?;
    let name = draft.0.to_str().ok_or(BackupError::Name)?;

    let unopened = |cause: Box<_>| BackupError::Source { path: source.clone(), source: cause };
    // This process has the file not open, so to look at it disturbs no lock of its own.
    File::open(&source).map_err(|error| unopened(error.into()))?;
    let options = SqliteConnectOptions::from_str(url)?.create_if_missing(false).read_only(true);
    let mut connection = options.connect().await.map_err(|error| unopened(error.into()))?;
    sqlx::query("VACUUM INTO $1").bind(name).execute(&mut connection).await?;
    connection.close().await?;

    draft.keep(target).map_err(|error| match error.kind() {
        ErrorKind::AlreadyExists => BackupError::Exists(target.to_owned()),
        _ => failed(error),
    })
}

/// The copy before it has its name. Deleted when dropped.
#[derive(Debug)]
struct Draft(PathBuf);

impl Draft {
    /// Makes an empty file beside `target`, which SQLite then fills.
    fn create(target: &Path) -> Result<Self, BackupError> {
        let name = target.file_name().and_then(|name| name.to_str()).ok_or(BackupError::Name)?;
        let draft = target.with_file_name(format!(".{name}.{}", uuid::Uuid::new_v4().simple()));
        OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&draft)
            .map_err(|source| BackupError::Write { path: target.to_owned(), source })?;
        Ok(Self(draft))
    }

    /// Gives the file its name, unless there is another one of that name by now.
    fn keep(self, target: &Path) -> io::Result<()> {
        File::open(&self.0)?.sync_all()?;
        match fs::hard_link(&self.0, target) {
            Ok(()) => {}
            // A file system without hard links. To rename would replace what another process made meanwhile, unless the
            // name is taken before.
            Err(error) if matches!(error.kind(), ErrorKind::Unsupported | ErrorKind::PermissionDenied) => {
                OpenOptions::new().write(true).create_new(true).mode(0o600).open(target)?;
                fs::rename(&self.0, target)?;
            }
            Err(error) => return Err(error),
        }
        let folder = target.parent().filter(|folder| !folder.as_os_str().is_empty());
        // So that the name outlives a power failure, too.
        File::open(folder.unwrap_or(Path::new(".")))?.sync_all()
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}
