//! Any interleaving of callers, two workers, crashes and time that passes, held against a small model of a cycle.
//!
//! The model knows nothing of epochs: it remembers who holds a cycle, and every claim ever given may speak up at any time.
#![allow(clippy::unwrap_used, reason = "the lint spares test functions, not their helpers")]

mod steps;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use proptest::sample::Index;
use retry_scheduler::{
    Activity, AttemptRecord, Cancelled, ClaimDue, Claimed, Clock, Cycle, CycleKey, EndReason, Ending, Fenced,
    Finished, ManualClock, Namespaces, NewCycle, Plan, Report, Reschedule, Rescheduled, RetryScheduler,
    Scheduled, State, Verdict,
};

pub(crate) use self::steps::steps;
use self::steps::{PlanOf, SUBJECTS, Step};

/// Takes the steps, and panics where the scheduler and the model disagree.
///
/// The two handles are on the same cycles and go by the clock. What earlier runs left pending is called off first.
pub(crate) async fn run<S: Operated>(handles: [S; 2], clock: &ManualClock, steps: Vec<Step>) {
    static RUNS: AtomicU32 = AtomicU32::new(0);
    let namespace = format!("run {} {}", std::process::id(), RUNS.fetch_add(1, Ordering::Relaxed));
    let mut world = World {
        handles,
        clock,
        namespace,
        turn: 0,
        known: BTreeMap::new(),
        claims: Vec::new(),
        given: 0,
        paused: BTreeSet::new(),
        spaces: BTreeSet::new(),
    };
    world.sweep().await;
    for step in steps {
        world.take(step).await;
        world.compare().await;
    }
}

/// What a model run does to a scheduler beside the verbs, where it can.
pub(crate) trait Operated: RetryScheduler {
    /// Pauses or resumes a namespace. Returns whether it can.
    async fn set_paused(&self, namespace: &str, paused: bool) -> bool;

    /// Puts an idle cycle back as it was, as a failover that lost a claim does. Returns whether it can.
    async fn restore(&self, before: &Cycle) -> bool;

    /// How long a claim may overlook such a cycle, one whose lease has run out, and a namespace that another handle resumed or
    /// used for the first time.
    fn overlooks_for(&self) -> Duration {
        Duration::ZERO
    }
}

struct World<'a, S> {
    handles: [S; 2],
    clock: &'a ManualClock,
    namespace: String,
    turn: usize,
    known: BTreeMap<u8, Known>,
    /// Every claim that was given and has not crashed, with its serial number.
    claims: Vec<(usize, Claimed)>,
    given: usize,
    paused: BTreeSet<String>,
    /// The namespaces that had a cycle.
    spaces: BTreeSet<String>,
}

/// What must be known of a cycle.
#[derive(Clone, Debug)]
struct Known {
    max_attempts: u32,
    delays: Vec<u64>,
    last_start: Option<u64>,
    payload: Bytes,
    phase: Phase,
    attempts: Vec<AttemptRecord>,
    /// Of the attempts, those before the plan began.
    before: usize,
    lapses: u32,
    deferrals: u32,
    reactivations: u32,
    epoch: u64,
    nonce: u64,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Phase {
    Waiting { due: u64 },
    Running { until: u64, serial: usize },
    Over { reason: EndReason, at: u64 },
}

impl Known {
    fn wake(&self) -> Option<u64> {
        match self.phase {
            Phase::Waiting { due: wake } | Phase::Running { until: wake, .. } => Some(wake),
            Phase::Over { .. } => None,
        }
    }

    fn follow(&mut self, plan: &PlanOf, now: u64) {
        self.max_attempts = plan.max_attempts;
        self.delays.clone_from(&plan.delays);
        self.last_start = plan.last_start_in.map(|from_now| now + from_now);
    }

    fn used(&self) -> u32 {
        u32::try_from(self.attempts.len() - self.before).unwrap()
    }

    /// The next attempt would be then.
    fn wait_until(&mut self, due: u64, now: u64) {
        self.phase = if self.used() >= self.max_attempts {
            Phase::Over { reason: EndReason::AttemptsUsedUp, at: now }
        } else if self.last_start.is_some_and(|last| last < due) {
            Phase::Over { reason: EndReason::TooLate, at: now }
        } else {
            Phase::Waiting { due }
        };
    }

