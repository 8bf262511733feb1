//! The server's processes, behind a shell that outlives this process just long enough to clean up after it.
//!
//! The shell reads commands from a pipe whose other end only this process has. However this process ends, the pipe
//! ends with it, and the shell stops the server and removes the folder. A signal at the parent's death alone
//! (`PR_SET_PDEATHSIG`) would be Linux only, would come when the *thread* that started the server ends, and would
//! leave the folder.

use std::fs::{self, DirBuilder, File};
use std::hash::{BuildHasher, RandomState};
use std::io::{BufRead, BufReader, Write};
use std::net::{Ipv4Addr, TcpListener};
use std::os::unix::fs::{DirBuilderExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::{env, iter, thread};

use crate::binaries;

const SUPERVISE: &str = include_str!("supervise.sh");

/// Below what Linux and macOS give to outgoing connections. A client that tries again while the server is down could
/// otherwise be given its port, and even be connected to itself.
const PORTS: std::ops::Range<u16> = 15_000..32_000;

/// The caller's come after these, and win.
const SETTINGS: [&str; 5] = [
    "listen_addresses=127.0.0.1",
    "max_connections=300",
    "timezone=UTC",
    "log_timezone=UTC",
    // What a killed server leaves of its shared memory goes with the folder.
    "dynamic_shared_memory_type=mmap",
];

/// How often a port may be lost between finding it free and listening on it.
const ATTEMPTS: usize = 5;

#[derive(Debug)]
pub(crate) struct Cluster {
    supervisor: Child,
    /// `None` tells the supervisor to end.
    commands: Option<ChildStdin>,
    replies: BufReader<ChildStdout>,
    folder: PathBuf,
    port: u16,
}

impl Cluster {
    pub(crate) fn start(settings: &[&str]) -> Self {
        let binaries = binaries::find().unwrap_or_else(|not_found| panic!("{not_found}"));
        let user = unprivileged();
        let folder = env::temp_dir().join(format!("private-postgres-{}", random()));
        DirBuilder::new().mode(0o700).create(&folder).expect("the directory for temporary files takes one");
        let mut cluster = Self::supervise(&binaries, folder, user, settings);
        cluster.expect("initialized");
        for _ in 1..ATTEMPTS {
            cluster.port = free_port();
            if cluster.command(&format!("start {}", cluster.port)) == "ready" {
                return cluster;
            }
            let log = cluster.log();
            assert!(log.contains("Address already in use"), "PostgreSQL does not start:\n{log}");
        }
        cluster.port = free_port();
        cluster.restart();
        cluster
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// Nothing happens to one that does not run.
    pub(crate) fn kill(&mut self) {
        let reply = self.command("kill");
        assert_eq!(reply, "killed", "{}", self.log());
    }

    pub(crate) fn restart(&mut self) {
        let reply = self.command(&format!("start {}", self.port));
        assert_eq!(reply, "ready", "PostgreSQL does not start:\n{}", self.log());
    }

    fn supervise(binaries: &Path, folder: PathBuf, user: Option<(u32, u32)>, settings: &[&str]) -> Self {
        let log = File::create(folder.join("log")).expect("the new folder takes a file");
        let mut command = Command::new("/bin/sh");
        command.args(["-c", SUPERVISE, "supervise"]).arg(&folder).arg(binaries);
        for setting in SETTINGS.iter().chain(settings) {
            command.args(["-c", setting]);
        }
        forget_settings(&mut command);
        if let Some((user, group)) = user {
            chown(&folder, Some(user), Some(group)).expect("root gives a folder away");
            command.uid(user).gid(group);
        }
        // What ends a test also ends its process group, by Ctrl-C or for its time; the supervisor has yet to clean up.
        // Where the log goes is not the test's output: a test is not over while somebody holds that.
        command.current_dir(&folder).process_group(0).env("LC_ALL", "C");
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(log);
        let mut supervisor = command.spawn().expect("a shell starts");
        let commands = supervisor.stdin.take();
        let replies = BufReader::new(supervisor.stdout.take().expect("its standard output is a pipe"));
        Self { supervisor, commands, replies, folder, port: 0 }
    }

    fn command(&mut self, command: &str) -> String {
        let commands = self.commands.as_mut().expect("it is not being dropped");
        // If it is gone, there is no reply either, and the log says more than this error.
        let _ = writeln!(commands, "{command}");
        self.reply()
    }

    fn expect(&mut self, expected: &str) {
        let reply = self.reply();
        assert_eq!(reply, expected, "PostgreSQL does not start:\n{}", self.log());
    }

    fn reply(&mut self) -> String {
        let mut line = String::new();
        self.replies.read_line(&mut line).expect("the supervisor writes text");
        line.trim_end().to_owned()
    }

    /// The end of what the server and the supervisor said.
    fn log(&self) -> String {
        let log = fs::read(self.folder.join("log")).unwrap_or_default();
        let log = String::from_utf8_lossy(&log);
        let lines = log.lines().collect::<Vec<_>>();
        lines[lines.len().saturating_sub(40)..].join("\n")
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if thread::panicking() {
            eprintln!("PostgreSQL said:\n{}", self.log());
        }
        self.commands = None;
        let _ = self.supervisor.wait();
        // The supervisor removed what is in it; the place of temporary files may be closed to its user.
        let _ = fs::remove_dir_all(&self.folder);
    }
}

/// The caller's own settings of PostgreSQL are not part of a test.
pub(crate) fn forget_settings(command: &mut Command) {
    for (name, _) in env::vars_os().filter(|(name, _)| name.as_encoded_bytes().starts_with(b"PG")) {
        command.env_remove(name);
    }
}

/// Sixteen digits nobody else has.
pub(crate) fn random() -> String {
    format!("{:016x}", RandomState::new().hash_one(0))
}

fn free_port() -> u16 {
    let width = u64::from(PORTS.end - PORTS.start);
    let candidates = iter::repeat_with(|| RandomState::new().hash_one(0) % width).take(1000);
    let mut candidates = candidates.filter_map(|offset| Some(PORTS.start + u16::try_from(offset).ok()?));
    let free = candidates.find(|port| TcpListener::bind((Ipv4Addr::LOCALHOST, *port)).is_ok());
    free.expect("one of a thousand ports is free")
}

/// The user and the group to run a server as that refuses root, as `postgres` does. `None`: this process is not root's.
pub fn unprivileged() -> Option<(u32, u32)> {
    let id = |arguments: &[&str]| {
        let output = Command::new("id").args(arguments).stderr(Stdio::null()).output().expect("id starts");
        String::from_utf8_lossy(&output.stdout).trim_end().parse::<u32>().ok()
    };
    if id(&["-u"]).expect("a process has a user") != 0 {
        return None;
    }
    let of = |name: &str| Some((id(&["-u", name])?, id(&["-g", name])?));
    Some(of("postgres").or_else(|| of("nobody")).expect("there is a user postgres or nobody"))
}
