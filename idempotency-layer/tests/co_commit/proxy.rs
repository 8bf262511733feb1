//! A proxy before PostgreSQL that counts what passes, and cuts the connection that a COMMIT passes on.

use std::io;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};

/// What becomes of the next COMMIT.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cut {
    /// It does not reach the server.
    Before,
    /// It does, and its answer does not come back.
    After,
}

#[derive(Clone, Debug)]
pub(crate) struct Proxy {
    port: u16,
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    cut: Mutex<Option<Cut>>,
    statements: AtomicUsize,
    round_trips: AtomicUsize,
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
                let (from_client, to_client) = client.into_split();
                let (from_server, to_server) = server.into_split();
                let silent = Arc::new(AtomicBool::new(false));
                tokio::spawn(upstream(from_client, to_server, shared.clone(), silent.clone()));
                tokio::spawn(downstream(from_server, to_client, silent));
            }
        });
        proxy
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    pub(crate) fn cut_next_commit(&self, cut: Cut) {
        *self.shared.cut.lock().unwrap() = Some(cut);
    }

    /// Whether the cut that was asked for was made.
    pub(crate) fn has_cut(&self) -> bool {
        self.shared.cut.lock().unwrap().is_none()
    }

    /// Statements and round trips since this was asked last.
    pub(crate) fn take_counts(&self) -> (usize, usize) {
        (self.shared.statements.swap(0, Ordering::SeqCst), self.shared.round_trips.swap(0, Ordering::SeqCst))
    }
}

/// From the client, message by message.
async fn upstream(
    mut client: OwnedReadHalf,
    mut server: OwnedWriteHalf,
    shared: Arc<Shared>,
    silent: Arc<AtomicBool>,
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
    loop {
        let kind = client.read_u8().await?;
        let message = read_message(&mut client, vec![kind]).await?;
        let text = &message[5..];
        // Execute and simple queries carry statements out; Sync and simple queries are answered before what follows.
        shared.statements.fetch_add(usize::from(matches!(kind, b'E' | b'Q')), Ordering::SeqCst);
        shared.round_trips.fetch_add(usize::from(matches!(kind, b'S' | b'Q')), Ordering::SeqCst);
        if kind == b'Q' && text.starts_with(b"COMMIT") {
            let cut = shared.cut.lock().unwrap().take();
            if let Some(cut) = cut {
                silent.store(true, Ordering::SeqCst);
                if cut == Cut::After {
                    server.write_all(&message).await?;
                }
                // For the server, the end of this half is the end of the connection, once it has done what came before.
                return Ok(());
            }
        }
        server.write_all(&message).await?;
    }
}

/// From the server, as it comes; with the connection cut, nothing more.
async fn downstream(
    mut server: OwnedReadHalf,
    mut client: OwnedWriteHalf,
    silent: Arc<AtomicBool>,
) -> io::Result<()> {
    let mut buffer = vec![0; 64 * 1024];
    loop {
        let count = server.read(&mut buffer).await?;
        if count == 0 || silent.load(Ordering::SeqCst) {
            return client.shutdown().await;
        }
        client.write_all(&buffer[..count]).await?;
    }
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
