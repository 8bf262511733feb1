use std::borrow::Cow;
use std::future::poll_fn;
use std::pin::Pin;
use std::task::{Context, Poll};

use http::{HeaderMap, Method, StatusCode};
use reqwest::redirect;
use tower_layer::Layer;
use tower_service::Service;

use super::Retries;
use super::error::Error;
use super::layer::Retry;
use super::message::{ClientRequest, ClientResponse};

/// A `reqwest::Client` with retries. Created by [`Retries::reqwest`]; clones share their connections and budgets.
///
/// It follows redirects within an origin (scheme, host and port), at most 10. A redirect to another origin is returned to the
/// caller as the response: a request that is followed there would carry its key and could take effect there.
///
/// It is also a Tower [`Service`] of `reqwest::Request`.
///
/// ```no_run
/// use std::time::Duration;
/// use account_retry_policy::client::Retries;
///
/// # async fn pay() -> Result<(), Box<dyn std::error::Error>> {
/// let client = Retries::new().deadline(Duration::from_secs(30)).reqwest(reqwest::Client::builder())?;
/// let request = client.as_reqwest().post("https://api.example.com/payments").body("12.50").build()?;
/// let response = client.execute(request).await?;
/// # Ok(()) }
/// ```
#[derive(Clone, Debug)]
pub struct ReqwestClient {
    retry: Retry<Inner>,
}

impl Retries {
    /// Builds a `reqwest` client with these retries.
    ///
    /// Two settings of the builder are replaced: its redirect policy (see [`ReqwestClient`]), and its own retries, which would
    /// be tries that nobody counts. Leave its timeouts unset, or longer than [`try_timeout`](Self::try_timeout).
    ///
    /// # Errors
    ///
    /// Those of `reqwest::ClientBuilder::build`: the TLS backend or the resolver cannot be set up.
    pub fn reqwest(&self, builder: reqwest::ClientBuilder) -> Result<ReqwestClient, reqwest::Error> {
        let client = builder.redirect(same_origin()).retry(reqwest::retry::never()).build()?;
        Ok(ReqwestClient { retry: self.layer().layer(Inner(client)) })
    }
}

impl ReqwestClient {
    /// Sends the request, and sends it again as [`Retries`] says.
    ///
    /// # Errors
    ///
    /// The last try brought no response: see [`ErrorKind`](super::ErrorKind). A response of any status is not an error.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future stops trying. The request may have taken effect: send it again under the same key to find out.
    pub async fn execute(&self, request: reqwest::Request) -> Result<reqwest::Response, Error> {
        let mut retry = self.retry.clone();
        poll_fn(|context| Service::<Sent>::poll_ready(&mut retry, context)).await?;
        retry.call(Sent(request)).await
    }

    /// Returns the client underneath, to build requests with. What it sends itself is not retried.
    pub fn as_reqwest(&self) -> &reqwest::Client {
        &self.retry.inner().0
    }
}

impl Service<reqwest::Request> for ReqwestClient {
    type Response = reqwest::Response;
    type Error = Error;
    type Future = Pin<Box<dyn Future<Output = Result<reqwest::Response, Error>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Error>> {
        Service::<Sent>::poll_ready(&mut self.retry, context)
    }

    fn call(&mut self, request: reqwest::Request) -> Self::Future {
        Box::pin(self.retry.call(Sent(request)))
    }
}

/// Follows redirects to where the request went first, and nowhere else.
fn same_origin() -> redirect::Policy {
    redirect::Policy::custom(|attempt| {
        let first = attempt.previous().first();
        if first.is_some_and(|first| first.origin() == attempt.url().origin()) {
            redirect::Policy::default().redirect(attempt)
        } else {
            attempt.stop()
        }
    })
}

/// A client that keeps keys within their origin.
#[derive(Clone, Debug)]
struct Inner(reqwest::Client);

/// A request for such a client. Private, so that no other client can be called with it.
#[derive(Debug)]
struct Sent(reqwest::Request);

impl Service<Sent> for Inner {
    type Response = reqwest::Response;
    type Error = reqwest::Error;
    type Future = <reqwest::Client as Service<reqwest::Request>>::Future;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), reqwest::Error>> {
        self.0.poll_ready(context)
    }

    fn call(&mut self, request: Sent) -> Self::Future {
        self.0.call(request.0)
    }
}

impl ClientRequest for Sent {
    fn method(&self) -> &Method {
        self.0.method()
    }

    fn headers(&self) -> &HeaderMap {
        self.0.headers()
    }

    fn headers_mut(&mut self) -> &mut HeaderMap {
        self.0.headers_mut()
    }

    fn host(&self) -> Option<Cow<'_, str>> {
        let (url, host) = (self.0.url(), self.0.url().host_str()?);
        Some(url.port().map_or(Cow::Borrowed(host), |port| Cow::Owned(format!("{host}:{port}"))))
    }

    fn try_clone(&self) -> Option<Self> {
        self.0.try_clone().map(Self)
    }
}

impl ClientResponse for reqwest::Response {
    type Body = reqwest::Body;

    fn status(&self) -> StatusCode {
        self.status()
    }

    fn headers(&self) -> &HeaderMap {
        self.headers()
    }

    fn into_http(self) -> http::Response<reqwest::Body> {
        self.into()
    }
}
