//! The example `payments` over loopback: a tonic server behind the layer, and a tonic client.
#![allow(clippy::unwrap_used, reason = "a helper that fails fails its test")]

use std::sync::atomic::Ordering;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::future::join_all;
use futures_util::stream;
use idempotency_layer::{Contract, IdempotencyLayer, MemoryStore};
use tokio::sync::mpsc;
use tokio::time::timeout;
use tonic::{Code, Response, Status};

#[allow(dead_code, reason = "the example has a main function of its own")]
#[path = "../examples/payments.rs"]
mod payments;

use self::payments::{Bank, Payments, PaymentsClient, idempotency, serve};

const ALICE: &str = "Bearer alice";

async fn start(idempotency: IdempotencyLayer<MemoryStore>) -> (Payments, PaymentsClient) {
    let payments = Payments::new();
    let address = serve(payments.clone(), idempotency).unwrap();
    (payments, PaymentsClient::connect(address, ALICE).await.unwrap())
}

fn runs(payments: &Payments) -> usize {
    payments.runs.load(Ordering::Relaxed)
}

fn is_replay<T>(response: &Response<T>) -> bool {
    response.metadata().get("idempotent-replayed").is_some_and(|mark| mark == "true")
}

#[tokio::test]
async fn unavailable_is_not_replayed_and_ok_is() {
    let (payments, client) = start(idempotency()).await;
    payments.bank.send_replace(Bank::Down);
    for run in 1..=2 {
        let status = client.pay("key", "20").await.unwrap_err();
        assert_eq!((status.code(), status.message()), (Code::Unavailable, "the bank is down"));
        assert_eq!(runs(&payments), run);
    }
    payments.bank.send_replace(Bank::Open);
    let first = client.pay("key", "20").await.unwrap();
    assert!(!is_replay(&first));
    let again = client.pay("key", "20").await.unwrap();
    assert!(is_replay(&again));
    assert_eq!(
        (first.get_ref(), again.get_ref()),
        (&"receipt 3: 20".to_owned(), &"receipt 3: 20".to_owned())
    );
    assert_eq!(runs(&payments), 3);
}

#[tokio::test]
async fn an_error_that_a_retry_cannot_change_is_replayed() {
    let (payments, client) = start(idempotency()).await;
    for _ in 0..2 {
        let status = client.pay("key", "0").await.unwrap_err();
        assert_eq!((status.code(), status.message()), (Code::InvalidArgument, "nothing to pay"));
    }
    assert_eq!(runs(&payments), 1);
}

#[tokio::test]
async fn a_rejection_arrives_as_a_status() {
    let layer = IdempotencyLayer::builder(MemoryStore::default()).contract(Contract::grpc()).single_tenant();
    let (payments, client) = start(layer.build()).await;
    client.pay("used", "20").await.unwrap();
    let reused = client.pay("used", "30").await.unwrap_err();
    assert_eq!(reused.code(), Code::InvalidArgument);
    assert_eq!(reused.message(), "This Idempotency-Key was used for a different request.");

    let invalid = client.pay(&"k".repeat(256), "20").await.unwrap_err();
    assert_eq!(invalid.code(), Code::InvalidArgument);

    payments.bank.send_replace(Bank::Slow);
    let slow = tokio::spawn({
        let client = client.clone();
        async move { client.pay("slow", "20").await }
    });
    while runs(&payments) < 2 {
        tokio::task::yield_now().await;
    }
    let busy = client.pay("slow", "20").await.unwrap_err();
    assert_eq!(busy.code(), Code::Aborted);
    assert_eq!(busy.metadata().get("grpc-retry-pushback-ms").unwrap(), "1000");
    payments.bank.send_replace(Bank::Open);
    slow.await.unwrap().unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_duplicates_at_the_same_time_one_runs_and_all_get_its_answer() {
    let (payments, client) = start(idempotency()).await;
    for round in 1..=50 {
        let key = format!("key {round}");
        let answers = join_all((0..20).map(|_| client.pay(&key, "20"))).await;
        let receipts = answers.into_iter().map(|answer| answer.unwrap().into_inner());
        let expected = format!("receipt {round}: 20");
        assert!(receipts.into_iter().all(|receipt| receipt == expected));
        assert_eq!(runs(&payments), round);
    }
}

#[tokio::test]
async fn a_key_of_one_account_is_none_of_anothers() {
    let payments = Payments::new();
    let address = serve(payments.clone(), idempotency()).unwrap();
    for (run, token) in [ALICE, "Bearer bob"].into_iter().enumerate() {
        let client = PaymentsClient::connect(address, token).await.unwrap();
        let receipt = client.pay("key", "20").await.unwrap().into_inner();
        assert_eq!(receipt, format!("receipt {}: 20", run + 1));
    }
}

#[tokio::test]
async fn a_stream_of_answers_runs_once_and_is_not_repeated() {
    let (payments, client) = start(idempotency()).await;
    let lines = client.statement("key").await.unwrap().into_inner();
    let lines = lines.map(Result::unwrap).collect::<Vec<_>>().await;
    assert_eq!(lines, ["statement 1, line 1", "statement 1, line 2", "statement 1, line 3"]);
    let again = client.statement("key").await.unwrap_err();
    assert_eq!((again.code(), runs(&payments)), (Code::AlreadyExists, 1));
    assert_eq!(again.metadata().get("grpc-retry-pushback-ms").unwrap(), "-1");
}

/// Asks each question after the answer to the previous one. If `begins` is set, it asks the first one at once.
async fn converse(client: &PaymentsClient, begins: bool) -> Result<(), Status> {
    let (ask, questions) = mpsc::unbounded_channel();
    let questions = stream::unfold(questions, |mut rest| async { Some((rest.recv().await?, rest)) });
    if begins {
        ask.send("C0".to_owned()).unwrap();
    }
    let mut answers = client.quote("key", questions.boxed()).await?.into_inner();
    for turn in 0..3 {
        if turn > 0 || !begins {
            ask.send(format!("C{turn}")).unwrap();
        }
        assert_eq!(answers.message().await?.unwrap(), format!("1 C{turn} is 2"));
    }
    drop(ask);
    assert!(answers.message().await?.is_none());
    Ok(())
}

#[tokio::test]
async fn a_bidirectional_call_passes_whoever_begins() {
    let (payments, client) = start(idempotency()).await;
    let talks = join_all([true, false, true, false].map(|begins| converse(&client, begins)));
    let talks = timeout(Duration::from_mins(1), talks).await.unwrap();
    assert!(talks.into_iter().all(|talk| talk.is_ok()));
    assert_eq!(runs(&payments), 4, "each ran, with one key");
}
