//! Where a handle starts to look for due cycles.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

/// How long a due cycle below the floor can stay unseen, as long as sweeps are fast.
pub(super) const SWEEP: Duration = Duration::from_secs(3);
/// Sweeps take at most one part in this many of the time.
const SWEEP_SHARE: u32 = 20;
/// The floor follows this many looks behind, so that it stays below rows that are written a little late.
const BEHIND: usize = 4;
/// How far the floor stays behind the time, for the same reason.
const GRACE_MS: i64 = 1_000;
/// The first part that is swept after a sweep failed.
const SLICE_MS: i64 = 60_000;
/// A look that took no longer than this will not take too long the next time.
const SHORT: Duration = Duration::from_millis(50);
/// More namespaces than this are not kept apart: all begin anew.
const MOST_NAMESPACES: usize = 1_024;

/// Where the dead rows end, for each namespace.
///
/// A finished cycle leaves a dead index entry where it was due, and a claimed one stays there until it is finished. The
/// index keeps dead entries until they are vacuumed, and that waits for the oldest snapshot in the database. A look from
/// the start would walk them all each time. So a handle starts near where its latest looks ended.
///
/// It can overlook what lies below: a row that a transaction committed long after it wrote it, and a lease that has run
/// out. A *sweep* finds these: a look at what lies below the floor, every few seconds, by one caller while the others
/// look from the floor. A sweep that fails (the server cancels a statement after a time) costs nobody the floor; the next
/// ones go downwards from the floor in parts, each from where the last one ended.
#[derive(Debug, Default)]
pub(super) struct Floor {
    fronts: HashMap<String, Front>,
    /// The least floor. Only a handle whose first look failed has one.
    base: i64,
    sweep: Sweep,
    /// From when on the next wait is looked for from the start, and how long that took the last time.
    next_wait: Duration,
    wait_took: Duration,
    /// The server's time in milliseconds at a time of this handle's clock.
    server: Option<(Duration, i64)>,
}

#[derive(Debug, Default)]
struct Front {
    at: i64,
    /// Up to when each of the latest looks left nothing that is due, the oldest first.
    latest: VecDeque<i64>,
}

#[derive(Debug, Default)]
struct Sweep {
    running: bool,
    /// When the latest one began, and the earliest time for the next one.
    began: Duration,
    next: Duration,
    /// The earliest time that leaves sweeps their share of the time.
    earliest: Duration,
    /// What is left of this round: everything due before this. `None`: a round begins.
    below: Option<i64>,
    /// How much of it one sweep takes. `None`: all of it, and what is above the floor too.
    width: Option<i64>,
}

/// What to look at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Look {
    /// From the floor on.
    Floor,
    /// From the start.
    All,
    /// What was due in this range of milliseconds, below the floor.
    Part { from: i64, to: i64 },
}

/// What a look found.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Found<'a> {
    pub(super) namespaces: &'a [String],
    /// The latest time at which something that was found was due.
    pub(super) last: Option<i64>,
    /// The earliest time at which something was due that was found and not taken.
    pub(super) left: Option<i64>,
    /// Whether there may be more.
    pub(super) full: bool,
    /// The server's time, where it is known.
    pub(super) server_ms: Option<i64>,
}

impl Floor {
    /// Decides what to look at. `now` is the time by a clock that this floor is always asked with.
    ///
    /// After anything but [`Look::Floor`] the caller says how that ended: [`swept`](Self::swept) or
    /// [`failed`](Self::failed).
    pub(super) fn look(&mut self, now: Duration) -> Look {
        if now < self.sweep.began {
            *self = Self::default();
        }
        if self.sweep.running || now < self.sweep.next {
            return Look::Floor;
        }
        self.sweep.running = true;
        self.sweep.began = now;
        let Some(width) = self.sweep.width else { return Look::All };
        let to = *self
            .sweep
            .below
            .get_or_insert_with(|| self.fronts.values().map(|front| front.at).fold(self.base, i64::max));
        Look::Part { from: to.saturating_sub(width).max(0), to }
    }

