//! What an error of the database means to a caller.

use sqlx::Error;

use crate::error::StoreError;

// The primary codes: <https://www.sqlite.org/rescode.html>.
const BUSY: i32 = 5;
const FULL: i32 = 13;
const TOO_BIG: i32 = 18;
const CONSTRAINT: i32 = 19;
const MISMATCH: i32 = 20;

/// Maps an error of sqlx. The message holds no data and no SQL; the source keeps both.
pub(super) fn store_error(error: Error) -> StoreError {
    match code(&error) {
        Some(FULL) => StoreError::full(),
        Some(TOO_BIG | CONSTRAINT | MISMATCH) => StoreError::invalid(error),
        _ if matches!(error, Error::Encode(_) | Error::Decode(_) | Error::ColumnDecode { .. }) => {
            StoreError::invalid(error)
        }
        // Also errors of the file as a whole, which do not concern the record.
        _ => StoreError::unavailable(error),
    }
}

/// Returns whether another process has the write lock.
pub(super) fn is_busy(error: &Error) -> bool {
    code(error) == Some(BUSY)
}

/// The state of a transaction after a COMMIT that failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FailedCommit {
    /// Nothing was committed. Roll back the transaction if it is open.
    RolledBack,
    /// It is unknown whether it took effect. Roll back the transaction if it is open, then read the
    /// record.
    Unknown,
}

/// Returns what this answer to COMMIT proves.
///
/// | error | the transaction | so |
/// |---|---|---|
/// | `BUSY` | is open: a lock was not available, and nothing was written | `RolledBack` |
/// | `CONSTRAINT` | is open (a deferred foreign key), or was rolled back by the commit hook | `RolledBack` |
/// | `IOERR`, `FULL`, `NOMEM`, … | may be complete in the log, if a later step failed | `Unknown` |
/// | of sqlx, not of SQLite | perhaps committed: the answer was lost | `Unknown` |
///
/// If no transaction was open (`ERROR`), it is `Unknown` too, because somebody else has ended it.
///
/// <https://www.sqlite.org/lang_transaction.html#response_to_errors_within_a_transaction>
pub(crate) fn failed_commit(error: &Error) -> FailedCommit {
    match code(error) {
        Some(BUSY | CONSTRAINT) => FailedCommit::RolledBack,
        _ => FailedCommit::Unknown,
    }
}

/// Returns the primary code. sqlx gives the extended one, in decimal.
fn code(error: &Error) -> Option<i32> {
    let code = error.as_database_error()?.code()?;
    Some(code.parse::<i32>().ok()? & 0xff)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode};
    use sqlx::{ConnectOptions, Executor, SqliteConnection, query_scalar};
    use tempfile::TempDir;

    use super::*;

    const IOERR: i32 = 10;

    async fn open(folder: &TempDir, journal: SqliteJournalMode) -> SqliteConnection {
        let options = SqliteConnectOptions::new().filename(folder.path().join("a.db"));
        let options = options.create_if_missing(true).journal_mode(journal).busy_timeout(Duration::ZERO);
        let mut connection = options.connect().await.unwrap();
        connection.execute("CREATE TABLE IF NOT EXISTS payments (bytes BLOB)").await.unwrap();
        connection
    }

    async fn payments(connection: &mut SqliteConnection) -> i64 {
        query_scalar("SELECT count(*) FROM payments").fetch_one(connection).await.unwrap()
    }

    #[tokio::test]
    async fn a_commit_that_finds_a_reader_leaves_the_transaction_open() {
        let folder = tempfile::tempdir().unwrap();
        let mut writer = open(&folder, SqliteJournalMode::Delete).await;
        let mut reader = open(&folder, SqliteJournalMode::Delete).await;
        writer.execute("BEGIN IMMEDIATE; INSERT INTO payments VALUES (x'00')").await.unwrap();
        reader.execute("BEGIN; SELECT count(*) FROM payments").await.unwrap();
        let error = writer.execute("COMMIT").await.unwrap_err();
        assert_eq!((code(&error), failed_commit(&error)), (Some(BUSY), FailedCommit::RolledBack));
        writer.execute("ROLLBACK").await.unwrap();
        assert_eq!(payments(&mut reader).await, 0);
    }

    #[tokio::test]
    async fn a_commit_without_a_transaction_is_not_known_to_be_rolled_back() {
        let folder = tempfile::tempdir().unwrap();
        let error = open(&folder, SqliteJournalMode::Wal).await.execute("COMMIT").await.unwrap_err();
        assert_eq!(failed_commit(&error), FailedCommit::Unknown);
        assert_eq!(failed_commit(&Error::WorkerCrashed), FailedCommit::Unknown);
    }

    /// The file system takes no more of a file than this process may write: the test runs itself
    /// with such a limit.
    #[cfg(unix)]
    #[tokio::test]
    async fn a_commit_that_the_file_system_refuses_is_looked_up() {
        const LIMITED: &str = "IDEMPOTENCY_LAYER_FILE_LIMIT";
        if std::env::var_os(LIMITED).is_none() {
            let name = "store::sqlite::error::tests::a_commit_that_the_file_system_refuses_is_looked_up";
            let output = std::process::Command::new("sh")
                .args(["-c", "trap '' XFSZ; ulimit -f 400; exec \"$0\" \"$@\""])
                .arg(std::env::current_exe().unwrap())
                .args(["--exact", name, "--nocapture"])
                .env(LIMITED, "400")
                .output()
                .unwrap();
            let said = String::from_utf8_lossy(&output.stdout).into_owned();
            assert!(output.status.success() && said.contains("1 passed"), "{output:?}");
            return;
        }
        let folder = tempfile::tempdir().unwrap();
        let mut writer = open(&folder, SqliteJournalMode::Wal).await;
        writer.execute("BEGIN IMMEDIATE; INSERT INTO payments VALUES (zeroblob(500000))").await.unwrap();
        let error = writer.execute("COMMIT").await.unwrap_err();
        assert_eq!((code(&error), failed_commit(&error)), (Some(IOERR), FailedCommit::Unknown), "{error:?}");
        assert!(writer.execute("ROLLBACK").await.is_err(), "SQLite had ended it");
        let mut fresh = open(&folder, SqliteJournalMode::Wal).await;
        assert_eq!((payments(&mut writer).await, payments(&mut fresh).await), (0, 0));
        writer.execute("INSERT INTO payments VALUES (x'00')").await.unwrap();
        assert_eq!(payments(&mut fresh).await, 1, "the connection works on");
    }
}
