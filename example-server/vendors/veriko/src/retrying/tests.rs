//! Attempts and concurrent changes of their cycles, on both databases.

use std::collections::VecDeque;
use std::future::pending;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

use account_retry_policy::{Defaults, Plan, RetryPolicyInput};
use private_postgres::shared_database;
use retry_scheduler::{
    ClaimDue, Claimed, Handler as _, ManualClock, Namespaces, RetryScheduler, SchedulerErrorKind,
};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::*;
use crate::cep::{Answer as CepAnswer, CepVerdict as Answer, Payment, Provider};
use crate::config::tests::load;
use crate::payment::restore;
use crate::retries::{cancel_cycle, enable};
use crate::validation::{Ending, KeptCep, Kind};
use crate::{Caps, Outcome, RetryPolicy};
use platform::cycles::Cycles;
use platform::db::Database;
use platform::testing;
use platform::webhooks::store::{deliveries, endpoints};
use platform::webhooks::{Endpoint, EndpointStatus};
use platform::worker;

const INTERVAL: Duration = Duration::from_mins(10);
pub(crate) const LEASE: Duration = Duration::from_secs(30);

/// A provider that returns the given answers and then does not answer any more.
#[derive(Debug, Default)]
pub(crate) struct Scripted {
    answers: Mutex<VecDeque<Answer>>,
    panics: AtomicBool,
    pub(crate) asked: Mutex<Vec<u32>>,
    begun: Notify,
}

#[async_trait]
impl Provider for Scripted {
    async fn ask(&self, _: &Payment, asked: u32) -> CepAnswer {
        let answer = {
            self.asked.lock().unwrap_or_else(PoisonError::into_inner).push(asked);
            self.answers.lock().unwrap_or_else(PoisonError::into_inner).pop_front()
        };
        self.begun.notify_one();
        assert!(!self.panics.load(Ordering::Relaxed), "the test made the provider panic");
        match answer {
            Some(answer) => answer.into(),
            None => pending().await,
        }
    }
}

/// A database with a scheduler whose clock the test controls.
pub(crate) struct Setup {
    pub(crate) api: Arc<Api>,
    pub(crate) clock: ManualClock,
    pub(crate) provider: Arc<Scripted>,
    handlers: Arc<Handlers>,
    /// The worker's scheduler.
    pub(crate) scheduler: Arc<dyn RetryScheduler>,
}

impl Setup {
    async fn on(url: &str) -> Self {
        let database = Database::open(url).await.unwrap();
        let clock = ManualClock::new(clock::timestamp().into());
        let cycles = match Cycles::of(&database) {
            Cycles::Sqlite(scheduler) => Cycles::Sqlite(scheduler.with_clock(clock.clone())),
            Cycles::Postgres(scheduler) => Cycles::Postgres(scheduler.with_clock(clock.clone())),
        };
        let provider = Arc::new(Scripted::default());
        let platform = testing::platform(&database);
        let webhooks = Arc::new(testing::webhooks(&platform));
        let mut api = Api::new(&platform, &load("").unwrap(), webhooks).unwrap();
        (api.cycles, api.provider) = (cycles, Arc::clone(&provider) as _);
        let (api, mut handlers) = (Arc::new(api), Handlers::default());
        register_handlers(&api, &mut handlers);
        crate::queue::register_handlers(&api, &mut handlers);
        let scheduler = api.cycles.scheduler(handlers.endings());
        Self { api, clock, provider, handlers: Arc::new(handlers), scheduler }
    }

    pub(crate) async fn on_both() -> [Self; 2] {
        [Self::on("sqlite::memory:").await, Self::on(&shared_database()).await]
    }

    pub(crate) fn will_answer(&self, answers: impl IntoIterator<Item = Answer>) {
        *self.provider.answers.lock().unwrap() = answers.into_iter().collect();
    }