    fn report(&mut self, claim: &Claimed, verdict: Verdict, detail: &Bytes, now: u64) {
        let number = u32::try_from(self.attempts.len() + 1).unwrap();
        self.attempts.push(AttemptRecord::new(number, claim.claimed_at, at(now), verdict, detail.clone()));
        self.lapses = 0;
        self.deferrals = 0;
        match verdict {
            Verdict::Success => self.phase = Phase::Over { reason: EndReason::Succeeded, at: now },
            Verdict::Permanent => self.phase = Phase::Over { reason: EndReason::PermanentFailure, at: now },
            Verdict::Crashed if self.used() >= self.max_attempts => {
                self.phase = Phase::Over { reason: EndReason::CrashedTooOften, at: now };
            }
            Verdict::Failure | Verdict::Crashed => {
                let nth = self.delays.iter().chain(std::iter::repeat(self.delays.last().unwrap()));
                let delay = *nth.take(self.used() as usize).last().unwrap();
                self.wait_until(now + delay, now);
            }
            other => panic!("the model knows no {other:?}"),
        }
    }
}

impl<S: Operated> World<'_, S> {
    fn now(&self) -> u64 {
        millis(self.clock.now())
    }

    fn key(&self, subject: u8) -> CycleKey {
        CycleKey::new(self.space(subject / 2 % 2), subject.to_string())
    }

    /// One of the two namespaces of the run.
    fn space(&self, number: u8) -> String {
        format!("{} {number}", self.namespace)
    }

    fn is_open(&self, subject: u8, namespaces: &Namespaces) -> bool {
        let namespace = self.space(subject / 2 % 2);
        namespaces.contains(&namespace) && !self.paused.contains(&namespace)
    }

    fn subject(&self, key: &CycleKey) -> u8 {
        assert!(key.namespace.starts_with(&self.namespace), "a cycle of another run");
        key.subject.parse().unwrap()
    }

    /// Either worker's handle, in turn.
    fn handle(&mut self) -> &S {
        self.turn += 1;
        &self.handles[self.turn % 2]
    }

    async fn sweep(&mut self) {
        for space in 0..2 {
            let namespace = self.space(space);
            self.handle().set_paused(&namespace, false).await;
        }
        while let Some(wait) = self.handle().next_wake(&Namespaces::All).await.unwrap() {
            self.clock.advance(wait + self.handles[0].overlooks_for());
            for claim in self.handle().claim_due(ask(100, 5_000)).await.unwrap() {
                self.handle().cancel(&claim.cycle.key).await.unwrap();
            }
        }
    }

    fn pick(&self, claim: Index) -> Option<(usize, Claimed)> {
        // The latest few: those before hold nothing, most of the time.
        let latest = &self.claims[self.claims.len().saturating_sub(6)..];
        (!latest.is_empty()).then(|| claim.get(latest).clone())
    }

    /// What the model has of a cycle that this claim holds.
    fn held_by(&mut self, serial: usize, claim: &Claimed) -> Option<&mut Known> {
        let subject = self.subject(&claim.cycle.key);
        let known = self.known.get_mut(&subject)?;
        matches!(known.phase, Phase::Running { serial: holder, .. } if holder == serial).then_some(known)
    }

