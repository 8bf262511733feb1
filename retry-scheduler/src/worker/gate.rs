//! Closed gates: namespaces whose service is down.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use crate::clock;
use crate::cycle::{Cycle, CycleKey};

/// The shortest and the longest time that a gate closes for. A closure of no time at all would have the worker ask a
/// service that is down as fast as it can claim.
const CLOSURES: (Duration, Duration) = (Duration::from_millis(100), Duration::from_hours(24));

/// The gates of one worker; a namespace that is not here is open. Other workers find out for themselves.
#[derive(Debug, Default)]
pub(super) struct Gates(Mutex<HashMap<String, Gate>>);

#[derive(Debug)]
struct Gate {
    until: Instant,
    /// For how long it closed last.
    closed_for: Duration,
    /// Whether the attempt that finds out is under way.
    probing: bool,
}

/// Whether an attempt may be made.
pub(super) enum Admission<'a> {
    Run(Pass<'a>),
    /// Not for so long.
    Wait(Duration),
}

/// The permission to make one attempt. Dropped without a word, it leaves the finding out to the next.
pub(super) struct Pass<'a> {
    gates: &'a Gates,
    namespace: &'a str,
    probe: bool,
}

impl Gates {
    /// Asks for one attempt of this cycle.
    pub(super) fn admit<'a>(&'a self, cycle: &'a Cycle) -> Admission<'a> {
        let namespace = &cycle.key.namespace;
        let mut gates = self.lock();
        let Some(gate) = gates.get_mut(namespace) else {
            return Admission::Run(Pass { gates: self, namespace, probe: false });
        };
        let closed = gate.until.saturating_duration_since(clock::now());
        if closed.is_zero() && !gate.probing {
            gate.probing = true;
            return Admission::Run(Pass { gates: self, namespace, probe: true });
        }
        // Not all at once on the first moment after: the attempt that finds out has its `retry_in`, the others come spread
        // over as long again as the gate was closed.
        Admission::Wait(closed.max(CLOSURES.0) + share_of(gate.closed_for, cycle))
    }

    /// Closes the gate of a namespace; answers for how long.
    pub(super) fn close(&self, namespace: &str, retry_in: Duration) -> Duration {
        let closed_for = retry_in.clamp(CLOSURES.0, CLOSURES.1);
        let until = clock::after(clock::now(), closed_for);
        let mut gates = self.lock();
        match gates.get_mut(namespace) {
            Some(gate) => {
                gate.until = gate.until.max(until);
                gate.closed_for = closed_for;
            }
            None => {
                gates.insert(namespace.to_owned(), Gate { until, closed_for, probing: false });
            }
        }
        closed_for
    }

    /// How many are closed, or being tried.
    pub(super) fn closed(&self) -> usize {
        self.lock().len()
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Gate>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Pass<'_> {
    /// The attempt ended with a result: its service is there. Only the attempt that was let through to find out opens a
    /// gate: one that began before it closed has nothing new to say.
    pub(super) fn answered(self) {
        if self.probe {
            self.gates.lock().remove(self.namespace);
        }
    }
}

impl Drop for Pass<'_> {
    fn drop(&mut self) {
        if self.probe
            && let Some(gate) = self.gates.lock().get_mut(self.namespace)
        {
            gate.probing = false;
        }
    }
}

/// A part of `whole`, from nothing to nearly all: the same for the same claim, so that a test can tell.
fn share_of(whole: Duration, cycle: &Cycle) -> Duration {
    let Cycle { key: CycleKey { subject, .. }, epoch, .. } = cycle;
    let mut hasher = DefaultHasher::new();
    (subject, epoch).hash(&mut hasher);
    let [.., high, low] = hasher.finish().to_be_bytes();
    whole * u32::from(u16::from_be_bytes([high, low])) / (1 << 16)
}
