//! Which cycles a claim takes.
//!
//! First comes what is due the longest. Where tenants at their share have all of that, tenants
//! behind them are looked for among those with due cycles; what is then left of the limit goes to
//! the longest due again, whatever their share.

use std::collections::{HashMap, HashSet};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use serde_json::json;
use sqlx::query;
use sqlx::sqlite::SqliteRow;

use super::changes::Changes;
use super::rows::{Row, Writes, count_column, get, read, read_claim};
use super::{failed, sql};
use crate::claim::{ClaimDue, Claims, Namespaces, Unreadable};
use crate::cycle::{Event, Transition};
use crate::error::SchedulerError;
use crate::millis::later;
use crate::store::codec;

/// How long nobody meets a cycle that could not be read, or whose hook failed.
const ASIDE: Duration = Duration::from_secs(10);
/// How often one claim looks into the index for tenants, at most: a tenth of a second or so.
const LOOKS: i64 = 50_000;
/// How often it begins to look, at most: each time finds tenants who then have no room any more.
const STRIDES: usize = 8;
/// The milliseconds of a bucket, as a power of two.
const BUCKET: u32 = 16;

/// Where the next claim looks for tenants, in namespaces where the last one did not come to the
/// end: behind this tenant of this bucket.
pub(super) type Cursors = Mutex<HashMap<String, (i64, String)>>;

/// A claim that is being put together.
struct Selection {
    limit: usize,
    per_tenant: usize,
    running: HashMap<String, usize>,
    taken: Vec<i64>,
    /// How many of them each tenant has.
    taken_of: HashMap<String, usize>,
    /// The longest due, in their order, of tenants without room.
    passed_over: Vec<i64>,
}

impl Selection {
    fn left(&self) -> usize {
        self.limit - self.taken.len()
    }

    fn room(&self, tenant: &str) -> usize {
        self.per_tenant.saturating_sub(self.running.get(tenant).copied().unwrap_or(0))
    }

    /// How many of the tenant's first due cycles there may be: those that were taken already, and as many as it has room
    /// for.
    fn reach(&self, tenant: &str) -> usize {
        self.room(tenant).saturating_add(self.taken_of.get(tenant).copied().unwrap_or(0))
    }

    /// Takes it if its tenant has room.
    fn take(&mut self, id: i64, tenant: String) -> bool {
        let fits = self.left() > 0 && self.room(&tenant) > 0;
        if fits {
            self.taken.push(id);
            *self.taken_of.entry(tenant.clone()).or_default() += 1;
            *self.running.entry(tenant).or_default() += 1;
        }
        fits
    }

    fn without_room(&self) -> Vec<&str> {
        let full = self.running.iter().filter(|(_, running)| **running >= self.per_tenant);
        full.map(|(tenant, _)| tenant.as_str()).collect()
    }
}

