//! Classifies the errors of HTTP clients.

use std::any::Any;
use std::error::Error;
use std::io;

use tower::BoxError;
use tower::timeout::error::Elapsed;

use super::event::TryOutcome;

/// Beginnings of messages about mistakes that another try does not mend, from errors whose types are private or belong to a
/// crate that may not be there: hyper-util's and hyper-rustls' connectors, rustls, OpenSSL. A match decides only that a
/// request is not sent again, so a wrong one never runs a request twice.
const PERMANENT: [&str; 16] = [
    "invalid URL, ",
    "unsupported scheme",
    "missing scheme",
    "invalid dns name",
    "invalid peer certificate",
    "invalid certificate revocation list",
    "peer sent no certificates",
    "peer is incompatible",
    "peer doesn't support any known protocol",
    "received fatal alert: BadCertificate",
    "received fatal alert: Certificate",
    "received fatal alert: UnsupportedCertificate",
    "received fatal alert: UnknownCA",
    "received fatal alert: UnrecognisedName",
    "received fatal alert: ProtocolVersion",
    "received fatal alert: HandshakeFailure",
];

/// OpenSSL's message about a certificate begins with numbers.
const OPENSSL_PERMANENT: &str = "certificate verify failed";

/// Classifies the error of a boxed service.
pub(super) fn classify(error: &BoxError) -> TryOutcome {
    classify_chain(error.as_ref())
}

/// Classifies an error whose type is known only at run time. Of a type that this crate does not know, nothing is known: the
/// server may have processed the request.
pub(super) fn classify_any(error: &dyn Any) -> TryOutcome {
    fn known<E: Error + 'static>(error: &dyn Any) -> Option<&(dyn Error + 'static)> {
        error.downcast_ref::<E>().map(|error| error as &(dyn Error + 'static))
    }
    if let Some(error) = error.downcast_ref::<BoxError>() {
        return classify(error);
    }
    let found = known::<io::Error>(error);
    #[cfg(feature = "hyper")]
    let found = found
        .or_else(|| known::<hyper_util::client::legacy::Error>(error))
        .or_else(|| known::<hyper::Error>(error));
    found.map_or(TryOutcome::Failed, classify_chain)
}

fn classify_chain(error: &(dyn Error + 'static)) -> TryOutcome {
    if error.is::<Elapsed>() {
        return TryOutcome::Timeout;
    }
    if chain(error).any(is_permanent) {
        TryOutcome::Permanent
    } else if chain(error).any(is_not_sent) {
        TryOutcome::NotSent
    } else {
        TryOutcome::Failed
    }
}

/// The error and its sources. An [`io::Error`] hides the error it was made from, and shows only that one's source.
fn chain<'a>(error: &'a (dyn Error + 'static)) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    std::iter::successors(Some(error), |error| {
        let error: &'a (dyn Error + 'static) = *error;
        match error.downcast_ref::<io::Error>() {
            Some(io) => io.get_ref().map(|inner| inner as &(dyn Error + 'static)),
            None => error.source(),
        }
    })
    // An error can be its own source.
    .take(32)
}

fn is_permanent(error: &(dyn Error + 'static)) -> bool {
    #[cfg(feature = "reqwest")]
    if let Some(error) = error.downcast_ref::<reqwest::Error>() {
        return error.is_builder() || error.is_redirect();
    }
    #[cfg(feature = "hyper")]
    if let Some(error) = error.downcast_ref::<hyper_util::client::legacy::Error>() {
        // The kind is private; the message names it: "client error (UserAbsoluteUriRequired)".
        return error.to_string().contains("(User");
    }
    #[cfg(feature = "hyper")]
    if let Some(error) = error.downcast_ref::<hyper::Error>() {
        return error.is_user() && !error.is_body_write_aborted();
    }
    if error.is::<http::Error>() || error.is::<http::uri::InvalidUri>() {
        return true;
    }
    let message = error.to_string();
    PERMANENT.iter().any(|beginning| message.starts_with(beginning)) || message.contains(OPENSSL_PERMANENT)
}

/// Whether the error shows that the server did not process the request.
fn is_not_sent(error: &(dyn Error + 'static)) -> bool {
    #[cfg(feature = "http2")]
    if let Some(error) = error.downcast_ref::<h2::Error>() {
        // RFC 9113, sections 6.8 and 8.7. On the error of a stream, a GOAWAY of the server means that the stream is above the
        // last one that it processes.
        let is_refused = error.is_reset() && error.reason() == Some(h2::Reason::REFUSED_STREAM);
        return error.is_remote() && (is_refused || error.is_go_away());
    }
    #[cfg(feature = "hyper")]
    if let Some(error) = error.downcast_ref::<hyper_util::client::legacy::Error>() {
        return error.is_connect();
    }
    #[cfg(feature = "hyper")]
    if let Some(error) = error.downcast_ref::<hyper::Error>() {
        // Still in the queue when its connection closed.
        return error.is_canceled();
    }
    // An established connection can fail with this only after its retransmissions time out, much later than a try.
    error.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == io::ErrorKind::ConnectionRefused)
}
