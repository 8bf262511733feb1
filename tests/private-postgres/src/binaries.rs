//! Where the server's programs are.

use std::cmp::Reverse;
use std::error::Error;
use std::ffi::OsString;
use std::fmt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs};

const NEEDED: [&str; 3] = ["initdb", "postgres", "psql"];

/// Folders of packages, each with a folder for every version.
const PACKAGED: [(&str, &str, &str); 6] = [
    // Debian and Ubuntu, Alpine, PGDG's RPMs, Homebrew on both its places, and MacPorts.
    ("/usr/lib/postgresql", "", "bin"),
    ("/usr/libexec", "postgresql", ""),
    ("/usr", "pgsql-", "bin"),
    ("/opt/homebrew/opt", "postgresql", "bin"),
    ("/usr/local/opt", "postgresql", "bin"),
    ("/opt/local/lib", "postgresql", "bin"),
];

/// PostgreSQL's programs are not on this machine, or not where `POSTGRES_BIN` says.
#[derive(Debug)]
pub struct NotFound {
    configured: Option<OsString>,
}

impl fmt::Display for NotFound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(folder) = &self.configured {
            return write!(f, "POSTGRES_BIN is {}, which lacks one of {NEEDED:?}", folder.display());
        }
        f.write_str(
            "PostgreSQL's server was not found (initdb, postgres and psql in one folder). Install it:\n\
             \x20 Debian, Ubuntu  apt-get install postgresql\n\
             \x20 Fedora, RHEL    dnf install postgresql-server\n\
             \x20 Alpine          apk add postgresql postgresql-client\n\
             \x20 Arch            pacman -S postgresql\n\
             \x20 macOS           brew install postgresql@17\n\
             or say where it is: POSTGRES_BIN=/folder/of/its/programs",
        )
    }
}

impl Error for NotFound {}

/// The folder that has the server's programs: `POSTGRES_BIN` if set, else the one in `PATH`, else what `pg_config`
/// says, else the newest where packages put them.
///
/// # Errors
///
/// None of these has them all.
pub fn find() -> Result<PathBuf, NotFound> {
    if let Some(folder) = env::var_os("POSTGRES_BIN").filter(|folder| !folder.is_empty()) {
        let found = complete(Path::new(&folder));
        return found.ok_or(NotFound { configured: Some(folder) });
    }
    let in_path = env::var_os("PATH").unwrap_or_default();
    let in_path = env::split_paths(&in_path).collect::<Vec<_>>();
    let candidates = in_path.into_iter().chain(configured()).chain(packaged());
    candidates.into_iter().find_map(|folder| complete(&folder)).ok_or(NotFound { configured: None })
}

/// Where `postgres` of this folder really is, if its companions are there: a folder in `PATH` may link to a few of them.
fn complete(folder: &Path) -> Option<PathBuf> {
    let real = fs::canonicalize(folder.join("postgres")).ok()?.parent()?.to_owned();
    NEEDED.iter().all(|name| real.join(name).is_file()).then_some(real)
}

fn configured() -> Option<PathBuf> {
    let output = Command::new("pg_config").arg("--bindir").output().ok()?;
    Some(PathBuf::from(String::from_utf8(output.stdout).ok()?.trim_end()))
}

fn packaged() -> Vec<PathBuf> {
    let mut found = Vec::new();
    for (parent, prefix, below) in PACKAGED {
        for entry in fs::read_dir(parent).into_iter().flatten().flatten() {
            let name = entry.file_name();
            let Some(version) = name.to_str().and_then(|name| name.strip_prefix(prefix)) else { continue };
            let digits = version.trim_start_matches('@');
            let major = digits.split('.').next().and_then(|major| major.parse::<u32>().ok());
            // Homebrew's unversioned name links to its newest.
            if major.is_some() || digits.is_empty() {
                found.push((major.unwrap_or(u32::MAX), entry.path().join(below)));
            }
        }
    }
    found.sort_by_key(|(major, _)| Reverse(*major));
    found.into_iter().map(|(_, folder)| folder).collect()
}