    /// Stores a validation with the status `not_found` and a cycle.
    pub(crate) async fn validation(&self, max_retries: u32, outcomes: &[&str], caps: &Caps) -> Uuid {
        let id = Uuid::now_v7();
        let now = clock::timestamp();
        let policy = policy(max_retries, outcomes);
        let mut transaction = self.api.database.begin().await.unwrap();
        let mut validation = Validation {
            id,
            account: "acme".into(),
            kind: Kind::Direct,
            payment: restore(r#"{"fecha":"2025-03-15","monto":1,"clave_rastreo":"MX1"}"#).unwrap(),
            status: Status::NotFound,
            banxico_status: Answer::NotFound.banxico_status(),
            processing_time_ms: Some(1),
            created_at: now,
            completed_at: Some(now),
            client_ref: None,
            error_code: None,
            error_message: None,
            cep: KeptCep::None,
            etag_version: 1,
            retry_state: RetryState::None,
            queue: None,
            ocr: None,
            image: None,
        };
        let terms = Terms::of(caps);
        validation.retry_state =
            verdict::begin(&self.api, transaction.connection(), &validation, &policy, terms).await.unwrap();
        validations::insert(transaction.connection(), &validation).await.unwrap();
        transaction.commit().await.unwrap();
        validation.id
    }

    pub(crate) async fn load(&self, id: Uuid) -> Validation {
        let mut reader = self.api.database.read().await.unwrap();
        validations::load(reader.connection(), Some("acme"), id).await.unwrap().unwrap()
    }

    async fn history(&self, id: Uuid) -> Vec<Attempt> {
        let mut reader = self.api.database.read().await.unwrap();
        attempts::of(reader.connection(), id).await.unwrap()
    }

    /// Claims the next due cycle, if any, except those of deliveries.
    pub(crate) async fn claim(&self) -> Option<Claimed> {
        let due = ClaimDue::new(1, LEASE).namespaces(Namespaces::except(["webhook"]));
        self.scheduler.claim_due(due).await.unwrap().pop()
    }

    async fn claim_next(&self) -> Claimed {
        self.clock.advance(INTERVAL);
        self.claim().await.expect("it is due")
    }

    pub(crate) fn attempt(&self, claimed: Claimed) -> impl Future<Output = Done> + Send + 'static {
        let handler = Arc::clone(&self.handlers);
        async move { handler.attempt(retry_scheduler::Attempt::new(claimed, CancellationToken::new())).await }
    }

    async fn cancel(&self, id: Uuid) -> bool {
        let mut transaction = self.api.database.begin().await.unwrap();
        let mut validation = validations::lock(transaction.connection(), None, id).await.unwrap().unwrap();
        let cancelled = cancel_cycle(&self.api, transaction.connection(), &mut validation).await.unwrap();
        transaction.commit().await.unwrap();
        cancelled
    }

    async fn change(&self, id: Uuid, policy: &RetryPolicy) -> bool {
        let mut transaction = self.api.database.begin().await.unwrap();
        let mut validation = validations::lock(transaction.connection(), None, id).await.unwrap().unwrap();
        let changed = enable(&self.api, transaction.connection(), &mut validation, policy, &caps()).await;
        if let Err(failure) = changed {
            assert_eq!(failure.status, 422, "{failure:?}");
            return false;
        }
        transaction.commit().await.unwrap();
        true
    }

    /// Creates an endpoint that subscribes to all retry events.
    async fn subscribe(&self) {
        let id = Uuid::now_v7();
        let now = clock::timestamp();
        let endpoint = Endpoint {
            id,
            account: "acme".into(),
            url: "http://127.0.0.1:9/".into(),
            events: ["scheduled", "resolved", "exhausted"].map(|of| format!("validation.retry.{of}")).into(),
            description: None,
            status: EndpointStatus::Active,
            secret: self.api.webhooks.seal(&id.to_string(), "secret").unwrap(),
            secret_hint: String::new(),
            consecutive_failures: 0,
            last_delivery_at: None,
            created_at: now,
            updated_at: now,
        };
        let mut transaction = self.api.database.begin().await.unwrap();
        assert!(endpoints::insert(transaction.connection(), &endpoint, 1).await.unwrap());
        transaction.commit().await.unwrap();
    }

    /// Returns the events sent about this validation, in order.
    async fn sent_events(&self, id: Uuid) -> Vec<String> {
        let mut reader = self.api.database.read().await.unwrap();
        let of = deliveries::Wanted { subject: Some(id.to_string()), ..Default::default() };
        let (page, _) = deliveries::page(reader.connection(), "acme", &of, (100, 0)).await.unwrap();
        page.into_iter().rev().map(|delivery| delivery.event).collect()
    }

