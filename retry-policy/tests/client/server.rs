//! A server of one function call that follows a script and records the requests.

use std::collections::VecDeque;
use std::io;
use std::num::NonZeroU32;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;

use account_retry_policy::client::{Error, Retries, Try};
use http::{HeaderMap, Request, Response};
use tokio::time::Instant;
use tower::{Layer, Service, ServiceExt};

/// The reaction to one request.
#[derive(Clone, Debug)]
pub(crate) enum Does {
    Answer(u16, Vec<(&'static str, String)>),
    /// Loses the connection.
    Fail,
    Refuse,
    /// Fails as clients do that are given an invalid URL.
    Misuse,
    Hang,
    /// Answers 200 after this time.
    Take(Duration),
}

pub(crate) fn status(status: u16) -> Does {
    Does::Answer(status, Vec::new())
}

#[allow(clippy::needless_pass_by_value, reason = "callers pass literals")]
pub(crate) fn with(status: u16, name: &'static str, value: impl ToString) -> Does {
    Does::Answer(status, vec![(name, value.to_string())])
}

/// Clones share their script and records, as those of a client share connections.
#[derive(Clone, Debug, Default)]
pub(crate) struct Server {
    inner: Arc<Mutex<Inner>>,
    /// Of this clone alone. A call without it panics.
    ready: bool,
}

#[derive(Debug, Default)]
struct Inner {
    script: VecDeque<Does>,
    /// After the end of the script.
    then: Option<Does>,
    sent: Vec<(Instant, HeaderMap)>,
}

impl Server {
    /// Follows the script, and then answers 200.
    pub(crate) fn that(script: impl IntoIterator<Item = Does>) -> Self {
        let server = Self::default();
        server.inner.lock().unwrap().script = script.into_iter().collect();
        server
    }

    /// Always does this.
    pub(crate) fn always(does: Does) -> Self {
        let server = Self::default();
        server.inner.lock().unwrap().then = Some(does);
        server
    }

    pub(crate) fn sent(&self) -> usize {
        self.inner.lock().unwrap().sent.len()
    }

    /// The header of each try; empty where there is none.
    pub(crate) fn sent_header(&self, name: &str) -> Vec<String> {
        let inner = self.inner.lock().unwrap();
        let value = |headers: &HeaderMap| headers.get(name).map(|value| value.to_str().unwrap().to_owned());
        inner.sent.iter().map(|(_, headers)| value(headers).unwrap_or_default()).collect()
    }

    /// The time between each try and the one before.
    pub(crate) fn waits(&self) -> Vec<Duration> {
        let inner = self.inner.lock().unwrap();
        inner.sent.windows(2).map(|pair| pair[1].0 - pair[0].0).collect()
    }
}

impl Service<Request<String>> for Server {
    type Response = Response<String>;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<Response<String>>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.ready = true;
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<String>) -> Self::Future {
        assert!(std::mem::take(&mut self.ready), "called before it was ready");
        let mut inner = self.inner.lock().unwrap();
        inner.sent.push((Instant::now(), request.headers().clone()));
        let does = inner.script.pop_front().or_else(|| inner.then.clone()).unwrap_or(status(200));
        Box::pin(async move {
            match does {
                Does::Answer(status, headers) => {
                    let mut response = Response::builder().status(status);
                    for (name, value) in headers {
                        response = response.header(name, value);
                    }
                    Ok(response.body(request.into_body()).unwrap())
                }
                Does::Fail => Err(io::ErrorKind::ConnectionReset.into()),
                Does::Misuse => Err(io::Error::other("".parse::<http::Uri>().unwrap_err())),
                Does::Refuse => Err(io::ErrorKind::ConnectionRefused.into()),
                Does::Hang => std::future::pending().await,
                Does::Take(time) => {
                    tokio::time::sleep(time).await;
                    Ok(Response::new(String::new()))
                }
            }
        })
    }
}

pub(crate) fn post() -> Request<String> {
    Request::post("http://api.example.com/payments").body("12.50".to_owned()).unwrap()
}

pub(crate) fn get() -> Request<String> {
    Request::get("http://api.example.com/payments").body(String::new()).unwrap()
}

/// Sends one request through the layer.
pub(crate) async fn send(
    retries: &Retries,
    server: &Server,
    request: Request<String>,
) -> Result<Response<String>, Error> {
    retries.layer().layer(server.clone()).ready().await?.call(request).await
}

/// A `Retries` that records every try.
pub(crate) fn watched(retries: Retries) -> (Retries, Arc<Mutex<Vec<Try>>>) {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let sink = Arc::clone(&seen);
    (retries.on_try(move |event| sink.lock().unwrap().push(event.clone())), seen)
}

pub(crate) fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

pub(crate) fn times(tries: u32) -> NonZeroU32 {
    NonZeroU32::new(tries).unwrap()
}
