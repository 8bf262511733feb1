//! What a handle heard, and when it wakes its worker for it.

use std::time::Duration;

use tokio::time::Instant;

use super::Notice;

/// Two wake-ups are at least this far apart: many notices cost the worker, and the database, one look.
const REST: Duration = Duration::from_millis(20);
/// A notice reaches all handles at once. Each waits for a random part of this, so that they do not all claim at once.
pub(super) const SPREAD: Duration = Duration::from_millis(10);

/// It keeps only the earliest wake-up. A worker that is woken looks for due cycles, and for when the next one is due.
#[derive(Debug, Default)]
pub(super) struct Inbox {
    wake_at: Option<Instant>,
    rests_until: Option<Instant>,
    /// Whether something may lie below the floor, and whether the one that is woken is to know.
    overdue: bool,
    found_overdue: bool,
}

impl Inbox {
    /// A notice arrived. `delay` is a random part of [`SPREAD`].
    pub(super) fn hear(&mut self, notice: Notice, delay: Duration, now: Instant) {
        let at = now + notice.wait + delay;
        self.wake_at = Some(self.wake_at.map_or(at, |earlier| earlier.min(at)));
        self.overdue |= notice.overdue;
    }

    /// When to wake the worker next.
    pub(super) fn next(&self) -> Option<Instant> {
        self.wake_at.max(self.wake_at.and(self.rests_until))
    }

    /// Whether to wake the worker now.
    pub(super) fn is_ripe(&mut self, now: Instant) -> bool {
        if self.next().is_none_or(|at| now < at) {
            return false;
        }
        self.wake_at = None;
        self.rests_until = Some(now + REST);
        self.found_overdue |= std::mem::take(&mut self.overdue);
        true
    }

    /// Whether, since it was asked last, somebody was woken for what may be overdue.
    pub(super) fn take_overdue(&mut self) -> bool {
        std::mem::take(&mut self.found_overdue)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock;

    const MS: Duration = Duration::from_millis(1);

    fn due_in(wait: Duration) -> Notice {
        Notice { wait, overdue: false }
    }

    #[test]
    fn many_notices_are_one_wake_up_and_the_next_one_comes_a_rest_later() {
        let (mut inbox, now) = (Inbox::default(), clock::now());
        assert!(!inbox.is_ripe(now));
        for n in 0..100 {
            inbox.hear(due_in(Duration::ZERO), n % 10 * MS, now);
        }
        assert!(inbox.is_ripe(now));
        assert!(!inbox.is_ripe(now + REST));
        inbox.hear(due_in(Duration::ZERO), MS, now + MS);
        assert!(!inbox.is_ripe(now + REST - MS));
        assert!(inbox.is_ripe(now + REST));
    }

    #[test]
    fn what_is_due_later_wakes_when_it_is_due_the_earliest_first() {
        let (mut inbox, now) = (Inbox::default(), clock::now());
        inbox.hear(due_in(500 * MS), MS, now);
        inbox.hear(due_in(300 * MS), MS, now);
        inbox.hear(due_in(400 * MS), MS, now);
        assert_eq!(inbox.next(), Some(now + 301 * MS));
        assert!(!inbox.is_ripe(now + 300 * MS));
        assert!(inbox.is_ripe(now + 301 * MS));
        // Who was woken has found out about the others.
        assert_eq!(inbox.next(), None);
    }

    #[test]
    fn whether_something_is_overdue_is_said_once() {
        let (mut inbox, now) = (Inbox::default(), clock::now());
        inbox.hear(Notice { wait: Duration::ZERO, overdue: true }, Duration::ZERO, now);
        inbox.hear(due_in(Duration::ZERO), Duration::ZERO, now);
        assert!(!inbox.take_overdue());
        assert!(inbox.is_ripe(now));
        assert!(inbox.take_overdue());
        assert!(!inbox.take_overdue());
    }
}
