//! The form that submits a fax. Its fields may come in any order; the document is streamed to the
//! disk.

mod metered;
mod part;

use std::time::Duration;

use axum::RequestExt;
use axum::extract::multipart::{Field, MultipartError};
use axum::extract::{Multipart, Request};
use bytes::Bytes;
use http::StatusCode;

use self::metered::{Allowance, Metered};
use self::part::PartHead;
use super::errors::{Failure, FieldErrors};
use super::fax::MAX_RETRIES;
use super::uploads::{Arrived, DocumentError, Uploads};
use platform::content::Charset;
use platform::failpoint;
use platform::outbound::Outbound;

/// The fields of a valid form.
#[derive(Debug)]
pub(super) struct Submission {
    pub(super) to: String,
    pub(super) document: Arrived,
    /// `None`: the account's default.
    pub(super) retries: Option<u8>,
    pub(super) webhook_url: Option<String>,
    /// For a test key, how long the request waits.
    pub(super) sandbox_delay: Option<String>,
}

/// The maximum size of a form: the largest document and the other fields.
pub(super) const MAX_BYTES: usize = 10 * 1024 * 1024 + 64 * 1024;
/// The maximum size of a field other than the document, in bytes.
const MAX_TEXT: usize = 8 * 1024;

const TO: &str = "to";
const FILE: &str = "file";
const RETRIES: &str = "retries";
const WEBHOOK_URL: &str = "webhook_url";
const SANDBOX_DELAY: &str = "sandbox_delay_ms";
/// The maximum delay, in milliseconds.
const MAX_SANDBOX_DELAY: u64 = 5_000;
/// The field that names the character set of a form's texts (RFC 7578, section 4.6).
const CHARSET: &str = "_charset_";

const WRONG_TYPE: &str = "The file must be a PDF, DOCX, XLSX, JPG, PNG, TIFF, HTML or TXT.";

impl Submission {
    /// Reads and validates the form. Reports all errors at once, except for a document that is too
    /// large: then the rest of the form is not read.
    pub(super) async fn read(
        request: Request,
        uploads: &Uploads,
        outbound: &Outbound,
    ) -> Result<Self, Failure> {
        let form = Form::read(request, uploads).await?;
        let mut errors = form.errors;
        let to = match form.to {
            Some(to) if is_e164(&to) => Some(to),
            Some(_) => {
                errors.add(TO, "The to field must be a number in E.164 format, such as +12015550100.");
                None
            }
            None => {
                errors.add_if_none(TO, "The to field is required.");
                None
            }
        };
        if form.file.is_none() {
            errors.add_if_none(FILE, "The file field is required.");
        }
        let retries =
            form.retries.map(|retries| retries.parse().ok().filter(|retries| *retries <= MAX_RETRIES));
        if retries == Some(None) {
            errors.add(RETRIES, format!("The retries field must be a whole number from 0 to {MAX_RETRIES}."));
        }
        if let Some(Err(error)) = form.webhook_url.as_deref().map(|url| outbound.check(url)) {
            errors.add(WEBHOOK_URL, format!("The webhook_url field cannot be used: {error}."));
        }
        errors.none()?;
        let (Some(to), Some(document)) = (to, form.file) else { return Err(Failure::internal()) };
        let Form { webhook_url, sandbox_delay, .. } = form;
        Ok(Self { to, document, retries: retries.flatten(), webhook_url, sandbox_delay })
    }

    /// Returns how long a request with a test key waits before it takes effect and is answered.
    ///
    /// # Errors
    /// If the field is not a whole number of milliseconds within the bounds.
    pub(super) fn sandbox_delay(&self) -> Result<Duration, Failure> {
        let Some(text) = self.sandbox_delay.as_deref() else { return Ok(Duration::ZERO) };
        let digits = text.bytes().all(|byte| byte.is_ascii_digit());
        let delay = text.parse().ok().filter(|delay| digits && *delay <= MAX_SANDBOX_DELAY);
        delay.map(Duration::from_millis).ok_or_else(|| {
            let message =
                format!("The {SANDBOX_DELAY} field must be a whole number from 0 to {MAX_SANDBOX_DELAY}.");
            FieldErrors::of(SANDBOX_DELAY, message).into()
        })
    }
}

/// The fields as they were sent. An empty field counts as missing.
#[derive(Debug, Default)]
struct Form {
    to: Option<String>,
    file: Option<Arrived>,
    retries: Option<String>,
    webhook_url: Option<String>,
    sandbox_delay: Option<String>,
    errors: FieldErrors,
}

