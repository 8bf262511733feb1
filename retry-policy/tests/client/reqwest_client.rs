use std::time::Duration;

use account_retry_policy::Backoff;
use account_retry_policy::client::{ErrorKind, ReqwestClient, Retries, TryOutcome};
use http::Method;
use tokio::net::TcpListener;
use tower::{Service, ServiceExt};

use crate::listener::{self, BUSY, OK};
use crate::server::watched;

fn retries() -> Retries {
    Retries::new().backoff(Backoff::fixed(Duration::from_millis(1)))
}

fn client(retries: &Retries) -> ReqwestClient {
    let tls = listener::trusting_nobody();
    retries.reqwest(reqwest::Client::builder().tls_backend_preconfigured(tls)).unwrap()
}

fn key_of(request: &str) -> Option<&str> {
    request.lines().find_map(|line| line.strip_prefix("idempotency-key: "))
}

#[tokio::test]
async fn reqwest_sends_one_key_until_it_is_answered() {
    let (port, serving) = listener::answer(vec![BUSY.into(), String::new(), OK.into()]).await;
    let client = client(&retries());
    let request = client.as_reqwest().post(format!("http://127.0.0.1:{port}/payments")).body("12.50");
    let response = client.execute(request.build().unwrap()).await.unwrap();
    assert_eq!((response.status().as_u16(), response.text().await.unwrap().as_str()), (200, "ok"));
    let requests = serving.await.unwrap();
    let keys: Vec<_> = requests.iter().map(|request| key_of(request).unwrap()).collect();
    assert_eq!(keys, [keys[0]; 3]);
    assert!(requests.iter().all(|request| request.ends_with("\r\n\r\n12.50")), "{requests:?}");
}

#[tokio::test]
async fn it_is_a_service_too() {
    let (port, _) = listener::answer(vec![BUSY.into(), OK.into()]).await;
    let mut client = client(&retries());
    let request = client.as_reqwest().get(format!("http://127.0.0.1:{port}/")).build().unwrap();
    let response = client.ready().await.unwrap().call(request).await.unwrap();
    assert_eq!(response.text().await.unwrap(), "ok");
}

#[tokio::test]
async fn a_body_that_can_be_sent_only_once_is_refused_before_it_is_sent_unless_there_is_one_try() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    let stream = || reqwest::Body::wrap(http_body_util::Full::new(bytes::Bytes::from("12.50")));
    let five = client(&retries());
    let error = five.execute(five.as_reqwest().post(&url).body(stream()).build().unwrap()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotReplayable);
    let is_idle =
        std::future::poll_fn(|context| std::task::Poll::Ready(listener.poll_accept(context).is_pending()));
    assert!(is_idle.await, "it was sent");

    let (port, serving) = listener::answer(vec![OK.into()]).await;
    let one = client(&retries().max_tries(crate::server::times(1)));
    let request = one.as_reqwest().post(format!("http://127.0.0.1:{port}/")).body(stream()).build().unwrap();
    assert_eq!(one.execute(request).await.unwrap().status(), 200);
    assert_eq!(serving.await.unwrap().len(), 1);
}

/// Sends a POST to `url`: the outcomes of its tries.
async fn outcomes(url: &str) -> Vec<TryOutcome> {
    let (retries, seen) = watched(retries());
    let client = client(&retries);
    let request = reqwest::Request::new(Method::POST, url.parse().unwrap());
    assert_eq!(client.execute(request).await.unwrap_err().kind(), ErrorKind::Client);
    seen.lock().unwrap().iter().map(|event| event.outcome).collect()
}

#[tokio::test]
async fn what_cannot_be_sent_at_all_is_not_retried() {
    let https = format!("https://localhost:{}/", listener::self_signed().await);
    for url in ["nothing:that-can-be-called", "ftp://127.0.0.1/", &https] {
        assert_eq!(outcomes(url).await, [TryOutcome::Permanent], "{url}");
    }
}

#[tokio::test]
async fn what_never_left_is_retried() {
    let url = format!("http://127.0.0.1:{}/", listener::closed());
    assert_eq!(outcomes(&url).await, [TryOutcome::NotSent; 5]);
}

fn redirect(status: u16, location: &str) -> String {
    format!("HTTP/1.1 {status} R\r\nlocation: {location}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n")
}

#[tokio::test]
async fn a_redirect_to_another_origin_is_the_response_and_takes_no_key_along() {
    for status in [301, 302, 303, 307, 308] {
        let other = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = other.local_addr().unwrap().port();
        for location in [
            format!("http://127.0.0.1:{port}/"),
            format!("http://localhost:{port}/"),
            format!("//localhost:{port}/"),
        ] {
            let (first, serving) = listener::answer(vec![redirect(status, &location)]).await;
            let client = client(&retries());
            let request = client.as_reqwest().post(format!("http://127.0.0.1:{first}/")).body("12.50");
            let response = client.execute(request.build().unwrap()).await.unwrap();
            assert_eq!((response.status().as_u16(), response.url().port()), (status, Some(first)));
            assert!(key_of(&serving.await.unwrap()[0]).is_some());
        }
        let is_idle =
            std::future::poll_fn(|context| std::task::Poll::Ready(other.poll_accept(context).is_pending()));
        assert!(is_idle.await, "{status}: the other origin was called");
    }
}

#[tokio::test]
async fn a_redirect_to_another_scheme_or_host_is_the_response() {
    for location in
        ["https://127.0.0.1:{}/", "http://localhost:{}/", "http://user@localhost:{}/", "http://127.0.0.1:1/"]
    {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        drop(listener);
        let location = location.replace("{}", &port.to_string());
        let (first, _) = listener::answer(vec![redirect(307, &location)]).await;
        let client = client(&retries());
        let request = client.as_reqwest().post(format!("http://127.0.0.1:{first}/")).body("12.50");
        assert_eq!(client.execute(request.build().unwrap()).await.unwrap().status(), 307, "{location}");
    }
}

#[tokio::test]
async fn a_redirect_within_the_origin_is_followed_with_key_and_body() {
    let (port, serving) = listener::answer(vec![redirect(307, "/moved"), OK.into()]).await;
    let client = client(&retries());
    let request = client.as_reqwest().post(format!("http://127.0.0.1:{port}/")).body("12.50");
    let response = client.execute(request.build().unwrap()).await.unwrap();
    assert_eq!((response.status().as_u16(), response.url().path()), (200, "/moved"));
    let requests = serving.await.unwrap();
    assert!(key_of(&requests[0]).is_some());
    assert_eq!(key_of(&requests[1]), key_of(&requests[0]));
    assert!(requests[1].ends_with("12.50"));
}

#[tokio::test]
async fn a_chain_that_leaves_the_origin_ends_where_it_would_leave() {
    let (port, serving) =
        listener::answer(vec![redirect(307, "/a"), redirect(308, "http://localhost:1/")]).await;
    let client = client(&retries());
    let request = client.as_reqwest().post(format!("http://127.0.0.1:{port}/")).body("12.50");
    let response = client.execute(request.build().unwrap()).await.unwrap();
    assert_eq!((response.status().as_u16(), response.url().path()), (308, "/a"));
    assert_eq!(serving.await.unwrap().len(), 2);
}

#[tokio::test]
async fn redirects_without_end_are_an_error_that_is_not_retried() {
    let (port, _) = listener::answer(vec![redirect(307, "/"); 11]).await;
    assert_eq!(outcomes(&format!("http://127.0.0.1:{port}/")).await, [TryOutcome::Permanent]);
}
