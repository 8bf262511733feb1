//! Bodies of requests and responses.

use std::error::Error;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes, BytesMut};
use http::HeaderMap;
use http_body::{Body, Frame, SizeHint};
use http_body_util::combinators::{BoxBody, UnsyncBoxBody};
use http_body_util::{BodyExt, LengthLimitError};
use pin_project_lite::pin_project;

use crate::error::BoxError;

/// A body that the layer can replace: it reads the body to hash or store it, and passes on another
/// one of the same type.
///
/// The type is the same on both sides of the layer, so a request that the layer does not look at
/// passes untouched and without an allocation. Wrap a body that cannot be made from bytes, such as
/// hyper's `Incoming`, in a [`ReplayBody`] outside the layer.
#[diagnostic::on_unimplemented(
    message = "the idempotency layer cannot make a body of type `{Self}`",
    note = "for axum's bodies enable the feature `axum` of `idempotency-layer`, for tonic's the feature `tonic`",
    note = "wrap any other body, as in `request.map(ReplayBody::new)`, or implement `Replayable` for it"
)]
pub trait Replayable: Body<Data = Bytes, Error: Into<BoxError>> + Unpin + Send + Sized + 'static {
    /// Makes a body that yields the frames of `body`.
    fn from_replay(body: ReplayBody<Self>) -> Self;
}

pin_project! {
    /// A body that the layer has read completely or in part. It yields the bytes that were read,
    /// then the rest, then the trailers.
    ///
    /// It is also the wrapper for bodies that cannot be made from bytes, such as hyper's. Do not
    /// wrap axum's bodies; enable the feature `axum` instead. Without it the layer sees the path
    /// that `nest` has stripped, under which two resources look the same.
    ///
    /// ```
    /// use hyper::body::Incoming;
    /// use idempotency_layer::ReplayBody;
    /// use tower::ServiceBuilder;
    ///
    /// # fn example<S>(handler: S, layer: idempotency_layer::IdempotencyLayer<idempotency_layer::MemoryStore>) {
    /// let service = ServiceBuilder::new()
    ///     .map_request(|request: http::Request<Incoming>| request.map(ReplayBody::new))
    ///     .layer(layer)
    ///     .service(handler); // takes http::Request<ReplayBody<Incoming>>
    /// # }
    /// ```
    #[derive(Debug)]
    pub struct ReplayBody<B> {
        data: Option<Bytes>,
        #[pin]
        rest: Option<B>,
        trailers: Option<Box<HeaderMap>>,
        // Set if the rest breaks off.
        broke_off: Option<Arc<AtomicBool>>,
    }
}

impl<B> ReplayBody<B> {
    /// Wraps a body that was not read yet.
    pub fn new(body: B) -> Self {
        Self { data: None, rest: Some(body), trailers: None, broke_off: None }
    }

    /// Wraps a body that was not read yet. Sets `broke_off` if the body breaks off while it is
    /// read.
    pub(crate) fn watched(body: B, broke_off: Arc<AtomicBool>) -> Self {
        Self { broke_off: Some(broke_off), ..Self::new(body) }
    }

    /// Makes a body from one that was read to its end.
    pub(crate) fn read(data: Bytes, trailers: Option<Box<HeaderMap>>) -> Self {
        Self { data: Some(data).filter(|data| !data.is_empty()), rest: None, trailers, broke_off: None }
    }

    /// Makes a body from one that was read in part.
    pub(crate) fn resumed(data: Bytes, rest: B) -> Self {
        Self { data: Some(data).filter(|data| !data.is_empty()), ..Self::new(rest) }
    }

    /// Returns the bytes of a body that was read to its end and has no trailers.
    ///
    /// # Errors
    ///
    /// Returns the body itself if a part of it was not read, or if it has trailers.
    pub fn into_bytes(self) -> Result<Bytes, Self> {
        match self {
            Self { data, rest: None, trailers: None, .. } => Ok(data.unwrap_or_default()),
            more => Err(more),
        }
    }
}

impl<B: Body> Body for ReplayBody<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        let mut this = self.project();
        if let Some(data) = this.data.take() {
            return Poll::Ready(Some(Ok(Frame::data(data))));
        }
        if let Some(rest) = this.rest.as_mut().as_pin_mut() {
            match ready!(rest.poll_frame(cx)) {
                Some(frame) => {
                    if let (Err(_), Some(broke_off)) = (&frame, this.broke_off.as_ref()) {
                        broke_off.store(true, Ordering::Relaxed);
                    }
                    let to_bytes = |mut data: B::Data| data.copy_to_bytes(data.remaining());
                    return Poll::Ready(Some(frame.map(|frame| frame.map_data(to_bytes))));
                }
                None => this.rest.set(None),
            }
        }
        Poll::Ready(this.trailers.take().map(|trailers| Ok(Frame::trailers(*trailers))))
    }

    fn is_end_stream(&self) -> bool {
        self.data.is_none() && self.trailers.is_none() && self.rest.as_ref().is_none_or(Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        let read = self.data.as_ref().map_or(0, Bytes::len) as u64;
        let rest = self.rest.as_ref().map_or_else(|| SizeHint::with_exact(0), Body::size_hint);
        let mut hint = SizeHint::new();
        hint.set_lower(read.saturating_add(rest.lower()));
        if let Some(upper) = rest.upper().and_then(|upper| upper.checked_add(read)) {
            hint.set_upper(upper);
        }
        hint
    }
}

