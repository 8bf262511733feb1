//! Claims: what is looked at, in which order.

use std::collections::HashSet;
use std::time::Duration;

use sqlx::postgres::PgRow;
use sqlx::{PgConnection, query};

use super::PostgresScheduler;
use super::connections::say;
use super::errors::{failed, took_too_long};
use super::floor::{Found, Look};
use super::rows::{COLUMNS, cycle, get as column};
use super::shares::{Shares, behind, column as limit};
use super::sql;
use crate::claim::{Claimed, Unreadable};
use crate::cycle::{Cycle, CycleKey};
use crate::error::SchedulerError;
use crate::store::codec;

/// How many groups of due cycles, those of a tenant in a bucket of 65 seconds, one claim goes through.
const STEPS: usize = 2_048;

/// How often one step of a claim comes back for tenants that have something due in more than one group.
const ROUNDS: usize = 16;

/// Of more namespaces than this, those with something due are found first.
const FEW_NAMESPACES: usize = 4;

/// What the claims of one transaction found.
#[derive(Debug, Default)]
pub(super) struct Batch {
    pub(super) claimed: Vec<Claimed>,
    /// Those that came too late, and have ended.
    pub(super) ended: Vec<(i64, Cycle)>,
    /// Those that cannot be read. In the transaction they are as if they were claimed, so it must not be committed.
    pub(super) unreadable: Vec<(i64, Unreadable)>,
}

#[derive(Debug)]
pub(super) enum Claiming {
    Found(Batch),
    /// A sweep took too long. The transaction has failed; the next look is from the floor.
    SweepTookTooLong,
}

/// Where the walk through the tenants with due cycles goes on: it goes in a ring, over any number of calls.
#[derive(Clone, Debug, Default)]
pub(super) struct Walk {
    at: Option<(String, i64, String)>,
    /// Whether somebody with room was found since the walk was at the start.
    found: bool,
    /// Whether nobody was found in the whole ring, and since.
    alone: bool,
}

/// A sweep that is dropped has failed.
pub(super) struct Sweep<'a> {
    scheduler: &'a PostgresScheduler,
    look: Look,
    ended: bool,
}

impl PostgresScheduler {
    /// Claims in the transaction that is open on this connection.
    pub(super) async fn claim_in(
        &self,
        connection: &mut PgConnection,
        shares: Option<Shares>,
    ) -> Result<Claiming, SchedulerError> {
        let Some(mut shares) = shares else { return Ok(Claiming::Found(Batch::default())) };
        let mut batch = Batch::default();
        let look = self.floor().look(self.elapsed());
        let mut sweep = Sweep::new(self, look);
        let bounded = look != Look::Floor;
        if bounded {
            say(connection, sql::SWEEP_TIMEOUT).await?;
        }
        let namespaces = match self.fronts(connection, &mut shares, &mut sweep, &mut batch).await {
            Ok(namespaces) => namespaces,
            Err(error) if bounded && took_too_long(&error) => {
                say(connection, "ROLLBACK").await?;
                sweep.failed(Some(self.server_ms(connection).await?));
                return Ok(Claiming::SweepTookTooLong);
            }
            Err(error) => return Err(error),
        };
        if bounded {
            say(connection, sql::STATEMENT_TIMEOUT).await?;
        }
        if shares.passed_over() && self.by_tenants(connection, &mut shares, &namespaces, &mut batch).await? {
            shares.lift();
            self.look_at(
                connection,
                &mut shares,
                &mut Sweep::new(self, Look::Floor),
                &namespaces,
                &mut batch,
            )
            .await?;
        }
        Ok(Claiming::Found(batch))
    }

    /// What is due the longest. Returns the namespaces that were looked at, in order.
    async fn fronts(
        &self,
        connection: &mut PgConnection,
        shares: &mut Shares,
        sweep: &mut Sweep<'_>,
        batch: &mut Batch,
    ) -> Result<Vec<String>, SchedulerError> {
        let known = &self.shared.namespaces;
        let (namespaces, complete) = known.select(connection, shares.namespaces(), self.elapsed()).await?;
        let mut looked_at = self.look_at(connection, shares, sweep, &namespaces, batch).await?;
        if shares.limit > 0 && !complete {
            let mut more = known.read(connection, self.elapsed()).await?;
            more.retain(|namespace| {
                shares.namespaces().contains(namespace) && !namespaces.contains(namespace)
            });
            looked_at.extend(self.look_at(connection, shares, sweep, &more, batch).await?);
            looked_at.sort_unstable();
        }
        sweep.swept(Found::default());
        Ok(looked_at)
    }

