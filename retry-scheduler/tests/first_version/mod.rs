//! Cycles as version 1 wrote them, with its own statements, and what they are after the tables were migrated: the same on
//! PostgreSQL and SQLite.

use std::fmt::Write;
use std::time::{Duration, SystemTime};

use retry_scheduler::{
    Activity, AttemptRecord, ClaimDue, Claimed, Clock, Cycle, CycleKey, EndReason, Fenced, Finished,
    ManualClock, Namespaces, NewCycle, Plan, Report, RetryScheduler, Scheduled, State, Verdict,
};
use sqlx::SqlSafeStr;
use sqlx::migrate::{Migration, MigrationType, Migrator};

/// When the tables are migrated.
const NOW: i64 = 1_700_000_000_000;
const LAST_START: i64 = NOW + 86_400_000;
/// No text.
const PAYLOAD: &[u8] = b"\0\xffpayload";
const LONG: Duration = Duration::from_hours(1);

fn at(ms: i64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_millis(ms.try_into().unwrap())
}

pub(crate) fn clock() -> ManualClock {
    ManualClock::new(at(NOW))
}

/// Makes the tables of version 1.
pub(crate) fn migrator(first: &'static str) -> Migrator {
    let first = Migration::new(1, "cycles".into(), MigrationType::Simple, first.into_sql_str(), false);
    let mut migrator = Migrator::with_migrations(vec![first]);
    migrator.dangerous_set_table_name("retry_scheduler_migrations");
    migrator
}

/// The statements of version 1, with what it bound to them. Times are relative to [`NOW`], in milliseconds.
pub(crate) struct Script {
    pub(crate) text: String,
    /// How the database writes bytes.
    bytes: (&'static str, &'static str),
}

impl Script {
    pub(crate) fn new(bytes: (&'static str, &'static str)) -> Self {
        let mut script = Self { text: String::new(), bytes };
        script.schedule("a", "waiting", -10_000, 70_000, 4);

        script.schedule("a", "retried", -100_000, 0, 4);
        script.claim("retried", -90_000, 30_000);
        script.finish("retried", -80_000, 1, 0, 1_000, "first");
        script.claim("retried", -70_000, 10_000);
        script.claim("retried", -60_000, 30_000);
        script.finish("retried", -55_000, 1, 0, 5_000, "second");

        script.schedule("a", "given back", -100_000, 0, 4);
        script.claim("given back", -90_000, 30_000);
        script.defer("given back", -2_000, 1_000);

        script.schedule("b", "held", -100_000, 0, 4);
        script.claim("held", -5_000, 30_000);
        script.schedule("b", "lost", -100_000, 0, 4);
        script.claim("lost", -90_000, 30_000);
        script.claim("lost", -5_000, 30_000);

        for (subject, max, verdict, ending) in
            [("succeeded", 4, 0, 1), ("used up", 1, 1, 2), ("permanent", 4, 2, 2)]
        {
            script.schedule("a", subject, -100_000, 0, max);
            script.claim(subject, -90_000, 30_000);
            script.finish(subject, -80_000, verdict, ending, 1_000, "the end");
        }
        script.schedule("a", "cancelled", -100_000, 0, 4);
        script.cancel("cancelled", -80_000);
        // Its first attempt would come after its last start.
        script.schedule("a", "too late", -100_000, LAST_START, 4);
        script
    }

    fn bytes(&self, bytes: &[u8]) -> String {
        let mut text = self.bytes.0.to_owned();
        for byte in bytes {
            write!(text, "{byte:02x}").unwrap();
        }
        text + self.bytes.1
    }

    fn schedule(&mut self, namespace: &str, subject: &str, at: i64, first_in: i64, max_attempts: u32) {
        let (now, payload) = (NOW + at, self.bytes(PAYLOAD));
        writeln!(
            self.text,
            "INSERT INTO retry_subjects (namespace, subject, payload) VALUES ('{namespace}', '{subject}', {payload});
             INSERT INTO retry_cycles (id, tenant, max_attempts, delays, last_start, wake_at, state, ended_at)
             SELECT id, 'tenant', {max_attempts}, '1000,5000', {LAST_START}, {now} + {first_in},
                 CASE WHEN {LAST_START} < {now} + {first_in} THEN 2 ELSE 0 END,
                 CASE WHEN {LAST_START} < {now} + {first_in} THEN {now} END
             FROM retry_subjects WHERE namespace = '{namespace}' AND subject = '{subject}';"
        )
        .unwrap();
    }

