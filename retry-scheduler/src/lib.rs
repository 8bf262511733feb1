//! Durable retries: a job is attempted again, later, until it ends resolved, exhausted or
//! cancelled.
//!
//! A *cycle* is the retried job: the validation of one address, the delivery of one message. Each
//! [key](CycleKey) has at most one. A cycle's [`Plan`] says how often it is attempted, how far
//! apart, and until when. A [`Worker`] claims due cycles, in any number of processes, calls your
//! [`Handler`] for each attempt, and records how the attempt ended.
//!
//! # Guarantees
//!
//! | | guaranteed | not guaranteed |
//! |---|---|---|
//! | attempts | Each attempt is made **at least once** and recorded **exactly once**. Numbers have no gaps. | That it is made only once: a worker that dies after the effect and before the record makes the attempt again. See [below](#effects-that-must-happen-once). |
//! | crashes | Another worker claims the cycle when the lease ends; on PostgreSQL within three seconds of that. Nothing else has to run. | That this happens sooner. |
//! | stalled workers | A report is refused after another worker claimed the cycle, even when a failover lost a claim. | That the effects of the stalled worker did not happen. |
//! | `cancel`, `reschedule` | The answer is final: a running attempt leaves no trace. | That a running attempt stops at once: its [token](Attempt::token) fires at the next heartbeat. |
//! | times | Attempts never start early. The delay counts from the end of the attempt before. No attempt begins after the plan's last start. A free worker starts what is due no later than at its next poll. | Attempts on the dot. On PostgreSQL, workers of other processes are told of a new cycle and normally start it within 50 ms, but a notice can be lost. |
//! | tenants | However much one tenant has due, another's due cycle is claimed within two calls. | An order between cycles that are claimed together. On PostgreSQL, two calls are enough for about three days of backlog. |
//! | namespaces | A namespace that is paused, gated or has no handler does not delay any other. | |
//! | unreadable cycles | A cycle that this version cannot read is set aside and reported. Its neighbours are not affected. | |
//! | endings | An [`EndedHook`] runs in the transaction that ends a cycle, whoever ends it. | In memory there is no transaction. |
//! | transactions | With SQLite and PostgreSQL, a cycle that is scheduled, cancelled, changed or finished in your transaction commits with it. | |
//! | retention | A worker deletes ended cycles after 30 days, unless [`keep_ended`](WorkerBuilder::keep_ended) says otherwise. Until then one with a payload of 200 bytes and three attempts takes about 1.2 KB in PostgreSQL and 0.7 KB in SQLite. | `MemoryScheduler` drops ended cycles when it needs room, and forgets all when its process ends. |
//!
//! # Effects that must happen once
//!
//! An attempt can be made twice, and an attempt that failed may have had its effect: the answer was
//! lost. So give the next service an idempotency key:
//!
//! | the effect | the key | |
//! |---|---|---|
//! | must happen once for the cycle: a charge, an order, a message | [`Attempt::cycle_key`] | the same for all attempts |
//! | must happen once for each attempt, and the service would replay a failure that it stored under the key | [`Attempt::key`] | the same only when this attempt is made again after a crash |
//! | is in your own database | none | write it in the transaction of [`finish_in`](TransactionalScheduler::finish_in) |
//!
//! # Example
//!
#![cfg_attr(feature = "memory", doc = "```")]
#![cfg_attr(not(feature = "memory"), doc = "```ignore")]
//! use std::sync::Arc;
//! use std::time::Duration;
//!
//! use retry_scheduler::{
//!     Attempt, CycleKey, Done, Ending, MemoryScheduler, NewCycle, Plan, Report, RetryScheduler, Worker, handler_fn,
//! };
//! use tokio_util::sync::CancellationToken;
//!
//! # #[tokio::main(flavor = "current_thread", start_paused = true)]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let scheduler = Arc::new(MemoryScheduler::default());
//!
//! // In every process that makes attempts. The third one succeeds here.
//! let handler = handler_fn(async |attempt: Attempt| {
//!     Done::Report(if attempt.number() < 3 { Report::failure() } else { Report::success() })
//! });
//! let shutdown = CancellationToken::new();
//! let worker = tokio::spawn(Worker::builder(scheduler.clone(), handler).build().run(shutdown.clone()));
//!
//! // Where the work comes from: at most five attempts, ten minutes apart.
//! let key = CycleKey::new("webhook", "delivery 17");
//! let plan = Plan::every(Duration::from_mins(10), 5)?;
//! scheduler.schedule(NewCycle::new(key.clone(), plan).tenant("account 1").payload("what to deliver")).await?;
//!
//! // An hour later.
//! tokio::time::sleep(Duration::from_hours(1)).await;
//! let cycle = scheduler.get(&key).await?.expect("it was scheduled");
//! assert_eq!(cycle.ending(), Some(Ending::Resolved));
//! assert_eq!(scheduler.attempts(&key, 0, 10).await?.len(), 3);
//!
//! shutdown.cancel();
//! worker.await?;
//! # Ok(())
//! # }
//! ```
//!
//! # Without a worker
//!
//! A worker calls nothing but the verbs of [`RetryScheduler`], so you can write a loop of your own:
//!
#![cfg_attr(feature = "memory", doc = "```")]
#![cfg_attr(not(feature = "memory"), doc = "```ignore")]
//! use std::time::{Duration, SystemTime};
//!
//! use retry_scheduler::{
//!     Cancelled, ClaimDue, CycleKey, Finished, ManualClock, MemoryScheduler, Namespaces, NewCycle, Plan, Report,
//!     RetryScheduler,
//! };
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let clock = ManualClock::new(SystemTime::UNIX_EPOCH + Duration::from_hours(24 * 365 * 50));
//! let scheduler = MemoryScheduler::new(1_000).with_clock(clock.clone());
//!
//! // A minute, then five, then always an hour; none begun after a day.
//! let plan = Plan::delays([1, 5, 60].map(Duration::from_mins), 20)?
//!     .deadline(SystemTime::UNIX_EPOCH + Duration::from_hours(24 * 365 * 50 + 24));
//! let key = CycleKey::new("validation", "17");
//! scheduler.schedule(NewCycle::new(key.clone(), plan).tenant("account 1")).await?;
//!
//! let all = ClaimDue::new(10, Duration::from_secs(30));
//! let claims = scheduler.claim_due(all.clone()).await?;
//! let report = Report::failure().detail("busy");
//! assert!(matches!(scheduler.finish(&claims[0], report.clone()).await?, Finished::Recorded(_)));
//! assert_eq!(scheduler.next_wake(&Namespaces::All).await?, Some(Duration::from_mins(1)));
//!
//! // A worker that died: another one has the cycle after the lease, and the first one's late report changes nothing.
//! clock.advance(Duration::from_mins(1));
//! let first = scheduler.claim_due(all.clone()).await?;
//! clock.advance(Duration::from_secs(30));
//! let second = scheduler.claim_due(all).await?;
//! assert_eq!(second[0].attempt_key(), first[0].attempt_key());
//! assert_eq!(scheduler.finish(&first[0], report.clone()).await?, Finished::Stale);
//!
//! // A cancel is final, whatever the running attempt finds.
//! assert!(matches!(scheduler.cancel(&key).await?, Cancelled::Cancelled(_)));
//! assert_eq!(scheduler.finish(&second[0], report).await?, Finished::Stale);
//! assert_eq!(scheduler.attempts(&key, 0, 10).await?.len(), 1);
//! # Ok(())
//! # }
//! ```
//!
//! # How it works
//!
//! A *claim* is the right to make an attempt. A claim holds for a *lease* unless it is extended.
//! The *fence* of a claim has the cycle's *epoch*, which grows with each claim and each change by a
//! caller, and a *nonce*, which is new for each claim call. What a worker says under another fence
//! than the cycle's is stale. A *lapse* is a claim whose lease ran out. [`Cycle`] has the table of
//! everything that can happen to a cycle, and [`Cycle::apply`] is that table as a pure function.
//!
//! The claim that finds due cycles also finds those whose lease has ended, so nothing has to clean
//! up after a dead worker. Leases go by the scheduler's clock, which is the database's and never a
//! worker's.
//!
//! # What it does not do
//!
//! It keeps no order between cycles and starts nothing at a time of day. It does not decide which
//! failures deserve another attempt: the handler reports [`Failure`](Verdict::Failure) or
//! [`Permanent`](Verdict::Permanent). What customers may ask for is in [`account_retry_policy`], and
//! [`Plan::of_policy`] makes a plan of it.
//!
//! # Operators
//!
//! [`CycleAdmin`] lists and counts cycles, pauses namespaces, and cancels, reschedules or runs
//! cycles now, one or many.
//!
//! # Cancel safety
//!
//! You may drop any future of a [`RetryScheduler`]: its verb has then taken effect as a whole, or
//! not at all. After a dropped [`claim_due`](RetryScheduler::claim_due), cycles may stay leased to
//! nobody until the lease ends. In a transaction, roll back after you dropped a verb. You may drop
//! [`Worker::run`] too; its claims are then left as after a crash.
//!
//! # Implementing a scheduler
//!
//! [`RetryScheduler`] has a numbered contract. The feature `conformance` adds the module
//! `conformance` with a test for each number.
//!
//! # Metrics
//!
//! With the feature `metrics`, a [`Worker`] counts on the `metrics` crate. Labels are namespaces
//! and fixed words, never a subject, a tenant, a payload or a key.
//!
//! | name | kind | labels | counts |
//! |---|---|---|---|
//! | `retry_scheduler_claimed_total` | counter | `namespace` | claims |
//! | `retry_scheduler_attempts_total` | counter | `namespace`, `outcome` | claims that ended; outcomes are `succeeded`, `failed`, `permanent`, `crashed`, `already_recorded`, `deferred`, `refused` and `undelivered`, as in [`AttemptCounts`] |
//! | `retry_scheduler_attempt_duration_seconds` | histogram | `namespace` | how long handlers ran |
//! | `retry_scheduler_panics_total` | counter | `namespace` | handlers that panicked |
//! | `retry_scheduler_timeouts_total` | counter | `namespace` | handlers that were stopped because they took too long |
//! | `retry_scheduler_running` | gauge | | claims that the workers of this process have |
//! | `retry_scheduler_gates_closed` | gauge | | namespaces whose service is down |
//! | `retry_scheduler_unreadable_total` | counter | | due cycles that could not be read |
//! | `retry_scheduler_purged_total` | counter | | ended cycles that were deleted |
//! | `retry_scheduler_store_errors_total` | counter | `verb`, `kind` | failed calls, by verb and [kind](SchedulerErrorKind) |
//!
//! # Tracing
//!
//! With the feature `tracing`, a [`Worker`] logs on the `tracing` crate: namespace, subject and
//! number of an attempt, never a payload, a detail, a tenant or an attempt key. A handler runs in
//! the span `attempt`. When the cycle's [`Metadata`] has a `traceparent` ([W3C Trace
//! Context](https://www.w3.org/TR/trace-context/)), the span has it as a field, so that a layer can
//! link the attempt to the trace that scheduled the cycle.
//!
//! # Features
//!
//! | feature | |
//! |---|---|
//! | `memory` (default) | `MemoryScheduler` |
//! | `sqlite` | `SqliteScheduler` |
//! | `postgres` | `PostgresScheduler` |
//! | `metrics` | the worker's metrics |
//! | `tracing` | the worker's events and spans |
//! | `conformance` | tests for schedulers |
//!
//! The minimum supported Rust version is 1.95; raising it is a minor release.

