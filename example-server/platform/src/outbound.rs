//! Calls to URLs that customers provide, protected against server-side request forgery.
//!
//! A customer's URL can point to any host that this machine can reach: the database, the cloud's
//! metadata service, a router. So a URL is checked when the customer provides it
//! ([`Outbound::check`], [`Outbound::vet`]) and again on each call: this program resolves the name,
//! and passes only permitted addresses to the connector. It follows no redirects, ignores the proxy
//! environment variables and keeps no connections open.

mod address;
mod resolver;

use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, StatusCode};
use reqwest::{Client, RequestBuilder, Response};
use tokio::time::timeout;
use url::{Host, Url};

use self::address::is_public;
use self::resolver::{Blocked, Guard, Lookup, System, Unknown};
use crate::{retry_after, tls};

/// The rules for which URLs may be called.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rules {
    /// Whether to allow `http` in addition to `https`.
    pub allow_http: bool,
    /// Whether to allow this machine and private networks.
    pub allow_private: bool,
}

/// A client that calls URLs that customers provide. Cheap to clone.
#[derive(Clone)]
pub struct Outbound {
    client: Client,
    guard: Guard,
}

/// A response, with any status.
#[derive(Debug)]
pub struct Fetched {
    pub status: StatusCode,
    /// The wait that `Retry-After` asks for.
    pub retry_after: Option<Duration>,
    pub body: Bytes,
}

/// Why a URL is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum UrlError {
    #[error("the URL is longer than {MAX_URL} characters")]
    TooLong,
    #[error("the URL is not valid")]
    Invalid,
    #[error("the URL must begin with https")]
    Scheme,
    #[error("the URL leads to an address that is not public")]
    Blocked,
}

/// Why a call failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum OutboundError {
    #[error(transparent)]
    Url(UrlError),
    #[error("the host name does not resolve")]
    UnknownHost,
    #[error("the connection failed")]
    Unreachable,
    #[error("the request timed out")]
    Timeout,
    #[error("the response is too large")]
    TooLarge,
}

/// The maximum length of a URL, in characters.
pub const MAX_URL: usize = 2048;
/// The time-out for establishing a connection.
const TO_CONNECT: Duration = Duration::from_secs(5);
/// The time-out for resolving a name in [`Outbound::vet`].
const TO_RESOLVE: Duration = Duration::from_secs(5);

impl Outbound {
    /// Creates a client that calls what the rules allow.
    ///
    /// # Errors
    ///
    /// If the HTTP client cannot be built.
    pub fn new(rules: Rules) -> reqwest::Result<Self> {
        Self::with_lookup(rules, Arc::new(System))
    }

    fn with_lookup(rules: Rules, lookup: Arc<dyn Lookup>) -> reqwest::Result<Self> {
        let guard = Guard { lookup, rules };
        let client = tls::client_builder()
            .https_only(!rules.allow_http)
            .dns_resolver(guard.clone())
            .no_proxy()
            .redirect(reqwest::redirect::Policy::none())
            .retry(reqwest::retry::never())
            .referer(false)
            .connect_timeout(TO_CONNECT)
            // The address of a pooled connection would have been checked long ago.
            .pool_max_idle_per_host(0)
            .user_agent(concat!("example-server/", env!("CARGO_PKG_VERSION")))
            .build()?;
        Ok(Self { client, guard })
    }

    /// Parses a URL and checks its text against the rules. Does not resolve its host name.
    ///
    /// # Errors
    ///
    /// If the URL is malformed or the rules forbid it.
    pub fn check(&self, text: &str) -> Result<Url, UrlError> {
        if text.chars().count() > MAX_URL {
            return Err(UrlError::TooLong);
        }
        // The parser ignores these characters, but the text is stored and sent with them.
        // PostgreSQL does not store a NUL.
        if text.contains(|c: char| c.is_control()) || text.trim() != text {
            return Err(UrlError::Invalid);
        }
        let url = Url::parse(text).map_err(|_| UrlError::Invalid)?;
        self.check_parsed(&url)?;
        Ok(url)
    }

    fn check_parsed(&self, url: &Url) -> Result<(), UrlError> {
        let Rules { allow_http, allow_private } = self.guard.rules;
        match url.scheme() {
            "https" => {}
            "http" if allow_http => {}
            _ => return Err(UrlError::Scheme),
        }
        // No credentials: requests are authenticated by signature, and a URL is not stored as a
        // secret.
        if !url.username().is_empty() || url.password().is_some() {
            return Err(UrlError::Invalid);
        }
        // The connector does not resolve IP addresses, so check them here. The parser has
        // normalised every notation.
        let public = match url.host() {
            None => return Err(UrlError::Invalid),
            Some(Host::Ipv4(address)) => is_public(address.into()),
            Some(Host::Ipv6(address)) => is_public(address.into()),
            Some(Host::Domain(name)) => !is_localhost(name),
        };
        if public || allow_private { Ok(()) } else { Err(UrlError::Blocked) }
    }

