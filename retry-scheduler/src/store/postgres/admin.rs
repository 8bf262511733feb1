//! The verbs of operators.

use std::collections::{BTreeSet, HashSet};
use std::time::Duration;

use async_trait::async_trait;
use sqlx::{AssertSqlSafe, PgConnection, query};

use super::connections::{say, within};
use super::errors::failed;
use super::rows::{COLUMNS, cycle, get as column};
use super::shares::column as limit_of;
use super::verbs::write;
use super::{PostgresScheduler, alone, sql, whole};
use crate::admin::{Changed, CycleAdmin, CycleClass, CycleFilter, CyclePage, NamespaceCounts, RunNow};
use crate::bounds::check_text;
use crate::claim::Unreadable;
use crate::cycle::{Cycle, CycleKey, Event, Refused, Reschedule};
use crate::error::SchedulerError;
use crate::store::codec;

/// How many cycles are changed in one transaction.
const BATCH: usize = 256;

/// Where a cycle stands in a list: by namespace, then by time, then by age.
type Place = (String, i64, i64);

/// A cycle of a list.
struct Listed {
    place: Place,
    key: CycleKey,
    row: Result<Cycle, SchedulerError>,
}

#[async_trait]
impl CycleAdmin for PostgresScheduler {
    async fn list(
        &self,
        filter: &CycleFilter,
        after: Option<&CycleKey>,
        limit: usize,
    ) -> Result<CyclePage, SchedulerError> {
        after.map_or(Ok(()), CycleKey::check)?;
        alone!(self, |connection| async {
            let after = match after {
                Some(key) => Some(place_of(connection, key).await?),
                None => None,
            };
            let found = self.matching(connection, filter, after, limit).await?;
            let rows = found.into_iter().map(|Listed { key, row, .. }| {
                let row = row.map_err(|error| Unreadable::new(Some(key.clone()), error));
                (key, row)
            });
            Ok(CyclePage::new(rows.collect(), limit))
        })
    }

    async fn counts(&self) -> Result<Vec<NamespaceCounts>, SchedulerError> {
        alone!(self, |connection| async {
            let mut all = Vec::new();
            for row in query(sql::ALL_NAMESPACES).fetch_all(&mut *connection).await.map_err(failed)? {
                let mut counts = self.counts_of(connection, column(&row, 0)?).await?;
                counts.paused = column(&row, 1)?;
                let any = counts.due + counts.waiting + counts.leased;
                if counts.paused || any + counts.resolved + counts.exhausted + counts.cancelled > 0 {
                    all.push(counts);
                }
            }
            Ok(all)
        })
    }

    async fn pause(&self, namespace: &str) -> Result<bool, SchedulerError> {
        self.set_paused(namespace, sql::PAUSE).await
    }

    async fn resume(&self, namespace: &str) -> Result<bool, SchedulerError> {
        self.set_paused(namespace, sql::RESUME).await.inspect(|_| self.shared.notices.overdue())
    }

    async fn paused(&self) -> Result<BTreeSet<String>, SchedulerError> {
        alone!(self, |connection| async {
            let rows = query(sql::ALL_NAMESPACES).fetch_all(connection).await.map_err(failed)?;
            let mut paused = BTreeSet::new();
            for row in &rows {
                if column(row, 1)? {
                    paused.insert(column(row, 0)?);
                }
            }
            Ok(paused)
        })
    }

    async fn run_now(&self, key: &CycleKey) -> Result<RunNow, SchedulerError> {
        key.check()?;
        let answer = whole!(self, |connection| async {
            let run_now = query(sql::RUN_NOW).bind(self.now()).bind(&key.namespace).bind(&key.subject);
            if let Some(row) = run_now.fetch_optional(&mut *connection).await.map_err(failed)? {
                return Ok(RunNow::Due(cycle(&row)?));
            }
            let Some((cycle, now)) = self.read(connection, key).await? else { return Ok(RunNow::Unknown) };
            Ok(match cycle.apply(Event::RunNow, codec::from_ms(now)) {
                Err(Refused::Ended(ending)) => RunNow::Ended(ending),
                _ => RunNow::Leased,
            })
        })?;
        if matches!(answer, RunNow::Due(_)) {
            self.shared.notices.overdue();
        }
        Ok(answer)
    }

