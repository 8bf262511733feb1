//! What the statements cost: counted by the server, not timed.

use private_postgres::{psql, shared_database};
use sqlx::{AssertSqlSafe, Row, query};

use super::*;

mod lists;

const FEW: usize = 2_000;
const MANY: usize = 100_000;

/// A scheduler with so many cycles, one due every millisecond of the last minutes.
async fn with_due(cycles: usize) -> (String, PostgresScheduler) {
    let url = tokio::task::spawn_blocking(shared_database).await.unwrap();
    let pool = PgPool::connect_lazy(&url).unwrap();
    PostgresScheduler::new(pool.clone()).migrate().await.unwrap();
    pool.close().await;
    fill(&url, cycles);
    let scheduler = PostgresScheduler::new(PgPool::connect_lazy(&url).unwrap());
    (url, scheduler)
}

/// No statistics are taken of it, as of tables that are new.
fn fill(url: &str, cycles: usize) {
    psql(
        url,
        &format!(
            "ALTER TABLE retry_cycles SET (autovacuum_enabled = off); \
             ALTER TABLE retry_subjects SET (autovacuum_enabled = off); \
             INSERT INTO retry_subjects (namespace, subject, owner, payload) \
             SELECT 'test', md5(n::text), 'tenant ' || n % 10, '' FROM generate_series(1, {cycles}) AS n; \
             INSERT INTO retry_namespaces VALUES ('test') ON CONFLICT DO NOTHING; \
             INSERT INTO retry_cycles (id, namespace, tenant, max_attempts, delays, wake_at) \
             SELECT id, namespace, 'tenant ' || id % 10, 1000, '3600000', \
             extract(epoch FROM now()) * 1000 - {cycles} + id FROM retry_subjects \
             WHERE id NOT IN (SELECT id FROM retry_cycles)"
        ),
    );
}

/// What the server counted, with all that the scheduler's connections and others did: they report it when they close.
async fn counted(url: &str, scheduler: &PostgresScheduler, query: &str) -> String {
    scheduler.shared.connections.close().await;
    scheduler.shared.notices.close().await;
    let others = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() \
         AND pid <> pg_backend_pid() AND backend_type = 'client backend' AND state <> 'idle in transaction' \
         AND query NOT LIKE '%to_regclass%'";
    let deadline = clock::now() + Duration::from_secs(10);
    while psql(url, others) != "0" {
        assert!(clock::now() < deadline, "a connection is not closed");
    }
    psql(url, query)
}

