//! Clients that ask until they are answered, and servers that come and go.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{PoisonError, RwLock};
use std::thread;
use std::time::Duration;

use support::{Request, Response, Server, eventually_within};

/// What clients ask for: each thing under a key of its own.
pub(crate) trait Asked: Sync {
    /// A key that nobody has used.
    fn next_key(&self) -> String;

    /// The one request that this key is used for.
    fn request(&self, server: &Server, key: &str) -> Request;

    fn note(&self, key: &str, answer: Response);
}

/// Where a server is, while there is one. Its address changes with it: a port that is free for a moment may be another's.
#[derive(Debug, Default)]
pub(crate) struct Place(RwLock<Option<Server>>);

impl Place {
    pub(crate) fn of(server: Server) -> Self {
        Self(RwLock::new(Some(server)))
    }

    pub(crate) fn put(&self, server: Server) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = Some(server);
    }

    pub(crate) fn take(&self) -> Server {
        self.0.write().unwrap_or_else(PoisonError::into_inner).take().expect("a server is here")
    }

    /// What is asked of the server; `None` while there is none.
    pub(crate) fn with<T>(&self, ask: impl FnOnce(&Server) -> T) -> Option<T> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).as_ref().map(ask)
    }
}

/// How long a client goes on asking: for as long as a lease lasts, and restarts on a loaded machine.
const PATIENCE: Duration = Duration::from_mins(2);

/// Asks until there is the answer that every later request with the key gets too.
pub(crate) fn ask_until_answered(
    what: &str,
    pause: Duration,
    mut request: impl FnMut() -> Option<Request>,
) -> Response {
    eventually_within(PATIENCE, what, || {
        let answer = request().and_then(|request| request.try_send()).filter(is_final);
        if answer.is_none() {
            // As a client would, and so as not to take the machine from the server.
            thread::sleep(pause);
        }
        answer
    })
}

/// No server, one that broke off, a request that still runs, and a database that is not reached: none of that is an
/// answer. Anything but these and success is a fault.
fn is_final(answer: &Response) -> bool {
    // As Veriko says it, as TXCloud does, and as mintfax does.
    let is_in_progress = || {
        let body = answer.json();
        [&body["errors"][0]["code"], &body["error"]["code"], &body["error"]]
            .iter()
            .any(|code| **code == "idempotency_key_in_progress")
    };
    match answer.status {
        200..=202 => true,
        409 if is_in_progress() => false,
        503 => false,
        _ => panic!("{answer:?}"),
    }
}

/// How many keys are in use at a time.
const KEYS: usize = 8;
/// How many clients use a key at a time.
pub(crate) const USES: usize = 3;

/// Uses ever new keys, each three times at once, at any of these places, while something else goes on; then sees to it that
/// every key is answered as often as it was used.
pub(crate) fn under_load<T>(places: &[Place], ledger: &impl Asked, meanwhile: impl FnOnce() -> T) -> T {
    let over = AtomicBool::new(false);
    thread::scope(|scope| {
        for _ in 0..KEYS {
            scope.spawn(|| {
                while !over.load(Ordering::Relaxed) {
                    use_key(places, ledger, &ledger.next_key(), Duration::from_millis(50));
                }
            });
        }
        // Also where it panics.
        let _over = Over(&over);
        meanwhile()
    })
}

/// Uses a key three times at once, until each use is answered.
pub(crate) fn use_key(places: &[Place], ledger: &impl Asked, key: &str, pause: Duration) {
    thread::scope(|scope| {
        for place in places.iter().cycle().take(USES) {
            scope.spawn(move || {
                let request = || place.with(|server| ledger.request(server, key));
                ledger.note(key, ask_until_answered(key, pause, request));
            });
        }
    });
}

struct Over<'a>(&'a AtomicBool);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}