    async fn cancel_many(&self, filter: &CycleFilter, limit: usize) -> Result<Changed, SchedulerError> {
        self.change_many(filter, &Event::Cancel, limit).await
    }

    async fn reschedule_many(
        &self,
        filter: &CycleFilter,
        change: Reschedule,
        limit: usize,
    ) -> Result<Changed, SchedulerError> {
        self.change_many(filter, &Event::Reschedule(change), limit).await
    }
}

impl PostgresScheduler {
    async fn set_paused(&self, namespace: &str, text: &'static str) -> Result<bool, SchedulerError> {
        check_text("namespace", namespace)?;
        let done = alone!(self, |connection| async {
            Ok(query(text).bind(namespace).execute(connection).await.map_err(failed)?.rows_affected() > 0)
        });
        self.shared.namespaces.changed();
        done
    }

    /// Changes what matches, batch by batch: others get their turn in between.
    async fn change_many(
        &self,
        filter: &CycleFilter,
        event: &Event,
        limit: usize,
    ) -> Result<Changed, SchedulerError> {
        let mut answer = Changed::default();
        let (mut after, mut met) = (None, HashSet::new());
        while answer.changed < limit && answer.failed.len() < Changed::MAX_FAILED {
            let batch = BATCH.min(limit - answer.changed);
            let last = alone!(self, |connection| async {
                say(connection, "BEGIN").await?;
                let found = self.matching(connection, filter, after.take(), batch).await?;
                let last = found.last().map(|listed| listed.place.clone());
                let locked = lock(connection, &found).await?;
                let now = codec::from_ms(self.server_ms(connection).await?);
                for Listed { place, key, row } in found {
                    // A cycle that was put off may come again, further on.
                    if !met.insert(place.2) {
                        continue;
                    }
                    let changed = match row {
                        Ok(_) if !locked.contains(&place.2) => {
                            Err(SchedulerError::conflict("somebody else has the cycle locked"))
                        }
                        Ok(old) => match old.apply(event.clone(), now) {
                            Ok(transition) => self.change(connection, &old, &transition.cycle).await?,
                            Err(_) => continue,
                        },
                        Err(error) => Err(error),
                    };
                    match changed {
                        Ok(()) => answer.changed += 1,
                        Err(error) => answer.failed.push(Unreadable::new(Some(key), error)),
                    }
                }
                say(connection, "COMMIT").await?;
                if let (Event::Reschedule(change), 1..) = (event, answer.changed) {
                    self.shared.notices.due_in(change.next_in);
                }
                Ok(last)
            })?;
            let Some(last) = last else { break };
            after = Some(last);
        }
        Ok(answer)
    }

    /// Writes a cycle and tells the hook, both or neither. The inner error is that of this cycle.
    async fn change(
        &self,
        connection: &mut PgConnection,
        old: &Cycle,
        cycle: &Cycle,
    ) -> Result<Result<(), SchedulerError>, SchedulerError> {
        let overtaken = || SchedulerError::conflict("somebody else changed the cycle meanwhile");
        if self.shared.hook.is_none() {
            return Ok(write(connection, old, cycle).await?.then_some(()).ok_or_else(overtaken));
        }
        say(connection, "SAVEPOINT retry_change").await?;
        let changed = if write(connection, old, cycle).await? {
            self.tell(connection, cycle).await
        } else {
            Err(overtaken())
        };
        if changed.is_err() {
            say(connection, "ROLLBACK TO SAVEPOINT retry_change").await?;
        }
        say(connection, "RELEASE SAVEPOINT retry_change").await?;
        Ok(changed)
    }

