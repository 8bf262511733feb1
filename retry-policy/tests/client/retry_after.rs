use std::time::{Duration, SystemTime, UNIX_EPOCH};

use account_retry_policy::Backoff;
use account_retry_policy::client::{GiveUpReason, Next, Retries};
use tokio::time::Instant;

use crate::server::{Does, Server, post, seconds, send, status, watched, with};

/// With a wait that is always the same, so that anything else is `Retry-After`'s doing.
fn retries() -> Retries {
    Retries::new().backoff(Backoff::fixed(seconds(2))).deadline(seconds(60))
}

fn date(seconds: u64) -> String {
    httpdate::fmt_http_date(UNIX_EPOCH + Duration::from_secs(seconds))
}

/// How long was waited between the first try, answered so, and the second.
async fn wait_after(answer: Does) -> Duration {
    let server = Server::that([answer]);
    send(&retries(), &server, post()).await.unwrap();
    let waits = server.waits();
    assert_eq!(waits.len(), 1);
    waits[0]
}

#[tokio::test(start_paused = true)]
async fn seconds_are_obeyed_and_never_undercut() {
    for (asked, waited) in [(0, 2), (1, 2), (2, 2), (3, 3), (59, 59)] {
        assert_eq!(wait_after(with(503, "retry-after", asked)).await, seconds(waited), "{asked}");
        assert_eq!(wait_after(with(429, "retry-after", asked)).await, seconds(waited), "{asked}");
        assert_eq!(wait_after(with(409, "retry-after", asked)).await, seconds(waited), "{asked}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_date_is_one_of_the_servers_clock() {
    // Whatever its year: what counts is the distance to the `Date` beside it.
    for now in [0, 1_000_000_000, 4_000_000_000, 200_000_000_000] {
        let answer = |asked| Does::Answer(503, vec![("date", date(now)), ("retry-after", asked)]);
        assert_eq!(wait_after(answer(date(now + 30))).await, seconds(30), "{now}");
        assert_eq!(wait_after(answer(date(now))).await, seconds(2), "{now}");
        assert_eq!(wait_after(answer(date(now.saturating_sub(30)))).await, seconds(2), "{now}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_date_alone_is_compared_with_ours() {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    for headers in [
        vec![("retry-after", date(now + 40))],
        vec![("retry-after", date(now + 40)), ("date", "today".to_owned())],
    ] {
        let waited = wait_after(Does::Answer(503, headers)).await;
        // The test took some of it.
        assert!((seconds(30)..=seconds(41)).contains(&waited), "{waited:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_read_is_as_if_it_were_not_there() {
    for value in ["soon", "-1", "1.5", "", "Sun, 99 Nov 1994 08:49:37 GMT"] {
        assert_eq!(wait_after(with(503, "retry-after", value)).await, seconds(2), "{value}");
        let server = Server::that([with(409, "retry-after", value)]);
        assert_eq!(send(&retries(), &server, post()).await.unwrap().status(), 409, "{value}");
    }
}

#[tokio::test(start_paused = true)]
async fn one_that_is_too_long_for_the_deadline_returns_the_response_at_once() {
    for asked in [60, 61, 3600, u64::MAX] {
        let (retries, seen) = watched(retries());
        let (server, began) = (Server::that([with(429, "retry-after", asked)]), Instant::now());
        let response = send(&retries, &server, post()).await.unwrap();
        assert_eq!((response.status().as_u16(), response.body().as_str()), (429, "12.50"));
        assert_eq!(response.headers()["retry-after"], asked.to_string());
        assert_eq!((server.sent(), began.elapsed()), (1, Duration::ZERO));
        let reason = GiveUpReason::RetryAfterTooLong { wait: seconds(asked), left: seconds(60) };
        assert_eq!(seen.lock().unwrap()[0].next, Next::GiveUp(reason));
    }
}

#[tokio::test(start_paused = true)]
async fn the_time_left_is_counted_from_the_first_try() {
    let server = Server::that([status(503), with(503, "retry-after", 40), with(503, "retry-after", 18)]);
    let (retries, seen) = watched(retries());
    assert_eq!(send(&retries, &server, post()).await.unwrap().status(), 503);
    let reason = GiveUpReason::RetryAfterTooLong { wait: seconds(18), left: seconds(18) };
    assert_eq!(seen.lock().unwrap()[2].next, Next::GiveUp(reason));
    assert_eq!(server.waits(), [seconds(2), seconds(40)]);
}

#[tokio::test(start_paused = true)]
async fn the_longest_of_several_is_obeyed() {
    let answer =
        |values: [&str; 3]| Does::Answer(503, values.map(|value| ("retry-after", value.to_owned())).into());
    assert_eq!(wait_after(answer(["3", "soon", "7"])).await, seconds(7));
    assert_eq!(wait_after(answer(["7", "", "3"])).await, seconds(7));
}

#[tokio::test(start_paused = true)]
async fn a_date_in_the_far_future_returns_the_response() {
    let server = Server::that([with(503, "retry-after", "Fri, 31 Dec 9999 23:59:59 GMT")]);
    assert_eq!(send(&retries(), &server, post()).await.unwrap().status(), 503);
    assert_eq!(server.sent(), 1);
}
