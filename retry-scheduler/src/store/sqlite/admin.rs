//! The verbs of operators.

use std::collections::{BTreeSet, HashSet};
use std::time::Duration;

use async_trait::async_trait;
use serde_json::json;
use sqlx::{AssertSqlSafe, Connection, query};

use super::changes::Changes;
use super::rows::{COLUMNS, Row, count_column, get, read};
use super::{SqliteScheduler, failed, sql};
use crate::admin::{Changed, CycleAdmin, CycleClass, CycleFilter, CyclePage, NamespaceCounts, RunNow};
use crate::bounds::check_text;
use crate::claim::Unreadable;
use crate::cycle::{CycleKey, Event, Refused, Reschedule};
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
    row: Result<Row, Unreadable>,
}

#[async_trait]
impl CycleAdmin for SqliteScheduler {
    async fn list(
        &self,
        filter: &CycleFilter,
        after: Option<&CycleKey>,
        limit: usize,
    ) -> Result<CyclePage, SchedulerError> {
        after.map_or(Ok(()), CycleKey::check)?;
        let mut connection = self.connection().await?;
        let mut changes = self.changes(&mut connection);
        let after = match after {
            Some(key) => Some(changes.place_of(key).await?),
            None => None,
        };
        let found = changes.matching(filter, after, limit).await?;
        let rows = found.into_iter().map(|listed| (listed.key, listed.row.map(|row| row.cycle)));
        Ok(CyclePage::new(rows.collect(), limit))
    }

    async fn counts(&self) -> Result<Vec<NamespaceCounts>, SchedulerError> {
        let mut connection = self.connection().await?;
        let mut changes = self.changes(&mut connection);
        let paused: BTreeSet<String> = changes.names(sql::PAUSED).await?.into_iter().collect();
        let mut names = paused.clone();
        names.extend(changes.names(sql::NAMESPACES).await?);
        names.extend(changes.names(sql::ENDED_NAMESPACES).await?);
        let mut all = Vec::with_capacity(names.len());
        for name in names {
            let mut counts = changes.counts_of(&name).await?;
            counts.paused = paused.contains(&name);
            all.push(counts);
        }
        Ok(all)
    }

    async fn pause(&self, namespace: &str) -> Result<bool, SchedulerError> {
        check_text("namespace", namespace)?;
        let mut connection = self.connection().await?;
        let done = query(sql::PAUSE).bind(namespace).execute(&mut *connection).await.map_err(failed)?;
        Ok(done.rows_affected() > 0)
    }

    async fn resume(&self, namespace: &str) -> Result<bool, SchedulerError> {
        check_text("namespace", namespace)?;
        let mut connection = self.connection().await?;
        let done = query(sql::RESUME).bind(namespace).execute(&mut *connection).await.map_err(failed)?;
        Ok(done.rows_affected() > 0)
    }

    async fn paused(&self) -> Result<BTreeSet<String>, SchedulerError> {
        let mut connection = self.connection().await?;
        Ok(self.changes(&mut connection).names(sql::PAUSED).await?.into_iter().collect())
    }