    async fn take(&mut self, step: Step) {
        match step {
            Step::Pass { time } => self.clock.advance(Duration::from_millis(time)),
            Step::Schedule { subject, plan, first_in } => self.schedule(subject, &plan, first_in).await,
            Step::Claim { worker, limit, lease, per_tenant, of } => {
                self.claim(worker, ask(limit, lease).per_tenant(per_tenant).namespaces(self.selection(of)))
                    .await;
            }
            Step::ClaimAndLose { worker } => self.claim_and_lose(worker).await,
            Step::Pause { space, paused } => {
                let namespace = self.space(space);
                if self.handle().set_paused(&namespace, paused).await {
                    if paused {
                        self.paused.insert(namespace);
                    } else {
                        self.paused.remove(&namespace);
                        self.clock.advance(self.handles[0].overlooks_for());
                    }
                }
            }
            Step::Purge { older_than } => self.purge(older_than).await,
            Step::ClaimAll { lease } => {
                let lease = lease.max(1);
                let mut empty = 0;
                while empty < 4 {
                    let before = self.given;
                    self.claim(empty % 2, ask(3, lease)).await;
                    empty = if self.given == before { empty + 1 } else { 0 };
                }
                let now = self.now();
                let open = self.known.iter().filter(|(subject, _)| self.is_open(**subject, &Namespaces::All));
                let left = open.map(|(_, known)| known).find(|known| self.must_be_found(known, now));
                assert!(left.is_none(), "never given: {left:?}");
            }
            Step::Extend { claim, lease } => {
                let Some((serial, claim)) = self.pick(claim) else { return };
                let until = self.now() + lease;
                let answer = self.handle().extend(&claim, Duration::from_millis(lease)).await.unwrap();
                let known = self.held_by(serial, &claim);
                assert_eq!(answer == Fenced::Held, known.is_some(), "extend of {claim:?}: {known:?}");
                if let Some(known) = known {
                    known.phase = Phase::Running { until, serial };
                }
            }
            Step::Defer { claim, delay } => {
                let Some((serial, claim)) = self.pick(claim) else { return };
                let due = self.now() + delay;
                let answer = self.handle().defer(&claim, Duration::from_millis(delay)).await.unwrap();
                let known = self.held_by(serial, &claim);
                assert_eq!(answer == Fenced::Held, known.is_some(), "defer of {claim:?}: {known:?}");
                if let Some(known) = known {
                    known.phase = Phase::Waiting { due };
                    known.deferrals += 1;
                }
            }
            Step::Finish { claim, verdict } => {
                let Some((serial, claim)) = self.pick(claim) else { return };
                let report = Report::new(verdict).detail(format!("claim {serial}"));
                let answer = self.handle().finish(&claim, report.clone()).await.unwrap();
                self.reported(serial, &claim, &report, &answer);
            }
            Step::FinishMany { claims } => {
                let picked = claims.iter().enumerate().filter_map(|(place, (claim, verdict))| {
                    let (serial, claim) = self.pick(*claim)?;
                    let report = Report::new(*verdict).detail(format!("claim {serial}, place {place}"));
                    Some((serial, claim, report))
                });
                let picked: Vec<_> = picked.collect();
                let reports =
                    picked.iter().map(|(_, claim, report)| (claim.clone(), report.clone())).collect();
                let answers = self.handle().finish_many(reports).await.unwrap();
                assert_eq!(answers.len(), picked.len());
                for ((serial, claim, report), answer) in picked.iter().zip(answers) {
                    self.reported(*serial, claim, report, &answer.unwrap());
                }
            }
            Step::Crash { claim } => {
                if let Some((serial, _)) = self.pick(claim) {
                    self.claims.retain(|(other, _)| *other != serial);
                }
            }
            Step::Cancel { subject } => self.cancel(subject).await,
            Step::Reschedule { subject, plan, next_in, reactivate } => {
                self.reschedule(subject, &plan, next_in, reactivate).await;
            }
        }
    }

    async fn cancel(&mut self, subject: u8) {
        let (key, now) = (self.key(subject), self.now());
        let answer = self.handle().cancel(&key).await.unwrap();
        match (answer, self.known.get_mut(&subject)) {
            (Cancelled::Unknown, None) => {}
            (Cancelled::Ended(said), Some(Known { phase: Phase::Over { reason, .. }, .. })) => {
                assert_eq!(said, reason.ending());
            }
            (Cancelled::Cancelled(cycle), Some(known)) if known.wake().is_some() => {
                known.phase = Phase::Over { reason: EndReason::Cancelled, at: now };
                grown(known, &cycle);
            }
            (answer, known) => panic!("cancel of {known:?} was {answer:?}"),
        }
    }

