//! The log on standard error.

use std::fs::File;
use std::io::{self, IsTerminal};
use std::os::fd::AsFd;
use std::panic::PanicHookInfo;
use std::time::Duration;

use tracing::Span;
use tracing_subscriber::filter::{EnvFilter, LevelFilter};

use super::log_writer::{LogWriter, Panic};

/// The format of log lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum LogFormat {
    /// One JSON object per line.
    Json,
    /// Human-readable text.
    Text,
}

/// The time-out for writing the last lines at exit.
const FLUSH_WITHIN: Duration = Duration::from_secs(1);

/// A guard for the running log. When dropped, it waits up to a second for the last lines to be
/// written.
#[derive(Debug)]
#[must_use = "when dropped, it flushes the log"]
pub struct Log(LogWriter);

/// Starts the log. `RUST_LOG` sets the filter; the default is `info`.
///
/// Logging never blocks and never fails. Lines that cannot be written are dropped and counted.
///
/// # Errors
///
/// If the system has no thread or no file descriptor left.
pub fn install(format: LogFormat) -> io::Result<Log> {
    // Not `io::stderr`: a blocked write would hold its lock, and block everyone else.
    let output = File::from(io::stderr().as_fd().try_clone_to_owned()?);
    let writer = LogWriter::start(output)?;
    let filter = EnvFilter::builder().with_default_directive(LevelFilter::INFO.into()).from_env_lossy();
    let log = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .log_internal_errors(false)
        .with_writer(writer.clone());
    // Fails only if a subscriber is installed already, which happens in tests only.
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

/// Describes a panic for the log. The default hook would write lines that are not JSON.
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
    fn a_panic_is_logged_and_does_not_abort_if_the_log_cannot_be_written() {
        const NAME: &str =
            concat!(module_path!(), "::a_panic_is_logged_and_does_not_abort_if_the_log_cannot_be_written");
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

    /// Runs the named test in a child process, because panic hook and log are global.
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