    /// Asserts that the validation matches its cycle and that its history is complete.
    async fn assert_consistent(&self, id: Uuid) {
        let shown = self.load(id).await;
        let cycle = self.scheduler.get(&cycles::key(id)).await.unwrap().unwrap();
        let policy = shown.retry_state.policy().unwrap();
        assert_eq!(shown.retry_state, cycles::state(&cycle, policy, &shown.retry_state));
        let plan = retry_scheduler::Plan::of_policy(policy).unwrap();
        assert_eq!(cycle.plan.max_attempts(), plan.max_attempts(), "the policy of the cycle");
        // Deferrals do not use up attempts. Only the deadline limits them.
        assert_eq!(cycle.plan.deferral_limit(), u32::MAX);
        assert!(cycle.plan.last_start().is_some());
        let numbers: Vec<_> = self.history(id).await.iter().map(|attempt| attempt.number).collect();
        assert_eq!(numbers, (1..=cycle.attempts).collect::<Vec<_>>());
    }
}

fn defaults() -> Defaults<Outcome> {
    Defaults::new([Outcome::NotFound, Outcome::CepUnavailable, Outcome::Error]).max_reactivations(1000)
}

pub(crate) fn caps() -> Caps {
    Caps::merge(&defaults(), &Plan::new()).unwrap()
}

pub(crate) fn policy(max_retries: u32, outcomes: &[&str]) -> RetryPolicy {
    let seconds = u32::try_from(INTERVAL.as_secs()).unwrap();
    let asked = RetryPolicyInput::new().enabled(true).max_retries(max_retries).interval_seconds(seconds);
    asked.outcomes(outcomes).restore().unwrap()
}

#[tokio::test]
async fn a_verdict_updates_the_validation_and_its_cycle_together() {
    for setup in Setup::on_both().await {
        for (answer, outcomes, status, ending, code) in [
            (Answer::Valid, "not_found", Status::Valid, Some(Ending::Resolved), None),
            (Answer::NotFound, "not_found", Status::NotFound, None, None),
            (Answer::CepUnavailable, "cep_unavailable", Status::CepUnavailable, None, None),
            (Answer::Error, "error", Status::Error, None, Some("network")),
            // Counts as `cep_unavailable` for a retry.
            (
                Answer::RateLimited,
                "cep_unavailable",
                Status::CepUnavailable,
                None,
                Some("rate_limit_exhausted"),
            ),
            // Final, and not an outcome of the policy.
            (Answer::Returned, "not_found", Status::Returned, Some(Ending::Exhausted), None),
            (Answer::NotFound, "error", Status::NotFound, Some(Ending::Exhausted), None),
            (Answer::Error, "not_found", Status::Error, Some(Ending::Exhausted), Some("network")),
        ] {
            let id = setup.validation(3, &[outcomes], &caps()).await;
            setup.will_answer([answer]);
            assert!(matches!(setup.attempt(setup.claim_next().await).await, Done::AlreadyRecorded));

            let shown = setup.load(id).await;
            assert_eq!((shown.status, shown.etag_version), (status, 2), "{answer:?}");
            assert_eq!((shown.error_code.as_deref(), shown.error_message.is_some()), (code, code.is_some()));
            match (&shown.retry_state, ending) {
                (RetryState::Active { attempts_completed: 1, .. }, None) => {}
                (RetryState::Ended { attempts_completed: 1, ending, .. }, Some(expected))
                    if *ending == expected => {}
                (state, _) => panic!("{answer:?} {outcomes}: {state:?}"),
            }
            setup.assert_consistent(id).await;
            let [made] = &setup.history(id).await[..] else { panic!("one attempt") };
            assert_eq!((made.prev_status, made.new_status), (Status::NotFound, Some(status)));
            assert_eq!(made.error_code.as_deref(), code);
            setup.cancel(id).await;
        }
    }
}

