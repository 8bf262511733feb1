//! Text recognition with `tesseract`, one process per picture.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::sync::{OnceCell, Semaphore};
use tokio::task::spawn_blocking;
use tokio::time::timeout;

use super::child::ConfinedChild;
use super::{Picture, Reading, RecogniseError, Recogniser, rows};
use crate::config;

/// The maximum length of the output. A page of text has about ten kilobytes.
const MAX_OUTPUT: u64 = 4 * 1024 * 1024;
/// The time-out for listing the installed languages.
const LIST_TIMEOUT: Duration = Duration::from_secs(5);

/// Reads pictures with `tesseract`. Pictures and words are passed through pipes, so nothing of a
/// receipt is written to a file.
#[derive(Debug)]
pub(crate) struct Tesseract {
    program: String,
    configured: String,
    /// The configured languages that are installed, once known; `None` if the program is not
    /// installed.
    languages: OnceCell<Option<String>>,
    timeout: Duration,
    /// Limits concurrent decoding and recognition. Each takes a processor and up to some hundreds
    /// of megabytes.
    permits: Arc<Semaphore>,
}

impl Tesseract {
    /// Creates a recogniser with the configured program, which is not looked for yet.
    pub(crate) fn new(config: &config::Ocr) -> Self {
        Self {
            program: config.program.clone(),
            configured: config.languages.clone(),
            languages: OnceCell::new(),
            timeout: config.timeout(),
            permits: Arc::new(Semaphore::new(config.concurrency.get())),
        }
    }

    /// Returns the languages to recognise. The first call looks for the program, and logs a warning
    /// if it is not installed.
    async fn find(&self) -> Option<&str> {
        let languages = self.languages.get_or_init(async || {
            let listed = timeout(LIST_TIMEOUT, installed(&self.program)).await;
            let languages =
                listed.ok().and_then(Result::ok).and_then(|listed| available(&self.configured, &listed));
            if languages.is_none() {
                tracing::warn!(
                    program = self.program,
                    languages = self.configured,
                    "receipts cannot be read: the program, or a language for it, is not installed"
                );
            }
            languages
        });
        languages.await.as_deref()
    }

    async fn words(&self, languages: &str, pgm: Vec<u8>) -> Result<String, RecogniseError> {
        let failed = |error: io::Error| RecogniseError::Failed(error.to_string());
        // Page segmentation mode 4 assumes a single column; the words are grouped into rows
        // afterwards.
        let arguments = ["stdin", "stdout", "-l", languages, "--dpi", "300", "--psm", "4", "tsv"];
        let mut child = ConfinedChild::spawn(&self.program, &arguments, self.timeout).map_err(failed)?;
        let (mut stdin, stdout) = child.pipes();
        let write = async {
            if let Some(stdin) = &mut stdin {
                // If the program stops reading early, its exit status shows the error.
                let _ = stdin.write_all(&pgm).await;
            }
            drop(stdin);
        };
        let read = async {
            let mut output = Vec::new();
            if let Some(stdout) = stdout {
                stdout.take(MAX_OUTPUT).read_to_end(&mut output).await?;
            }
            io::Result::Ok(output)
        };
        let ((), output) = tokio::join!(write, read);
        let output = output.map_err(failed)?;
        let status = child.wait().await.map_err(failed)?;
        if !status.success() {
            return Err(RecogniseError::Failed(status.to_string()));
        }
        Ok(String::from_utf8_lossy(&output).into_owned())
    }
}

#[async_trait]
impl Recogniser for Tesseract {
    async fn prepare(&self) {
        self.find().await;
    }

    async fn read(&self, picture: Picture) -> Result<Reading, RecogniseError> {
        let languages = self.find().await.ok_or(RecogniseError::Missing)?;
        let reading = async {
            let permit = Arc::clone(&self.permits).acquire_owned().await;
            // The blocking task holds the permit, so that it stays taken until decoding ends, even
            // if this future is dropped.
            let decoded = spawn_blocking(move || (picture.to_pgm(), permit)).await;
            let (pgm, _permit) = decoded.map_err(|error| RecogniseError::Failed(error.to_string()))?;
            let table = self.words(languages, pgm?).await?;
            Ok(rows::reading(&table))
        };
        timeout(self.timeout, reading).await.unwrap_or(Err(RecogniseError::Timeout))
    }
}

/// Returns the output of `--list-langs`: a heading, then one language per line.
async fn installed(program: &str) -> io::Result<String> {
    let mut child = ConfinedChild::spawn(program, &["--list-langs"], LIST_TIMEOUT)?;
    let (_, stdout) = child.pipes();
    let mut listed = Vec::new();
    if let Some(stdout) = stdout {
        stdout.take(MAX_OUTPUT).read_to_end(&mut listed).await?;
    }
    child.wait().await?;
    Ok(String::from_utf8_lossy(&listed).into_owned())
}

/// Returns the configured languages that are installed, in the configured order.
fn available(configured: &str, listed: &str) -> Option<String> {
    let installed: Vec<&str> = listed.lines().map(str::trim).collect();
    let known: Vec<&str> = configured.split('+').filter(|language| installed.contains(language)).collect();
    (!known.is_empty()).then(|| known.join("+"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_configured_languages_that_are_installed_are_used() {
        let listed = "List of available languages in \"/x/\" (3):\neng\nosd\nspa\n";
        for (configured, expected) in [
            ("spa+eng", Some("spa+eng")),
            ("nah+spa", Some("spa")),
            ("eng", Some("eng")),
            ("nah", None),
            ("", None),
        ] {
            assert_eq!(available(configured, listed).as_deref(), expected, "{configured}");
        }
    }
}
