//! The two clients, with retries around them.

use std::net::SocketAddr;
use std::sync::Arc;

use account_retry_policy::client::{Error, Retries};
use bytes::Bytes;
use http::Request;
use http_body_util::{BodyExt, Full};
use hyper_util::client::legacy;
use hyper_util::rt::TokioExecutor;
use tower::util::BoxCloneSyncService;
use tower::{BoxError, Layer, Service, ServiceExt};

type Paying = BoxCloneSyncService<(SocketAddr, String), (u16, Bytes), BoxError>;

/// Either of them.
#[derive(Clone, Debug)]
pub(crate) struct Client(Arc<Paying>);

pub(crate) enum Hyper {}
pub(crate) enum Reqwest {}

impl Hyper {
    pub(crate) fn client(retries: &Retries) -> Client {
        let hyper = legacy::Client::builder(TokioExecutor::new()).retry_canceled_requests(false).build_http();
        let client = retries.layer().layer(hyper);
        Client::of(tower::service_fn(move |(address, amount): (SocketAddr, String)| {
            let mut client = client.clone();
            async move {
                let request = Request::post(format!("http://{address}/payments"))
                    .body(Full::new(Bytes::from(amount)))?;
                let response = client.ready().await?.call(request).await?;
                let status = response.status().as_u16();
                Ok((status, response.into_body().collect().await?.to_bytes()))
            }
        }))
    }
}

impl Reqwest {
    pub(crate) fn client(retries: &Retries) -> Client {
        // Built together with a crate that names its provider of TLS by itself, reqwest has none until one is installed.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let client = retries.reqwest(reqwest::Client::builder()).unwrap();
        Client::of(tower::service_fn(move |(address, amount): (SocketAddr, String)| {
            let client = client.clone();
            async move {
                let request = client.as_reqwest().post(format!("http://{address}/payments")).body(amount);
                let response = client.execute(request.build()?).await?;
                Ok((response.status().as_u16(), response.bytes().await?))
            }
        }))
    }
}

impl Client {
    fn of<S>(service: S) -> Self
    where
        S: Service<(SocketAddr, String), Response = (u16, Bytes), Error = BoxError>
            + Clone
            + Send
            + Sync
            + 'static,
        S::Future: Send + 'static,
    {
        Self(Arc::new(BoxCloneSyncService::new(service)))
    }

    /// Pays, and has the number of the payment.
    pub(crate) async fn pay(&self, address: SocketAddr, amount: &str) -> u64 {
        self.try_pay(address, amount).await.expect("it is answered at last")
    }

    /// `None`: it gave up.
    pub(crate) async fn try_pay(&self, address: SocketAddr, amount: &str) -> Option<u64> {
        let paying = Paying::clone(&self.0).oneshot((address, amount.to_owned()));
        match paying.await {
            Ok((201, number)) => Some(String::from_utf8(number.to_vec()).unwrap().parse().unwrap()),
            Ok(_) => None,
            Err(error) => {
                assert!(error.is::<Error>(), "{error}");
                None
            }
        }
    }
}
