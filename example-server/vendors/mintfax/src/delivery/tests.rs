//! Tests of what an attempt writes, on both databases.

use private_postgres::shared_database;
use retry_scheduler::{ClaimDue, Claimed};
use tokio_util::sync::CancellationToken;

use super::*;
use crate::config::tests::config;
use crate::fax::tests::fax;
use crate::send_failure;
use crate::store::balances::Balance;
use crate::uploads::Uploads;
use platform::db::Database;
use platform::testing;

struct Setup {
    api: Arc<Api>,
    id: FaxId,
}

const OPENING: u64 = 100;

impl Setup {
    /// Inserts an accepted fax of this environment.
    async fn of(database: &str, environment: Environment) -> Self {
        let database = Database::open(database).await.unwrap();
        let mut config = config();
        config.carrier_url = Some("http://127.0.0.1:1/".parse().unwrap());
        let api = Api::new(&testing::platform(&database), config, Uploads::temporary()).unwrap();
        let mut fax = fax(3);
        fax.owner.environment = environment;
        let mut transaction = api.database.begin().await.unwrap();
        faxes::insert(transaction.connection(), &fax).await.unwrap();
        schedule(&api, transaction.connection(), &fax).await.unwrap();
        balances::hold(transaction.connection(), &fax.owner, fax.held_cents, OPENING).await.unwrap();
        transaction.commit().await.unwrap();
        Self { api: Arc::new(api), id: fax.id }
    }

    async fn on_both(environment: Environment) -> [Self; 2] {
        [Self::of("sqlite::memory:", environment).await, Self::of(&shared_database(), environment).await]
    }

    async fn claim(&self) -> Claimed {
        let due = ClaimDue::new(1, Duration::from_secs(30));
        self.api
            .cycles
            .scheduler(Handlers::default().endings())
            .claim_due(due)
            .await
            .unwrap()
            .pop()
            .expect("it is due")
    }

    fn attempt(claimed: &Claimed) -> Attempt {
        Attempt::new(claimed.clone(), CancellationToken::new())
    }

    fn handler(&self) -> DeliveryHandler {
        DeliveryHandler(Arc::clone(&self.api))
    }

    async fn fax(&self) -> Fax {
        let mut transaction = self.api.database.begin().await.unwrap();
        faxes::lock(transaction.connection(), &self.id).await.unwrap().unwrap()
    }

    async fn balance(&self, fax: &Fax) -> Balance {
        let mut reader = self.api.database.read().await.unwrap();
        balances::load(reader.connection(), &fax.owner).await.unwrap().unwrap()
    }
}

/// An attempt whose claim was taken over may find that the fax was delivered, after another attempt
/// has recorded a failure.
#[tokio::test]
async fn the_outcome_of_an_overtaken_attempt_is_not_written() {
    for setup in Setup::on_both(Environment::Test).await {
        let claimed = setup.claim().await;
        let attempt = Setup::attempt(&claimed);
        setup.handler().begin(&attempt).await.unwrap();
        setup.handler().record(&attempt, &setup.id, Sent::Failed(send_failure::BUSY)).await.unwrap();
        let before = setup.fax().await;
        assert_eq!((before.attempts, before.status.is_final()), (1, false));
        setup.handler().record(&attempt, &setup.id, Sent::Delivered { pages: 1 }).await.unwrap();
        assert_eq!(setup.fax().await, before);
        assert_eq!(setup.balance(&before).await, Balance { available: 90, held: 10 });
    }
}