    async fn schedule(&mut self, subject: u8, of: &PlanOf, first_in: u64) {
        let (key, now) = (self.key(subject), self.now());
        let (payload, plan) = (Bytes::from(format!("{key:?} at {now}")), plan_of(of, now));
        let tenant = tenant(subject);
        let first = Duration::from_millis(first_in);
        let new = NewCycle::new(key, plan).tenant(tenant).first_in(first).payload(payload.clone());
        let answer = self.handle().schedule(new).await.unwrap();
        if let Some(known) = self.known.get(&subject) {
            let Scheduled::Exists(cycle) = answer else { panic!("schedule of {known:?} was {answer:?}") };
            return self.agree(subject, &cycle);
        }
        let Scheduled::New(cycle) = answer else { panic!("schedule of an unknown cycle was {answer:?}") };
        let mut known = Known {
            max_attempts: 0,
            delays: Vec::new(),
            last_start: None,
            payload,
            phase: Phase::Waiting { due: now },
            attempts: Vec::new(),
            before: 0,
            lapses: 0,
            deferrals: 0,
            reactivations: 0,
            epoch: cycle.epoch,
            nonce: cycle.nonce,
        };
        known.follow(of, now);
        known.wait_until(now + first_in, now);
        self.known.insert(subject, known);
        self.agree(subject, &cycle);
        if self.spaces.insert(cycle.key.namespace) {
            self.clock.advance(self.handles[0].overlooks_for());
        }
    }

    async fn reschedule(&mut self, subject: u8, of: &PlanOf, next_in: u64, reactivate: bool) {
        let (key, now) = (self.key(subject), self.now());
        let change =
            Reschedule::new(plan_of(of, now)).next_in(Duration::from_millis(next_in)).reactivate(reactivate);
        let answer = self.handle().reschedule(&key, change).await.unwrap();
        let Some(known) = self.known.get_mut(&subject) else {
            return assert_eq!(answer, Rescheduled::Unknown);
        };
        let cycle = match (answer, known.phase) {
            (Rescheduled::Ended(said), Phase::Over { reason, .. }) => {
                let ending = reason.ending();
                assert!(said == ending && (!reactivate || ending == Ending::Resolved), "{said:?}: {known:?}");
                return;
            }
            (Rescheduled::Reactivated(cycle), Phase::Over { reason, .. }) => {
                assert!(reactivate && reason != EndReason::Succeeded, "reactivated: {known:?}");
                known.before = known.attempts.len();
                known.reactivations += 1;
                cycle
            }
            (Rescheduled::Changed(cycle), Phase::Waiting { .. } | Phase::Running { .. }) => cycle,
            (answer, _) => panic!("reschedule of {known:?} was {answer:?}"),
        };
        known.lapses = 0;
        known.deferrals = 0;
        known.follow(of, now);
        known.wait_until(now + next_in, now);
        grown(known, &cycle);
        self.agree(subject, &cycle);
    }

