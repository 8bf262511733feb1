//! The contract of gRPC services.

use std::fmt::Write;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Method, Response, header};

use super::Contract;
use crate::grpc;
use crate::rejection::{Rejection, RejectionKind};
use crate::store::Tombstone;

const MESSAGE: HeaderName = HeaderName::from_static("grpc-message");
/// The delay before a client with a retry policy tries again. A negative value means that it must
/// not ([gRFC A6](https://github.com/grpc/proposal/blob/master/A6-client-retries.md#pushback)).
const PUSHBACK: HeaderName = HeaderName::from_static("grpc-retry-pushback-ms");

/// The [status codes](https://github.com/grpc/grpc/blob/master/doc/statuscodes.md) of rejections.
#[derive(Clone, Copy)]
enum Code {
    InvalidArgument = 3,
    AlreadyExists = 6,
    ResourceExhausted = 8,
    FailedPrecondition = 9,
    Aborted = 10,
    Internal = 13,
    Unavailable = 14,
}

impl Contract {
    /// Returns the contract of a gRPC service: unary calls with the metadata `idempotency-key`.
    ///
    /// The key is any value of 1 to 255 characters. It is bound to the method that is called.
    /// Messages are compared byte for byte, so a retry must send the bytes of the first try. If a
    /// client encodes each try again and its messages hold maps, whose order may change, set
    /// [`FingerprintMode::None`](crate::FingerprintMode::None).
    ///
    /// # Which responses are stored
    ///
    /// The outcome of a call is its `grpc-status`, which is in the trailers, or in the headers if
    /// the response has no message. A [`Classifier`](super::Classifier) sees the HTTP status that
    /// corresponds to it. This holds for every response of the type `application/grpc`, with any
    /// contract. With this contract:
    ///
    /// | `grpc-status` | rules see | stored |
    /// |---|---|---|
    /// | `OK` | 200 | yes |
    /// | `INVALID_ARGUMENT`, `FAILED_PRECONDITION`, `OUT_OF_RANGE` | 400 | yes |
    /// | `PERMISSION_DENIED` | 403 | yes |
    /// | `NOT_FOUND` | 404 | yes |
    /// | `ALREADY_EXISTS` | 409 | yes |
    /// | `UNAUTHENTICATED` | 401 | no: a retry runs |
    /// | `RESOURCE_EXHAUSTED` | 429 | no: a retry runs |
    /// | `UNKNOWN`, `INTERNAL`, `DATA_LOSS`, any other number | 500 | no: a retry runs |
    /// | `UNIMPLEMENTED` | 501 | no: a retry runs |
    /// | `ABORTED`, `CANCELLED`, `UNAVAILABLE` | 503 | no: a retry runs |
    /// | `DEADLINE_EXCEEDED` | 504 | no: a retry runs |
    /// | none at the end of the response | nothing | no, by no rule: a retry runs |
    ///
    /// The HTTP statuses are those of `google.rpc.Code`, except for `ABORTED` and `CANCELLED`,
    /// which a retry can change.
    ///
    /// # Streaming calls
    ///
    /// A request of the type `application/grpc` is unary if it ends with its first message. It is a
    /// stream if a second message begins, or if it stays open for two seconds before or after the
    /// first message. A streaming request passes to the handler untouched and **without
    /// idempotency**, as if it had no key.
    ///
    /// The end of a unary call travels with its message, so two seconds between them mean several
    /// lost packets in a row. Such a call runs unprotected. Streaming methods with a key wait up to
    /// two seconds at their beginning; exclude them with [`Builder::when`](crate::Builder::when),
    /// or do not send them a key.
    ///
    /// A response is a stream if it has a second message, or stays open for two seconds before or
    /// after its first message. It is passed on as it arrives and is not stored; the record keeps a
    /// tombstone. So a server-streaming call with a key runs once, and its retries are rejected
    /// with `ALREADY_EXISTS`.
    ///
    /// # Rejections
    ///
    /// A rejection has the HTTP status 200, no body, and its `grpc-status` in the headers
    /// ("Trailers-Only" in
    /// [PROTOCOL-HTTP2](https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md)).
    /// [`Rejection::status`] returns the corresponding HTTP status. Clients with a retry policy
    /// obey `grpc-retry-pushback-ms`:
    ///
    /// | [`RejectionKind`] | `grpc-status` | `grpc-retry-pushback-ms` |
    /// |---|---|---|
    /// | `KeyMissing`, `KeyInvalid`, `BodyUnreadable` | `INVALID_ARGUMENT` (3) | |
    /// | `KeyReused` | `INVALID_ARGUMENT` (3): no retry of this call can succeed | |
    /// | `InProgress` | `ABORTED` (10) | 1000 |
    /// | `Tombstone(Unreplayable)` | `ALREADY_EXISTS` (6): it was carried out | −1: not again |
    /// | `Tombstone(Unknown)` | `FAILED_PRECONDITION` (9): an operator must look first | −1: not again |
    /// | `BodyTooLarge` | `RESOURCE_EXHAUSTED` (8) | −1: not again |
    /// | `ScopeMissing`, `ResponseUnreadable` | `INTERNAL` (13) | |
    /// | `Overloaded`, `StoreUnavailable`, `NotRecorded`, `RolledBack` | `UNAVAILABLE` (14) | 1000 |
    /// | `CommitUnknown` | `UNAVAILABLE` (14) | −1: without a key it may run twice |
    ///
    /// # gRPC-Web
    ///
    /// `application/grpc-web` is plain HTTP to this layer, where every outcome is a 200 and is
    /// stored. Put the layer that translates it into gRPC, such as tonic-web's, outside this one.
    pub fn grpc() -> Self {
        Self::base().methods(&[Method::POST]).rejection(trailers_only)
    }
}