    /// The first cycles that match, behind a place.
    async fn matching(
        &self,
        connection: &mut PgConnection,
        filter: &CycleFilter,
        after: Option<Place>,
        limit: usize,
    ) -> Result<Vec<Listed>, SchedulerError> {
        let mut names: Vec<String> = if let Some(name) = &filter.namespace {
            vec![name.clone()]
        } else {
            let rows = query(sql::ALL_NAMESPACES).fetch_all(&mut *connection).await.map_err(failed)?;
            rows.iter().map(|row| column(row, 0)).collect::<Result<_, _>>()?
        };
        if let Some((namespace, ..)) = &after {
            names.retain(|name| name >= namespace);
        }
        let mut found = Vec::new();
        for name in names {
            if found.len() >= limit {
                break;
            }
            let behind = after.as_ref().filter(|(namespace, ..)| *namespace == name);
            let (time, id) = behind.map_or((i64::MIN, 0), |(_, time, id)| (*time, *id));
            let way = match &filter.tenant {
                Some(tenant) => way_to(connection, &name, tenant).await?,
                None => Way::Class,
            };
            let list = query(AssertSqlSafe(list_text(filter, way)))
                .bind(self.now())
                .bind(&name)
                .bind(time)
                .bind(id)
                .bind(limit_of(limit - found.len()))
                .bind(filter.tenant.as_deref());
            for row in list.fetch_all(&mut *connection).await.map_err(failed)? {
                let place = (name.clone(), column(&row, COLUMNS)?, column(&row, COLUMNS + 1)?);
                let key = CycleKey::new(name.as_str(), column::<String>(&row, 1)?);
                found.push(Listed { place, key, row: cycle(&row) });
            }
        }
        Ok(found)
    }

    async fn counts_of(
        &self,
        connection: &mut PgConnection,
        namespace: String,
    ) -> Result<NamespaceCounts, SchedulerError> {
        let mut counts = NamespaceCounts::new(namespace.as_str());
        let most = limit_of(NamespaceCounts::MAX);
        let due = query(AssertSqlSafe(due_count_text())).bind(self.now()).bind(&namespace).bind(most);
        let row = due.fetch_one(&mut *connection).await.map_err(failed)?;
        for (nth, count) in [&mut counts.due, &mut counts.leased].into_iter().enumerate() {
            *count = usize::try_from(column::<i64>(&row, nth)?).unwrap_or(0);
        }
        let classes = [
            (CycleClass::Waiting, &mut counts.waiting),
            (CycleClass::Resolved, &mut counts.resolved),
            (CycleClass::Exhausted, &mut counts.exhausted),
            (CycleClass::Cancelled, &mut counts.cancelled),
        ];
        for (class, count) in classes {
            let counted =
                query(AssertSqlSafe(count_text(class))).bind(self.now()).bind(&namespace).bind(most);
            let row = counted.fetch_one(&mut *connection).await.map_err(failed)?;
            *count = usize::try_from(column::<i64>(&row, 0)?).unwrap_or(0);
        }
        let oldest = query(AssertSqlSafe(oldest_text())).bind(self.now()).bind(&namespace);
        if let Some(row) = oldest.fetch_optional(connection).await.map_err(failed)? {
            counts.oldest_due = u64::try_from(column::<i64>(&row, 0)?).ok().map(Duration::from_millis);
        }
        Ok(counts)
    }
}

async fn place_of(connection: &mut PgConnection, key: &CycleKey) -> Result<Place, SchedulerError> {
    let place = query(sql::PLACE).bind(&key.namespace).bind(&key.subject);
    let row = place.fetch_optional(connection).await.map_err(failed)?;
    let row = row.ok_or_else(|| SchedulerError::invalid("the cycle to list behind is unknown"))?;
    Ok((key.namespace.clone(), column(&row, 0)?, column(&row, 1)?))
}

async fn way_to(connection: &mut PgConnection, namespace: &str, tenant: &str) -> Result<Way, SchedulerError> {
    let count = query(sql::COUNT_OF_TENANT).bind(namespace).bind(tenant).bind(FEW_OF_TENANT);
    let count: i64 = column(&count.fetch_one(connection).await.map_err(failed)?, 0)?;
    Ok(if count < FEW_OF_TENANT { Way::Tenant } else { Way::Class })
}

/// Locks those of these cycles that nobody else has locked, until the transaction ends. Returns their ids.
async fn lock(connection: &mut PgConnection, found: &[Listed]) -> Result<HashSet<i64>, SchedulerError> {
    let ids: Vec<_> = found.iter().map(|listed| listed.place.2).collect();
    let rows = query(sql::LOCK).bind(ids).fetch_all(connection).await.map_err(failed)?;
    rows.iter().map(|row| column(row, 0)).collect()
}

