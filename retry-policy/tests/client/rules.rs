use std::time::Duration;

use account_retry_policy::client::{Budget, ErrorKind, GiveUpReason, Next, Retries, RetryWhen, TryOutcome};
use http::StatusCode;

use crate::server::{Does, Server, post, seconds, send, status, times, watched, with};

type Preset = (&'static str, fn() -> Retries);

const PRESETS: [Preset; 4] = [
    ("new", Retries::new),
    ("mintfax", Retries::mintfax),
    ("stripe", Retries::stripe),
    ("aws", Retries::aws),
];

/// Whether this outcome is retried, by each preset.
async fn tried_again(answer: &Does) -> [bool; 4] {
    let mut again = [false; 4];
    for (again, (_, preset)) in again.iter_mut().zip(PRESETS) {
        let server = Server::that([answer.clone()]);
        let _ = send(&preset(), &server, post()).await;
        *again = server.sent() == 2;
    }
    again
}

/// The rows of the table "What is retried" in the module's documentation, by their first cells.
fn documented() -> Vec<(&'static str, [&'static str; 4])> {
    let table = include_str!("../../src/client.rs").lines().map(|line| line.trim_start_matches("//!").trim());
    let rows = table.skip_while(|line| !line.starts_with("| outcome of a try | [`new`]")).skip(2);
    rows.take_while(|line| line.starts_with('|'))
        .map(|line| {
            let cells: Vec<_> = line.trim_matches('|').split('|').map(str::trim).collect();
            (cells[0], cells[1..].try_into().expect("four presets"))
        })
        .collect()
}

/// The row of a status: the one that lists it, or else the one of its class.
fn row_of(code: u16) -> [&'static str; 4] {
    let code = code.to_string();
    let rows = documented();
    let listed = rows.iter().find(|(first, _)| first.split(", ").any(|listed| listed == code));
    let class = format!("{}xx", &code[..1]);
    let other = || rows.iter().find(|(first, _)| first.starts_with("other ") && first.contains(&class));
    listed.or_else(other).unwrap_or_else(|| panic!("no row for {code}")).1
}

#[tokio::test(start_paused = true)]
async fn the_documentation_says_which_statuses_are_retried() {
    assert_eq!(documented().len(), 11);
    for code in 200..=599 {
        for (answer, has_retry_after) in [(status(code), false), (with(code, "retry-after", 1), true)] {
            let said = row_of(code).map(|cell| match cell {
                "yes" => true,
                "no" => false,
                "with `Retry-After`" => has_retry_after,
                other => panic!("{other}"),
            });
            assert_eq!(tried_again(&answer).await, said, "{code} {has_retry_after}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn the_documentation_says_which_errors_are_retried() {
    for (beginning, does) in [
        ("not sent", vec![Does::Refuse]),
        ("no response", vec![Does::Fail, Does::Hang]),
        ("permanent error", vec![Does::Misuse]),
    ] {
        let rows = documented();
        let (_, cells) = rows.iter().find(|(first, _)| first.starts_with(beginning)).unwrap();
        for does in does {
            assert_eq!(tried_again(&does).await, cells.map(|cell| cell == "yes"), "{does:?}");
        }
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
async fn on_status_overrides_the_preset() {
    let retries = Retries::new()
        .on_status(StatusCode::SERVICE_UNAVAILABLE, RetryWhen::Never)
        .on_status(StatusCode::LOCKED, RetryWhen::Always)
        .on_status(StatusCode::TOO_EARLY, RetryWhen::RetryAfter);
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
    let came: Vec<_> = seen.iter().map(|event| (event.number, event.outcome)).collect();
    assert_eq!(
        came,
        [
            (1, TryOutcome::Response(StatusCode::SERVICE_UNAVAILABLE)),
            (2, TryOutcome::Failed),
            (3, TryOutcome::Timeout),
            (4, TryOutcome::Response(StatusCode::INTERNAL_SERVER_ERROR)),
        ]
    );
    for (event, wait) in seen.iter().zip(waits) {
        let Next::RetryIn(said) = event.next else { panic!("{event:?}") };
        let took = if event.outcome == TryOutcome::Timeout { seconds(20) } else { Duration::ZERO };
        // Timers round up to a millisecond.
        let wait = wait.checked_sub(said + took).unwrap();
        assert!(wait <= Duration::from_millis(2), "{event:?} {wait:?}");
    }
    assert_eq!(seen[3].next, Next::GiveUp(GiveUpReason::MaxTries));
    assert!(seen.iter().all(|event| event.host == "api.example.com"));
    assert!(seen.is_sorted_by_key(|event| event.elapsed));
}

#[tokio::test(start_paused = true)]
async fn a_successful_try_is_an_event_too() {
    let (retries, seen) = watched(Retries::new());
    send(&retries, &Server::default(), post()).await.unwrap();
    let seen = seen.lock().unwrap();
    assert_eq!(seen.len(), 1);
    assert_eq!((seen[0].outcome, seen[0].next), (TryOutcome::Response(StatusCode::OK), Next::Done));
}

#[tokio::test(start_paused = true)]
async fn a_request_that_hangs_on_its_last_try_says_so() {
    let server = Server::always(Does::Hang);
    let retries = Retries::new().max_tries(times(2)).budget(Budget::default());
    let error = send(&retries, &server, post()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TryTimeout);
    assert_eq!(server.sent(), 2);
}