    async fn claim(&mut self, worker: usize, request: ClaimDue) {
        let (now, lease) = (self.now(), request.lease);
        let answer = self.handles[worker].claim_due(request.clone()).await.unwrap();
        assert!(answer.unreadable.is_empty());
        let late = self.meet_last_starts(now).await;
        let mut shares: HashMap<String, usize> = HashMap::new();
        let mut latest = 0;
        let count = answer.len();
        assert!(count <= request.limit);
        let mut nonce_of_call = None;
        for claim in answer {
            let nonce = claim.fence().nonce;
            let subject = self.subject(&claim.cycle.key);
            *shares.entry(tenant(subject)).or_default() += 1;
            self.given += 1;
            let serial = self.given;
            assert!(self.is_open(subject, &request.namespaces), "{claim:?} is not selected, or paused");
            let known = self.known.get_mut(&subject).unwrap();
            let wake = known.wake().filter(|wake| *wake <= now);
            let wake = wake.unwrap_or_else(|| panic!("{claim:?} was given at {now}: {known:?}"));
            // One that is taken over may count as due since it was claimed first.
            if matches!(known.phase, Phase::Waiting { .. }) {
                latest = latest.max(wake);
            }
            assert!(known.last_start.is_none_or(|last| now <= last), "given after its last start: {known:?}");
            known.lapses += u32::from(matches!(known.phase, Phase::Running { .. }));
            known.phase = Phase::Running { until: now + millis(UNIX_EPOCH + lease), serial };
            grown(known, &claim.cycle);
            assert!(
                nonce == *nonce_of_call.get_or_insert(nonce) && nonce != known.nonce,
                "{claim:?}: {known:?}"
            );
            known.nonce = nonce;
            assert_eq!((&claim.payload, claim.claimed_at), (&known.payload, at(now)));
            assert_eq!(claim.attempt() as usize, known.attempts.len() + 1);
            self.agree(subject, &claim.cycle);
            self.claims.push((serial, claim));
        }
        // One that was met after its last start takes the place of one that is given.
        if late > 0 || lease.is_zero() {
            return;
        }
        let share = |tenant: &str| shares.get(tenant).copied().unwrap_or_default();
        let left = self.known.iter().filter(|(subject, _)| self.is_open(**subject, &request.namespaces));
        let left = left.filter(|(_, known)| self.must_be_found(known, now));
        let left: Vec<_> =
            left.map(|(subject, known)| (tenant(*subject), known.wake().unwrap_or_default())).collect();
        // While somebody with room waits, nobody has more than their share, nor what is due later.
        let greedy = shares.values().any(|share| *share > request.per_tenant);
        let good = left.iter().all(|(tenant, wake)| {
            let has_room = share(tenant) < request.per_tenant;
            !has_room || !greedy && latest <= *wake
        });
        let good = good && (count == request.limit || left.is_empty());
        assert!(good || request.limit == 0, "{request:?} at {now} left {:?}", self.known);
    }

    /// Whether a claim with room for it gives this cycle.
    fn must_be_found(&self, known: &Known, now: u64) -> bool {
        match known.phase {
            Phase::Waiting { due } => due <= now,
            Phase::Running { until, .. } => {
                until + millis(UNIX_EPOCH + self.handles[0].overlooks_for()) <= now
            }
            Phase::Over { .. } => false,
        }
    }

    /// All namespaces, or one of the run's.
    fn selection(&self, of: Option<u8>) -> Namespaces {
        match of {
            None => Namespaces::All,
            Some(0) => Namespaces::only([self.space(0)]),
            Some(space) => Namespaces::except([self.space(1 - space.min(1))]),
        }
    }

    /// Claims, and a failover puts the cycle back as it was. The claim may still speak up.
    async fn claim_and_lose(&mut self, worker: usize) {
        let mut before = BTreeMap::new();
        for (subject, known) in &self.known {
            let cycle = self.handles[worker].get(&self.key(*subject)).await.unwrap().unwrap();
            before.insert(*subject, (known.clone(), cycle));
        }
        let claims = self.claims.len();
        self.claim(worker, ask(1, 5_000)).await;
        let Some((_, claim)) = self.claims.get(claims).cloned() else { return };
        let (known, cycle) = &before[&self.subject(&claim.cycle.key)];
        if let State::Pending(Activity::Idle { .. }) = cycle.state
            && self.handle().restore(cycle).await
        {
            self.known.insert(self.subject(&claim.cycle.key), known.clone());
            self.clock.advance(self.handles[0].overlooks_for());
        }
    }

    async fn purge(&mut self, older_than: u64) {
        let now = self.now();
        let old = |known: &Known| matches!(known.phase, Phase::Over { at, .. } if at + older_than <= now);
        // Those of other runs go too.
        while self.handle().purge_ended(Duration::from_millis(older_than), 3).await.unwrap() > 0 {}
        self.known.retain(|_, known| !old(known));
    }

    /// A claim ends what it meets after its last start; which it meets is its own affair. Says how many.
    async fn meet_last_starts(&mut self, now: u64) -> usize {
        let missed = |known: &Known| {
            known.wake().is_some_and(|wake| wake <= now) && known.last_start.is_some_and(|last| last < now)
        };
        let late: Vec<u8> =
            self.known.iter().filter(|(_, known)| missed(known)).map(|(subject, _)| *subject).collect();
        let mut met = 0;
        for subject in late {
            let key = self.key(subject);
            let cycle = self.handle().get(&key).await.unwrap().unwrap();
            let known = self.known.get_mut(&subject).unwrap();
            if let State::Ended { .. } = cycle.state {
                known.lapses += u32::from(matches!(known.phase, Phase::Running { .. }));
                known.phase = Phase::Over { reason: EndReason::TooLate, at: now };
                known.nonce = cycle.nonce;
                grown(known, &cycle);
                met += 1;
            }
        }
        met
    }

