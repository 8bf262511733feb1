//! What `scripts/test` prepares for tests.

use std::env;
use std::path::PathBuf;
use std::process::Command;

/// The program or file of this variable: one of those that `scripts/test-environment` prints. A test that lacks it fails,
/// since one that is skipped tells nobody.
pub fn prepared(variable: &str) -> PathBuf {
    let path = env::var_os(variable).map(PathBuf::from);
    let path = path.unwrap_or_else(|| panic!("{variable} is not set: run ./scripts/test, which prepares it"));
    assert!(path.is_file(), "{variable} is {}, which is not there: run ./scripts/test", path.display());
    path
}

/// Takes from a command that runs cargo what cargo tells this test of its package. Build scripts look at it, `ring`'s for one:
/// they would run again, and what depends on them be built again, whenever tests and people build by turns.
pub fn of_no_package(command: &mut Command) -> &mut Command {
    for (name, _) in env::vars_os() {
        if name
            .to_str()
            .is_some_and(|name| name.starts_with("CARGO_PKG_") || name.starts_with("CARGO_MANIFEST_"))
        {
            command.env_remove(name);
        }
    }
    command
}
