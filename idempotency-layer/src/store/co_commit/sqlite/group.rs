//! Lent transactions of SQLite that share a commit.
//!
//! SQLite has one writer, and a commit waits for the disk. The first lent transaction opens a
//! group: `BEGIN IMMEDIATE`, a savepoint for the group, and a savepoint for itself. When it has
//! released its own savepoint and others wait for the writer, it gives them the open transaction,
//! and each of them works in a savepoint of its own. The group is committed when nobody waits, when
//! it is full, or when it is old. SQLite commits all of it or nothing.
//!
//! - A member tells nobody how it ended before the group has ended, not even that it rolled back:
//!   it may have read rows of the members before it. If the group fails, all of them are rolled
//!   back.
//! - The savepoint of a member that is dropped is rolled back by a task, which then gives the
//!   transaction to the next member.
//! - A member that cannot be undone, or that ended the transaction (`OR ROLLBACK`, no space, its
//!   own `COMMIT`), fails the group. After that, transactions commit alone for a while.
//! - SQLite checks deferred constraints only at the COMMIT of the group, so a schema with
//!   `DEFERRABLE` has no groups, and nobody joins after a member that set
//!   `PRAGMA defer_foreign_keys`.

use std::collections::VecDeque;
use std::mem;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use sqlx::pool::PoolConnection;
use sqlx::{AssertSqlSafe, Error, Executor, Row, Sqlite, SqliteConnection, SqlitePool, query, query_scalar};
use tokio::runtime::Handle;
use tokio::sync::oneshot;
use tokio::time::{Instant, timeout};

use super::end;
use crate::clock::{after, now};
use crate::store::co_commit::connection::{begin_with, commit, depth};
use crate::store::co_commit::database::{CommitError, Mark};
use crate::store::sqlite::commit_hook::{CommitGuard, guard};
use crate::store::sqlite::error::{FailedCommit, failed_commit};

/// The most members of a group.
const MEMBERS: usize = 64;
/// A group that is older than this takes no more members.
const AGE: Duration = Duration::from_millis(20);
/// How long transactions commit alone after a group has failed.
const APART: Duration = Duration::from_secs(1);

/// The queue of the transactions of a store that may share a commit.
#[derive(Clone, Debug)]
pub(super) struct Groups(Arc<Mutex<State>>);

#[derive(Debug)]
struct State {
    is_enabled: bool,
    /// Whether somebody has the turn.
    is_busy: bool,
    waiting: VecDeque<oneshot::Sender<Turn>>,
    apart_until: Option<Instant>,
    /// The version of the schema, and whether transactions may share a commit under it.
    schema: Option<(i64, bool)>,
}

/// The right to begin a transaction or to continue that of the group. There is one at a time.
#[derive(Debug)]
struct Turn {
    /// `None`: the transaction stays alone, and takes the connection when the pool gives it.
    groups: Option<Groups>,
    /// The open transaction, on its way from one member to the next.
    open: Option<Open>,
}

#[derive(Debug)]
struct Open {
    connection: PoolConnection<Sqlite>,
    group: Group,
}

/// The transaction that is open.
#[derive(Debug)]
struct Group {
    /// `None` until it has begun.
    commits: Option<CommitGuard>,
    began: Instant,
    /// The savepoint that is there as long as the transaction is.
    savepoint: String,
    /// The members that are done and wait for the commit.
    members: Vec<oneshot::Sender<Result<(), CommitError>>>,
    runtime: Handle,
}

/// One transaction of a group, while it has the connection.
#[derive(Debug)]
pub struct Member {
    /// `None` when the connection was given away.
    seat: Option<Box<Seat>>,
    savepoint: String,
}

#[derive(Debug)]
struct Seat {
    turn: Turn,
    group: Group,
}

impl Groups {
    pub(super) fn new() -> Self {
        Self(Arc::new(Mutex::new(State {
            is_enabled: true,
            is_busy: false,
            waiting: VecDeque::new(),
            apart_until: None,
            schema: None,
        })))
    }

    pub(super) fn enable(&self, is_enabled: bool) {
        self.lock().is_enabled = is_enabled;
    }

