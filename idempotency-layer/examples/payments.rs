//! Payments over gRPC, each made once: a call that failed runs again, a call that succeeded is replayed, and streams
//! pass. Runs a server and a client of it:
//!
//! ```sh
//! cargo run -p idempotency-layer --features tonic --example payments
//! ```

use std::convert::Infallible;
use std::error::Error;
use std::future::ready;
use std::net::{Ipv4Addr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Buf, BufMut};
use futures_util::stream::{self, BoxStream, StreamExt};
use http::uri::PathAndQuery;
use idempotency_layer::{Contract, IdempotencyLayer, MemoryStore, Scope};
use tokio::sync::watch;
use tonic::body::Body;
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder, Streaming};
use tonic::metadata::MetadataValue;
use tonic::server::NamedService;
use tonic::service::interceptor::InterceptorLayer;
use tonic::transport::server::TcpIncoming;
use tonic::transport::{Channel, Server};
use tonic::{Code, Request, Response, Status};
use tower::{Service, service_fn};

#[derive(Clone)]
struct Account(&'static str);

/// Stands for your authentication, which puts the caller into the extensions.
fn authenticate(mut request: Request<()>) -> Result<Request<()>, Status> {
    let account = match request.metadata().get("authorization").map(MetadataValue::as_bytes) {
        Some(b"Bearer alice") => Account("alice"),
        Some(b"Bearer bob") => Account("bob"),
        _ => return Err(Status::unauthenticated("this token is nobody's")),
    };
    request.extensions_mut().insert(account);
    Ok(request)
}

/// The layer of this example.
pub(crate) fn idempotency() -> IdempotencyLayer<MemoryStore> {
    IdempotencyLayer::builder(MemoryStore::default())
        .contract(Contract::grpc())
        .scope(|parts| parts.extensions.get::<Account>().map(|account| Scope::of(account.0)))
        .wait(Duration::from_secs(5))
        .build()
}

/// Serves on a free port of the loopback interface. The first layer is the outermost.
pub(crate) fn serve(
    payments: Payments,
    idempotency: IdempotencyLayer<MemoryStore>,
) -> Result<SocketAddr, Box<dyn Error>> {
    let incoming = TcpIncoming::bind((Ipv4Addr::LOCALHOST, 0).into())?;
    let address = incoming.local_addr()?;
    let server = Server::builder()
        .layer(InterceptorLayer::new(authenticate))
        .layer(idempotency)
        .add_service(payments)
        .serve_with_incoming(incoming);
    tokio::spawn(server);
    Ok(address)
}

/// The behaviour of the bank.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Bank {
    Open,
    Slow,
    Down,
}

/// The service. The paths below and the client are written by hand; protoc would generate them.
#[derive(Clone)]
pub(crate) struct Payments {
    pub(crate) bank: watch::Sender<Bank>,
    /// The number of payments that were attempted.
    pub(crate) runs: Arc<AtomicUsize>,
}

impl Payments {
    pub(crate) fn new() -> Self {
        Self { bank: watch::Sender::new(Bank::Open), runs: Arc::default() }
    }

    async fn pay(self, request: Request<String>) -> Result<Response<String>, Status> {
        let run = self.runs.fetch_add(1, Ordering::Relaxed) + 1;
        let mut bank = self.bank.subscribe();
        let open = bank.wait_for(|bank| *bank != Bank::Slow).await.is_ok_and(|bank| *bank == Bank::Open);
        match request.into_inner().as_str() {
            _ if !open => Err(Status::unavailable("the bank is down")),
            "0" => Err(Status::invalid_argument("nothing to pay")),
            amount => Ok(Response::new(format!("receipt {run}: {amount}"))),
        }
    }

    /// Returns a stream of the payments.
    fn statement(&self, _: &Request<String>) -> Response<Messages> {
        let runs = self.runs.fetch_add(1, Ordering::Relaxed) + 1;
        let lines = (1..=3).map(move |line| Ok(format!("statement {runs}, line {line}")));
        Response::new(stream::iter(lines).boxed())
    }

    /// Answers each question when it is asked.
    fn quote(&self, request: Request<Streaming<String>>) -> Response<Messages> {
        self.runs.fetch_add(1, Ordering::Relaxed);
        let answers = request.into_inner().map(|asked| asked.map(|currency| format!("1 {currency} is 2")));
        Response::new(answers.boxed())
    }
}

type Messages = BoxStream<'static, Result<String, Status>>;

const PAY: &str = "/shop.Payments/Pay";
const STATEMENT: &str = "/shop.Payments/Statement";
const QUOTE: &str = "/shop.Payments/Quote";

impl NamedService for Payments {
    const NAME: &'static str = "shop.Payments";
}

