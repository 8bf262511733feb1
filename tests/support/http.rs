//! An HTTP client that sends exactly the given bytes. A proper client would fix or refuse half of
//! what is tested here.

use std::fmt::Write as _;
use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::Duration;

use serde_json::Value;

use crate::document;

/// A request that is sent on its own connection.
#[derive(Debug, Clone)]
#[must_use = "a request does nothing until it is sent"]
pub struct Request {
    to: SocketAddr,
    method: String,
    path: String,
    head: Vec<u8>,
    body: Vec<u8>,
}

impl Request {
    pub(crate) fn new(to: SocketAddr, method: &str, path: &str) -> Self {
        let head = format!("{method} {path} HTTP/1.1\r\nHost: {to}\r\nConnection: close\r\n");
        let (method, path) = (method.to_owned(), path.to_owned());
        Self { to, method, path, head: head.into_bytes(), body: Vec::new() }
    }

    /// Adds a header as given. Adding a name twice sends two headers.
    pub fn header(mut self, name: &str, value: impl AsRef<[u8]>) -> Self {
        self.head.extend_from_slice(name.as_bytes());
        self.head.extend_from_slice(b": ");
        self.head.extend_from_slice(value.as_ref());
        self.head.extend_from_slice(b"\r\n");
        self
    }

    /// Adds `Authorization: Bearer …`.
    pub fn bearer(self, key: &str) -> Self {
        self.header("Authorization", format!("Bearer {key}"))
    }

    /// Adds `Idempotency-Key: …`.
    pub fn key(self, key: &str) -> Self {
        self.header("Idempotency-Key", key)
    }

    /// Sets the body and its length, but no content type.
    pub fn body(mut self, body: impl Into<Vec<u8>>) -> Self {
        self.body = body.into();
        let length = self.body.len().to_string();
        self.header("Content-Length", length)
    }

    /// Sets the body with the content type JSON, whatever it is.
    #[allow(clippy::needless_pass_by_value, reason = "`json!(…)` is mostly made on the spot")]
    pub fn json(self, body: impl ToString) -> Self {
        self.header("Content-Type", "application/json").body(body.to_string())
    }

    /// Sends the request and reads the response. When the server is dropped, the response must
    /// match the server's document.
    pub fn send(&self) -> Response {
        let response = self.open().answer();
        document::note(self.to, &self.method, &self.path, &response);
        response
    }

    /// Sends the request and reads the response. Returns `None` if there is no complete one: the
    /// server does not listen, or ended in the meantime.
    pub fn try_send(&self) -> Option<Response> {
        let mut connection = Connection::try_to(self.to).ok()?;
        connection.write(&self.bytes());
        let mut bytes = Vec::new();
        // The bytes before an error may be the complete response.
        let _ = connection.stream.read_to_end(&mut bytes);
        Response::whole(&bytes)
    }

    /// Sends the request and disconnects without reading the response.
    pub fn send_and_leave(&self) {
        let stream = self.open().stream;
        // The server may have responded and closed the connection first.
        let _ = stream.shutdown(Shutdown::Both);
    }

    /// Sends the request and returns the connection.
    pub fn open(&self) -> Connection {
        let mut connection = Connection::to(self.to);
        connection.write(&self.bytes());
        connection
    }

    fn bytes(&self) -> Vec<u8> {
        [&self.head[..], b"\r\n", &self.body].concat()
    }
}

/// An open connection.
#[derive(Debug)]
pub struct Connection {
    stream: TcpStream,
}

impl Connection {
    pub(crate) fn to(address: SocketAddr) -> Self {
        Self::try_to(address).expect("the server accepts")
    }

    fn try_to(address: SocketAddr) -> io::Result<Self> {
        let stream = TcpStream::connect(address)?;
        // A test that would hang fails instead.
        stream.set_read_timeout(Some(Duration::from_secs(30)))?;
        Ok(Self { stream })
    }

    /// Sends these bytes. If the server has closed the connection, reading the response shows it.
    pub fn write(&mut self, bytes: &[u8]) {
        let _ = self.stream.write_all(bytes);
    }

    /// Reads exactly these bytes.
    pub fn expect(&mut self, bytes: &[u8]) {
        let mut read = vec![0; bytes.len()];
        self.stream.read_exact(&mut read).expect("the server says something");
        assert_eq!(String::from_utf8_lossy(&read), String::from_utf8_lossy(bytes));
    }

    /// Reads until the server closes the connection.
    pub fn read_to_end(mut self) -> String {
        let mut bytes = Vec::new();
        self.stream.read_to_end(&mut bytes).expect("the server hangs up");
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// Reads a single response until the end of the connection.
    pub fn answer(mut self) -> Response {
        let mut bytes = Vec::new();
        let read = self.stream.read_to_end(&mut bytes);
        // A server that refuses a body does not read it. The reset that follows must not hide the
        // response.
        assert!(!bytes.is_empty(), "no answer: {read:?}");
        Response::parse(&bytes)
    }
}

/// A response.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Response {
    /// The status.
    pub status: u16,
    /// The headers in their order, names in lower case.
    pub headers: Vec<(String, String)>,
    /// The body.
    pub body: Vec<u8>,
}

impl Response {
    fn parse(bytes: &[u8]) -> Self {
        Self::whole(bytes).unwrap_or_else(|| panic!("half an answer: {:?}", String::from_utf8_lossy(bytes)))
    }

    /// Returns `None` if the response is incomplete.
    fn whole(bytes: &[u8]) -> Option<Self> {
        let mut headers = [httparse::EMPTY_HEADER; 64];
        let mut head = httparse::Response::new(&mut headers);
        let parsed = head.parse(bytes).expect("an HTTP response");
        let httparse::Status::Complete(length) = parsed else { return None };
        let text = |value: &[u8]| String::from_utf8(value.to_vec()).expect("headers of ours are ASCII");
        let response = Self {
            status: head.code.expect("a parsed response has a status"),
            headers: head.headers.iter().map(|h| (h.name.to_ascii_lowercase(), text(h.value))).collect(),
            body: bytes[length..].to_vec(),
        };
        // A response without a body may still have a length.
        let bodiless = response.status == 304;
        let said = response.header("content-length").and_then(|length| length.parse().ok()).unwrap_or(0);
        (bodiless || said == response.body.len()).then_some(response)
    }

    /// Returns the value of this header. Panics if the header was sent twice.
    pub fn header(&self, name: &str) -> Option<&str> {
        let mut values = self.headers.iter().filter(|(given, _)| given == name);
        let value = values.next()?;
        assert!(values.next().is_none(), "{name} twice: {self:?}");
        Some(&value.1)
    }

    /// Returns the number in this header.
    pub fn number(&self, name: &str) -> u64 {
        let value = self.header(name).unwrap_or_else(|| panic!("no {name}: {self:?}"));
        value.parse().unwrap_or_else(|_| panic!("{name} is no number: {value}"))
    }

    /// Returns the body as JSON.
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {}", self.text()))
    }

    /// Returns the body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// Returns everything that must be equal in a replay, without what depends on the moment of
    /// sending.
    pub fn lasting(&self) -> String {
        let transient = ["date", "connection", "idempotent-replayed"];
        let mut text = format!("{}\n", self.status);
        for (name, value) in &self.headers {
            if !transient.contains(&name.as_str()) && !name.starts_with("x-ratelimit-") {
                let _ = writeln!(text, "{name}: {value}");
            }
        }
        text + &self.text()
    }
}
