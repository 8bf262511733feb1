//! The client that tries again, over a real connection, against the layer that replays: what happens, happens once.
#![allow(clippy::unwrap_used, reason = "a helper that fails fails its test")]

mod clients;
mod server;

use std::collections::HashSet;
use std::time::Duration;

use account_retry_policy::Backoff;
use account_retry_policy::client::{Next, Retries, Try, TryOutcome};
use tokio::sync::mpsc;

use clients::{Client, Hyper, Reqwest};
use server::{Fault, Server};

fn retries() -> Retries {
    Retries::new().backoff(Backoff::fixed(Duration::from_millis(2))).try_timeout(Duration::from_secs(5))
}

/// Pays once, while this goes wrong: the receipt's number, and what is said of every try.
async fn pay(client: impl Fn(&Retries) -> Client, server: &Server, faults: &[Fault]) -> (u64, Vec<Try>) {
    let (sender, mut events) = mpsc::unbounded_channel();
    let client = client(&retries().without_budget().on_try(move |event| sender.send(event.clone()).unwrap()));
    server.plan(faults);
    let receipt = client.pay(server.address, "12.50").await;
    drop(client);
    let mut tries = Vec::new();
    while let Some(event) = events.recv().await {
        tries.push(event);
    }
    (receipt, tries)
}

#[tokio::test]
async fn whatever_goes_wrong_the_effect_happens_once() {
    const ALL: [Fault; 5] = [
        Fault::DropBefore,
        Fault::DropAfter,
        Fault::Answer(500),
        Fault::Answer(503),
        Fault::Busy { seconds: 0 },
    ];
    let server = Server::start().await;
    let mut receipts = HashSet::new();
    for first in ALL {
        for second in ALL {
            for client in [Hyper::client, Reqwest::client] {
                let (receipt, tries) = pay(client, &server, &[first, second]).await;
                assert!(receipts.insert(receipt), "{first:?}, then {second:?}: somebody else's receipt");
                assert_eq!(server.effects(), receipts.len(), "{first:?}, then {second:?}: {tries:?}");
                // A handler that has run does not run again to fail.
                let replayed = matches!((first, second), (Fault::DropAfter, Fault::Answer(_)));
                assert_eq!(tries.len(), if replayed { 2 } else { 3 }, "{tries:?}");
            }
        }
    }
}

#[tokio::test]
async fn a_request_that_still_runs_is_waited_for_and_its_answer_is_the_answer() {
    let server = Server::start().await;
    let (sender, mut events) = mpsc::unbounded_channel();
    let retries = retries()
        .try_timeout(Duration::from_millis(200))
        .on_try(move |event| sender.send((event.outcome, event.next)).unwrap());
    // The first try is given up while its handler runs; the second is told that it runs, and when to come back.
    let held = server.hold();
    let paying = tokio::spawn({
        let (client, address) = (Hyper::client(&retries), server.address);
        async move { client.pay(address, "12.50").await }
    });
    assert_eq!(events.recv().await.unwrap().0, TryOutcome::Timeout);
    let (outcome, next) = events.recv().await.unwrap();
    assert_eq!(outcome, TryOutcome::Response(http::StatusCode::CONFLICT));
    assert!(matches!(next, Next::RetryIn(wait) if wait >= Duration::from_secs(1)), "{next:?}");
    drop(held);
    paying.await.unwrap();
    assert_eq!(server.effects(), 1);
    let (outcome, next) = events.recv().await.unwrap();
    assert_eq!((outcome, next), (TryOutcome::Response(http::StatusCode::CREATED), Next::Done));
}

#[tokio::test]
async fn a_hundred_at_once_over_bad_connections_happen_once_each() {
    let server = Server::start().await;
    server.plan_at_random(150);
    let clients = [Hyper::client(&retries().without_budget()), Reqwest::client(&retries().without_budget())];
    let paying = (0..100).map(|number| {
        let (client, address) = (clients[number % 2].clone(), server.address);
        tokio::spawn(async move { client.try_pay(address, &number.to_string()).await })
    });
    let paying: Vec<_> = paying.collect();
    let mut receipts = HashSet::new();
    let mut unanswered = 0;
    for receipt in paying {
        match receipt.await.unwrap() {
            Some(receipt) => assert!(receipts.insert(receipt), "two have one receipt"),
            None => unanswered += 1,
        }
    }
    // Who gave up after five tries may have paid, or not; nobody paid twice.
    assert!((receipts.len()..=receipts.len() + unanswered).contains(&server.effects()));
    assert!(receipts.len() >= 50, "{unanswered} got no answer");
    assert_eq!(server.twice(), 0);
}

#[tokio::test]
async fn without_one_key_it_would_happen_more_than_once() {
    // What all this is for, and the proof that these faults are real.
    let server = Server::start().await;
    server.plan(&[Fault::DropAfter, Fault::DropAfter]);
    Hyper::client(&retries().without_key()).pay(server.address, "12.50").await;
    assert_eq!(server.effects(), 3);
}
