use std::collections::HashSet;

use account_retry_policy::client::{ErrorKind, Retries, TryOutcome};
use http::Request;
use http::header::HeaderName;
use tower::{Service, ServiceBuilder, ServiceExt};

use crate::server::{Does, Server, get, post, send, status, watched};

const KEY: &str = "idempotency-key";

fn bad_luck() -> Vec<Does> {
    vec![status(503), Does::Fail, status(500), Does::Hang]
}

#[tokio::test(start_paused = true)]
async fn every_try_of_a_request_carries_the_same_key_and_every_request_another() {
    let mut keys = HashSet::new();
    for _ in 0..20 {
        let server = Server::that(bad_luck());
        assert_eq!(send(&Retries::new(), &server, post()).await.unwrap().status(), 200);
        let sent = server.sent_header(KEY);
        assert_eq!(sent.len(), 5);
        let uuid = uuid::Uuid::try_parse(&sent[0]).unwrap();
        assert_eq!((uuid.get_version_num(), uuid.get_variant()), (4, uuid::Variant::RFC4122));
        assert_eq!(sent.iter().collect::<HashSet<_>>().len(), 1, "{sent:?}");
        keys.insert(sent[0].clone());
    }
    assert_eq!(keys.len(), 20);
}

#[tokio::test(start_paused = true)]
async fn a_key_that_was_given_is_kept_to_the_letter() {
    for given in ["order-17", "\"quoted\"", "with space", "ñ"] {
        let server = Server::that(bad_luck());
        let mut request = post();
        request.headers_mut().insert(KEY, http::HeaderValue::from_bytes(given.as_bytes()).unwrap());
        send(&Retries::new(), &server, request).await.unwrap();
        assert_eq!(server.sent(), 5, "{given}");
        if given.is_ascii() {
            assert_eq!(server.sent_header(KEY), [given; 5]);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_method_that_is_idempotent_by_itself_needs_no_key_and_gets_none() {
    for method in ["GET", "HEAD", "PUT", "DELETE", "OPTIONS", "TRACE"] {
        let server = Server::that(bad_luck());
        let mut request = get();
        *request.method_mut() = method.parse().unwrap();
        send(&Retries::new(), &server, request).await.unwrap();
        assert_eq!(server.sent_header(KEY), [""; 5], "{method}");
    }
    for method in ["POST", "PATCH", "CHARGE"] {
        let server = Server::that(bad_luck());
        let mut request = post();
        *request.method_mut() = method.parse().unwrap();
        send(&Retries::new(), &server, request).await.unwrap();
        assert!(server.sent_header(KEY).iter().all(|key| !key.is_empty()), "{method}");
    }
}

#[tokio::test(start_paused = true)]
async fn the_header_can_have_another_name_and_the_key_quotes() {
    let server = Server::that(bad_luck());
    let retries = Retries::new().quoted_key().key_header(HeaderName::from_static("x-request-key"));
    send(&retries, &server, post()).await.unwrap();
    let sent = server.sent_header("x-request-key");
    assert!(sent[0].starts_with('"') && sent[0].ends_with('"') && sent[0].len() == 38, "{}", sent[0]);
    assert_eq!(server.sent_header(KEY), [""; 5]);
}

#[tokio::test(start_paused = true)]
async fn without_key_retries_a_post_without_a_key() {
    let server = Server::that(bad_luck());
    send(&Retries::new().without_key(), &server, post()).await.unwrap();
    assert_eq!(server.sent_header(KEY), [""; 5]);
}

#[tokio::test(start_paused = true)]
async fn the_policy_alone_repeats_nothing_that_could_happen_twice() {
    use account_retry_policy::client::{GiveUpReason, Next};
    let keyed = Request::post("http://h/").header(KEY, "k").body(String::new()).unwrap();
    for (request, tries) in [(post(), 1), (keyed, 5), (get(), 5)] {
        let (retries, seen) = watched(Retries::new());
        let server = Server::that([status(503), Does::Fail, status(500), status(502)]);
        let mut client = ServiceBuilder::new().retry(retries.policy()).service(server.clone());
        let answered = client.ready().await.unwrap().call(request).await.unwrap();
        assert_eq!(answered.status(), if tries == 1 { 503 } else { 200 });
        assert_eq!(server.sent(), tries);
        assert_eq!(seen.lock().unwrap()[0].next == Next::GiveUp(GiveUpReason::NoKey), tries == 1);
    }
}

#[tokio::test(start_paused = true)]
async fn a_request_that_was_not_sent_is_repeated_without_a_key_too() {
    let (retries, seen) = watched(Retries::new());
    let server = Server::that([Does::Refuse, Does::Refuse, Does::Fail]);
    let mut client = ServiceBuilder::new().retry(retries.policy()).service(server.clone());
    client.ready().await.unwrap().call(post()).await.unwrap_err();
    let outcomes: Vec<_> = seen.lock().unwrap().iter().map(|event| event.outcome).collect();
    assert_eq!(outcomes, [TryOutcome::NotSent, TryOutcome::NotSent, TryOutcome::Failed]);
    assert_eq!(server.sent_header(KEY), [""; 3]);
}

#[tokio::test(start_paused = true)]
async fn the_policy_recognises_the_same_errors_in_a_box() {
    let server = Server::that([Does::Refuse, Does::Fail]);
    let boxed = server.clone().map_err(tower::BoxError::from);
    let mut client = ServiceBuilder::new().retry(Retries::new().policy()).service(boxed);
    client.ready().await.unwrap().call(post()).await.unwrap_err();
    assert_eq!(server.sent(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_header_without_a_key_in_it_is_no_key() {
    for empty in ["", "  ", "\t"] {
        let mut request = post();
        request.headers_mut().insert(KEY, empty.parse().unwrap());
        let server = Server::always(status(503));
        let mut client = ServiceBuilder::new().retry(Retries::new().policy()).service(server.clone());
        client.ready().await.unwrap().call(request.clone()).await.unwrap();
        assert_eq!(server.sent(), 1);

        let server = Server::that(bad_luck());
        send(&Retries::new(), &server, request).await.unwrap();
        let sent = server.sent_header(KEY);
        assert!(uuid::Uuid::try_parse(&sent[0]).is_ok(), "{sent:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_header_name_in_any_case_is_the_same_header() {
    for name in ["Idempotency-Key", "IDEMPOTENCY-KEY", "idempotency-key"] {
        let server = Server::that(bad_luck());
        let request = Request::post("http://h/").header(name, "order-17").body(String::new()).unwrap();
        send(&Retries::new(), &server, request).await.unwrap();
        assert_eq!(server.sent_header(KEY), ["order-17"; 5]);
    }
}

#[tokio::test(start_paused = true)]
async fn the_policy_counts_and_times_each_request_for_itself() {
    let server = Server::always(status(503));
    let mut client = ServiceBuilder::new().retry(Retries::new().policy()).service(server.clone());
    for round in 1..=3 {
        client.ready().await.unwrap().call(get()).await.unwrap();
        assert_eq!(server.sent(), round * 5);
        tokio::time::sleep(std::time::Duration::from_mins(10)).await;
    }
}

#[tokio::test(start_paused = true)]
async fn an_error_knows_the_key_and_does_not_print_it() {
    let server = Server::always(Does::Fail);
    let error = send(&Retries::new(), &server, post()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Client);
    assert!(std::error::Error::source(&error).unwrap().is::<std::io::Error>());
    let key = error.idempotency_key().unwrap().to_str().unwrap();
    assert_eq!(server.sent_header(KEY), [key; 5]);
    assert!(!format!("{error:?} {error}").contains(key), "{error:?}");

    let error = send(&Retries::new(), &server, get()).await.unwrap_err();
    assert_eq!(error.idempotency_key(), None);
}
