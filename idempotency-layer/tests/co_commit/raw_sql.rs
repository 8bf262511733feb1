//! Handlers whose own SQL ends or disturbs the transaction.

use idempotency_layer::RejectionKind::{self, CommitUnknown, NotRecorded, RolledBack};
use sqlx::{AssertSqlSafe, Postgres, Sqlite};

use crate::database::Bench;
use crate::rig::{self, Answer, Count, Rig, post, request, send};

/// The SQL that the handler sends between its two rows, and the rows that exist afterwards.
struct Case {
    sql: &'static str,
    told: Told,
    rows: &'static [&'static str],
}

/// The answers without a key and with one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Told {
    Committed,
    RolledBack,
    Unknown,
}

impl Told {
    fn kind(self, keyed: bool) -> Option<RejectionKind> {
        match (self, keyed) {
            (Self::Committed, _) => None,
            (Self::RolledBack, _) => Some(RolledBack),
            (Self::Unknown, true) => Some(NotRecorded),
            (Self::Unknown, false) => Some(CommitUnknown),
        }
    }
}

/// Runs each case with and without a key. The handler writes `first`, sends the SQL, writes `second`, and answers 201 even if
/// one of them failed.
async fn carry_out<DB: Bench>(rig: &Rig<DB>, cases: Vec<Case>)
where
    for<'c> &'c mut DB::Connection: sqlx::Executor<'c, Database = DB>,
{
    let mut beside = DB::beside(&rig.pool).await;
    for (number, Case { sql, told, rows }) in cases.into_iter().enumerate() {
        for keyed in [true, false] {
            let name = format!("{number}-{keyed}");
            let prefix = name.clone();
            let service = rig.serve(&Count::default(), move |run, co_commit| {
                let prefix = prefix.clone();
                async move {
                    let mut transaction = co_commit.begin().await.unwrap();
                    DB::insert(&mut transaction, &format!("{prefix} first")).await.unwrap();
                    if run == 1 {
                        let _ = sqlx::raw_sql(AssertSqlSafe(sql)).execute(&mut *transaction).await;
                        let _ = DB::insert(&mut transaction, &format!("{prefix} second")).await;
                    }
                    rig::answer(201, run)
                }
            });
            let Answer { status, kind, .. } = send(&service, request(keyed, &name)).await;
            let mut there = Vec::new();
            for row in ["first", "second"] {
                if DB::has_row(&mut beside, &format!("{name} {row}")).await {
                    there.push(row);
                }
            }
            let expected = if told == Told::Committed { 201 } else { 503 };
            assert_eq!((status, kind, &*there), (expected, told.kind(keyed), rows), "{sql}, keyed: {keyed}");
            rig.writes_are_visible(&format!("{name} autocommit")).await;
            if told == Told::Committed && keyed {
                assert!(send(&service, post(&name)).await.replay, "{sql}");
            }
            if told == Told::RolledBack && keyed {
                assert_eq!(send(&service, post(&name)).await.text, "run 2", "{sql}");
            }
        }
    }
}