#[tokio::test]
async fn queries_are_counted_across_reactivations() {
    for setup in Setup::on_both().await {
        let id = setup.validation(2, &["not_found"], &caps()).await;
        setup.will_answer([Answer::NotFound; 3]);
        for _ in 0..2 {
            setup.attempt(setup.claim_next().await).await;
        }
        assert!(setup.change(id, &policy(1, &["not_found"])).await, "it is reactivated");
        setup.attempt(setup.claim_next().await).await;
        assert_eq!(*setup.provider.asked.lock().unwrap(), [2, 3, 4]);
        setup.assert_consistent(id).await;
    }
}

#[tokio::test]
async fn a_verdict_that_comes_after_a_cancel_changes_nothing() {
    for setup in Setup::on_both().await {
        let id = setup.validation(3, &["not_found"], &caps()).await;
        let claimed = setup.claim_next().await;
        // The cancel comes between the claim and the transaction of the attempt.
        assert!(setup.cancel(id).await);
        let cancelled = setup.load(id).await;
        assert!(matches!(cancelled.retry_state, RetryState::Ended { ending: Ending::Cancelled, .. }));

        setup.will_answer([Answer::Valid]);
        assert!(matches!(setup.attempt(claimed).await, Done::AlreadyRecorded));
        assert_eq!(setup.load(id).await, cancelled);
        assert_eq!(setup.history(id).await, []);
    }
}

#[tokio::test]
async fn a_verdict_that_comes_after_another_worker_took_over_changes_nothing() {
    for setup in Setup::on_both().await {
        let id = setup.validation(3, &["not_found"], &caps()).await;
        let first = setup.claim_next().await;
        setup.clock.advance(LEASE);
        let second = setup.claim().await.expect("the lease is over");
        let before = setup.load(id).await;

        setup.will_answer([Answer::Valid, Answer::NotFound]);
        setup.attempt(first).await;
        assert_eq!(setup.load(id).await, before);
        setup.attempt(second).await;
        assert_eq!(setup.load(id).await.status, Status::NotFound);
        assert_eq!(setup.history(id).await.len(), 1);
        setup.assert_consistent(id).await;
    }
}

#[tokio::test]
async fn a_verdict_that_comes_after_a_change_of_policy_changes_nothing() {
    for setup in Setup::on_both().await {
        let id = setup.validation(3, &["not_found"], &caps()).await;
        let claimed = setup.claim_next().await;
        assert!(setup.change(id, &policy(2, &["error"])).await);
        let changed = setup.load(id).await;
        setup.will_answer([Answer::Valid]);
        setup.attempt(claimed).await;
        assert_eq!(setup.load(id).await, changed);
        setup.assert_consistent(id).await;
    }
}

#[tokio::test]
async fn a_cancelled_attempt_is_deferred_without_a_delay() {
    let setup = Setup::on("sqlite::memory:").await;
    let id = setup.validation(3, &["not_found"], &caps()).await;
    let before = setup.load(id).await;
    let token = CancellationToken::new();
    let attempt = retry_scheduler::Attempt::new(setup.claim_next().await, token.clone());
    let handler = Arc::clone(&setup.handlers);
    let stop = async {
        setup.provider.begun.notified().await;
        token.cancel();
    };
    let (done, ()) = tokio::join!(handler.attempt(attempt), stop);
    assert!(matches!(done, Done::Deferred { retry_in: Duration::ZERO }), "{done:?}");
    assert_eq!(setup.load(id).await, before);
}

#[tokio::test]
async fn an_attempt_that_cannot_be_recorded_is_repeated() {
    let setup = Setup::on("sqlite::memory:").await;
    setup.validation(3, &["not_found"], &caps()).await;
    let claimed = setup.claim_next().await;
    setup.api.database.close().await;
    let done = setup.attempt(claimed).await;
    assert!(matches!(done, Done::Deferred { retry_in: worker::AGAIN }), "{done:?}");
}

