//! The location of the data, for files that belong beside it.

use std::path::PathBuf;

use super::Database;

/// The location of the data.
#[derive(Debug, Clone)]
pub enum Storage {
    /// In this `SQLite` file.
    File(PathBuf),
    /// In memory. The data is lost when the process ends.
    Memory,
    /// On a database server.
    Server,
}

impl Storage {
    /// Returns the location of the data for a database URL.
    pub fn of(url: &str) -> Self {
        if !url.starts_with("sqlite:") {
            return Self::Server;
        }
        Database::file(url).map_or(Self::Memory, Self::File)
    }

    /// Returns the path of a file or folder with this extension: beside the database file, or in
    /// the working directory for a database server. Returns `None` for data in memory.
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
