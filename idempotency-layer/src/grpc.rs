//! The parts of gRPC over HTTP/2 that the layer needs: messages, streams and statuses.
//!
//! Sources: [PROTOCOL-HTTP2](https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md) for
//! the framing and the place of the status,
//! [statuscodes](https://github.com/grpc/grpc/blob/master/doc/statuscodes.md) for its values.

use std::mem;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header, response};
use http_body_util::BodyExt;
use tokio::time::timeout_at;

use crate::body::{self, Buffer, Read, Replayable};
use crate::clock::{after, now};

/// How long a body may stay open before its first message, or after it, until the call counts as a
/// stream.
///
/// A client sends the end of a unary call together with its message, so a longer wait means a
/// stream, or several lost packets. Each streaming call with a key waits this long at its
/// beginning.
const STREAM_GRACE: Duration = Duration::from_secs(2);

/// The outcome of a call, in headers or trailers.
pub(crate) const STATUS: HeaderName = HeaderName::from_static("grpc-status");

/// The compressed flag and the length in front of each message.
const PREFIX: usize = 5;

/// Returns whether the content type is `application/grpc`, perhaps with a format such as `+proto`.
/// gRPC-Web is another protocol.
pub(crate) fn is_grpc(headers: &HeaderMap) -> bool {
    const GRPC: &[u8] = b"application/grpc";
    let content_type = headers.get(header::CONTENT_TYPE).map(HeaderValue::as_bytes);
    content_type.and_then(|value| value.split_at_checked(GRPC.len())).is_some_and(|(kind, format)| {
        kind.eq_ignore_ascii_case(GRPC) && matches!(format.first(), None | Some(b'+' | b';' | b' '))
    })
}

/// The result of reading the body of a call.
pub(crate) enum Call {
    /// At most one message and the end of the body, or a failure.
    Unary(Read),
    /// A stream of messages. Holds the bytes that were read; the rest is still in the body.
    Streaming(Bytes),
}

/// Reads the body of a call of at most `limit` bytes, to its end or until it is known to be a
/// stream.
///
/// It is a stream if a second message begins, if the body stays open for [`STREAM_GRACE`] before
/// the first message or after it, or if it does not consist of messages. Once a message has begun,
/// there is no limit of time, as for any other body.
///
/// # Cancel safety
///
/// If the call is dropped, the bytes that were read are lost.
pub(crate) async fn read<B: Replayable>(body: &mut B, limit: usize) -> Call {
    let mut first = FirstMessage::default();
    let mut read = Buffer::default();
    let mut grace = after(now(), STREAM_GRACE);
    loop {
        let frame = if first.is_at_boundary() {
            // A dropped `frame` future loses no data.
            match timeout_at(grace, body.frame()).await {
                Ok(frame) => frame,
                Err(_) => return Call::Streaming(read.into_bytes()),
            }
        } else {
            body.frame().await
        };
        let data = match frame {
            None => return Call::Unary(Read::Whole(read.into_bytes(), None)),
            Some(Err(error)) => return Call::Unary(body::failed(error.into())),
            Some(Ok(frame)) => match frame.into_data() {
                Ok(data) => data,
                // Trailers are the last frame of a body.
                Err(frame) => {
                    return Call::Unary(Read::Whole(
                        read.into_bytes(),
                        frame.into_trailers().ok().map(Box::new),
                    ));
                }
            },
        };
        if !data.is_empty() {
            grace = after(now(), STREAM_GRACE);
        }
        let is_one_message = first.advance(&data);
        read.push(data, 0);
        if !is_one_message {
            return Call::Streaming(read.into_bytes());
        }
        if read.len() > limit {
            return Call::Unary(Read::TooLarge(read.into_bytes()));
        }
    }
}

/// Applies a rule for HTTP responses to the response of a call, and returns its result.
///
/// The rule sees the status that [`http_status`] gives to the outcome, and finds `grpc-status`
/// among the headers even if it came in the trailers. Returns `None` if the response has no
/// outcome.
pub(crate) fn judge<T>(
    parts: &mut response::Parts,
    trailers: Option<&HeaderMap>,
    rule: impl FnOnce(&response::Parts) -> T,
) -> Option<T> {
    let trailing = trailers.and_then(|trailers| trailers.get(&STATUS));
    // If there is a status in the headers, clients ignore the trailers.
    let outcome = parts.headers.get(&STATUS).or(trailing).map(http_status);
    let status = match outcome {
        Some(status) => status,
        // The response is plain HTTP, for example from a proxy whose upstream is gone.
        None if parts.status != StatusCode::OK => parts.status,
        None => return None,
    };
    let sent = mem::replace(&mut parts.status, status);
    let added = trailing.filter(|_| !parts.headers.contains_key(&STATUS)).cloned();
    let is_added = added.is_some();
    if let Some(added) = added {
        parts.headers.insert(STATUS, added);
    }
    let judged = rule(parts);
    if is_added {
        parts.headers.remove(&STATUS);
    }
    parts.status = sent;
    Some(judged)
}