    async fn look_at(
        &self,
        connection: &mut PgConnection,
        shares: &mut Shares,
        sweep: &mut Sweep<'_>,
        namespaces: &[String],
        batch: &mut Batch,
    ) -> Result<Vec<String>, SchedulerError> {
        let mut namespaces = if namespaces.len() > FEW_NAMESPACES {
            self.with_due(connection, sweep, namespaces).await?
        } else {
            namespaces.to_vec()
        };
        for namespaces in namespaces.chunks(sql::MOST_NAMESPACES) {
            if let (Look::Part { from, to }, false) = (sweep.look, sweep.ended) {
                let floors = vec![from; namespaces.len()];
                let found = self.front(connection, shares, namespaces, &floors, Some(to - 1), batch).await?;
                if found.is_some_and(|found| found.full) {
                    sweep.swept(found.unwrap_or_default());
                }
                if found.is_none() {
                    self.stay_below_what_waits(connection, namespaces, from, Some(to - 1)).await?;
                }
            }
            if shares.limit == 0 {
                break;
            }
            let all = sweep.look == Look::All && !sweep.ended;
            let floors = if all { vec![0; namespaces.len()] } else { self.floor().of(namespaces) };
            let Some(found) = self.front(connection, shares, namespaces, &floors, None, batch).await? else {
                if all {
                    self.stay_below_what_waits(connection, namespaces, 0, None).await?;
                }
                continue;
            };
            if all {
                self.floor().lower(found, self.elapsed());
            } else {
                self.floor().found(found, self.elapsed());
            }
        }
        namespaces.sort_unstable();
        Ok(namespaces)
    }

    /// Lowers the floor to the first cycle that can be claimed from `from` to `till`, because a sweep met only cycles of tenants
    /// without room. The looks by tenant, and with the shares lifted, begin at the floor.
    async fn stay_below_what_waits(
        &self,
        connection: &mut PgConnection,
        namespaces: &[String],
        from: i64,
        till: Option<i64>,
    ) -> Result<(), SchedulerError> {
        let first = query(sql::FIRST_DUE).bind(self.now()).bind(namespaces).bind(from).bind(till);
        let left: Option<i64> = column(&first.fetch_one(connection).await.map_err(failed)?, 0)?;
        if left.is_some() {
            self.floor().lower(Found { namespaces, left, ..Found::default() }, self.elapsed());
        }
        Ok(())
    }

    /// Those of many namespaces that have something due, the longest due first: a look at a front costs more than that, and
    /// where one look does not reach all of them, none waits behind the others for ever.
    async fn with_due(
        &self,
        connection: &mut PgConnection,
        sweep: &Sweep<'_>,
        namespaces: &[String],
    ) -> Result<Vec<String>, SchedulerError> {
        let from_start = sweep.look != Look::Floor && !sweep.ended;
        let floors = if from_start { vec![0; namespaces.len()] } else { self.floor().of(namespaces) };
        let due = query(sql::WITH_DUE).bind(self.now()).bind(namespaces).bind(&floors);
        let rows = due.fetch_all(connection).await.map_err(failed)?;
        let due = rows.iter().map(|row| Ok((column(row, 1)?, column(row, 0)?)));
        let mut due = due.collect::<Result<Vec<(i64, String)>, SchedulerError>>()?;
        due.sort_unstable();
        let due: Vec<_> = due.into_iter().map(|(_, namespace)| namespace).collect();
        let rest: Vec<_> = namespaces.iter().filter(|namespace| !due.contains(namespace)).cloned().collect();
        self.floor().found(Found { namespaces: &rest, ..Found::default() }, self.elapsed());
        Ok(due)
    }

