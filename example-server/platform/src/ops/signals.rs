//! Signals that would end the process after a failed write.

use std::io;

use tokio::signal::unix::{SignalKind, signal};

/// Makes a write beyond the file size limit (`ulimit -f`, `LimitFSIZE=`) fail, instead of ending
/// the process with `SIGXFSZ`. Rust programs ignore `SIGPIPE` by default.
///
/// # Errors
///
/// If the handler cannot be installed.
pub fn survive_file_size_limit() -> io::Result<()> {
    // The handler stays installed when the listener is dropped. Unlike an ignored signal, child
    // processes do not inherit it.
    signal(SignalKind::from_raw(libc::SIGXFSZ)).map(drop)
}
