use std::time::Duration;

use account_retry_policy::client::{Budget, Retries};

use crate::server::{Server, post, seconds, send, status};

async fn waits(retries: &Retries) -> Vec<Duration> {
    let server = Server::always(status(503));
    send(retries, &server, post()).await.unwrap();
    server.waits()
}

#[tokio::test(start_paused = true)]
async fn the_mintfax_preset_waits_by_the_formula_of_mintfax() {
    let retries = Retries::mintfax().deadline(Duration::from_hours(1)).without_budget();
    let mut jitters = Vec::new();
    for _ in 0..200 {
        let waits = waits(&retries).await;
        assert_eq!(waits.len(), 4);
        for (wait, plain) in waits.iter().zip([1, 2, 4, 8]) {
            // Timers round up to a millisecond.
            assert!(
                (seconds(plain)..=seconds(plain + 1) + Duration::from_millis(1)).contains(wait),
                "{waits:?}"
            );
            jitters.push(wait.checked_sub(seconds(plain)).unwrap());
        }
    }
    jitters.sort();
    assert!(
        jitters[80] < Duration::from_millis(250) && jitters[720] > Duration::from_millis(750),
        "not even"
    );
}

#[tokio::test(start_paused = true)]
async fn jitter_stays_inside_the_cap() {
    let retries = Retries::mintfax()
        .max_tries(crate::server::times(12))
        .deadline(Duration::from_hours(1))
        .without_budget();
    for _ in 0..100 {
        let waits = waits(&retries).await;
        assert!(waits.iter().all(|wait| *wait <= seconds(30)), "{waits:?}");
        assert_eq!(waits[5..], [seconds(30); 6]);
    }
}

#[tokio::test(start_paused = true)]
async fn a_seed_says_how_long_is_waited() {
    let run = async |seed| {
        let retries = Retries::new().seed(seed).budget(Budget::default().per_second(100));
        [waits(&retries).await, waits(&retries).await]
    };
    let [first, second] = run(7).await;
    assert_eq!(run(7).await, [first.clone(), second.clone()]);
    assert_ne!(first, second);
    // The next request's seed is the next number.
    assert_eq!(run(8).await[0], second);
}

#[tokio::test(start_paused = true)]
async fn without_a_seed_no_two_clients_wait_in_step() {
    let (one, other) = (waits(&Retries::new()).await, waits(&Retries::new()).await);
    assert_ne!(one, other);
}