/// The document may be on a disk that is temporarily unavailable, so each attempt looks for it. The
/// last one fails the fax.
#[tokio::test]
async fn a_fax_whose_document_is_gone_fails_after_its_retries_and_its_money_is_given_back() {
    for setup in Setup::on_both(Environment::Live).await {
        let claimed = setup.claim().await;
        for attempts in 1..=4 {
            let attempt = Setup::attempt(&claimed);
            let sent = setup.api.carrier(Environment::Live).unwrap();
            let fax = setup.handler().begin(&attempt).await.unwrap().unwrap();
            let path = setup.api.uploads.path(&fax.id);
            let job = Job { key: fax.carrier_key(), document: &path, fax: &fax };
            let sent = sent.send(&job).await;
            let Sent::Failed(error) = &sent else { panic!("{sent:?}") };
            assert_eq!((&*error.code, error.retry_after), ("document_unavailable", Some(DEFERRAL)));
            let mut fax = setup.fax().await;
            let verdict = apply(&mut fax, sent, 10, clock::timestamp());
            let last = attempts == 4;
            assert_eq!((fax.attempts, fax.verdicts, verdict == Verdict::Permanent), (attempts, 0, last));
            let mut transaction = setup.api.database.begin().await.unwrap();
            faxes::update(transaction.connection(), &fax).await.unwrap();
            settle(&mut transaction, &fax).await.unwrap();
            transaction.commit().await.unwrap();
        }
        let fax = setup.fax().await;
        assert_eq!((fax.status, fax.error_code.as_deref()), (Status::Failed, Some("document_unavailable")));
        assert_eq!(setup.balance(&fax).await, Balance { available: 100, held: 0 });
    }
}

/// A cycle can also end without an attempt: deferred too often, or cancelled by an operator.
#[tokio::test]
async fn a_fax_whose_cycle_ends_without_an_outcome_fails_and_its_money_is_given_back() {
    for setup in Setup::on_both(Environment::Live).await {
        let cycle = setup.claim().await.cycle.clone();
        let mut transaction = setup.api.database.begin().await.unwrap();
        let reason = EndReason::DeferredTooOften;
        setup.handler().ended(transaction.connection(), &cycle, reason).await.unwrap();
        transaction.commit().await.unwrap();
        let fax = setup.fax().await;
        assert_eq!((fax.status, fax.error_code.as_deref()), (Status::Failed, Some("carrier_unavailable")));
        assert_eq!(setup.balance(&fax).await, Balance { available: 100, held: 0 });
    }
    for setup in Setup::on_both(Environment::Test).await {
        let cycle = setup.claim().await.cycle.clone();
        let mut handlers = Handlers::default();
        register_handlers(&setup.api, &mut handlers);
        let scheduler = setup.api.cycles.scheduler(handlers.endings());
        scheduler.cancel(&cycle.key).await.unwrap();
        let fax = setup.fax().await;
        assert_eq!((fax.status, fax.error_code.as_deref()), (Status::Failed, Some("cancelled")));
        assert_eq!(setup.balance(&fax).await, Balance { available: 100, held: 0 });
    }
}

#[tokio::test]
async fn the_retry_after_of_a_carrier_is_obeyed() {
    for setup in Setup::on_both(Environment::Live).await {
        let claimed = setup.claim().await;
        let attempt = Setup::attempt(&claimed);
        setup.handler().begin(&attempt).await.unwrap();
        let error = send_failure::CARRIER_ERROR.retry_after(Some(Duration::from_mins(15)));
        setup.handler().record(&attempt, &setup.id, Sent::Failed(error)).await.unwrap();
        let cycle = setup.api.cycles.scheduler(Handlers::default().endings());
        let cycle = cycle.get(&claimed.cycle.key).await.unwrap().unwrap();
        let State::Pending(Activity::Idle { due }) = cycle.state else { panic!("{cycle:?}") };
        let wait = Timestamp::try_from(due).unwrap().duration_since(clock::timestamp()).as_secs();
        assert!((850..=900).contains(&wait), "{wait}");
    }
}

#[tokio::test]
async fn a_fax_that_has_ended_is_not_attempted() {
    for setup in Setup::on_both(Environment::Test).await {
        let claimed = setup.claim().await;
        let mut ended = setup.fax().await;
        ended.deliver(1, clock::timestamp());
        let mut transaction = setup.api.database.begin().await.unwrap();
        faxes::update(transaction.connection(), &ended).await.unwrap();
        transaction.commit().await.unwrap();
        let before = setup.fax().await;
        let done = setup.handler().make(&Setup::attempt(&claimed)).await.unwrap();
        assert!(matches!(done, Done::Report(Report { verdict: Verdict::Permanent, .. })), "{done:?}");
        assert_eq!(setup.fax().await, before);
    }
}
