//! What can be wrong with a scheduler, and which clauses that breaks.

macro_rules! faults {
    ($($(#[doc = $doc:literal])+ $fault:ident => [$($clause:literal),+];)+) => {
        /// What is wrong with a [`Wrong`](super::wrong::Wrong) scheduler.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub(crate) enum Fault {
            /// Nothing.
            None,
            $($(#[doc = $doc])+ $fault,)+
        }

        /// Each fault with all the clauses it breaks; the one it is meant for stands first.
        pub(crate) const FAULTS: &[(Fault, &[u8])] = &[$((Fault::$fault, &[$($clause),+]),)+];
    };
}

faults! {
    /// A first wait is cut to whole milliseconds.
    WaitCut => [1];
    /// The count against the plan starts with the first try, which was elsewhere.
    UsedFromOne => [1, 8, 9, 11, 12, 13, 14, 15, 17, 18, 19, 20, 21, 26, 27, 35, 37];

    /// A second `schedule` replaces the payload.
    PayloadReplaced => [2];
    /// What has ended is begun anew by `schedule`.
    ScheduleRevives => [2];
    /// Looks, awaits, inserts.
    TwoStepsToSchedule => [2];

    /// Given a millisecond before it is due.
    GivenEarly => [3, 4, 13, 18, 23, 25];
    /// Payloads are text.
    PayloadAsText => [3, 24];
    /// A claim keeps the epoch.
    ClaimKeepsEpoch => [3, 8, 33];
    /// The claim says when the cycle was due, not when it was claimed.
    ClaimedAtDue => [3, 8, 16];

    /// The youngest first.
    YoungestFirst => [4, 5];
    /// Those with a lease that ran out last.
    HeirsLast => [4];
    /// A claim gives one more than the limit.
    OneMore => [4, 5, 6, 32, 34];

    /// What is running already is not counted.
    RunningIgnored => [5];
    /// The share is one for all tenants together.
    ShareOfAll => [5, 6];

    /// Looks at the hundred that are due the longest.
    WindowOnly => [6];

    /// Looks, awaits, leases.
    TwoStepsToClaim => [7];

    /// A lease is given away a millisecond early.
    LeaseEndsEarly => [8, 9, 23, 32];
    /// A crashed attempt stays leased for an hour.
    LeaseEndsLate => [8, 4, 7, 9, 10, 15, 16, 17, 18, 21, 23, 26, 28, 31, 32, 33];
    /// A takeover is an attempt.
    TakeoverCounts => [8, 9, 16, 17, 18, 21, 26];
    /// Lapses are not counted.
    LapsesLost => [8, 4, 9, 18, 33];

    /// An extension counts from the end of the lease.
    ExtendFromEnd => [9, 11, 23];
    /// An extension never shortens a lease.
    ExtendNeverShortens => [9];

    /// Finishes with any claim.
    FinishUnfenced => [10, 17, 31, 34];
    /// Extends with any claim.
    ExtendUnfenced => [10, 34];
    /// Defers with any claim.
    DeferUnfenced => [10, 34];
    /// `finish_many` with any claim.
    FinishManyUnfenced => [10, 17, 34];
    /// A claim that was given back, or finished, is good until the next one.
    IdleStillHeld => [10, 17, 26, 27, 28];
    /// A later epoch than the current one is held.
    LaterEpochHeld => [10, 17];

    /// A claim whose lease ran out is nobody's.
    LateIsStale => [11, 13, 15];

    /// A success of a cycle with attempts left is not its end.
    SuccessGoesOn => [12, 3, 15, 17, 19, 20, 22, 23, 26, 30, 41, 45, 46, 47];
    /// A cycle ended when its lease would have.
    EndedAtLease => [12, 14, 15, 17, 22, 26, 30, 41];

    /// A failed cycle is due as before: at once.
    FailureDueAtOnce => [13, 11, 14, 15, 17, 21, 22, 23, 26, 27, 35, 36, 47];
    /// The delay counts from the claim.
    DelayFromClaim => [13, 11, 14, 17, 35, 36];
    /// After the last delay comes the first again.
    DelaysGoRound => [13, 35, 36];
    /// The first delay, always.
    FirstDelayOnly => [13, 35, 36];

    /// One attempt more than the plan has.
    OneAttemptMore => [14, 22, 36, 38, 43];
    /// A permanent failure is a failure like any other.
    PermanentIsFailure => [14, 15, 16, 17, 19, 20, 22, 23, 26, 38, 41, 43, 45, 46];

    /// Nobody looks at the last start when claiming.
    LastStartNotAtClaim => [15, 38, 43];
    /// Nobody looks at the last start when finishing.
    LastStartNotAtFinish => [15, 36, 38, 43];
    /// The last start is too late already.
    LastStartExcluded => [15];
    /// Where an attempt ran on past the last start, it does not count.
    LastStartEndsAttempt => [15];

    /// Details are text.
    DetailAsText => [16, 24];
    /// An attempt began when it ended.
    StartedAtEnd => [16];
    /// Numbers begin anew with the cycle.
    NumbersRestart => [16, 22, 26];
    /// Attempts that were given back are kept too.
    DeferredKept => [16, 18, 25];

    /// Answers come in the order of the keys.
    AnswersSorted => [17];
    /// All reports are checked, then all are written.
    ChecksThenWrites => [17];

    /// A deferred attempt counts.
    DeferCounts => [18, 11, 16, 19, 21, 26, 37];
    /// Given back in good order is no lapse.
    DeferForgetsLapses => [18];

    /// A running attempt has the last word over a cancel.
    CancelUnfenced => [19, 10, 16, 20, 26, 30, 42, 48];
    /// A cancel waits for the running attempt.
    CancelWaits => [19, 5, 7, 9, 10, 16, 18, 20, 26, 28, 30, 39, 42];
    /// A cancelled cycle keeps no attempts.
    CancelDropsAttempts => [19, 16, 20, 25];
    /// What has ended is cancelled too.
    CancelEndsAgain => [19, 20, 27, 28];

    /// Checks the claim, awaits, writes.
    TwoStepsToFinish => [20, 43];

    /// A new plan has all its attempts before it.
    RescheduleResetsUsed => [21, 15, 20, 38, 43];
    /// A new plan changes nothing of when the next attempt is due.
    RescheduleKeepsDue => [21, 15, 27, 30, 48];
    /// A running attempt goes on under the new plan.
    RescheduleKeepsClaim => [21, 10, 20, 30];
    /// The plan stays.
    RescheduleKeepsPlan => [21, 22, 48];
    /// A cycle with no attempt left of the new plan has one more.
    RescheduleGivesOne => [21, 38, 43];

    /// What is resolved begins anew.
    ResolvedReactivated => [22, 20];
    /// What was used stays used.
    ReactivationKeepsUsed => [22, 16, 26];
    /// It begins anew without being asked to.
    AlwaysReactivates => [22, 20, 48];
    /// The delays go on where they were.
    DelaysGoOn => [22, 35, 36];

    /// Leases do not wake.
    WakeIgnoresLeases => [23, 32];
    /// Ended cycles wake.
    WakeOfEnded => [23, 32];

    /// Texts end where a column does.
    TextCut => [24, 39];
    /// NULs are taken.
    NulTaken => [24, 39];
    /// Details of any size are taken.
    DetailUnbounded => [24];
    /// One report that is refused fails all of a batch.
    BatchFails => [24];

    /// The namespace is not part of the key.
    SubjectOnly => [25, 33, 34, 45, 48];
    /// The key is one text with a colon.
    JoinedWithColon => [25, 33, 34, 45, 48];
    /// Keys do not mind case.
    CaseFolded => [25];
    /// Keys are trimmed.
    Trimmed => [25];

    /// The attempt is written, then the cycle.
    TwoWritesToFinish => [26, 20];
    /// A claim leases one cycle after the other, and those of a caller who left for ever.
    LeasedForEver => [26, 7];

    /// What `finish_in` kept of the attempt is lost with the commit.
    CommitLosesAttempt => [27];
    /// A transaction does not see what it wrote.
    TransactionBlind => [27, 28];
    /// A transaction does not see the attempts that it recorded.
    AttemptsBlind => [27, 28];
    /// A rollback rolls nothing back.
    RollbackKeeps => [28, 29, 30, 31];
    /// A rollback forgets the attempts only.
    RollbackKeepsCycles => [28, 29, 30, 31];
    /// Everybody sees at once what a transaction writes.
    SeenBefore => [29, 30];
    /// Reports do not wait for transactions, and what was cancelled is resolved.
    ReportsPass => [30];
    /// A stale `finish_in` is an error.
    StaleIsError => [31, 27, 28];
    /// A stale `finish_in` leaves its attempt.
    StaleLeavesAttempt => [31, 27];

    /// Claims from any namespace.
    NamespacesIgnored => [32];
    /// Wakes for any namespace.
    WakeOfAll => [32];

    /// One cycle that cannot be read fails the call.
    UnreadableFails => [33];
    /// A cycle that cannot be read is leased to nobody.
    UnreadableLeased => [33];
    /// A cycle that cannot be read is met by every call.
    UnreadableMetAgain => [33];
    /// Nothing behind a cycle that cannot be read is given.
    UnreadableStops => [33];

    /// All claims have one nonce.
    OneNonce => [34];
    /// Nobody looks at nonces.
    NonceIgnored => [34];

    /// A failure has the delay of the plan, whatever it asks for.
    OwnDelayIgnored => [35];

    /// Delays are as long as the plan says.
    JitterIgnored => [36];

    /// A cycle can be deferred for ever.
    DeferralsUnbounded => [37];
    /// Deferrals count over the whole life of a cycle.
    DeferralsKept => [37];

    /// What is too late is said to have no attempts left.
    ReasonForgotten => [38, 15, 43];

    /// Metadata is not kept.
    MetadataLost => [39];

    /// A page begins with the last attempt of the page before.
    PagesOverlap => [40];

    /// Purges what has just ended.
    PurgeTooEarly => [41];
    /// What is purged keeps its key.
    PurgeKeepsKeys => [41];

    /// Answers are in another order than what they answer.
    ManyReversed => [42];

    /// Nobody is told of a cancel.
    CancelUntold => [43];

    /// A pause changes nothing.
    PauseForgotten => [44];

    /// A list is by age.
    ListedByAge => [45];
    /// A page of cycles that cannot be read looks like the end of the list.
    UnreadableEndsList => [45];
    /// A cycle that could not be changed is left out silently.
    UnchangedUntold => [48];

    /// What is being attempted is counted as waiting.
    LeasedCountedAsWaiting => [46];

    /// What is made due is changed as by a caller.
    RunNowIsAChange => [47];

    /// A filter does not look at tenants.
    TenantIgnored => [48, 45];
    /// Changes all that match.
    ManyWithoutLimit => [48];
}
