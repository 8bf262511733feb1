//! How cycles begin: clauses 1 and 2.

use std::time::Duration;

use bytes::Bytes;

use super::Harness;
use super::probe::{INTERVAL, LEASE, MS, Probe, counts};
use crate::cycle::{CycleKey, Ending, NewCycle, Verdict};
use crate::plan::Plan;
use crate::scheduler::{RetryScheduler, Scheduled};

/// As many as meet in a race.
const RACERS: usize = 16;

pub(super) async fn begin<H: Harness>(probe: &Probe<'_, H>) {
    let unknown = probe.new_cycle().key;
    probe.same(&probe.get(&unknown).await, &None, "an unknown cycle");
    probe.same(&probe.attempts(&unknown).await, &Vec::new(), "the list of attempts of an unknown cycle");

    let waits = [Duration::ZERO, MS, INTERVAL, Plan::MAX_DELAY];
    let many = (1..=Plan::MAX_DELAYS as u64).map(Duration::from_millis);
    let plans = [
        probe.plan(MS, 1),
        probe.plan(Plan::MAX_DELAY, u32::MAX),
        probe.delays(many, 7).deadline(probe.now() + 2 * Plan::MAX_DELAY),
        probe.delays([3 * MS, MS, 2 * MS], 2).deadline(probe.now() + Plan::MAX_DELAY + MS),
    ];
    for (first_in, plan) in waits.into_iter().zip(plans) {
        let new = NewCycle { first_in, plan, tenant: format!("tenant {first_in:?}"), ..probe.new_cycle() };
        let cycle = probe.schedule(&new).await;
        probe.same(&cycle.key, &new.key, "the key of a new cycle");
        probe.same(&cycle.tenant, &new.tenant, "the tenant of a new cycle");
        probe.same(&cycle.plan, &new.plan, "the plan of a new cycle");
        probe.same(&counts(&cycle), &(0, 0, 0, 0), "what is counted of a new cycle");
        probe.is_idle(&cycle, probe.now() + first_in, "when it is new");
        probe.is(&cycle, "when it is new").await;
        probe.same(&probe.attempts(&new.key).await, &Vec::new(), "the list of attempts of a new cycle");
    }
    // A wait is not cut to the grain of the clock.
    let new = NewCycle { first_in: MS + Duration::from_nanos(1), ..probe.new_cycle() };
    probe.is_idle(&probe.schedule(&new).await, probe.now() + 2 * MS, "when it waits a little more than 1 ms");
}

pub(super) async fn one_cycle<H: Harness>(probe: &Probe<'_, H>) {
    let new = probe.new_cycle();
    probe.schedule(&new).await;
    stays(probe, &new.key, "while it is idle").await;
    let claim = probe.claim(&new.key, "of a cycle that was scheduled again").await;
    probe.same(&claim.payload, &new.payload, "the payload of a cycle that was scheduled again");
    stays(probe, &new.key, "while it is leased").await;
    let _ = probe.recorded(&claim, Verdict::Failure, "of a cycle that was scheduled again").await;
    stays(probe, &new.key, "after an attempt").await;
    for ending in [Ending::Resolved, Ending::Exhausted, Ending::Cancelled] {
        probe.clear().await;
        let cycle = probe.ended(ending).await;
        stays(probe, &cycle.key, &format!("when it is {ending}")).await;
        probe.none_due(format_args!("when the only cycle is {ending}")).await;
    }
    probe.clear().await;
    for _ in 0..probe.rounds() {
        of_many_one_is_new(probe).await;
    }
}

/// Another `schedule` changes nothing, whatever else it says.
async fn stays<H: Harness>(probe: &Probe<'_, H>, key: &CycleKey, when: &str) {
    let (cycle, attempts) = (probe.known(key).await, probe.attempts(key).await);
    let other = NewCycle::new(key.clone(), probe.plan(MS, 9)).tenant("another").payload("another");
    let answer = probe.try_schedule(&other).await;
    probe.same(&answer, &Scheduled::Exists(cycle.clone()), format_args!("schedule of a cycle {when}"));
    probe.is(&cycle, format_args!("{when}, scheduled again")).await;
    probe.same(&probe.attempts(key).await, &attempts, format_args!("the list of attempts {when}"));
}

async fn of_many_one_is_new<H: Harness>(probe: &Probe<'_, H>) {
    let new = probe.new_cycle();
    probe.note(&new.key);
    let answers = probe.race(RACERS, |racer, scheduler| {
        let payload = Bytes::from(format!("payload of racer {racer}"));
        let new = NewCycle { payload, tenant: format!("tenant {racer}"), ..new.clone() };
        async move { scheduler.schedule(new).await }
    });
    let (mut winner, mut others) = (None, Vec::new());
    for (racer, answer) in answers.await.into_iter().enumerate() {
        match answer {
            Scheduled::New(cycle) => {
                if let Some(before) = winner.replace((racer, cycle)) {
                    probe.fail(format_args!("two of {RACERS} at once were New: {before:?} and {winner:?}"));
                }
            }
            Scheduled::Exists(cycle) => others.push(cycle),
        }
    }
    let Some((racer, cycle)) = winner else { probe.fail(format_args!("none of {RACERS} at once was New")) };
    for other in others {
        probe.same(&other, &cycle, "the cycle that Exists beside the New one");
    }
    probe.same(&cycle.tenant, &format!("tenant {racer}"), "the tenant of the New one");
    let claims = probe.claims(RACERS, LEASE).await;
    let payloads: Vec<_> = claims.iter().map(|claim| claim.payload.clone()).collect();
    let wanted = vec![Bytes::from(format!("payload of racer {racer}"))];
    probe.same(&payloads, &wanted, "the list of payloads after a race");
}
