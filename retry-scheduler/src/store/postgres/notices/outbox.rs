//! What a handle has to tell, and when.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::time::Instant;

use super::{Notice, SOON};

/// Two notices of a handle are at least this far apart.
const APART: Duration = Duration::from_millis(10);
/// The pause between two looks at open transactions: a part of how long the youngest is known, within bounds. So what a
/// transaction of up to half a second schedules is announced within 32 ms of its commit, and a long one costs few looks.
const PAUSE_PART: u32 = 16;
const SHORTEST_PAUSE: Duration = Duration::from_millis(10);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);
/// A transaction that is open for longer is not followed further, nor more transactions than this.
const GIVE_UP: Duration = Duration::from_mins(1);
const MOST_OPEN: usize = 1_024;
/// What a transaction scheduled that took longer than this may lie below the floor.
const LATE: Duration = Duration::from_millis(500);

#[derive(Debug, Default)]
pub(super) struct Outbox {
    /// When the first is due of what is not told yet.
    due: Option<Instant>,
    overdue: bool,
    /// When the first is due of what was told last.
    told: Option<Instant>,
    rests_until: Option<Instant>,
    /// Transactions that may not have ended.
    open: BTreeMap<u64, Open>,
    next_look: Option<Instant>,
}

#[derive(Debug)]
struct Open {
    since: Instant,
    due: Instant,
}

/// How a transaction ended, or that it has not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Status {
    InProgress,
    Committed,
    Aborted,
}

impl Outbox {
    /// Takes a note of what is committed. Returns whether there is more to do.
    pub(super) fn note(&mut self, notice: Notice, now: Instant) -> bool {
        if notice.wait > SOON {
            return false;
        }
        self.note_due(now + notice.wait, notice.overdue, now)
    }

    fn note_due(&mut self, due: Instant, overdue: bool, now: Instant) -> bool {
        if overdue && !self.overdue {
            self.overdue = true;
        } else if self.told.is_some_and(|told| now < told && told <= due) {
            // All who heard of that will look when it is due, and learn of this one.
            return false;
        } else if self.due.is_some_and(|earlier| earlier <= due) {
            return false;
        }
        self.due = Some(self.due.map_or(due, |other| other.min(due)));
        true
    }

    /// Takes a note of what is due if this transaction commits. Returns whether there is more to do.
    pub(super) fn follow(&mut self, transaction: u64, wait: Duration, now: Instant) -> bool {
        if wait > SOON || (self.open.len() >= MOST_OPEN && !self.open.contains_key(&transaction)) {
            return false;
        }
        let due = now + wait;
        let open = self.open.entry(transaction).or_insert(Open { since: now, due });
        open.due = open.due.min(due);
        let soon = now + SHORTEST_PAUSE;
        let earlier = self.next_look.is_some_and(|at| at <= soon);
        if !earlier {
            self.next_look = Some(soon);
        }
        !earlier
    }

    /// The transactions to ask about, if it is time.
    pub(super) fn ask_about(&mut self, now: Instant) -> Option<Vec<u64>> {
        if self.next_look.is_none_or(|at| now < at) {
            return None;
        }
        self.open.retain(|_, open| now < open.since + GIVE_UP);
        self.look_again(now);
        (!self.open.is_empty()).then(|| self.open.keys().copied().collect())
    }

    /// Takes the answers about transactions.
    pub(super) fn answered(&mut self, answers: impl IntoIterator<Item = (u64, Status)>, now: Instant) {
        for (transaction, status) in answers {
            if status == Status::InProgress {
                continue;
            }
            if let Some(open) = self.open.remove(&transaction)
                && status == Status::Committed
            {
                self.note_due(open.due, now.saturating_duration_since(open.since) > LATE, now);
            }
        }
        self.look_again(now);
    }

    fn look_again(&mut self, now: Instant) {
        let youngest = self.open.values().map(|open| open.since).max();
        let pause = youngest.map(|since| {
            (now.saturating_duration_since(since) / PAUSE_PART).clamp(SHORTEST_PAUSE, LONGEST_PAUSE)
        });
        self.next_look = pause.map(|pause| now + pause);
    }

    /// Takes out what is to be sent now.
    pub(super) fn take(&mut self, now: Instant) -> Option<Notice> {
        if self.rests_until.is_some_and(|until| now < until) {
            return None;
        }
        let due = self.due.take()?;
        self.told = Some(due);
        self.rests_until = Some(now + APART);
        let overdue = std::mem::take(&mut self.overdue);
        Some(Notice { wait: due.saturating_duration_since(now), overdue })
    }

    /// Puts a notice back that was taken then, and may not have been sent.
    pub(super) fn put_back(&mut self, notice: Notice, taken: Instant) {
        self.told = None;
        self.note(notice, taken);
    }

