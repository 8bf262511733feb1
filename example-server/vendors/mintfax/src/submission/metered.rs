//! A body that is handed out a frame at a time.
//!
//! The multipart parser takes in all that is there before it looks at any of it, and looks for the end of a part's head
//! however long that is. Of a fast client it would hold the whole body. So after each frame this body has nothing for a
//! moment, and between two things that the parser finds it gives no more than an [`Allowance`].

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, ready};

use axum::body::Body;
use bytes::Bytes;
use http_body::{Frame, SizeHint};

/// How many bytes the parser may still take in before it has found something.
#[derive(Debug, Clone, Default)]
pub(super) struct Allowance(Arc<AtomicUsize>);

impl Allowance {
    /// More than any head of a part has.
    const BYTES: usize = 64 * 1024;

    pub(super) fn renew(&self) {
        self.0.store(Self::BYTES, Ordering::Relaxed);
    }

    fn is_spent(&self) -> bool {
        self.0.load(Ordering::Relaxed) == 0
    }

    /// A frame that is longer than what is left was read already.
    fn spend(&self, bytes: usize) {
        self.0.store(self.0.load(Ordering::Relaxed).saturating_sub(bytes), Ordering::Relaxed);
    }
}

/// The body.
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
            return Poll::Ready(Some(Err(axum::Error::new("the head of a part has no end"))));
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
