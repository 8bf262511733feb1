use std::time::Duration;

use account_retry_policy::Backoff;
use account_retry_policy::client::{ErrorKind, GiveUpReason, Next, Retries};
use tokio::time::Instant;
use tower::{Layer, Service, ServiceExt};

use crate::server::{Does, Server, post, seconds, send, status, times, watched};

#[tokio::test(start_paused = true)]
async fn the_deadline_cuts_a_try_short() {
    let retries = Retries::new().deadline(seconds(7)).try_timeout(seconds(60));
    let (server, began) = (Server::always(Does::Hang), Instant::now());
    let error = send(&retries, &server, post()).await.unwrap_err();
    assert_eq!((error.kind(), began.elapsed()), (ErrorKind::Deadline, seconds(7)));
    assert_eq!(error.idempotency_key().unwrap().to_str().unwrap(), server.sent_header("idempotency-key")[0]);
}

#[tokio::test(start_paused = true)]
async fn a_try_has_its_own_time_and_the_next_one_as_much() {
    let retries = Retries::new().try_timeout(seconds(3)).backoff(Backoff::fixed(Duration::ZERO));
    let server = Server::that([Does::Hang, Does::Take(seconds(4)), Does::Take(seconds(2))]);
    let began = Instant::now();
    assert_eq!(send(&retries, &server, post()).await.unwrap().status(), 200);
    assert_eq!(server.sent(), 3);
    assert!((seconds(8)..seconds(9)).contains(&began.elapsed()), "{:?}", began.elapsed());
}

#[tokio::test(start_paused = true)]
async fn nothing_is_waited_for_that_would_come_too_late() {
    let (retries, seen) = watched(Retries::new().backoff(Backoff::fixed(seconds(10))).deadline(seconds(25)));
    let (server, began) = (Server::always(status(503)), Instant::now());
    assert_eq!(send(&retries, &server, post()).await.unwrap().status(), 503);
    assert_eq!((server.sent(), began.elapsed()), (3, seconds(20)));
    assert_eq!(seen.lock().unwrap()[2].next, Next::GiveUp(GiveUpReason::Deadline));
}

#[tokio::test(start_paused = true)]
async fn dropping_the_future_stops_the_tries() {
    let server = Server::always(status(503));
    let retries = Retries::new().backoff(Backoff::fixed(seconds(1))).max_tries(times(100));
    let mut client = retries.layer().layer(server.clone());
    let leaving = client.ready().await.unwrap().call(post());
    assert!(tokio::time::timeout(Duration::from_millis(2500), leaving).await.is_err());
    tokio::time::sleep(Duration::from_mins(5)).await;
    assert_eq!(server.sent(), 3);
}

#[tokio::test(start_paused = true)]
async fn a_client_that_must_be_ready_is_called_when_it_is() {
    // Each permit is taken when it is polled ready, so a clone that is called without is a panic.
    let limited = tower::limit::ConcurrencyLimit::new(Server::always(status(503)), 1);
    let mut client = Retries::new().layer().layer(limited);
    for _ in 0..3 {
        let answered = client.ready().await.unwrap().call(post()).await.unwrap();
        assert_eq!(answered.status(), 503);
    }
}