    /// The floor of each of these namespaces.
    pub(super) fn of(&self, namespaces: &[String]) -> Vec<i64> {
        let at = |namespace| match self.fronts.get(namespace) {
            Some(front) if front.at > 0 => front.at,
            _ => self.base,
        };
        namespaces.iter().map(at).collect()
    }

    /// Decides whether the next time at which something can be claimed is looked for from the start, because leases below
    /// the floor run out too; and whether that may take long. It takes as small a part of the time as sweeps.
    pub(super) fn wait_from_start(&self, now: Duration) -> Option<bool> {
        let from_start = now >= self.next_wait || now < self.sweep.began;
        from_start.then_some(self.wait_took > SHORT)
    }

    /// A look for the next time from the start has ended, or was given up.
    pub(super) fn waited(&mut self, began: Duration, now: Duration) {
        self.wait_took = now.saturating_sub(began);
        self.next_wait = now + self.wait_took.saturating_mul(SWEEP_SHARE - 1);
    }

    /// A look from the floor found this.
    pub(super) fn found(&mut self, found: Found<'_>, now: Duration) {
        if let Some(server_ms) = found.server_ms {
            self.server = Some((now, server_ms));
        }
        let up_to = match (found.full, found.last) {
            (true, last) => last,
            (false, last) => self
                .server
                .map(|(then, ms)| {
                    let since = i64::try_from(now.saturating_sub(then).as_millis()).unwrap_or(i64::MAX);
                    ms.saturating_add(since).saturating_sub(GRACE_MS)
                })
                .or(last),
        };
        let Some(up_to) = [up_to, found.left].into_iter().flatten().min() else { return };
        if self.fronts.len() > MOST_NAMESPACES {
            self.fronts.clear();
        }
        for namespace in found.namespaces {
            self.fronts.entry(namespace.clone()).or_default().note(up_to);
        }
    }

    /// A look from the start found this: the floor goes down to where it ended.
    pub(super) fn lower(&mut self, found: Found<'_>, now: Duration) {
        let last = if found.full { found.left.or(found.last) } else { found.left };
        if let Some(last) = last {
            let base = self.base;
            for namespace in found.namespaces {
                let front = self.fronts.entry(namespace.clone()).or_default();
                front.at = front.at.max(base);
                front.lower(last);
            }
        }
        self.found(found, now);
    }

    /// A sweep has ended. Of a part it says whether there may be more in it.
    pub(super) fn swept(&mut self, look: Look, found: Found<'_>, now: Duration) {
        let sweep = &mut self.sweep;
        let took = now.saturating_sub(sweep.began);
        let pause = took.saturating_mul(SWEEP_SHARE - 1);
        sweep.running = false;
        sweep.earliest = now + pause;
        match look {
            Look::Floor => {}
            Look::All => sweep.next = now + pause.max(SWEEP),
            Look::Part { from, .. } if !found.full => {
                sweep.width = sweep.width.map(|width| width.saturating_mul(2));
                sweep.below = Some(from).filter(|from| *from > 0);
                if sweep.below.is_none() {
                    // The round is over, and the next one tries it in one look.
                    sweep.width = None;
                    sweep.next = now + pause.max(SWEEP);
                } else {
                    sweep.next = now + pause;
                }
            }
            Look::Part { .. } => sweep.next = now + pause,
        }
    }

    /// A sweep failed, or was given up. `server_ms` is the server's time, where it is known.
    pub(super) fn failed(&mut self, look: Look, server_ms: Option<i64>, now: Duration) {
        let took = now.saturating_sub(self.sweep.began);
        self.sweep.running = false;
        self.sweep.next = now + took.saturating_mul(SWEEP_SHARE - 1).max(SWEEP);
        self.sweep.earliest = self.sweep.next;
        match look {
            Look::Floor => {}
            Look::All => {
                self.sweep.width = Some(SLICE_MS);
                self.sweep.below = None;
                if let Some(server_ms) = server_ms {
                    self.base = self.base.max(server_ms.saturating_sub(SLICE_MS));
                }
            }
            Look::Part { .. } => {
                self.sweep.width = self.sweep.width.map(|width| (width / 4).max(GRACE_MS));
            }
        }
    }

