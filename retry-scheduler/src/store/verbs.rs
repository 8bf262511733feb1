//! The verbs whose statements are the same on both engines.

/// They are one text for two types of connection: a function generic over sqlx's drivers would have more bounds than code.
/// Each works on a connection whether that has a transaction open or not.
macro_rules! shared_verbs {
    ($connection:ty, $row:ty) => {
        pub(super) async fn get(
            connection: &mut $connection,
            key: &CycleKey,
        ) -> Result<Option<Cycle>, SchedulerError> {
            let get = query(sql::GET).bind(&key.namespace).bind(&key.subject);
            get.fetch_optional(connection).await.map_err(failed)?.as_ref().map(cycle).transpose()
        }

        pub(super) async fn attempts(
            connection: &mut $connection,
            key: &CycleKey,
            after: u32,
            most: usize,
        ) -> Result<Vec<AttemptRecord>, SchedulerError> {
            let attempts = query(sql::ATTEMPTS)
                .bind(&key.namespace)
                .bind(&key.subject)
                .bind(i64::from(after))
                .bind(limit(most));
            attempts.fetch_all(connection).await.map_err(failed)?.iter().map(attempt).collect()
        }

        pub(super) async fn extend(
            connection: &mut $connection,
            now: Now,
            claim: &Claimed,
            lease: Duration,
        ) -> Result<Fenced, SchedulerError> {
            fenced(connection, sql::EXTEND, now, claim, lease).await
        }

        pub(super) async fn defer(
            connection: &mut $connection,
            now: Now,
            claim: &Claimed,
            delay: Duration,
        ) -> Result<Fenced, SchedulerError> {
            fenced(connection, sql::DEFER, now, claim, delay).await
        }

        pub(super) async fn cancel(
            connection: &mut $connection,
            now: Now,
            key: &CycleKey,
        ) -> Result<Cancelled, SchedulerError> {
            for _ in 0..LOOKS {
                let cancel = query(sql::CANCEL).bind(now).bind(&key.namespace).bind(&key.subject);
                if let Some(row) = cancel.fetch_optional(&mut *connection).await.map_err(failed)? {
                    return Ok(Cancelled::Cancelled(cycle(&row)?));
                }
                let Some(cycle) = get(connection, key).await? else { return Ok(Cancelled::Unknown) };
                // Or else it was begun, or began anew, between the two.
                if let Some(ending) = cycle.ending() {
                    return Ok(Cancelled::Ended(ending));
                }
            }
            Err(restless())
        }

        /// Reads, lets the state machine say what becomes of it, and writes that where it still is what was read.
        pub(super) async fn reschedule(
            connection: &mut $connection,
            now: Now,
            key: &CycleKey,
            change: &Reschedule,
        ) -> Result<Rescheduled, SchedulerError> {
            for _ in 0..LOOKS {
                let read = query(sql::READ).bind(now).bind(&key.namespace).bind(&key.subject);
                let Some(row) = read.fetch_optional(&mut *connection).await.map_err(failed)? else {
                    return Ok(Rescheduled::Unknown);
                };
                let (old, now) = (cycle(&row)?, codec::from_ms(column(&row, COLUMNS)?));
                let cycle = match old.apply(Event::Reschedule(change.clone()), now) {
                    Ok(transition) => transition.cycle,
                    Err(Refused::Ended(ending)) => return Ok(Rescheduled::Ended(ending)),
                    Err(refused) => return Err(SchedulerError::invalid(format!("{refused:?}"))),
                };
                if write(connection, &old, &cycle).await? {
                    return Ok(match old.ending() {
                        Some(_) => Rescheduled::Reactivated(cycle),
                        None => Rescheduled::Changed(cycle),
                    });
                }
            }
            Err(restless())
        }

        /// What is due of the tenants one after the other, beginning with `next`, which is left where the next claim begins.
        /// Says whether all tenants were met.
        pub(super) async fn claim_by_tenants(
            connection: &mut $connection,
            now: Now,
            shares: &mut Shares,
            next: &mut String,
        ) -> Result<(Claims, bool), SchedulerError> {
            let mut all = Claims::default();
            let mut all_seen = next.is_empty();
            let mut met_all = false;
            for _ in 0..STRIDES {
                let tenants = tenants(connection, next).await?;
                let claimed = claim_of(connection, now, shares, &tenants).await?;
                shares.take(&claimed);
                let last = if shares.limit == 0 {
                    claimed.iter().map(|claimed| &claimed.cycle.tenant).max()
                } else {
                    tenants.last().filter(|_| limit(tenants.len()) == STRIDE)
                };
                match last {
                    Some(last) => *next = behind(last),
                    None => next.clear(),
                }
                all.add(claimed);
                met_all = next.is_empty() && all_seen;
                if shares.limit == 0 || met_all {
                    break;
                }
                all_seen |= next.is_empty();
            }
            Ok((all, met_all))
        }

        /// Those of the rows that were claimed. One that came too late for its last start has ended instead.
        fn claimed(rows: &[$row]) -> Claims {
            let mut all = Claims::default();
            for row in rows {
                match claim_of_row(row) {
                    Ok(claim) => all.extend(claim),
                    Err(error) => {
                        let key = column(row, 0).and_then(|namespace: String| {
                            Ok(CycleKey::new(namespace, column::<_, String>(row, 1)?))
                        });
                        all.unreadable.push(Unreadable::new(key.ok(), error));
                    }
                }
            }
            all
        }

        fn claim_of_row(row: &$row) -> Result<Option<Claimed>, SchedulerError> {
            let Some(claimed_at) = column(row, COLUMNS)? else { return Ok(None) };
            let (payload, metadata): (Vec<u8>, String) =
                (column(row, COLUMNS + 1)?, column(row, COLUMNS + 2)?);
            let claim = Claimed::new(cycle(row)?, payload, codec::from_ms(claimed_at));
            Ok(Some(claim.metadata(codec::metadata(&metadata)?)))
        }

        /// The wait that this row says, if it is one.
        fn wait(row: Result<Option<$row>, sqlx::Error>) -> Result<Option<Duration>, SchedulerError> {
            let Some(row) = row.map_err(failed)? else { return Ok(None) };
            let wait: i64 = column(&row, 0)?;
            Ok(Some(Duration::from_millis(u64::try_from(wait).unwrap_or(0))))
        }

        /// The next tenants with pending cycles, from this one on.
        async fn tenants(connection: &mut $connection, from: &str) -> Result<Vec<String>, SchedulerError> {
            let tenants = query(sql::TENANTS).bind(from).bind(STRIDE).fetch_all(connection).await;
            tenants.map_err(failed)?.iter().map(|row| column(row, 0)).collect()
        }

        async fn fenced(
            connection: &mut $connection,
            text: &'static str,
            now: Now,
            claim: &Claimed,
            wait: Duration,
        ) -> Result<Fenced, SchedulerError> {
            let Cycle { key, epoch, nonce, .. } = &claim.cycle;
            let update = query(text)
                .bind(now)
                .bind(codec::duration_ms(wait))
                .bind(&key.namespace)
                .bind(&key.subject)
                .bind(codec::epoch_column(*epoch))
                .bind(codec::nonce_column(*nonce));
            let done = update.execute(connection).await.map_err(failed)?;
            Ok(if done.rows_affected() == 0 { Fenced::Stale } else { Fenced::Held })
        }

        /// Whether `cycle` is written in place of `old`.
        async fn write(
            connection: &mut $connection,
            old: &Cycle,
            cycle: &Cycle,
        ) -> Result<bool, SchedulerError> {
            let (state, reason, wake_at, ended_at) = state_columns(cycle.state);
            let write = query(sql::WRITE)
                .bind(i64::from(cycle.plan.max_attempts()))
                .bind(codec::delays_text(&cycle.plan))
                .bind(codec::last_start_ms(&cycle.plan))
                .bind(state)
                .bind(wake_at)
                .bind(ended_at)
                .bind(codec::epoch_column(cycle.epoch))
                .bind(i64::from(cycle.used))
                .bind(i64::from(cycle.lapses))
                .bind(i64::from(cycle.reactivations))
                .bind(i64::from(cycle.deferrals))
                .bind(i16::from(cycle.plan.jitter_percent()))
                .bind(i64::from(cycle.plan.deferral_limit()))
                .bind(reason)
                .bind(&old.key.namespace)
                .bind(&old.key.subject)
                .bind(codec::epoch_column(old.epoch))
                .bind(i64::from(old.attempts))
                .bind(state_columns(old.state).0);
            Ok(write.execute(connection).await.map_err(failed)?.rows_affected() == 1)
        }
    };
}

pub(super) use shared_verbs;

/// The time of an injected clock.
pub(super) type Now = Option<i64>;

/// How often a verb looks again at a cycle that changed between two statements. Each time somebody else got on with it.
pub(super) const LOOKS: usize = 64;