    /// Returns the connection of the pool, or that of the open group.
    ///
    /// Dropped while it waits: the turn goes to the next.
    pub(super) async fn acquire(
        &self,
        pool: &SqlitePool,
        mark: &Mark,
    ) -> Result<(PoolConnection<Sqlite>, Member), Error> {
        let runtime = Handle::try_current().map_err(Error::config)?;
        let patience = pool.options().get_acquire_timeout();
        let acquired = timeout(patience, async {
            let mut turn = self.turn().await?;
            if let Some(Open { connection, group }) = turn.open.take() {
                return Ok::<_, Error>((connection, Seat { turn, group }));
            }
            let connection = pool.acquire().await?;
            let group = Group {
                commits: None,
                began: now(),
                savepoint: format!("co_commit_group_{}", mark.as_str()),
                members: Vec::new(),
                runtime,
            };
            Ok((connection, Seat { turn, group }))
        });
        let (connection, seat) = acquired.await.map_err(|_| Error::PoolTimedOut)??;
        Ok((
            connection,
            Member { seat: Some(Box::new(seat)), savepoint: format!("co_commit_{}", mark.as_str()) },
        ))
    }

    async fn turn(&self) -> Result<Turn, Error> {
        let waits = {
            let mut state = self.lock();
            if state.is_apart() {
                return Ok(Turn { groups: None, open: None });
            }
            if !mem::replace(&mut state.is_busy, true) {
                return Ok(Turn { groups: Some(self.clone()), open: None });
            }
            let (sender, waits) = oneshot::channel();
            state.waiting.push_back(sender);
            waits
        };
        waits.await.map_err(|_| Error::PoolClosed)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns whether transactions of this schema may share a commit, and the last member did not
    /// defer its foreign keys.
    async fn may_share(&self, connection: &mut SqliteConnection) -> Result<bool, Error> {
        const NOW: &str = "SELECT schema_version, defer_foreign_keys \
            FROM pragma_schema_version, pragma_defer_foreign_keys";
        // Every file commits by itself, so a second one is left alone too.
        const SCHEMA: &str = "SELECT NOT EXISTS (SELECT 1 FROM sqlite_schema WHERE sql LIKE '%DEFERRABLE%') \
            AND NOT EXISTS (SELECT 1 FROM sqlite_temp_schema WHERE sql LIKE '%DEFERRABLE%') \
            AND NOT EXISTS (SELECT 1 FROM pragma_database_list WHERE name NOT IN ('main', 'temp'))";
        let row = query(NOW).fetch_one(&mut *connection).await?;
        let (version, defers): (i64, bool) = (row.try_get(0)?, row.try_get(1)?);
        if defers {
            return Ok(false);
        }
        if let Some((known, may_share)) = self.lock().schema
            && known == version
        {
            return Ok(may_share);
        }
        let may_share = query_scalar(SCHEMA).fetch_one(connection).await?;
        self.lock().schema = Some((version, may_share));
        Ok(may_share)
    }
}

impl State {
    fn is_apart(&self) -> bool {
        !self.is_enabled || self.apart_until.is_some_and(|until| now() < until)
    }

    /// The next who waits, and has not gone.
    fn next(&mut self) -> Option<oneshot::Sender<Turn>> {
        loop {
            let next = self.waiting.pop_front()?;
            if !next.is_closed() {
                return Some(next);
            }
        }
    }

    fn somebody_waits(&mut self) -> bool {
        while self.waiting.front().is_some_and(oneshot::Sender::is_closed) {
            self.waiting.pop_front();
        }
        !self.waiting.is_empty()
    }
}

impl Turn {
    /// Gives the open transaction to the next request that waits. If none does, commits it in a
    /// task.
    ///
    /// This does not await, so a caller that is dropped has done all of it or nothing.
    fn pass_on(mut self, mut open: Open, takes_more: bool) {
        let groups = self.groups.clone().filter(|_| takes_more);
        while let Some(next) = groups.as_ref().and_then(|groups| groups.lock().next()) {
            self.open = Some(open);
            let Err(mut turn) = next.send(self) else { return };
            // It has gone just now.
            let Some(back) = turn.open.take() else { return };
            (self, open) = (turn, back);
        }
        let runtime = open.group.runtime.clone();
        runtime.spawn(commit_group(self, open));
    }

