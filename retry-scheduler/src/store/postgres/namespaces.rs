//! Which namespaces there are.
//!
//! A claim looks at each namespace in its own part of the index, so it has to know them. Each stands in
//! `retry_namespaces` before its first cycle is written, and is never deleted.

use std::collections::HashSet;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use sqlx::{PgConnection, query};

use super::errors::failed;
use super::rows::get as column;
use super::sql;
use crate::claim::Namespaces;
use crate::error::SchedulerError;

/// How long a list of namespaces is taken for complete by a claim that finds enough in it.
const FRESH: Duration = Duration::from_secs(1);
/// How many registered namespaces a handle remembers.
const MOST: usize = 10_000;

#[derive(Debug, Default)]
pub(super) struct Known {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    registered: HashSet<String>,
    /// Those that are not paused, and when they were read.
    list: Option<(Duration, Vec<String>)>,
}

impl Known {
    /// Those of the namespaces that may not stand in the table.
    pub(super) fn unregistered<'a>(&self, namespaces: impl IntoIterator<Item = &'a str>) -> Vec<String> {
        self.with(|state| {
            let new = namespaces.into_iter().filter(|namespace| !state.registered.contains(*namespace));
            new.map(str::to_owned).collect::<HashSet<_>>().into_iter().collect()
        })
    }

    /// Writes namespaces into the table, and commits that: a transaction of the caller's would let others wait for it.
    pub(super) async fn register(
        &self,
        connection: &mut PgConnection,
        mut namespaces: Vec<String>,
    ) -> Result<(), SchedulerError> {
        namespaces.sort_unstable();
        query(sql::REGISTER).bind(&namespaces).execute(connection).await.map_err(failed)?;
        self.with(|state| {
            if state.registered.len() > MOST {
                state.registered.clear();
            }
            state.registered.extend(namespaces);
            state.list = None;
        });
        Ok(())
    }

    /// Forgets the list: a namespace was paused or resumed.
    pub(super) fn changed(&self) {
        self.with(|state| state.list = None);
    }

    /// The namespaces of a selection, and whether they are as they are in the table now. `now` is the time by the clock that
    /// the floor is asked with.
    pub(super) async fn select(
        &self,
        connection: &mut PgConnection,
        selection: &Namespaces,
        now: Duration,
    ) -> Result<(Vec<String>, bool), SchedulerError> {
        if let Namespaces::Only(these) = selection {
            return Ok((these.iter().cloned().collect(), true));
        }
        let fresh = self.with(|state| {
            let fresh = state.list.as_ref().filter(|(read, _)| *read <= now && now < *read + FRESH);
            fresh.map(|(_, list)| list.clone())
        });
        let (mut list, complete) = match fresh {
            Some(list) => (list, false),
            None => (self.read(connection, now).await?, true),
        };
        list.retain(|namespace| selection.contains(namespace));
        Ok((list, complete))
    }

    /// The namespaces that are not paused, as the table has them `now`.
    pub(super) async fn read(
        &self,
        connection: &mut PgConnection,
        now: Duration,
    ) -> Result<Vec<String>, SchedulerError> {
        let rows = query(sql::NAMESPACES).fetch_all(connection).await.map_err(failed)?;
        let list: Vec<String> = rows.iter().map(|row| column(row, 0)).collect::<Result<_, _>>()?;
        self.with(|state| state.list = Some((now, list.clone())));
        Ok(list)
    }

    fn with<T>(&self, with: impl FnOnce(&mut State) -> T) -> T {
        with(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
