//! A proxy in front of PostgreSQL. It counts messages, and can lose a COMMIT as a failing pooler would.

use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use idempotency_layer::{IdempotencyLayer, PostgresStore};
use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use sqlx::{PgPool, Postgres};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use tokio::time::timeout;

use crate::database::Bench;
use crate::rig::builder;

/// What the proxy does with the next COMMIT, before it closes the connection to the server.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Loss {
    pub(crate) passes: Passes,
    /// The error that the client gets before its connection is closed.
    pub(crate) error: Option<ErrorMessage>,
}

/// Whether the COMMIT reaches the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Passes {
    Never,
    /// The server answers before the client gets the error.
    First,
    /// The client gets the error before the server gets the COMMIT.
    Late,
}

/// An error message of PostgreSQL's protocol.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ErrorMessage {
    /// The translated severity (field `S`).
    pub(crate) shown: &'static str,
    /// The severity that is never translated (field `V`).
    pub(crate) severity: &'static str,
    pub(crate) code: &'static str,
}

impl ErrorMessage {
    pub(crate) fn new(severity: &'static str, code: &'static str) -> Self {
        Self { shown: severity, severity, code }
    }

    /// Encodes the error, followed by `ReadyForQuery`.
    fn encode(self) -> Vec<u8> {
        let mut fields = Vec::new();
        for (kind, text) in
            [(b'S', self.shown), (b'V', self.severity), (b'C', self.code), (b'M', "server conn crashed?")]
        {
            fields.push(kind);
            fields.extend(text.as_bytes());
            fields.push(0);
        }
        fields.push(0);
        let mut message = vec![b'E'];
        message.extend((u32::try_from(fields.len()).unwrap() + 4).to_be_bytes());
        message.extend(fields);
        if self.severity == "ERROR" {
            message.extend(*b"Z\0\0\0\x05I");
        }
        message
    }
}

#[derive(Clone, Debug)]
pub(crate) struct Proxy {
    port: u16,
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    loss: Mutex<Option<Loss>>,
    hold: Mutex<Option<Hold>>,
    refused_begins: Mutex<Option<ErrorMessage>>,
    statements: AtomicUsize,
    round_trips: AtomicUsize,
    commits: AtomicUsize,
}

/// A simple query to hold up, or the messages after it.
#[derive(Debug)]
struct Hold {
    prefix: &'static str,
    after: bool,
    arrived: oneshot::Sender<()>,
    released: oneshot::Receiver<()>,
}

/// A message that waits in the proxy until this is dropped.
#[derive(Debug)]
pub(crate) struct Held {
    arrived: oneshot::Receiver<()>,
    _release: oneshot::Sender<()>,
}

impl Held {
    /// Waits for the message.
    pub(crate) async fn arrives(&mut self) {
        timeout(Duration::from_secs(20), &mut self.arrived).await.unwrap().unwrap();
    }
}

impl Proxy {
    /// Starts a proxy in front of the server on this port, without TLS.
    pub(crate) async fn before(server: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let shared = Arc::new(Shared::default());
        let proxy = Self { port, shared: shared.clone() };
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let server = TcpStream::connect(("127.0.0.1", server)).await.unwrap();
                // Messages are passed on one by one. None must wait for the acknowledgement of the previous one.
                client.set_nodelay(true).unwrap();
                server.set_nodelay(true).unwrap();
                let (from_client, to_client) = client.into_split();
                let (from_server, to_server) = server.into_split();
                let (cut_sender, cuts) = oneshot::channel();
                tokio::spawn(upstream(from_client, to_server, shared.clone(), cut_sender));
                tokio::spawn(downstream(from_server, to_client, cuts));
            }
        });
        proxy
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    pub(crate) fn lose_next_commit(&self, loss: Loss) {
        *self.shared.loss.lock().unwrap() = Some(loss);
    }

    /// Returns whether the COMMIT was lost.
    pub(crate) fn has_lost(&self) -> bool {
        self.shared.loss.lock().unwrap().is_none()
    }

    /// Answers every BEGIN with this error after the COMMIT was lost.
    pub(crate) fn refuse_begins(&self, error: ErrorMessage) {
        *self.shared.refused_begins.lock().unwrap() = Some(error);
    }

    /// Holds up the next simple query that begins with this text.
    pub(crate) fn hold(&self, prefix: &'static str) -> Held {
        self.hold_at(prefix, false)
    }

    /// Lets the next simple query that begins with this text pass, and holds up what the client sends after its answer.
    pub(crate) fn hold_after(&self, prefix: &'static str) -> Held {
        self.hold_at(prefix, true)
    }

    fn hold_at(&self, prefix: &'static str, after: bool) -> Held {
        let (arrived, arrival) = oneshot::channel();
        let (release, released) = oneshot::channel();
        *self.shared.hold.lock().unwrap() = Some(Hold { prefix, after, arrived, released });
        Held { arrived: arrival, _release: release }
    }

    /// Returns the number of COMMITs since the last call.
    pub(crate) fn take_commits(&self) -> usize {
        self.shared.commits.swap(0, Ordering::SeqCst)
    }

    /// Returns the numbers of statements and round trips since the last call.
    pub(crate) fn take_counts(&self) -> (usize, usize) {
        (self.shared.statements.swap(0, Ordering::SeqCst), self.shared.round_trips.swap(0, Ordering::SeqCst))
    }
}

/// Returns a layer whose connections go through a proxy, and a pool that does not.
pub(crate) async fn behind_proxy() -> (Proxy, PgPool, IdempotencyLayer<PostgresStore>) {
    let (proxy, direct, store) = store_behind_proxy().await;
    (proxy, direct, builder(store).build())
}

