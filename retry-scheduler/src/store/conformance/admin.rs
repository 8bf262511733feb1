//! The verbs of operators: clauses 44 to 48.

use std::collections::BTreeSet;
use std::time::Duration;

use super::AdminHarness;
use super::probe::{INTERVAL, LEASE, MS, Probe, ask};
use crate::admin::{CycleAdmin, CycleClass, CycleFilter, NamespaceCounts, RunNow};
use crate::claim::{Claimed, Namespaces};
use crate::cycle::{Cycle, CycleKey, EndReason, Ending, NewCycle, Reschedule, Verdict};

pub(super) async fn pause<H: AdminHarness>(probe: &Probe<'_, H>) {
    let pause =
        |name: &'static str| async move { probe.unfailing(probe.handle().pause(name).await, "pause") };
    let resume =
        |name: &'static str| async move { probe.unfailing(probe.handle().resume(name).await, "resume") };
    let running = probe.claimed(&of(probe, "stopped", "")).await;
    probe.same(&pause("stopped").await, &true, "the answer to pause");
    probe.same(&pause("stopped").await, &false, "the answer to pause of a paused namespace");
    probe.same(&pause("unknown").await, &true, "the answer to pause of a namespace without cycles");
    for _ in 0..3 {
        probe.schedule(&of(probe, "stopped", "")).await;
    }
    probe.none_due("of a paused namespace").await;
    let wake = probe.next_wake().await;
    probe.same(&wake, &None, "next_wake when all that is pending is paused");
    let only = probe.claim_due(ask(10, LEASE).namespaces(Namespaces::only(["stopped"]))).await;
    probe.same(&only.len(), &0, "what is given of a paused namespace that is selected");
    let beside = of(probe, "beside", "");
    probe.schedule(&beside).await;
    let claim = probe.claim(&beside.key, "beside a paused namespace").await;
    // What runs goes on.
    probe.held(probe.extend_by(&running, LEASE).await, "extend in a paused namespace");
    let _ = probe.recorded(&running, Verdict::Success, "in a paused namespace").await;
    let _ = probe.recorded(&claim, Verdict::Success, "beside a paused namespace").await;
    let paused = probe.unfailing(probe.handle().paused().await, "paused");
    let wanted = BTreeSet::from(["stopped".to_owned(), "unknown".to_owned()]);
    probe.same(&paused, &wanted, "the set of paused namespaces");
    probe.same(&resume("stopped").await, &true, "the answer to resume");
    probe.same(&resume("stopped").await, &false, "the answer to resume of what is not paused");
    probe.same(&probe.next_wake().await, &Some(Duration::ZERO), "next_wake after resume");
    let claims = probe.claims(10, LEASE).await;
    probe.same(&claims.len(), &3, "the number of claims after resume");
}

pub(super) async fn list<H: AdminHarness>(probe: &Probe<'_, H>) {
    let world = World::prepare(probe).await;
    for (class, wanted) in &world.classes {
        for limit in [1, 2, 100] {
            let listed = pages(probe, &CycleFilter::new(*class), limit).await;
            let keys: Vec<_> = listed.iter().map(|cycle| cycle.key.clone()).collect();
            let what = format!("the list of {class:?} in pages of {limit}");
            probe.same(&world.in_order(keys), &world.in_order(wanted.clone()), what);
            for cycle in &listed {
                probe.is(cycle, "as it was listed").await;
            }
        }
        for namespace in ["a", "b", "nobody's"] {
            let filter = CycleFilter::new(*class).namespace(namespace);
            let keys: Vec<_> = pages(probe, &filter, 2).await.into_iter().map(|cycle| cycle.key).collect();
            let of_it = wanted.iter().filter(|key| key.namespace == namespace).cloned().collect::<Vec<_>>();
            let what = format!("the list of {class:?} in namespace {namespace}");
            probe.same(&world.in_order(keys), &world.in_order(of_it), what);
        }
        for tenant in ["one", "two"] {
            let filter = CycleFilter::new(*class).tenant(tenant);
            let listed = pages(probe, &filter, 2).await;
            let count = wanted.iter().filter(|key| world.tenant(key) == tenant).count();
            let good = listed.len() == count && listed.iter().all(|cycle| cycle.tenant == tenant);
            probe.ensure(good, format_args!("the list of {class:?} of tenant {tenant} was {listed:?}"));
        }
    }
    let unknown = CycleKey::new("a", "nobody");
    let filter = CycleFilter::new(CycleClass::Pending);
    let answer = probe.handle().list(&filter, Some(&unknown), 10).await;
    probe.ensure(answer.is_err(), format_args!("the list behind an unknown cycle was {answer:?}"));
    list_unreadable(probe).await;
}

