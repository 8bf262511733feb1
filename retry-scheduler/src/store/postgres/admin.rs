//! The verbs of operators.

use std::collections::{BTreeSet, HashSet};
use std::time::Duration;

use async_trait::async_trait;
use sqlx::postgres::PgRow;
use sqlx::{AssertSqlSafe, PgConnection, query};

use super::connections::within;
use super::errors::failed;
use super::rows::{COLUMNS, cycle, get as column};
use super::shares::column as limit_of;
use super::turns::say;
use super::verbs::write;
use super::{PostgresScheduler, alone, sql};
use crate::admin::{Changed, CycleAdmin, CycleClass, CycleFilter, NamespaceCounts, RunNow};
use crate::bounds::check_text;
use crate::claim::Unreadable;
use crate::cycle::{Cycle, CycleKey, Event, Refused, Reschedule};
use crate::error::SchedulerError;
use crate::store::codec;

/// How many cycles are changed in one transaction.
const BATCH: usize = 256;

/// Where a cycle stands in a list: by namespace, then by time, then by age.
type Place = (String, i64, i64);

#[async_trait]
impl CycleAdmin for PostgresScheduler {
    async fn list(
        &self,
        filter: &CycleFilter,
        after: Option<&CycleKey>,
        limit: usize,
    ) -> Result<Vec<Cycle>, SchedulerError> {
        after.map_or(Ok(()), CycleKey::check)?;
        alone!(self, |connection| async {
            let after = match after {
                Some(key) => Some(place_of(connection, key).await?),
                None => None,
            };
            let found = self.matching(connection, filter, after, limit, false).await?;
            Ok(found.into_iter().filter_map(|(_, row)| row.ok()).collect())
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
        alone!(self, |connection| async {
            let run_now = query(sql::RUN_NOW).bind(self.now()).bind(&key.namespace).bind(&key.subject);
            if let Some(row) = run_now.fetch_optional(&mut *connection).await.map_err(failed)? {
                self.shared.notices.overdue();
                return Ok(RunNow::Due(cycle(&row)?));
            }
            let Some((cycle, now)) = self.read(connection, key).await? else { return Ok(RunNow::Unknown) };
            Ok(match cycle.apply(Event::RunNow, codec::from_ms(now)) {
                Err(Refused::Ended(ending)) => RunNow::Ended(ending),
                _ => RunNow::Leased,
            })
        })
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

    /// Changes what matches, batch by batch: others get their turn in between. What somebody else has locked is left out.
    async fn change_many(
        &self,
        filter: &CycleFilter,
        event: &Event,
        limit: usize,
    ) -> Result<Changed, SchedulerError> {
        let mut answer = Changed::default();
        let (mut after, mut met) = (None, HashSet::new());
        while answer.changed < limit {
            let batch = BATCH.min(limit - answer.changed);
            let last = alone!(self, |connection| async {
                say(connection, "BEGIN").await?;
                let found = self.matching(connection, filter, after.take(), batch, true).await?;
                let last = found.last().map(|(place, _)| place.clone());
                let now = codec::from_ms(self.server_ms(connection).await?);
                for (place, row) in found {
                    // A cycle that was put off may come again, further on.
                    if !met.insert(place.2) {
                        continue;
                    }
                    match row {
                        Ok(old) => {
                            if let Ok(transition) = old.apply(event.clone(), now) {
                                match self.change(connection, &old, &transition.cycle).await? {
                                    Ok(changed) => answer.changed += usize::from(changed),
                                    Err(error) => {
                                        answer.failed.push(Unreadable::new(Some(old.key), error));
                                    }
                                }
                            }
                        }
                        Err(unreadable) => answer.failed.push(unreadable),
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

    /// Writes a cycle and tells the hook, both or neither. The inner error is the hook's.
    async fn change(
        &self,
        connection: &mut PgConnection,
        old: &Cycle,
        cycle: &Cycle,
    ) -> Result<Result<bool, SchedulerError>, SchedulerError> {
        if self.shared.hook.is_none() {
            return write(connection, old, cycle).await.map(Ok);
        }
        say(connection, "SAVEPOINT retry_change").await?;
        let changed = write(connection, old, cycle).await?;
        let told = self.tell(connection, cycle).await;
        if told.is_err() {
            say(connection, "ROLLBACK TO SAVEPOINT retry_change").await?;
        }
        say(connection, "RELEASE SAVEPOINT retry_change").await?;
        Ok(told.map(|()| changed))
    }

    /// The first cycles that match, behind a place.
    async fn matching(
        &self,
        connection: &mut PgConnection,
        filter: &CycleFilter,
        after: Option<Place>,
        limit: usize,
        lock: bool,
    ) -> Result<Vec<(Place, Result<Cycle, Unreadable>)>, SchedulerError> {
        let mut names: Vec<String> = if let Some(name) = &filter.namespace {
            vec![name.clone()]
        } else {
            let rows = query(sql::ALL_NAMESPACES).fetch_all(&mut *connection).await.map_err(failed)?;
            rows.iter().map(|row| column(row, 0)).collect::<Result<_, _>>()?
        };
        if let Some((namespace, ..)) = &after {
            names.retain(|name| name >= namespace);
        }
        let text = list_text(filter, lock);
        let mut found = Vec::new();
        for name in names {
            if found.len() >= limit {
                break;
            }
            let behind = after.as_ref().filter(|(namespace, ..)| *namespace == name);
            let (time, id) = behind.map_or((i64::MIN, 0), |(_, time, id)| (*time, *id));
            let list = query(AssertSqlSafe(text.clone()))
                .bind(self.now())
                .bind(&name)
                .bind(time)
                .bind(id)
                .bind(limit_of(limit - found.len()))
                .bind(filter.tenant.as_deref());
            for row in list.fetch_all(&mut *connection).await.map_err(failed)? {
                let place = (name.clone(), column(&row, COLUMNS)?, column(&row, COLUMNS + 1)?);
                found.push((place, read(&row)));
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
        let classes = [
            (CycleClass::Due, &mut counts.due),
            (CycleClass::Waiting, &mut counts.waiting),
            (CycleClass::Leased, &mut counts.leased),
            (CycleClass::Resolved, &mut counts.resolved),
            (CycleClass::Exhausted, &mut counts.exhausted),
            (CycleClass::Cancelled, &mut counts.cancelled),
        ];
        for (class, count) in classes {
            let counted = query(AssertSqlSafe(count_text(class)))
                .bind(self.now())
                .bind(&namespace)
                .bind(limit_of(NamespaceCounts::MAX));
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

fn read(row: &PgRow) -> Result<Cycle, Unreadable> {
    cycle(row).map_err(|error| {
        let key = || Some(CycleKey::new(column::<String>(row, 0).ok()?, column::<String>(row, 1).ok()?));
        Unreadable::new(key(), error)
    })
}

/// `$2` is the namespace, `$3` the most to count.
fn count_text(class: CycleClass) -> String {
    let (clock, condition) = (sql::CLOCK, condition(class));
    format!(
        "WITH {clock} SELECT count(*) FROM (SELECT 1 FROM retry_cycles WHERE namespace = $2 AND {condition} LIMIT $3) \
         AS counted"
    )
}

/// Since when the first one could have been claimed.
fn oldest_text() -> String {
    let (clock, condition) = (sql::CLOCK, condition(CycleClass::Due));
    format!(
        "WITH {clock} SELECT now - greatest(wake_at, lease_until) FROM clock, retry_cycles \
         WHERE namespace = $2 AND {condition} ORDER BY wake_at LIMIT 1"
    )
}

/// `$2` is the namespace, `$3` and `$4` the place to list behind, `$5` the limit, `$6` the tenant.
fn list_text(filter: &CycleFilter, lock: bool) -> String {
    let time = match filter.class {
        CycleClass::Waiting => "wake_at",
        class if class.ending().is_some() => "ended_at",
        // Leased ones stand in the index where they were due: these lists are sorted.
        _ => "greatest(wake_at, lease_until)",
    };
    let tenant = if filter.tenant.is_some() { " AND tenant = $6" } else { " AND $6::text IS NULL" };
    let lock = if lock { " FOR NO KEY UPDATE OF retry_cycles SKIP LOCKED" } else { "" };
    format!(
        "WITH {clock} SELECT {columns}, {time}, id FROM retry_cycles JOIN retry_subjects USING (id) \
         WHERE retry_cycles.namespace = $2 AND {condition}{tenant} AND {time} >= $3 AND ({time}, id) > ($3, $4) \
         ORDER BY {time}, id LIMIT $5{lock}",
        clock = sql::CLOCK,
        columns = sql::COLUMNS,
        condition = condition(filter.class),
    )
}

fn condition(class: CycleClass) -> &'static str {
    match class {
        CycleClass::Pending => "state = 0",
        CycleClass::Due => {
            "state = 0 AND wake_at <= (SELECT now FROM clock) \
             AND (lease_until IS NULL OR lease_until <= (SELECT now FROM clock))"
        }
        CycleClass::Waiting => {
            "state = 0 AND claimed_at IS NULL \
             AND (wake_at > (SELECT now FROM clock) OR lease_until > (SELECT now FROM clock))"
        }
        CycleClass::Leased => {
            "state = 0 AND claimed_at IS NOT NULL AND lease_until > (SELECT now FROM clock)"
        }
        CycleClass::Resolved => "state <> 0 AND state = 1",
        CycleClass::Exhausted => "state <> 0 AND state = 2",
        CycleClass::Cancelled => "state <> 0 AND state = 3",
    }
}