    /// Something below the floor can be due soon, by this handle's doing: the next look is a sweep.
    pub(super) fn sweep_soon(&mut self) {
        self.sweep.next = self.sweep.began;
    }

    /// Something below the floor can be due, by somebody else's doing: the next look is a sweep, if sweeps have not had
    /// their share of the time.
    pub(super) fn sweep_early(&mut self) {
        self.sweep.next = self.sweep.next.min(self.sweep.earliest);
    }
}

impl Front {
    fn note(&mut self, up_to: i64) {
        for earlier in &mut self.latest {
            *earlier = up_to.min(*earlier);
        }
        self.latest.push_back(up_to);
        if self.latest.len() > BEHIND {
            self.at = self.latest.pop_front().unwrap_or(0).max(self.at);
        }
    }

    fn lower(&mut self, to: i64) {
        if to < self.at {
            self.at = to;
            self.latest.clear();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: Duration = Duration::from_secs(1_000);
    const NANOSECOND: Duration = Duration::from_nanos(1);

    fn spaces() -> [String; 1] {
        ["space".to_owned()]
    }

    fn at(floor: &Floor) -> i64 {
        floor.of(&spaces())[0]
    }

    fn full(last: i64) -> (Option<i64>, bool) {
        (Some(last), true)
    }

    #[test]
    fn an_early_sweep_comes_before_the_next_one_and_leaves_sweeps_their_share_of_the_time() {
        let (mut floor, took) = (Floor::default(), Duration::from_millis(10));
        assert_eq!(claim(&mut floor, START, took, (None, false)), Look::All);
        let shared = START + took * SWEEP_SHARE;
        assert_eq!(floor.look(shared), Look::Floor);
        floor.sweep_early();
        assert_eq!(floor.look(START + took * (SWEEP_SHARE - 1)), Look::Floor);
        assert_eq!(floor.look(shared), Look::All);
    }

    /// One claim that takes so long and finds this. What it looked at.
    fn claim(floor: &mut Floor, now: Duration, took: Duration, (last, full): (Option<i64>, bool)) -> Look {
        let look = floor.look(now);
        let found = Found { namespaces: &spaces(), last, full, ..Found::default() };
        match look {
            Look::All => floor.lower(found, now + took),
            Look::Floor | Look::Part { .. } => floor.found(found, now + took),
        }
        if look != Look::Floor {
            floor.swept(look, Found::default(), now + took);
        }
        look
    }

    fn claims(floor: &mut Floor, now: Duration, lasts: &[i64]) {
        for last in lasts {
            claim(floor, now, Duration::ZERO, full(*last));
        }
    }

    #[test]
    fn it_follows_the_claims_at_a_distance() {
        let mut floor = Floor::default();
        claims(&mut floor, START, &[10, 20, 30, 40]);
        assert_eq!(at(&floor), 0);
        claims(&mut floor, START, &[50, 60]);
        assert_eq!(at(&floor), 20);
        claim(&mut floor, START, Duration::ZERO, (None, true));
        assert_eq!(at(&floor), 20);
        assert_eq!(floor.of(&["another".to_owned()]), [0]);
    }

    #[test]
    fn it_does_not_pass_what_was_left() {
        let mut floor = Floor::default();
        claims(&mut floor, START, &[30, 30, 30, 30, 20]);
        assert_eq!(at(&floor), 20);
        claims(&mut floor, START, &[30, 30, 30, 30, 30]);
        assert_eq!(at(&floor), 30);
        for _ in 0..9 {
            let found =
                Found { namespaces: &spaces(), last: Some(90), left: Some(40), full: true, server_ms: None };
            floor.found(found, START);
        }
        assert_eq!(at(&floor), 40);
    }

    /// Also of a worker that seldom finds anything.
    #[test]
    fn where_nothing_is_left_it_follows_the_servers_time() {
        let mut floor = Floor::default();
        let found = Found { namespaces: &spaces(), server_ms: Some(50_000), ..Found::default() };
        floor.found(found, START);
        for second in 1..=20 {
            claim(&mut floor, START + Duration::from_secs(second), Duration::ZERO, (None, false));
        }
        assert_eq!(at(&floor), 50_000 + 16_000 - GRACE_MS);
    }

    #[test]
    fn one_caller_sweeps_every_few_seconds_while_the_others_stay() {
        let mut floor = Floor::default();
        claims(&mut floor, START, &[10; 9]);
        assert_eq!(floor.look((START + SWEEP).saturating_sub(NANOSECOND)), Look::Floor);
        assert_eq!(floor.look(START + SWEEP), Look::All);
        for _ in 0..9 {
            assert_eq!(floor.look(START + SWEEP * 9), Look::Floor);
        }
        assert_eq!(at(&floor), 10);
        floor.swept(Look::All, Found::default(), START + SWEEP);
        assert_eq!(at(&floor), 10);
        assert_eq!(floor.look(START + SWEEP * 2), Look::All);
    }

    #[test]
    fn what_a_sweep_leaves_below_is_gone_on_with() {
        let mut floor = Floor::default();
        claims(&mut floor, START, &[500; 9]);
        assert_eq!(claim(&mut floor, START + SWEEP, Duration::ZERO, full(100)), Look::All);
        assert_eq!(at(&floor), 100);
    }

    #[test]
    fn where_the_clock_is_set_back_it_begins_anew() {
        let mut floor = Floor::default();
        claims(&mut floor, START, &[10; 9]);
        assert_eq!(floor.look(START.saturating_sub(NANOSECOND)), Look::All);
        assert_eq!(at(&floor), 0);
    }

    #[test]
    fn sweeps_take_one_part_in_twenty_of_the_time_however_long_one_takes() {
        for fails in [false, true] {
            let took = Duration::from_secs(1);
            let (mut floor, mut now, mut last) = (Floor::default(), START, 0);
            let (mut sweeping, mut looks) = (Duration::ZERO, 0);
            while now < START + Duration::from_secs(1_000) {
                let look = floor.look(now);
                let cost = if look == Look::Floor { Duration::from_millis(10) } else { took };
                now += cost;
                last += 1;
                if look == Look::Floor {
                    floor.found(
                        Found { namespaces: &spaces(), last: Some(last), full: true, ..Found::default() },
                        now,
                    );
                    continue;
                }
                sweeping += cost;
                looks += 1;
                if fails {
                    floor.failed(look, Some(1_700_000_000_000), now);
                } else {
                    floor.swept(look, Found::default(), now);
                }
            }
            let share = sweeping.as_secs_f64() / now.saturating_sub(START).as_secs_f64();
            assert!(share <= 0.055 && looks > 10, "{looks} sweeps, {share} of the time");
        }
    }

    #[test]
    fn a_sweep_that_fails_costs_nobody_the_floor() {
        let mut floor = Floor::default();
        claims(&mut floor, START, &[10, 20, 30, 40, 50, 60]);
        let look = floor.look(START + SWEEP);
        assert_eq!(look, Look::All);
        let failed = START + SWEEP + Duration::from_secs(20);
        floor.failed(look, None, failed);
        assert_eq!((at(&floor), floor.look(failed + SWEEP)), (20, Look::Floor));
    }

    /// Downwards from the floor, each part from where the last one ended, also where one of them fails.
    #[test]
    fn after_a_sweep_that_fails_the_next_ones_go_on_in_parts_to_the_start() {
        const NOW_MS: i64 = 1_700_000_000_000;
        let mut floor = Floor::default();
        let mut now = START;
        let look = floor.look(now);
        floor.failed(look, Some(NOW_MS), now + Duration::from_secs(2));
        assert_eq!(at(&floor), NOW_MS - SLICE_MS, "a handle without a floor looks at the latest");
        let mut below = NOW_MS - SLICE_MS;
        let mut parts = 0;
        while below > 0 {
            now += Duration::from_secs(100);
            let look = floor.look(now);
            let Look::Part { from, to } = look else { panic!("{look:?}") };
            assert_eq!(to, below);
            parts += 1;
            if parts % 5 == 0 {
                floor.failed(look, None, now);
            } else {
                floor.swept(look, Found::default(), now);
                below = from;
            }
        }
        assert!(parts < 200, "{parts}");
        assert_eq!(floor.look(now + Duration::from_secs(100)), Look::All);
    }
}
