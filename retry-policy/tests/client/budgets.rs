use account_retry_policy::Backoff;
use account_retry_policy::client::{Budget, GiveUpReason, Next, Retries};
use http::Request;
use tower::{Layer, Service, ServiceExt};

use crate::server::{Server, post, seconds, send, status, watched};

/// Sends this many requests to a server that always fails, without time passing: the number of retries.
async fn fail(retries: &Retries, requests: usize) -> usize {
    let server = Server::always(status(503));
    for _ in 0..requests {
        send(retries, &server, post()).await.unwrap();
    }
    server.sent() - requests
}

fn hasty() -> Retries {
    Retries::new().backoff(Backoff::fixed(std::time::Duration::ZERO))
}

#[tokio::test(start_paused = true)]
async fn by_default_a_host_that_is_down_gets_few_retries() {
    let retried = fail(&hasty(), 1000).await;
    // 10 a second for 10 s, and a fifth of the requests; without a budget it would be 4000.
    assert!((100..=310).contains(&retried), "{retried}");
}

#[tokio::test(start_paused = true)]
async fn the_budget_is_one_for_all_clones_and_layers() {
    let server = Server::always(status(503));
    let retries = hasty().budget(Budget::default().per_second(1).share(0.0).window(seconds(10)));
    let layer = retries.layer();
    for _ in 0..20 {
        for retries in [&retries, &retries.clone()] {
            send(retries, &server, post()).await.unwrap();
        }
        let mut client = layer.clone().layer(server.clone());
        client.ready().await.unwrap().call(post()).await.unwrap();
        let mut client = tower::retry::Retry::new(retries.policy(), server.clone());
        let request = Request::get("http://api.example.com/").body(String::new()).unwrap();
        client.ready().await.unwrap().call(request).await.unwrap();
    }
    assert_eq!(server.sent(), 80 + 10);
}

#[tokio::test(start_paused = true)]
async fn each_host_has_its_own() {
    let retries = hasty().budget(Budget::default().per_second(1).share(0.0).window(seconds(10)));
    let server = Server::always(status(503));
    for (host, same) in [
        ("a.example", true),
        ("b.example", false),
        ("a.example:8080", false),
        ("A.example", true),
        ("user:word@a.example", true),
    ] {
        let before = server.sent();
        for _ in 0..20 {
            let request = Request::post(format!("http://{host}/")).body(String::new()).unwrap();
            send(&retries, &server, request).await.unwrap();
        }
        let more = server.sent() - before - 20;
        assert_eq!(more, if same && before > 0 { 0 } else { 10 }, "{host}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_spent_budget_ends_the_tries_with_the_answer_and_fills_again() {
    let (retries, seen) =
        watched(hasty().budget(Budget::default().per_second(1).share(0.0).window(seconds(1))));
    assert_eq!(fail(&retries, 1).await, 1);
    assert_eq!(seen.lock().unwrap()[1].next, Next::GiveUp(GiveUpReason::Budget));
    assert_eq!(fail(&retries, 5).await, 0);
    tokio::time::sleep(seconds(3)).await;
    assert_eq!(fail(&retries, 5).await, 1);
}

#[tokio::test(start_paused = true)]
async fn successes_pay_for_the_retries_of_others() {
    let retries = hasty().budget(Budget::default().per_second(0).share(0.5));
    let server = Server::default();
    for _ in 0..20 {
        send(&retries, &server, post()).await.unwrap();
    }
    // Those that fail count as sent, too.
    let more = fail(&retries, 10).await;
    assert!((10..=15).contains(&more), "{more}");
}

#[tokio::test(start_paused = true)]
async fn a_budget_that_makes_no_sense_is_the_nearest_one_that_does() {
    for budget in [
        Budget::default().window(seconds(0)),
        Budget::default().window(seconds(100)),
        Budget::default().share(f32::NAN),
        Budget::default().share(-1.0),
        Budget::default().share(f32::INFINITY),
        Budget::default().per_second(u32::MAX),
    ] {
        fail(&hasty().budget(budget), 3).await;
    }
    assert_eq!(fail(&hasty().without_budget(), 100).await, 400);
}

#[tokio::test(start_paused = true)]
async fn the_number_of_remembered_hosts_is_bounded() {
    let retries = hasty();
    let server = Server::default();
    for number in 0..5_000 {
        let request = Request::post(format!("http://h{number}.example/")).body(String::new()).unwrap();
        send(&retries, &server, request).await.unwrap();
    }
    let shown = format!("{retries:?}");
    assert!(shown.matches(".example").count() <= 1024);
}
