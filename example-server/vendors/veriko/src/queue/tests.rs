//! Queued validations and their possible ends, on both databases.

use retry_scheduler::Claimed;
use tokio_util::sync::CancellationToken;

use super::*;
use crate::cep::{BanxicoStatus, CepVerdict as Answer};
use crate::cycles;
use crate::payment::restore;
use crate::retrying::tests::{LEASE, Setup, caps, policy};
use crate::validation::Kind;

impl Setup {
    /// Stores a validation that was queued this long ago.
    async fn queued(&self, age: SignedDuration, retry_state: RetryState) -> Uuid {
        let created_at = clock::timestamp() - age;
        let queue =
            validation::Queue { expires_at: created_at + self.api.queue_expiry, processing_started_at: None };
        let validation = Validation {
            id: Uuid::now_v7(),
            account: "acme".into(),
            kind: Kind::Direct,
            payment: restore(r#"{"fecha":"2025-03-15","monto":1,"clave_rastreo":"MX1"}"#).unwrap(),
            status: Status::Queued,
            banxico_status: BanxicoStatus::Pending,
            processing_time_ms: None,
            created_at,
            completed_at: None,
            client_ref: None,
            error_code: None,
            error_message: None,
            cep: validation::KeptCep::None,
            etag_version: 0,
            retry_state,
            queue: Some(queue),
            ocr: None,
            image: None,
        };
        let mut transaction = self.api.database.begin().await.unwrap();
        validations::insert(transaction.connection(), &validation).await.unwrap();
        let new = cycle(&validation, Terms::of(&caps()));
        self.api.cycles.schedule_in(transaction.connection(), new).await.unwrap();
        transaction.commit().await.unwrap();
        validation.id
    }

    async fn process(&self, claimed: Claimed) -> Done {
        self.attempt(claimed).await
    }

    fn query_count(&self) -> usize {
        self.provider.asked.lock().unwrap().len()
    }

    async fn has_ended(&self, id: Uuid) -> bool {
        let cycle = self.scheduler.get(&CycleKey::new(NAMESPACE, id.to_string())).await.unwrap().unwrap();
        matches!(cycle.state, retry_scheduler::State::Ended { .. })
    }

    /// Returns whether the scheduler has a retry cycle for the validation.
    async fn is_retried(&self, id: Uuid) -> bool {
        self.scheduler.get(&cycles::key(id)).await.unwrap().is_some()
    }
}

const JUST_NOW: SignedDuration = SignedDuration::ZERO;

#[tokio::test]
async fn a_verdict_ends_the_queue_cycle_and_starts_the_intended_retries() {
    for setup in Setup::on_both().await {
        for (answer, outcomes, status, retried) in [
            (Answer::Valid, "not_found", Status::Valid, false),
            (Answer::NotFound, "not_found", Status::NotFound, true),
            (Answer::NotFound, "error", Status::NotFound, false),
            (Answer::Error, "error", Status::Error, true),
            (Answer::Returned, "error", Status::Returned, false),
        ] {
            let id = setup.queued(JUST_NOW, RetryState::Intended { policy: policy(3, &[outcomes]) }).await;
            setup.will_answer([answer]);
            assert!(matches!(setup.process(setup.claim().await.unwrap()).await, Done::AlreadyRecorded));
            let shown = setup.load(id).await;
            assert_eq!((shown.status, shown.banxico_status), (status, answer.banxico_status()));
            assert!(shown.completed_at.is_some() && shown.processing_time_ms.is_some());
            assert!(shown.queue.unwrap().processing_started_at.is_some());
            assert_eq!(shown.etag_version, 2, "processing, then the verdict");
            assert_eq!(
                matches!(shown.retry_state, RetryState::Active { .. }),
                retried,
                "{answer:?} {outcomes}"
            );
            assert_eq!(setup.is_retried(id).await, retried, "{answer:?} {outcomes}");
            assert!(setup.has_ended(id).await);
            // Otherwise the next claim would get a retry.
            setup.clock.advance(Duration::from_millis(1));
        }
    }
}

#[tokio::test]
async fn of_two_concurrent_attempts_only_one_is_recorded() {
    for setup in Setup::on_both().await {
        let id = setup.queued(JUST_NOW, RetryState::Intended { policy: policy(3, &["not_found"]) }).await;
        setup.will_answer([Answer::Valid, Answer::NotFound]);
        let late = setup.claim().await.unwrap();
        setup.clock.advance(LEASE + Duration::from_secs(1));
        let next = setup.claim().await.unwrap();
        assert!(matches!(setup.process(next).await, Done::AlreadyRecorded));
        let before = setup.load(id).await;
        assert_eq!(before.status, Status::Valid);

        assert!(!matches!(setup.process(late).await, Done::Deferred { .. }));
        assert_eq!(setup.load(id).await, before);
        assert!(!setup.is_retried(id).await);
    }
}

#[tokio::test]
async fn a_second_verdict_is_not_recorded() {
    for setup in Setup::on_both().await {
        let id = setup.queued(JUST_NOW, RetryState::None).await;
        let late = setup.claim().await.unwrap();
        let attempt = Attempt::new(late, CancellationToken::new());
        setup.clock.advance(LEASE + Duration::from_secs(1));
        setup.will_answer([Answer::Valid]);
        setup.process(setup.claim().await.unwrap()).await;
        let before = setup.load(id).await;
        let write = |validation: &mut Validation| validation.status = Status::NotFound;
        QueueHandler(Arc::clone(&setup.api)).record(&attempt, id, write).await.unwrap();
        assert_eq!(setup.load(id).await, before);
    }
}

#[tokio::test]
async fn a_validation_that_is_claimed_too_late_expires_without_a_query() {
    for setup in Setup::on_both().await {
        let intended = RetryState::Intended { policy: policy(3, &["error"]) };
        for (retry_state, retried) in [(RetryState::None, false), (intended, true)] {
            let id = setup.queued(SignedDuration::from_hours(1), retry_state).await;
            assert!(matches!(setup.process(setup.claim().await.unwrap()).await, Done::AlreadyRecorded));
            let shown = setup.load(id).await;
            assert_eq!((shown.status, shown.banxico_status), (Status::Error, BanxicoStatus::Pending));
            assert_eq!(shown.error_code.as_deref(), Some("ttl_expired"));
            assert!(shown.completed_at.is_some() && shown.error_message.is_some());
            assert_eq!(setup.is_retried(id).await, retried);
            assert!(setup.has_ended(id).await);
        }
        assert_eq!(setup.query_count(), 0);
    }
}

#[tokio::test]
async fn a_validation_that_banxico_refuses_is_queried_again() {
    for setup in Setup::on_both().await {
        let id = setup.queued(SignedDuration::from_mins(2), RetryState::None).await;
        setup.will_answer([Answer::RateLimited, Answer::RateLimited, Answer::Valid]);
        let claimed = setup.claim().await.unwrap();
        for _ in 0..2 {
            let Done::Unavailable { retry_in } = setup.process(claimed.clone()).await else {
                panic!("no pause")
            };
            assert!((60..=61).contains(&retry_in.as_secs()), "half the time that it waited: {retry_in:?}");
            let shown = setup.load(id).await;
            assert_eq!((shown.status, shown.etag_version), (Status::Processing, 1));
        }
        assert!(matches!(setup.process(claimed).await, Done::AlreadyRecorded));
        assert_eq!(setup.load(id).await.status, Status::Valid);
    }
}

#[test]
fn the_pause_grows_with_the_wait_and_ends_at_the_expiry() {
    for (waited, left, expected) in [
        (0, 3600, 5),
        (8, 3592, 5),
        (20, 3580, 10),
        (200, 3400, 100),
        (1000, 2600, 120),
        (3590, 10, 10),
        (1, 2, 2),
    ] {
        let seconds = SignedDuration::from_secs;
        assert_eq!(pause(seconds(waited), seconds(left)), Duration::from_secs(expected), "{waited} {left}");
    }
}
