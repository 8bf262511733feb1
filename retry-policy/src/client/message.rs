//! What the layer needs from a request and a response, whichever client they belong to.

use std::borrow::Cow;

use http::header::HOST;
use http::{HeaderMap, Method, Request, Response, StatusCode};

/// A request that can be inspected, given a key and, if its body allows, sent again.
///
/// Implemented for [`http::Request`] with any body that is `Clone`. A body that is not `Clone` (a stream) does not compile
/// with the layer: collect it first.
///
/// `reqwest::Request` does not implement it, because a `reqwest::Client` on its own follows redirects to other origins and
/// takes the key along. Use [`Retries::reqwest`](super::Retries::reqwest) (feature `reqwest`), which prevents that.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a request that can be retried",
    note = "an `http::Request` needs a body that is `Clone`: collect a stream first",
    note = "for reqwest, use `Retries::reqwest(reqwest::Client::builder())`: \
            a `reqwest::Client` on its own takes the key along when it follows a redirect to another origin"
)]
pub trait ClientRequest: Sized {
    /// Returns the method.
    fn method(&self) -> &Method;
    /// Returns the headers.
    fn headers(&self) -> &HeaderMap;
    /// Returns the headers, to add one.
    fn headers_mut(&mut self) -> &mut HeaderMap;
    /// Returns the host, with the port if the request names one; `None` if it names no host. Each host has its own budget.
    fn host(&self) -> Option<Cow<'_, str>>;
    /// Returns the same request for the next try; `None` if its body can be sent only once.
    ///
    /// Called once before each try that can be followed by another, and never only to find out whether it is possible.
    fn try_clone(&self) -> Option<Self>;
}

/// A response.
///
/// Implemented for [`http::Response`] with any body.
pub trait ClientResponse {
    /// The body.
    type Body: http_body::Body;
    /// Returns the status.
    fn status(&self) -> StatusCode;
    /// Returns the headers.
    fn headers(&self) -> &HeaderMap;
    /// Converts it, so that the layer can read its body while the next try is due.
    fn into_http(self) -> Response<Self::Body>;
}

impl<B: Clone> ClientRequest for Request<B> {
    fn method(&self) -> &Method {
        self.method()
    }

    fn headers(&self) -> &HeaderMap {
        self.headers()
    }

    fn headers_mut(&mut self) -> &mut HeaderMap {
        self.headers_mut()
    }

    fn host(&self) -> Option<Cow<'_, str>> {
        let named = self.uri().authority().map(http::uri::Authority::as_str);
        let named = named.or_else(|| self.headers().get(HOST)?.to_str().ok())?;
        // Without user name and password.
        let host = named.rsplit_once('@').map_or(named, |(_, host)| host);
        Some(if host.bytes().any(|byte| byte.is_ascii_uppercase()) {
            Cow::Owned(host.to_ascii_lowercase())
        } else {
            Cow::Borrowed(host)
        })
    }

    fn try_clone(&self) -> Option<Self> {
        Some(self.clone())
    }
}

impl<B: http_body::Body> ClientResponse for Response<B> {
    type Body = B;

    fn status(&self) -> StatusCode {
        self.status()
    }

    fn headers(&self) -> &HeaderMap {
        self.headers()
    }

    fn into_http(self) -> Response<B> {
        self
    }
}
