//! Idempotency keys for the next service.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use retry_scheduler::{Attempt, Done, Plan, Report};
use std::time::Duration;

use crate::support::{MINUTE, Seen, World, start, until, worker};

/// A bank that charges once for each key, remembers its answers, and loses the first one.
#[derive(Default)]
struct Bank {
    charges: BTreeMap<String, u32>,
    requests: u32,
}

impl Bank {
    /// `None`: the answer was lost.
    fn charge(&mut self, key: String) -> Option<()> {
        self.charges.entry(key).or_insert(100);
        self.requests += 1;
        (self.requests > 1).then_some(())
    }
}

/// Charges through the worker until the bank's answer arrives. Returns how much was charged.
async fn charge(key: fn(&Attempt) -> String) -> u32 {
    let (world, seen, bank) = (World::new(), Seen::new(), Arc::new(Mutex::new(Bank::default())));
    world.schedule("tenant", "1", Duration::ZERO, Plan::every(MINUTE, 5).unwrap()).await;
    let asked = Arc::clone(&bank);
    let handler = seen.handler(move |attempt: Attempt| {
        let answer = asked.lock().unwrap().charge(key(&attempt));
        async move {
            Done::Report(match answer {
                Some(()) => Report::success(),
                None => Report::failure().detail("the connection broke"),
            })
        }
    });
    let running = start(worker(&world.view(), handler));
    until("the answer", || running.handle.snapshot().attempts.succeeded == 1).await;
    assert_eq!(seen.runs(), 2);
    running.stop().await;
    bank.lock().unwrap().charges.values().sum()
}

#[tokio::test(start_paused = true)]
async fn a_bank_whose_answer_was_lost_charges_once_with_the_key_of_the_cycle_and_twice_with_the_attempts() {
    assert_eq!(charge(Attempt::cycle_key).await, 100);
    assert_eq!(charge(Attempt::key).await, 200);
}