async fn pages<H: AdminHarness>(probe: &Probe<'_, H>, filter: &CycleFilter, limit: usize) -> Vec<Cycle> {
    let (mut all, mut after) = (Vec::new(), None);
    loop {
        let page = probe.unfailing(probe.handle().list(filter, after.as_ref(), limit).await, "list");
        let count = page.len() + page.unreadable.len();
        probe.ensure(count <= limit, format_args!("a page of {limit} had {count}"));
        after.clone_from(&page.next);
        all.extend(page);
        if after.is_none() || all.len() > 100 {
            return all;
        }
    }
}

/// A list reports cycles that cannot be read, and goes on behind them.
async fn list_unreadable<H: AdminHarness>(probe: &Probe<'_, H>) {
    let Some(Spoilt { filter, unreadable: spoilt, readable }) = spoil(probe).await else { return };
    let (mut seen, mut told, mut after) = (Vec::new(), Vec::new(), None);
    for _ in 0..5 {
        let page = probe.unfailing(probe.handle().list(&filter, after.as_ref(), 1).await, "list");
        seen.extend(page.cycles.into_iter().map(|cycle| cycle.key));
        told.extend(page.unreadable.into_iter().filter_map(|unreadable| unreadable.key));
        after = page.next;
        if after.is_none() {
            break;
        }
    }
    probe.same(&seen, &vec![readable], "the cycles in pages of 1 behind two that cannot be read");
    probe.same(&told, &spoilt, "the cycles that a list cannot read");
    for key in &spoilt {
        probe.harness.mend(key).await;
    }
}

async fn change_unreadable<H: AdminHarness>(probe: &Probe<'_, H>) {
    let Some(Spoilt { filter, unreadable: spoilt, .. }) = spoil(probe).await else { return };
    let answer = probe.unfailing(probe.handle().cancel_many(&filter, 100).await, "cancel_many");
    let failed = answer.failed.iter().filter_map(|unreadable| unreadable.key.clone()).collect::<Vec<_>>();
    probe.same(&(answer.changed, &failed), &(1, &spoilt), "what cancel_many changed and could not change");
    for key in &spoilt {
        probe.harness.mend(key).await;
    }
}

/// Cycles of one namespace: two that cannot be read, and one behind them.
struct Spoilt {
    filter: CycleFilter,
    unreadable: Vec<CycleKey>,
    readable: CycleKey,
}

async fn spoil<H: AdminHarness>(probe: &Probe<'_, H>) -> Option<Spoilt> {
    probe.clear().await;
    let mut spoilt = Vec::new();
    for _ in 0..2 {
        let new = of(probe, "spoilt", "one");
        probe.schedule(&new).await;
        if !probe.harness.spoil(&new.key).await {
            return None;
        }
        probe.advance(MS);
        spoilt.push(new.key);
    }
    let new = of(probe, "spoilt", "one");
    probe.schedule(&new).await;
    let filter = CycleFilter::new(CycleClass::Pending).namespace("spoilt");
    Some(Spoilt { filter, unreadable: spoilt, readable: new.key })
}

pub(super) async fn counts<H: AdminHarness>(probe: &Probe<'_, H>) {
    let none = probe.unfailing(probe.handle().counts().await, "counts");
    probe.same(&none, &Vec::new(), "the counts of a scheduler without cycles");
    let world = World::prepare(probe).await;
    probe.unfailing(probe.handle().pause("paused").await, "pause");
    probe.unfailing(probe.handle().pause("b").await, "pause");
    let counts = probe.unfailing(probe.handle().counts().await, "counts");
    let mut wanted = Vec::new();
    for (namespace, paused) in [("a", false), ("b", true), ("paused", true)] {
        let count = |class| {
            let keys = world.classes.iter().find(|(one, _)| *one == class).map(|(_, keys)| keys);
            keys.into_iter().flatten().filter(|key| key.namespace == namespace).count()
        };
        let due = count(CycleClass::Due);
        wanted.push(NamespaceCounts {
            namespace: namespace.to_owned(),
            paused,
            due,
            waiting: count(CycleClass::Waiting),
            leased: count(CycleClass::Leased),
            resolved: count(CycleClass::Resolved),
            exhausted: count(CycleClass::Exhausted),
            cancelled: count(CycleClass::Cancelled),
            oldest_due: (due > 0).then_some(INTERVAL),
        });
    }
    probe.same(&counts, &wanted, "the counts");
}

