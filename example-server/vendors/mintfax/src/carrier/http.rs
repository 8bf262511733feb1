//! A carrier that is asked over HTTP.
//!
//! Each attempt is a `POST` of `multipart/form-data` to the configured URL, in two parts: `job`, JSON of
//! `fax_id`, `to`, `attempt`, `media_type`, `bytes` and `sha256`, and `document`, the bytes, whose `Content-Type` has the character set that the sender of a text named. `Idempotency-Key` is the
//! attempt's: two requests with the same key are the same attempt, which is to be sent once. The answer is 200 with
//! `{"status":"delivered","pages":2}`, or
//! `{"status":"failed","error_code":"busy","error_message":"The line was busy.","retryable":true}`. Any other answer, or
//! none in time, says nothing of what came of the attempt; the next one is not made before its `Retry-After`, of a day at
//! the most.

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

/// Sends faxes by asking somebody else to.
#[derive(Debug)]
pub(crate) struct HttpCarrier {
    client: Client,
    url: Url,
    patience: Duration,
}

const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");
/// What is read of an answer.
const MAX_ANSWER: usize = 64 * 1024;
/// The longest code and the longest sentence that are taken over, in characters.
const MAX_CODE: usize = 64;
const MAX_MESSAGE: usize = 500;
/// What is read of the document at a time.
const PIECE: usize = 64 * 1024;

impl HttpCarrier {
    /// # Errors
    /// There is no client to ask with.
    pub(crate) fn new(url: Url, patience: Duration) -> reqwest::Result<Self> {
        let client = tls::client_builder()
            .redirect(reqwest::redirect::Policy::none())
            .retry(reqwest::retry::never())
            .user_agent(concat!("example-server/", env!("CARGO_PKG_VERSION")))
            .build()?;
        Ok(Self { client, url, patience })
    }

    async fn ask(&self, job: &Job<'_>) -> Result<Verdict, NoVerdict> {
        let boundary = Uuid::new_v4().simple().to_string();
        let request = self
            .client
            .post(self.url.clone())
            .header(IDEMPOTENCY_KEY, &job.key)
            .header(header::CONTENT_TYPE, format!("multipart/form-data; boundary={boundary}"));
        let (length, body) = body(job, &boundary).await.map_err(|error| NoVerdict::of_document(&error))?;
        let request = request.header(header::CONTENT_LENGTH, length).body(body);
        let mut response = request.send().await.map_err(|_| NoVerdict::UNHEARD)?;
        if response.status() != StatusCode::OK {
            return Err(NoVerdict::Unheard { retry_after: retry_after::asked(response.headers()) });
        }
        let mut answer = BytesMut::new();
        while let Some(piece) = response.chunk().await.map_err(|_| NoVerdict::UNHEARD)? {
            if answer.len() + piece.len() > MAX_ANSWER {
                return Err(NoVerdict::UNHEARD);
            }
            answer.extend_from_slice(&piece);
        }
        serde_json::from_slice(&answer).map_err(|_| NoVerdict::UNHEARD)
    }
}

#[async_trait]
impl Carrier for HttpCarrier {
    /// The carrier counts them.
    fn expected_pages(&self, _: &str) -> u32 {
        1
    }

    async fn send(&self, job: &Job<'_>) -> Sent {
        match timeout(self.patience, self.ask(job)).await {
            Ok(Ok(Verdict::Delivered { pages })) => Sent::Delivered { pages },
            Ok(Ok(Verdict::Failed(failure))) => Sent::Failed(failure.into()),
            Ok(Err(NoVerdict::Unheard { retry_after })) => {
                Sent::Failed(CARRIER_ERROR.retry_after(retry_after))
            }
            Ok(Err(NoVerdict::NoDocument)) => Sent::Failed(NO_DOCUMENT.retry_after(Some(DISK_AWAY))),
            Ok(Err(NoVerdict::Unreadable)) => Sent::Unreadable,
            Err(_) => Sent::Failed(NO_ANSWER_OF_CARRIER),
        }
    }
}

enum NoVerdict {
    Unheard {
        retry_after: Option<Duration>,
    },
    /// The document is not there.
    NoDocument,
    /// It is there and cannot be opened: the process has no files left, or no right to this one.
    Unreadable,
}

impl NoVerdict {
    const UNHEARD: Self = Self::Unheard { retry_after: None };

    fn of_document(error: &std::io::Error) -> Self {
        if error.kind() == std::io::ErrorKind::NotFound { Self::NoDocument } else { Self::Unreadable }
    }
}

/// When a fax whose document is not there is tried again.
const DISK_AWAY: Duration = Duration::from_secs(30);

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

/// In the carrier's words where it has any, and else in ours.
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

/// What every database keeps.
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

/// The length of the body, and the body, which reads the document as it goes.
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
         Content-Type: {}{}\r\n\r\n",
        document.media_type,
        document.charset.as_ref().map_or_else(String::new, |charset| format!("; charset={charset}")),
    );
    let after = format!("\r\n--{boundary}--\r\n");
    let length = before.len() as u64 + document.bytes + after.len() as u64;
    let file = open(job.document).await?;
    Ok((length, Body::wrap(StreamBody::new(pieces(before.into(), file, after.into())))))
}

async fn open(path: &Path) -> std::io::Result<File> {
    File::open(path).await
}

fn pieces(
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
                let mut piece = BytesMut::with_capacity(PIECE);
                match file.read_buf(&mut piece).await? {
                    0 => Some((after, Next::Done)),
                    _ => Some((piece.freeze(), Next::Document(file, after))),
                }
            }
            Next::Done => None,
        }
        .map(|(bytes, next)| (http_body::Frame::data(bytes), next)))
    })
}
