//! A carrier called over HTTP.
//!
//! Each attempt is a `POST` of `multipart/form-data` to the configured URL. It has two parts:
//! `job`, a JSON object with `fax_id`, `to`, `attempt`, `media_type`, `bytes` and `sha256`, and
//! `document`, the document's bytes. The `Idempotency-Key` identifies the attempt: the carrier must
//! treat requests with the same key as one attempt and send the fax once.
//!
//! The response is 200 with one of these bodies:
//!
//! ```json
//! {"status":"delivered","pages":2}
//! {"status":"failed","error_code":"busy","error_message":"The line was busy.","retryable":true}
//! ```
//!
//! Any other response, or none within the time-out, leaves the outcome unknown. The next attempt
//! then waits for the response's `Retry-After`, at most a day.

use std::path::Path;
use std::time::Duration;

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use http::{HeaderName, StatusCode, header};
use http_body_util::StreamBody;
use reqwest::{Body, Client};
use serde::{Deserialize, Serialize};
use tokio::fs::File;
use tokio::io::AsyncReadExt;
use tokio::time::timeout;
use url::Url;
use uuid::Uuid;

use super::{Carrier, Job, Sent};
use crate::send_failure::{
    BUSY, CARRIER_ERROR, INVALID_NUMBER, LINE_QUALITY, NO_ANSWER, NO_ANSWER_OF_CARRIER, NO_DOCUMENT,
    SendFailure, TRANSIENT,
};
use platform::{retry_after, tls};

/// A carrier that forwards faxes to a configured HTTP service.
#[derive(Debug)]
pub(crate) struct HttpCarrier {
    client: Client,
    url: Url,
    answer_timeout: Duration,
}

const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");
/// The maximum size of a response, in bytes.
const MAX_ANSWER: usize = 64 * 1024;
/// The maximum lengths of the carrier's error code and error message, in characters. Longer ones
/// are truncated.
const MAX_CODE: usize = 64;
const MAX_MESSAGE: usize = 500;
/// The buffer size for reading the document, in bytes.
const BUFFER: usize = 64 * 1024;

impl HttpCarrier {
    /// Creates a carrier at this URL.
    ///
    /// # Errors
    /// If the HTTP client cannot be built.
    pub(crate) fn new(url: Url, answer_timeout: Duration) -> reqwest::Result<Self> {
        let client = tls::client_builder()
            .redirect(reqwest::redirect::Policy::none())
            .retry(reqwest::retry::never())
            .user_agent(concat!("example-server/", env!("CARGO_PKG_VERSION")))
            .build()?;
        Ok(Self { client, url, answer_timeout })
    }

    async fn ask(&self, job: &Job<'_>) -> Result<Verdict, CallError> {
        let boundary = Uuid::new_v4().simple().to_string();
        let request = self
            .client
            .post(self.url.clone())
            .header(IDEMPOTENCY_KEY, &job.key)
            .header(header::CONTENT_TYPE, format!("multipart/form-data; boundary={boundary}"));
        let (length, body) = body(job, &boundary).await.map_err(|error| CallError::of_document(&error))?;
        let request = request.header(header::CONTENT_LENGTH, length).body(body);
        let mut response = request.send().await.map_err(|_| CallError::OUTCOME_UNKNOWN)?;
        if response.status() != StatusCode::OK {
            return Err(CallError::OutcomeUnknown { retry_after: retry_after::asked(response.headers()) });
        }
        let mut answer = BytesMut::new();
        while let Some(chunk) = response.chunk().await.map_err(|_| CallError::OUTCOME_UNKNOWN)? {
            if answer.len() + chunk.len() > MAX_ANSWER {
                return Err(CallError::OUTCOME_UNKNOWN);
            }
            answer.extend_from_slice(&chunk);
        }
        serde_json::from_slice(&answer).map_err(|_| CallError::OUTCOME_UNKNOWN)
    }
}

#[async_trait]
impl Carrier for HttpCarrier {
    /// Returns 1: only the carrier counts the pages.
    fn expected_pages(&self, _: &str) -> u32 {
        1
    }

    async fn send(&self, job: &Job<'_>) -> Sent {
        match timeout(self.answer_timeout, self.ask(job)).await {
            Ok(Ok(Verdict::Delivered { pages })) => Sent::Delivered { pages },
            Ok(Ok(Verdict::Failed(failure))) => Sent::Failed(failure.into()),
            Ok(Err(CallError::OutcomeUnknown { retry_after })) => {
                Sent::Failed(CARRIER_ERROR.retry_after(retry_after))
            }
            Ok(Err(CallError::NoDocument)) => {
                Sent::Failed(NO_DOCUMENT.retry_after(Some(MISSING_DOCUMENT_RETRY)))
            }
            Ok(Err(CallError::Unreadable)) => Sent::Unreadable,
            Err(_) => Sent::Failed(NO_ANSWER_OF_CARRIER),
        }
    }
}