impl Form {
    async fn read(request: Request, uploads: &Uploads) -> Result<Self, Failure> {
        let allowance = Allowance::default();
        let mut multipart: Multipart = request
            .map(|body| axum::body::Body::new(Metered::new(body, allowance.clone())))
            .extract()
            .await
            .map_err(|_| Failure::bad_request("The request body must be multipart/form-data."))?;
        let mut form = Self::default();
        let mut seen = Vec::new();
        let mut charset = Some(Charset::Utf8);
        loop {
            allowance.renew();
            let Some(field) = multipart.next_field().await.map_err(|error| unreadable(&error))? else {
                return Ok(form);
            };
            let head = PartHead::read(field.headers(), charset);
            let name = head.name.as_deref();
            let known =
                [TO, FILE, RETRIES, WEBHOOK_URL, SANDBOX_DELAY].into_iter().find(|known| name == Some(known));
            match known {
                Some(name) if seen.contains(&name) => {
                    form.errors.add(name, format!("The {name} field was sent more than once."));
                    skip(field, &allowance).await?;
                }
                Some(name) if head.is_encoded => {
                    form.errors.add(name, format!("The {name} field must not be encoded."));
                    skip(field, &allowance).await?;
                }
                Some(FILE) if head.is_file => {
                    form.file = form.take_file(field, head.named_charset, uploads, &allowance).await?;
                }
                Some(FILE) => {
                    // Most likely a path in place of the file: `file=letter.pdf` instead of
                    // `file=@letter.pdf`.
                    form.errors.add(FILE, "The file field must be an uploaded file.");
                    skip(field, &allowance).await?;
                }
                Some(name) => {
                    let text = form.take_text(name, head.charset, field, &allowance).await?;
                    match name {
                        TO => form.to = text,
                        RETRIES => form.retries = text,
                        SANDBOX_DELAY => form.sandbox_delay = text,
                        _ => form.webhook_url = text,
                    }
                }
                None if name == Some(CHARSET) => {
                    let named = form.take_text(CHARSET, Some(Charset::Utf8), field, &allowance).await?;
                    charset = named.map_or(charset, |named| Charset::named(named.trim()));
                }
                // Unknown fields are ignored, as usual for forms.
                None => skip(field, &allowance).await?,
            }
            seen.extend(known);
        }
    }

    async fn take_file(
        &mut self,
        field: Field<'_>,
        charset: Option<String>,
        uploads: &Uploads,
        allowance: &Allowance,
    ) -> Result<Option<Arrived>, Failure> {
        match upload(field, charset, uploads, allowance).await {
            Ok(arrived) => Ok(Some(arrived)),
            Err(UploadError::Request(failure)) => Err(failure),
            Err(UploadError::Field(message)) => {
                self.errors.add(FILE, message);
                Ok(None)
            }
        }
    }

    async fn take_text(
        &mut self,
        name: &'static str,
        charset: Option<Charset>,
        mut field: Field<'_>,
        allowance: &Allowance,
    ) -> Result<Option<String>, Failure> {
        let mut bytes = Vec::new();
        let mut too_long = false;
        while let Some(chunk) = next(&mut field, allowance).await? {
            too_long = too_long || bytes.len() + chunk.len() > MAX_TEXT;
            if !too_long {
                bytes.extend_from_slice(&chunk);
            }
        }
        match charset.and_then(|charset| charset.decode(bytes)) {
            // PostgreSQL cannot store a NUL.
            Some(text) if !too_long && !text.contains('\0') => Ok(Some(text).filter(|text| !text.is_empty())),
            _ => {
                self.errors.add(name, format!("The {name} field cannot be read."));
                Ok(None)
            }
        }
    }
}

/// Why there is no document.
enum UploadError {
    /// The whole request fails.
    Request(Failure),
    /// The field has this error. The other fields are still validated.
    Field(&'static str),
}

impl From<DocumentError> for UploadError {
    fn from(error: DocumentError) -> Self {
        match error {
            DocumentError::TooLarge => Self::Request(Failure::file_too_large()),
            DocumentError::Empty => Self::Field("The file must not be empty."),
            DocumentError::Unknown => Self::Field(WRONG_TYPE),
            DocumentError::Charset => Self::Field("The file names a character set that is none."),
            DocumentError::Io(fault) => Self::Request(fault.into()),
        }
    }
}

async fn upload(
    mut field: Field<'_>,
    charset: Option<String>,
    uploads: &Uploads,
    allowance: &Allowance,
) -> Result<Arrived, UploadError> {
    let mut upload = uploads.begin().await.map_err(DocumentError::Io)?;
    while let Some(chunk) = next(&mut field, allowance).await.map_err(UploadError::Request)? {
        upload.write(&chunk).await?;
    }
    failpoint::hit("fax-uploading").await;
    Ok(upload.finish(charset).await?)
}

async fn skip(mut field: Field<'_>, allowance: &Allowance) -> Result<(), Failure> {
    while next(&mut field, allowance).await?.is_some() {}
    Ok(())
}

async fn next(field: &mut Field<'_>, allowance: &Allowance) -> Result<Option<Bytes>, Failure> {
    allowance.renew();
    field.chunk().await.map_err(|error| unreadable(&error))
}

fn unreadable(error: &MultipartError) -> Failure {
    match error.status() {
        StatusCode::PAYLOAD_TOO_LARGE => Failure::file_too_large(),
        _ => Failure::unreadable(error),
    }
}

/// `^\+[1-9]\d{1,14}$`
fn is_e164(text: &str) -> bool {
    let Some(digits) = text.strip_prefix('+') else { return false };
    (2..=15).contains(&digits.len())
        && digits.bytes().all(|digit| digit.is_ascii_digit())
        && !digits.starts_with('0')
}

#[cfg(test)]
mod tests;
