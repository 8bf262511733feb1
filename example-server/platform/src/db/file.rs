//! The file of a SQLite database.

use std::ffi::OsString;
use std::fs::{self, OpenOptions};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// The file of an open database, which somebody may move or replace. SQLite would keep using the
/// file that it opened, and lose what it writes there.
#[derive(Debug)]
pub struct DatabaseFile {
    path: PathBuf,
    identity: Identity,
}

/// The identity of a file while it is open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Identity {
    device: u64,
    inode: u64,
}

impl DatabaseFile {
    /// Finds the file before SQLite opens it. Creates a missing file with access for its owner
    /// only. SQLite gives the two files beside it the same permissions.
    ///
    /// # Errors
    ///
    /// If the file cannot be created.
    pub(super) fn find_or_create(path: PathBuf) -> io::Result<Self> {
        match OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path) {
            Err(error) if error.kind() != ErrorKind::AlreadyExists => return Err(error),
            _ => {}
        }
        let identity = Identity::at(&path)?;
        let metadata = fs::metadata(&path)?;
        let mode = metadata.permissions().mode() & 0o777;
        if metadata.is_file() && mode & 0o077 != 0 {
            let (file, mode) = (path.display(), format!("{mode:o}"));
            tracing::warn!(%file, mode, "the database file is accessible to other users; run `chmod 600` on it");
        }
        Ok(Self { path, identity })
    }

    /// Returns whether the path still leads to this file. Costs one system call.
    pub fn is_in_place(&self) -> bool {
        Identity::at(&self.path).is_ok_and(|identity| identity == self.identity)
    }

    /// Returns the path of its write-ahead log.
    pub(super) fn log(&self) -> PathBuf {
        let mut name = OsString::from(&self.path);
        name.push("-wal");
        name.into()
    }
}

impl Identity {
    fn at(path: &Path) -> io::Result<Self> {
        let metadata = fs::metadata(path)?;
        Ok(Self { device: metadata.dev(), inode: metadata.ino() })
    }
}

/// Returns why a file cannot be opened for reading and writing. SQLite itself reports few of the
/// reasons.
///
/// Call it only if the file is not open in this process: closing the file here would release
/// SQLite's locks.
pub(super) fn open_error(path: &Path) -> Option<io::Error> {
    OpenOptions::new().read(true).write(true).open(path).err()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_in_place_until_it_is_moved_replaced_or_deleted() {
        let folder = std::env::temp_dir().join(format!("example-server-{}", uuid::Uuid::new_v4()));
        fs::create_dir(&folder).unwrap();
        let [path, other] = ["a.db", "b.db"].map(|name| folder.join(name));
        let file = DatabaseFile::find_or_create(path.clone()).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert!(file.is_in_place());
        fs::rename(&path, &other).unwrap();
        assert!(!file.is_in_place());
        fs::copy(&other, &path).unwrap();
        assert!(!file.is_in_place(), "a copy is another file");
        fs::rename(&other, &path).unwrap();
        assert!(file.is_in_place());
        fs::remove_dir_all(&folder).unwrap();
        assert!(!file.is_in_place());
    }
}