enum CallError {
    OutcomeUnknown {
        retry_after: Option<Duration>,
    },
    /// The document's file does not exist.
    NoDocument,
    /// The document exists but cannot be opened: the process has too many open files, or lacks the
    /// permission.
    Unreadable,
}

impl CallError {
    const OUTCOME_UNKNOWN: Self = Self::OutcomeUnknown { retry_after: None };

    fn of_document(error: &std::io::Error) -> Self {
        if error.kind() == std::io::ErrorKind::NotFound { Self::NoDocument } else { Self::Unreadable }
    }
}

/// The delay before an attempt is repeated when the document's file does not exist.
const MISSING_DOCUMENT_RETRY: Duration = Duration::from_secs(30);

#[derive(Deserialize)]
#[serde(tag = "status", rename_all = "lowercase")]
enum Verdict {
    Delivered {
        #[serde(default = "one")]
        pages: u32,
    },
    Failed(Failure),
}

const fn one() -> u32 {
    1
}

#[derive(Deserialize)]
struct Failure {
    error_code: Option<String>,
    error_message: Option<String>,
    retryable: Option<bool>,
}

/// Uses the carrier's code and message where it sent them, or else ours.
impl From<Failure> for SendFailure {
    fn from(failure: Failure) -> Self {
        let code = failure.error_code.filter(|code| !code.is_empty()).map(|code| short(&code, MAX_CODE));
        let known = [BUSY, NO_ANSWER, LINE_QUALITY, INVALID_NUMBER];
        let known = known.into_iter().find(|error| Some(&*error.code) == code.as_deref());
        let mut error = known.unwrap_or(TRANSIENT);
        if let Some(code) = code {
            error.code = code.into();
        }
        if let Some(message) = failure.error_message {
            error.message = short(&message, MAX_MESSAGE).into();
        }
        error.is_terminal = failure.retryable.map_or(error.is_terminal, |retryable| !retryable);
        error
    }
}

/// Truncates the text, and removes NUL, which PostgreSQL cannot store.
fn short(text: &str, max: usize) -> String {
    text.chars().filter(|c| *c != '\0').take(max).collect()
}

#[derive(Serialize)]
struct Description<'a> {
    fax_id: &'a str,
    to: &'a str,
    attempt: u32,
    media_type: &'static str,
    bytes: u64,
    sha256: &'a str,
}

/// Returns the length of the body and the body, which streams the document from the disk.
async fn body(job: &Job<'_>, boundary: &str) -> std::io::Result<(u64, Body)> {
    let document = &job.fax.document;
    let description = Description {
        fax_id: job.fax.id.as_str(),
        to: &job.fax.to,
        attempt: job.fax.begun,
        media_type: document.media_type.as_str(),
        bytes: document.bytes,
        sha256: &document.sha256,
    };
    let description = serde_json::to_string(&description).expect("plain fields serialise");
    let before = format!(
        "--{boundary}\r\nContent-Disposition: form-data; name=\"job\"\r\nContent-Type: application/json\r\n\r\n\
         {description}\r\n--{boundary}\r\nContent-Disposition: form-data; name=\"document\"; filename=\"document\"\r\n\
         Content-Type: {}\r\n\r\n",
        document.media_type,
    );
    let after = format!("\r\n--{boundary}--\r\n");
    let length = before.len() as u64 + document.bytes + after.len() as u64;
    let file = open(job.document).await?;
    Ok((length, Body::wrap(StreamBody::new(stream(before.into(), file, after.into())))))
}

async fn open(path: &Path) -> std::io::Result<File> {
    File::open(path).await
}

fn stream(
    before: Bytes,
    file: File,
    after: Bytes,
) -> impl futures_util::Stream<Item = std::io::Result<http_body::Frame<Bytes>>> + Send + Sync {
    enum Next {
        Before(Bytes, File, Bytes),
        Document(File, Bytes),
        Done,
    }
    futures_util::stream::try_unfold(Next::Before(before, file, after), |next| async move {
        Ok(match next {
            Next::Before(before, file, after) => Some((before, Next::Document(file, after))),
            Next::Document(mut file, after) => {
                let mut chunk = BytesMut::with_capacity(BUFFER);
                match file.read_buf(&mut chunk).await? {
                    0 => Some((after, Next::Done)),
                    _ => Some((chunk.freeze(), Next::Document(file, after))),
                }
            }
            Next::Done => None,
        }
        .map(|(bytes, next)| (http_body::Frame::data(bytes), next)))
    })
}
