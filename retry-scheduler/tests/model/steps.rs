//! What can happen, at random.

use proptest::prelude::*;
use proptest::sample::Index;
use retry_scheduler::Verdict;

/// What can happen. Times are in milliseconds.
#[derive(Clone, Debug)]
pub(crate) enum Step {
    Schedule {
        subject: u8,
        plan: PlanOf,
        first_in: u64,
    },
    Claim {
        worker: usize,
        limit: usize,
        lease: u64,
        per_tenant: usize,
        of: Option<u8>,
    },
    /// What the claim did is lost, but the claim is not.
    ClaimAndLose {
        worker: usize,
    },
    Pause {
        space: u8,
        paused: bool,
    },
    Purge {
        older_than: u64,
    },
    /// Both workers claim until there is nothing more.
    ClaimAll {
        lease: u64,
    },
    /// The claim speaks up, through either worker, whether or not it still holds.
    Extend {
        claim: Index,
        lease: u64,
    },
    Finish {
        claim: Index,
        verdict: Verdict,
    },
    FinishMany {
        claims: Vec<(Index, Verdict)>,
    },
    Defer {
        claim: Index,
        delay: u64,
    },
    /// A worker dies: its claim is never heard of again.
    Crash {
        claim: Index,
    },
    Cancel {
        subject: u8,
    },
    Reschedule {
        subject: u8,
        plan: PlanOf,
        next_in: u64,
        reactivate: bool,
    },
    Pass {
        time: u64,
    },
}

/// A plan; its last start is counted from when it is used.
#[derive(Clone, Debug)]
pub(crate) struct PlanOf {
    pub(super) max_attempts: u32,
    pub(super) delays: Vec<u64>,
    pub(super) last_start_in: Option<u64>,
}

/// Subjects of a run; the tenant of each is its number modulo two.
pub(super) const SUBJECTS: u8 = 5;

pub(crate) fn steps() -> impl Strategy<Value = Vec<Step>> {
    prop::collection::vec(step(), 1..80)
}

fn step() -> impl Strategy<Value = Step> {
    let subject = || 0..SUBJECTS;
    // Few values, so that times often meet to the millisecond.
    let time = || prop_oneof![Just(0), Just(1), Just(1_000), Just(5_000), Just(60_000), 0..70_000_u64];
    let lease = || prop_oneof![1 => Just(0), 1 => Just(1), 6 => Just(5_000), 2 => Just(60_000)];
    let passes = prop_oneof![Just(1), Just(999), Just(1_000), Just(5_000), Just(60_000), Just(86_400_000)];
    let verdict = || prop_oneof![2 => Just(Verdict::Success), 5 => Just(Verdict::Failure), 1 => Just(Verdict::Permanent), 1 => Just(Verdict::Crashed)];
    let share = prop_oneof![3 => Just(usize::MAX), 1 => 0..3_usize];
    let of = prop_oneof![3 => Just(None), 1 => Just(Some(0)), 1 => Just(Some(1))];
    let reports = prop::collection::vec((any::<Index>(), verdict()), 0..5);
    prop_oneof![
        6 => (subject(), plan(), time()).prop_map(|(subject, plan, first_in)| Step::Schedule { subject, plan, first_in }),
        6 => (0..2_usize, 0..4_usize, lease(), share, of)
            .prop_map(|(worker, limit, lease, per_tenant, of)| Step::Claim { worker, limit, lease, per_tenant, of }),
        1 => (0..2_usize).prop_map(|worker| Step::ClaimAndLose { worker }),
        1 => (0..2_u8, any::<bool>()).prop_map(|(space, paused)| Step::Pause { space, paused }),
        1 => time().prop_map(|older_than| Step::Purge { older_than }),
        2 => lease().prop_map(|lease| Step::ClaimAll { lease }),
        2 => (any::<Index>(), lease()).prop_map(|(claim, lease)| Step::Extend { claim, lease }),
        8 => (any::<Index>(), verdict()).prop_map(|(claim, verdict)| Step::Finish { claim, verdict }),
        2 => reports.prop_map(|claims| Step::FinishMany { claims }),
        2 => (any::<Index>(), time()).prop_map(|(claim, delay)| Step::Defer { claim, delay }),
        1 => any::<Index>().prop_map(|claim| Step::Crash { claim }),
        2 => subject().prop_map(|subject| Step::Cancel { subject }),
        4 => (subject(), plan(), time(), any::<bool>())
            .prop_map(|(subject, plan, next_in, reactivate)| Step::Reschedule { subject, plan, next_in, reactivate }),
        8 => passes.prop_map(|time| Step::Pass { time }),
    ]
}

fn plan() -> impl Strategy<Value = PlanOf> {
    let delay = prop_oneof![Just(1_u64), Just(1_000), Just(60_000)];
    let last_start = prop_oneof![
        4 => Just(None),
        1 => prop_oneof![Just(0_u64), Just(1_000), Just(60_000), Just(61_000)].prop_map(Some),
    ];
    (1..4_u32, prop::collection::vec(delay, 1..4), last_start)
        .prop_map(|(max_attempts, delays, last_start_in)| PlanOf { max_attempts, delays, last_start_in })
}