    fn keep_apart(&self) {
        if let Some(groups) = &self.groups {
            groups.lock().apart_until = Some(after(now(), APART));
        }
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        let Some(groups) = self.groups.take() else { return };
        if let Some(open) = self.open.take() {
            // Whom it was sent to has gone.
            return Self { groups: Some(groups), open: None }.pass_on(open, true);
        }
        loop {
            let (next, is_apart) = {
                let mut state = groups.lock();
                let next = state.next();
                state.is_busy = next.is_some();
                (next, state.is_apart())
            };
            let Some(next) = next else { return };
            if !is_apart {
                // If it has gone just now, the turn is dropped again.
                let _ = next.send(Self { groups: Some(groups), open: None });
                return;
            }
            let _ = next.send(Self { groups: None, open: None });
        }
    }
}

impl Group {
    /// Tells every member how the group ended. The cause goes to the member that was the last.
    fn tell(self, ended: Result<(), CommitError>) {
        let mut members = self.members;
        let last = members.pop();
        for member in members {
            let _ = member.send(match &ended {
                Ok(()) => Ok(()),
                Err(CommitError::RolledBack(error)) => Err(CommitError::RolledBack(shared(error))),
                Err(CommitError::Unknown(error)) => Err(CommitError::Unknown(shared(error))),
            });
        }
        if let Some(last) = last {
            let _ = last.send(ended);
        }
    }
}

fn shared(error: &Error) -> Error {
    Error::Protocol(format!("the commit was shared, and failed: {error}"))
}

impl Member {
    /// Begins the transaction, or a savepoint in that of the group. Its name is nobody else's: a
    /// savepoint of the handler would pass for it.
    pub(super) async fn begin(&mut self, connection: &mut SqliteConnection) -> Result<(), Error> {
        let group = &mut self.seat.as_mut().ok_or(Error::PoolClosed)?.group;
        let savepoint = &self.savepoint;
        if group.commits.is_some() {
            return connection.execute(AssertSqlSafe(format!("SAVEPOINT {savepoint}"))).await.map(drop);
        }
        let text = format!("BEGIN IMMEDIATE; SAVEPOINT {}; SAVEPOINT {savepoint}", group.savepoint);
        begin_with::<Sqlite>(connection, text).await?;
        group.commits = Some(guard(connection).await?);
        // A transaction that waited for its turn does not make the group old.
        group.began = now();
        Ok(())
    }

    /// Returns whether it may have read rows of others that are not committed.
    pub(super) fn reads_uncommitted(&self) -> bool {
        self.seat.as_ref().is_some_and(|seat| !seat.group.members.is_empty())
    }

    /// Ends the part of a member that has released its savepoint, and waits for the commit of the
    /// group.
    ///
    /// Dropped before the connection was given away, it is discarded; see [`discard`]. Dropped
    /// after that, the group goes on.
    pub(super) async fn commit(
        &mut self,
        slot: &mut Option<PoolConnection<Sqlite>>,
    ) -> Result<(), CommitError> {
        const SAVEPOINT_LEFT: &str = "a savepoint of the handler is open, or was dropped half way";
        let takes_more = self.takes_more(slot).await;
        let (Some(connection), Some(seat)) = (slot.take(), self.seat.take()) else {
            return Err(CommitError::RolledBack(Error::PoolClosed));
        };
        let Seat { turn, mut group } = *seat;
        let (sender, ended) = oneshot::channel();
        group.members.push(sender);
        let is_counted = depth::<Sqlite>(&connection) == 1;
        let open = Open { connection, group };
        if is_counted {
            turn.pass_on(open, takes_more);
        } else {
            if open.group.members.len() > 1 {
                turn.keep_apart();
            }
            let runtime = open.group.runtime.clone();
            runtime.spawn(fail(turn, open, Error::Protocol(SAVEPOINT_LEFT.into())));
        }
        ended.await.unwrap_or(Err(CommitError::Unknown(Error::WorkerCrashed)))
    }

    /// Undoes what it wrote, and waits for the end of those that it may have read from.
    ///
    /// # Errors
    ///
    /// When they were rolled back too, or nobody knows.
    pub(super) async fn roll_back(&mut self, slot: &mut Option<PoolConnection<Sqlite>>) -> Result<(), Error> {
        let (Some(connection), Some(seat)) = (slot.as_mut(), self.seat.as_mut()) else { return Ok(()) };
        if seat.group.members.is_empty() {
            return end(connection, &mut seat.group.commits).await;
        }
        if let Err(error) = undo(connection, &self.savepoint).await {
            let told = shared(&error);
            self.fail(slot, error).await;
            return Err(told);
        }
        match self.commit(slot).await {
            Ok(()) => Ok(()),
            Err(CommitError::RolledBack(error) | CommitError::Unknown(error)) => Err(error),
        }
    }

