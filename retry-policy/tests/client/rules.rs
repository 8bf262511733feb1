use std::time::Duration;

use account_retry_policy::client::{Budget, Came, ErrorKind, GaveUp, Next, Retries, When};
use http::StatusCode;

use crate::server::{Does, Server, post, seconds, send, status, times, watched, with};

type Preset = (&'static str, fn() -> Retries);

const PRESETS: [Preset; 4] = [
    ("new", Retries::new),
    ("mintfax", Retries::mintfax),
    ("stripe", Retries::stripe),
    ("aws", Retries::aws),
];

/// Whether this answer is tried again, by each preset.
async fn tried_again(answer: &Does) -> [bool; 4] {
    let mut again = [false; 4];
    for (again, (_, preset)) in again.iter_mut().zip(PRESETS) {
        let server = Server::that([answer.clone()]);
        send(&preset(), &server, post()).await.unwrap();
        *again = server.sent() == 2;
    }
    again
}

#[tokio::test(start_paused = true)]
async fn the_table_of_statuses_is_the_one_in_the_documentation() {
    //                           new    mintfax stripe aws
    let table = |code, said: bool| match (code, said) {
        (500 | 503, _) => [true, true, true, true],
        (502 | 504, _) => [true, false, true, true],
        (429, false) => [true, false, false, true],
        (429, true) => [true, true, false, true],
        (500..=599, _) | (409, false) => [false, false, true, false],
        (409, true) => [true, true, true, false],
        _ => [false, false, false, false],
    };
    for code in 200..=599 {
        assert_eq!(tried_again(&status(code)).await, table(code, false), "{code}");
        assert_eq!(
            tried_again(&with(code, "retry-after", 1)).await,
            table(code, true),
            "{code} with Retry-After"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn no_answer_is_tried_again_by_all() {
    for does in [Does::Fail, Does::Hang] {
        assert_eq!(tried_again(&does).await, [true; 4], "{does:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn stripe_decides_for_itself_where_it_says_so() {
    for code in [200, 400, 402, 409, 429, 500, 503] {
        let told = async |word: &str| tried_again(&with(code, "stripe-should-retry", word)).await[2];
        assert!(told("true").await, "{code}");
        assert!(!told("false").await, "{code}");
        assert_eq!(told("maybe").await, matches!(code, 409 | 500 | 503), "{code}");
    }
    assert!(!tried_again(&with(400, "stripe-should-retry", "true")).await[0]);
}

#[tokio::test(start_paused = true)]
async fn a_rule_of_ones_own_counts_over_the_presets() {
    let retries = Retries::new()
        .on_status(StatusCode::SERVICE_UNAVAILABLE, When::Never)
        .on_status(StatusCode::LOCKED, When::Always)
        .on_status(StatusCode::TOO_EARLY, When::RetryAfter);
    for (answer, sent) in
        [(status(503), 1), (status(423), 2), (status(425), 1), (with(425, "retry-after", 0), 2)]
    {
        let server = Server::that([answer.clone()]);
        send(&retries, &server, post()).await.unwrap();
        assert_eq!(server.sent(), sent, "{answer:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn the_last_answer_is_handed_over_as_it_is() {
    let server = Server::always(with(503, "x-reason", "maintenance"));
    let answer = send(&Retries::new().max_tries(times(3)), &server, post()).await.unwrap();
    assert_eq!((answer.status().as_u16(), answer.body().as_str()), (503, "12.50"));
    assert_eq!(answer.headers()["x-reason"], "maintenance");
    assert_eq!(server.sent(), 3);
}

#[tokio::test(start_paused = true)]
async fn one_try_is_no_retry() {
    for does in [Does::Fail, Does::Hang, status(500)] {
        let server = Server::always(does);
        let _ = send(&Retries::new().max_tries(times(1)), &server, post()).await;
        assert_eq!(server.sent(), 1);
    }
}

#[tokio::test(start_paused = true)]
async fn there_is_an_event_for_every_try() {
    let (retries, seen) = watched(Retries::new().max_tries(times(4)));
    let server = Server::that([status(503), Does::Fail, Does::Hang, status(500)]);
    send(&retries, &server, post()).await.unwrap();
    let waits = server.waits();
    let seen = seen.lock().unwrap();
    let came: Vec<_> = seen.iter().map(|event| (event.number, event.came)).collect();
    assert_eq!(
        came,
        [
            (1, Came::Answer(StatusCode::SERVICE_UNAVAILABLE)),
            (2, Came::Failure),
            (3, Came::Timeout),
            (4, Came::Answer(StatusCode::INTERNAL_SERVER_ERROR)),
        ]
    );
    for (event, wait) in seen.iter().zip(waits) {
        let Next::RetryIn(said) = event.next else { panic!("{event:?}") };
        let took = if event.came == Came::Timeout { seconds(20) } else { Duration::ZERO };
        // Timers round up to a millisecond.
        let wait = wait.checked_sub(said + took).unwrap();
        assert!(wait <= Duration::from_millis(2), "{event:?} {wait:?}");
    }
    assert_eq!(seen[3].next, Next::GiveUp(GaveUp::Tries));
    assert!(seen.iter().all(|event| event.host == "api.example.com"));
    assert!(seen.is_sorted_by_key(|event| event.elapsed));
}

#[tokio::test(start_paused = true)]
async fn what_was_answered_well_is_an_event_too() {
    let (retries, seen) = watched(Retries::new());
    send(&retries, &Server::default(), post()).await.unwrap();
    let seen = seen.lock().unwrap();
    assert_eq!(seen.len(), 1);
    assert_eq!((seen[0].came, seen[0].next), (Came::Answer(StatusCode::OK), Next::Done));
}

#[tokio::test(start_paused = true)]
async fn a_request_that_hangs_on_its_last_try_says_so() {
    let server = Server::always(Does::Hang);
    let retries = Retries::new().max_tries(times(2)).budget(Budget::default());
    let error = send(&retries, &server, post()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TryTimeout);
    assert_eq!(server.sent(), 2);
}