#[tokio::test]
async fn an_attempt_without_an_outcome_shows_in_the_validation_at_once() {
    for setup in Setup::on_both().await {
        setup.subscribe().await;
        let id = setup.validation(3, &["not_found"], &caps()).await;
        setup.will_answer([Answer::NotFound, Answer::NotFound]);
        for number in 1..=3 {
            let mut claimed = setup.claim_next().await;
            if number == 3 {
                for _ in 0..worker::CRASHES {
                    setup.clock.advance(LEASE);
                    claimed = setup.claim().await.expect("the worker that held it crashed");
                }
            }
            setup.provider.panics.store(number == 1, Ordering::Relaxed);
            assert!(matches!(setup.attempt(claimed).await, Done::AlreadyRecorded));
            let shown = setup.load(id).await;
            assert_eq!(shown.etag_version, 1 + number, "one version for each attempt");
            assert_eq!(shown.status, Status::NotFound);
            setup.assert_consistent(id).await;
        }
        let shown = setup.load(id).await;
        assert!(
            matches!(shown.retry_state, RetryState::Ended { ending: Ending::Exhausted, .. }),
            "{shown:?}"
        );
        let history: Vec<_> =
            setup.history(id).await.into_iter().map(|a| (a.new_status, a.error_code)).collect();
        let (internal, found) = ((None, Some("internal".to_owned())), (Some(Status::NotFound), None));
        assert_eq!(history, [internal.clone(), found, internal]);
        assert_eq!(setup.provider.asked.lock().unwrap().len(), 2, "the crashed attempt is not repeated");
        let [first, second, last] = &setup.sent_events(id).await[..] else {
            panic!("one event for each attempt")
        };
        assert_eq!(
            [first, second, last].map(|event| &event["validation.retry.".len()..]),
            ["scheduled", "scheduled", "exhausted"]
        );
    }
}

#[tokio::test]
async fn a_last_attempt_that_the_worker_recorded_alone_also_ends_the_validations_retries() {
    for setup in Setup::on_both().await {
        setup.subscribe().await;
        let id = setup.validation(2, &["not_found"], &caps()).await;
        for number in 1..=2 {
            let claimed = setup.claim_next().await;
            let finished = setup.scheduler.finish(&claimed, Report::crashed()).await.unwrap();
            assert!(matches!(finished, Finished::Recorded(_)), "{finished:?}");
            assert_eq!(setup.load(id).await.etag_version, number, "only the last one ends them");
        }
        setup.assert_consistent(id).await;
        let shown = setup.load(id).await;
        assert!(
            matches!(
                shown.retry_state,
                RetryState::Ended { ending: Ending::Exhausted, attempts_completed: 2, .. }
            ),
            "{shown:?}"
        );
        assert_eq!(setup.sent_events(id).await, ["validation.retry.exhausted"]);
    }
}

#[tokio::test]
async fn a_history_has_no_gap_after_attempts_that_the_worker_recorded_alone() {
    for setup in Setup::on_both().await {
        for what in ["an attempt", "a change", "a cancel"] {
            let id = setup.validation(3, &["not_found"], &caps()).await;
            let _ = setup.scheduler.finish(&setup.claim_next().await, Report::failure()).await.unwrap();
            assert_eq!(setup.load(id).await.etag_version, 1, "the validation lacks the attempt");
            match what {
                "an attempt" => {
                    setup.will_answer([Answer::NotFound]);
                    setup.attempt(setup.claim_next().await).await;
                }
                "a change" => assert!(setup.change(id, &policy(2, &["not_found"])).await),
                _ => assert!(setup.cancel(id).await),
            }
            setup.assert_consistent(id).await;
            setup.cancel(id).await;
        }
    }
}

#[tokio::test]
async fn a_cycle_whose_validation_is_too_old_is_shown_as_exhausted() {
    for setup in Setup::on_both().await {
        setup.subscribe().await;
        let id = setup.validation(3, &["not_found"], &caps()).await;
        setup.clock.advance(Duration::from_hours(8 * 24));
        assert!(setup.claim().await.is_none(), "it is too late for any attempt");
        let shown = setup.load(id).await;
        let RetryState::Ended { ending: Ending::Exhausted, attempts_completed: 0, .. } = shown.retry_state
        else {
            panic!("{shown:?}")
        };
        setup.assert_consistent(id).await;
        assert_eq!(setup.sent_events(id).await, ["validation.retry.exhausted"]);
    }
}

#[tokio::test]
async fn a_cycle_that_an_operator_cancels_is_shown_as_cancelled_without_an_event() {
    for setup in Setup::on_both().await {
        setup.subscribe().await;
        let id = setup.validation(3, &["not_found"], &caps()).await;
        let _ = setup.scheduler.cancel(&cycles::key(id)).await.unwrap();
        let shown = setup.load(id).await;
        assert!(
            matches!(shown.retry_state, RetryState::Ended { ending: Ending::Cancelled, .. }),
            "{shown:?}"
        );
        setup.assert_consistent(id).await;
        assert_eq!(setup.sent_events(id).await, [""; 0]);
    }
}

