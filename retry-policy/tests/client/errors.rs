//! The errors of hyper's client, over real connections.

use std::time::Duration;

use account_retry_policy::Backoff;
use account_retry_policy::client::{Error, ErrorKind, Retries, TryOutcome};
use bytes::Bytes;
use http::{Method, Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::{Connect, HttpConnector};
use hyper_util::rt::TokioExecutor;
use tower::{Layer, ServiceExt};

use crate::listener::{self, BUSY, OK};
use crate::server::watched;

fn quick() -> Retries {
    Retries::new().backoff(Backoff::fixed(Duration::from_millis(1)))
}

fn hyper() -> Client<HttpConnector, Full<Bytes>> {
    Client::builder(TokioExecutor::new()).retry_canceled_requests(false).build_http()
}

fn request(method: Method, uri: &str) -> Request<Full<Bytes>> {
    Request::builder().method(method).uri(uri).body(Full::new(Bytes::from("12.50"))).unwrap()
}

/// Sends it through the layer: the result, and the outcome of each try.
async fn send<C: Connect + Clone + Send + Sync + 'static>(
    client: Client<C, Full<Bytes>>,
    request: Request<Full<Bytes>>,
) -> (Result<Response<Incoming>, Error>, Vec<TryOutcome>) {
    let (retries, seen) = watched(quick());
    let result = retries.layer().layer(client).oneshot(request).await;
    let outcomes = seen.lock().unwrap().iter().map(|event| event.outcome).collect();
    (result, outcomes)
}

/// Sends a POST without a key, with the policy alone: whether it succeeds, and the outcome of each try.
async fn send_without_key(client: Client<HttpConnector, Full<Bytes>>, uri: &str) -> (bool, Vec<TryOutcome>) {
    let (retries, seen) = watched(quick());
    let client = tower::retry::Retry::new(retries.policy(), client);
    let result = client.oneshot(request(Method::POST, uri)).await;
    let outcomes = seen.lock().unwrap().iter().map(|event| event.outcome).collect();
    (result.is_ok(), outcomes)
}

#[tokio::test]
async fn a_refused_connection_is_retried_without_a_key_too() {
    let url = format!("http://127.0.0.1:{}/", listener::closed());
    assert_eq!(send(hyper(), request(Method::POST, &url)).await.1, [TryOutcome::NotSent; 5]);
    assert_eq!(send_without_key(hyper(), &url).await, (false, vec![TryOutcome::NotSent; 5]));
}

#[tokio::test]
async fn a_name_that_cannot_be_resolved_was_not_sent() {
    assert_eq!(
        send(hyper(), request(Method::POST, "http://name.invalid/")).await.1,
        [TryOutcome::NotSent; 5]
    );
}

#[tokio::test]
async fn a_request_that_hyper_refuses_to_send_is_not_retried() {
    let connect = Request::builder().method(Method::CONNECT).uri("/").body(Full::default()).unwrap();
    let mut http_3 = request(Method::POST, "http://127.0.0.1:1/");
    *http_3.version_mut() = http::Version::HTTP_3;
    for wrong in
        [request(Method::POST, "/relative"), request(Method::POST, "https://127.0.0.1/"), connect, http_3]
    {
        let uri = wrong.uri().clone();
        let (result, outcomes) = send(hyper(), wrong).await;
        assert_eq!(result.unwrap_err().kind(), ErrorKind::Client);
        assert_eq!(outcomes, [TryOutcome::Permanent], "{uri}");
    }
    assert_eq!(send_without_key(hyper(), "/relative").await, (false, vec![TryOutcome::Permanent]));
}

#[tokio::test]
async fn a_certificate_that_is_not_accepted_and_a_scheme_without_tls_are_not_retried() {
    let https = hyper_rustls::HttpsConnectorBuilder::new()
        .with_tls_config(listener::trusting_nobody())
        .https_only()
        .enable_http1()
        .build();
    let client = Client::builder(TokioExecutor::new()).build(https);
    let port = listener::self_signed().await;
    for url in [
        format!("https://localhost:{port}/"),
        format!("https://127.0.0.1:{port}/"),
        "http://127.0.0.1:1/".into(),
    ] {
        let (result, outcomes) = send(client.clone(), request(Method::POST, &url)).await;
        assert_eq!(outcomes, [TryOutcome::Permanent], "{url} {result:?}");
    }
}

#[tokio::test]
async fn a_handshake_that_is_cut_is_retried() {
    let https = hyper_rustls::HttpsConnectorBuilder::new()
        .with_tls_config(listener::trusting_nobody())
        .https_only()
        .enable_http1()
        .build();
    let port = listener::each(|stream| async move { drop(stream) }).await;
    let client = Client::builder(TokioExecutor::new()).build(https);
    let (_, outcomes) = send(client, request(Method::POST, &format!("https://127.0.0.1:{port}/"))).await;
    assert_eq!(outcomes, [TryOutcome::NotSent; 5]);
}

