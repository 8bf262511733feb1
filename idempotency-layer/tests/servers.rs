//! The layer behind real connections: hyper's HTTP/1 and, with tonic's bodies, HTTP/2 with trailers.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, Response};
use http_body::Frame;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::Incoming;
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::service::TowerToHyperService;
use idempotency_layer::{Contract, IdempotencyLayer, KeySyntax, MemoryStore, ReplayBody};
use tokio::io::DuplexStream;
use tokio::sync::Semaphore;
use tower::{ServiceBuilder, service_fn};

fn layer() -> IdempotencyLayer<MemoryStore> {
    let contract = Contract::ietf().key(KeySyntax::structured(1..=255).or_bare());
    IdempotencyLayer::builder(MemoryStore::default()).contract(contract).single_tenant().build()
}

fn pipe() -> (TokioIo<DuplexStream>, TokioIo<DuplexStream>) {
    let (client, server) = tokio::io::duplex(64 * 1024);
    (TokioIo::new(client), TokioIo::new(server))
}

fn keyed(key: &'static str, body: &'static str) -> Request<Full<Bytes>> {
    let request = Request::post("http://localhost/payments").header("idempotency-key", key);
    request.body(Full::from(body)).expect("a request")
}

#[tokio::test]
async fn a_connection_of_hyper_that_breaks_leaves_an_answer_for_the_retry() {
    let (runs, gate, begun) =
        (Arc::new(AtomicUsize::new(0)), Arc::new(Semaphore::new(0)), Arc::new(Semaphore::new(0)));
    let layer = layer();
    let handler = {
        let (runs, gate, begun) = (runs.clone(), gate.clone(), begun.clone());
        service_fn(move |request: Request<ReplayBody<Incoming>>| {
            let (runs, gate, begun) = (runs.clone(), gate.clone(), begun.clone());
            async move {
                let body = request.into_body().collect().await.unwrap().to_bytes();
                let run = runs.fetch_add(1, Ordering::SeqCst) + 1;
                begun.add_permits(1);
                gate.acquire().await.unwrap().forget();
                let answer = [format!("run {run} of ").as_bytes(), &body].concat();
                Ok::<_, Infallible>(Response::new(Full::new(Bytes::from(answer))))
            }
        })
    };
    let service = ServiceBuilder::new()
        .map_request(|request: Request<Incoming>| request.map(ReplayBody::new))
        .layer(layer.clone())
        .service(handler);

    let connect = async || {
        let (client, server) = pipe();
        let service = TowerToHyperService::new(service.clone());
        tokio::spawn(hyper::server::conn::http1::Builder::new().serve_connection(server, service));
        let (sender, connection) = http1::handshake::<_, Full<Bytes>>(client).await.unwrap();
        (sender, tokio::spawn(connection))
    };

    let (mut sender, connection) = connect().await;
    let unanswered = tokio::spawn(async move { sender.send_request(keyed("k", "10")).await.map(|_| ()) });
    begun.acquire().await.unwrap().forget();
    connection.abort();
    unanswered.await.unwrap().unwrap_err();
    while layer.detached() == 0 {
        tokio::task::yield_now().await;
    }
    gate.add_permits(1);
    layer.shutdown().await;

    let (mut sender, _) = connect().await;
    let answer = sender.send_request(keyed("k", "10")).await.unwrap();
    assert_eq!(answer.headers()["idempotent-replayed"], "true");
    assert_eq!(answer.into_body().collect().await.unwrap().to_bytes(), "run 1 of 10");
    assert_eq!(runs.load(Ordering::SeqCst), 1);
}

#[cfg(feature = "tonic")]
#[tokio::test]
async fn a_grpc_response_is_replayed_over_http_2_with_its_trailers() {
    use tonic::body::Body;

    let runs = Arc::new(AtomicUsize::new(0));
    let handler = {
        let runs = runs.clone();
        service_fn(move |request: Request<Body>| {
            let runs = runs.clone();
            async move {
                let message = request.into_body().collect().await.unwrap().to_bytes();
                runs.fetch_add(1, Ordering::SeqCst);
                let mut trailers = HeaderMap::new();
                trailers.insert("grpc-status", HeaderValue::from_static("0"));
                let frames = [Ok::<_, tonic::Status>(Frame::data(message)), Ok(Frame::trailers(trailers))];
                let mut response =
                    Response::new(Body::new(StreamBody::new(futures_util::stream::iter(frames))));
                response.headers_mut().insert("content-type", HeaderValue::from_static("application/grpc"));
                Ok::<_, Infallible>(response)
            }
        })
    };
    let service = ServiceBuilder::new()
        .map_request(|request: Request<Incoming>| request.map(Body::new))
        .layer(layer())
        .service(handler);

    let (client, server) = pipe();
    let server = hyper::server::conn::http2::Builder::new(TokioExecutor::new())
        .serve_connection(server, TowerToHyperService::new(service));
    tokio::spawn(server);
    let (mut sender, connection) = http2::handshake(TokioExecutor::new(), client).await.unwrap();
    tokio::spawn(connection);

    for replayed in [None, Some("true")] {
        let response = sender.send_request(keyed("k", "\0\0\0\0\u{3}abc")).await.unwrap();
        let mark = response.headers().get("idempotent-replayed").map(|mark| mark.to_str().unwrap());
        assert_eq!(mark, replayed);
        let body = response.into_body().collect().await.unwrap();
        assert_eq!(body.trailers().unwrap()["grpc-status"], "0");
        assert_eq!(body.to_bytes(), "\0\0\0\0\u{3}abc");
    }
    assert_eq!(runs.load(Ordering::SeqCst), 1);
}
