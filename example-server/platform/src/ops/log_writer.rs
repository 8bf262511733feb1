//! A bounded queue between the log and its output.
//!
//! Standard error can be a full disk, a pipe that nobody reads, or a pipe whose reader has gone.
//! None of these may stop a request. So a log call appends to a buffer in memory, and a thread
//! writes the buffer out. Lines that do not fit or cannot be written are dropped and counted.
//!
//! `tracing-appender` has such a queue, but it neither counts nor reports lines that could not be
//! written. If its thread is stuck at exit, it prints to standard output, which may be broken in
//! the same way.

use std::io::{self, ErrorKind, Write};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use tracing::Span;
use tracing_subscriber::fmt::MakeWriter;

/// The metric that counts dropped lines: the queue was full, or they could not be written.
pub(super) const DROPPED_LINES: &str = "log_lines_dropped_total";

/// The capacity of the queue. Up to the same amount can be in the course of being written.
const MAX_QUEUED_BYTES: usize = 4 * 1024 * 1024;
/// The delay before the next write when standard error is non-blocking and full.
const RETRY_PAUSE: Duration = Duration::from_millis(10);

/// The sending side of the queue. Clones share one queue.
#[derive(Debug, Clone)]
pub(super) struct LogWriter(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    queue: Mutex<Queue>,
    /// Notified when there is something to write.
    queued: Condvar,
    /// Notified when everything was written.
    drained: Condvar,
    dropped: AtomicU64,
}

#[derive(Debug, Default)]
struct Queue {
    lines: Vec<u8>,
    panics: Vec<Panic>,
    panic_bytes: usize,
    is_writing: bool,
}

/// A panic, as the panic hook received it.
#[derive(Debug)]
pub(super) struct Panic {
    /// The span it happened in, which names the request.
    pub(super) span: Span,
    pub(super) place: String,
    pub(super) message: String,
}

impl LogWriter {
    /// Starts the thread that writes to `output`.
    pub(super) fn start(output: impl Write + Send + 'static) -> io::Result<Self> {
        let writer = Self(Arc::default());
        let queue = writer.clone();
        thread::Builder::new().name("log".to_owned()).spawn(move || queue.write_to(output))?;
        Ok(writer)
    }

    /// Queues a panic. The log's thread formats it, because a second panic inside the panic hook
    /// would abort the process.
    pub(super) fn queue_panic(&self, panic: Panic) {
        let bytes = panic.place.len() + panic.message.len();
        let mut queue = self.lock();
        if queue.panic_bytes + bytes > MAX_QUEUED_BYTES {
            drop(queue);
            return self.count_dropped(1);
        }
        queue.panic_bytes += bytes;
        queue.panics.push(panic);
        drop(queue);
        self.0.queued.notify_one();
    }

    /// Waits until the queue is empty and written, or until the time-out.
    pub(super) fn flush(&self, within: Duration) {
        let is_busy =
            |queue: &mut Queue| queue.is_writing || !queue.lines.is_empty() || !queue.panics.is_empty();
        let waited = self.0.drained.wait_timeout_while(self.lock(), within, is_busy);
        drop(waited.unwrap_or_else(PoisonError::into_inner));
    }

    fn queue_line(&self, line: &[u8]) {
        let mut queue = self.lock();
        if queue.lines.len() + line.len() > MAX_QUEUED_BYTES {
            drop(queue);
            return self.count_dropped(1);
        }
        queue.lines.extend_from_slice(line);
        drop(queue);
        self.0.queued.notify_one();
    }

    fn count_dropped(&self, lines: u64) {
        let total = self.0.dropped.fetch_add(lines, Ordering::Relaxed) + lines;
        // Absolute, because lines can be dropped before the recorder is installed.
        metrics::counter!(DROPPED_LINES).absolute(total);
    }

    fn write_to(&self, mut output: impl Write) {
        let mut reported = 0;
        let mut in_line = false;
        let mut lines = Vec::new();
        loop {
            let panics = self.take(&mut lines);
            for Panic { span, place, message } in panics {
                span.in_scope(|| tracing::error!(place, reason = message, "panicked"));
            }
            if lines.is_empty() {
                continue;
            }
            // Ends a line that was written only in part. It has been counted as dropped.
            let inserted = usize::from(in_line);
            lines.splice(0..0, in_line.then_some(b'\n'));
            let (written, result) = write_all(&mut output, &lines);
            if let Some(last) = lines[..written].last() {
                in_line = *last != b'\n';
            }
            if result.is_err() {
                self.count_dropped(count_lines(&lines[written.max(inserted)..]));
                continue;
            }
            let dropped = self.0.dropped.load(Ordering::Relaxed);
            if dropped > reported {
                tracing::warn!(lines = dropped - reported, "log lines were dropped");
                reported = dropped;
            }
        }
    }

