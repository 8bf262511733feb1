//! The reader's shell, in an empty folder.

use std::env;
use std::fmt::Write as _;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::Duration;

use support::of_no_package;
use tempfile::TempDir;

/// One bash for the whole page: variables, functions and servers in the background stay from one step to the next.
pub(super) struct Shell {
    bash: Child,
    steps: ChildStdin,
    done: Receiver<String>,
    folder: TempDir,
    ports: Vec<(String, String)>,
}

/// Runs files that it is given the names of. What was started in the background ends with it.
///
/// Cargo is run where the sources are, into the directory of this test, and then the folder has what was built, and no more.
/// The server is built as the other tests have it, or they would take it from each other.
const DRIVER: &str = r#"
trap 'kill -9 $(jobs -p) 2>/dev/null; exit' TERM EXIT
cargo() {
    if [ "$*" = "build -p example-server" ]; then set -- "$@" --features failpoints; fi
    (cd "$WORKSPACE" && CARGO_TARGET_DIR=$TARGET exec "$CARGO" "$@" --quiet --locked) || return
    mkdir -p target/debug/examples
    while [ $# -gt 0 ]; do
        case $1 in
        -p) ln -sf "$TARGET/debug/$2" target/debug ;;
        --example) ln -sf "$TARGET/debug/examples/$2" target/debug/examples ;;
        esac
        shift
    done
}
while read -r step; do
    . "$step" >"$step.said" 2>&1 </dev/null
    echo "$?"
done
"#;

/// A step, and the building of what was not built before.
const PATIENCE: Duration = Duration::from_secs(100);
const PATIENCE_TO_BUILD: Duration = Duration::from_secs(450);

impl Shell {
    pub(super) fn start() -> Self {
        let folder = TempDir::new().expect("a folder for temporary files");
        let (workspace, target) = places();
        let mut bash = Command::new("bash");
        bash.args(["-c", DRIVER]).current_dir(&folder).stdin(Stdio::piped()).stdout(Stdio::piped());
        bash.env("WORKSPACE", workspace).env("TARGET", target).env("CARGO", env!("CARGO"));
        bash.env("no_proxy", "*").env("LC_ALL", "C");
        // What the caller's shell exports is not part of a test.
        for name in [
            "BASH_ENV",
            "LISTEN",
            "DATABASE_URL",
            "REDIS_URL",
            "CONFIG",
            "SEALING_KEY",
            "RUST_LOG",
            "WAREHOUSE",
        ] {
            bash.env_remove(name);
        }
        let mut bash = of_no_package(&mut bash).spawn().expect("bash starts");
        let steps = bash.stdin.take().expect("its standard input is a pipe");
        let stdout = BufReader::new(bash.stdout.take().expect("its standard output is a pipe"));
        let (sender, done) = channel();
        thread::spawn(move || stdout.lines().map_while(Result::ok).try_for_each(|line| sender.send(line)));
        let ports = free_ports(["127.0.0.1:3000", "127.0.0.1:8080"]);
        Self { bash, steps, done, folder, ports }
    }

    /// Runs these commands and tells what they said, on both outputs.
    pub(super) fn run(&mut self, commands: &str) -> String {
        let mut commands = commands.to_owned();
        for (of_the_page, of_this_test) in &self.ports {
            commands = commands.replace(of_the_page, of_this_test);
        }
        let step = self.folder.path().join("step");
        fs::write(&step, &commands).expect("the folder takes files");
        writeln!(self.steps, "{}", step.display()).expect("bash reads");
        let patience = if commands.starts_with("cargo ") { PATIENCE_TO_BUILD } else { PATIENCE };
        let status = self.done.recv_timeout(patience);
        let mut said = self.said("step.said");
        for (of_the_page, of_this_test) in &self.ports {
            said = said.replace(of_this_test, of_the_page);
        }
        match status.as_deref() {
            Ok("0") => said,
            Ok(status) => said + "exit status " + status,
            Err(fault) => {
                panic!(
                    "not done within {patience:?}, {fault}:\n{commands}\n--- it said\n{said}\n{}",
                    self.logs()
                )
            }
        }
    }

    /// What still runs in the background.
    pub(super) fn left(&mut self) -> String {
        self.run("jobs -p")
    }

    /// Without carriage returns, and without what bash says of the end of jobs.
    fn said(&self, file: &str) -> String {
        let said = fs::read(self.folder.path().join(file)).unwrap_or_default();
        let said = String::from_utf8_lossy(&said).replace('\r', "");
        let lines =
            said.lines().filter(|line| !line.contains(" Killed   ") && !line.contains(" Terminated   "));
        lines.fold(String::new(), |mut text, line| {
            let _ = writeln!(text, "{line}");
            text
        })
    }

    fn logs(&self) -> String {
        format!("--- orders.log\n{}--- server.log\n{}", self.said("orders.log"), self.said("server.log"))
    }
}

impl Drop for Shell {
    fn drop(&mut self) {
        if thread::panicking() {
            eprintln!("{}", self.logs());
        }
        // It takes its jobs with it, which a `SIGKILL` would leave behind.
        let _ = Command::new("kill").arg(self.bash.id().to_string()).status();
        let _ = self.bash.wait();
    }
}

/// The workspace's folder, and the target directory of this test: `<target directory>/<profile>/deps/<this test>`.
fn places() -> (PathBuf, PathBuf) {
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("this package is in the workspace");
    let test = env::current_exe().expect("a process knows its own binary");
    let target = test.ancestors().nth(3).expect("a test lies in the target directory");
    (workspace.to_owned(), target.to_owned())
}

/// Another port for each of these addresses. They stay the same when a server is started again, so they are not from those
/// that the system gives to whoever asks for any.
fn free_ports<const N: usize>(addresses: [&str; N]) -> Vec<(String, String)> {
    let begin = 20_000 + u16::try_from(std::process::id() % 10_000).expect("it is small");
    let mut free = (begin..32_000)
        .map(|port| format!("127.0.0.1:{port}"))
        .filter(|address| TcpListener::bind(address).is_ok());
    let pairs =
        addresses.into_iter().map(|address| (address.to_owned(), free.next().expect("some port is free")));
    pairs.collect()
}
