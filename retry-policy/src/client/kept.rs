use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::{Buf, Bytes};
use http::{Response, response::Parts};
use http_body::Body;

use super::message::ClientResponse;

/// How many bytes of a body an [`Error`](super::Error) keeps: 64 KiB.
pub const MAX_KEPT_BODY_BYTES: usize = 64 * 1024;

/// The last response, kept in case the next tries bring none.
///
/// Its body is read while the next try is due and no longer: a response that is held unread keeps its connection, so that
/// each retry would need a new one.
pub(super) struct Kept<B> {
    head: Parts,
    /// `None`: read to the end, as far as it is kept.
    body: Option<Pin<Box<B>>>,
    read: Vec<u8>,
}

impl<B: Body> Kept<B> {
    pub(super) fn new(response: impl ClientResponse<Body = B>) -> Self {
        let (head, body) = response.into_http().into_parts();
        Self { head, body: Some(Box::pin(body)), read: Vec::new() }
    }

    /// Reads what has arrived. The task is woken when there is more.
    pub(super) fn poll_read(&mut self, context: &mut Context<'_>) {
        while let Some(body) = &mut self.body {
            match body.as_mut().poll_frame(context) {
                Poll::Pending => return,
                Poll::Ready(Some(Ok(frame))) => {
                    let Ok(mut data) = frame.into_data() else { continue };
                    while data.has_remaining() && self.read.len() < MAX_KEPT_BODY_BYTES {
                        let chunk = data.chunk();
                        let length = chunk.len().min(MAX_KEPT_BODY_BYTES - self.read.len());
                        self.read.extend_from_slice(&chunk[..length]);
                        data.advance(length);
                    }
                    // A body that ends exactly here is read to its end, so that its connection can be used again.
                    if data.has_remaining() {
                        self.body = None;
                    }
                }
                Poll::Ready(Some(Err(_)) | None) => self.body = None,
            }
        }
    }

    /// Lets go of the connection.
    pub(super) fn stop_reading(&mut self) {
        self.body = None;
    }

    pub(super) fn into_response(self) -> Response<Bytes> {
        Response::from_parts(self.head, self.read.into())
    }
}