/// A transaction that has locked the validation may be about to wait for the cycle, so waiting for
/// it could deadlock.
#[tokio::test]
async fn ending_a_cycle_fails_at_once_while_its_validation_is_locked() {
    let setup = Setup::on(&shared_database()).await;
    let id = setup.validation(3, &["not_found"], &caps()).await;
    let mut transaction = setup.api.database.begin().await.unwrap();
    validations::lock(transaction.connection(), None, id).await.unwrap().unwrap();
    let error = setup.scheduler.cancel(&cycles::key(id)).await.unwrap_err();
    assert_eq!(error.kind(), SchedulerErrorKind::HookFailed);
    // The error is not a time-out after waiting.
    let why = std::error::Error::source(&error).unwrap().to_string();
    assert!(why.contains("could not obtain lock"), "{why}");
    drop(transaction);
    setup.assert_consistent(id).await;
    // Retry until the rollback has reached the server.
    while setup.scheduler.cancel(&cycles::key(id)).await.is_err() {}
    setup.assert_consistent(id).await;
}

#[tokio::test]
async fn attempts_beyond_the_daily_allowance_wait_for_the_next_day() {
    for setup in Setup::on_both().await {
        let two_a_day = Caps::merge(&defaults().max_dispatched_per_day_per_user(2), &Plan::new()).unwrap();
        let id = setup.validation(5, &["not_found"], &two_a_day).await;
        setup.will_answer([Answer::NotFound; 3]);
        for _ in 0..2 {
            assert!(matches!(setup.attempt(setup.claim_next().await).await, Done::AlreadyRecorded));
        }
        let claimed = setup.claim_next().await;
        let Done::Deferred { retry_in } = setup.attempt(claimed.clone()).await else {
            panic!("the attempt was made")
        };
        assert!(retry_in <= Duration::from_hours(24) && !retry_in.is_zero(), "{retry_in:?}");
        assert_eq!(setup.provider.asked.lock().unwrap().len(), 2, "there was no third query");

        let shown = setup.load(id).await;
        let end_of_day = usage::end_of_day(clock::timestamp());
        assert!(
            matches!(shown.retry_state, RetryState::Active { attempts_completed: 2, next_attempt_at, .. }
                if next_attempt_at == end_of_day),
            "{shown:?}"
        );
        // Repeated after a crash: there is nothing new to show.
        setup.attempt(claimed.clone()).await;
        assert_eq!(setup.load(id).await, shown);
        // A worker that no longer holds the cycle changes nothing either.
        assert!(setup.cancel(id).await);
        let cancelled = setup.load(id).await;
        setup.attempt(claimed).await;
        assert_eq!(setup.load(id).await, cancelled);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn under_concurrent_changes_the_validation_always_matches_its_cycle() {
    for setup in Setup::on_both().await {
        let setup = Arc::new(setup);
        for round in 0..40 {
            let id = setup.validation(3, &["not_found"], &caps()).await;
            let claimed = setup.claim_next().await;
            setup.will_answer([if round % 2 == 0 { Answer::Valid } else { Answer::NotFound }]);
            let attempt = tokio::spawn(setup.attempt(claimed));
            let mut others = Vec::new();
            for n in 0..4 {
                let setup = Arc::clone(&setup);
                others.push(tokio::spawn(async move {
                    match n {
                        0 => setup.cancel(id).await,
                        // An operator's cancel is refused while another transaction has locked the
                        // validation.
                        1 => setup.scheduler.cancel(&cycles::key(id)).await.is_ok(),
                        _ => setup.change(id, &policy(n + 1, &["not_found"])).await,
                    }
                }));
            }
            let done = attempt.await.unwrap();
            assert!(matches!(done, Done::AlreadyRecorded), "round {round}: {done:?}");
            for other in others {
                other.await.unwrap();
            }
            setup.assert_consistent(id).await;
            setup.cancel(id).await;
        }
    }
}
