//! The program that reads pictures, confined: what it decodes was made by strangers.
//!
//! It gets none of the server's environment but what finds programs and their data, bounds on memory, processor time,
//! files and open files, and a process group of its own, which is killed as a whole: what it started itself does not
//! outlive it.
//!
//! The bounds are set by `sh` before it becomes the program, so they hold from the program's first instruction. (Setting
//! them between fork and exec would take `unsafe`, and from outside would come after the start.)

use std::env;
use std::io;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process_group};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};

/// The variables a program is given, of those the server has: where programs, libraries and languages are.
const PASSED: [&str; 5] = ["PATH", "LD_LIBRARY_PATH", "TESSDATA_PREFIX", "TMPDIR", "LANG"];
/// Address space. A picture of 40 million pixels takes up to 0.5 GB; libraries and languages are mapped on top.
const MAX_MEMORY_KIB: u64 = 2 * 1024 * 1024;
/// The largest file it may write, in blocks of 512 bytes: nothing of a picture needs one.
const MAX_FILE_BLOCKS: u64 = 2 * 1024;
const MAX_OPEN_FILES: u64 = 64;

/// A program that runs. Dropped, it and all that it started are killed.
#[derive(Debug)]
pub(super) struct ConfinedChild {
    // In this order, so that the group is killed while its leader is not reaped and its number nobody else's.
    group: Group,
    child: Child,
}

impl ConfinedChild {
    /// Starts a program with pipes as its standard input and output, for at most so much processor time.
    ///
    /// # Errors
    /// There is no `sh`, or no process can be made. A program that is not there ends at once, with status 127.
    pub(super) fn spawn(program: &str, arguments: &[&str], processor_time: Duration) -> io::Result<Self> {
        let mut command = Command::new("/bin/sh");
        command.arg("-c").arg(script(processor_time)).arg(program).args(arguments);
        command.env_clear().envs(PASSED.iter().filter_map(|name| Some((*name, env::var_os(name)?))));
        // One picture, one processor: how many there are at a time is for us to say.
        command.env("OMP_THREAD_LIMIT", "1");
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        let child = command.process_group(0).kill_on_drop(true).spawn()?;
        let leader = child.id().and_then(|id| Pid::from_raw(i32::try_from(id).ok()?));
        Ok(Self { group: Group(leader), child })
    }

    /// Its standard input and output, the first time.
    pub(super) fn pipes(&mut self) -> (Option<ChildStdin>, Option<ChildStdout>) {
        (self.child.stdin.take(), self.child.stdout.take())
    }

    /// Waits until it ends, and kills what it has left behind.
    ///
    /// # Cancel safety
    /// Dropped, all of it is killed with this.
    pub(super) async fn wait(mut self) -> io::Result<ExitStatus> {
        let status = self.child.wait().await;
        self.group.kill();
        status
    }
}

/// A process group, by its leader.
#[derive(Debug)]
struct Group(Option<Pid>);

impl Group {
    fn kill(&mut self) {
        if let Some(leader) = self.0.take() {
            // An error says that nobody is left in it.
            let _ = kill_process_group(leader, Signal::KILL);
        }
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Sets the bounds and becomes the program. One that cannot be set ends it, and the picture is not read.
fn script(processor_time: Duration) -> String {
    let seconds = processor_time.as_secs() + 1;
    // Elsewhere the system has no bound on memory that `sh` could set.
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

    /// What a script prints, and how it ends.
    async fn run(script: &str) -> (String, ExitStatus) {
        let mut child = sh(script, LONG);
        let (stdin, stdout) = child.pipes();
        drop(stdin);
        let mut printed = String::new();
        stdout.unwrap().read_to_string(&mut printed).await.unwrap();
        (printed, child.wait().await.unwrap())
    }

    #[tokio::test]
    async fn it_sees_nothing_of_the_environment_but_where_things_are() {
        // Cargo sets these for every test.
        assert!(env::var_os("CARGO_MANIFEST_DIR").is_some());
        let (printed, status) = run("env").await;
        let names: Vec<_> =
            printed.lines().filter_map(|line| line.split_once('=')).map(|(name, _)| name).collect();
        assert!(status.success() && names.contains(&"PATH"), "{printed}");
        // The last three are the shell's own.
        let known =
            |name: &&str| PASSED.contains(name) || ["OMP_THREAD_LIMIT", "PWD", "_", "SHLVL"].contains(name);
        assert!(names.iter().all(known), "{printed}");
    }

    #[tokio::test]
    async fn it_has_bounds() {
        let (printed, _) = run("ulimit -t; ulimit -f; ulimit -n; ulimit -c; ulimit -v").await;
        let expected = format!("21\n{MAX_FILE_BLOCKS}\n{MAX_OPEN_FILES}\n0\n");
        let memory =
            if cfg!(target_os = "linux") { format!("{MAX_MEMORY_KIB}\n") } else { "unlimited\n".into() };
        assert_eq!(printed, expected + &memory);
    }

    #[tokio::test]
    async fn its_processor_time_is_bounded() {
        let child = sh("while :; do :; done", Duration::ZERO);
        assert!(!child.wait().await.unwrap().success());
    }

    /// The end of a pipe that a process holds as its standard output is seen when it is gone.
    async fn is_gone(mut stdout: ChildStdout) {
        let mut rest = Vec::new();
        let ended = tokio::time::timeout(LONG, stdout.read_to_end(&mut rest)).await;
        ended.expect("what it started runs on").unwrap();
    }

    #[tokio::test]
    async fn dropped_it_goes_with_all_that_it_started() {
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
    async fn what_it_leaves_behind_when_it_ends_goes_too() {
        let mut child = sh("sleep 1000 & exit 3", LONG);
        let (_stdin, stdout) = child.pipes();
        assert_eq!(child.wait().await.unwrap().code(), Some(3));
        is_gone(stdout.unwrap()).await;
    }

    #[tokio::test]
    async fn a_program_that_is_not_there_ends_at_once() {
        let child = ConfinedChild::spawn("no-such-program", &[], LONG).unwrap();
        assert_eq!(child.wait().await.unwrap().code(), Some(127));
    }
}
