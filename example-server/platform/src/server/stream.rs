//! A connection's socket, which gives up on a client that takes no answer, and takes in what one still sends.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Sleep, sleep};

/// How long a client may take none of its answer.
const WRITE_TIMEOUT: Duration = Duration::from_secs(30);
/// What is read of a request, and thrown away, after its answer: an answer that was given before the body was read would be
/// lost to a client that is still sending, because closing a socket with unread bytes resets the connection.
const DRAIN_BYTES: usize = 17 * 1024 * 1024;
const DRAIN_TIME: Duration = Duration::from_secs(2);

/// The socket.
#[derive(Debug)]
pub(super) struct Stream<IO> {
    socket: IO,
    /// Runs while the socket takes nothing.
    stalled: Option<Pin<Box<Sleep>>>,
    closing: Closing,
}

#[derive(Debug)]
enum Closing {
    NotYet,
    /// The answer is sent to its end.
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

    /// Hands on what became of a write, unless nothing was taken for too long.
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

    /// Ends the answer, then reads for a moment: until the client has ended, too.
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
                    // It has ended, one way or the other.
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
        // Whoever takes some of it gets as long again.
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
