//! One run for each key: concurrent requests, other bodies, other paths, other tenants.

use http::Method;
use idempotency_layer::{
    AnyStore, Bind, Contract, FingerprintMode, IdempotencyLayer, MemoryStore, RejectionKind, Scope,
};
use tokio::task::yield_now;
use tower::Layer;

use crate::support::{
    Count, Gate, builder, counting, gated, handler, memory, post, protected, request, response, send, settle,
    start, under, with,
};

const CLIENTS: usize = 64;

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn of_many_requests_at_once_with_one_key_exactly_one_runs() {
    for round in 0..100 {
        let runs = Count::default();
        let counted = runs.clone();
        let service = protected(handler(move |_| {
            let run = counted.one();
            async move {
                for _ in 0..round % 4 {
                    yield_now().await;
                }
                response(201, format!("run {run}"))
            }
        }));
        let clients: Vec<_> = (0..CLIENTS).map(|_| start(&service, post("key", "body"))).collect();
        let mut fresh = 0;
        for client in clients {
            let answer = client.await.unwrap();
            match answer.brief() {
                (201, "run 1") => fresh += usize::from(!answer.is_replay()),
                (409, _) => assert_eq!(answer.kind(), Some(RejectionKind::InProgress)),
                other => panic!("round {round}: {other:?}"),
            }
        }
        assert_eq!((runs.get(), fresh), (1, 1), "round {round}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn of_many_requests_at_once_with_a_few_keys_each_key_runs_once_and_those_who_wait_get_its_answer() {
    for round in 0..25 {
        let runs = [const { 0 }; 4].map(|_: i32| Count::default());
        let counted = runs.clone();
        let inner = handler(move |request| {
            let key = request.headers()["idempotency-key"].to_str().unwrap().to_owned();
            let run = counted[key.parse::<usize>().unwrap()].one();
            async move {
                yield_now().await;
                response(201, format!("key {key} run {run}"))
            }
        });
        let service = builder(memory()).wait(std::time::Duration::from_mins(1)).build().layer(inner);
        let clients: Vec<_> = (0..CLIENTS)
            .map(|client| (client % 4, start(&service, post(&(client % 4).to_string(), "body"))))
            .collect();
        for (key, client) in clients {
            assert_eq!(client.await.unwrap().brief(), (201, &*format!("key {key} run 1")), "round {round}");
        }
        assert_eq!(runs.map(|runs| runs.get()), [1; 4], "round {round}");
    }
}

#[tokio::test(start_paused = true)]
async fn two_layers_over_one_store_run_a_key_once() {
    let (store, runs, gate) = (memory(), Count::default(), Gate::closed());
    let one = builder(store.clone()).build().layer(gated(&runs, &gate));
    let other = builder(store).build().layer(gated(&runs, &gate));
    let owner = start(&one, post("key", "body"));
    settle().await;
    assert_eq!(send(&other, post("key", "body")).await.kind(), Some(RejectionKind::InProgress));
    gate.open();
    assert_eq!(owner.await.unwrap().brief(), (201, "run 1"));
    let replay = send(&other, post("key", "body")).await;
    assert_eq!((replay.brief(), replay.is_replay(), runs.get()), ((201, "run 1"), true, 1));
}

#[tokio::test(start_paused = true)]
async fn the_same_key_with_another_body_is_refused_whether_the_first_runs_or_is_done() {
    let (runs, gate) = (Count::default(), Gate::closed());
    let service = protected(gated(&runs, &gate));
    let first = start(&service, post("key", r#"{"amount":10}"#));
    settle().await;
    for stage in ["running", "done"] {
        let other = send(&service, post("key", r#"{"amount":99}"#)).await;
        assert_eq!((other.status, other.kind()), (422, Some(RejectionKind::KeyReused)), "{stage}");
        assert!(!other.is_replay());
        gate.open();
        settle().await;
    }
    assert_eq!(first.await.unwrap().brief(), (201, "run 1"));
    // The refusals changed nothing.
    assert_eq!(send(&service, post("key", r#"{"amount":10}"#)).await.brief(), (201, "run 1"));
    assert_eq!(runs.get(), 1);
}

#[tokio::test(start_paused = true)]
async fn the_same_key_with_another_query_is_refused() {
    let runs = Count::default();
    let service = protected(counting(&runs));
    let to = |uri| request(Method::POST, uri, "key", "body");
    assert_eq!(send(&service, to("/orders?currency=eur")).await.status, 201);
    assert_eq!(send(&service, to("/orders?currency=usd")).await.kind(), Some(RejectionKind::KeyReused));
    assert_eq!(send(&service, to("/orders")).await.kind(), Some(RejectionKind::KeyReused));
    assert!(send(&service, to("/orders?currency=eur")).await.is_replay());
    assert_eq!(runs.get(), 1);
}

#[tokio::test(start_paused = true)]
async fn the_same_key_on_another_path_or_with_another_method_is_another_key() {
    let runs = Count::default();
    let service = protected(counting(&runs));
    let targets = [
        (Method::POST, "/alice/charges"),
        (Method::POST, "/bob/charges"),
        (Method::PATCH, "/alice/charges"),
        (Method::POST, "/alice/charges/"),
        (Method::POST, "/alice%2Fcharges"),
        (Method::DELETE, "/alice/charges"),
    ];
    for again in [false, true] {
        for (run, (method, path)) in targets.iter().enumerate() {
            let answer = send(&service, request(method.clone(), path, "key", "body")).await;
            assert_eq!(
                (answer.text(), answer.is_replay()),
                (&*format!("run {}", run + 1), again),
                "{method} {path}"
            );
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_key_bound_to_the_principal_is_the_same_on_every_path_and_method_and_refused_where_these_are_compared()
 {
    for (mode, status) in [(FingerprintMode::None, 201), (FingerprintMode::Raw, 422)] {
        let runs = Count::default();
        let service = under(Contract::veriko().bind(Bind::Principal).fingerprint(mode), counting(&runs));
        assert_eq!(send(&service, request(Method::POST, "/a", "key", "body")).await.status, 201);
        for (method, path) in [(Method::PATCH, "/a"), (Method::POST, "/b")] {
            assert_eq!(send(&service, request(method, path, "key", "body")).await.status, status);
        }
        assert_eq!(runs.get(), 1);
    }
}

#[tokio::test(start_paused = true)]
async fn one_tenants_key_never_replays_to_another() {
    let runs = Count::default();
    let service = protected(counting(&runs));
    let of = |tenant| with(post("key", "body"), "x-tenant", tenant);
    assert_eq!(send(&service, of("alice")).await.brief(), (201, "run 1"));
    assert_eq!(send(&service, of("bob")).await.brief(), (201, "run 2"));
    // Another body of another tenant is no conflict, and reveals nothing of the first.
    let other = with(post("key", "another body"), "x-tenant", "carol");
    assert_eq!(send(&service, other).await.brief(), (201, "run 3"));
    assert!(send(&service, of("alice")).await.is_replay());
}

#[tokio::test(start_paused = true)]
async fn no_byte_moves_between_tenant_and_key() {
    for bind in [Bind::Principal, Bind::Endpoint] {
        let runs = Count::default();
        let service = under(Contract::veriko().bind(bind), counting(&runs));
        for (tenant, key) in [("ab", "c"), ("a", "bc"), ("", "abc"), ("abc", "abc"), ("abcPOST", "c")] {
            let answer = send(&service, with(post(key, "body"), "x-tenant", tenant)).await;
            assert!(!answer.is_replay(), "{tenant}, {key}");
        }
        assert_eq!(runs.get(), 5);
    }
}

#[tokio::test(start_paused = true)]
async fn a_narrower_scope_is_another_scope() {
    let runs = Count::default();
    let layer = IdempotencyLayer::builder(memory()).contract(Contract::mintfax()).scope(|parts| {
        let environment = parts.headers.get("x-environment")?;
        Some(Scope::of("account 17").and(environment))
    });
    let service = layer.build().layer(counting(&runs));
    for environment in ["live", "test"] {
        let answer = send(&service, with(post("key", "body"), "x-environment", environment)).await;
        assert_eq!(answer.header("idempotency-replayed"), None);
    }
    assert_eq!(runs.get(), 2);
}

#[tokio::test(start_paused = true)]
async fn of_a_single_tenant_all_clients_are_one() {
    let runs = Count::default();
    let layer =
        IdempotencyLayer::builder(MemoryStore::default()).contract(Contract::veriko()).single_tenant();
    let service = layer.build().layer(counting(&runs));
    send(&service, with(post("key", "body"), "x-tenant", "alice")).await;
    assert!(send(&service, with(post("key", "body"), "x-tenant", "bob")).await.is_replay());
}

#[tokio::test(start_paused = true)]
async fn a_store_of_any_type_does_what_the_one_within_does() {
    let runs = Count::default();
    let service = builder(AnyStore::new(memory())).build().layer(counting(&runs));
    assert_eq!(send(&service, post("key", "body")).await.brief(), (201, "run 1"));
    assert!(send(&service, post("key", "body")).await.is_replay());
    assert_eq!(send(&service, post("key", "other")).await.status, 422);
    assert_eq!(runs.get(), 1);
}

#[tokio::test(start_paused = true)]
async fn different_keys_do_not_wait_for_each_other() {
    let (runs, gate) = (Count::default(), Gate::closed());
    let service = protected(gated(&runs, &gate));
    let clients: Vec<_> = (0..20).map(|key| start(&service, post(&format!("key-{key}"), "body"))).collect();
    settle().await;
    assert_eq!(runs.get(), 20, "all at once");
    gate.open();
    for client in clients {
        assert_eq!(client.await.unwrap().status, 201);
    }
}
