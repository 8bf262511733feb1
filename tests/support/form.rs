//! The form that submits a fax, byte by byte.

use crate::http::Request;
use crate::server::Server;

/// A form of `multipart/form-data`.
#[derive(Debug, Clone, Default)]
pub struct Form(Vec<u8>);

const BOUNDARY: &str = "a-boundary";

impl Form {
    /// Creates a form with a letter to this number.
    pub fn to(to: &str) -> Self {
        Self::default().field("to", to).file(b"%PDF-1.7 a letter")
    }

    /// Adds a field.
    #[must_use]
    pub fn field(self, name: &str, value: &str) -> Self {
        self.part(&format!("name=\"{name}\""), value.as_bytes())
    }

    /// Adds the document.
    #[must_use]
    pub fn file(self, content: &[u8]) -> Self {
        self.part("name=\"file\"; filename=\"document\"", content)
    }

    /// Adds a part.
    #[must_use]
    pub fn part(mut self, disposition: &str, content: &[u8]) -> Self {
        let head = format!("--{BOUNDARY}\r\nContent-Disposition: form-data; {disposition}\r\n\r\n");
        self.0.extend_from_slice(head.as_bytes());
        self.0.extend_from_slice(content);
        self.0.extend_from_slice(b"\r\n");
        self
    }

    /// Returns the beginning of the form, up to where another part's content could continue.
    pub fn begun(mut self) -> Vec<u8> {
        self.0.truncate(self.0.len() - 2);
        self.0
    }

    /// Returns the whole form.
    pub fn whole(&self) -> Vec<u8> {
        [&self.0[..], format!("--{BOUNDARY}--\r\n").as_bytes()].concat()
    }

    /// Returns a `POST /v1/faxes` of this form with this API key.
    pub fn post(&self, server: &Server, key: &str) -> Request {
        Self::head(server, key).body(self.whole())
    }

    /// Returns the same request without a body.
    pub fn head(server: &Server, key: &str) -> Request {
        server
            .post("/v1/faxes")
            .bearer(key)
            .header("Content-Type", format!("multipart/form-data; boundary={BOUNDARY}"))
    }
}