/// What the server did for this statement, as the scheduler's own connections carry it out.
async fn pages(
    scheduler: &PostgresScheduler,
    text: &str,
    bind: impl FnOnce(PgQuery<'_>) -> PgQuery<'_>,
) -> (u64, String) {
    let mut connected = scheduler.shared.connections.get().await.unwrap();
    let text = AssertSqlSafe(format!("EXPLAIN (ANALYZE, BUFFERS) {text}"));
    let rows = bind(query(text)).fetch_all(&mut connected.connection).await.unwrap();
    connected.give_back::<()>(&Ok(()));
    let lines = rows.iter().map(|row| row.get::<String, _>(0)).collect::<Vec<_>>();
    // The first line of buffers is that of the whole statement.
    let buffers = lines.iter().find(|line| line.contains("Buffers:")).unwrap();
    let numbers = buffers.split([' ', '=']).collect::<Vec<_>>();
    let pages = ["hit", "read"].into_iter().filter_map(|kind| {
        let place = numbers.iter().position(|word| *word == kind)?;
        numbers[place + 1].parse::<u64>().ok()
    });
    (pages.sum(), lines.join("\n"))
}

type PgQuery<'q> = sqlx::query::Query<'q, sqlx::Postgres, sqlx::postgres::PgArguments>;

async fn claim(scheduler: &PostgresScheduler, limit: i64, floor: i64) -> (u64, String) {
    pages(scheduler, sql::claim(1), |claim| {
        claim
            .bind(None::<i64>)
            .bind(30_000_i64)
            .bind(limit)
            .bind(7_i64)
            .bind(vec!["test"])
            .bind(vec![floor])
            .bind(None::<i64>)
    })
    .await
}

fn ask(limit: usize) -> ClaimDue {
    ClaimDue::new(limit, Duration::from_mins(10))
}

fn failure() -> Report {
    Report::failure()
}

#[tokio::test]
async fn a_claim_reads_as_much_with_many_cycles_pending_as_with_few() {
    let (_, few) = with_due(FEW).await;
    let (_, many) = with_due(MANY).await;
    for limit in [1, 100] {
        let (with_few, _) = claim(&few, limit, 0).await;
        let (with_many, plan) = claim(&many, limit, 0).await;
        // An index has one level more, and each row is found and moved through a few.
        let most = with_few * 3 / 2 + 10;
        assert!(with_many <= most, "{with_many} pages instead of {with_few}:\n{plan}");
    }
}

#[tokio::test]
async fn a_claim_under_an_old_snapshot_does_not_go_over_what_was_claimed_before() {
    let (url, scheduler) = with_due(FEW).await;
    let mut old = scheduler.pool().begin_with("BEGIN ISOLATION LEVEL REPEATABLE READ").await.unwrap();
    query("SELECT count(*) FROM retry_cycles").execute(&mut *old).await.unwrap();
    for _ in 0..15 {
        let claims = scheduler.claim_due(ask(100)).await.unwrap();
        assert_eq!(claims.len(), 100);
        let reports = claims.into_iter().map(|claim| (claim, failure())).collect();
        assert_eq!(scheduler.finish_many(reports).await.unwrap().len(), 100);
    }
    let floor = scheduler.floor().of(&["test".to_owned()])[0];
    let entries = "SELECT idx_tup_read FROM pg_stat_user_indexes WHERE indexrelname = 'retry_cycles_wake'";
    let mut read = Vec::new();
    let mut before = counted(&url, &scheduler, entries).await.parse::<u64>().unwrap();
    for from in [floor, 0] {
        claim(&scheduler, 100, from).await;
        let after = counted(&url, &scheduler, entries).await.parse().unwrap();
        read.push(after - before);
        before = after;
    }
    // The hundred that are claimed, and the four hundred that the floor keeps behind; or all that was claimed ever.
    assert!(
        read[0] <= 650 && read[1] >= 1_500,
        "{read:?} entries of the index from the floor and from the start"
    );
    old.rollback().await.unwrap();
}

/// The versions of a row all have entries in the index by id.
#[tokio::test]
async fn a_report_under_an_old_snapshot_does_not_go_over_the_versions_of_its_cycle() {
    let (url, scheduler) = with_due(100).await;
    let again = || failure().retry_in(Duration::ZERO);
    let mut old = scheduler.pool().begin_with("BEGIN ISOLATION LEVEL REPEATABLE READ").await.unwrap();
    query("SELECT count(*) FROM retry_cycles").execute(&mut *old).await.unwrap();
    let entries = "SELECT sum(idx_tup_read) FROM pg_stat_user_indexes \
         WHERE indexrelname IN ('retry_cycles_id', 'retry_cycles_tenant')";
    let before = counted(&url, &scheduler, entries).await.parse::<u64>().unwrap();
    let mut reports = Vec::new();
    for _ in 0..20 {
        let answer = scheduler.finish_and_claim(reports, ask(100)).await.unwrap();
        reports = answer.claims.unwrap().into_iter().map(|claim| (claim, again())).collect();
        assert_eq!(reports.len(), 100);
    }
    assert_eq!(counted(&url, &scheduler, entries).await.parse::<u64>().unwrap(), before);

    // One whose lease was extended is not where it was claimed.
    let _ = scheduler.extend(&reports[0].0, Duration::from_mins(10)).await.unwrap();
    for answer in scheduler.finish_many(reports).await.unwrap() {
        assert!(matches!(answer, Ok(Finished::Recorded(_))), "{answer:?}");
    }
    let read = counted(&url, &scheduler, entries).await.parse::<u64>().unwrap() - before;
    assert!(read <= 200, "{read} entries of indexes for the versions of one row");
    old.rollback().await.unwrap();
}

/// The index is not written when a cycle is claimed: only when it is scheduled and when its next attempt is known.
#[tokio::test]
async fn a_claim_moves_its_cycles_in_no_index() {
    let (url, scheduler) = with_due(FEW).await;
    let claims = scheduler.claim_due(ask(100)).await.unwrap();
    assert_eq!(claims.len(), 100);
    let updates =
        "SELECT n_tup_upd || ' ' || n_tup_hot_upd FROM pg_stat_user_tables WHERE relname = 'retry_cycles'";
    let updates = counted(&url, &scheduler, updates).await;
    let (all, hot) = updates.split_once(' ').unwrap();
    // A page that is a little too full has no room for the last of its rows.
    assert!(all == "100" && hot.parse::<usize>().unwrap() >= 85, "{updates}");
}

#[tokio::test]
async fn many_due_cycles_of_a_namespace_that_is_not_selected_cost_a_claim_nothing() {
    let (url, scheduler) = with_due(20_000).await;
    scheduler.schedule(new_in("up", "1", "tenant")).await.unwrap();
    scheduler.claim_due(ask(1).namespaces(Namespaces::only(["none"]))).await.unwrap();
    let entries = "SELECT sum(idx_tup_read) FROM pg_stat_user_indexes WHERE relname = 'retry_cycles'";
    for (namespaces, paused) in
        [(Namespaces::only(["up"]), false), (Namespaces::except(["test"]), false), (Namespaces::All, true)]
    {
        let before = counted(&url, &scheduler, entries).await.parse::<u64>().unwrap();
        if paused {
            psql(&url, "UPDATE retry_namespaces SET paused = true WHERE namespace = 'test'");
        }
        let claims = scheduler.claim_due(ask(10).namespaces(namespaces.clone())).await.unwrap();
        assert_eq!(claims.iter().map(|claim| &*claim.cycle.key.namespace).collect::<Vec<_>>(), ["up"]);
        let after = counted(&url, &scheduler, entries).await.parse::<u64>().unwrap();
        assert!(after - before < 20, "{} entries of the index for {namespaces:?}", after - before);
        let _ = scheduler.defer(&claims[0], Duration::ZERO).await.unwrap();
    }
}

fn new_in(namespace: &str, subject: &str, tenant: &str) -> NewCycle {
    let plan = crate::plan::Plan::every(Duration::from_hours(1), 1_000).unwrap();
    NewCycle::new(CycleKey::new(namespace, subject), plan).tenant(tenant)
}

/// Those who wait for a later time are not met; nor is all that the tenant at its share has due.
#[tokio::test]
async fn among_100_000_tenants_with_pending_cycles_the_one_with_a_due_one_is_found_in_two_calls() {
    let (url, scheduler) = with_due(0).await;
    psql(
        &url,
        "INSERT INTO retry_namespaces VALUES ('test') ON CONFLICT DO NOTHING; \
         INSERT INTO retry_subjects (namespace, subject, owner, payload) SELECT 'test', n::text, '', '' FROM generate_series(1, 102000) n; \
         INSERT INTO retry_cycles (id, namespace, tenant, max_attempts, delays, wake_at) SELECT id, 'test', \
         CASE WHEN id <= 100000 THEN 'm' || lpad(id::text, 8, '0') ELSE 'big' END, 5, '1000', \
         floor(extract(epoch FROM now()) * 1000) + CASE WHEN id <= 100000 THEN 86400000 ELSE -100000 - id END FROM retry_subjects",
    );
    scheduler.schedule(new_in("test", "small", "zz")).await.unwrap();
    let running = std::collections::HashMap::from([("big".to_owned(), 8)]);
    let mut found = 0;
    for _ in 0..2 {
        let request = ask(8).per_tenant(8).running(running.clone());
        let claims = scheduler.claim_due(request).await.unwrap();
        found += claims.iter().filter(|claim| claim.cycle.tenant == "zz").count();
    }
    assert_eq!(found, 1);
}

/// Nobody else has anything due, whatever waits for a later time.
#[tokio::test]
async fn a_tenant_at_its_share_gets_what_nobody_else_waits_for() {
    let (_, scheduler) = with_due(0).await;
    for n in 0..30 {
        scheduler.schedule(new_in("test", &format!("big {n}"), "big")).await.unwrap();
        let later =
            new_in("test", &format!("later {n}"), &format!("tenant {n}")).first_in(Duration::from_hours(1));
        scheduler.schedule(later).await.unwrap();
    }
    let running = std::collections::HashMap::from([("big".to_owned(), 8)]);
    let request = ask(8).per_tenant(8).running(running);
    assert_eq!(scheduler.claim_due(request.clone()).await.unwrap().len(), 8);
    scheduler.schedule(new_in("test", "small", "small")).await.unwrap();
    let claims = scheduler.claim_due(request).await.unwrap();
    assert_eq!(claims.iter().filter(|claim| claim.cycle.tenant == "small").count(), 1);
    assert_eq!(claims.len(), 8);
}

/// The server gives up a look from the start; what is due is claimed all the same, and what lies below the floor is found.
#[tokio::test]
async fn a_sweep_that_takes_too_long_ends_no_claim() {
    let (url, scheduler) = with_due(20).await;
    // The connection's timeouts cannot be shortened from here: so the rows below are hard to look at.
    psql(
        &url,
        "CREATE FUNCTION slow(at bigint) RETURNS boolean LANGUAGE plpgsql AS \
         $$ BEGIN IF at < 1000 THEN PERFORM pg_sleep(3); END IF; RETURN true; END $$; \
         ALTER TABLE retry_cycles ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY; \
         CREATE POLICY slow ON retry_cycles USING (slow(wake_at)); \
         INSERT INTO retry_subjects (namespace, subject, owner, payload) VALUES ('test', 'below', 'tenant', ''); \
         INSERT INTO retry_cycles (id, namespace, tenant, max_attempts, delays, wake_at) \
         SELECT id, 'test', 't', 5, '1000', 5 FROM retry_subjects WHERE subject = 'below'; \
         CREATE ROLE careful LOGIN; GRANT ALL ON ALL TABLES IN SCHEMA public TO careful; \
         GRANT ALL ON SCHEMA public TO careful",
    );
    let other = url.replacen("postgres@", "careful@", 1);
    assert_ne!(other, url);
    drop(scheduler);
    let scheduler = PostgresScheduler::new(PgPool::connect_lazy(&other).unwrap());
    let began = clock::now();
    let claims = scheduler.claim_due(ask(100)).await.unwrap();
    assert_eq!(claims.len(), 20);
    assert!(clock::now() - began < Duration::from_secs(10));
    // The floor is not lost: nobody waits for the next.
    assert_eq!(scheduler.floor().look(scheduler.elapsed()), super::floor::Look::Floor);
}

/// A plan is made once for a connection, and these were made when the tables were empty.
#[tokio::test]
async fn no_statement_reads_a_table_from_end_to_end_although_its_plan_is_of_when_that_was_empty() {
    let (url, scheduler) = with_due(0).await;
    let key = CycleKey::new("test", "subject");
    let scans = "SELECT relname, seq_scan FROM pg_stat_user_tables ORDER BY relname";
    for _ in 0..8 {
        every_verb(&scheduler, &key).await;
    }
    fill(&url, 20_000);
    let before = psql(&url, scans);
    for _ in 0..8 {
        every_verb(&scheduler, &key).await;
    }
    assert_eq!(counted(&url, &scheduler, scans).await, before);
}

async fn every_verb(scheduler: &PostgresScheduler, key: &CycleKey) {
    let plan = crate::plan::Plan::every(Duration::from_hours(1), 1_000).unwrap();
    scheduler.schedule(NewCycle::new(key.clone(), plan.clone()).tenant("tenant")).await.unwrap();
    let change = Reschedule::new(plan).reactivate(true);
    scheduler.reschedule(key, change).await.unwrap();
    for per_tenant in [usize::MAX, 2] {
        let mut claims = scheduler.claim_due(ask(5).per_tenant(per_tenant)).await.unwrap();
        let Some(claim) = claims.pop() else { continue };
        let _ = scheduler.extend(&claim, Duration::from_hours(1)).await.unwrap();
        let _ = scheduler.finish(&claim, failure()).await.unwrap();
        if let Some(claim) = claims.pop() {
            let _ = scheduler.defer(&claim, Duration::from_hours(1)).await.unwrap();
        }
        let reports = claims.into_iter().map(|claim| (claim, failure())).collect();
        scheduler.finish_many(reports).await.unwrap();
    }
    scheduler.attempts(key, 0, 10).await.unwrap();
    scheduler.next_wake(&Namespaces::All).await.unwrap();
    scheduler.cancel(key).await.unwrap();
    scheduler.get(key).await.unwrap();
}