    fn claim(&mut self, subject: &str, at: i64, lease: i64) {
        let now = NOW + at;
        self.update(
            subject,
            &format!(
                "epoch = epoch + 1, lapses = lapses + CASE WHEN claimed_at IS NULL THEN 0 ELSE 1 END,
                 state = CASE WHEN last_start < {now} THEN 2 ELSE 0 END,
                 claimed_at = CASE WHEN last_start < {now} THEN NULL ELSE {now} END,
                 ended_at = CASE WHEN last_start < {now} THEN {now} END, wake_at = {now} + {lease}"
            ),
        );
    }

    fn finish(&mut self, subject: &str, at: i64, verdict: i16, ending: i16, delay: i64, detail: &str) {
        let (now, detail) = (NOW + at, self.bytes(detail.as_bytes()));
        writeln!(
            self.text,
            "INSERT INTO retry_attempts SELECT retry_cycles.id, attempts + 1, claimed_at, {now}, {verdict}, {detail}
             FROM retry_cycles JOIN retry_subjects ON retry_subjects.id = retry_cycles.id WHERE subject = '{subject}';"
        )
        .unwrap();
        self.update(
            subject,
            &format!(
                "attempts = attempts + 1, used = used + 1, lapses = 0, claimed_at = NULL,
                 state = CASE WHEN {ending} <> 0 THEN {ending} WHEN last_start < {now} + {delay} THEN 2 ELSE 0 END,
                 ended_at = CASE WHEN {ending} <> 0 OR last_start < {now} + {delay} THEN {now} END,
                 wake_at = {now} + {delay}"
            ),
        );
    }

    fn defer(&mut self, subject: &str, at: i64, delay: i64) {
        self.update(subject, &format!("claimed_at = NULL, wake_at = {} + {delay}", NOW + at));
    }

    fn cancel(&mut self, subject: &str, at: i64) {
        let now = NOW + at;
        let set =
            format!("claimed_at = NULL, state = 3, wake_at = {now}, ended_at = {now}, epoch = epoch + 1");
        self.update(subject, &set);
    }

    fn update(&mut self, subject: &str, set: &str) {
        writeln!(
            self.text,
            "UPDATE retry_cycles SET {set} WHERE id = (SELECT id FROM retry_subjects WHERE subject = '{subject}');"
        )
        .unwrap();
    }
}

/// What version 1 kept is all there, and goes on.
pub(crate) async fn check(scheduler: &impl RetryScheduler, clock: &ManualClock) {
    read(scheduler).await;
    claimable(scheduler, clock).await;
}

/// Every cycle says what it said, with its attempts.
async fn read(scheduler: &impl RetryScheduler) {
    let idle = |due| State::Pending(Activity::Idle { due: at(NOW + due) });
    let leased = State::Pending(Activity::Leased { until: at(NOW + 25_000) });
    for (subject, state, epoch, attempts, lapses) in [
        ("waiting", idle(60_000), 0, 0, 0),
        ("retried", idle(-50_000), 3, 2, 0),
        ("given back", idle(-1_000), 1, 0, 0),
        ("held", leased, 1, 0, 0),
        ("lost", leased, 2, 0, 1),
    ] {
        let cycle = get(scheduler, subject).await;
        assert_eq!(cycle.state, state, "{subject}");
        assert_eq!((cycle.epoch, cycle.nonce), (epoch, 0), "{subject}");
        assert_eq!((cycle.attempts, cycle.used, cycle.lapses), (attempts, attempts, lapses), "{subject}");
        assert_eq!((cycle.deferrals, cycle.reactivations), (0, 0), "{subject}");
        assert_eq!((&*cycle.tenant, &cycle.plan), ("tenant", &plan(4)), "{subject}");
    }
    for (subject, reason, ended) in [
        ("succeeded", EndReason::Succeeded, -80_000),
        ("used up", EndReason::AttemptsUsedUp, -80_000),
        ("permanent", EndReason::PermanentFailure, -80_000),
        ("cancelled", EndReason::Cancelled, -80_000),
        ("too late", EndReason::TooLate, -100_000),
    ] {
        let cycle = get(scheduler, subject).await;
        let State::Ended { ending, reason: told, at: ended_at, .. } = cycle.state else {
            panic!("{subject}: {cycle:?}")
        };
        assert_eq!((ending, told, ended_at), (reason.ending(), reason, at(NOW + ended)), "{subject}");
        assert_eq!(cycle.plan, plan(if subject == "used up" { 1 } else { 4 }));
    }
    let failed = |number, started, finished, detail| {
        AttemptRecord::new(number, at(NOW + started), at(NOW + finished), Verdict::Failure, detail)
    };
    let attempts = scheduler.attempts(&key("retried"), 0, usize::MAX).await.unwrap();
    assert_eq!(attempts, [failed(1, -90_000, -80_000, "first"), failed(2, -60_000, -55_000, "second")]);
    for (subject, verdict) in
        [("succeeded", Verdict::Success), ("used up", Verdict::Failure), ("permanent", Verdict::Permanent)]
    {
        let attempts = scheduler.attempts(&key(subject), 0, usize::MAX).await.unwrap();
        let expected = AttemptRecord::new(1, at(NOW - 90_000), at(NOW - 80_000), verdict, "the end");
        assert_eq!(attempts, [expected], "{subject}");
    }
}

