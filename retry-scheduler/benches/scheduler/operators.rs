//! What operators and the purge cost, beside as many cycles.

use std::time::Duration;

use private_postgres::psql;
use retry_scheduler::{
    CycleAdmin, CycleClass, CycleFilter, CycleKey, Finished, NewCycle, Plan, PostgresScheduler, Report,
    RetryScheduler,
};
use sqlx::PgPool;

use super::{PAYLOAD, ask, now, write};

/// Lists, counts, and deletes ended cycles with three attempts each, in batches of a thousand.
pub(crate) async fn measure(url: &str, pending: usize) {
    let scheduler = PostgresScheduler::new(PgPool::connect(url).await.unwrap());
    let classes = [CycleClass::Pending, CycleClass::Due, CycleClass::Waiting, CycleClass::Leased];
    for class in classes {
        for tenant in [None, Some("tenant 17"), Some("nobody")] {
            let filter = CycleFilter::new(class).namespace("bench");
            let filter = tenant.map_or(filter.clone(), |tenant| filter.tenant(tenant));
            let start = now();
            let page = scheduler.list(&filter, None, 100).await.unwrap();
            let (count, took) = (page.len(), start.elapsed());
            write(&format!("{pending:>10}  list of {class:?}, tenant {tenant:?}: {count} in {took:.1?}\n"));
        }
    }
    let start = now();
    let counts = scheduler.counts().await.unwrap();
    write(&format!("{pending:>10}  counts of {} namespace in {:.1?}\n", counts.len(), start.elapsed()));

    let ended = 100_000.min(pending);
    psql(
        url,
        &format!(
            "UPDATE retry_cycles SET state = 1, reason = 0, attempts = 3, used = 3, \
             ended_at = floor(extract(epoch FROM now()) * 1000) - 3000000000 + id WHERE id <= {ended}; \
             INSERT INTO retry_attempts SELECT id, n, 0, 1, 1, 'not found' FROM retry_cycles, generate_series(1, 3) AS n \
             WHERE id <= {ended}"
        ),
    );
    psql(url, "CHECKPOINT");
    let (start, mut purged) = (now(), 0);
    loop {
        let count = scheduler.purge_ended(Duration::from_hours(24 * 30), 1_000).await.unwrap();
        if count == 0 {
            break;
        }
        purged += count;
    }
    let each = start.elapsed().div_f64(f64::from(u32::try_from(purged).unwrap()));
    let day = Duration::from_hours(24).as_secs_f64() / each.as_secs_f64() / 1e6;
    write(&format!("{pending:>10}  {purged} purged, {each:.1?} each: {day:.0} million a day\n"));
}

/// What a cycle leaves: a subject like a UUID, a payload of 200 bytes, three attempts.
pub(crate) async fn grow<S: RetryScheduler>(scheduler: &S) {
    for n in 0..GROWN {
        let key = CycleKey::new("webhook", format!("018f3c5e-7a0b-7c3d-9e4f-{n:012}"));
        let plan = Plan::every(Duration::from_millis(1), 5).unwrap();
        let new = NewCycle::new(key, plan).tenant(format!("account {}", n % 50)).payload(PAYLOAD);
        scheduler.schedule(new).await.unwrap();
    }
    let mut ended = 0;
    while ended < GROWN {
        let claims = scheduler.claim_due(ask(250, usize::MAX)).await.unwrap();
        let reports = claims.into_iter().map(|claim| {
            let report = if claim.cycle.used == 2 { Report::success() } else { Report::failure() };
            (claim, report.detail("503 Service Unavailable"))
        });
        for answer in scheduler.finish_many(reports.collect()).await.unwrap() {
            let Finished::Recorded(cycle) = answer.unwrap() else { panic!("nobody else claims") };
            ended += usize::from(cycle.ending().is_some());
        }
    }
}

/// Prints how many bytes each of those cycles takes.
pub(crate) fn print_growth(store: &str, bytes: usize) {
    write(&format!("{store}: {} bytes for each ended cycle with three attempts\n", bytes / GROWN));
}

const GROWN: usize = 5_000;
