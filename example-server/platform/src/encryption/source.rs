//! The source of the sealing keys.

use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use super::{Keys, MasterKey, SealError, random};

/// The source of the sealing keys.
pub(super) enum Source {
    Configured(Keys),
    /// A file with one key. It need not exist yet.
    File(PathBuf),
}

impl Source {
    /// Returns the keys. If the file does not exist, creates it if `create`, or else returns
    /// `None`.
    pub(super) fn keys(&self, create: bool) -> Result<Option<Keys>, SealError> {
        let path = match self {
            Self::Configured(keys) => return Ok(Some(keys.clone())),
            Self::File(path) => path,
        };
        let failed = |error| SealError::File { path: path.clone(), error };
        match File::open(path) {
            Ok(file) => read(file, path).map(Some),
            Err(error) if error.kind() != ErrorKind::NotFound => Err(failed(error)),
            Err(_) if !create => Ok(None),
            Err(_) => {
                create_file(path).map_err(failed)?;
                // Another process may have created it first, so read what is there.
                read(File::open(path).map_err(failed)?, path).map(Some)
            }
        }
    }
}

fn read(mut file: File, path: &Path) -> Result<Keys, SealError> {
    let failed = |error| SealError::File { path: path.to_owned(), error };
    let mode = file.metadata().map_err(failed)?.permissions().mode() & 0o777;
    if mode & 0o077 != 0 {
        return Err(SealError::Exposed { path: path.to_owned(), mode });
    }
    let mut text = String::new();
    file.read_to_string(&mut text).map_err(failed)?;
    let key = MasterKey::parse(text.trim()).ok_or_else(|| SealError::NoKey(path.to_owned()))?;
    Ok(Keys(vec![key]))
}

/// Creates the key file, unless it exists by now. The hard link makes it appear complete or not at
/// all.
fn create_file(path: &Path) -> io::Result<()> {
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{}", uuid::Uuid::new_v4().simple()));
    let draft = PathBuf::from(name);
    let created = write_private(&draft).and_then(|()| match fs::hard_link(&draft, path) {
        Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(()),
        linked => {
            tracing::warn!(file = %path.display(), "created a sealing key; without this file, webhook secrets cannot be read");
            linked
        }
    });
    fs::remove_file(&draft)?;
    created
}

fn write_private(path: &Path) -> io::Result<()> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut file = options.open(path)?;
    writeln!(file, "{}", hex::encode(random()))?;
    file.sync_all()
}

#[cfg(test)]
mod tests {
    use std::fs::Permissions;

    use super::super::Sealer;
    use super::*;

    fn folder() -> PathBuf {
        let folder = std::env::temp_dir().join(format!("example-server-{}", uuid::Uuid::new_v4()));
        fs::create_dir(&folder).unwrap();
        folder
    }

    #[test]
    fn a_key_file_is_created_once_on_first_use_and_is_private() {
        let folder = folder();
        let path = folder.join("data.db.key");
        let sealer = || Sealer::new(None, Some(path.clone())).unwrap();
        let (one, other) = (sealer(), sealer());
        assert!(other.open("x", "00000000.AAAA").is_err());
        assert!(!path.exists(), "nothing was sealed yet");
        let kept = one.seal("x", b"secret").unwrap();
        assert_eq!(other.open("x", &kept).unwrap(), b"secret");
        assert_eq!(sealer().open("x", &kept).unwrap(), b"secret");
        #[cfg(unix)]
        assert_eq!(
            std::os::unix::fs::PermissionsExt::mode(&fs::metadata(&path).unwrap().permissions()) & 0o777,
            0o600
        );
        assert_eq!(fs::read_dir(&folder).unwrap().count(), 1, "no draft is left");
        fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn a_key_file_that_others_can_access_is_refused_whatever_it_contains() {
        let folder = folder();
        let path = folder.join("data.db.key");
        for text in ["1".repeat(64), "hunter2".to_owned()] {
            fs::write(&path, text).unwrap();
            for mode in [0o640, 0o604, 0o602, 0o644] {
                fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
                let error = Sealer::new(None, Some(path.clone())).unwrap_err().to_string();
                assert!(error.contains("data.db.key") && error.contains(&format!("{mode:o}")), "{error}");
            }
        }
        fs::write(&path, "1".repeat(64)).unwrap();
        for mode in [0o600, 0o400] {
            fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
            assert!(Sealer::new(None, Some(path.clone())).is_ok());
        }
        fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn a_file_without_a_key_is_an_error_that_names_it() {
        let folder = folder();
        let path = folder.join("data.db.key");
        fs::write(&path, "hunter2").unwrap();
        fs::set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
        let error = Sealer::new(None, Some(path.clone())).unwrap_err().to_string();
        assert!(error.contains("data.db.key") && !error.contains("hunter2"), "{error}");
        let missing = Sealer::new(None, Some(folder.join("no/such/folder.key"))).unwrap();
        assert!(matches!(missing.seal("x", b"a"), Err(SealError::File { .. })));
        fs::remove_dir_all(folder).unwrap();
    }
}
