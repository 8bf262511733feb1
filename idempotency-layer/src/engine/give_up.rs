//! Gives claims up, and tries again until the store confirms it. A claim that is not given back
//! keeps its key "in progress" until the lease ends, and then looks like an orphan.

use std::array::IntoIter;
use std::iter::Cycle;
use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::time::{Instant, sleep};

use crate::clock::{after, now};
use crate::config::Config;
use crate::error::{StoreError, StoreErrorKind};
use crate::orphan::OnOrphan;
use crate::store::{Claim, ClaimRequest, Fence, Fenced, Outcome, RecordId, Run, Store, Tombstone};
use crate::trace;

/// The longest pause before the store is asked again doubles each time, from the first to the last
/// of these.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(10);
/// Maximum claims given up in the background at a time. Beyond it, leases run out instead.
const MAX_IN_BACKGROUND: usize = 1024;

/// What a claim leaves when it is given up.
#[derive(Clone, Copy)]
pub(super) enum GiveUp {
    /// Nothing: the next request runs.
    Release,
    /// A tombstone: whether the request was carried out is not known.
    Halt,
    /// An orphan at once, instead of when the lease ends.
    Orphan,
}

impl GiveUp {
    /// Returns what a run without a response leaves under the policy for orphans.
    pub(super) fn of_policy(policy: &OnOrphan) -> Self {
        match policy {
            OnOrphan::Rerun => Self::Release,
            OnOrphan::Halt => Self::Halt,
            OnOrphan::Reconcile(_) => Self::Orphan,
        }
    }

    fn verb(self) -> &'static str {
        match self {
            Self::Release => "release",
            Self::Halt => "complete",
            Self::Orphan => "extend",
        }
    }
}

/// A claim to give up.
pub(super) struct GivenUp<St> {
    pub(super) config: Arc<Config<St>>,
    pub(super) record: RecordId,
    pub(super) fence: Fence,
    pub(super) how: GiveUp,
}

impl<St: Store> GivenUp<St> {
    /// Gives the claim up. If the store is not reached, tries once more at once, perhaps over
    /// another connection, and then in the background.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped, the claim may be left until its lease ends.
    pub(super) async fn settle(self) {
        for _ in 0..2 {
            if self.is_known().await {
                return;
            }
        }
        let until = self.config.remembered_until();
        let background = self.config.clone();
        spawn(&background, async move { self.until_known(until).await });
    }

    /// Asks the store until it answers, or until it has forgotten the record.
    async fn until_known(self, until: Instant) {
        let mut pauses = Pauses::new(self.record, until);
        while pauses.next().await {
            if self.is_known().await {
                return;
            }
        }
    }

    /// Asks the store once. Returns whether the matter is settled: done, refused, or another
    /// request holds the claim by now.
    async fn is_known(&self) -> bool {
        let (config, record) = (&self.config, self.record);
        let answer = match self.how {
            GiveUp::Release => St::release(&config.store, record, self.fence).await,
            GiveUp::Halt => {
                let unknown = Outcome::Tombstone(Tombstone::Unknown);
                St::complete(&config.store, record, self.fence, unknown).await
            }
            GiveUp::Orphan => St::extend(&config.store, record, self.fence, Duration::ZERO).await,
        };
        if let Err(error) = &answer {
            trace::store_failed(record, self.how.verb(), error);
        } else {
            config.wake_waiters(record);
        }
        if let (GiveUp::Release, Ok(Fenced::Held)) = (self.how, &answer) {
            trace::released(record);
        }
        is_known(&answer)
    }
}

/// Gives back, in the background, a claim whose answer was lost twice. The handler did not run.
///
/// Asks for the claim again with the same token, by which the store recognises a claim that took
/// effect, and releases it.
pub(super) fn give_back<St: Store>(config: &Arc<Config<St>>, request: ClaimRequest) {
    let until = config.remembered_until();
    let background = config.clone();
    spawn(config, async move {
        let mut pauses = Pauses::new(request.record, until);
        while pauses.next().await {
            let answer = St::claim(&background.store, request).await;
            if let Err(error) = &answer {
                trace::store_failed(request.record, "claim", error);
            }
            if let Ok(Claim::Run(Run { fence, orphan, .. })) = answer {
                // The claim took over an orphan. The next request reconciles it.
                let how = if orphan { GiveUp::Orphan } else { GiveUp::Release };
                let given_up = GivenUp { config: background, record: request.record, fence, how };
                if !given_up.is_known().await {
                    given_up.until_known(until).await;
                }
                return;
            }
            if is_known(&answer) {
                return;
            }
        }
    });
}

fn is_known<T>(answer: &Result<T, StoreError>) -> bool {
    !matches!(answer, Err(error) if error.kind() == StoreErrorKind::Unavailable)
}

/// Runs a task in the background. Without a runtime, or beyond [`MAX_IN_BACKGROUND`], does nothing:
/// the lease runs out instead.
fn spawn<St>(config: &Config<St>, task: impl Future<Output = ()> + Send + 'static) {
    if config.given_up.len() >= MAX_IN_BACKGROUND {
        return;
    }
    if let Ok(runtime) = Handle::try_current() {
        config.given_up.spawn_on(task, &runtime);
    }
}

/// Exponential backoff with jitter, up to an end.
struct Pauses {
    pause: Duration,
    until: Instant,
    /// The bytes of the record's digest, which are as good as random: claims that were lost
    /// together, in one outage, are given back one after another.
    jitter: Cycle<IntoIter<u8, 32>>,
}

impl Pauses {
    fn new(record: RecordId, until: Instant) -> Self {
        Self { pause: FIRST_PAUSE, until, jitter: (*record.as_bytes()).into_iter().cycle() }
    }

    /// Waits for between half of the pause and all of it. Returns whether it is still worth asking.
    async fn next(&mut self) -> bool {
        let jitter = self.jitter.next().unwrap_or(u8::MAX);
        let half = self.pause / 2;
        sleep(half + half * u32::from(jitter) / u32::from(u8::MAX)).await;
        self.pause = (self.pause * 2).min(LONGEST_PAUSE);
        now() < self.until
    }
}

impl<St> Config<St> {
    /// Returns the latest moment at which the store forgets a record that is claimed now.
    fn remembered_until(&self) -> Instant {
        after(now(), self.contract.ttl.max(self.lease))
    }
}
