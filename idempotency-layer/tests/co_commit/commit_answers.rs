//! Errors at COMMIT: from the server, from a pooler that lost the server, or a lost connection.

use std::time::Duration;

use idempotency_layer::{IdempotencyLayer, PostgresStore, RejectionKind};
use sqlx::{PgPool, Postgres};

use crate::database::Bench;
use crate::proxy::{ErrorMessage, Loss, Passes, Proxy, behind_proxy, claims_behind_proxy};
use crate::rig::{self, Count, Service, post, post_without_key, send};

/// Errors that do not exclude that the COMMIT took effect, or will.
const UNCERTAIN: [(&str, &str); 12] = [
    ("FATAL", "08P01"), // PgBouncer: "server conn crashed?"
    ("ERROR", "08P01"),
    ("FATAL", "08006"),
    ("ERROR", "08007"),
    ("ERROR", "40003"),
    ("FATAL", "57P01"),
    ("ERROR", "57P01"),
    ("FATAL", "25P03"),
    ("FATAL", "40001"),
    ("PANIC", "58030"),
    ("ERROR", "58030"),
    ("ERROR", "XX000"),
];

/// Errors that mean a rollback.
const CERTAIN: [(&str, &str); 4] =
    [("ERROR", "40001"), ("ERROR", "40P01"), ("ERROR", "23503"), ("ERROR", "53100")];

/// A handler whose row has the text of its response.
fn writing(layer: &IdempotencyLayer<PostgresStore>, name: &str) -> Service {
    let name = name.to_owned();
    rig::serve::<Postgres, _, _, _>(layer, &Count::default(), move |run, co_commit| {
        let row = format!("{name} run {run}");
        async move {
            Postgres::insert(&mut *co_commit.begin().await.unwrap(), &row).await.unwrap();
            rig::answer(201, run)
        }
    })
}

/// The severity that is not translated decides.
fn uncertain() -> impl Iterator<Item = Option<ErrorMessage>> {
    let translated = ErrorMessage { shown: "ERROR", severity: "FATAL", code: "40001" };
    let messages = UNCERTAIN.into_iter().map(|(severity, code)| ErrorMessage::new(severity, code));
    messages.chain([translated]).map(Some).chain([None])
}

fn certain() -> impl Iterator<Item = ErrorMessage> {
    let translated = ErrorMessage { shown: "FEHLER", severity: "ERROR", code: "40001" };
    CERTAIN.into_iter().map(|(severity, code)| ErrorMessage::new(severity, code)).chain([translated])
}

#[tokio::test(flavor = "multi_thread")]
async fn with_a_key_the_record_tells_whether_a_lost_commit_took_effect() {
    a_lost_commit_is_looked_up(behind_proxy().await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn in_the_transaction_the_record_tells_whether_a_lost_commit_took_effect() {
    a_lost_commit_is_looked_up(claims_behind_proxy().await).await;
}

async fn a_lost_commit_is_looked_up(
    (proxy, direct, layer): (Proxy, PgPool, IdempotencyLayer<PostgresStore>),
) {
    for (number, error) in uncertain().enumerate() {
        for passes in [Passes::Never, Passes::First, Passes::Late] {
            let (name, key) = (format!("{error:?} {passes:?}"), format!("{number}-{passes:?}"));
            let service = writing(&layer, &name);
            proxy.lose_next_commit(Loss { passes, error });
            let answer = send(&service, post(&key)).await;
            assert!(proxy.has_lost());
            let retry = send(&service, post(&key)).await;
            let mut rows = Postgres::rows(&direct).await;
            rows.retain(|row| row.starts_with(&name));
            if passes == Passes::Never {
                assert_eq!((answer.status, answer.kind), (503, Some(RejectionKind::RolledBack)), "{name}");
                assert_eq!((&*retry.text, retry.replay), ("run 2", false), "{name}");
                assert_eq!(rows, [format!("{name} run 2")]);
            } else {
                assert_eq!((answer.status, &*answer.text, answer.kind), (201, "run 1", None), "{name}");
                assert!(!answer.replay, "{name}: it is the first answer");
                assert_eq!((&*retry.text, retry.replay), ("run 1", true), "{name}");
                assert_eq!(rows, [format!("{name} run 1")]);
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_key_nobody_can_be_asked_and_the_answer_says_so() {
    let (proxy, direct, layer) = behind_proxy().await;
    let mut beside = Postgres::beside(&direct).await;
    for error in uncertain() {
        for passes in [Passes::Never, Passes::First, Passes::Late] {
            let name = format!("{error:?} {passes:?}");
            proxy.lose_next_commit(Loss { passes, error });
            let answer = send(&writing(&layer, &name), post_without_key()).await;
            assert!(proxy.has_lost());
            assert_eq!((answer.status, answer.kind), (503, Some(RejectionKind::CommitUnknown)), "{name}");
            // A COMMIT that was sent takes effect, perhaps later.
            let row = format!("{name} run 1");
            if passes == Passes::Never {
                assert!(!Postgres::has_row(&mut beside, &row).await, "{name}");
            } else {
                let mut tries = 0;
                while !Postgres::has_row(&mut beside, &row).await {
                    tries += 1;
                    assert!(tries < 1000, "{name}");
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_server_refuses_to_commit_is_rolled_back() {
    a_refused_commit_is_rolled_back(behind_proxy().await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn in_the_transaction_what_the_server_refuses_to_commit_is_rolled_back() {
    a_refused_commit_is_rolled_back(claims_behind_proxy().await).await;
}

/// A hot standby does not know how a transaction of its primary ended, and refuses a transaction that may write. The layer must
/// not answer "rolled back" then.
#[tokio::test(flavor = "multi_thread")]
async fn in_the_transaction_a_look_up_that_meets_a_standby_tells_nothing() {
    let (proxy, direct, layer) = claims_behind_proxy().await;
    let service = writing(&layer, "row");
    proxy.lose_next_commit(Loss { passes: Passes::First, error: None });
    proxy.refuse_begins(ErrorMessage::new("ERROR", "25006"));
    // The first request begins before the server becomes a standby.
    let answer = send(&service, post("key")).await;
    assert_eq!((answer.status, answer.kind), (503, Some(RejectionKind::NotRecorded)));
    assert_eq!(Postgres::rows(&direct).await, ["row run 1"]);
}

async fn a_refused_commit_is_rolled_back(
    (proxy, direct, layer): (Proxy, PgPool, IdempotencyLayer<PostgresStore>),
) {
    for error in certain() {
        for keyed in [true, false] {
            let name = format!("{error:?} {keyed}");
            let service = writing(&layer, &name);
            let key = format!("{}-{}-{keyed}", error.shown, error.code);
            proxy.lose_next_commit(Loss { passes: Passes::Never, error: Some(error) });
            let answer = send(&service, if keyed { post(&key) } else { post_without_key() }).await;
            assert!(proxy.has_lost());
            assert_eq!((answer.status, answer.kind), (503, Some(RejectionKind::RolledBack)), "{name}");
            assert_eq!(send(&service, post(&key)).await.text, "run 2");
            let mut rows = Postgres::rows(&direct).await;
            rows.retain(|row| row.starts_with(&name));
            assert_eq!(rows, [format!("{name} run 2")]);
        }
    }
}
