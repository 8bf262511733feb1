//! Where the data lies, for files that belong beside it.

use std::path::PathBuf;

use super::Database;

/// Where the data lies.
#[derive(Debug, Clone)]
pub enum Storage {
    /// In this `SQLite` file.
    File(PathBuf),
    /// In memory: gone with the process.
    Memory,
    /// On a database server.
    Server,
}

impl Storage {
    /// Where the data of a database with this URL lies.
    pub fn of(url: &str) -> Self {
        if !url.starts_with("sqlite:") {
            return Self::Server;
        }
        Database::file(url).map_or(Self::Memory, Self::File)
    }

    /// Returns where a file or folder of the data lies: beside the database, or in the working directory for a database
    /// server. `None` for data that is gone with the process.
    pub fn beside(&self, extension: &str) -> Option<PathBuf> {
        let mut path = match self {
            Self::File(file) => file.clone().into_os_string(),
            Self::Memory => return None,
            Self::Server => "example-server".into(),
        };
        path.push(".");
        path.push(extension);
        Some(path.into())
    }
}