fn case(sql: &'static str, told: Told, rows: &'static [&'static str]) -> Case {
    Case { sql, told, rows }
}

const NONE: &[&str] = &[];
const FIRST: &[&str] = &["first"];
const SECOND: &[&str] = &["second"];
const BOTH: &[&str] = &["first", "second"];

#[tokio::test(flavor = "multi_thread")]
async fn a_handler_that_ends_the_transaction_is_never_told_what_is_not_so_on_postgres() {
    let rig = Rig::<Postgres>::small(4, |builder| builder).await;
    let cases = vec![
        case("COMMIT", Told::Unknown, BOTH),
        case("COMMIT AND CHAIN", Told::Unknown, FIRST),
        case("COMMIT; BEGIN", Told::Unknown, FIRST),
        case("ROLLBACK", Told::Unknown, SECOND),
        case("ROLLBACK AND CHAIN", Told::Unknown, NONE),
        case("ROLLBACK; BEGIN", Told::Unknown, NONE),
        case("ABORT; BEGIN; COMMIT; BEGIN; SAVEPOINT _sqlx_savepoint_1", Told::Unknown, NONE),
        case("RESET ALL", Told::Unknown, NONE),
        case("SET LOCAL idempotency_layer.claim = 'mine'", Told::Unknown, NONE),
        case("PREPARE TRANSACTION 'handler'", Told::Unknown, SECOND), // refused by default, which rolls back
        case("DISCARD ALL", Told::RolledBack, NONE),
        case("SELECT 1 / 0", Told::RolledBack, NONE),
        case("SAVEPOINT a; SELECT 1 / 0", Told::RolledBack, NONE),
    ];
    carry_out(&rig, cases).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn sql_that_leaves_the_transaction_open_does_no_harm_on_postgres() {
    let rig = Rig::<Postgres>::small(4, |builder| builder).await;
    let cases = vec![
        case("BEGIN", Told::Committed, BOTH),
        case("BEGIN; BEGIN", Told::Committed, BOTH),
        case("SAVEPOINT _sqlx_savepoint_1", Told::Committed, BOTH),
        case("SAVEPOINT idempotency_handler", Told::Committed, BOTH),
        case("SAVEPOINT a; SELECT 1; ROLLBACK TO SAVEPOINT a", Told::Committed, BOTH),
        case("SAVEPOINT a; RESET ALL; ROLLBACK TO SAVEPOINT a", Told::Committed, BOTH),
        case("SELECT pg_advisory_unlock_all()", Told::Committed, BOTH),
        case("CLOSE ALL; UNLISTEN *; DISCARD PLANS", Told::Committed, BOTH),
    ];
    carry_out(&rig, cases).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn sql_that_leaves_the_transaction_open_does_no_harm_on_sqlite() {
    let rig = Rig::<Sqlite>::new().await;
    let cases = vec![
        case("BEGIN", Told::Committed, BOTH), // refused
        case("SAVEPOINT _sqlx_savepoint_1", Told::Committed, BOTH),
        case("SAVEPOINT a; ROLLBACK TO a", Told::Committed, BOTH),
        case("SELECT no_such_function()", Told::Committed, BOTH),
        case("RELEASE no_such_savepoint", Told::Committed, BOTH),
        case("INSERT OR FAIL INTO rows (id, row) VALUES (1, 'twice'), (1, 'twice')", Told::Committed, BOTH),
    ];
    carry_out(&rig, cases).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_transaction_that_the_handler_begins_anew_is_not_the_lent_one_on_sqlite() {
    let rig = Rig::<Sqlite>::new().await;
    let cases = vec![
        case("ROLLBACK; BEGIN", Told::RolledBack, NONE),
        case("ROLLBACK; BEGIN IMMEDIATE; SAVEPOINT _sqlx_savepoint_1", Told::RolledBack, NONE),
    ];
    carry_out(&rig, cases).await;
}

/// SQLite or the handler ends the transaction, and later statements run outside of one. The layer's hook refuses every commit
/// but the layer's, including that of a single statement.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_written_after_the_end_of_the_transaction_is_not_committed_on_sqlite() {
    let rig = Rig::<Sqlite>::new().await;
    let trigger = "CREATE TRIGGER no_five BEFORE INSERT ON rows WHEN NEW.id = 500
        BEGIN SELECT RAISE(ROLLBACK, 'not 500'); END;
        INSERT INTO rows (row) VALUES ('there')";
    sqlx::raw_sql(trigger).execute(&rig.pool).await.unwrap();
    let cases = vec![
        case("ROLLBACK", Told::RolledBack, NONE),
        case("INSERT OR ROLLBACK INTO rows (row) VALUES ('there')", Told::RolledBack, NONE),
        case("INSERT INTO rows (id, row) VALUES (500, '500')", Told::RolledBack, NONE),
        case("COMMIT", Told::RolledBack, NONE),
        case("END TRANSACTION; BEGIN", Told::RolledBack, NONE),
        case("ROLLBACK; BEGIN; INSERT INTO rows (row) VALUES ('x'); COMMIT", Told::RolledBack, NONE),
    ];
    carry_out(&rig, cases).await;
    assert!(!Sqlite::has_row(&mut Sqlite::beside(&rig.pool).await, "x").await);
}
