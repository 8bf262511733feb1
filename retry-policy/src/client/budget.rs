use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tower::retry::budget::TpsBudget;

/// The retries that each host may get: a share of the requests sent to it, and a minimum per second.
///
/// A host that is overloaded recovers sooner if its clients do not send everything five times. When ten requests within
/// [`window`](Self::window) fail, a share of 0.2 allows two retries, not forty.
///
/// ```
/// use std::time::Duration;
/// use account_retry_policy::client::{Budget, Retries};
///
/// let budget = Budget::default().share(0.1).per_second(1).window(Duration::from_secs(30));
/// let retries = Retries::new().budget(budget);
/// ```
#[doc(alias = "token bucket")]
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Budget {
    window: Duration,
    per_second: u32,
    share: f32,
}

impl Default for Budget {
    /// A share of 0.2 of the requests within 10 s, and 10 retries a second.
    fn default() -> Self {
        Self { window: Duration::from_secs(10), per_second: 10, share: 0.2 }
    }
}

impl Budget {
    /// Sets how long a request counts: 1 s to 60 s. A value outside is clamped.
    #[must_use]
    pub fn window(self, window: Duration) -> Self {
        Self { window: window.clamp(Duration::from_secs(1), Duration::from_secs(60)), ..self }
    }

    /// Sets the minimum of retries per second, for a client that sends little: at most a million.
    #[must_use]
    pub fn per_second(self, retries: u32) -> Self {
        Self { per_second: retries.min(1_000_000), ..self }
    }

    /// Sets how many retries each request adds: 0 to 10. NaN is 0.
    #[must_use]
    pub fn share(self, share: f32) -> Self {
        Self { share: if share.is_nan() { 0.0 } else { share.clamp(0.0, 10.0) }, ..self }
    }

    fn begin(self) -> TpsBudget {
        TpsBudget::new(self.window, self.per_second, self.share)
    }
}

/// The budgets of the hosts.
#[derive(Debug)]
pub(super) struct Budgets {
    each: Budget,
    of: Mutex<HashMap<String, Arc<TpsBudget>>>,
}

/// How many hosts are remembered. Beyond that, the budgets of hosts without a request in flight begin anew.
const HOSTS: usize = 1024;

impl Budgets {
    pub(super) fn new(each: Budget) -> Self {
        Self { each, of: Mutex::default() }
    }

    pub(super) fn size(&self) -> Budget {
        self.each
    }

    pub(super) fn of(&self, host: &str) -> Arc<TpsBudget> {
        // Nothing in here panics half way.
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
