//! Where sealing keys come from.

use std::fs::{self, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::path::{Path, PathBuf};

use super::{Keys, MasterKey, SealError, random};
use crate::hex;

/// Where they come from.
pub(super) enum Source {
    Given(Keys),
    /// A file of one key, which need not be there yet.
    File(PathBuf),
}

impl Source {
    /// The keys; `None` if there are none yet and none is to be made.
    pub(super) fn keys(&self, make: bool) -> Result<Option<Keys>, SealError> {
        let path = match self {
            Self::Given(keys) => return Ok(Some(keys.clone())),
            Self::File(path) => path,
        };
        let failed = |fault| SealError::File { path: path.clone(), fault };
        match fs::read_to_string(path) {
            Ok(text) => read(&text, path).map(Some),
            Err(fault) if fault.kind() != ErrorKind::NotFound => Err(failed(fault)),
            Err(_) if !make => Ok(None),
            Err(_) => {
                create(path).map_err(failed)?;
                // Ours, or that of another process that came first.
                read(&fs::read_to_string(path).map_err(failed)?, path).map(Some)
            }
        }
    }
}

fn read(text: &str, path: &Path) -> Result<Keys, SealError> {
    let key = MasterKey::parse(text.trim()).ok_or_else(|| SealError::NoKey(path.to_owned()))?;
    Ok(Keys(vec![key]))
}

/// Makes the file with a key in it, unless there is one by now. It is never there with half a key.
fn create(path: &Path) -> io::Result<()> {
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{}", uuid::Uuid::new_v4().simple()));
    let draft = PathBuf::from(name);
    let made = write_private(&draft).and_then(|()| match fs::hard_link(&draft, path) {
        Err(fault) if fault.kind() == ErrorKind::AlreadyExists => Ok(()),
        linked => {
            tracing::warn!(file = %path.display(), "made a sealing key: whoever loses this file loses the secrets of webhooks");
            linked
        }
    });
    fs::remove_file(&draft)?;
    made
}

fn write_private(path: &Path) -> io::Result<()> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut file = options.open(path)?;
    writeln!(file, "{}", hex::encode(&random()))?;
    file.sync_all()
}

#[cfg(test)]
mod tests {
    use super::super::Sealer;
    use super::*;

    fn folder() -> PathBuf {
        let folder = std::env::temp_dir().join(format!("example-server-{}", uuid::Uuid::new_v4()));
        fs::create_dir(&folder).unwrap();
        folder
    }

    #[test]
    fn a_key_file_is_made_once_when_it_is_needed_and_matches_key_owners_alone() {
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
    fn a_file_without_a_key_is_an_error_that_names_it() {
        let folder = folder();
        let path = folder.join("data.db.key");
        fs::write(&path, "hunter2").unwrap();
        let fault = Sealer::new(None, Some(path.clone())).unwrap_err().to_string();
        assert!(fault.contains("data.db.key") && !fault.contains("hunter2"), "{fault}");
        let missing = Sealer::new(None, Some(folder.join("no/such/folder.key"))).unwrap();
        assert!(matches!(missing.seal("x", b"a"), Err(SealError::File { .. })));
        fs::remove_dir_all(folder).unwrap();
    }
}