    fn reported(&mut self, serial: usize, claim: &Claimed, report: &Report, answer: &Finished) {
        let now = self.now();
        let Some(known) = self.held_by(serial, claim) else {
            return assert_eq!(*answer, Finished::Stale, "finish of {claim:?}");
        };
        let Finished::Recorded(cycle) = answer else { panic!("finish of {claim:?} was Stale: {known:?}") };
        known.report(claim, report.verdict, &report.detail, now);
        let subject = self.subject(&claim.cycle.key);
        self.agree(subject, cycle);
    }

    /// The cycle is what the model says.
    fn agree(&self, subject: u8, cycle: &Cycle) {
        let known = &self.known[&subject];
        let plan = Plan::delays(known.delays.iter().copied().map(Duration::from_millis), known.max_attempts)
            .unwrap();
        let plan = match known.last_start {
            Some(last) => plan.deadline(at(last)),
            None => plan,
        };
        let mut wanted =
            Cycle::new(&NewCycle::new(self.key(subject), plan).tenant(tenant(subject)), UNIX_EPOCH);
        wanted.state = match known.phase {
            Phase::Waiting { due } => State::Pending(Activity::Idle { due: at(due) }),
            Phase::Running { until, .. } => State::Pending(Activity::Leased { until: at(until) }),
            Phase::Over { reason, at: then } => State::ended(reason, at(then)),
        };
        (wanted.epoch, wanted.nonce) = (known.epoch, known.nonce);
        wanted.attempts = u32::try_from(known.attempts.len()).unwrap();
        wanted.used = known.used();
        (wanted.lapses, wanted.deferrals) = (known.lapses, known.deferrals);
        wanted.reactivations = known.reactivations;
        assert_eq!(*cycle, wanted);
    }

    async fn compare(&mut self) {
        for subject in 0..SUBJECTS {
            let key = self.key(subject);
            let cycle = self.handle().get(&key).await.unwrap();
            let attempts = self.handle().attempts(&key, 0, usize::MAX).await.unwrap();
            let Some(known) = self.known.get(&subject) else {
                assert_eq!((cycle, attempts.len()), (None, 0));
                continue;
            };
            assert_eq!(attempts, known.attempts);
            self.agree(subject, &cycle.unwrap());
        }
        let now = self.now();
        for of in [None, Some(0), Some(1)] {
            let selection = self.selection(of);
            let open = self.known.iter().filter(|(subject, _)| self.is_open(**subject, &selection));
            let first = open.filter_map(|(_, known)| known.wake()).min();
            let wanted = first.map(|wake| Duration::from_millis(wake.saturating_sub(now)));
            assert_eq!(self.handle().next_wake(&selection).await.unwrap(), wanted, "{selection:?}");
        }
    }
}

/// The claim or the change is younger than all that was seen before.
fn grown(known: &mut Known, cycle: &Cycle) {
    assert!(cycle.epoch > known.epoch, "epoch {} after {}", cycle.epoch, known.epoch);
    known.epoch = cycle.epoch;
}

fn ask(limit: usize, lease: u64) -> ClaimDue {
    ClaimDue::new(limit, Duration::from_millis(lease))
}

fn tenant(subject: u8) -> String {
    format!("tenant {}", subject % 2)
}

fn plan_of(of: &PlanOf, now: u64) -> Plan {
    let plan = Plan::delays(of.delays.iter().copied().map(Duration::from_millis), of.max_attempts).unwrap();
    match of.last_start_in {
        Some(from_now) => plan.deadline(at(now + from_now)),
        None => plan,
    }
}

fn at(ms: u64) -> SystemTime {
    UNIX_EPOCH + Duration::from_millis(ms)
}

fn millis(time: SystemTime) -> u64 {
    u64::try_from(time.duration_since(UNIX_EPOCH).unwrap().as_millis()).unwrap()
}
