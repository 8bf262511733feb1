//! A proxy before PostgreSQL that counts what passes, and stands in for a pooler that loses the server at a COMMIT.

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

/// What the proxy does with the next COMMIT. It ends the server's connection after that.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Loss {
    pub(crate) passes: Passes,
    /// What the client is told before its connection ends.
    pub(crate) error: Option<ErrorMessage>,
}

/// Whether the COMMIT reaches the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Passes {
    Never,
    /// The server has answered before the client hears of it.
    First,
    /// The client hears of it before the server does.
    Late,
}

/// An error message of the server's protocol.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ErrorMessage {
    /// The severity that is translated (field `S`).
    pub(crate) shown: &'static str,
    /// The severity that is not (field `V`).
    pub(crate) severity: &'static str,
    pub(crate) code: &'static str,
}

impl ErrorMessage {
    pub(crate) fn new(severity: &'static str, code: &'static str) -> Self {
        Self { shown: severity, severity, code }
    }

    /// With the server's word that it is ready for more.
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

/// A simple query that is to be held up, or what comes after it.
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
    /// Until the message is there.
    pub(crate) async fn arrives(&mut self) {
        timeout(Duration::from_secs(20), &mut self.arrived).await.unwrap().unwrap();
    }
}

impl Proxy {
    /// Stands before the server on this port, for connections without TLS.
    pub(crate) async fn before(server: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let shared = Arc::new(Shared::default());
        let proxy = Self { port, shared: shared.clone() };
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let server = TcpStream::connect(("127.0.0.1", server)).await.unwrap();
                // Messages are passed on one by one, and none is to wait for the acknowledgement of the last.
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

    /// Whether the COMMIT that was to be lost was met.
    pub(crate) fn has_lost(&self) -> bool {
        self.shared.loss.lock().unwrap().is_none()
    }

    /// Answers every BEGIN with this error, once the COMMIT that is to be lost was met.
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

    /// COMMITs since this was asked last.
    pub(crate) fn take_commits(&self) -> usize {
        self.shared.commits.swap(0, Ordering::SeqCst)
    }

    /// Statements and round trips since this was asked last.
    pub(crate) fn take_counts(&self) -> (usize, usize) {
        (self.shared.statements.swap(0, Ordering::SeqCst), self.shared.round_trips.swap(0, Ordering::SeqCst))
    }
}

/// A layer whose every connection goes through a proxy, and a pool beside it.
pub(crate) async fn behind_proxy() -> (Proxy, PgPool, IdempotencyLayer<PostgresStore>) {
    let (proxy, direct, store) = store_behind_proxy().await;
    (proxy, direct, builder(store).build())
}

/// The same, whose transaction is the claim.
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

/// A proxy before the server of this pool, and how to connect through it.
pub(crate) async fn before(pool: &PgPool) -> (Proxy, PgConnectOptions) {
    let server = pool.connect_options();
    let proxy = Proxy::before(server.get_port()).await;
    let port = proxy.port();
    (proxy, (*server).clone().host("127.0.0.1").port(port))
}

/// From the client, message by message.
async fn upstream(
    mut client: OwnedReadHalf,
    mut server: OwnedWriteHalf,
    shared: Arc<Shared>,
    cut_sender: oneshot::Sender<Loss>,
) -> io::Result<()> {
    // The first message has no type, and one that asks for TLS is answered with no.
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
        // Execute and simple queries carry statements out; Sync and simple queries are answered before what follows.
        shared.statements.fetch_add(usize::from(matches!(kind, b'E' | b'Q')), Ordering::SeqCst);
        // A Sync alone is a ping of the pool, which takes a connection back behind the answer.
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
                // The client says nothing before it has the answer.
                let next = client.read_u8().await?;
                let next = read_message(&mut client, vec![next]).await?;
                let _ = hold.arrived.send(());
                let _ = hold.released.await;
                server.write_all(&next).await?;
                continue;
            }
            let _ = hold.arrived.send(());
            // A client that is gone meanwhile takes what it sent with it.
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
                // For the server, the end of this half is the end of the connection, once it has done what came before.
                return Ok(());
            }
        }
        server.write_all(&message).await?;
    }
}

/// From the server, as it comes, until a COMMIT is lost.
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
    // What the server says to it is not passed on.
    if loss.passes != Passes::Late {
        while server.read(&mut buffer).await? > 0 {}
    }
    if let Some(error) = loss.error {
        client.write_all(&error.encode()).await?;
    }
    client.shutdown().await
}

/// The rest of a message after its type: a length, itself included, and so many bytes.
async fn read_message(client: &mut OwnedReadHalf, mut message: Vec<u8>) -> io::Result<Vec<u8>> {
    let length = client.read_u32().await?;
    message.extend(length.to_be_bytes());
    let start = message.len();
    message.resize(start + length as usize - 4, 0);
    client.read_exact(&mut message[start..]).await?;
    Ok(message)
}
