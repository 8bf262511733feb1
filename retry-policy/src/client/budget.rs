use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tower::retry::budget::TpsBudget;

/// How many retries a host gets: a share of the requests sent to it, and a few each second in any case.
///
/// A host that is down is not helped by clients that each send everything five times. Of ten requests within
/// [`window`](Self::window) that all fail, a share of 0.2 lets two be tried again, not forty.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Budget {
    window: Duration,
    per_second: u32,
    share: f32,
}

impl Default for Budget {
    /// A fifth of what was sent within 10 s, and 10 a second.
    fn default() -> Self {
        Self { window: Duration::from_secs(10), per_second: 10, share: 0.2 }
    }
}

impl Budget {
    /// Sets for how long a request counts: 1 s to 60 s, the nearer end for what is outside of that.
    #[must_use]
    pub fn window(self, window: Duration) -> Self {
        Self { window: window.clamp(Duration::from_secs(1), Duration::from_mins(1)), ..self }
    }

    /// Sets how many retries there are each second in any case, for a client that sends little: at most a million.
    #[must_use]
    pub fn per_second(self, retries: u32) -> Self {
        Self { per_second: retries.min(1_000_000), ..self }
    }

    /// Sets how many retries each request is good for: 0 to 10. Not a number is 0.
    #[must_use]
    pub fn share(self, share: f32) -> Self {
        Self { share: if share.is_nan() { 0.0 } else { share.clamp(0.0, 10.0) }, ..self }
    }

    fn begin(self) -> TpsBudget {
        TpsBudget::new(self.window, self.per_second, self.share)
    }
}

/// The budgets of all hosts.
#[derive(Debug)]
pub(super) struct Budgets {
    each: Budget,
    of: Mutex<HashMap<String, Arc<TpsBudget>>>,
}

/// Hosts remembered. Beyond that, those that nothing is sent to at the moment begin anew.
const HOSTS: usize = 1024;

impl Budgets {
    pub(super) fn new(each: Budget) -> Self {
        Self { each, of: Mutex::default() }
    }

    pub(super) fn each(&self) -> Budget {
        self.each
    }

    pub(super) fn of(&self, host: &str) -> Arc<TpsBudget> {
        // Nothing in here can panic half way.
        let mut of = self.of.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(budget) = of.get(host) {
            return Arc::clone(budget);
        }
        if of.len() >= HOSTS {
            of.retain(|_, budget| Arc::strong_count(budget) > 1);
        }
        Arc::clone(of.entry(host.to_owned()).or_insert_with(|| Arc::new(self.each.begin())))
    }
}
