//! From where on a handle looks for what is due.

use std::collections::VecDeque;
use std::time::Duration;

/// How long what lies below the floor can stay unseen.
const SWEEP: Duration = Duration::from_secs(3);
/// Sweeps take at most one part in so many of the time: under an old snapshot one reads all that was claimed since.
const SWEEP_SHARE: u32 = 20;
/// The floor follows so many claims behind: what is written a little late is still above it.
const BEHIND: usize = 4;

/// Where the dead rows end.
///
/// A claimed row leaves a dead one where it was due, and the index keeps it as long as any transaction in the database
/// might still see it. Whoever looks for what is due from the start would go over all of them each time. So a handle
/// begins where its last claims were. It may overlook what was written later with an earlier time, by a transaction that
/// took long; and finds it when it looks from the start, every few seconds.
#[derive(Debug, Default)]
pub(super) struct Floor {
    at: i64,
    /// Up to when each of the latest claims left nothing that is due, the oldest first.
    latest: VecDeque<i64>,
    /// When the last look from the start was, and how long it took.
    swept: Option<(Duration, Duration)>,
}

impl Floor {
    /// From where on to look. `now` is the time by a clock that this floor is always asked with.
    pub(super) fn look(&mut self, now: Duration) -> i64 {
        let over =
            |(last, took): (Duration, Duration)| now < last || now >= last + SWEEP.max(took * SWEEP_SHARE);
        if self.swept.is_none_or(over) {
            *self = Self { swept: Some((now, Duration::ZERO)), ..Self::default() };
        }
        self.at
    }

    /// The look from `floor` on left nothing that was due before `up_to`, if it found anything, and took so long.
    pub(super) fn found(&mut self, floor: i64, up_to: Option<i64>, took: Duration) {
        if floor == 0
            && let Some((_, longest)) = &mut self.swept
        {
            *longest = took.max(*longest);
        }
        let Some(up_to) = up_to else { return };
        for earlier in &mut self.latest {
            *earlier = up_to.min(*earlier);
        }
        self.latest.push_back(up_to);
        if self.latest.len() > BEHIND {
            self.at = self.latest.pop_front().unwrap_or(0).max(self.at);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: Duration = Duration::from_secs(1_000);
    const NANOSECOND: Duration = Duration::from_nanos(1);

    fn claims(floor: &mut Floor, now: Duration, lasts: &[i64]) {
        for last in lasts {
            let at = floor.look(now);
            floor.found(at, Some(*last), Duration::ZERO);
        }
    }

    #[test]
    fn it_follows_the_claims_at_a_distance() {
        let mut floor = Floor::default();
        claims(&mut floor, START, &[10, 20, 30, 40]);
        assert_eq!(floor.look(START), 0);
        claims(&mut floor, START, &[50, 60]);
        assert_eq!(floor.look(START), 20);
        floor.found(20, None, Duration::ZERO);
        assert_eq!(floor.look(START), 20);
    }

    #[test]
    fn it_does_not_pass_what_was_left() {
        let mut floor = Floor::default();
        claims(&mut floor, START, &[30, 30, 30, 30, 20]);
        assert_eq!(floor.look(START), 20);
        claims(&mut floor, START, &[30, 30, 30, 30, 30]);
        assert_eq!(floor.look(START), 30);
    }

    #[test]
    fn it_is_left_every_few_seconds_and_when_the_clock_is_set_back() {
        let mut floor = Floor::default();
        claims(&mut floor, START, &[10; 9]);
        assert_eq!(floor.look((START + SWEEP).saturating_sub(NANOSECOND)), 10);
        assert_eq!(floor.look(START + SWEEP), 0);
        claims(&mut floor, START + SWEEP, &[10; 9]);
        assert_eq!(floor.look(START + SWEEP), 10);
        assert_eq!(floor.look(START), 0);
    }

    #[test]
    fn a_sweep_that_takes_long_comes_less_often() {
        let mut floor = Floor::default();
        let took = Duration::from_secs(1);
        assert_eq!(floor.look(START), 0);
        floor.found(0, Some(10), took);
        claims(&mut floor, START, &[10; 9]);
        assert_eq!(floor.look((START + took * SWEEP_SHARE).saturating_sub(NANOSECOND)), 10);
        assert_eq!(floor.look(START + took * SWEEP_SHARE), 0);
    }
}
