//! Tests of the fair use of database connections, with the whole stack.

use axum::body::Body;
use axum::routing::post;
use http::Request;
use idempotency_layer::CoCommitError;
use private_postgres::shared_database;
use tokio::sync::Semaphore;
use tokio::task::{JoinHandle, spawn_blocking};
use tokio::time::timeout;
use tower::ServiceExt;
use utoipa::openapi::path::Paths;

use super::*;
use crate::db::RequestTransaction;
use crate::route::Described;
use crate::testing::{Acme, api_builder, platform};

/// An API with one operation, whose handler waits in its transaction for a permit of `go`.
struct Held {
    router: Router,
    /// Has one permit for each transaction that has begun.
    begun: Arc<Semaphore>,
    go: Arc<Semaphore>,
}

impl Held {
    async fn with(in_transaction: bool) -> Self {
        let database = Database::open(&spawn_blocking(shared_database).await.unwrap()).await.unwrap();
        let (begun, go) = (Arc::new(Semaphore::new(0)), Arc::new(Semaphore::new(0)));
        let (started, end) = (Arc::clone(&begun), Arc::clone(&go));
        let handler = async move |transaction: RequestTransaction| {
            let done: Result<(), CoCommitError> = transaction
                .run(async |_| {
                    started.add_permits(1);
                    end.acquire().await.expect("it is open").forget();
                    Ok(())
                })
                .await;
            if done.is_ok() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE }
        };
        let route = Route {
            path: "/it".to_owned(),
            handler: post(handler),
            described: Described { paths: Paths::new(), schemas: Vec::new() },
            access: Access::Key,
            idempotent: true,
            in_transaction,
            body: BodySize::Usual,
        };
        let api = api_builder(&platform(&database)).build(Acme, vec![route]);
        Self { router: api.operations, begun, go }
    }

    /// Sends a request of the account with this digit, with or without an idempotency key.
    fn ask(&self, digit: char, has_key: bool, body: Body) -> JoinHandle<StatusCode> {
        let mut request = Request::post("/it")
            .header("authorization", format!("Bearer acme_{}", digit.to_string().repeat(64)));
        if has_key {
            request = request.header("idempotency-key", format!("\"{}\"", uuid::Uuid::new_v4()));
        }
        let asked = self.router.clone().oneshot(request.body(body).unwrap());
        tokio::spawn(async { asked.await.unwrap().status() })
    }

    async fn wait_for(&self, transactions: u32) {
        let begun = timeout(Duration::from_secs(10), self.begun.acquire_many(transactions)).await;
        begun.expect("they begin").unwrap().forget();
    }
}

#[tokio::test]
async fn transactions_of_one_account_leave_connections_for_those_of_others() {
    for (in_transaction, has_key) in [(false, true), (true, true), (false, false), (true, false)] {
        let held = Held::with(in_transaction).await;
        let ask = |digit| held.ask(digit, has_key, Body::from("{}"));
        let mut one: Vec<_> = (0..12).map(|_| ask('1')).collect();
        held.wait_for(8).await;
        let other = ask('2');
        held.wait_for(1).await;
        assert_eq!(
            held.begun.available_permits(),
            0,
            "four of the first account wait: {in_transaction} {has_key}"
        );
        held.go.add_permits(9);
        held.wait_for(4).await;
        held.go.add_permits(4);
        one.push(other);
        for asked in one {
            assert_eq!(asked.await.unwrap(), StatusCode::OK, "{in_transaction} {has_key}");
        }
        // Every turn was given back.
        held.go.add_permits(8);
        let again: Vec<_> = (0..8).map(|_| ask('1')).collect();
        held.wait_for(8).await;
        for asked in again {
            assert_eq!(asked.await.unwrap(), StatusCode::OK, "{in_transaction} {has_key}");
        }
    }
}

#[tokio::test]
async fn a_body_that_comes_slowly_holds_no_turn() {
    let held = Held::with(true).await;
    held.go.add_permits(1);
    let silent = || Body::from_stream(futures_util::stream::pending::<Result<String, std::io::Error>>());
    let waiting: Vec<_> = (0..9).map(|_| held.ask('1', true, silent())).collect();
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
    let answer = timeout(Duration::from_secs(5), held.ask('1', true, Body::from("{}"))).await;
    assert_eq!(answer.expect("it has its turn").unwrap(), StatusCode::OK);
    waiting.iter().for_each(JoinHandle::abort);
}