    /// When there is something to do next.
    pub(super) fn next(&self, now: Instant) -> Option<Instant> {
        let notice = self.due.map(|_| self.rests_until.unwrap_or(now));
        [notice, self.next_look].into_iter().flatten().min()
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

    /// What is sent when it may be.
    fn sent(outbox: &mut Outbox, now: Instant) -> Option<Duration> {
        let notice = outbox.take(now)?;
        assert!(!notice.overdue);
        Some(notice.wait)
    }

    #[test]
    fn many_notes_are_one_notice_about_the_first_that_is_due() {
        let (mut outbox, now) = (Outbox::default(), clock::now());
        assert!(outbox.note(due_in(300 * MS), now));
        assert!(!outbox.note(due_in(400 * MS), now));
        assert!(outbox.note(due_in(200 * MS), now));
        assert_eq!(sent(&mut outbox, now), Some(200 * MS));
        assert_eq!(sent(&mut outbox, now + APART), None);
        // The next one is not sent at once.
        assert!(outbox.note(due_in(Duration::ZERO), now + MS));
        assert_eq!(sent(&mut outbox, now + MS), None);
        assert_eq!(outbox.next(now + MS), Some(now + APART));
        assert_eq!(sent(&mut outbox, now + APART), Some(Duration::ZERO));
    }

    #[test]
    fn what_is_due_after_something_that_was_told_and_is_to_come_needs_no_notice() {
        let (mut outbox, now) = (Outbox::default(), clock::now());
        outbox.note(due_in(500 * MS), now);
        assert_eq!(sent(&mut outbox, now), Some(500 * MS));
        assert!(!outbox.note(due_in(500 * MS), now + 100 * MS));
        // But what is due before, and what comes when that is over.
        assert!(outbox.note(due_in(100 * MS), now + 200 * MS));
        assert_eq!(sent(&mut outbox, now + 200 * MS), Some(100 * MS));
        assert!(outbox.note(due_in(500 * MS), now + 300 * MS));
    }

    #[test]
    fn what_is_due_far_off_is_not_told() {
        let (mut outbox, now) = (Outbox::default(), clock::now());
        assert!(!outbox.note(due_in(SOON + MS), now));
        assert!(!outbox.follow(1, SOON + MS, now));
        assert_eq!((outbox.next(now), outbox.ask_about(now + SOON)), (None, None));
    }

    #[test]
    fn a_notice_that_was_not_sent_is_sent_again() {
        let (mut outbox, now) = (Outbox::default(), clock::now());
        outbox.note(Notice { wait: 50 * MS, overdue: true }, now);
        let notice = outbox.take(now).unwrap();
        outbox.note(due_in(80 * MS), now);
        outbox.put_back(notice, now);
        assert_eq!(outbox.take(now + APART), Some(Notice { wait: 40 * MS, overdue: true }));
        assert_eq!(outbox.take(now + 2 * APART), None);
    }

    #[test]
    fn a_transaction_is_told_of_after_its_commit_and_not_after_a_rollback() {
        let (mut outbox, now) = (Outbox::default(), clock::now());
        assert!(outbox.follow(1, Duration::ZERO, now));
        // The task knows already that it has to look.
        assert!(!outbox.follow(2, Duration::ZERO, now));
        assert!(!outbox.follow(2, Duration::ZERO, now));
        assert_eq!(outbox.ask_about(now), None);
        assert_eq!(outbox.ask_about(now + SHORTEST_PAUSE), Some(vec![1, 2]));
        outbox.answered([(1, Status::InProgress), (2, Status::Aborted)], now + SHORTEST_PAUSE);
        assert_eq!(outbox.take(now + SHORTEST_PAUSE), None);
        assert_eq!(outbox.ask_about(now + 2 * SHORTEST_PAUSE), Some(vec![1]));
        outbox.answered([(1, Status::Committed)], now + 2 * SHORTEST_PAUSE);
        assert_eq!(sent(&mut outbox, now + 2 * SHORTEST_PAUSE), Some(Duration::ZERO));
        assert_eq!(outbox.next(now + 2 * SHORTEST_PAUSE), None);
    }

    #[test]
    fn a_transaction_that_stays_open_is_asked_for_less_and_less_often_and_then_given_up() {
        let (mut outbox, start) = (Outbox::default(), clock::now());
        outbox.follow(1, Duration::ZERO, start);
        let (mut now, mut looks) = (start, 0);
        while let Some(at) = outbox.next(now) {
            assert!(at - now <= SHORTEST_PAUSE.max((now - start) / PAUSE_PART).min(LONGEST_PAUSE));
            now = at;
            if outbox.ask_about(now).is_some() {
                outbox.answered([(1, Status::InProgress)], now);
                looks += 1;
            }
        }
        assert!(now - start >= GIVE_UP && now - start < GIVE_UP + 2 * LONGEST_PAUSE);
        assert!((50..200).contains(&looks), "{looks} looks");
    }

    #[test]
    fn what_was_written_long_before_the_commit_is_overdue() {
        let (mut outbox, now) = (Outbox::default(), clock::now());
        outbox.follow(1, Duration::ZERO, now);
        outbox.answered([(1, Status::Committed)], now + LATE + MS);
        assert_eq!(outbox.take(now + LATE + MS), Some(Notice { wait: Duration::ZERO, overdue: true }));
    }

    #[test]
    fn open_transactions_are_bounded() {
        let (mut outbox, now) = (Outbox::default(), clock::now());
        for transaction in 0..5_000 {
            outbox.follow(transaction, Duration::ZERO, now);
        }
        assert_eq!(outbox.ask_about(now + SHORTEST_PAUSE).unwrap().len(), MOST_OPEN);
    }
}
