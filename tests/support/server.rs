//! The server as a process of its own.

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

/// A server to be started, on a free port.
#[derive(Debug)]
#[must_use = "nothing is started before `start` or `fail`"]
pub struct Launch {
    command: Command,
    listen: String,
    config: Option<PathBuf>,
    /// Instead of pipes that are read.
    stdout: Option<Stdio>,
    stderr: Option<Stdio>,
}

/// A server that keeps its data in memory.
pub fn launch() -> Launch {
    launched_by(Command::new(binary()))
}

/// The same, whose process may write no file beyond this size.
pub fn launch_with_file_limit(kib: u32) -> Launch {
    let mut shell = Command::new("sh");
    // POSIX counts in half KiB.
    shell.args(["-c", "ulimit -f \"$0\" && exec \"$@\""]).arg((kib * 2).to_string()).arg(binary());
    launched_by(shell)
}

fn launched_by(mut command: Command) -> Launch {
    // What the caller's shell exports is not part of a test.
    for name in ["DATABASE_URL", "REDIS_URL", "CONFIG", "SEALING_KEY", "RUST_LOG"] {
        command.env_remove(name);
    }
    let listen = "127.0.0.1:0".to_owned();
    let launch = Launch { command, listen, config: None, stdout: None, stderr: None };
    launch.database("sqlite::memory:")
}

impl Launch {
    /// With `--demo`.
    pub fn demo(self) -> Self {
        self.arg("--demo")
    }

    /// With this database.
    pub fn database(self, url: &str) -> Self {
        self.env("DATABASE_URL", url)
    }

    /// With the database it takes when it is told of none, in this folder.
    pub fn database_of_its_own(mut self, folder: &Path) -> Self {
        self.command.env_remove("DATABASE_URL").current_dir(folder);
        self
    }

    /// On this address.
    pub fn listen(mut self, address: &str) -> Self {
        address.clone_into(&mut self.listen);
        self
    }

    /// One more argument.
    pub fn arg(mut self, argument: &str) -> Self {
        self.command.arg(argument);
        self
    }

    /// One more variable of the environment.
    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.command.env(name, value);
        self
    }

    /// With a configuration file of this content.
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

    /// As this user and group.
    pub fn user(mut self, (user, group): (u32, u32)) -> Self {
        std::os::unix::process::CommandExt::uid(&mut self.command, user);
        std::os::unix::process::CommandExt::gid(&mut self.command, group);
        self
    }

    /// With this as standard error, which [`Server::said`] and [`Stopped`] do not know then.
    pub fn stderr(mut self, stderr: impl Into<Stdio>) -> Self {
        self.stderr = Some(stderr.into());
        self
    }

    /// With this as standard output. It has to listen on an address that the caller knows, and is started with
    /// [`start_at`](Self::start_at).
    pub fn stdout(mut self, stdout: impl Into<Stdio>) -> Self {
        self.stdout = Some(stdout.into());
        self
    }

    /// Starts it without waiting, to listen on this address.
    pub fn start_at(mut self, address: SocketAddr) -> Server {
        self.listen = address.to_string();
        let mut child = self.spawn();
        let stderr = child.stderr.take().map(Output::of);
        Server { child: Some(child), address, stdout: None, stderr, _launch: self }
    }

    /// Starts it and waits until it listens.
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

    /// Starts it and waits for the end, which is expected at once: what it said on standard error.
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

    /// Starts it and waits for the end.
    pub fn output(mut self) -> std::process::Output {
        self.spawn().wait_with_output().expect("a child can be waited for")
    }

    /// The same, with this as its standard output.
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
        // The parent's ends of what was given to it are closed, so that only the child has them.
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

/// A running server, killed when the test is done with it.
#[derive(Debug)]
pub struct Server {
    child: Option<Child>,
    /// Where it listens.
    pub address: SocketAddr,
    stdout: Option<Output>,
    stderr: Option<Output>,
    /// Holds the configuration file.
    _launch: Launch,
}

/// A server that has ended.
#[derive(Debug)]
pub struct Stopped {
    /// How.
    pub status: ExitStatus,
    /// What it wrote on standard output after the first line.
    pub stdout: String,
    /// What it wrote on standard error.
    pub stderr: String,
}

impl Server {
    /// A `GET` of this path.
    pub fn get(&self, path: &str) -> Request {
        self.request("GET", path)
    }

    /// A `PUT` on this path.
    pub fn put(&self, path: &str) -> Request {
        self.request("PUT", path)
    }

    /// A `POST` to this path.
    pub fn post(&self, path: &str) -> Request {
        self.request("POST", path)
    }

    /// Any request.
    pub fn request(&self, method: &str, path: &str) -> Request {
        Request::new(self.address, method, path)
    }

    /// A connection on which nothing was sent yet.
    pub fn connect(&self) -> Connection {
        Connection::to(self.address)
    }

    /// The sum of a counter's series whose labels include all of these, each as `name="value"`.
    pub fn counted(&self, counter: &str, labels: &[&str]) -> u64 {
        let metrics = self.get("/metrics").send().text();
        let series = metrics.lines().filter(|line| {
            line.strip_prefix(counter).is_some_and(|rest| rest.starts_with(['{', ' ']))
                && labels.iter().all(|label| line.contains(label))
        });
        series.filter_map(|line| line.rsplit(' ').next()?.parse::<u64>().ok()).sum()
    }

    /// Whether it has written this line on standard error.
    pub fn said(&self, line: &str) -> bool {
        self.stderr.as_ref().is_some_and(|stderr| stderr.so_far().lines().any(|said| said == line))
    }

    /// Whether a line of its log contains this.
    pub fn has_logged(&self, part: &str) -> bool {
        self.stderr.as_ref().is_some_and(|stderr| stderr.so_far().lines().any(|line| line.contains(part)))
    }

    /// Sends `SIGKILL`; it is gone when this returns.
    pub fn kill(self) {
        drop(self);
    }

    /// The process.
    pub fn id(&self) -> u32 {
        self.child.as_ref().expect("it runs").id()
    }

    /// Sends `SIG…`.
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

/// What a process writes, read as it comes: a full pipe would stop it.
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
            let mut piece = [0; 4096];
            while let Ok(length @ 1..) = output.read(&mut piece) {
                read.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(&piece[..length]);
            }
        });
        Self { bytes, reader }
    }

    fn so_far(&self) -> String {
        String::from_utf8_lossy(&self.bytes.lock().unwrap_or_else(PoisonError::into_inner)).into_owned()
    }

    /// To its end.
    fn whole(self) -> String {
        let Self { bytes, reader } = self;
        reader.join().expect("the reader does not panic");
        let bytes = bytes.lock().unwrap_or_else(PoisonError::into_inner);
        String::from_utf8_lossy(&bytes).into_owned()
    }
}

/// The server's binary, built once in each process, in the profile and the directory of this test.
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