impl<B> Replayable for ReplayBody<B>
where
    B: Body<Error: Into<BoxError>> + Unpin + Send + 'static,
{
    fn from_replay(body: ReplayBody<Self>) -> Self {
        let ReplayBody { data, rest, trailers, broke_off } = body;
        match rest {
            None => Self { data, rest: None, trailers, broke_off },
            // The bytes that were read come first. If there are none, `rest` still has its own.
            Some(rest) => Self {
                data: data.or(rest.data),
                rest: rest.rest,
                trailers: trailers.or(rest.trailers),
                broke_off: broke_off.or(rest.broke_off),
            },
        }
    }
}

impl<E: Into<BoxError> + 'static> Replayable for UnsyncBoxBody<Bytes, E> {
    fn from_replay(body: ReplayBody<Self>) -> Self {
        Self::new(body)
    }
}

impl<E: Into<BoxError> + 'static> Replayable for BoxBody<Bytes, E> {
    fn from_replay(body: ReplayBody<Self>) -> Self {
        Self::new(body)
    }
}

/// Keeps the one frame. A `Full` has no trailers and is never read in part.
impl Replayable for http_body_util::Full<Bytes> {
    fn from_replay(body: ReplayBody<Self>) -> Self {
        body.rest.unwrap_or_else(|| Self::new(body.data.unwrap_or_default()))
    }
}

#[cfg(feature = "axum")]
mod axum;
#[cfg(feature = "tonic")]
mod tonic;

/// The result of reading a body.
pub(crate) enum Read {
    /// All of it, with its trailers. They are boxed because few bodies have any.
    Whole(Bytes, Option<Box<HeaderMap>>),
    /// The body is longer than the limit. These bytes were read. The rest is still in the body.
    TooLarge(Bytes),
    /// The body exceeds a length limit of middleware outside the layer.
    LimitedElsewhere(BoxError),
    /// The body broke off.
    Failed(BoxError),
}

/// Reads a body of at most `limit` bytes.
///
/// # Cancel safety
///
/// If the future is dropped, the bytes it has read are lost.
pub(crate) async fn read<B: Replayable>(body: &mut B, limit: usize) -> Read {
    let limit = limit as u64;
    let expected = body.size_hint().lower();
    if expected > limit {
        return Read::TooLarge(Bytes::new());
    }
    let mut read = Buffer::default();
    let mut trailers = None;
    while let Some(frame) = body.frame().await {
        let frame = match frame {
            Ok(frame) => frame,
            Err(error) => return failed(error.into()),
        };
        match frame.into_data() {
            Ok(data) => {
                read.push(data, expected);
                if read.len() as u64 > limit {
                    return Read::TooLarge(read.into_bytes());
                }
                // Saves a poll: most bodies know that this was their last frame.
                if body.is_end_stream() {
                    break;
                }
            }
            Err(frame) => trailers = frame.into_trailers().ok().map(Box::new).or(trailers),
        }
    }
    Read::Whole(read.into_bytes(), trailers)
}

/// Distinguishes a length limit outside the layer from a body that broke off. Middleware and
/// frameworks wrap the error of a limit, so all of its sources are checked.
pub(crate) fn failed(error: BoxError) -> Read {
    let mut cause: Option<&(dyn Error + 'static)> = Some(&*error);
    while let Some(error_or_cause) = cause {
        if error_or_cause.is::<LengthLimitError>() {
            return Read::LimitedElsewhere(error);
        }
        cause = error_or_cause.source();
    }
    Read::Failed(error)
}

/// The data that was read of a body. The data of a single frame is not copied.
#[derive(Default)]
pub(crate) struct Buffer {
    first: Bytes,
    more: Option<BytesMut>,
}

impl Buffer {
    /// Adds a frame of a body that has at least `expected` bytes.
    #[inline]
    pub(crate) fn push(&mut self, data: Bytes, expected: u64) {
        if self.first.is_empty() && self.more.is_none() {
            self.first = data;
            return;
        }
        let read = self.len() + data.len();
        let capacity = usize::try_from(expected).unwrap_or(read).max(read);
        let buffer = self.more.get_or_insert_with(|| {
            let mut buffer = BytesMut::with_capacity(capacity);
            buffer.extend_from_slice(&self.first);
            buffer
        });
        buffer.extend_from_slice(&data);
    }

    #[inline]
    pub(crate) fn len(&self) -> usize {
        self.more.as_ref().map_or(self.first.len(), BytesMut::len)
    }

    #[inline]
    pub(crate) fn into_bytes(self) -> Bytes {
        self.more.map_or(self.first, BytesMut::freeze)
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use super::*;

    /// A body of one frame that panics when it is polled after its end.
    struct OneFrame(Option<Bytes>);

    impl Body for OneFrame {
        type Data = Bytes;
        type Error = Infallible;

        fn poll_frame(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
            Poll::Ready(Some(Ok(Frame::data(self.0.take().expect("not polled after its end")))))
        }

        fn is_end_stream(&self) -> bool {
            self.0.is_none()
        }
    }

    #[tokio::test]
    async fn a_body_that_knows_its_end_is_not_polled_after_it() {
        let mut body = ReplayBody::new(OneFrame(Some(Bytes::from_static(b"all of it"))));
        assert!(matches!(read(&mut body, 9).await, Read::Whole(data, None) if data == "all of it"));
    }
}
