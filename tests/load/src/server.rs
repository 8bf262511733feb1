//! A server that is measured.

use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};

/// Rates and quotas that end no turn.
const CONFIG: &str = "[veriko.plans.pro]\nrate_per_minute = 100000000\nmonthly_quota = 1000000000\n";

/// A running server, killed when dropped.
#[derive(Debug)]
pub(crate) struct Server {
    child: Child,
    pub(crate) address: SocketAddr,
    /// An API key of each account.
    pub(crate) keys: Vec<String>,
}

impl Server {
    /// Starts the program on this database, with this number of accounts.
    pub(crate) fn start(binary: &Path, database: &str, folder: &Path, accounts: usize) -> Self {
        let config = folder.join("load.toml");
        fs::write(&config, CONFIG).expect("a temporary folder takes a file");
        let command = || {
            let mut command = Command::new(binary);
            command.current_dir(folder).env("DATABASE_URL", database).env("LISTEN", "127.0.0.1:0");
            command.env_remove("RUST_LOG").arg("--config").arg(&config).stdin(Stdio::null());
            command
        };
        let keys = (1..=accounts).map(|number| {
            let account = format!("load-{number}");
            let mut command = command();
            command.args(["keys", "create", "--api", "veriko", "--plan", "pro", "--account", &account]);
            let output = command.output().expect("the program starts");
            assert!(output.status.success(), "{output:?}");
            String::from_utf8(output.stdout).expect("a key is text").trim().to_owned()
        });
        let keys = keys.collect();
        let log = File::create(folder.join("load.log")).expect("a temporary folder takes a file");
        let mut child = command().stdout(Stdio::piped()).stderr(log).spawn().expect("the program starts");
        let mut line = String::new();
        let stdout = child.stdout.take().expect("its standard output is a pipe");
        BufReader::new(stdout).read_line(&mut line).expect("its standard output can be read");
        let address = line.trim_end().strip_prefix("listening on http://").and_then(|text| text.parse().ok());
        let Some(address) = address else {
            panic!("{line:?}: {}", fs::read_to_string(folder.join("load.log")).unwrap_or_default());
        };
        Self { child, address, keys }
    }

    /// Its number among the processes.
    pub(crate) fn process(&self) -> u32 {
        self.child.id()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