#[tokio::test]
async fn a_connection_closed_before_the_response_is_retried_with_a_key_and_never_without() {
    let (port, _) = listener::answer(vec![String::new(), BUSY.into(), OK.into()]).await;
    let url = format!("http://127.0.0.1:{port}/");
    let (result, outcomes) = send(hyper(), request(Method::POST, &url)).await;
    assert_eq!(result.unwrap().into_body().collect().await.unwrap().to_bytes(), "ok");
    assert_eq!(outcomes[0], TryOutcome::Failed);
    assert_eq!(outcomes.len(), 3);

    let (port, _) = listener::answer(vec![String::new(), OK.into()]).await;
    let url = format!("http://127.0.0.1:{port}/");
    assert_eq!(send_without_key(hyper(), &url).await, (false, vec![TryOutcome::Failed]));
}

#[tokio::test]
async fn an_error_over_a_real_connection_keeps_the_response_with_its_body() {
    let answer = "HTTP/1.1 429 Slow\r\ncontent-length: 11\r\n\r\nquota: 3/3.";
    let answers = [vec![answer.to_owned()], vec![String::new(); 4]].concat();
    let (port, _) = listener::answer(answers).await;
    let (result, _) = send(hyper(), request(Method::POST, &format!("http://127.0.0.1:{port}/"))).await;
    let error = result.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Client);
    let response = error.response().unwrap();
    assert_eq!((response.status().as_u16(), response.body().as_ref()), (429, b"quota: 3/3.".as_slice()));
}

#[cfg(feature = "http2")]
mod http2 {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    fn hyper_http2() -> Client<HttpConnector, Full<Bytes>> {
        Client::builder(TokioExecutor::new()).http2_only(true).retry_canceled_requests(false).build_http()
    }

    /// Resets the stream of each request for this reason.
    async fn resetting(reason: h2::Reason) -> String {
        let port = listener::each(move |stream| async move {
            let mut connection = h2::server::handshake(stream).await.unwrap();
            while let Some(Ok((_, mut respond))) = connection.accept().await {
                respond.send_reset(reason);
            }
        });
        format!("http://127.0.0.1:{}/", port.await)
    }

    #[tokio::test]
    async fn a_refused_stream_was_not_processed() {
        let url = resetting(h2::Reason::REFUSED_STREAM).await;
        assert_eq!(send_without_key(hyper_http2(), &url).await, (false, vec![TryOutcome::NotSent; 5]));
    }

    #[tokio::test]
    async fn another_reset_may_follow_the_work() {
        for reason in [h2::Reason::CANCEL, h2::Reason::INTERNAL_ERROR, h2::Reason::NO_ERROR] {
            let url = resetting(reason).await;
            let (_, outcomes) = send_without_key(hyper_http2(), &url).await;
            assert_eq!(outcomes, [TryOutcome::Failed], "{reason:?}");
        }
    }

    /// Answers the request with a GOAWAY that processes streams up to this one, and closes the connection.
    async fn going_away(last_stream: u8, reason: u8) -> String {
        let port = listener::each(move |mut stream| async move {
            // An empty SETTINGS frame, then GOAWAY: length 8, type 7, flags 0, stream 0, last stream, reason.
            stream.write_all(&[0, 0, 0, 4, 0, 0, 0, 0, 0]).await.unwrap();
            let mut seen = Vec::new();
            // Until the HEADERS frame (type 1) of stream 1.
            while !seen.windows(6).any(|frame| frame[0] == 1 && frame[2..6] == [0, 0, 0, 1]) {
                let mut buffer = [0; 4096];
                let length = stream.read(&mut buffer).await.unwrap();
                seen.extend_from_slice(&buffer[..length]);
            }
            let frame = [0, 0, 8, 7, 0, 0, 0, 0, 0, 0, 0, 0, last_stream, 0, 0, 0, reason];
            stream.write_all(&frame).await.unwrap();
            let _ = stream.shutdown().await;
            // Without a reset, which could reach the client before the frame.
            while stream.read(&mut [0; 4096]).await.is_ok_and(|length| length > 0) {}
        });
        format!("http://127.0.0.1:{}/", port.await)
    }

    #[tokio::test]
    async fn a_stream_above_the_last_one_of_a_goaway_was_not_processed() {
        for reason in [0, 11] {
            let url = going_away(0, reason).await;
            let (_, outcomes) = send_without_key(hyper_http2(), &url).await;
            assert_eq!(outcomes, [TryOutcome::NotSent; 5], "{reason}");
        }
    }

    #[tokio::test]
    async fn a_stream_within_a_goaway_may_have_been_processed() {
        for reason in [0, 2, 11] {
            let url = going_away(1, reason).await;
            let (_, outcomes) = send_without_key(hyper_http2(), &url).await;
            assert_eq!(outcomes, [TryOutcome::Failed], "{reason}");
        }
    }
}
