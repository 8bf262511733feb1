//! Tenants beside each other: clauses 5 and 6.

use std::collections::HashMap;
use std::time::Duration;

use super::Harness;
use super::probe::{LEASE, MS, Probe};
use crate::claim::{ClaimDue, Claimed};
use crate::cycle::{NewCycle, Verdict};

/// As often as is asked before a tenant counts as starving.
const CALLS: usize = 32;
/// Longer than the spans of time that a scheduler may take together.
const MINUTES: Duration = Duration::from_mins(3);
/// The tenant with many cycles.
const GREEDY: &str = "greedy";

pub(super) async fn share<H: Harness>(probe: &Probe<'_, H>) {
    // (share, running of a, limit) and how many are given of a, b and c, of whom there are 6, 3 and 1.
    let cases = [
        (2, 0, 5, [2, 2, 1]),
        (2, 1, 4, [1, 2, 1]),
        (2, 2, 3, [0, 2, 1]),
        (2, 9, 3, [0, 2, 1]),
        (1, 0, 3, [1, 1, 1]),
        (4, 1, 7, [3, 3, 1]),
        (100, 0, 100, [6, 3, 1]),
        (2, 0, 1, [1, 0, 0]),
        (2, 0, 3, [2, 1, 0]),
        // What is left when everybody was served goes to the longest due.
        (2, 0, 6, [3, 2, 1]),
        (2, 0, 9, [6, 2, 1]),
        (2, 9, 6, [3, 2, 1]),
        (2, 0, 100, [6, 3, 1]),
        (0, 0, 2, [2, 0, 0]),
    ];
    for (per_tenant, running, limit, wanted) in cases {
        probe.clear().await;
        let mut first_in = Duration::ZERO;
        for (tenant, count) in [("a", 6), ("b", 3), ("c", 1)] {
            for _ in 0..count {
                first_in += MS;
                probe.schedule(&NewCycle { first_in, tenant: tenant.into(), ..probe.new_cycle() }).await;
            }
        }
        probe.advance(first_in);
        let mut all = HashMap::from([("a".to_owned(), running), ("elsewhere".to_owned(), 5)]);
        let mut given = 0;
        // All that is given stays running, so a second call has nothing to add.
        for _ in 0..CALLS {
            let ask = ClaimDue::new(limit - given, LEASE).per_tenant(per_tenant).running(all.clone());
            let claims = probe.claim_due(ask).await;
            given += claims.len();
            count(&mut all, &claims);
        }
        let seen = ["a", "b", "c"].map(|tenant| all.get(tenant).copied().unwrap_or_default());
        let wanted = [wanted[0] + running, wanted[1], wanted[2]];
        let what = format!(
            "what runs of three tenants, with a share of {per_tenant}, a limit of {limit}, and {running} running of a,"
        );
        probe.same(&seen, &wanted, what);
    }
    room_behind(probe).await;
    due_far_apart(probe).await;
    nobody_waits(probe).await;
}

/// Due cycles of a tenant with room that lie minutes apart, behind those of a tenant without.
async fn due_far_apart<H: Harness>(probe: &Probe<'_, H>) {
    probe.clear().await;
    for tenant in ["a", "a", "a", "a", "a", "b", "b", "b"] {
        probe.schedule(&NewCycle { tenant: tenant.into(), ..probe.new_cycle() }).await;
        probe.advance(MINUTES);
    }
    let mut running = HashMap::from([("a".to_owned(), 4)]);
    let ask = ClaimDue::new(4, LEASE).per_tenant(4).running(running.clone());
    count(&mut running, &probe.claim_due(ask).await);
    let seen = ["a", "b"].map(|tenant| running.get(tenant).copied().unwrap_or_default());
    probe.same(&seen, &[5, 3], "what runs of two tenants, one at a share of 4, and 4 more,");
}