    /// Waits for lines or panics. Swaps the lines into `lines`, and returns the panics.
    fn take(&self, lines: &mut Vec<u8>) -> Vec<Panic> {
        lines.clear();
        let mut queue = self.lock();
        queue.is_writing = false;
        if queue.lines.is_empty() && queue.panics.is_empty() {
            self.0.drained.notify_all();
        }
        let is_idle = |queue: &mut Queue| queue.lines.is_empty() && queue.panics.is_empty();
        queue = self.0.queued.wait_while(queue, is_idle).unwrap_or_else(PoisonError::into_inner);
        queue.is_writing = true;
        queue.panic_bytes = 0;
        std::mem::swap(&mut queue.lines, lines);
        std::mem::take(&mut queue.panics)
    }

    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.0.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Write for &LogWriter {
    /// Always accepts the whole line. On an error or a short write, the subscriber would print to
    /// standard error and panic there.
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.queue_line(line);
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for LogWriter {
    type Writer = &'a Self;

    fn make_writer(&'a self) -> &'a Self {
        self
    }
}

/// Writes `bytes`, and returns how many were written and, if not all, the error.
fn write_all(output: &mut impl Write, bytes: &[u8]) -> (usize, io::Result<()>) {
    let mut written = 0;
    while written < bytes.len() {
        match output.write(&bytes[written..]) {
            Ok(0) => return (written, Err(ErrorKind::WriteZero.into())),
            Ok(more) => written += more,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) if error.kind() == ErrorKind::WouldBlock => thread::sleep(RETRY_PAUSE),
            Err(error) => return (written, Err(error)),
        }
    }
    (written, Ok(()))
}

/// Counts the lines that end in `bytes`, including one that began before.
fn count_lines(bytes: &[u8]) -> u64 {
    bytes.iter().map(|byte| u64::from(*byte == b'\n')).sum()
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{self, Receiver, Sender};

    use super::*;

    const SOON: Duration = Duration::from_secs(10);

    /// An output whose writes return when the test sends a result.
    struct Steered {
        asked: Sender<Vec<u8>>,
        answers: Receiver<io::Result<usize>>,
    }

    impl Write for Steered {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.asked.send(bytes.to_vec()).map_err(io::Error::other)?;
            self.answers.recv().map_err(io::Error::other)?
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// Returns the queue, the writes that the output receives, and the sender of their results.
    fn steered() -> (LogWriter, Receiver<Vec<u8>>, Sender<io::Result<usize>>) {
        let ((asked, asks), (answer, answers)) = (mpsc::channel(), mpsc::channel());
        (LogWriter::start(Steered { asked, answers }).unwrap(), asks, answer)
    }

    fn log(writer: &LogWriter, line: &str) {
        let mut end = writer.make_writer();
        end.write_all(line.as_bytes()).unwrap();
    }

    fn dropped(writer: &LogWriter) -> u64 {
        writer.0.dropped.load(Ordering::Relaxed)
    }

    #[test]
    fn lines_that_do_not_fit_are_dropped_and_counted_while_the_output_is_stuck() {
        let (writer, asks, answer) = steered();
        log(&writer, "first\n");
        assert_eq!(asks.recv_timeout(SOON).unwrap(), b"first\n");
        let line = format!("{}\n", "x".repeat(MAX_QUEUED_BYTES / 2 - 1));
        for _ in 0..5 {
            log(&writer, &line);
        }
        assert_eq!(dropped(&writer), 3);
        answer.send(Ok(6)).unwrap();
        assert_eq!(asks.recv_timeout(SOON).unwrap(), line.repeat(2).as_bytes());
    }

    #[test]
    fn lines_that_cannot_be_written_are_counted_and_the_next_one_begins_a_line() {
        let (writer, asks, answer) = steered();
        log(&writer, "a\n");
        assert_eq!(asks.recv_timeout(SOON).unwrap(), b"a\n");
        log(&writer, "bb\n");
        log(&writer, "cc\n");
        answer.send(Ok(2)).unwrap();
        assert_eq!(asks.recv_timeout(SOON).unwrap(), b"bb\ncc\n");
        answer.send(Ok(4)).unwrap();
        assert_eq!(asks.recv_timeout(SOON).unwrap(), b"c\n");
        log(&writer, "d\n");
        log(&writer, "e\n");
        answer.send(Err(ErrorKind::StorageFull.into())).unwrap();
        assert_eq!(asks.recv_timeout(SOON).unwrap(), b"\nd\ne\n");
        assert_eq!(dropped(&writer), 1);
        log(&writer, "f\n");
        answer.send(Err(ErrorKind::StorageFull.into())).unwrap();
        assert_eq!(asks.recv_timeout(SOON).unwrap(), b"\nf\n");
        assert_eq!(dropped(&writer), 3);
        answer.send(Ok(3)).unwrap();
        writer.flush(SOON);
        assert_eq!(dropped(&writer), 3);
    }

    #[test]
    fn a_flush_waits_for_the_output_and_not_for_ever() {
        let (writer, asks, answer) = steered();
        writer.flush(SOON);
        log(&writer, "a\n");
        asks.recv_timeout(SOON).unwrap();
        writer.flush(Duration::from_millis(1));
        let flushed = writer.clone();
        let flushing = thread::spawn(move || flushed.flush(Duration::MAX));
        answer.send(Ok(2)).unwrap();
        flushing.join().unwrap();
    }
}