impl Service<http::Request<Body>> for Payments {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let payments = self.clone();
        Box::pin(async move {
            let mut grpc = tonic::server::Grpc::new(Text);
            Ok(match request.uri().path() {
                PAY => grpc.unary(service_fn(|call| payments.clone().pay(call)), request).await,
                STATEMENT => {
                    grpc.server_streaming(service_fn(|call| ready(Ok(payments.statement(&call)))), request)
                        .await
                }
                QUOTE => grpc.streaming(service_fn(|call| ready(Ok(payments.quote(call)))), request).await,
                _ => Status::unimplemented("no such method").into_http(),
            })
        })
    }
}

/// A client of one account.
#[derive(Clone)]
pub(crate) struct PaymentsClient {
    grpc: tonic::client::Grpc<Channel>,
    token: &'static str,
}

impl PaymentsClient {
    pub(crate) async fn connect(address: SocketAddr, token: &'static str) -> Result<Self, Box<dyn Error>> {
        let channel = Channel::from_shared(format!("http://{address}"))?.connect().await?;
        Ok(Self { grpc: tonic::client::Grpc::new(channel), token })
    }

    pub(crate) async fn pay(&self, key: &str, amount: &str) -> Result<Response<String>, Status> {
        let mut grpc = self.ready().await?;
        grpc.unary(self.call(key, amount.to_owned())?, PathAndQuery::from_static(PAY), Text).await
    }

    pub(crate) async fn statement(&self, key: &str) -> Result<Response<Streaming<String>>, Status> {
        let mut grpc = self.ready().await?;
        let call = self.call(key, String::new())?;
        grpc.server_streaming(call, PathAndQuery::from_static(STATEMENT), Text).await
    }

    pub(crate) async fn quote(
        &self,
        key: &str,
        currencies: BoxStream<'static, String>,
    ) -> Result<Response<Streaming<String>>, Status> {
        let mut grpc = self.ready().await?;
        grpc.streaming(self.call(key, currencies)?, PathAndQuery::from_static(QUOTE), Text).await
    }

    async fn ready(&self) -> Result<tonic::client::Grpc<Channel>, Status> {
        let mut grpc = self.grpc.clone();
        grpc.ready().await.map_err(|error| Status::unavailable(error.to_string()))?;
        Ok(grpc)
    }

    /// Makes a call with its key in the metadata.
    fn call<T>(&self, key: &str, message: T) -> Result<Request<T>, Status> {
        let mut request = Request::new(message);
        let key = key.parse().map_err(|_| Status::invalid_argument("this is no key"))?;
        request.metadata_mut().insert("idempotency-key", key);
        request.metadata_mut().insert("authorization", MetadataValue::from_static(self.token));
        Ok(request)
    }
}

/// Messages of text. Yours are protobuf, by tonic-prost.
#[derive(Clone, Copy)]
struct Text;

impl Codec for Text {
    type Encode = String;
    type Decode = String;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        *self
    }

    fn decoder(&mut self) -> Self {
        *self
    }
}

impl Encoder for Text {
    type Item = String;
    type Error = Status;

    fn encode(&mut self, text: String, buffer: &mut EncodeBuf<'_>) -> Result<(), Status> {
        buffer.put_slice(text.as_bytes());
        Ok(())
    }
}

impl Decoder for Text {
    type Item = String;
    type Error = Status;

    fn decode(&mut self, buffer: &mut DecodeBuf<'_>) -> Result<Option<String>, Status> {
        let bytes = buffer.copy_to_bytes(buffer.remaining());
        let text = std::str::from_utf8(&bytes).map_err(|_| Status::internal("not a text"))?;
        Ok(Some(text.to_owned()))
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let payments = Payments::new();
    let client = PaymentsClient::connect(serve(payments.clone(), idempotency())?, "Bearer alice").await?;

    payments.bank.send_replace(Bank::Down);
    show("the bank is down", &client.pay("order-17", "20 EUR").await);
    payments.bank.send_replace(Bank::Open);
    show("a retry runs", &client.pay("order-17", "20 EUR").await);
    show("another is replayed", &client.pay("order-17", "20 EUR").await);
    show("another amount", &client.pay("order-17", "30 EUR").await);

    let mut statement = client.statement("statement").await?.into_inner();
    while let Some(line) = statement.message().await? {
        eprintln!("{line}");
    }
    show("a stream is not repeated", &client.statement("statement").await);

    let currencies = stream::iter(["EUR", "MXN"].map(str::to_owned)).boxed();
    let mut quotes = client.quote("a streaming call passes", currencies).await?.into_inner();
    while let Some(quote) = quotes.message().await? {
        eprintln!("{quote}");
    }
    Ok(())
}

fn show<T>(what: &str, answer: &Result<Response<T>, Status>) {
    match answer {
        Ok(answer) if answer.metadata().contains_key("idempotent-replayed") => eprintln!("{what}: replayed"),
        Ok(_) => eprintln!("{what}: {:?}", Code::Ok),
        Err(status) => eprintln!("{what}: {:?}, {}", status.code(), status.message()),
    }
}