impl Changes<'_> {
    pub(super) async fn claim_due(
        &mut self,
        request: ClaimDue,
        nonce: u64,
        cursors: &Cursors,
    ) -> Result<Claims, SchedulerError> {
        let ids = self.select(&request, cursors).await?;
        if ids.is_empty() {
            return Ok(Claims::default());
        }
        self.claim(&ids, Event::Claim { lease: request.lease, nonce }).await
    }

    /// The ids of what to claim.
    async fn select(&mut self, request: &ClaimDue, cursors: &Cursors) -> Result<Vec<i64>, SchedulerError> {
        let namespaces = self.namespaces(&request.namespaces).await?;
        if request.limit == 0 || namespaces.is_empty() {
            return Ok(Vec::new());
        }
        let mut selection = Selection {
            limit: request.limit,
            per_tenant: request.per_tenant,
            running: request.running.clone(),
            taken: Vec::new(),
            taken_of: HashMap::new(),
            passed_over: Vec::new(),
        };
        let due = query(sql::DUE)
            .bind(json!(namespaces).to_string())
            .bind(codec::to_ms(self.now))
            .bind(count_column(request.limit));
        let due = due.fetch_all(&mut *self.connection).await.map_err(failed)?;
        let all_known = due.len() < request.limit;
        for row in &due {
            let (id, tenant) = id_and_tenant(row)?;
            if !selection.take(id, tenant) {
                selection.passed_over.push(id);
            }
        }
        let others_met = all_known
            || selection.left() == 0
            || self.select_behind(&namespaces, &mut selection, cursors).await?;
        if others_met {
            let taken: HashSet<i64> = selection.taken.iter().copied().collect();
            let rest = selection.passed_over.iter().copied().filter(|id| !taken.contains(id));
            let rest: Vec<i64> = rest.take(selection.left()).collect();
            selection.taken.extend(rest);
        }
        Ok(selection.taken)
    }

    /// The namespaces that are selected and not paused.
    pub(super) async fn namespaces(
        &mut self,
        namespaces: &Namespaces,
    ) -> Result<Vec<String>, SchedulerError> {
        let paused = self.names(sql::PAUSED).await?;
        let all = match namespaces {
            Namespaces::Only(these) => these.iter().cloned().collect(),
            Namespaces::All | Namespaces::Except(_) => self.names(sql::NAMESPACES).await?,
        };
        Ok(all.into_iter().filter(|name| namespaces.contains(name) && !paused.contains(name)).collect())
    }

    pub(super) async fn names(&mut self, text: &'static str) -> Result<Vec<String>, SchedulerError> {
        let rows = query(text).fetch_all(&mut *self.connection).await.map_err(failed)?;
        rows.iter().map(|row| get(row, 0)).collect()
    }

    /// Takes due cycles of tenants with room, behind the first ones. Says whether there are no
    /// more.
    async fn select_behind(
        &mut self,
        namespaces: &[String],
        selection: &mut Selection,
        cursors: &Cursors,
    ) -> Result<bool, SchedulerError> {
        for _ in 0..STRIDES {
            let mut tenants = Vec::new();
            let mut ended = true;
            for namespace in namespaces {
                ended &= self.due_tenants(namespace, selection, cursors, &mut tenants).await?;
            }
            if tenants.is_empty() {
                return Ok(ended);
            }
            let rooms: Vec<_> = tenants
                .iter()
                .map(|(namespace, tenant)| json!([namespace, tenant, count_column(selection.reach(tenant))]))
                .collect();
            let due = query(sql::DUE_OF_TENANTS)
                .bind(json!(rooms).to_string())
                .bind(codec::to_ms(self.now))
                .bind(count_column(selection.limit));
            let due = due.fetch_all(&mut *self.connection).await.map_err(failed)?;
            let before = selection.taken.len();
            let taken: HashSet<i64> = selection.taken.iter().copied().collect();
            for row in &due {
                let (id, tenant) = id_and_tenant(row)?;
                if !taken.contains(&id) {
                    selection.take(id, tenant);
                }
            }
            if selection.left() == 0 {
                return Ok(true);
            }
            if selection.taken.len() == before {
                return Ok(ended);
            }
        }
        Ok(false)
    }

    /// Adds tenants of a namespace that have due cycles and room. Says whether it came to the end.
    async fn due_tenants(
        &mut self,
        namespace: &str,
        selection: &Selection,
        cursors: &Cursors,
        tenants: &mut Vec<(String, String)>,
    ) -> Result<bool, SchedulerError> {
        let now = codec::to_ms(self.now);
        let cursor = cursors.lock().unwrap_or_else(PoisonError::into_inner).remove(namespace);
        let from_the_start = cursor.is_none();
        let (bucket, tenant) = cursor.unwrap_or((-1, String::new()));
        let most = selection.left().saturating_mul(4);
        let looks = query(sql::DUE_TENANTS)
            .bind(namespace)
            .bind(now)
            .bind(now >> BUCKET)
            .bind(json!(selection.without_room()).to_string())
            .bind(bucket)
            .bind(tenant)
            .bind(LOOKS)
            .bind(count_column(most));
        let looks = looks.fetch_all(&mut *self.connection).await.map_err(failed)?;
        let mut ended = from_the_start && looks.len() < most;
        for row in &looks {
            let (bucket, tenant, wake): (i64, String, i64) = (get(row, 0)?, get(row, 1)?, get(row, 2)?);
            if wake <= now && selection.room(&tenant) > 0 {
                let found = (namespace.to_owned(), tenant.clone());
                if !tenants.contains(&found) {
                    tenants.push(found);
                }
            }
            if get::<i64>(row, 3)? >= LOOKS {
                ended = false;
                let mut cursors = cursors.lock().unwrap_or_else(PoisonError::into_inner);
                cursors.insert(namespace.to_owned(), (bucket, tenant));
            }
        }
        Ok(ended)
    }

    /// Claims these, which are due and locked: those that can be read, and each for itself.
    async fn claim(&mut self, ids: &[i64], event: Event) -> Result<Claims, SchedulerError> {
        let rows = query(sql::GET_TO_CLAIM).bind(json!(ids).to_string());
        let rows = rows.fetch_all(&mut *self.connection).await.map_err(failed)?;
        let (mut claims, mut writes, mut too_late) = (Claims::default(), Writes::default(), Vec::new());
        let mut aside = Vec::new();
        for sql_row in &rows {
            let (row, transition) = match read_due(sql_row, &event, self.now) {
                Ok(Some(due)) => due,
                Ok(None) => continue,
                Err(unreadable) => {
                    aside.push(get::<i64>(sql_row, 0)?);
                    claims.unreadable.push(unreadable);
                    continue;
                }
            };
            if transition.cycle.ending().is_some() && self.hook.is_some() {
                too_late.push((row, transition));
                continue;
            }
            let claimed = Row { id: row.id, cycle: transition.cycle, claimed_at: Some(self.now) };
            if claimed.cycle.ending().is_none() {
                match read_claim(sql_row, claimed.cycle.clone(), self.now) {
                    Ok(claim) => claims.push(claim),
                    Err(error) => {
                        aside.push(claimed.id);
                        claims.unreadable.push(Unreadable::new(Some(claimed.cycle.key), error));
                        continue;
                    }
                }
            }
            writes.row(&claimed);
        }
        writes.write(self.connection).await?;
        for (row, transition) in too_late {
            let (id, key) = (row.id, row.cycle.key.clone());
            if let Err(error) = self.write(row, transition, &event, None).await {
                aside.push(id);
                claims.unreadable.push(Unreadable::new(Some(key), error));
            }
        }
        if !aside.is_empty() {
            let until = codec::to_ms(later(self.now, ASIDE));
            let set_aside = query(sql::SET_ASIDE).bind(json!(aside).to_string()).bind(until);
            set_aside.execute(&mut *self.connection).await.map_err(failed)?;
        }
        Ok(claims)
    }
}

/// A due cycle, and what a claim makes of it.
fn read_due(
    row: &SqliteRow,
    event: &Event,
    now: SystemTime,
) -> Result<Option<(Row, Transition)>, Unreadable> {
    let row = read(row)?;
    let transition = row.cycle.apply(event.clone(), now).ok();
    Ok(transition.map(|transition| (row, transition)))
}

fn id_and_tenant(row: &SqliteRow) -> Result<(i64, String), SchedulerError> {
    Ok((get(row, 0)?, get(row, 1)?))
}
