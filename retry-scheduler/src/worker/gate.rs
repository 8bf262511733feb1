//! Closed gates: namespaces whose service is down.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use super::handle::Meter;
use super::metrics;
use crate::claim::Namespaces;
use crate::clock;

/// The shortest and the longest time that a gate closes for. A closure of no time at all would have
/// the worker ask a service that is down as fast as it can claim.
const CLOSURES: (Duration, Duration) = (Duration::from_millis(100), Duration::from_hours(24));

/// The gates of one worker; a namespace that is not here is open. Other workers find out for
/// themselves.
///
/// The worker does not claim from a namespace whose gate is closed. When the time of a gate is
/// over, one claim is let through, the probe. The gate stays until a probe has ended with a result.
pub(super) struct Gates {
    gates: Mutex<HashMap<String, Gate>>,
    meter: Arc<Meter>,
}

#[derive(Debug)]
struct Gate {
    until: Instant,
    /// Whether the probe is under way.
    probing: bool,
}

/// Whether an attempt may be made.
pub(super) enum Admission {
    Run(Pass),
    /// Not for so long.
    Wait(Duration),
}

/// The permission to make one attempt. A probe that is dropped without an answer leaves the finding
/// out to the next.
pub(super) struct Pass {
    gates: Arc<Gates>,
    namespace: String,
    probe: bool,
}

impl Gates {
    pub(super) fn new(meter: Arc<Meter>) -> Self {
        Self { gates: Mutex::default(), meter }
    }

    /// Asks for one attempt in this namespace, for a claim that may be older than the gate.
    pub(super) fn admit(self: &Arc<Self>, namespace: &str) -> Admission {
        match self.lock().get_mut(namespace) {
            None => Admission::Run(self.pass(namespace, false)),
            Some(gate) if gate.is_ripe() => {
                gate.probing = true;
                Admission::Run(self.pass(namespace, true))
            }
            Some(gate) => {
                let closed = gate.until.saturating_duration_since(clock::now());
                Admission::Wait(closed.max(CLOSURES.0))
            }
        }
    }

    /// Asks for the probe of this namespace.
    pub(super) fn probe(self: &Arc<Self>, namespace: &str) -> Option<Pass> {
        match self.admit(namespace) {
            Admission::Run(pass) => Some(pass),
            Admission::Wait(_) => None,
        }
    }

    /// Closes the gate of a namespace; answers for how long.
    pub(super) fn close(&self, namespace: &str, retry_in: Duration) -> Duration {
        let closed_for = retry_in.clamp(CLOSURES.0, CLOSURES.1);
        let until = clock::after(clock::now(), closed_for);
        let mut gates = self.lock();
        if let Some(gate) = gates.get_mut(namespace) {
            gate.until = gate.until.max(until);
        } else {
            gates.insert(namespace.to_owned(), Gate { until, probing: false });
            metrics::gates_changed(1.0);
        }
        self.note(&gates);
        closed_for
    }

    /// The namespaces whose gates wait for a probe.
    pub(super) fn ripe(&self, selected: &Namespaces) -> BTreeSet<String> {
        let gates = self.lock();
        let ripe = gates.iter().filter(|(name, gate)| gate.is_ripe() && selected.contains(name));
        ripe.map(|(name, _)| name.clone()).collect()
    }

    /// The namespaces of a selection that have no gate.
    pub(super) fn open(&self, selected: &Namespaces) -> Namespaces {
        without(selected, self.lock().keys())
    }

    /// The namespaces of a selection of which something can be claimed: those that are open, or
    /// wait for a probe.
    pub(super) fn claimable(&self, selected: &Namespaces) -> Namespaces {
        let gates = self.lock();
        without(selected, gates.iter().filter(|(_, gate)| !gate.is_ripe()).map(|(name, _)| name))
    }

    /// In how long the next gate waits for a probe.
    pub(super) fn next_ripe(&self) -> Option<Duration> {
        let gates = self.lock();
        let next =
            gates.values().filter(|gate| !gate.probing && !gate.is_ripe()).map(|gate| gate.until).min();
        next.map(|until| until.saturating_duration_since(clock::now()))
    }

    fn pass(self: &Arc<Self>, namespace: &str, probe: bool) -> Pass {
        Pass { gates: Arc::clone(self), namespace: namespace.to_owned(), probe }
    }

    fn note(&self, gates: &HashMap<String, Gate>) {
        self.meter.note(|snapshot| snapshot.gates_closed = gates.len());
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Gate>> {
        self.gates.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Gates {
    fn drop(&mut self) {
        for _ in self.lock().keys() {
            metrics::gates_changed(-1.0);
        }
    }
}

impl Gate {
    fn is_ripe(&self) -> bool {
        !self.probing && self.until <= clock::now()
    }
}

impl Pass {
    /// The attempt ended with a result: its service is there. Only a probe opens a gate: an attempt
    /// that began before the gate closed has nothing new to say.
    pub(super) fn answered(self) {
        if self.probe {
            let mut gates = self.gates.lock();
            if gates.remove(&self.namespace).is_some() {
                metrics::gates_changed(-1.0);
            }
            self.gates.note(&gates);
        }
    }
}

impl Drop for Pass {
    fn drop(&mut self) {
        if self.probe {
            if let Some(gate) = self.gates.lock().get_mut(&self.namespace) {
                gate.probing = false;
            }
            // The namespace can be claimed from, or be probed again.
            self.gates.meter.wake.notify_one();
        }
    }
}

fn without<'a>(selected: &Namespaces, these: impl Iterator<Item = &'a String>) -> Namespaces {
    match selected {
        Namespaces::Only(only) => {
            let mut only = only.clone();
            these.for_each(|name| {
                only.remove(name);
            });
            Namespaces::Only(only)
        }
        Namespaces::All | Namespaces::Except(_) => {
            let mut except: BTreeSet<String> = these.cloned().collect();
            if let Namespaces::Except(others) = selected {
                except.extend(others.iter().cloned());
            }
            if except.is_empty() { Namespaces::All } else { Namespaces::Except(except) }
        }
    }
}
