//! A proxy in front of PostgreSQL that records the statements.

use std::collections::HashMap;
use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;

/// A proxy in front of a PostgreSQL server. It runs until the process ends.
#[derive(Debug, Clone)]
pub struct Statements {
    url: String,
    seen: Arc<Mutex<Vec<String>>>,
}

impl Statements {
    /// Starts a proxy in front of the server with this URL, which has the form
    /// `postgres://user@host:port/database`.
    pub fn of(url: &str) -> Self {
        let (user, rest) =
            url.strip_prefix("postgres://").and_then(|rest| rest.split_once('@')).unwrap_or_else(|| {
                panic!("{url} has no user");
            });
        let (server, database) = rest.split_once('/').expect("a database");
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("it is bound");
        let seen = Arc::<Mutex<Vec<String>>>::default();
        let (server, log) = (server.to_owned(), Arc::clone(&seen));
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let Ok(server) = TcpStream::connect(&server) else { continue };
                // Send each message at once, as a packet of its own.
                let _ = (client.set_nodelay(true), server.set_nodelay(true));
                let (Ok(mut answers), Ok(mut to_client)) = (server.try_clone(), client.try_clone()) else {
                    continue;
                };
                thread::spawn(move || io::copy(&mut answers, &mut to_client));
                let log = Arc::clone(&log);
                thread::spawn(move || forward(client, server, &log));
            }
        });
        Self { url: format!("postgres://{user}@{address}/{database}"), seen }
    }

    /// Returns the URL of the proxy.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Returns the text of each statement since the last call. A text with several statements
    /// counts as one.
    pub fn take(&self) -> Vec<String> {
        std::mem::take(&mut *self.lock())
    }

    fn lock(&self) -> MutexGuard<'_, Vec<String>> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Forwards the client's messages, and records the executed statements.
fn forward(mut client: TcpStream, mut server: TcpStream, seen: &Mutex<Vec<String>>) -> io::Result<()> {
    let note = |text: String| seen.lock().unwrap_or_else(PoisonError::into_inner).push(text);
    // The first message has no type byte.
    forward_message(&mut client, &mut server, &[])?;
    let (mut prepared, mut bound) = (HashMap::new(), String::new());
    loop {
        let mut kind = [0];
        client.read_exact(&mut kind)?;
        let body = forward_message(&mut client, &mut server, &kind)?;
        let mut texts = body.split(|byte| *byte == 0).map(|text| String::from_utf8_lossy(text).into_owned());
        let mut next = || texts.next().unwrap_or_default();
        match kind[0] {
            b'P' => {
                let name = next();
                prepared.insert(name, next());
            }
            b'B' => {
                let _portal = next();
                bound = prepared.get(&next()).cloned().unwrap_or_default();
            }
            b'E' => note(bound.clone()),
            b'Q' => note(next()),
            _ => {}
        }
    }
}

/// Forwards a message whose type byte was read, and returns its body.
fn forward_message(client: &mut TcpStream, server: &mut TcpStream, kind: &[u8]) -> io::Result<Vec<u8>> {
    let mut length = [0; 4];
    client.read_exact(&mut length)?;
    let size = usize::try_from(u32::from_be_bytes(length)).map_err(io::Error::other)?.saturating_sub(4);
    let mut body = vec![0; size];
    client.read_exact(&mut body)?;
    server.write_all(&[kind, &length, &body].concat())?;
    Ok(body)
}