    async fn run_now(&self, key: &CycleKey) -> Result<RunNow, SchedulerError> {
        key.check()?;
        let mut connection = self.connection().await?;
        let mut transaction = connection.begin_with(super::BEGIN).await.map_err(failed)?;
        let applied = self.changes(&mut transaction).apply(key, Event::RunNow).await?;
        transaction.commit().await.map_err(failed)?;
        Ok(match applied {
            Some(Ok(cycle)) => RunNow::Due(cycle),
            Some(Err(Refused::Ended(ending))) => RunNow::Ended(ending),
            Some(Err(Refused::NotDue | Refused::Leased | Refused::Stale)) => RunNow::Leased,
            None => RunNow::Unknown,
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

impl SqliteScheduler {
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
            let mut connection = self.connection().await?;
            let mut transaction = connection.begin_with(super::BEGIN).await.map_err(failed)?;
            let mut changes = self.changes(&mut transaction);
            let batch = BATCH.min(limit - answer.changed);
            let found = changes.matching(filter, after.take(), batch).await?;
            let last = found.last().map(|listed| listed.place.clone());
            for listed in found {
                // A cycle that was put off may come again, further on.
                if met.insert(listed.place.2) {
                    changes.change_one(listed.row, event, &mut answer).await;
                }
            }
            transaction.commit().await.map_err(failed)?;
            let Some(last) = last else { break };
            after = Some(last);
        }
        Ok(answer)
    }
}

impl Changes<'_> {
    async fn change_one(&mut self, row: Result<Row, Unreadable>, event: &Event, answer: &mut Changed) {
        let row = match row {
            Ok(row) => row,
            Err(unreadable) => return answer.failed.push(unreadable),
        };
        let Ok(transition) = row.cycle.apply(event.clone(), self.now) else { return };
        let key = row.cycle.key.clone();
        match self.write(row, transition, event, None).await {
            Ok(_) => answer.changed += 1,
            Err(error) => answer.failed.push(Unreadable::new(Some(key), error)),
        }
    }

    async fn place_of(&mut self, key: &CycleKey) -> Result<Place, SchedulerError> {
        let place = query(sql::PLACE).bind(&key.namespace).bind(&key.subject);
        let row = place.fetch_optional(&mut *self.connection).await.map_err(failed)?;
        let row = row.ok_or_else(|| SchedulerError::invalid("the cycle to list behind is unknown"))?;
        Ok((key.namespace.clone(), get(&row, 0)?, get(&row, 1)?))
    }

    /// The first cycles that match, behind a place.
    async fn matching(
        &mut self,
        filter: &CycleFilter,
        after: Option<Place>,
        limit: usize,
    ) -> Result<Vec<Listed>, SchedulerError> {
        let mut names = match &filter.namespace {
            Some(name) => vec![name.clone()],
            None if filter.class.ending().is_some() => self.names(sql::ENDED_NAMESPACES).await?,
            None => self.names(sql::NAMESPACES).await?,
        };
        if let Some((namespace, ..)) = &after {
            names.retain(|name| name >= namespace);
        }
        let text = list_text(filter);
        let mut found = Vec::new();
        for name in names {
            let behind = after.as_ref().filter(|(namespace, ..)| *namespace == name);
            let (time, id) = behind.map_or((i64::MIN, 0), |(_, time, id)| (*time, *id));
            let list = query(AssertSqlSafe(text.clone()))
                .bind(&name)
                .bind(codec::to_ms(self.now))
                .bind(time)
                .bind(id)
                .bind(count_column(limit - found.len()))
                .bind(filter.tenant.as_deref());
            for row in list.fetch_all(&mut *self.connection).await.map_err(failed)? {
                let place = (name.clone(), get(&row, COLUMNS)?, get(&row, 0)?);
                let key = CycleKey::new(name.as_str(), get::<String>(&row, 2)?);
                found.push(Listed { place, key, row: read(&row) });
            }
            if found.len() >= limit {
                break;
            }
        }
        Ok(found)
    }

    async fn counts_of(&mut self, namespace: &str) -> Result<NamespaceCounts, SchedulerError> {
        let mut counts = NamespaceCounts::new(namespace);
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
                .bind(namespace)
                .bind(codec::to_ms(self.now))
                .bind(count_column(NamespaceCounts::MAX));
            let row = counted.fetch_one(&mut *self.connection).await.map_err(failed)?;
            *count = usize::try_from(get::<i64>(&row, 0)?).unwrap_or(0);
        }
        let first = query(sql::FIRST_WAKE).bind(namespace).fetch_optional(&mut *self.connection).await;
        if let Some(row) = first.map_err(failed)? {
            let since = codec::to_ms(self.now) - get::<i64>(&row, 0)?;
            counts.oldest_due = u64::try_from(since).ok().map(Duration::from_millis);
        }
        Ok(counts)
    }

    pub(super) async fn purge_ended(
        &mut self,
        older_than: Duration,
        limit: usize,
    ) -> Result<usize, SchedulerError> {
        let until = codec::to_ms(self.now).saturating_sub(codec::duration_ms(older_than));
        let mut ids: Vec<i64> = Vec::new();
        for namespace in self.names(sql::ENDED_NAMESPACES).await? {
            for state in 1..=3_i16 {
                let left = count_column(limit - ids.len());
                let ended = query(sql::ENDED).bind(&namespace).bind(state).bind(until).bind(left);
                for row in ended.fetch_all(&mut *self.connection).await.map_err(failed)? {
                    ids.push(get(&row, 0)?);
                }
            }
        }
        let list = json!(ids).to_string();
        for text in sql::PURGE {
            query(text).bind(&list).execute(&mut *self.connection).await.map_err(failed)?;
        }
        Ok(ids.len())
    }
}

/// `$1` is the namespace, `$2` the time now, `$3` the most to count.
pub(super) fn count_text(class: CycleClass) -> String {
    let condition = class_condition(class);
    format!("SELECT count(*) FROM (SELECT 1 FROM retry_cycles WHERE namespace = $1 AND {condition} LIMIT $3)")
}

/// `$1` is the namespace, `$2` the time now, `$3` and `$4` the place to list behind, `$5` the
/// limit, `$6` the tenant.
pub(super) fn list_text(filter: &CycleFilter) -> String {
    let time = if filter.class.ending().is_some() { "ended_at" } else { "wake_at" };
    let tenant = if filter.tenant.is_some() { " AND tenant = $6" } else { "" };
    format!(
        "SELECT {columns}, {time} FROM retry_cycles CROSS JOIN retry_subjects ON retry_subjects.id = retry_cycles.id \
         WHERE retry_cycles.namespace = $1 AND {condition}{tenant} AND ({time}, retry_cycles.id) > ($3, $4) \
         ORDER BY {time}, retry_cycles.id LIMIT $5",
        columns = sql::COLUMNS,
        condition = class_condition(filter.class),
    )
}

/// `$2` is the time now.
fn class_condition(class: CycleClass) -> &'static str {
    match class {
        CycleClass::Pending => "state = 0",
        CycleClass::Due => "state = 0 AND wake_at <= $2",
        CycleClass::Waiting => "state = 0 AND claimed_at IS NULL AND wake_at > $2",
        CycleClass::Leased => "state = 0 AND claimed_at IS NOT NULL AND wake_at > $2",
        CycleClass::Resolved => "state <> 0 AND state = 1",
        CycleClass::Exhausted => "state <> 0 AND state = 2",
        CycleClass::Cancelled => "state <> 0 AND state = 3",
    }
}
