//! What `scripts/test` prepares for the tests.

use std::env;
use std::path::PathBuf;
use std::process::Command;

/// Returns the program or file in this variable, one of those that `scripts/test-environment`
/// prints. Panics if it is missing, because a skipped test would go unnoticed.
pub fn prepared(variable: &str) -> PathBuf {
    let path = env::var_os(variable).map(PathBuf::from);
    let path = path.unwrap_or_else(|| panic!("{variable} is not set: run ./scripts/test, which prepares it"));
    assert!(path.is_file(), "{variable} is {}, which does not exist: run ./scripts/test", path.display());
    path
}

/// Removes cargo's variables about this test's package from a command that runs cargo.
///
/// Some build scripts depend on them, such as `ring`'s. They would run again, and their dependents
/// would be rebuilt, whenever builds by tests and by people alternate.
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
