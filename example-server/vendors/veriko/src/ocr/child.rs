//! The OCR process, which is confined because it decodes data from strangers.
//!
//! The process gets only the environment variables that locate programs and their data. It has
//! limits on memory, processor time, file size and open files. It has its own process group, which
//! is killed as a whole, so that processes it started do not outlive it.
//!
//! `sh` sets the limits before it executes the program, so they apply from the program's first
//! instruction. (Setting them between fork and exec would need `unsafe`, and setting them from
//! outside would come after the start.)

use std::env;
use std::io;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process_group};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};

/// The environment variables passed on from the server: the locations of programs, libraries and
/// language data.
const PASSED_VARIABLES: [&str; 5] = ["PATH", "LD_LIBRARY_PATH", "TESSDATA_PREFIX", "TMPDIR", "LANG"];
/// The limit of the address space. A picture of 40 million pixels takes up to 0.5 GB; libraries and
/// language data are mapped in addition.
const MAX_MEMORY_KIB: u64 = 2 * 1024 * 1024;
/// The largest file it may write, in blocks of 512 bytes. Reading a picture needs no files.
const MAX_FILE_BLOCKS: u64 = 2 * 1024;
const MAX_OPEN_FILES: u64 = 64;

/// A running program. Dropping it kills the program and everything it started.
#[derive(Debug)]
pub(super) struct ConfinedChild {
    // Fields are dropped in this order: the group is killed before its leader is reaped, while the
    // process id cannot have been reused.
    group: Group,
    child: Child,
}

impl ConfinedChild {
    /// Starts a program with pipes as its standard input and output, limited to this much processor
    /// time.
    ///
    /// # Errors
    /// If there is no `sh`, or the process cannot be created. If the program does not exist, the
    /// process ends at once with status 127.
    pub(super) fn spawn(program: &str, arguments: &[&str], processor_time: Duration) -> io::Result<Self> {
        let mut command = Command::new("/bin/sh");
        command.arg("-c").arg(script(processor_time)).arg(program).args(arguments);
        command
            .env_clear()
            .envs(PASSED_VARIABLES.iter().filter_map(|name| Some((*name, env::var_os(name)?))));
        // One picture uses one processor: the server decides how many pictures are read at a time.
        command.env("OMP_THREAD_LIMIT", "1");
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        let child = command.process_group(0).kill_on_drop(true).spawn()?;
        let leader = child.id().and_then(|id| Pid::from_raw(i32::try_from(id).ok()?));
        Ok(Self { group: Group(leader), child })
    }

    /// Takes the pipes of its standard input and output. Later calls return `None`.
    pub(super) fn pipes(&mut self) -> (Option<ChildStdin>, Option<ChildStdout>) {
        (self.child.stdin.take(), self.child.stdout.take())
    }

    /// Waits until the program ends, and kills the processes it left behind.
    ///
    /// # Cancel safety
    /// If the future is dropped, all of them are killed.
    pub(super) async fn wait(mut self) -> io::Result<ExitStatus> {
        let status = self.child.wait().await;
        self.group.kill();
        status
    }
}

/// A process group, identified by its leader.
#[derive(Debug)]
struct Group(Option<Pid>);

impl Group {
    fn kill(&mut self) {
        if let Some(leader) = self.0.take() {
            // It fails only if the group has no processes any more.
            let _ = kill_process_group(leader, Signal::KILL);
        }
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Returns the script that sets the limits and executes the program. If a limit cannot be set, the
/// script ends and the picture is not read.
fn script(processor_time: Duration) -> String {
    let seconds = processor_time.as_secs() + 1;
    // Other systems have no memory limit that `sh` could set.
    let memory =
        if cfg!(target_os = "linux") { format!("ulimit -v {MAX_MEMORY_KIB} && ") } else { String::new() };
    format!(
        "{memory}ulimit -t {seconds} && ulimit -f {MAX_FILE_BLOCKS} && ulimit -n {MAX_OPEN_FILES} && ulimit -c 0 && \
         exec \"$0\" \"$@\""
    )
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncReadExt as _;

    use super::*;

    const LONG: Duration = Duration::from_secs(20);

    fn sh(script: &str, processor_time: Duration) -> ConfinedChild {
        ConfinedChild::spawn("sh", &["-c", script], processor_time).unwrap()
    }

    /// Returns a script's output and exit status.
    async fn run(script: &str) -> (String, ExitStatus) {
        let mut child = sh(script, LONG);
        let (stdin, stdout) = child.pipes();
        drop(stdin);
        let mut printed = String::new();
        stdout.unwrap().read_to_string(&mut printed).await.unwrap();
        (printed, child.wait().await.unwrap())
    }

    #[tokio::test]
    async fn only_the_listed_environment_variables_are_passed() {
        // Cargo sets these for every test.
        assert!(env::var_os("CARGO_MANIFEST_DIR").is_some());
        let (printed, status) = run("env").await;
        let names: Vec<_> =
            printed.lines().filter_map(|line| line.split_once('=')).map(|(name, _)| name).collect();
        assert!(status.success() && names.contains(&"PATH"), "{printed}");
        // The last three are the shell's own.
        let known = |name: &&str| {
            PASSED_VARIABLES.contains(name) || ["OMP_THREAD_LIMIT", "PWD", "_", "SHLVL"].contains(name)
        };
        assert!(names.iter().all(known), "{printed}");
    }

    #[tokio::test]
    async fn the_limits_are_set() {
        let (printed, _) = run("ulimit -t; ulimit -f; ulimit -n; ulimit -c; ulimit -v").await;
        let expected = format!("21\n{MAX_FILE_BLOCKS}\n{MAX_OPEN_FILES}\n0\n");
        let memory =
            if cfg!(target_os = "linux") { format!("{MAX_MEMORY_KIB}\n") } else { "unlimited\n".into() };
        assert_eq!(printed, expected + &memory);
    }

    #[tokio::test]
    async fn the_processor_time_is_limited() {
        let child = sh("while :; do :; done", Duration::ZERO);
        assert!(!child.wait().await.unwrap().success());
    }

    /// Waits until the processes that hold this pipe as their standard output are gone, which
    /// closes it.
    async fn is_gone(mut stdout: ChildStdout) {
        let mut rest = Vec::new();
        let ended = tokio::time::timeout(LONG, stdout.read_to_end(&mut rest)).await;
        ended.expect("a started process is still running").unwrap();
    }

    #[tokio::test]
    async fn dropping_the_child_kills_everything_it_started() {
        let mut child = sh("sleep 1000 & echo started; wait", LONG);
        let (_stdin, stdout) = child.pipes();
        let mut stdout = stdout.unwrap();
        let mut line = [0; 8];
        stdout.read_exact(&mut line).await.unwrap();
        assert_eq!(&line, b"started\n");
        drop(child);
        is_gone(stdout).await;
    }

    #[tokio::test]
    async fn processes_left_behind_are_killed_when_it_ends() {
        let mut child = sh("sleep 1000 & exit 3", LONG);
        let (_stdin, stdout) = child.pipes();
        assert_eq!(child.wait().await.unwrap().code(), Some(3));
        is_gone(stdout.unwrap()).await;
    }

    #[tokio::test]
    async fn a_missing_program_ends_at_once() {
        let child = ConfinedChild::spawn("no-such-program", &[], LONG).unwrap();
        assert_eq!(child.wait().await.unwrap().code(), Some(127));
    }
}