/// Returns the HTTP status that corresponds to a `grpc-status`: that of
/// [google.rpc.Code](https://github.com/googleapis/googleapis/blob/master/google/rpc/code.proto),
/// except for `CANCELLED` and `ABORTED`, which a retry can change.
fn http_status(code: &HeaderValue) -> StatusCode {
    let code = code.to_str().ok().and_then(|code| code.parse::<u8>().ok());
    match code {
        Some(0) => StatusCode::OK,
        // INVALID_ARGUMENT, FAILED_PRECONDITION, OUT_OF_RANGE
        Some(3 | 9 | 11) => StatusCode::BAD_REQUEST,
        // NOT_FOUND
        Some(5) => StatusCode::NOT_FOUND,
        // ALREADY_EXISTS
        Some(6) => StatusCode::CONFLICT,
        // PERMISSION_DENIED
        Some(7) => StatusCode::FORBIDDEN,
        // UNAUTHENTICATED
        Some(16) => StatusCode::UNAUTHORIZED,
        // RESOURCE_EXHAUSTED
        Some(8) => StatusCode::TOO_MANY_REQUESTS,
        // CANCELLED, ABORTED, UNAVAILABLE
        Some(1 | 10 | 14) => StatusCode::SERVICE_UNAVAILABLE,
        // DEADLINE_EXCEEDED
        Some(4) => StatusCode::GATEWAY_TIMEOUT,
        // UNIMPLEMENTED
        Some(12) => StatusCode::NOT_IMPLEMENTED,
        // UNKNOWN, INTERNAL, DATA_LOSS, and an invalid code, which clients treat as UNKNOWN
        _ => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

/// The state of reading the first message of a body.
#[derive(Default)]
struct FirstMessage {
    /// The number of bytes of the prefix that were read.
    prefix: usize,
    /// The number of bytes of the message that are still to come, once the prefix is complete.
    left: u64,
}

impl FirstMessage {
    /// Returns whether nothing was read yet, or the whole message. Here a unary call may end, and a
    /// stream may wait.
    fn is_at_boundary(&self) -> bool {
        self.prefix == 0 || self.prefix == PREFIX && self.left == 0
    }

    /// Reads further data. Returns `false` if it exceeds one message, or is not a message: the
    /// compressed flag must be 0 or 1.
    fn advance(&mut self, data: &[u8]) -> bool {
        let (prefix, message) = data.split_at(data.len().min(PREFIX - self.prefix));
        for &byte in prefix {
            match self.prefix {
                0 if byte > 1 => return false,
                0 => {}
                _ => self.left = self.left << 8 | u64::from(byte),
            }
            self.prefix += 1;
        }
        // If the prefix is not complete, `message` is empty.
        match self.left.checked_sub(message.len() as u64) {
            Some(left) => self.left = left,
            None => return false,
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(content_type: &'static str) -> HeaderMap {
        HeaderMap::from_iter([(header::CONTENT_TYPE, HeaderValue::from_static(content_type))])
    }

    #[test]
    fn the_content_type_tells_grpc_from_what_only_begins_like_it() {
        for grpc in
            ["application/grpc", "Application/GRPC+proto", "application/grpc;x=1", "application/grpc ; x"]
        {
            assert!(is_grpc(&headers(grpc)), "{grpc}");
        }
        for other in
            ["application/grpc-web", "application/grpc-web+proto", "application/grp", "text/plain", ""]
        {
            assert!(!is_grpc(&headers(other)), "{other}");
        }
        assert!(!is_grpc(&HeaderMap::new()));
    }

    #[test]
    fn the_first_message_ends_where_its_prefix_says_however_it_is_cut() {
        let message = [0, 0, 0, 1, 2].into_iter().chain([7; 258]).collect::<Vec<u8>>();
        for cut in 0..=message.len() {
            let mut first = FirstMessage::default();
            assert!(first.advance(&message[..cut]));
            assert_eq!(first.is_at_boundary(), cut == 0 || cut == message.len(), "after {cut}");
            assert!(first.advance(&message[cut..]));
            assert!(first.is_at_boundary());
            assert!(!first.advance(&[0]), "a second message");
        }
        let mut first = FirstMessage::default();
        assert!(!first.advance(&[message, vec![0]].concat()), "a second message in one piece with the first");
    }

    #[test]
    fn an_empty_message_is_one_and_what_has_no_flag_is_none() {
        let mut first = FirstMessage::default();
        assert!(first.advance(&[1, 0, 0, 0, 0]) && first.is_at_boundary());
        assert!(first.advance(&[]));
        assert!(!FirstMessage::default().advance(b"hello"));
    }
}
