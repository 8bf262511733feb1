//! What `scripts/test` prepares for tests.

use std::env;
use std::path::PathBuf;

/// The program or file of this variable: one of those that `scripts/test-environment` prints. A test that lacks it fails,
/// since one that is skipped tells nobody.
pub fn prepared(variable: &str) -> PathBuf {
    let path = env::var_os(variable).map(PathBuf::from);
    let path = path.unwrap_or_else(|| panic!("{variable} is not set: run ./scripts/test, which prepares it"));
    assert!(path.is_file(), "{variable} is {}, which is not there: run ./scripts/test", path.display());
    path
}
