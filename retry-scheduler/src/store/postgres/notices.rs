//! Telling other processes that something is due, and hearing it from them.
//!
//! `NOTIFY` takes a lock of the whole database when its transaction commits, and holds it until the log is flushed. In the
//! transactions that schedule, it would make them commit one after the other. So a verb only leaves a note in memory. A
//! task of the handle sends it in a transaction of its own, which writes nothing and therefore flushes nothing.
//!
//! A notice says how long it is until something is due. The handles that hear it wait that long, then wake their workers,
//! which find out the rest. So the earliest notice is enough: a worker that looks then also learns of what is due later.
//!
//! Everything here is a hint. What is lost, the worker's next poll finds.

mod inbox;
mod outbox;
mod task;

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use self::inbox::Inbox;
use self::outbox::Outbox;
use super::connections::Connections;
use crate::clock;

/// What is due later than this is not told. A worker looks at least once a poll, and learns of what is due until the next
/// one; nobody polls less often than this.
pub(super) const SOON: Duration = Duration::from_hours(1);

/// The notices of one handle. Its task starts with the first one, or when somebody waits for those of others, and ends
/// when this is dropped.
#[derive(Debug)]
pub(super) struct Notices {
    shared: Arc<Shared>,
    connections: Arc<Connections>,
}

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    /// Wakes the task: there is more to do than it knows of.
    work: Notify,
    /// Wakes those who wait for notices.
    heard: Notify,
    /// How many they are.
    waiting: AtomicUsize,
}

#[derive(Debug, Default)]
struct State {
    task: Option<Task>,
    /// Whether anybody has ever waited for notices.
    listens: bool,
    outbox: Outbox,
    inbox: Inbox,
}

#[derive(Debug)]
struct Task {
    handle: JoinHandle<()>,
    stop: CancellationToken,
}

/// That something is due, and how long it is until then.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Notice {
    wait: Duration,
    /// Whether it may have been due for so long that a look from the floor overlooks it.
    overdue: bool,
}

impl Notices {
    pub(super) fn new(connections: Arc<Connections>) -> Self {
        Self { shared: Arc::default(), connections }
    }

    /// Tells the others that something is due in so long. It is committed.
    pub(super) fn due_in(&self, wait: Duration) {
        self.tell(|outbox| outbox.note(Notice { wait, overdue: false }, clock::now()));
    }

    /// Tells the others that something is due, maybe for long. It is committed.
    pub(super) fn overdue(&self) {
        self.tell(|outbox| outbox.note(Notice { wait: Duration::ZERO, overdue: true }, clock::now()));
    }

    /// The same once this transaction commits, if it does.
    pub(super) fn due_after(&self, transaction: u64, wait: Duration) {
        self.tell(|outbox| outbox.follow(transaction, wait, clock::now()));
    }

    /// Waits until something is due, by others' doing or by this handle's. Returns whether it may have been for long.
    ///
    /// Dropped, it leaves nothing behind. What is heard while nobody waits ends the next wait.
    pub(super) async fn heard(&self) -> bool {
        let heard = self.shared.heard.notified();
        let _waiting = Waiting::new(&self.shared.waiting);
        self.listen();
        heard.await;
        self.shared.lock().inbox.take_overdue()
    }

    fn listen(&self) {
        let mut state = self.shared.lock();
        if !state.listens {
            state.listens = true;
            self.shared.work.notify_one();
        }
        self.start(&mut state);
    }

    fn tell(&self, note: impl FnOnce(&mut Outbox) -> bool) {
        let mut state = self.shared.lock();
        if note(&mut state.outbox) {
            self.start(&mut state);
            drop(state);
            self.shared.work.notify_one();
        }
    }

    /// Starts the task, if it is not there or ended with its runtime.
    fn start(&self, state: &mut State) {
        if state.task.as_ref().is_some_and(|task| !task.handle.is_finished()) {
            return;
        }
        let Ok(runtime) = Handle::try_current() else { return };
        let stop = CancellationToken::new();
        let task = task::run(Arc::clone(&self.shared), Arc::clone(&self.connections), stop.clone());
        state.task = Some(Task { handle: runtime.spawn(task), stop });
    }

    /// Ends the task, and waits for that. It starts again with the next notice.
    #[cfg(test)]
    pub(super) async fn close(&self) {
        let task = self.shared.lock().task.take();
        if let Some(task) = task {
            task.stop.cancel();
            task.handle.await.unwrap();
        }
    }
}

impl Drop for Notices {
    fn drop(&mut self) {
        if let Some(task) = &self.shared.lock().task {
            task.stop.cancel();
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Wakes all waiting tasks. If none waits, the next one will not have to.
    fn wake(&self) {
        if self.waiting.load(Ordering::SeqCst) == 0 {
            self.heard.notify_one();
        } else {
            self.heard.notify_waiters();
        }
    }
}

impl Notice {
    /// What is sent of it.
    fn payload(self) -> String {
        let overdue = if self.overdue { " overdue" } else { "" };
        format!("{}{overdue}", self.wait.as_millis())
    }

    /// Reads what another version may have sent: what it does not know is due now.
    fn read(payload: &str) -> Self {
        let mut words = payload.split(' ');
        let wait = words.next().and_then(|ms| ms.parse().ok()).map_or(Duration::ZERO, Duration::from_millis);
        Self { wait: wait.min(SOON), overdue: words.any(|word| word == "overdue") }
    }
}

/// Somebody who waits, until dropped.
struct Waiting<'a>(&'a AtomicUsize);

impl<'a> Waiting<'a> {
    fn new(count: &'a AtomicUsize) -> Self {
        count.fetch_add(1, Ordering::SeqCst);
        Self(count)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_notice_is_read_as_it_was_sent_and_an_unknown_one_as_due_now() {
        for overdue in [false, true] {
            for wait in [Duration::ZERO, Duration::from_millis(17), SOON] {
                let notice = Notice { wait, overdue };
                assert_eq!(Notice::read(&notice.payload()), notice);
            }
        }
        for unknown in ["", "soon", "-1", "1.5"] {
            assert_eq!(Notice::read(unknown), Notice { wait: Duration::ZERO, overdue: false });
        }
        assert_eq!(Notice::read("5 more overdue"), Notice { wait: Duration::from_millis(5), overdue: true });
        assert_eq!(Notice::read(&u64::MAX.to_string()).wait, SOON);
    }
}
