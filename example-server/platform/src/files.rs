//! Files that appear complete or not at all.

use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

/// Gives the finished file `draft` the name `target`, and syncs the folder, so that the name survives
/// a power failure. The draft may keep its own name: the caller removes it.
///
/// # Errors
/// [`ErrorKind::AlreadyExists`] if a file has that name, also if another process created it
/// meanwhile. Otherwise, if the file system does not take the name.
pub(crate) fn publish(draft: &Path, target: &Path) -> io::Result<()> {
    match fs::hard_link(draft, target) {
        Ok(()) => {}
        // The file system has no hard links. Renaming would replace a file that another process has
        // created meanwhile, so reserve the name first. Until the next line, the file is empty.
        Err(error) if matches!(error.kind(), ErrorKind::Unsupported | ErrorKind::PermissionDenied) => {
            OpenOptions::new().write(true).create_new(true).mode(0o600).open(target)?;
            fs::rename(draft, target)?;
        }
        Err(error) => return Err(error),
    }
    let folder = target.parent().filter(|folder| !folder.as_os_str().is_empty());
    File::open(folder.unwrap_or(Path::new(".")))?.sync_all()
}