    /// Checks that the host of a checked URL currently resolves to a permitted address. Does not
    /// resolve it if the rules allow every address.
    ///
    /// # Errors
    ///
    /// If the host name does not resolve, or to no permitted address.
    pub async fn vet(&self, url: &Url) -> Result<(), OutboundError> {
        let Some(Host::Domain(name)) = url.host() else { return Ok(()) };
        if self.guard.rules.allow_private {
            return Ok(());
        }
        match timeout(TO_RESOLVE, self.guard.addresses(name)).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(error)) => Err(classify(&*error)),
            Err(_) => Err(OutboundError::UnknownHost),
        }
    }

    /// Gets a document of at most `max_bytes` within `time`.
    ///
    /// # Errors
    ///
    /// If the rules forbid the URL, or there is no complete response within these limits.
    pub async fn get(&self, url: &Url, max_bytes: usize, time: Duration) -> Result<Fetched, OutboundError> {
        let got = async {
            let response = self.send(self.client.get(url.clone()), url).await?;
            if response.content_length().is_some_and(|bytes| bytes > max_bytes as u64) {
                return Err(OutboundError::TooLarge);
            }
            let (fetched, complete) = read(response, max_bytes).await?;
            if complete { Ok(fetched) } else { Err(OutboundError::TooLarge) }
        };
        timeout(time, got).await.unwrap_or(Err(OutboundError::Timeout))
    }

    /// Posts a body within `time`. The call succeeds once there is a status. It reads at most
    /// `max_bytes` of the response body, and less if `time` is up or the connection breaks.
    ///
    /// # Errors
    ///
    /// If the rules forbid the URL, or there is no status within `time`.
    pub async fn post(
        &self,
        url: &Url,
        headers: HeaderMap,
        body: Bytes,
        max_bytes: usize,
        time: Duration,
    ) -> Result<Fetched, OutboundError> {
        let mut fetched = None;
        let posted = async {
            let request = self.client.post(url.clone()).headers(headers).body(body);
            let mut response = self.send(request, url).await?;
            let fetched = fetched.insert(Fetched::head(&response));
            let mut body = BytesMut::new();
            while let Ok(Some(chunk)) = response.chunk().await {
                let room = max_bytes - body.len();
                body.extend_from_slice(&chunk[..chunk.len().min(room)]);
                fetched.body = body.clone().freeze();
                if chunk.len() >= room {
                    break;
                }
            }
            Ok(())
        };
        let posted = timeout(time, posted).await.unwrap_or(Err(OutboundError::Timeout));
        // Once there is a status, errors of the body do not matter.
        fetched.map_or_else(|| Err(posted.err().unwrap_or(OutboundError::Unreachable)), Ok)
    }

    async fn send(&self, request: RequestBuilder, url: &Url) -> Result<Response, OutboundError> {
        self.check_parsed(url).map_err(OutboundError::Url)?;
        request.send().await.map_err(|error| classify(&error))
    }
}

impl Fetched {
    fn head(response: &Response) -> Self {
        let (status, retry_after) = (response.status(), retry_after::asked(response.headers()));
        Self { status, retry_after, body: Bytes::new() }
    }
}

impl std::fmt::Debug for Outbound {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Outbound").field("rules", &self.guard.rules).finish_non_exhaustive()
    }
}

/// Returns whether a name is reserved for this machine (RFC 6761).
fn is_localhost(name: &str) -> bool {
    let name = name.strip_suffix('.').unwrap_or(name);
    name == "localhost" || name.ends_with(".localhost")
}

/// Reads at most `max_bytes` of the body. Returns the response and whether its body is complete.
async fn read(mut response: Response, max_bytes: usize) -> Result<(Fetched, bool), OutboundError> {
    let fetched = Fetched::head(&response);
    let mut body = BytesMut::new();
    let mut complete = true;
    while let Some(chunk) = response.chunk().await.map_err(|error| classify(&error))? {
        let room = max_bytes - body.len();
        body.extend_from_slice(&chunk[..chunk.len().min(room)]);
        if chunk.len() > room {
            complete = false;
            break;
        }
    }
    Ok((Fetched { body: body.freeze(), ..fetched }, complete))
}

/// Classifies an error by its causes.
fn classify(error: &(dyn Error + 'static)) -> OutboundError {
    let mut cause = Some(error);
    while let Some(error) = cause {
        if error.is::<Blocked>() {
            return OutboundError::Url(UrlError::Blocked);
        }
        if error.is::<Unknown>() {
            return OutboundError::UnknownHost;
        }
        if error.downcast_ref::<reqwest::Error>().is_some_and(reqwest::Error::is_timeout) {
            return OutboundError::Timeout;
        }
        cause = error.source();
    }
    OutboundError::Unreachable
}

#[cfg(test)]
mod tests;
