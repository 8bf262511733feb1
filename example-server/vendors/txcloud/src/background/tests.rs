//! Tests of background verifications, on both databases.

use std::sync::atomic::{AtomicBool, Ordering};

use jiff::SignedDuration;
use private_postgres::shared_database;
use retry_scheduler::{ClaimDue, Claimed, Handler as _, Verdict};
use tokio_util::sync::CancellationToken;

use super::*;
use crate::engines::identity::{
    Case, DocumentType, Engine, Evidence, Findings, IdentityCheck, Images, VerificationStatus,
};
use crate::engines::{EngineError, Engines};
use crate::free_form::FreeForm;
use crate::ids;
use crate::sandbox::Sandbox;
use platform::api_key::Environment;
use platform::db::Database;
use platform::testing;
use platform::worker;

/// The sandbox, which can be made to fail.
#[derive(Debug, Default)]
struct Fragile {
    broken: AtomicBool,
}

#[async_trait]
impl Engine for Fragile {
    async fn receive(&self, environment: Environment, images: &Images) -> Result<Evidence, EngineError> {
        Sandbox.receive(environment, images).await
    }

    async fn judge(&self, environment: Environment, case: &Case) -> Result<Findings, EngineError> {
        if self.broken.load(Ordering::SeqCst) {
            return Err(EngineError("out of order".into()));
        }
        Sandbox.judge(environment, case).await
    }
}

struct Setup {
    api: Arc<Api>,
    engine: Arc<Fragile>,
}

impl Setup {
    async fn on_both() -> [Self; 2] {
        [Self::on("sqlite::memory:").await, Self::on(&shared_database()).await]
    }

    async fn on(url: &str) -> Self {
        let database = Database::open(url).await.unwrap();
        let engine = Arc::new(Fragile::default());
        let config = testing::config(&[crate::config::DEFAULTS], "").unwrap().section("txcloud").unwrap();
        let engines = Engines { identity: engine.clone(), ..Engines::sandbox() };
        let api = Api::new(&testing::platform(&database), engines, &config).unwrap();
        Self { api: Arc::new(api), engine }
    }

    /// Inserts a pending verification that was accepted this long ago.
    async fn accepted(&self, ago: SignedDuration) -> String {
        let created_at = clock::timestamp() - ago;
        let verification = Verification {
            id: ids::new(Verification::PREFIX),
            account: "acme".into(),
            environment: Environment::Test,
            document_type: DocumentType::Passport,
            country: "MA".parse().unwrap(),
            checks: vec![IdentityCheck::Fraud],
            evidence: Evidence { document: "d".into(), reference: "TAMPERED".into() },
            metadata: FreeForm::default(),
            outcome: Outcome::Pending,
            created_at,
            updated_at: created_at,
        };
        let mut transaction = self.api.database.begin().await.unwrap();
        verifications::insert(transaction.connection(), &verification).await.unwrap();
        self.api.cycles.schedule_in(transaction.connection(), cycle(&verification, None)).await.unwrap();
        transaction.commit().await.unwrap();
        verification.id
    }

    async fn claim(&self) -> Claimed {
        self.claim_for(Duration::from_secs(30)).await.expect("it is due")
    }

    async fn claim_for(&self, lease: Duration) -> Option<Claimed> {
        let due = ClaimDue::new(1, lease);
        self.api.cycles.scheduler(Handlers::default().endings()).claim_due(due).await.unwrap().pop()
    }

    async fn attempt(&self, claimed: Claimed) -> Done {
        let mut handlers = Handlers::default();
        register_handlers(&self.api, &mut handlers);
        handlers.attempt(Attempt::new(claimed, CancellationToken::new())).await
    }

    async fn status(&self, id: &str) -> VerificationStatus {
        let mut reader = self.api.database.read().await.unwrap();
        verifications::load_any(reader.connection(), id).await.unwrap().unwrap().status()
    }

    async fn is_over(&self, id: &str) -> bool {
        let cycle = self
            .api
            .cycles
            .scheduler(Handlers::default().endings())
            .get(&CycleKey::new(NAMESPACE, id))
            .await
            .unwrap()
            .unwrap();
        matches!(cycle.state, retry_scheduler::State::Ended { .. })
    }
}

#[tokio::test]
async fn an_accepted_verification_is_judged_and_its_cycle_ends() {
    for setup in Setup::on_both().await {
        let id = setup.accepted(SignedDuration::ZERO).await;
        assert_eq!(setup.status(&id).await, VerificationStatus::Pending);
        let done = setup.attempt(setup.claim().await).await;
        assert!(matches!(done, Done::AlreadyRecorded), "{done:?}");
        assert_eq!(setup.status(&id).await, VerificationStatus::Failed, "tampered with");
        assert!(setup.is_over(&id).await);
    }
}

#[tokio::test]
async fn a_failing_engine_is_retried_for_an_hour() {
    for setup in Setup::on_both().await {
        setup.engine.broken.store(true, Ordering::SeqCst);
        let id = setup.accepted(SignedDuration::from_mins(59)).await;
        let done = setup.attempt(setup.claim().await).await;
        assert!(matches!(done, Done::Deferred { retry_in: worker::AGAIN }), "{done:?}");
        assert_eq!((setup.status(&id).await, setup.is_over(&id).await), (VerificationStatus::Pending, false));

        let late = setup.accepted(SignedDuration::from_mins(61)).await;
        let done = setup.attempt(setup.claim().await).await;
        assert!(matches!(done, Done::AlreadyRecorded), "{done:?}");
        assert_eq!(
            (setup.status(&late).await, setup.is_over(&late).await),
            (VerificationStatus::Failed, true)
        );
    }
}

#[tokio::test]
async fn a_worker_that_lost_its_claim_writes_nothing() {
    for setup in Setup::on_both().await {
        let id = setup.accepted(SignedDuration::from_mins(2)).await;
        let lost = setup.claim_for(Duration::from_millis(1)).await.expect("it is due");
        let claimed = loop {
            if let Some(claimed) = setup.claim_for(Duration::from_secs(30)).await {
                break claimed;
            }
        };
        setup.attempt(lost).await;
        assert_eq!((setup.status(&id).await, setup.is_over(&id).await), (VerificationStatus::Pending, false));
        setup.attempt(claimed).await;
        assert_eq!((setup.status(&id).await, setup.is_over(&id).await), (VerificationStatus::Failed, true));
        let mut reader = setup.api.database.read().await.unwrap();
        let judged = verifications::load_any(reader.connection(), &id).await.unwrap().unwrap();
        assert!(judged.updated_at.duration_since(judged.created_at) >= SignedDuration::from_mins(2));
    }
}

#[tokio::test]
async fn a_judged_verification_is_not_judged_again() {
    for setup in Setup::on_both().await {
        let id = setup.accepted(SignedDuration::ZERO).await;
        let claimed = setup.claim().await;
        setup.attempt(claimed.clone()).await;
        // This worker has lost its lease and does not know it.
        setup.engine.broken.store(true, Ordering::SeqCst);
        let done = setup.attempt(claimed).await;
        assert!(matches!(done, Done::Report(Report { verdict: Verdict::Permanent, .. })), "{done:?}");
        assert_eq!(setup.status(&id).await, VerificationStatus::Failed);
    }
}