/// A tenant with cycles that run, and others that are due soon, waits for nothing.
async fn nobody_waits<H: Harness>(probe: &Probe<'_, H>) {
    probe.clear().await;
    for _ in 0..3 {
        let new = NewCycle { tenant: "b".into(), ..probe.new_cycle() };
        probe.schedule(&new).await;
        probe.claim_for(&new.key, 100 * MINUTES, "of the tenant that waits for nothing").await;
        probe.advance(MINUTES);
    }
    for _ in 0..5 {
        probe.schedule(&NewCycle { tenant: "a".into(), ..probe.new_cycle() }).await;
    }
    for seconds in 1..4 {
        let first_in = seconds * Duration::from_secs(1);
        probe.schedule(&NewCycle { tenant: "b".into(), first_in, ..probe.new_cycle() }).await;
    }
    let ask = ClaimDue::new(3, LEASE).per_tenant(4).running(HashMap::from([("a".to_owned(), 4)]));
    let claims = probe.claim_due(ask).await;
    probe.same(&claims.len(), &3, "cycles of a tenant at its share, while nobody else waits,");
}

/// What a tenant with room has due behind the first ones is not overlooked because its first is among them.
async fn room_behind<H: Harness>(probe: &Probe<'_, H>) {
    probe.clear().await;
    let order = ["a", "a", "a", "a", "b", "a", "a", "b", "b"];
    for tenant in order {
        probe.schedule(&NewCycle { tenant: tenant.into(), ..probe.new_cycle() }).await;
        probe.advance(MS);
    }
    let mut running = HashMap::new();
    for (limit, wanted) in [(5, [3, 2]), (0, [3, 2]), (10, [6, 3])] {
        let ask = ClaimDue::new(limit, LEASE).per_tenant(2).running(running.clone());
        let claims = probe.claim_due(ask).await;
        count(&mut running, &claims);
        let seen = ["a", "b"].map(|tenant| running.get(tenant).copied().unwrap_or_default());
        probe.same(
            &seen,
            &wanted,
            format_args!("what runs of two tenants with a share of 2, and {limit} more,"),
        );
    }
}

pub(super) async fn fairness<H: Harness>(probe: &Probe<'_, H>) {
    let crowd = probe.harness.crowd();
    for _ in 0..crowd {
        probe.schedule(&NewCycle { tenant: GREEDY.into(), ..probe.new_cycle() }).await;
    }
    // Others have nothing that is due now.
    for place in 0..crowd {
        let tenant = format!("later {place}");
        probe.schedule(&NewCycle { tenant, first_in: Duration::from_hours(1), ..probe.new_cycle() }).await;
    }
    let small = ["one", "two", "three"];
    for tenant in small {
        probe.advance(MS);
        probe.schedule(&NewCycle { tenant: tenant.into(), ..probe.new_cycle() }).await;
    }
    // With its share of 4 running, and with none running.
    let mut left = crowd + 1 + small.len();
    for before in [4, 0] {
        let mut running = HashMap::from([(GREEDY.to_owned(), before)]);
        let mut claims = Vec::new();
        for _ in 0..2 {
            let ask = ClaimDue::new(10, LEASE).per_tenant(4).running(running.clone());
            let more = probe.claim_due(ask).await;
            count(&mut running, &more);
            claims.extend(more);
        }
        for tenant in small {
            let found = running.get(tenant).copied().unwrap_or_default();
            let what = format!("what is given in two calls of tenant {tenant}, behind {crowd} of another's,");
            probe.same(&found, &1, what);
        }
        // The others are tried again, behind the crowd again.
        for claim in claims.iter().filter(|claim| claim.cycle.tenant != GREEDY) {
            probe.held(probe.defer_by(claim, Duration::ZERO).await, "defer of a running attempt");
        }
        for claim in claims.iter().filter(|claim| claim.cycle.tenant == GREEDY) {
            let _ = probe.recorded(claim, Verdict::Success, "of a running attempt").await;
            left -= 1;
        }
    }

    // Wherever a scheduler looked last: what the greedy one has is still found, the longest due first.
    probe.advance(MS);
    let new = NewCycle { tenant: GREEDY.into(), ..probe.new_cycle() };
    probe.schedule(&new).await;
    let mut calls = 0;
    while left > 0 && calls < crowd {
        let claims = probe.claims(500, LEASE).await;
        let last = claims.iter().any(|claim| claim.cycle.key == new.key);
        left -= claims.len();
        calls += 1;
        probe.ensure(
            !last || left == 0,
            format_args!("the cycle that was due last came {left} before the end"),
        );
    }
    probe.same(&left, &0, "the number of due cycles that are never given");
}

fn count(running: &mut HashMap<String, usize>, claims: &[Claimed]) {
    for claim in claims {
        *running.entry(claim.cycle.tenant.clone()).or_default() += 1;
    }
}