/// `$2` is the namespace, `$3` the most to count.
pub(super) fn count_text(class: CycleClass) -> String {
    let (clock, condition) = (sql::CLOCK, condition(class));
    format!(
        "WITH {clock} SELECT count(*) FROM (SELECT 1 FROM retry_cycles WHERE namespace = $2 AND {condition} LIMIT $3) \
         AS counted"
    )
}

/// How many of the first `$3` that are due or leased are due, and how many leased.
pub(super) fn due_count_text() -> String {
    let (clock, leased) = (sql::CLOCK, "claimed_at IS NOT NULL AND lease_until > now");
    format!(
        "WITH {clock} SELECT count(*) FILTER (WHERE NOT coalesce({leased}, false)), count(*) FILTER (WHERE {leased}) \
         FROM clock, (SELECT claimed_at, lease_until FROM retry_cycles WHERE state = 0 AND namespace = $2 \
         AND wake_at <= (SELECT now FROM clock) ORDER BY wake_at LIMIT $3) AS first"
    )
}

/// Since when the first one could have been claimed.
pub(super) fn oldest_text() -> String {
    let (clock, condition) = (sql::CLOCK, condition(CycleClass::Due));
    format!(
        "WITH {clock} SELECT now - CASE WHEN claimed_at IS NULL THEN wake_at ELSE lease_until END FROM clock, retry_cycles \
         WHERE namespace = $2 AND {condition} ORDER BY wake_at LIMIT 1"
    )
}

/// The way to the cycles of a list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    /// Through the index of their class, in order. Those of other tenants are passed over.
    Class,
    /// Through all cycles of the tenant, which are sorted then.
    Tenant,
}

/// Up to this many cycles of a tenant are all read for a list of them. More are met soon enough among those of others.
pub(super) const FEW_OF_TENANT: i64 = 100_000;

/// `$2` is the namespace, `$3` and `$4` the place to list behind, `$5` the limit, `$6` the tenant.
pub(super) fn list_text(filter: &CycleFilter, way: Way) -> String {
    let time = if filter.class.ending().is_some() { "ended_at" } else { "wake_at" };
    let (columns, condition) = (sql::COLUMNS, condition(filter.class));
    let (from, of_tenant, order) = match way {
        Way::Class if filter.tenant.is_none() => {
            ("retry_cycles JOIN retry_subjects USING (id)", "$6::text IS NULL", time.to_owned())
        }
        Way::Class => ("retry_cycles JOIN retry_subjects USING (id)", "tenant = $6", time.to_owned()),
        // No index has this order: else the planner would rather go through it than sort.
        Way::Tenant => (
            "retry_subjects CROSS JOIN LATERAL \
             (SELECT * FROM retry_cycles WHERE retry_cycles.id = retry_subjects.id OFFSET 0) AS retry_cycles",
            "retry_subjects.namespace = $2 AND owner = $6",
            format!("{time} + 0"),
        ),
    };
    format!(
        "WITH {clock} SELECT {columns}, {time}, retry_cycles.id FROM {from} \
         WHERE retry_cycles.namespace = $2 AND {condition} AND {of_tenant} \
         AND {time} >= $3 AND ({time}, retry_cycles.id) > ($3, $4) ORDER BY {order}, retry_cycles.id LIMIT $5",
        clock = sql::CLOCK,
    )
}

/// A leased cycle was due when it was claimed.
fn condition(class: CycleClass) -> &'static str {
    match class {
        CycleClass::Pending => "state = 0",
        CycleClass::Due => {
            "state = 0 AND wake_at <= (SELECT now FROM clock) \
             AND (claimed_at IS NULL OR lease_until <= (SELECT now FROM clock))"
        }
        CycleClass::Waiting => "state = 0 AND claimed_at IS NULL AND wake_at > (SELECT now FROM clock)",
        CycleClass::Leased => {
            "state = 0 AND wake_at <= (SELECT now FROM clock) \
             AND claimed_at IS NOT NULL AND lease_until > (SELECT now FROM clock)"
        }
        CycleClass::Resolved => "state <> 0 AND state = 1",
        CycleClass::Exhausted => "state <> 0 AND state = 2",
        CycleClass::Cancelled => "state <> 0 AND state = 3",
    }
}