    /// One look at the fronts of at most [`sql::MOST_NAMESPACES`] namespaces. Returns nothing where it says nothing about
    /// what is left.
    async fn front<'n>(
        &self,
        connection: &mut PgConnection,
        shares: &mut Shares,
        namespaces: &'n [String],
        floors: &[i64],
        till: Option<i64>,
        batch: &mut Batch,
    ) -> Result<Option<Found<'n>>, SchedulerError> {
        let plain = shares.all_have_room();
        let text = match shares.calls() {
            Some(_) => sql::claim_for_many(namespaces.len()),
            None if plain => sql::claim(namespaces.len()),
            None => sql::claim_shares(namespaces.len()),
        };
        let mut look = query(text)
            .bind(self.now())
            .bind(shares.lease())
            .bind(limit(shares.limit))
            .bind(shares.nonce())
            .bind(namespaces)
            .bind(floors)
            .bind(till);
        if let Some(calls) = shares.calls() {
            look = look.bind(calls);
        } else if !plain {
            let (tenants, counts): (Vec<_>, Vec<_>) = shares.running().unzip();
            look = look.bind(shares.per_tenant()).bind(tenants).bind(counts);
        }
        let rows = look.fetch_all(connection).await.map_err(failed)?;
        let mut found = Found { namespaces, full: rows.len() >= shares.limit, ..Found::default() };
        for row in &rows {
            found.last = found.last.max(Some(column(row, COLUMNS + 3)?));
            found.server_ms = Some(column(row, COLUMNS + 5)?);
            if !plain {
                found.left = column(row, COLUMNS + 7)?;
            }
        }
        batch.take(&rows, shares)?;
        // All that is at the front may be of tenants without room: then nothing says when it was due.
        Ok((plain || !rows.is_empty()).then_some(found))
    }

    /// What is due of tenants with room, wherever it is behind cycles of the others. Returns whether nobody else waits.
    async fn by_tenants(
        &self,
        connection: &mut PgConnection,
        shares: &mut Shares,
        namespaces: &[String],
        batch: &mut Batch,
    ) -> Result<bool, SchedulerError> {
        let mut walk = self.walk().clone();
        let mut steps = STEPS;
        let mut all_seen = walk.at.is_none();
        let mut nobody_left = true;
        let mut over = false;
        while steps > 0 && !over {
            let from = walk.at.take().unwrap_or_default();
            let Some(namespace) = namespaces.iter().find(|namespace| **namespace >= from.0) else {
                walk.alone = !walk.found;
                walk.found = false;
                over = all_seen;
                all_seen = true;
                continue;
            };
            let (bucket, tenant) = if *namespace == from.0 { (from.1, from.2.as_str()) } else { (0, "") };
            let bucket = bucket.max(self.floor().of(std::slice::from_ref(namespace))[0] >> 16);
            let due = query(sql::DUE_TENANTS)
                .bind(self.now())
                .bind(namespace)
                .bind(bucket)
                .bind(tenant)
                .bind(limit(steps));
            let rows = due.fetch_all(&mut *connection).await.map_err(failed)?;
            let groups = rows.iter().map(|row| Ok((column(row, 0)?, column(row, 1)?, column(row, 2)?)));
            let groups = groups.collect::<Result<Vec<(i64, String, bool)>, SchedulerError>>()?;
            let end = groups.len() < steps;
            steps -= groups.len().min(steps);
            walk.at = match groups.last() {
                Some((bucket, tenant, _)) if !end => Some((namespace.clone(), *bucket, behind(tenant))),
                _ => Some((behind(namespace), 0, String::new())),
            };
            let mut waiting: Vec<_> = groups.iter().filter(|group| group.2).collect();
            for _ in 0..ROUNDS {
                waiting =
                    self.claim_groups(connection, shares, namespace, &waiting, &mut walk, batch).await?;
                if waiting.is_empty() || shares.limit == 0 {
                    break;
                }
            }
            // What is left is given by a later call.
            nobody_left &= waiting.is_empty();
            if shares.limit == 0 {
                break;
            }
        }
        let alone = (over || walk.alone) && nobody_left && shares.limit > 0;
        *self.walk() = walk;
        Ok(alone)
    }

    /// Claims what is due of these groups: of each tenant with room, from its first group. Returns the other groups of tenants
    /// that still have room.
    async fn claim_groups<'g>(
        &self,
        connection: &mut PgConnection,
        shares: &mut Shares,
        namespace: &str,
        groups: &[&'g (i64, String, bool)],
        walk: &mut Walk,
        batch: &mut Batch,
    ) -> Result<Vec<&'g (i64, String, bool)>, SchedulerError> {
        let mut met = HashSet::new();
        let (mut buckets, mut tenants, mut rooms, mut later) =
            (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        for group @ (bucket, tenant, _) in groups.iter().copied() {
            match shares.room(tenant) {
                0 => {}
                room if met.insert(tenant) => {
                    buckets.push(*bucket);
                    tenants.push(tenant.as_str());
                    rooms.push(limit(room));
                }
                _ => later.push(group),
            }
        }
        if tenants.is_empty() {
            return Ok(later);
        }
        let claim = query(sql::CLAIM_OF)
            .bind(self.now())
            .bind(shares.lease())
            .bind(limit(shares.limit))
            .bind(shares.nonce())
            .bind(vec![namespace; tenants.len()])
            .bind(&buckets)
            .bind(&tenants)
            .bind(&rooms);
        let rows = claim.fetch_all(connection).await.map_err(failed)?;
        if !rows.is_empty() {
            walk.found = true;
            walk.alone = false;
        }
        let before = batch.claimed.len();
        batch.take(&rows, shares)?;
        if shares.limit == 0 {
            // The next call goes on behind the last tenant that was given something.
            let given = &batch.claimed[before..];
            let is_given = |tenant: &str| given.iter().any(|claim| claim.cycle.tenant == tenant);
            let last = groups.iter().rev().find(|(_, tenant, _)| is_given(tenant));
            walk.at = last.map(|(bucket, tenant, _)| (namespace.to_owned(), *bucket, behind(tenant)));
        }
        later.retain(|(_, tenant, _)| shares.room(tenant) > 0);
        Ok(later)
    }
}

