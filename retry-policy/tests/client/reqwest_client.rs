use account_retry_policy::client::{ErrorKind, Retries};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tower::{Layer, Service, ServiceExt};

/// Accepts `answers.len()` connections, and writes one of them on each.
async fn server(answers: &'static [&'static str]) -> (String, tokio::task::JoinHandle<Vec<String>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/payments", listener.local_addr().unwrap());
    let serving = tokio::spawn(async move {
        let mut heads = Vec::new();
        for answer in answers {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut request = vec![0; 4096];
            let length = stream.read(&mut request).await.unwrap();
            heads.push(String::from_utf8_lossy(&request[..length]).into_owned());
            stream.write_all(answer.as_bytes()).await.unwrap();
        }
        heads
    });
    (url, serving)
}

/// Built together with a crate that names its provider of TLS by itself, reqwest has none until one is installed.
fn http() -> reqwest::Client {
    let _ = rustls::crypto::ring::default_provider().install_default();
    reqwest::Client::new()
}

fn retries() -> Retries {
    let backoff = account_retry_policy::Backoff::fixed(std::time::Duration::from_millis(1));
    Retries::new().backoff(backoff)
}

#[tokio::test]
async fn reqwest_itself_sends_one_key_until_it_is_answered() {
    const BUSY: &str = "HTTP/1.1 503 Busy\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";
    const OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\nok";
    // The second connection is cut without a word.
    let (url, serving) = server(&[BUSY, "", OK]).await;
    let mut client = retries().layer().layer(http());
    let request = http().post(&url).body("12.50").build().unwrap();
    let response = client.ready().await.unwrap().call(request).await.unwrap();
    assert_eq!((response.status().as_u16(), response.text().await.unwrap().as_str()), (200, "ok"));
    let heads = serving.await.unwrap();
    let keys: Vec<_> = heads
        .iter()
        .map(|head| head.lines().find(|line| line.starts_with("idempotency-key: ")).unwrap().to_owned())
        .collect();
    assert_eq!(keys.len(), 3);
    assert!(keys.iter().all(|key| *key == keys[0]), "{keys:?}");
    assert!(heads.iter().all(|head| head.ends_with("\r\n\r\n12.50")), "{heads:?}");
}

#[tokio::test]
async fn a_body_that_can_be_sent_only_once_is_refused_before_it_is_sent() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    let stream = reqwest::Body::wrap(http_body_util::Full::new(bytes::Bytes::from("12.50")));
    let mut client = retries().layer().layer(http());
    let request = http().post(&url).body(stream).build().unwrap();
    let error = client.ready().await.unwrap().call(request).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotReplayable);
    let nobody =
        std::future::poll_fn(|context| std::task::Poll::Ready(listener.poll_accept(context).is_pending()));
    assert!(nobody.await, "it was sent");
}

#[tokio::test]
async fn a_request_that_cannot_be_sent_at_all_is_not_tried_again() {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU32, Ordering};
    let tries = Arc::new(AtomicU32::new(0));
    let counted = Arc::clone(&tries);
    let retries = retries().on_try(move |_| {
        counted.fetch_add(1, Ordering::Relaxed);
    });
    let mut client = retries.layer().layer(http());
    let request = reqwest::Request::new(http::Method::POST, "nothing:that-can-be-called".parse().unwrap());
    let error = client.ready().await.unwrap().call(request).await.unwrap_err();
    assert_eq!((error.kind(), tries.load(Ordering::Relaxed)), (ErrorKind::Client, 1));
}
