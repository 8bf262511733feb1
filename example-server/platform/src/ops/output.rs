//! Writes to standard output and standard error that cannot block the program.

use std::error::Error;
use std::fs::File;
use std::io::{self, ErrorKind, Write};
use std::os::fd::AsFd;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

/// The time-out for writing a line. A full pipe accepts nothing until somebody reads it.
const WRITE_WITHIN: Duration = Duration::from_secs(1);

/// Writes a line, or gives up after a second.
///
/// # Errors
///
/// If the line could not be written, or not in time. After a time-out, it may still be written
/// later.
pub fn write_line(stream: &impl AsFd, line: &str) -> io::Result<()> {
    // Not through the stream itself: a blocked write would hold its lock and its buffer.
    let mut output = File::from(stream.as_fd().try_clone_to_owned()?);
    let line = format!("{line}\n");
    let (done, result) = mpsc::channel();
    thread::Builder::new().name("output".to_owned()).spawn(move || {
        let _ = done.send(output.write_all(line.as_bytes()));
    })?;
    result.recv_timeout(WRITE_WITHIN).unwrap_or_else(|_| Err(ErrorKind::TimedOut.into()))
}

/// Writes the error that ends the program to standard error, with every cause. Ignores a failed
/// write.
pub fn report_error(error: &(dyn Error + 'static)) {
    let _ = write_line(&io::stderr(), &format!("example-server: {}", with_causes(error)));
}

/// Returns the error and its causes, outermost first. Omits a cause that the text before it
/// includes.
fn with_causes(error: &(dyn Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let described = error.to_string();
        if !text.ends_with(&described) {
            text = format!("{text}: {described}");
        }
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("{text}")]
    struct Caused {
        text: &'static str,
        #[source]
        cause: Option<Box<Caused>>,
    }

    #[test]
    fn an_error_is_written_with_each_cause_once() {
        let chain = ["cannot start: no file", "no file", "the disk is gone"];
        let error = chain.into_iter().rev().fold(None, |cause, text| Some(Box::new(Caused { text, cause })));
        assert_eq!(with_causes(&*error.unwrap()), "cannot start: no file: the disk is gone");
    }
}