pub(super) async fn run_now<H: AdminHarness>(probe: &Probe<'_, H>) {
    let run_now =
        |key: CycleKey| async move { probe.unfailing(probe.handle().run_now(&key).await, "run_now") };
    let new = probe.new_cycle();
    let claim = probe.claimed(&new).await;
    probe.same(&run_now(new.key.clone()).await, &RunNow::Leased, "run_now of a running attempt");
    probe.is(&claim.cycle, "after run_now of a running attempt").await;
    let failed = probe.recorded(&claim, Verdict::Failure, "of a running attempt").await;
    probe.advance(MS);
    let answer = run_now(new.key.clone()).await;
    let RunNow::Due(cycle) = answer else {
        probe.fail(format_args!("run_now of an idle cycle was {answer:?}"))
    };
    probe.is_idle(&cycle, probe.now(), "after run_now");
    probe.same(&cycle, &Cycle { state: cycle.state, ..failed }, "a cycle after run_now, but for its state,");
    probe.is(&cycle, "after run_now").await;
    // One that is due stays due as long as it was.
    probe.advance(MS);
    probe.same(&run_now(new.key.clone()).await, &RunNow::Due(cycle.clone()), "run_now of a due cycle");
    let claim = probe.claim(&new.key, "after run_now").await;
    probe.same(&claim.attempt(), &2, "the number of the attempt after run_now");
    let _ = probe.recorded(&claim, Verdict::Success, "of a running attempt").await;
    let ended = run_now(new.key).await;
    probe.same(&ended, &RunNow::Ended(Ending::Resolved), "run_now of a resolved cycle");
    probe.same(&run_now(probe.new_cycle().key).await, &RunNow::Unknown, "run_now of an unknown cycle");
}

pub(super) async fn change_many<H: AdminHarness>(probe: &Probe<'_, H>) {
    let world = World::prepare(probe).await;
    let filter = CycleFilter::new(CycleClass::Waiting).namespace("a").tenant("one");
    let waiting = pages(probe, &filter, 100).await;
    probe.same(&waiting.len(), &2, "the number of waiting cycles of a tenant");
    let change = Reschedule::new(probe.plan(MS, 9)).next_in(7 * INTERVAL);
    let answer = probe.handle().reschedule_many(&filter, change.clone(), 100).await;
    let answer = probe.unfailing(answer, "reschedule_many");
    probe.same(&answer.changed, &2, "the number of cycles that reschedule_many changed");
    for before in &waiting {
        let cycle = probe.known(&before.key).await;
        probe.is_idle(&cycle, probe.now() + 7 * INTERVAL, "after reschedule_many");
        probe.same(&cycle.plan, &change.plan, "the plan after reschedule_many");
    }
    for (limit, wanted) in [(1, 1), (100, 1), (100, 0)] {
        let answer = probe.unfailing(probe.handle().cancel_many(&filter, limit).await, "cancel_many");
        let what = format!("the number of cycles that cancel_many changed with a limit of {limit}");
        probe.same(&answer.changed, &wanted, what);
        probe.ensure(answer.failed.is_empty(), format_args!("cancel_many failed with {:?}", answer.failed));
    }
    let mut cancelled = 0;
    for (key, before) in &world.cycles {
        let cycle = probe.known(key).await;
        if waiting.iter().any(|one| one.key == *key) {
            probe.is_ended(&cycle, EndReason::Cancelled, "after cancel_many");
            cancelled += 1;
        } else {
            probe.same(&cycle, before, "a cycle that does not match, after cancel_many,");
        }
    }
    probe.same(&cancelled, &2, "the number of cycles that were cancelled");
    // What runs is cancelled too, and its report is stale.
    let running = CycleFilter::new(CycleClass::Leased);
    let answer = probe.unfailing(probe.handle().cancel_many(&running, 100).await, "cancel_many");
    probe.same(&answer.changed, &world.running.len(), "the number of running attempts that were cancelled");
    for claim in &world.running {
        let late = probe.finish(claim, Verdict::Success).await;
        probe.same(&late, &crate::Finished::Stale, "the report on a cancelled cycle");
    }
    // Reactivation is asked for.
    let exhausted = CycleFilter::new(CycleClass::Exhausted);
    let change = Reschedule::new(probe.plan(MS, 9));
    let count = pages(probe, &exhausted, 100).await.len();
    for (reactivate, wanted) in [(false, 0), (true, count)] {
        let change = change.clone().reactivate(reactivate);
        let answer = probe.handle().reschedule_many(&exhausted, change, 100).await;
        let answer = probe.unfailing(answer, "reschedule_many").changed;
        probe.same(&answer, &wanted, format!("how many are changed with reactivate {reactivate}"));
    }
    change_unreadable(probe).await;
}

