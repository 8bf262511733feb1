//! What must be known of a request and of an answer, whichever client's they are.

use std::borrow::Cow;

use http::header::HOST;
use http::{HeaderMap, Method, Request, Response, StatusCode};

/// A request that can be looked at, given a key, and perhaps sent twice.
///
/// For [`http::Request`] with any body that can be cloned, and with the feature `reqwest` for `reqwest::Request`. A body
/// that is not `Clone` (a stream) does not compile with the layer: collect it first.
pub trait ClientRequest: Sized {
    /// Its method.
    fn method(&self) -> &Method;
    /// Its headers.
    fn headers(&self) -> &HeaderMap;
    /// Its headers, to add one.
    fn headers_mut(&mut self) -> &mut HeaderMap;
    /// The host it goes to, with the port where it names one: by this, budgets are told apart. `None`: it names none.
    fn host(&self) -> Option<Cow<'_, str>>;
    /// The same request, for the next try; `None` if its body can be sent only once.
    fn try_clone(&self) -> Option<Self>;
}

/// An answer.
pub trait ClientResponse {
    /// Its status.
    fn status(&self) -> StatusCode;
    /// Its headers.
    fn headers(&self) -> &HeaderMap;
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
        let given = self.uri().authority().map(http::uri::Authority::as_str);
        let given = given.or_else(|| self.headers().get(HOST)?.to_str().ok())?;
        // Without what may stand before it: a name and a password.
        let host = given.rsplit_once('@').map_or(given, |(_, host)| host);
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

impl<B> ClientResponse for Response<B> {
    fn status(&self) -> StatusCode {
        self.status()
    }

    fn headers(&self) -> &HeaderMap {
        self.headers()
    }
}

#[cfg(feature = "reqwest")]
impl ClientRequest for reqwest::Request {
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
        let (url, host) = (self.url(), self.url().host_str()?);
        Some(url.port().map_or(Cow::Borrowed(host), |port| Cow::Owned(format!("{host}:{port}"))))
    }

    fn try_clone(&self) -> Option<Self> {
        self.try_clone()
    }
}

#[cfg(feature = "reqwest")]
impl ClientResponse for reqwest::Response {
    fn status(&self) -> StatusCode {
        self.status()
    }

    fn headers(&self) -> &HeaderMap {
        self.headers()
    }
}
