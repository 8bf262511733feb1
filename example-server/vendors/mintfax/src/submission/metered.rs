//! A body that yields one frame at a time.
//!
//! The multipart parser buffers everything that is available before it parses, and searches for the
//! end of a part's header without a limit. With a fast client it would buffer the whole body. So
//! this body returns `Pending` once after each frame, and yields no more than an [`Allowance`]
//! between two results of the parser.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, ready};

use axum::body::Body;
use bytes::Bytes;
use http_body::{Frame, SizeHint};

/// The bytes that the parser may still read before its next result.
#[derive(Debug, Clone, Default)]
pub(super) struct Allowance(Arc<AtomicUsize>);

impl Allowance {
    /// The maximum size of a part's header is well below this.
    const BYTES: usize = 64 * 1024;

    pub(super) fn renew(&self) {
        self.0.store(Self::BYTES, Ordering::Relaxed);
    }

    fn is_spent(&self) -> bool {
        self.0.load(Ordering::Relaxed) == 0
    }

    /// The last frame may exceed what is left: it has been read already.
    fn spend(&self, bytes: usize) {
        self.0.store(self.0.load(Ordering::Relaxed).saturating_sub(bytes), Ordering::Relaxed);
    }
}

/// A body whose frames are limited by an [`Allowance`].
#[derive(Debug)]
pub(super) struct Metered {
    body: Body,
    allowance: Allowance,
    pausing: bool,
}

impl Metered {
    pub(super) fn new(body: Body, allowance: Allowance) -> Self {
        allowance.renew();
        Self { body, allowance, pausing: false }
    }
}

impl http_body::Body for Metered {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        if self.pausing {
            self.pausing = false;
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        if self.allowance.is_spent() {
            return Poll::Ready(Some(Err(axum::Error::new("the header of a part is too long"))));
        }
        let frame = ready!(Pin::new(&mut self.body).poll_frame(cx));
        if let Some(Ok(frame)) = &frame
            && let Some(data) = frame.data_ref()
        {
            self.allowance.spend(data.len());
            self.pausing = true;
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
