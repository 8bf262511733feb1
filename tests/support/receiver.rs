//! A receiver of webhooks: a server that records its requests and reacts as configured.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;

use serde_json::Value;

use crate::clock::eventually;

/// A receiver on a free port. It runs until the process ends.
#[derive(Debug)]
pub struct Receiver {
    address: SocketAddr,
    state: Arc<Mutex<State>>,
}

/// The reaction to a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reaction {
    /// Responds with this status and `ok`.
    Answer(u16),
    /// Responds with 503 and this `Retry-After`.
    Later(&'static str),
    /// Responds with this status, and closes the connection within the body.
    BreakOff(u16),
    /// Responds with a redirect to itself.
    Redirect,
    /// Keeps the connection open without a response.
    Hang,
    /// Closes the connection.
    Close,
}

/// A received request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Received {
    /// The path.
    pub path: String,
    headers: Vec<(String, String)>,
    /// The body.
    pub body: Vec<u8>,
}

#[derive(Debug)]
struct State {
    received: Vec<Received>,
    reaction: Reaction,
    held: Vec<TcpStream>,
}

impl Receiver {
    /// Starts a receiver that responds with 200.
    pub fn start() -> Self {
        Self::reacting(Reaction::Answer(200))
    }

    /// Starts a receiver with this reaction.
    pub fn reacting(reaction: Reaction) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("it is bound");
        let state = Arc::new(Mutex::new(State { received: Vec::new(), reaction, held: Vec::new() }));
        let shared = Arc::clone(&state);
        thread::spawn(move || {
            for connection in listener.incoming().flatten() {
                let state = Arc::clone(&shared);
                thread::spawn(move || serve(connection, &state));
            }
        });
        Self { address, state }
    }

    /// Returns the URL.
    pub fn url(&self) -> String {
        format!("http://{}/hook", self.address)
    }

    /// Changes the reaction to later requests.
    pub fn react(&self, reaction: Reaction) {
        self.state().reaction = reaction;
    }

    /// Returns all received requests, in order.
    pub fn received(&self) -> Vec<Received> {
        self.state().received.clone()
    }

    /// Waits until this many requests were received, and returns them.
    pub fn wait_for(&self, count: usize) -> Vec<Received> {
        eventually(&format!("{count} requests"), || Some(self.received()).filter(|all| all.len() >= count))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Received {
    /// Returns the value of this header.
    pub fn header(&self, name: &str) -> &str {
        let found = self.headers.iter().find(|(given, _)| given == name);
        &found.unwrap_or_else(|| panic!("no {name}: {self:?}")).1
    }

    /// Returns the body as JSON.
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).expect("deliveries are JSON")
    }
}

fn serve(mut connection: TcpStream, state: &Mutex<State>) {
    let Some(received) = read(&mut connection) else { return };
    let mut state = state.lock().unwrap_or_else(PoisonError::into_inner);
    state.received.push(received);
    let answer = match state.reaction {
        Reaction::Answer(status) => {
            format!("HTTP/1.1 {status} Whatever\r\ncontent-length: 2\r\nconnection: close\r\n\r\nok")
        }
        Reaction::Later(when) => {
            format!(
                "HTTP/1.1 503 Later\r\nretry-after: {when}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
            )
        }
        Reaction::BreakOff(status) => {
            format!("HTTP/1.1 {status} Whatever\r\ncontent-length: 100\r\n\r\nbegun")
        }
        Reaction::Redirect => {
            "HTTP/1.1 307 Elsewhere\r\nlocation: /elsewhere\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
                .to_owned()
        }
        Reaction::Close => return,
        Reaction::Hang => {
            state.held.push(connection);
            return;
        }
    };
    let _ = connection.write_all(answer.as_bytes());
}

/// Reads a complete request with a known body length, as webhooks have.
pub(crate) fn read(connection: &mut TcpStream) -> Option<Received> {
    let mut bytes = Vec::new();
    let mut buffer = [0; 4096];
    loop {
        let mut headers = [httparse::EMPTY_HEADER; 64];
        let mut head = httparse::Request::new(&mut headers);
        if let Ok(httparse::Status::Complete(length)) = head.parse(&bytes) {
            let text = |value: &[u8]| String::from_utf8_lossy(value).into_owned();
            let headers: Vec<_> =
                head.headers.iter().map(|h| (h.name.to_ascii_lowercase(), text(h.value))).collect();
            let announced = headers.iter().find(|(name, _)| name == "content-length");
            let announced: usize = announced.and_then(|(_, value)| value.parse().ok()).unwrap_or(0);
            if let Some(body) = bytes[length..].get(..announced) {
                return Some(Received { path: head.path?.to_owned(), headers, body: body.to_vec() });
            }
        }
        match connection.read(&mut buffer) {
            Ok(length @ 1..) => bytes.extend_from_slice(&buffer[..length]),
            _ => return None,
        }
    }
}
