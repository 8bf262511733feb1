//! The log, on standard error.

use std::fs::File;
use std::io::{self, IsTerminal};
use std::os::fd::AsFd;
use std::panic::PanicHookInfo;
use std::time::Duration;

use tracing::Span;
use tracing_subscriber::filter::{EnvFilter, LevelFilter};

use super::log_writer::{LogWriter, Panic};

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum LogFormat {
    /// One object a line.
    Json,
    /// For people.
    Text,
}

/// How long the end of the program waits for the last lines to be written.
const FLUSH_WITHIN: Duration = Duration::from_secs(1);

/// The running log. When dropped, it waits for the last lines, for a second at most.
#[derive(Debug)]
#[must_use = "the last lines are lost if nobody waits for them"]
pub struct Log(LogWriter);

/// Starts the log. `RUST_LOG` says what it holds; without it, `info` and up.
///
/// No request waits for it, and nothing fails because of it: lines that cannot be written are dropped and counted.
///
/// # Errors
/// The system has no thread or no file descriptor left.
pub fn install(format: LogFormat) -> io::Result<Log> {
    // Not `io::stderr`, whose lock a stuck write would keep from everybody else.
    let output = File::from(io::stderr().as_fd().try_clone_to_owned()?);
    let writer = LogWriter::start(output)?;
    let filter = EnvFilter::builder().with_default_directive(LevelFilter::INFO.into()).from_env_lossy();
    let log = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .log_internal_errors(false)
        .with_writer(writer.clone());
    // A second subscriber in one process is no reason not to serve; there is none outside of tests.
    let _ = match format {
        LogFormat::Text => log.with_ansi(io::stderr().is_terminal()).try_init(),
        LogFormat::Json => log.json().try_init(),
    };
    let queue = writer.clone();
    std::panic::set_hook(Box::new(move |panic| queue.queue_panic(describe(panic))));
    Ok(Log(writer))
}

impl Drop for Log {
    fn drop(&mut self) {
        self.0.flush(FLUSH_WITHIN);
    }
}

/// A panic is a line of the log as any other, or a JSON log would have holes.
fn describe(panic: &PanicHookInfo<'_>) -> Panic {
    Panic {
        span: Span::current(),
        place: panic.location().map(ToString::to_string).unwrap_or_default(),
        message: panic.payload_as_str().unwrap_or_default().to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use std::env;
    use std::fs::OpenOptions;
    use std::process::{Command, Output, Stdio};
    use std::thread;

    use super::*;

    const IS_CHILD: &str = "LOG_TEST_IS_CHILD";
    const SURVIVED: i32 = 42;

    #[test]
    fn a_panic_is_a_line_of_the_log_and_not_the_end_where_there_can_be_none() {
        const NAME: &str =
            concat!(module_path!(), "::a_panic_is_a_line_of_the_log_and_not_the_end_where_there_can_be_none");
        if env::var_os(IS_CHILD).is_some() {
            panic_with_a_log();
        }
        let output = child(NAME, Stdio::piped());
        let log = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(SURVIVED), "{log}");
        let line = log.lines().find(|line| line.contains("panicked")).unwrap_or_else(|| panic!("{log}"));
        for part in [r#""message":"panicked""#, "the reason", "log.rs", r#""name":"a request""#] {
            assert!(line.contains(part), "{part} in {line}");
        }
        let full = OpenOptions::new().write(true).open("/dev/full").unwrap();
        assert_eq!(child(NAME, full.into()).status.code(), Some(SURVIVED));
    }

    /// This test once more, in a process of its own: hook and log are the process's.
    fn child(name: &str, stderr: Stdio) -> Output {
        let (_, test) = name.split_once("::").unwrap();
        let mut command = Command::new(env::current_exe().unwrap());
        let command = command.args(["--exact", test, "--nocapture"]).env(IS_CHILD, "");
        command.stdout(Stdio::null()).stderr(stderr).spawn().unwrap().wait_with_output().unwrap()
    }

    fn panic_with_a_log() -> ! {
        let log = install(LogFormat::Json).unwrap();
        let panicked = thread::spawn(|| tracing::info_span!("a request").in_scope(|| panic!("the reason")));
        assert!(panicked.join().is_err());
        drop(log);
        std::process::exit(SURVIVED);
    }
}