/// What is due is claimed, and leases that ran at the time of the migration hold and fence as before.
async fn claimable(scheduler: &impl RetryScheduler, clock: &ManualClock) {
    assert_eq!(scheduler.next_wake(&Namespaces::All).await.unwrap(), Some(Duration::ZERO));
    assert_eq!(claim(scheduler).await, [("given back".into(), 1, 2, 0), ("retried".into(), 3, 4, 0)]);

    // Their workers go on with the claims that version 1 gave them: without a nonce.
    let [held, lost] = [get(scheduler, "held").await, get(scheduler, "lost").await]
        .map(|cycle| Claimed::new(cycle, PAYLOAD, at(NOW - 5_000)));
    assert_eq!(scheduler.extend(&held, Duration::from_secs(30)).await.unwrap(), Fenced::Held);
    let finished = scheduler.finish(&held, Report::success().detail("in time")).await.unwrap();
    assert!(matches!(finished, Finished::Recorded(_)), "{finished:?}");
    let record = AttemptRecord::new(1, at(NOW - 5_000), clock.now(), Verdict::Success, "in time");
    assert_eq!(scheduler.attempts(&key("held"), 0, usize::MAX).await.unwrap(), [record]);

    clock.advance(Duration::from_millis(24_999));
    assert_eq!(claim(scheduler).await, [], "a lease of version 1 holds");
    clock.advance(Duration::from_millis(1));
    assert_eq!(claim(scheduler).await, [("lost".into(), 1, 3, 2)]);
    let finished = scheduler.finish(&lost, Report::success()).await.unwrap();
    assert_eq!(finished, Finished::Stale, "a claim of version 1 that was taken over");
    assert_eq!(scheduler.extend(&lost, LONG).await.unwrap(), Fenced::Stale);
    assert_eq!(scheduler.attempts(&key("lost"), 0, usize::MAX).await.unwrap(), []);

    clock.advance(Duration::from_secs(35));
    assert_eq!(claim(scheduler).await, [("waiting".into(), 1, 1, 0)]);

    let again = NewCycle::new(key("succeeded"), plan(4));
    assert!(matches!(scheduler.schedule(again.clone()).await.unwrap(), Scheduled::Exists(_)));
    assert_eq!(scheduler.purge_ended(Duration::ZERO, 100).await.unwrap(), 6);
    assert!(matches!(scheduler.schedule(again).await.unwrap(), Scheduled::New(_)));
}

/// Claims all there is. Subject, number of the attempt, epoch and lapses of each.
async fn claim(scheduler: &impl RetryScheduler) -> Vec<(String, u32, u64, u32)> {
    let claims = scheduler.claim_due(ClaimDue::new(10, LONG)).await.unwrap();
    assert!(claims.unreadable.is_empty(), "{:?}", claims.unreadable);
    let mut all: Vec<_> = claims
        .iter()
        .map(|claim| {
            assert_eq!(&claim.payload[..], PAYLOAD);
            assert_ne!(claim.cycle.nonce, 0);
            let Cycle { key, epoch, lapses, .. } = &claim.cycle;
            (key.subject.clone(), claim.attempt(), *epoch, *lapses)
        })
        .collect();
    all.sort();
    all
}

fn key(subject: &str) -> CycleKey {
    CycleKey::new(if matches!(subject, "held" | "lost") { "b" } else { "a" }, subject)
}

async fn get(scheduler: &impl RetryScheduler, subject: &str) -> Cycle {
    scheduler.get(&key(subject)).await.unwrap().unwrap()
}

/// Version 1 knew no jitter, and no bound on deferrals.
fn plan(max_attempts: u32) -> Plan {
    let delays = [Duration::from_secs(1), Duration::from_secs(5)];
    Plan::delays(delays, max_attempts).unwrap().deadline(at(LAST_START)).max_deferrals(u32::MAX)
}