#![cfg_attr(docsrs, feature(doc_cfg))]

mod admin;
mod bounds;
mod claim;
mod clock;
mod cycle;
mod ended;
mod error;
mod metadata;
mod millis;
#[cfg(any(feature = "memory", feature = "sqlite", feature = "postgres"))]
mod nonce;
mod plan;
mod scheduler;
mod store;
mod worker;

pub use crate::admin::{Changed, CycleAdmin, CycleClass, CycleFilter, CyclePage, NamespaceCounts, RunNow};
pub use crate::bounds::{MAX_BYTES, MAX_TEXT};
pub use crate::claim::{ClaimDue, Claimed, Claims, Namespaces, Report, Unreadable};
pub use crate::clock::{Clock, ManualClock, MonotonicClock, SystemClock};
pub use crate::cycle::{
    Activity, AttemptRecord, Cycle, CycleKey, EndReason, Ending, Event, Fence, NewCycle, Refused, Reschedule,
    State, Transition, Verdict,
};
pub use crate::ended::EndedHook;
pub use crate::error::{BoxError, SchedulerError, SchedulerErrorKind};
pub use crate::metadata::Metadata;
pub use crate::plan::{Plan, PlanError};
pub use crate::scheduler::{
    Cancelled, Fenced, Finished, FinishedAndClaimed, Rescheduled, RetryScheduler, Scheduled,
    TransactionalScheduler,
};
#[cfg(feature = "postgres")]
pub use crate::store::PostgresScheduler;
#[cfg(feature = "sqlite")]
pub use crate::store::SqliteScheduler;
#[cfg(feature = "conformance")]
pub use crate::store::conformance;
#[cfg(feature = "memory")]
pub use crate::store::{MemoryScheduler, MemoryStats};
pub use crate::worker::{
    Attempt, AttemptCounts, Done, Handler, HandlerFn, Worker, WorkerBuilder, WorkerHandle, WorkerPhase,
    WorkerSnapshot, handler_fn,
};

/// The README's examples.
#[cfg(all(doctest, feature = "memory"))]
#[doc = include_str!("../README.md")]
struct Readme;
