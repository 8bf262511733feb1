//! Shared commits on SQLite of which nobody knows whether they took effect: each member looks for its own record.

use std::time::Duration;

use http::Extensions;
use idempotency_layer::{
    Claim, CoCommit, Completion, Fence, Fenced, RecordId, RequestTransaction, SqliteStore, Store, StoreError,
    StoreErrorKind,
};
use sqlx::Sqlite;
use tokio::sync::mpsc;
use tokio::task::{JoinHandle, yield_now};
use tokio::time::{sleep, timeout};

use crate::database::Bench;
use crate::in_transaction::raw::{InTransaction, ask, outcome};

const PATIENCE: Duration = Duration::from_secs(20);
const MEMBERS: usize = 4;
/// The bytes of the last row.
const LARGE: usize = 6_000_000;

/// The members of a group.
enum Member {
    InTransaction(InTransaction<Sqlite>),
    Offered {
        /// The leased claim. `None`: a request without a key.
        claim: Option<(RecordId, Fence)>,
        co_commit: CoCommit<Sqlite>,
        transaction: Box<dyn RequestTransaction>,
    },
}

/// What a member was told. `true`: it is committed.
type Answer = Result<bool, StoreError>;

/// How the members were answered: first those with a record, then that without.
struct Answers {
    with_record: Vec<Answer>,
    without: Answer,
}

impl Member {
    fn offered(store: &SqliteStore, claim: Option<(RecordId, Fence)>) -> Self {
        let mut extensions = Extensions::new();
        let transaction = store.offer_transaction(&mut extensions).unwrap();
        Self::Offered { claim, co_commit: extensions.remove().unwrap(), transaction }
    }

    fn co_commit(&self) -> &CoCommit<Sqlite> {
        match self {
            Self::InTransaction(claimed) => &claimed.co_commit,
            Self::Offered { co_commit, .. } => co_commit,
        }
    }

    async fn write(&self, row: &str) {
        Sqlite::insert(&mut *self.co_commit().begin().await.unwrap(), row).await.unwrap();
    }

    /// Commits in a task. `true`: it has a record.
    fn ends(self) -> (bool, JoinHandle<Answer>) {
        let has_record = !matches!(self, Self::Offered { claim: None, .. });
        (has_record, tokio::spawn(self.commit()))
    }

    async fn commit(self) -> Answer {
        match self {
            Self::InTransaction(claimed) => {
                let completion = claimed.transaction.complete(outcome("done"), true).await?;
                Ok(matches!(completion, Completion::Committed))
            }
            Self::Offered { claim: Some((record, fence)), transaction, .. } => {
                Ok(transaction.complete(record, fence, outcome("done")).await? == Fenced::Held)
            }
            Self::Offered { claim: None, transaction, .. } => transaction.commit().await.map(|()| true),
        }
    }
}

/// Has members of each kind share the transaction of `first`, whose runtime commits it. The last row is large, so that the
/// commit takes long.
///
/// Returns `None` if not all of them were in time to share it.
async fn group(
    store: &SqliteStore,
    leased: (RecordId, Fence),
    first: InTransaction<Sqlite>,
) -> Option<Vec<(bool, JoinHandle<Answer>)>> {
    let (tell, mut begun) = mpsc::unbounded_channel();
    for kind in 0..3 {
        let (store, tell) = (store.clone(), tell.clone());
        let claim = (kind == 0).then_some(leased);
        tokio::spawn(async move {
            let member = if kind == 2 {
                Member::InTransaction(InTransaction::begin(&store, ask()).await)
            } else {
                let offered = Member::offered(&store, claim);
                drop(offered.co_commit().begin().await.unwrap());
                offered
            };
            let _ = tell.send(member);
        });
    }
    // Where that is too short, not all of them share the transaction, and the test tries again.
    sleep(Duration::from_millis(3)).await;
    let (mut member, mut waiting) = (Member::InTransaction(first), Vec::new());
    for n in 1..MEMBERS {
        member.write(&format!("row {n}")).await;
        waiting.push(member.ends());
        member = timeout(Duration::from_millis(500), begun.recv()).await.ok()??;
    }
    member.write(&"x".repeat(LARGE)).await;
    if waiting.iter().any(|(_, answer)| answer.is_finished()) {
        return None;
    }
    waiting.push(member.ends());
    Some(waiting)
}

async fn answers(waiting: Vec<(bool, JoinHandle<Answer>)>) -> Answers {
    let (mut with_record, mut without) = (Vec::new(), None);
    for (has_record, answer) in waiting {
        let answer = timeout(PATIENCE, answer).await.expect("an answer in time").unwrap();
        if has_record {
            with_record.push(answer);
        } else {
            without = Some(answer);
        }
    }
    Answers { with_record, without: without.unwrap() }
}

