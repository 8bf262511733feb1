//! The program `tesseract`, one process for each picture.

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

/// What a picture's words may take. A page of text is some ten kilobytes.
const MAX_OUTPUT: u64 = 4 * 1024 * 1024;
/// How long it may take to say which languages it knows.
const TO_LIST: Duration = Duration::from_secs(5);

/// Has `tesseract` read pictures. It is given them, and gives their words back, through pipes: nothing of a receipt comes
/// to lie in a file.
#[derive(Debug)]
pub(crate) struct Tesseract {
    program: String,
    wanted: String,
    /// Those wanted that are installed, once that is known; `None`: the program is not.
    languages: OnceCell<Option<String>>,
    timeout: Duration,
    /// Decoding and reading: each takes a processor and up to some hundreds of megabytes.
    places: Arc<Semaphore>,
}

impl Tesseract {
    /// The program of the configuration, which nobody has looked for yet.
    pub(crate) fn new(config: &config::Ocr) -> Self {
        Self {
            program: config.program.clone(),
            wanted: config.languages.clone(),
            languages: OnceCell::new(),
            timeout: config.timeout(),
            places: Arc::new(Semaphore::new(config.concurrency.get())),
        }
    }

    /// Looks for the program, once, and says in the log if it is not there. In which languages it reads.
    async fn find(&self) -> Option<&str> {
        let languages = self.languages.get_or_init(async || {
            let listed = timeout(TO_LIST, installed(&self.program)).await;
            let languages = listed.ok().and_then(Result::ok).and_then(|listed| chosen(&self.wanted, &listed));
            if languages.is_none() {
                tracing::warn!(
                    program = self.program,
                    languages = self.wanted,
                    "receipts cannot be read: the program, or a language for it, is not installed"
                );
            }
            languages
        });
        languages.await.as_deref()
    }

    async fn words(&self, languages: &str, pgm: Vec<u8>) -> Result<String, RecogniseError> {
        let failed = |error: io::Error| RecogniseError::Failed(error.to_string());
        // Of a page without columns, which its words are put in rows of afterwards.
        let arguments = ["stdin", "stdout", "-l", languages, "--dpi", "300", "--psm", "4", "tsv"];
        let mut child = ConfinedChild::spawn(&self.program, &arguments, self.timeout).map_err(failed)?;
        let (mut stdin, stdout) = child.pipes();
        let write = async {
            if let Some(stdin) = &mut stdin {
                // A program that does not read to the end says so by how it ends.
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
            let place = Arc::clone(&self.places).acquire_owned().await;
            // Also where nobody waits for it any more, what is decoded has a place until it is.
            let decoded = spawn_blocking(move || (picture.to_pgm(), place)).await;
            let (pgm, _place) = decoded.map_err(|error| RecogniseError::Failed(error.to_string()))?;
            let table = self.words(languages, pgm?).await?;
            Ok(rows::reading(&table))
        };
        timeout(self.timeout, reading).await.unwrap_or(Err(RecogniseError::Timeout))
    }
}

/// What `--list-langs` lists, a line each below a heading.
async fn installed(program: &str) -> io::Result<String> {
    let mut child = ConfinedChild::spawn(program, &["--list-langs"], TO_LIST)?;
    let (_, stdout) = child.pipes();
    let mut listed = Vec::new();
    if let Some(stdout) = stdout {
        stdout.take(MAX_OUTPUT).read_to_end(&mut listed).await?;
    }
    child.wait().await?;
    Ok(String::from_utf8_lossy(&listed).into_owned())
}

/// Those wanted that are installed, in their order.
fn chosen(wanted: &str, listed: &str) -> Option<String> {
    let installed: Vec<&str> = listed.lines().map(str::trim).collect();
    let known: Vec<&str> = wanted.split('+').filter(|language| installed.contains(language)).collect();
    (!known.is_empty()).then(|| known.join("+"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_the_languages_wanted_those_installed_are_taken() {
        let listed = "List of available languages in \"/x/\" (3):\neng\nosd\nspa\n";
        for (wanted, expected) in [
            ("spa+eng", Some("spa+eng")),
            ("nah+spa", Some("spa")),
            ("eng", Some("eng")),
            ("nah", None),
            ("", None),
        ] {
            assert_eq!(chosen(wanted, listed).as_deref(), expected, "{wanted}");
        }
    }
}
