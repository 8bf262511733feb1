//! Tests on both databases: stored values are returned unchanged, and only to their owner.

use private_postgres::shared_database;

use super::verifications::{self, Owner};
use super::{documents, of_list, sessions, to_list};
use crate::engines::identity::{DocumentType, Evidence, IdentityCheck};
use crate::free_form::FreeForm;
use crate::ids;
use crate::session::Session;
use crate::verification::{Outcome, Verification};
use platform::api_key::Environment;
use platform::clock;
use platform::db::Database;

const ACME: Owner<'_> = Owner { account: "acme", environment: Environment::Test };

fn verification(owner: Owner<'_>) -> Verification {
    let now = clock::timestamp();
    Verification {
        id: ids::new(Verification::PREFIX),
        account: owner.account.to_owned(),
        environment: owner.environment,
        document_type: DocumentType::Cin,
        country: "MA".parse().unwrap(),
        checks: IdentityCheck::ALL.to_vec(),
        evidence: Evidence { document: "d".into(), reference: "r".into() },
        metadata: FreeForm::read(r#"{"n":1.10,"o":{"a":[null,"ñ"]}}"#).unwrap(),
        outcome: Outcome::Pending,
        created_at: now,
        updated_at: now,
    }
}

async fn databases() -> [Database; 2] {
    [Database::open("sqlite::memory:").await.unwrap(), Database::open(&shared_database()).await.unwrap()]
}

#[tokio::test]
async fn a_verification_is_returned_only_to_its_owner() {
    for database in databases().await {
        let stored = verification(ACME);
        let mut transaction = database.begin().await.unwrap();
        verifications::insert(transaction.connection(), &stored).await.unwrap();
        let mut load =
            async |owner| verifications::load(transaction.connection(), owner, &stored.id).await.unwrap();
        assert_eq!(load(ACME).await, Some(stored.clone()));
        assert_eq!(load(Owner { environment: Environment::Live, ..ACME }).await, None);
        assert_eq!(load(Owner { account: "other", ..ACME }).await, None);
    }
}

#[tokio::test]
async fn a_verification_is_decided_once_and_its_reference_is_deleted() {
    for database in databases().await {
        let mut stored = verification(ACME);
        let mut transaction = database.begin().await.unwrap();
        verifications::insert(transaction.connection(), &stored).await.unwrap();
        stored.outcome = Outcome::GivenUp;
        assert!(verifications::decide(transaction.connection(), &stored).await.unwrap());
        assert!(!verifications::decide(transaction.connection(), &stored).await.unwrap());
        let loaded = verifications::load(transaction.connection(), ACME, &stored.id).await.unwrap().unwrap();
        assert_eq!((loaded.outcome, loaded.evidence.reference.as_str()), (Outcome::GivenUp, ""));
    }
}

#[tokio::test]
async fn a_list_is_paged_from_newest_to_oldest() {
    for database in databases().await {
        let mut transaction = database.begin().await.unwrap();
        let mut ids = Vec::new();
        for owner in [
            ACME,
            Owner { account: "other", ..ACME },
            ACME,
            Owner { environment: Environment::Live, ..ACME },
            ACME,
        ] {
            let stored = verification(owner);
            verifications::insert(transaction.connection(), &stored).await.unwrap();
            if (owner.account, owner.environment) == ("acme", Environment::Test) {
                ids.insert(0, stored.id);
            }
        }
        let mut page = async |after: Option<&str>| -> Vec<String> {
            let page = verifications::list(transaction.connection(), ACME, after, 2).await.unwrap();
            page.into_iter().map(|stored| stored.id).collect()
        };
        assert_eq!(page(None).await, ids[..2]);
        assert_eq!(page(Some(&ids[1])).await, ids[2..]);
        assert_eq!(page(Some(&ids[2])).await, Vec::<String>::new());
        assert_eq!(verifications::count(transaction.connection(), ACME).await.unwrap(), 3);
    }
}

#[tokio::test]
async fn a_document_is_a_duplicate_for_its_owner_only() {
    for database in databases().await {
        let (first, second) = (verification(ACME), verification(ACME));
        let elsewhere = verification(Owner { environment: Environment::Live, ..ACME });
        let mut transaction = database.begin().await.unwrap();
        for (stored, is_first) in [(&first, true), (&second, false), (&elsewhere, true)] {
            let came = documents::is_duplicate(transaction.connection(), stored).await.unwrap();
            let claimed = documents::claim(transaction.connection(), stored).await.unwrap();
            assert_eq!((came, claimed), (!is_first, is_first));
        }
        assert!(!documents::is_duplicate(transaction.connection(), &first).await.unwrap(), "it is itself");
    }
}

#[tokio::test]
async fn a_session_is_returned_only_to_its_owner() {
    for database in databases().await {
        let Verification {
            account, environment, document_type, country, checks, metadata, created_at, ..
        } = verification(ACME);
        let session = Session {
            id: ids::new("sess"),
            account,
            environment,
            document_type,
            country,
            checks,
            metadata,
            created_at,
            expires_at: created_at + std::time::Duration::from_mins(15),
        };
        let mut transaction = database.begin().await.unwrap();
        sessions::insert(transaction.connection(), &session).await.unwrap();
        let mut load =
            async |owner| sessions::load(transaction.connection(), owner, &session.id).await.unwrap();
        assert_eq!(load(ACME).await, Some(session.clone()));
        assert_eq!(load(Owner { environment: Environment::Live, ..ACME }).await, None);
        assert_eq!(load(Owner { account: "other", ..ACME }).await, None);
    }
}

#[test]
fn a_list_of_checks_is_kept_in_its_order() {
    let checks = [IdentityCheck::Fraud, IdentityCheck::Ocr];
    assert_eq!(of_list(&to_list(&checks)).unwrap(), checks);
    assert_eq!(of_list("").unwrap(), []);
    assert!(of_list("ocr,x").is_err());
}
