//! The server as a separate process.

use std::env;
use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::thread::{self, JoinHandle};

use crate::document;
use crate::environment::of_no_package;
use crate::http::{Connection, Request};

/// A server to be started on a free port.
#[derive(Debug)]
#[must_use = "nothing is started before `start` or `fail`"]
pub struct Launch {
    command: Command,
    listen: String,
    config: Option<PathBuf>,
    /// The replacements of the pipes that are read by default.
    stdout: Option<Stdio>,
    stderr: Option<Stdio>,
}

/// Returns a server that keeps its data in memory.
pub fn launch() -> Launch {
    launched_by(Command::new(binary()))
}

/// Returns a server in memory whose process cannot write files beyond this size.
pub fn launch_with_file_limit(kib: u32) -> Launch {
    let mut shell = Command::new("sh");
    // POSIX counts in blocks of half a KiB.
    shell.args(["-c", "ulimit -f \"$0\" && exec \"$@\""]).arg((kib * 2).to_string()).arg(binary());
    launched_by(shell)
}

fn launched_by(mut command: Command) -> Launch {
    // The caller's environment must not affect the test.
    for name in ["DATABASE_URL", "REDIS_URL", "CONFIG", "SEALING_KEY", "RUST_LOG"] {
        command.env_remove(name);
    }
    let listen = "127.0.0.1:0".to_owned();
    let launch = Launch { command, listen, config: None, stdout: None, stderr: None };
    launch.database("sqlite::memory:")
}

impl Launch {
    /// Adds `--demo`.
    pub fn demo(self) -> Self {
        self.arg("--demo")
    }

    /// Sets the database.
    pub fn database(self, url: &str) -> Self {
        self.env("DATABASE_URL", url)
    }

    /// Uses the default database, in this folder.
    pub fn database_of_its_own(mut self, folder: &Path) -> Self {
        self.command.env_remove("DATABASE_URL").current_dir(folder);
        self
    }

    /// Sets the address to listen on.
    pub fn listen(mut self, address: &str) -> Self {
        address.clone_into(&mut self.listen);
        self
    }

    /// Adds an argument.
    pub fn arg(mut self, argument: &str) -> Self {
        self.command.arg(argument);
        self
    }

