//! gRPC calls whose handlers write rows: the outcome of the call decides, wherever it is.

use std::convert::Infallible;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, Response};
use http_body::Frame;
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use idempotency_layer::{CoCommit, Contract, ReplayBody};
use tower::{Layer, ServiceExt, service_fn};

use crate::database::Bench;
use crate::rig::{Count, Rig};

type Body = ReplayBody<BoxBody<Bytes, Infallible>>;

/// A message of three bytes, with its prefix.
const MESSAGE: &[u8] = b"\0\0\0\0\x03pay";

on_both! {
    an_ok_commits_its_rows_and_unavailable_rolls_them_back
}

fn body(trailers: Option<HeaderMap>) -> Body {
    let Some(trailers) = trailers else {
        return ReplayBody::new(Full::new(Bytes::from_static(MESSAGE)).boxed());
    };
    let frames = [Frame::data(Bytes::from_static(MESSAGE)), Frame::trailers(trailers)];
    ReplayBody::new(BodyExt::boxed(StreamBody::new(futures_util::stream::iter(frames.map(Ok)))))
}

fn call() -> Request<Body> {
    let request = Request::post("/payments.Payments/Pay").header("content-type", "application/grpc");
    request.header("idempotency-key", "key").body(body(None)).unwrap()
}

async fn an_ok_commits_its_rows_and_unavailable_rolls_them_back<DB: Bench>() {
    for in_transaction in [false, true] {
        let rig = Rig::<DB>::with(|builder| {
            let builder = builder.contract(Contract::grpc());
            if in_transaction { builder.claim_in_transaction() } else { builder }
        })
        .await;
        let runs = Count::default();
        let count = runs.clone();
        let service = rig.layer.layer(service_fn(move |request: Request<Body>| {
            let run = count.one();
            async move {
                let co_commit = request.extensions().get::<CoCommit<DB>>().unwrap();
                DB::insert(&mut *co_commit.begin().await.unwrap(), &format!("run {run}")).await.unwrap();
                // UNAVAILABLE, then OK.
                let status = HeaderValue::from_static(if run == 1 { "14" } else { "0" });
                let trailers = HeaderMap::from_iter([(http::HeaderName::from_static("grpc-status"), status)]);
                let response = Response::builder().header("content-type", "application/grpc");
                Ok::<_, Infallible>(response.body(body(Some(trailers))).unwrap())
            }
        }));
        for (status, rows, replay) in [("14", 0, false), ("0", 1, false), ("0", 1, true)] {
            let answer = service.clone().oneshot(call()).await.unwrap();
            assert_eq!(answer.headers().contains_key("idempotent-replayed"), replay);
            let answer = answer.into_body().collect().await.unwrap();
            assert_eq!(answer.trailers().unwrap()["grpc-status"], status);
            assert_eq!(answer.to_bytes(), MESSAGE);
            assert_eq!(rig.rows().await.len(), rows, "after {status}");
        }
        assert_eq!(rig.rows().await, ["run 2"]);
        assert_eq!(runs.get(), 2);
    }
}
