//! What is selected, and what cannot be read: clauses 32 and 33.

use std::time::Duration;

use super::Harness;
use super::probe::{INTERVAL, LEASE, MS, Probe, ask};
use crate::claim::{ClaimDue, Namespaces};
use crate::cycle::{CycleKey, NewCycle, Verdict};
use crate::scheduler::RetryScheduler;

/// For about so long a cycle that cannot be read is not met.
const ASIDE: Duration = Duration::from_secs(10);

pub(super) async fn namespaces<H: Harness>(probe: &Probe<'_, H>) {
    // Those that are not selected are due longer.
    for _ in 0..probe.harness.crowd() {
        probe.schedule(&in_namespace(probe, "down")).await;
    }
    probe.advance(MS);
    let selections = [
        (Namespaces::only(["up"]), ["up"].as_slice()),
        (Namespaces::except(["down"]), &["beside", "up"]),
        (Namespaces::only(["up", "nobody's", "beside"]), &["beside", "up"]),
        (Namespaces::only(Vec::<String>::new()), &[]),
        (Namespaces::except(["down", "up", "beside"]), &[]),
    ];
    for (selection, wanted) in selections {
        for name in ["up", "beside"] {
            probe.schedule(&in_namespace(probe, name)).await;
        }
        let later = NewCycle { first_in: INTERVAL, ..in_namespace(probe, "up") };
        probe.schedule(&later).await;
        let wake = if wanted.is_empty() { None } else { Some(Duration::ZERO) };
        let what = format!("next_wake of {selection:?}");
        probe.same(&probe.next_wake_of(&selection).await, &wake, what);
        // The first call has them, whatever else is due.
        let claims = probe.claim_due(ask(2, LEASE).namespaces(selection.clone())).await;
        let mut names: Vec<_> = claims.iter().map(|claim| claim.cycle.key.namespace.as_str()).collect();
        names.sort_unstable();
        probe.same(&names, &wanted.to_vec(), format!("the namespaces of what is given of {selection:?}"));
        if wanted.contains(&"up") {
            let wake = probe.next_wake_of(&Namespaces::only(["up"])).await;
            probe.same(&wake, &Some(LEASE), "next_wake when all of the namespace is leased or due later");
        }
        for claim in &claims {
            let _ = probe.recorded(claim, Verdict::Success, "of a running attempt").await;
        }
        let rest = Namespaces::only(["up", "beside"]);
        let rest = probe.claim_due(ask(10, LEASE).namespaces(rest)).await;
        for claim in &rest {
            let _ = probe.recorded(claim, Verdict::Success, "of a running attempt").await;
        }
        probe.cancelled(&later.key, "of an idle cycle").await;
    }
    let claims = probe.claims(1, LEASE).await;
    let names: Vec<_> = claims.iter().map(|claim| claim.cycle.key.namespace.as_str()).collect();
    probe.same(&names, &vec!["down"], "the namespaces of what is given of all");
}

fn in_namespace<H: Harness>(probe: &Probe<'_, H>, namespace: &str) -> NewCycle {
    let new = probe.new_cycle();
    NewCycle { key: CycleKey::new(namespace, &new.key.subject), ..new }
}

pub(super) async fn unreadable<H: Harness>(probe: &Probe<'_, H>) {
    for leased in [false, true] {
        probe.clear().await;
        let [before, spoilt, after] = [probe.new_cycle(), probe.new_cycle(), probe.new_cycle()];
        for new in [&before, &spoilt, &after] {
            probe.schedule(new).await;
            probe.advance(MS);
        }
        if leased {
            probe.same(&probe.claims(10, LEASE).await.len(), &3, "the number of claims");
            probe.advance(LEASE);
        }
        let cycle = probe.known(&spoilt.key).await;
        if !probe.harness.spoil(&spoilt.key).await {
            return;
        }
        // The call that meets it gives its neighbours, and says which it could not read.
        let request = ClaimDue::new(10, 4 * LEASE);
        let claims = probe.unfailing(
            probe.handle().claim_due(request).await,
            "claim_due beside a cycle that cannot be read",
        );
        let mut given: Vec<_> = claims.iter().map(|claim| claim.cycle.key.clone()).collect();
        given.sort();
        let mut wanted = vec![before.key.clone(), after.key.clone()];
        wanted.sort();
        probe.same(&given, &wanted, "what is given beside a cycle that cannot be read");
        let named: Vec<_> = claims.unreadable.iter().map(|one| one.key.clone()).collect();
        probe.same(&named, &vec![Some(spoilt.key.clone())], "what is reported as unreadable");
        // It is not met again for a while, by nobody.
        for _ in 0..3 {
            let claims = probe.unfailing(probe.handle().claim_due(ask(10, LEASE)).await, "claim_due");
            let met = !claims.is_empty() || !claims.unreadable.is_empty();
            probe.ensure(!met, format_args!("claim_due just after met {claims:?}"));
        }
        // Whoever can read it may have it then, and nothing of it was spent.
        probe.harness.mend(&spoilt.key).await;
        probe.advance(ASIDE + ASIDE / 2);
        let claim = probe.claim(&spoilt.key, "when it can be read again").await;
        let lapses = u32::from(leased);
        probe.same(&claim.cycle.epoch, &(cycle.epoch + 1), "the epoch of a cycle that was set aside");
        probe.same(&claim.cycle.lapses, &lapses, "the number of lapses of a cycle that was set aside");
        for claim in claims.into_iter().chain([claim]) {
            let _ = probe.recorded(&claim, Verdict::Success, "of a running attempt").await;
        }
    }
}