/// The same with claims in the transaction.
pub(crate) async fn claims_behind_proxy() -> (Proxy, PgPool, IdempotencyLayer<PostgresStore>) {
    let (proxy, direct, store) = store_behind_proxy().await;
    (proxy, direct, builder(store).claim_in_transaction().build())
}

pub(crate) async fn store_behind_proxy() -> (Proxy, PgPool, PostgresStore) {
    let ((), _, direct) = Postgres::open().await;
    let (proxy, options) = before(&direct).await;
    let pool = PgPoolOptions::new().test_before_acquire(false).connect_with(options).await.unwrap();
    (proxy, direct, PostgresStore::new(pool))
}

/// Starts a proxy in front of the server of this pool, and returns options to connect through it.
pub(crate) async fn before(pool: &PgPool) -> (Proxy, PgConnectOptions) {
    let server = pool.connect_options();
    let proxy = Proxy::before(server.get_port()).await;
    let port = proxy.port();
    (proxy, (*server).clone().host("127.0.0.1").port(port))
}

/// Passes on the messages of the client, one by one.
async fn upstream(
    mut client: OwnedReadHalf,
    mut server: OwnedWriteHalf,
    shared: Arc<Shared>,
    cut_sender: oneshot::Sender<Loss>,
) -> io::Result<()> {
    // The first message has no type. A request for TLS is refused.
    loop {
        let startup = read_message(&mut client, Vec::new()).await?;
        let tls = startup[4..8] == 80_877_103_u32.to_be_bytes();
        server.write_all(&startup).await?;
        if !tls {
            break;
        }
    }
    let mut last = b'S';
    loop {
        let kind = client.read_u8().await?;
        let message = read_message(&mut client, vec![kind]).await?;
        let text = &message[5..];
        // Execute and simple queries run statements. Sync and simple queries end a round trip.
        shared.statements.fetch_add(usize::from(matches!(kind, b'E' | b'Q')), Ordering::SeqCst);
        // A single Sync is a ping of the pool.
        let is_round_trip = kind == b'Q' || kind == b'S' && last != b'S' && last != b'Q';
        shared.round_trips.fetch_add(usize::from(is_round_trip), Ordering::SeqCst);
        last = kind;
        let hold = match kind {
            b'Q' => shared.hold.lock().unwrap().take_if(|hold| text.starts_with(hold.prefix.as_bytes())),
            _ => None,
        };
        if let Some(hold) = hold {
            if hold.after {
                server.write_all(&message).await?;
                // The client sends nothing before it has the answer.
                let next = client.read_u8().await?;
                let next = read_message(&mut client, vec![next]).await?;
                let _ = hold.arrived.send(());
                let _ = hold.released.await;
                server.write_all(&next).await?;
                continue;
            }
            let _ = hold.arrived.send(());
            // If the client is gone by then, its message is dropped.
            let mut next = [0];
            tokio::select! {
                _ = hold.released => {}
                _ = client.peek(&mut next) => return Ok(()),
            }
        }
        let refused = *shared.refused_begins.lock().unwrap();
        if kind == b'Q'
            && text.starts_with(b"BEGIN")
            && refused.is_some()
            && shared.loss.lock().unwrap().is_none()
        {
            let _ = cut_sender.send(Loss { passes: Passes::Never, error: refused });
            return Ok(());
        }
        if kind == b'Q' && text.starts_with(b"COMMIT") {
            shared.commits.fetch_add(1, Ordering::SeqCst);
            let loss = shared.loss.lock().unwrap().take();
            if let Some(loss) = loss {
                let _ = cut_sender.send(loss);
                match loss.passes {
                    Passes::Never => {}
                    Passes::First => server.write_all(&message).await?,
                    Passes::Late => {
                        tokio::time::sleep(Duration::from_millis(50)).await;
                        server.write_all(&message).await?;
                    }
                }
                // The server closes the connection at the end of this half, after it has handled the messages before.
                return Ok(());
            }
        }
        server.write_all(&message).await?;
    }
}

/// Passes on the bytes of the server until a COMMIT is lost.
async fn downstream(
    mut server: OwnedReadHalf,
    mut client: OwnedWriteHalf,
    cuts: oneshot::Receiver<Loss>,
) -> io::Result<()> {
    let mut buffer = vec![0; 64 * 1024];
    let mut cuts = std::pin::pin!(async { cuts.await.ok() });
    let mut open = true;
    let loss = loop {
        tokio::select! {
            biased;
            loss = &mut cuts, if open => match loss {
                Some(loss) => break loss,
                None => open = false, // the client is gone
            },
            read = server.read(&mut buffer) => match read? {
                0 => return client.shutdown().await,
                count => client.write_all(&buffer[..count]).await?,
            },
        }
    };
    // The server's answer is not passed on.
    if loss.passes != Passes::Late {
        while server.read(&mut buffer).await? > 0 {}
    }
    if let Some(error) = loss.error {
        client.write_all(&error.encode()).await?;
    }
    client.shutdown().await
}

/// Reads the rest of a message after its type: the length, which includes itself, and the content.
async fn read_message(client: &mut OwnedReadHalf, mut message: Vec<u8>) -> io::Result<Vec<u8>> {
    let length = client.read_u32().await?;
    message.extend(length.to_be_bytes());
    let start = message.len();
    message.resize(start + length as usize - 4, 0);
    client.read_exact(&mut message[start..]).await?;
    Ok(message)
}
