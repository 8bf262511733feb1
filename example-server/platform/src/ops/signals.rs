//! Signals that would end the process because of one failed write.

use std::io;

use tokio::signal::unix::{SignalKind, signal};

/// Makes a write beyond the limit on the size of files (`ulimit -f`, `LimitFSIZE=`) fail, instead of ending the process
/// by `SIGXFSZ`. `SIGPIPE` is ignored by every Rust program.
///
/// # Errors
/// The system refuses the handler.
pub fn survive_file_size_limit() -> io::Result<()> {
    // The handler stays when the listener is dropped. Unlike an ignored signal, it is not passed on to child processes.
    signal(SignalKind::from_raw(libc::SIGXFSZ)).map(drop)
}