fn trailers_only(rejection: &Rejection) -> Response<Bytes> {
    let code = code_of(rejection.kind());
    let mut response = Response::new(Bytes::new());
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    headers.insert(grpc::STATUS, HeaderValue::from(code as u16));
    // Percent-encoded text is visible ASCII and spaces, so this is always a valid header value.
    if let Ok(message) = HeaderValue::try_from(percent_encoded(&rejection.to_string())) {
        headers.insert(MESSAGE, message);
    }
    let pushback = match rejection.kind() {
        RejectionKind::Tombstone(_) | RejectionKind::BodyTooLarge { .. } | RejectionKind::CommitUnknown => {
            Some(HeaderValue::from_static("-1"))
        }
        _ => rejection.retry_after.map(|wait| milliseconds(wait).into()),
    };
    if let Some(pushback) = pushback {
        headers.insert(PUSHBACK, pushback);
    }
    response
}

fn code_of(kind: RejectionKind) -> Code {
    match kind {
        RejectionKind::KeyMissing
        | RejectionKind::KeyInvalid(_)
        | RejectionKind::KeyReused
        | RejectionKind::BodyUnreadable => Code::InvalidArgument,
        RejectionKind::InProgress => Code::Aborted,
        RejectionKind::Tombstone(Tombstone::Unreplayable) => Code::AlreadyExists,
        RejectionKind::Tombstone(Tombstone::Unknown) => Code::FailedPrecondition,
        RejectionKind::BodyTooLarge { .. } => Code::ResourceExhausted,
        RejectionKind::ScopeMissing | RejectionKind::Misconfigured | RejectionKind::ResponseUnreadable => {
            Code::Internal
        }
        RejectionKind::Overloaded
        | RejectionKind::StoreUnavailable
        | RejectionKind::NotRecorded
        | RejectionKind::RolledBack
        | RejectionKind::CommitUnknown => Code::Unavailable,
    }
}

fn milliseconds(wait: Duration) -> u64 {
    wait.as_millis().try_into().unwrap_or(u64::MAX)
}

/// Encodes a `grpc-message`: every byte except spaces and visible ASCII is percent-encoded, and so
/// is the percent sign.
fn percent_encoded(message: &str) -> String {
    let mut encoded = String::with_capacity(message.len());
    for byte in message.bytes() {
        match byte {
            b' '..=b'~' if byte != b'%' => encoded.push(byte.into()),
            // Writing into a `String` does not fail.
            _ => _ = write!(encoded, "%{byte:02X}"),
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    use super::percent_encoded;

    #[test]
    fn a_message_is_percent_encoded_where_a_header_could_not_hold_it() {
        assert_eq!(percent_encoded("100 % of it ~"), "100 %25 of it ~");
        assert_eq!(percent_encoded("señal\n"), "se%C3%B1al%0A");
    }
}
