//! Charges a card through a bank that loses answers, with `cargo run -p retry-scheduler --example
//! charge`.
//!
//! The first request reaches the bank, the bank charges the card, and the connection breaks before
//! the answer arrives. The attempt fails, and the next one asks again. It uses the key of the
//! *cycle*, so the bank recognizes the request and answers what it did: the card is charged once.

#![expect(clippy::print_stdout, reason = "an example prints what it does")]

use std::collections::HashMap;
use std::error::Error;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use retry_scheduler::{
    Attempt, CycleKey, Done, MemoryScheduler, NewCycle, Plan, Report, RetryScheduler, Worker, handler_fn,
};
use tokio_util::sync::CancellationToken;

/// A bank that remembers what it did under each idempotency key, and loses its first two answers.
#[derive(Default)]
struct Bank {
    charges: Mutex<HashMap<String, u32>>,
    requests: Mutex<u32>,
}

impl Bank {
    /// Charges an amount once for each key. `Err` means that the answer was lost, not that nothing
    /// happened.
    fn charge(&self, key: String, cents: u32) -> Result<(), &'static str> {
        self.charges.lock().unwrap_or_else(PoisonError::into_inner).entry(key).or_insert(cents);
        let mut requests = self.requests.lock().unwrap_or_else(PoisonError::into_inner);
        *requests += 1;
        if *requests <= 2 { Err("connection reset") } else { Ok(()) }
    }

    fn charged(&self) -> u32 {
        self.charges.lock().unwrap_or_else(PoisonError::into_inner).values().sum()
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let scheduler = Arc::new(MemoryScheduler::default());
    let bank = Arc::new(Bank::default());

    let asked = Arc::clone(&bank);
    let handler = handler_fn(move |attempt: Attempt| {
        let bank = Arc::clone(&asked);
        async move {
            let Some(cents) = cents(attempt.payload()) else {
                return Report::permanent().detail("the payload is no amount").into();
            };
            // With `attempt.key()`, the bank would charge three times.
            match bank.charge(attempt.cycle_key(), cents) {
                Ok(()) => Done::Report(Report::success()),
                Err(error) => Done::Report(Report::failure().detail(error)),
            }
        }
    });
    let worker = Worker::builder(scheduler.clone(), handler).namespaces(["charge"]).build();
    let handle = worker.handle();
    let shutdown = CancellationToken::new();
    let running = tokio::spawn(worker.run(shutdown.clone()));

    let key = CycleKey::new("charge", "order 17");
    let plan = Plan::exponential(Duration::from_millis(100), Duration::from_secs(1), 10)?;
    let new = NewCycle::new(key.clone(), plan).tenant("account 1").payload(1_250_u32.to_be_bytes().to_vec());
    scheduler.schedule(new).await?;
    handle.wake();

    while scheduler.get(&key).await?.is_some_and(|cycle| cycle.ending().is_none()) {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    for attempt in scheduler.attempts(&key, 0, 10).await? {
        let detail = String::from_utf8_lossy(&attempt.detail);
        println!("attempt {}: {:?} {detail}", attempt.number, attempt.verdict);
    }
    println!("charged: {} cents", bank.charged());
    assert_eq!(bank.charged(), 1_250);

    shutdown.cancel();
    running.await?;
    Ok(())
}

fn cents(payload: &[u8]) -> Option<u32> {
    Some(u32::from_be_bytes(payload.try_into().ok()?))
}