    /// Sets an environment variable.
    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.command.env(name, value);
        self
    }

    /// Uses a configuration file with this content.
    pub fn config(mut self, content: &str) -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name =
            format!("cross-crate-{}-{}.toml", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let path = env::temp_dir().join(name);
        fs::write(&path, content).expect("the directory for temporary files takes one");
        self.command.arg("--config").arg(&path);
        self.config = Some(path);
        self
    }

    /// Runs as this user and group.
    pub fn user(mut self, (user, group): (u32, u32)) -> Self {
        std::os::unix::process::CommandExt::uid(&mut self.command, user);
        std::os::unix::process::CommandExt::gid(&mut self.command, group);
        self
    }

    /// Replaces standard error. [`Server::said`] and [`Stopped`] then do not see it.
    pub fn stderr(mut self, stderr: impl Into<Stdio>) -> Self {
        self.stderr = Some(stderr.into());
        self
    }

    /// Replaces standard output. The server must then be started with [`start_at`](Self::start_at),
    /// on an address that the caller knows.
    pub fn stdout(mut self, stdout: impl Into<Stdio>) -> Self {
        self.stdout = Some(stdout.into());
        self
    }

    /// Starts the server on this address, without waiting for it.
    pub fn start_at(mut self, address: SocketAddr) -> Server {
        self.listen = address.to_string();
        let mut child = self.spawn();
        let stderr = child.stderr.take().map(Output::of);
        Server { child: Some(child), address, stdout: None, stderr, _launch: self }
    }

    /// Starts the server and waits until it listens.
    pub fn start(mut self) -> Server {
        let mut child = self.spawn();
        let mut stdout = BufReader::new(child.stdout.take().expect("its standard output is a pipe"));
        let mut line = String::new();
        stdout.read_line(&mut line).expect("its standard output can be read");
        let address = line.trim_end().strip_prefix("listening on http://").and_then(|text| text.parse().ok());
        let stderr = child.stderr.take().map(Output::of);
        let Some(address) = address else {
            let status = child.wait();
            panic!("{status:?}, first line {line:?}: {}", stderr.map(Output::whole).unwrap_or_default());
        };
        let stdout = Output::of(stdout);
        Server { child: Some(child), address, stdout: Some(stdout), stderr, _launch: self }
    }

    /// Starts the server, which must fail at once. Returns its standard error.
    pub fn fail(mut self) -> String {
        let mut child = self.spawn();
        let mut line = String::new();
        let stdout = child.stdout.take().expect("its standard output is a pipe");
        BufReader::new(stdout).read_line(&mut line).expect("its standard output can be read");
        if !line.is_empty() {
            let _ = child.kill();
        }
        let output = child.wait_with_output().expect("a child can be waited for");
        assert_eq!(line, "", "it started: {output:?}");
        assert!(!output.status.success(), "it ended well: {output:?}");
        String::from_utf8(output.stderr).expect("messages are text")
    }

    /// Starts the process and waits for its end.
    pub fn output(mut self) -> std::process::Output {
        self.spawn().wait_with_output().expect("a child can be waited for")
    }

    /// Starts the process with this standard output, and waits for its end.
    pub fn output_to(mut self, stdout: Stdio) -> std::process::Output {
        self.command.stdin(Stdio::null()).stdout(stdout).stderr(Stdio::piped());
        self.command
            .spawn()
            .expect("the server's binary starts")
            .wait_with_output()
            .expect("a child can be waited for")
    }

    fn spawn(&mut self) -> Child {
        self.command.env("LISTEN", &self.listen);
        let or_pipe = |stream: &mut Option<Stdio>| stream.take().unwrap_or_else(Stdio::piped);
        let (stdout, stderr) = (or_pipe(&mut self.stdout), or_pipe(&mut self.stderr));
        let command = self.command.stdin(Stdio::null()).stdout(stdout).stderr(stderr);
        let child = command.spawn().expect("the server's binary starts");
        // Close the parent's copies of the streams, so that only the child has them.
        command.stdout(Stdio::null()).stderr(Stdio::null());
        child
    }
}

impl Drop for Launch {
    fn drop(&mut self) {
        if let Some(path) = &self.config {
            let _ = fs::remove_file(path);
        }
    }
}

/// A running server, killed when dropped.
#[derive(Debug)]
pub struct Server {
    child: Option<Child>,
    /// The address it listens on.
    pub address: SocketAddr,
    stdout: Option<Output>,
    stderr: Option<Output>,
    /// Keeps the configuration file.
    _launch: Launch,
}

/// A server that has ended.
#[derive(Debug)]
pub struct Stopped {
    /// The exit status.
    pub status: ExitStatus,
    /// Standard output after the first line.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
}

impl Server {
    /// Returns a `GET` of this path.
    pub fn get(&self, path: &str) -> Request {
        self.request("GET", path)
    }

    /// Returns a `PUT` of this path.
    pub fn put(&self, path: &str) -> Request {
        self.request("PUT", path)
    }

    /// Returns a `POST` to this path.
    pub fn post(&self, path: &str) -> Request {
        self.request("POST", path)
    }

    /// Returns a request with this method.
    pub fn request(&self, method: &str, path: &str) -> Request {
        Request::new(self.address, method, path)
    }

    /// Opens a connection without sending anything.
    pub fn connect(&self) -> Connection {
        Connection::to(self.address)
    }

    /// Returns the sum of a counter's series whose labels include all of these, each written as
    /// `name="value"`.
    pub fn counted(&self, counter: &str, labels: &[&str]) -> u64 {
        let metrics = self.get("/metrics").send().text();
        let series = metrics.lines().filter(|line| {
            line.strip_prefix(counter).is_some_and(|rest| rest.starts_with(['{', ' ']))
                && labels.iter().all(|label| line.contains(label))
        });
        series.filter_map(|line| line.rsplit(' ').next()?.parse::<u64>().ok()).sum()
    }

