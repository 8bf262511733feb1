//! Durable retry cycles: work that is tried again, later, until it ends `resolved`, `exhausted` or `cancelled`.
//!
//! A *cycle* is what is done about one thing: the validation of one address, the delivery of one message. There is at most
//! one for each [key](CycleKey). Its [`Plan`] says how often it is tried, how far apart, and until when. A [`Worker`] claims
//! the cycles that are due, in any number of processes, has a [`Handler`] make the attempts, and records how each ended.
//!
//! # What it promises, and where that ends
//!
//! | | promised | not |
//! |---|---|---|
//! | attempts | each is made **at least once** and recorded **exactly once**; numbers have no gaps | made only once: a worker that dies after the effect and before the record makes it again. Hand [`Attempt::cycle_key`] to the next service ([which key for which service](Handler#which-key-for-which-service)); or write the effect in the transaction of [`finish_in`](TransactionalScheduler::finish_in), and it happens once |
//! | a crash | the cycle is claimed by another worker when the lease is over; nothing else is needed | sooner than that |
//! | a worker that was given up for dead and is not | its report is refused when somebody else has claimed the cycle | that its effects elsewhere did not happen |
//! | `cancel` and `reschedule` | what was answered is final: an attempt that runs leaves no trace | that it stops at once: its [token](Attempt::token) fires at the next heartbeat |
//! | times | never before it is due, counted from the end of the attempt before; none begun after the plan's last start | on the dot: no later than the next poll, while a worker is free |
//! | tenants | whoever has a million due, another's due cycle is claimed within a few calls | an order between cycles of one tenant that are claimed together |
//! | transactions | with SQLite and PostgreSQL, a cycle that is begun, cancelled, changed or finished in the caller's transaction commits with it | in memory |
//! | what is kept | as long as the database keeps it; [`MemoryScheduler`] forgets when its process ends | for ever after it ended: a worker deletes cycles that ended 30 days ago, unless [`keep_ended`](WorkerBuilder::keep_ended) says otherwise; `MemoryScheduler` drops them earlier when it needs the room |
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
//! // Where the work comes from: five attempts, ten minutes apart.
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
//! The verbs are all there is; a worker calls no others. So a loop of one's own can do what it does:
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
//! *Claim*: the right to make an attempt. *Lease*: how long a claim holds unless it is renewed. *Epoch*: a number of the cycle
//! that grows with each claim and each change by the caller; what a worker says under an older one is stale. *Lapse*: a claim
//! that ended by its lease running out. What happens to a cycle is one table, at [`Cycle`], and one pure function,
//! [`Cycle::apply`].
//!
//! One time of a row says when it can be claimed: when it is due, or when its lease is over. So the claim that finds what is
//! due finds what a dead worker left as well, and there is nothing that has to clean up. Leases go by the scheduler's clock,
//! which is the database's, never a worker's.
//!
//! # What it does not do
//!
//! It keeps no order between cycles, and starts nothing at a time of day. It does not decide which failures are worth another attempt: the handler says
//! [`Failure`](Verdict::Failure) or [`Permanent`](Verdict::Permanent). What customers may ask for is
//! [`account_retry_policy`]'s; [`Plan::of_policy`] makes a plan of it.
//!
//! # Cancel safety
//!
//! Any future of a [`RetryScheduler`] may be dropped: its verb has then taken effect whole, or not at all. After a dropped
//! [`claim_due`](RetryScheduler::claim_due), cycles may be leased to nobody until the lease is over. In a transaction, roll back
//! after a dropped verb. [`Worker::run`] may be dropped too; its claims are then as after a crash.
//!
//! # Implementing a scheduler
//!
//! [`RetryScheduler`] has a numbered contract; with the feature `conformance`, the module `conformance` has a test for each
//! number.
//!
//! # Metrics
//!
//! With the feature `metrics`, a [`Worker`] counts on the `metrics` crate. Labels are namespaces and fixed words, never a
//! subject, a tenant, a payload or a key.
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
//! With the feature `tracing`, a [`Worker`] logs on the `tracing` crate: namespace, subject and number of an attempt, never
//! a payload, a detail, a tenant or an attempt key. A handler runs in the span `attempt`. When the cycle's [`Metadata`] has
//! a `traceparent` ([W3C Trace Context](https://www.w3.org/TR/trace-context/)), the span has it as a field, so that a layer
//! can link the attempt to the trace that scheduled the cycle.
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

pub use crate::admin::{Changed, CycleAdmin, CycleClass, CycleFilter, NamespaceCounts, RunNow};
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