fn kind(answer: &Answer) -> Option<StoreErrorKind> {
    answer.as_ref().err().map(StoreError::kind)
}

async fn leased(store: &SqliteStore) -> (RecordId, Fence) {
    let asked = ask();
    let Claim::Run(run) = store.claim(asked).await.unwrap() else { panic!("a new record runs") };
    (asked.record, run.fence)
}

/// Checks that the writer is free and that what is written is committed.
async fn writes_on(store: &SqliteStore) {
    let mut next = InTransaction::<Sqlite>::begin(store, ask()).await;
    next.write("next").await;
    next.complete("done").await;
    assert!(Sqlite::has_row(&mut Sqlite::beside(store.pool()).await, "next").await);
}

/// The runtime of the member that began the transaction ends before the COMMIT was sent, or while SQLite carries it out.
fn the_runtime_that_commits_ends(is_sent: bool) {
    const ROUNDS: usize = 10;
    let members = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let (mut shared, mut unknown) = (0, 0);
    for _ in 0..100 {
        // It runs while `block_on` does, and so never commits by itself.
        let owner = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let (_place, store, pool) = members.block_on(Sqlite::open());
        let leased = members.block_on(leased(&store));
        let first = owner.block_on(InTransaction::begin(&store, ask()));
        let Some(waiting) = members.block_on(group(&store, leased, first)) else { continue };
        while owner.metrics().num_alive_tasks() == 0 {
            std::thread::yield_now(); // until the last member has handed the transaction over
        }
        if is_sent {
            owner.block_on(async {
                for _ in 0..3 {
                    yield_now().await;
                }
            });
        }
        drop(owner);
        let Answers { with_record, without } = members.block_on(answers(waiting));
        let rows = members.block_on(Sqlite::rows(&pool)).len();
        unknown += usize::from(kind(&without) == Some(StoreErrorKind::Unavailable));
        if is_sent {
            assert!(with_record.iter().all(|answer| matches!(answer, Ok(true))), "{with_record:?}");
            assert_eq!(rows, MEMBERS);
        } else {
            let is_rolled_back = |answer| kind(answer) == Some(StoreErrorKind::RolledBack);
            assert!(with_record.iter().all(is_rolled_back), "{with_record:?}");
            assert_eq!(rows, 0);
        }
        members.block_on(writes_on(&store));
        shared += 1;
        if shared == ROUNDS {
            break;
        }
    }
    assert!(shared == ROUNDS && unknown > 0, "{shared} groups, {unknown} unknown");
}

#[test]
fn each_member_finds_its_record_where_the_answer_to_the_commit_was_lost() {
    the_runtime_that_commits_ends(true);
}

#[test]
fn each_member_is_rolled_back_where_the_commit_was_never_sent() {
    the_runtime_that_commits_ends(false);
}

/// The file system takes no more of a file than this process may write: the test runs itself with such a limit.
#[cfg(unix)]
#[tokio::test(flavor = "multi_thread")]
async fn each_member_is_rolled_back_where_the_file_system_refuses_the_commit() {
    const LIMITED: &str = "IDEMPOTENCY_LAYER_FILE_LIMIT";
    if std::env::var_os(LIMITED).is_none() {
        let name =
            "sqlite_unknown_commits::each_member_is_rolled_back_where_the_file_system_refuses_the_commit";
        let output = std::process::Command::new("sh")
            .args(["-c", "trap '' XFSZ; ulimit -f 4000; exec \"$0\" \"$@\""])
            .arg(std::env::current_exe().unwrap())
            .args(["--exact", name, "--nocapture"])
            .env(LIMITED, "4000")
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success() && said.contains("1 passed"), "{output:?}");
        return;
    }
    for _ in 0..100 {
        let (_place, store, pool) = Sqlite::open().await;
        let leased = leased(&store).await;
        let first = InTransaction::begin(&store, ask()).await;
        let Some(waiting) = group(&store, leased, first).await else { continue };
        let Answers { with_record, without } = answers(waiting).await;
        for answer in &with_record {
            let error = answer.as_ref().unwrap_err();
            assert_eq!(error.kind(), StoreErrorKind::RolledBack);
            // SQLite said nothing certain: it was looked up.
            assert!(format!("{error:?}").contains("disk I/O error"), "{error:?}");
        }
        assert_eq!(kind(&without), Some(StoreErrorKind::Unavailable));
        assert!(Sqlite::rows(&pool).await.is_empty());
        assert_eq!(Sqlite::records(&pool).await, 1, "the leased claim");
        return writes_on(&store).await;
    }
    panic!("nobody shares a commit");
}