    /// Returns whether standard error has this line.
    pub fn said(&self, line: &str) -> bool {
        self.stderr.as_ref().is_some_and(|stderr| stderr.so_far().lines().any(|said| said == line))
    }

    /// Returns whether a line of the log contains this text.
    pub fn has_logged(&self, part: &str) -> bool {
        self.stderr.as_ref().is_some_and(|stderr| stderr.so_far().lines().any(|line| line.contains(part)))
    }

    /// Sends `SIGKILL` and waits for the end.
    pub fn kill(self) {
        drop(self);
    }

    /// Returns the process id.
    pub fn id(&self) -> u32 {
        self.child.as_ref().expect("it runs").id()
    }

    /// Sends the signal with this name, without `SIG`.
    pub fn signal(&self, name: &str) {
        let child = self.child.as_ref().expect("it runs");
        let sent = Command::new("kill").args(["-s", name, &child.id().to_string()]).status();
        assert!(sent.is_ok_and(|status| status.success()), "cannot send SIG{name}");
    }

    /// Sends `SIGTERM` and waits for the end.
    pub fn stop(self) -> Stopped {
        self.signal("TERM");
        self.wait()
    }

    /// Waits for the end.
    pub fn wait(mut self) -> Stopped {
        let mut child = self.child.take().expect("it runs");
        let status = child.wait().expect("a child can be waited for");
        let read = |output: &mut Option<Output>| output.take().map(Output::whole).unwrap_or_default();
        Stopped { status, stdout: read(&mut self.stdout), stderr: read(&mut self.stderr) }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
            if thread::panicking() {
                eprintln!("the server said:\n{}", self.stderr.take().map(Output::whole).unwrap_or_default());
            }
        }
        if !thread::panicking() {
            document::check_noted(self.address);
        }
    }
}

/// The output of a process. It is read continuously, because a full pipe would block the process.
#[derive(Debug)]
struct Output {
    bytes: Arc<Mutex<Vec<u8>>>,
    reader: JoinHandle<()>,
}

impl Output {
    fn of(mut output: impl Read + Send + 'static) -> Self {
        let bytes = Arc::new(Mutex::new(Vec::new()));
        let read = Arc::clone(&bytes);
        let reader = thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok(length @ 1..) = output.read(&mut buffer) {
                read.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(&buffer[..length]);
            }
        });
        Self { bytes, reader }
    }

    fn so_far(&self) -> String {
        String::from_utf8_lossy(&self.bytes.lock().unwrap_or_else(PoisonError::into_inner)).into_owned()
    }

    /// Returns everything, once the output has ended.
    fn whole(self) -> String {
        let Self { bytes, reader } = self;
        reader.join().expect("the reader does not panic");
        let bytes = bytes.lock().unwrap_or_else(PoisonError::into_inner);
        String::from_utf8_lossy(&bytes).into_owned()
    }
}

/// Returns the server's binary. It is built once per process, in the profile and the target
/// directory of this test.
pub(crate) fn binary() -> &'static Path {
    static BINARY: OnceLock<PathBuf> = OnceLock::new();
    BINARY.get_or_init(|| {
        // <target directory>/<profile>/deps/<this test>
        let test = env::current_exe().expect("a process knows its own binary");
        let built = test.parent().and_then(Path::parent).expect("a test lies in the target directory");
        let target = built.parent().expect("the profile's directory lies in the target directory");
        let profile = match built.file_name().and_then(|name| name.to_str()).expect("profiles have names") {
            "debug" => "dev",
            other => other,
        };
        let status = of_no_package(&mut Command::new(env!("CARGO")))
            .args(["build", "--quiet", "--package", "example-server", "--features", "failpoints"])
            .args(["--profile", profile, "--target-dir"])
            .arg(target)
            .current_dir(env!("CARGO_MANIFEST_DIR"))
            .status();
        assert!(status.is_ok_and(|status| status.success()), "the server does not build");
        built.join("example-server").with_extension(env::consts::EXE_EXTENSION)
    })
}