impl Batch {
    /// Takes what the rows say.
    fn take(&mut self, rows: &[PgRow], shares: &mut Shares) -> Result<(), SchedulerError> {
        let before = self.claimed.len();
        for row in rows {
            let id = column(row, COLUMNS + 4)?;
            match read(row, id) {
                Ok(Ok(claimed)) => self.claimed.push(claimed),
                Ok(Err(cycle)) => self.ended.push((id, cycle)),
                Err(error) => self.unreadable.push((id, Unreadable::new(key(row), error))),
            }
        }
        shares.take(&self.claimed[before..]);
        Ok(())
    }
}

/// A claim, or a cycle that came too late for its last start and has ended.
fn read(row: &PgRow, id: i64) -> Result<Result<Claimed, Cycle>, SchedulerError> {
    let cycle = cycle(row)?;
    let Some(claimed_at) = column(row, COLUMNS)? else { return Ok(Err(cycle)) };
    let (payload, metadata): (Vec<u8>, &str) = (column(row, COLUMNS + 1)?, column(row, COLUMNS + 2)?);
    let mut claimed = Claimed::new(cycle, payload, codec::from_ms(claimed_at));
    if !metadata.is_empty() {
        claimed.metadata = codec::metadata(metadata)?;
    }
    Ok(Ok(claimed.in_row(id, column(row, COLUMNS + 6)?)))
}

fn key(row: &PgRow) -> Option<CycleKey> {
    Some(CycleKey::new(column::<String>(row, 0).ok()?, column::<String>(row, 1).ok()?))
}

impl<'a> Sweep<'a> {
    pub(super) fn new(scheduler: &'a PostgresScheduler, look: Look) -> Self {
        Self { scheduler, look, ended: look == Look::Floor }
    }

    pub(super) fn swept(&mut self, found: Found<'_>) {
        if !std::mem::replace(&mut self.ended, true) {
            self.scheduler.floor().swept(self.look, found, self.scheduler.elapsed());
        }
    }

    pub(super) fn failed(&mut self, server_ms: Option<i64>) {
        if !std::mem::replace(&mut self.ended, true) {
            self.scheduler.floor().failed(self.look, server_ms, self.scheduler.elapsed());
        }
    }
}

impl Drop for Sweep<'_> {
    fn drop(&mut self) {
        self.failed(None);
    }
}

/// The time by which a set aside row is met again.
pub(super) const ASIDE: Duration = Duration::from_secs(10);