    async fn fail(&mut self, slot: &mut Option<PoolConnection<Sqlite>>, error: Error) {
        let (Some(connection), Some(seat)) = (slot.take(), self.seat.take()) else { return };
        let Seat { turn, group } = *seat;
        turn.keep_apart();
        let runtime = group.runtime.clone();
        // In a task of its own, because it must not be dropped half way.
        let _ = runtime.spawn(fail(turn, Open { connection, group }, error)).await;
    }

    /// Returns whether somebody waits for the writer and may join.
    async fn takes_more(&self, slot: &mut Option<PoolConnection<Sqlite>>) -> bool {
        let Some(Seat { turn: Turn { groups: Some(groups), .. }, group }) = self.seat.as_deref() else {
            return false;
        };
        if group.members.len() + 1 >= MEMBERS || now() >= after(group.began, AGE) {
            return false;
        }
        let somebody_waits = {
            let mut state = groups.lock();
            !state.is_apart() && state.somebody_waits()
        };
        match slot {
            Some(connection) if somebody_waits => groups.may_share(connection).await.unwrap_or(false),
            _ => false,
        }
    }
}

/// Undoes a member that was dropped, and gives the transaction to the next.
pub(super) fn discard(connection: PoolConnection<Sqlite>, mut member: Member, runtime: &Handle) {
    runtime.spawn(async move {
        let (mut connection, Some(mut seat)) = (connection, member.seat.take()) else { return };
        if seat.group.members.is_empty() {
            // Repaired rather than closed: a database in memory would go with its connection.
            if end(&mut connection, &mut seat.group.commits).await.is_err() {
                drop(connection.detach());
            } else {
                drop(connection);
            }
            return;
        }
        let mut undone = undo(&mut connection, &member.savepoint).await;
        if undone.is_err() {
            // It had not begun, or it was released and is whole, if the transaction is still open.
            let savepoint = &seat.group.savepoint;
            let probe = format!("RELEASE {savepoint}; SAVEPOINT {savepoint}");
            undone = connection.execute(AssertSqlSafe(probe)).await.map(drop);
        }
        member.seat = Some(seat);
        let mut slot = Some(connection);
        match undone {
            Ok(()) => drop(member.commit(&mut slot).await),
            Err(error) => member.fail(&mut slot, error).await,
        }
    });
}

/// Rolls back to the savepoint of a member, and releases it. Whatever the member sent before is
/// carried out by then.
async fn undo(connection: &mut SqliteConnection, savepoint: &str) -> Result<(), Error> {
    let text = format!("ROLLBACK TO {savepoint}; RELEASE {savepoint}");
    connection.execute(AssertSqlSafe(text)).await.map(drop)
}

/// Commits a group, then tells its members.
///
/// A task of its own. It is dropped only with its runtime: then the connection is closed, and the
/// members look for themselves.
async fn commit_group(turn: Turn, open: Open) {
    let Open { mut connection, mut group } = open;
    if let Some(commits) = &group.commits {
        commits.allow_one();
    }
    let is_rolled_back = |error: &Error| failed_commit(error) == FailedCommit::RolledBack;
    match commit::<Sqlite>(&mut connection, is_rolled_back).await {
        Ok(()) => {
            if let Some(commits) = group.commits.take() {
                commits.off();
            }
            drop(connection);
            group.tell(Ok(()));
        }
        Err(failed) => {
            if group.members.len() > 1 {
                turn.keep_apart();
            }
            give_back(connection, &mut group).await;
            group.tell(Err(failed));
        }
    }
    drop(turn);
}

/// Rolls a group back, then tells its members.
async fn fail(turn: Turn, open: Open, error: Error) {
    let Open { connection, mut group } = open;
    give_back(connection, &mut group).await;
    group.tell(Err(CommitError::RolledBack(error)));
    drop(turn);
}

/// Ends the transaction in whatever state it is. Where that fails, the connection is closed.
async fn give_back(mut connection: PoolConnection<Sqlite>, group: &mut Group) {
    if end(&mut connection, &mut group.commits).await.is_err() {
        drop(connection.detach());
    }
}
