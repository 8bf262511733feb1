//! Calls to URLs that customers give.
//!
//! A customer may name any machine that this one can reach: the database, the cloud's metadata service, a router. So a
//! URL is checked when it is given ([`Outbound::check`], [`Outbound::vet`]), and what counts is checked again on each
//! call: the name is resolved by us, and only addresses that may be called come to the connector. Redirects are not
//! followed, proxies of the environment are not used, no connection is kept.

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

/// What may be called.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rules {
    /// `http` too, not only `https`.
    pub allow_http: bool,
    /// This machine and the network it stands in, too.
    pub allow_private: bool,
}

/// Calls URLs that customers give. Cheap to clone.
#[derive(Clone)]
pub struct Outbound {
    client: Client,
    guard: Guard,
}

/// What was answered, whatever the status.
#[derive(Debug)]
pub struct Fetched {
    pub status: StatusCode,
    /// How long it asks us to wait.
    pub retry_after: Option<Duration>,
    pub body: Bytes,
}

/// Why a URL is not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum UrlFault {
    #[error("the URL is longer than {MAX_URL} characters")]
    TooLong,
    #[error("this is no URL that can be called")]
    Invalid,
    #[error("the URL must begin with https")]
    Scheme,
    #[error("the URL leads to an address that is not public")]
    Blocked,
}

/// Why there is no answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum OutboundFault {
    #[error(transparent)]
    Url(UrlFault),
    #[error("the name of the host does not resolve")]
    UnknownHost,
    #[error("the connection failed")]
    Unreachable,
    #[error("there was no answer in time")]
    Timeout,
    #[error("the answer is too large")]
    TooLarge,
}

/// The longest URL, in characters.
pub const MAX_URL: usize = 2048;
/// How long a connection may take to be made.
const TO_CONNECT: Duration = Duration::from_secs(5);
/// How long a name may take to be resolved, where only that is asked.
const TO_RESOLVE: Duration = Duration::from_secs(5);

impl Outbound {
    /// Calls what the rules allow.
    ///
    /// # Errors
    /// The client cannot be made.
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
            // A connection that is kept was checked when it was made, which may be long ago.
            .pool_max_idle_per_host(0)
            .user_agent(concat!("example-server/", env!("CARGO_PKG_VERSION")))
            .build()?;
        Ok(Self { client, guard })
    }

    /// A URL, if by its own words it may be called. Where its name leads is not asked.
    pub fn check(&self, text: &str) -> Result<Url, UrlFault> {
        if text.chars().count() > MAX_URL {
            return Err(UrlFault::TooLong);
        }
        // The parser passes over these, and the text is kept and sent with them; no database takes a NUL.
        if text.contains(|c: char| c.is_control()) || text.trim() != text {
            return Err(UrlFault::Invalid);
        }
        let url = Url::parse(text).map_err(|_| UrlFault::Invalid)?;
        self.check_parsed(&url)?;
        Ok(url)
    }

    fn check_parsed(&self, url: &Url) -> Result<(), UrlFault> {
        let Rules { allow_http, allow_private } = self.guard.rules;
        match url.scheme() {
            "https" => {}
            "http" if allow_http => {}
            _ => return Err(UrlFault::Scheme),
        }
        // Signed for a receiver, a URL is no place for another secret.
        if !url.username().is_empty() || url.password().is_some() {
            return Err(UrlFault::Invalid);
        }
        // The connector asks no resolver about an address, so here is where it is looked at; the parser has made one of
        // every way to write it.
        let public = match url.host() {
            None => return Err(UrlFault::Invalid),
            Some(Host::Ipv4(address)) => is_public(address.into()),
            Some(Host::Ipv6(address)) => is_public(address.into()),
            Some(Host::Domain(name)) => !is_localhost(name),
        };
        if public || allow_private { Ok(()) } else { Err(UrlFault::Blocked) }
    }

    /// Whether a URL that was checked leads to an address that may be called, today. Where all may be, nobody is asked.
    pub async fn vet(&self, url: &Url) -> Result<(), OutboundFault> {
        let Some(Host::Domain(name)) = url.host() else { return Ok(()) };
        if self.guard.rules.allow_private {
            return Ok(());
        }
        match timeout(TO_RESOLVE, self.guard.addresses(name)).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(error)) => Err(of(&*error)),
            Err(_) => Err(OutboundFault::UnknownHost),
        }
    }

    /// Gets a document of `max_bytes` at the most, all of it within `time`.
    pub async fn get(&self, url: &Url, max_bytes: usize, time: Duration) -> Result<Fetched, OutboundFault> {
        let got = async {
            let response = self.send(self.client.get(url.clone()), url).await?;
            if response.content_length().is_some_and(|bytes| bytes > max_bytes as u64) {
                return Err(OutboundFault::TooLarge);
            }
            let (fetched, whole) = read(response, max_bytes).await?;
            if whole { Ok(fetched) } else { Err(OutboundFault::TooLarge) }
        };
        timeout(time, got).await.unwrap_or(Err(OutboundFault::Timeout))
    }

    /// Posts a body, all within `time`. What counts is the status. Of the answer's body, what comes after `max_bytes` or
    /// the `time` is not read, and one that breaks off is as long as it is.
    pub async fn post(
        &self,
        url: &Url,
        headers: HeaderMap,
        body: Bytes,
        max_bytes: usize,
        time: Duration,
    ) -> Result<Fetched, OutboundFault> {
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
        let posted = timeout(time, posted).await.unwrap_or(Err(OutboundFault::Timeout));
        // With a status, nothing that happens to the body makes it another one.
        fetched.map_or_else(|| Err(posted.err().unwrap_or(OutboundFault::Unreachable)), Ok)
    }

    async fn send(&self, request: RequestBuilder, url: &Url) -> Result<Response, OutboundFault> {
        self.check_parsed(url).map_err(OutboundFault::Url)?;
        request.send().await.map_err(|error| of(&error))
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

/// What is this machine by its name already (RFC 6761).
fn is_localhost(name: &str) -> bool {
    let name = name.strip_suffix('.').unwrap_or(name);
    name == "localhost" || name.ends_with(".localhost")
}

/// The answer, and whether that is all of it.
async fn read(mut response: Response, max_bytes: usize) -> Result<(Fetched, bool), OutboundFault> {
    let fetched = Fetched::head(&response);
    let mut body = BytesMut::new();
    let mut whole = true;
    while let Some(chunk) = response.chunk().await.map_err(|error| of(&error))? {
        let room = max_bytes - body.len();
        body.extend_from_slice(&chunk[..chunk.len().min(room)]);
        if chunk.len() > room {
            whole = false;
            break;
        }
    }
    Ok((Fetched { body: body.freeze(), ..fetched }, whole))
}

/// Which of our faults it is, by what it was caused by.
fn of(error: &(dyn Error + 'static)) -> OutboundFault {
    let mut cause = Some(error);
    while let Some(error) = cause {
        if error.is::<Blocked>() {
            return OutboundFault::Url(UrlFault::Blocked);
        }
        if error.is::<Unknown>() {
            return OutboundFault::UnknownHost;
        }
        if error.downcast_ref::<reqwest::Error>().is_some_and(reqwest::Error::is_timeout) {
            return OutboundFault::Timeout;
        }
        cause = error.source();
    }
    OutboundFault::Unreachable
}

#[cfg(test)]
mod tests;
