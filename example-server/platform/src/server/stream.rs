//! A connection's socket, with a write time-out and a lingering close.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Sleep, sleep};

/// The time-out of a write during which the client reads nothing.
const WRITE_TIMEOUT: Duration = Duration::from_secs(30);
/// Maximum bytes of a request to read and discard after the response.
///
/// Closing a socket with unread bytes resets the connection. A client that is still sending its
/// body would then lose a response that was sent before the body was read.
const DRAIN_BYTES: usize = 17 * 1024 * 1024;
/// Maximum time to read and discard a request after the response.
const DRAIN_TIME: Duration = Duration::from_secs(2);

/// The socket of a connection.
#[derive(Debug)]
pub(super) struct Stream<IO> {
    socket: IO,
    /// The time-out, which runs while the socket accepts no bytes.
    stalled: Option<Pin<Box<Sleep>>>,
    closing: Closing,
}

#[derive(Debug)]
enum Closing {
    NotYet,
    /// The response has been sent.
    Draining {
        left: usize,
        until: Pin<Box<Sleep>>,
    },
    Done,
}

impl<IO> Stream<IO> {
    pub(super) fn new(socket: IO) -> Self {
        Self { socket, stalled: None, closing: Closing::NotYet }
    }

    /// Returns the result of a write, or an error if the socket has accepted nothing for too long.
    fn watch<T>(&mut self, cx: &mut Context<'_>, wrote: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if wrote.is_ready() {
            self.stalled = None;
            return wrote;
        }
        let stalled = self.stalled.get_or_insert_with(|| Box::pin(sleep(WRITE_TIMEOUT)));
        ready!(stalled.as_mut().poll(cx));
        Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "the client does not take its answer")))
    }
}

impl<IO: AsyncRead + Unpin> AsyncRead for Stream<IO> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_read(cx, buffer)
    }
}

impl<IO: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Stream<IO> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let wrote = Pin::new(&mut self.socket).poll_write(cx, bytes);
        self.watch(cx, wrote)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let wrote = Pin::new(&mut self.socket).poll_write_vectored(cx, bytes);
        self.watch(cx, wrote)
    }

    fn is_write_vectored(&self) -> bool {
        self.socket.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = Pin::new(&mut self.socket).poll_flush(cx);
        self.watch(cx, flushed)
    }

    /// Ends the response, then reads and discards until the client ends, or up to a limit.
    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if matches!(this.closing, Closing::NotYet) {
            let shut = Pin::new(&mut this.socket).poll_shutdown(cx);
            ready!(this.watch(cx, shut))?;
            let until = Box::pin(sleep(DRAIN_TIME));
            this.closing = Closing::Draining { left: DRAIN_BYTES, until };
        }
        if let Closing::Draining { left, until } = &mut this.closing {
            let mut bytes = [std::mem::MaybeUninit::uninit(); 16 * 1024];
            loop {
                let mut buffer = ReadBuf::uninit(&mut bytes);
                match Pin::new(&mut this.socket).poll_read(cx, &mut buffer) {
                    Poll::Ready(Ok(())) if !buffer.filled().is_empty() => {
                        *left = left.saturating_sub(buffer.filled().len());
                        if *left == 0 {
                            break;
                        }
                    }
                    // The end of the stream, or an error.
                    Poll::Ready(_) => break,
                    Poll::Pending => {
                        ready!(until.as_mut().poll(cx));
                        break;
                    }
                }
            }
            this.closing = Closing::Done;
        }
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

    use super::*;
    use crate::clock;

    #[tokio::test(start_paused = true)]
    async fn a_client_that_takes_nothing_is_given_up() {
        let (mut client, server) = duplex(1024);
        let mut server = Stream::new(server);
        let began = clock::timers();
        // A client that reads some bytes restarts the time-out.
        let taking = tokio::spawn(async move {
            tokio::time::sleep(WRITE_TIMEOUT / 2).await;
            client.read_exact(&mut [0; 1024]).await.unwrap();
            client
        });
        let error = server.write_all(&[b'a'; 4096]).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        assert_eq!(began.elapsed().as_secs(), (WRITE_TIMEOUT / 2 + WRITE_TIMEOUT).as_secs());
        drop(taking.await.unwrap());
    }

    #[tokio::test(start_paused = true)]
    async fn what_a_client_still_sends_is_taken_in_until_it_ends() {
        let (mut client, server) = duplex(1024);
        let mut server = Stream::new(server);
        server.write_all(b"413").await.unwrap();
        let closing = tokio::spawn(async move {
            server.shutdown().await.unwrap();
            drop(server);
        });
        client.write_all(&vec![b'a'; 100_000]).await.expect("it is taken in");
        let mut answer = String::new();
        client.read_to_string(&mut answer).await.unwrap();
        assert_eq!(answer, "413");
        drop(client);
        closing.await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_never_ends_is_not_waited_for() {
        let (mut client, server) = duplex(1024);
        let mut server = Stream::new(server);
        let began = clock::timers();
        server.shutdown().await.unwrap();
        assert_eq!(began.elapsed().as_secs(), DRAIN_TIME.as_secs());
        let mut server = Stream::new(duplex(1).0);
        server.shutdown().await.unwrap();

        let (mut endless, server) = duplex(64 * 1024);
        let flooding = tokio::spawn(async move { while endless.write_all(&[b'a'; 1024]).await.is_ok() {} });
        let mut server = Stream::new(server);
        server.shutdown().await.unwrap();
        drop(server);
        flooding.await.unwrap();
        client.shutdown().await.unwrap();
    }
}