/// Cycles of all classes.
struct World {
    /// The keys of each class, in the order of the list.
    classes: Vec<(CycleClass, Vec<CycleKey>)>,
    cycles: Vec<(CycleKey, Cycle)>,
    running: Vec<Claimed>,
}

impl World {
    async fn prepare<H: AdminHarness>(probe: &Probe<'_, H>) -> Self {
        let mut classes: Vec<(CycleClass, Vec<CycleKey>)> = Vec::new();
        let mut cycles = Vec::new();
        let mut running = Vec::new();
        let mut ended = |ending, key: &CycleKey| classes_push(&mut classes, ending, key);
        for namespace in ["a", "b"] {
            for (verdict, class) in [
                (Verdict::Success, CycleClass::Resolved),
                (Verdict::Permanent, CycleClass::Exhausted),
                (Verdict::Success, CycleClass::Resolved),
            ] {
                let claim = probe.claimed(&of(probe, namespace, "one")).await;
                probe.advance(MS);
                let _ = probe.recorded(&claim, verdict, "of a running attempt").await;
                ended(class, &claim.cycle.key);
            }
            let new = of(probe, namespace, "two");
            probe.schedule(&new).await;
            probe.cancelled(&new.key, "of an idle cycle").await;
            ended(CycleClass::Cancelled, &new.key);
        }
        for namespace in ["a", "b"] {
            // Claimed first, so that nothing else is.
            let claim = probe.claimed(&of(probe, namespace, "two")).await;
            probe.held(probe.extend_by(&claim, 3 * INTERVAL).await, "extend of a running attempt");
            classes_push(&mut classes, CycleClass::Leased, &claim.cycle.key);
            running.push(claim);
        }
        for namespace in ["a", "b"] {
            for (first_in, tenant, class) in [
                (Duration::ZERO, "one", CycleClass::Due),
                (4 * INTERVAL, "one", CycleClass::Waiting),
                (MS, "two", CycleClass::Due),
                (2 * INTERVAL, "one", CycleClass::Waiting),
                (6 * INTERVAL, "two", CycleClass::Waiting),
            ] {
                let new = NewCycle { first_in, ..of(probe, namespace, tenant) };
                probe.schedule(&new).await;
                classes_push(&mut classes, class, &new.key);
            }
        }
        probe.advance(INTERVAL);
        for (class, keys) in &mut classes {
            let mut placed = Vec::new();
            for key in keys.iter() {
                let cycle = probe.known(key).await;
                let time = match cycle.state {
                    crate::State::Pending(activity) => activity.wake(),
                    crate::State::Ended { at, .. } => at,
                };
                placed.push((key.namespace.clone(), time, placed.len(), key.clone()));
                if *class != CycleClass::Pending {
                    cycles.push((key.clone(), cycle));
                }
            }
            placed.sort();
            *keys = placed.into_iter().map(|(.., key)| key).collect();
        }
        Self { classes, cycles, running }
    }

    /// What the contract says of the order: for each namespace the set of leased cycles, and the others in order.
    fn in_order(&self, keys: Vec<CycleKey>) -> Vec<(String, BTreeSet<CycleKey>, Vec<CycleKey>)> {
        let mut all: Vec<(String, BTreeSet<CycleKey>, Vec<CycleKey>)> = Vec::new();
        for key in keys {
            if all.last().is_none_or(|(namespace, ..)| *namespace != key.namespace) {
                all.push((key.namespace.clone(), BTreeSet::new(), Vec::new()));
            }
            let Some((_, leased, others)) = all.last_mut() else { continue };
            if self.running.iter().any(|claim| claim.cycle.key == key) {
                leased.insert(key);
            } else {
                others.push(key);
            }
        }
        all
    }

    fn tenant(&self, key: &CycleKey) -> &str {
        self.cycles.iter().find(|(one, _)| one == key).map_or("", |(_, cycle)| &cycle.tenant)
    }
}

fn classes_push(classes: &mut Vec<(CycleClass, Vec<CycleKey>)>, class: CycleClass, key: &CycleKey) {
    let pending = class.ending().is_none().then_some(CycleClass::Pending);
    for class in [Some(class), pending].into_iter().flatten() {
        match classes.iter_mut().find(|(one, _)| *one == class) {
            Some((_, keys)) => keys.push(key.clone()),
            None => classes.push((class, vec![key.clone()])),
        }
    }
}

fn of<H: AdminHarness>(probe: &Probe<'_, H>, namespace: &str, tenant: &str) -> NewCycle {
    let new = probe.new_cycle();
    NewCycle { key: CycleKey::new(namespace, &new.key.subject), tenant: tenant.to_owned(), ..new }
}
