//! Faults of a store, and the clauses that they break.

macro_rules! faults {
    ($($(#[doc = $doc:literal])+ $fault:ident => [$($clause:literal),+];)+) => {
        /// A fault of a [`WrongStore`](super::wrong_store::WrongStore).
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub(crate) enum Fault {
            /// Nothing.
            None,
            /// Reads and inserts under two locks, without an await between.
            TwoLocksToClaim,
            $($(#[doc = $doc])+ $fault,)+
        }

        /// All faults with the clauses that they break. The intended clause comes first.
        pub(crate) const FAULTS: &[(Fault, &[u8])] = &[$((Fault::$fault, &[$($clause),+]),)+];
    };
}

faults! {
    /// Attempts count from zero.
    AttemptsFromZero => [1, 5, 10];
    /// A new record has an empty checkpoint, not none.
    EmptyCheckpointFirst => [1, 5, 6, 10, 15];
    /// A new record is marked as an orphan.
    OrphanFirst => [1, 5, 6, 10, 16, 17];

    /// Reads, awaits, inserts.
    TwoStepsToClaim => [2, 4, 6, 11];
    /// Removes the running record, awaits, inserts the finished one.
    TwoStepsToComplete => [2, 6, 12, 17];
    /// The rest of a lease is the whole lease.
    WholeLeaseLeft => [2, 8];
    /// The rest of a lease is the lease of the request.
    AskersLeaseLeft => [2, 8, 15];
    /// The rest of a lease is rounded down to seconds.
    WholeSecondsLeft => [2];
    /// The rest of a lease is its end, counted from zero.
    ZeroLeft => [2, 15];

    /// Headers are kept in a map from names to values.
    RepeatedHeadersLost => [3];
    /// Headers are sorted by name.
    HeadersSorted => [3];
    /// Header values are kept as text.
    HeaderValuesAsText => [3];
    /// The sensitive flag of a header is lost.
    SensitiveLost => [3];
    /// The body is kept as text.
    BodyAsText => [3];
    /// The body is trimmed.
    BodyTrimmed => [3];
    /// Empty trailers are none.
    EmptyTrailersLost => [3];
    /// No trailers are kept.
    TrailersLost => [3];
    /// Every success is a 200.
    StatusFlattened => [3];
    /// The rest of a time to live is that of the request.
    AskersLifeLeft => [3];
    /// The rest of a time to live is unknown.
    NoLifeLeft => [3];
    /// Bodies are cut at the size of a column.
    LongBodyCut => [3];

    /// Compares fingerprints of finished records only.
    MismatchWhenFinishedOnly => [4, 5, 10];
    /// Compares fingerprints of running records only.
    MismatchWhenRunningOnly => [4];
    /// Does not compare fingerprints with tombstones.
    TombstoneForStrangers => [4];
    /// Compares fingerprints byte by byte.
    FingerprintsByByte => [4];
    /// An orphan is given to a request with any fingerprint.
    StrangerInherits => [4, 5, 10];
    /// A claim with another fingerprint renews the lease.
    StrangerRenews => [4, 10];
    /// An heir's fingerprint becomes the record's.
    HeirsFingerprint => [4];
    /// A claim with another fingerprint leaves a tombstone.
    StrangerBuries => [4, 5, 10, 11];

    /// A release only ends the lease, so the next claim is an heir.
    ReleaseIsALapse => [5, 6, 10, 11, 15, 16, 17];
    /// A release does nothing.
    ReleaseDoesNothing => [5, 2, 6, 10, 11, 14, 15, 16, 17];
    /// A release drops the record with its checkpoint.
    ReleaseForgetsCheckpoint => [5, 6, 10, 14, 15, 17];
    /// A released record keeps its fingerprint.
    ReleaseKeepsFingerprint => [5, 6, 10, 15];
    /// The attempts of a released record are counted further, with or without a checkpoint.
    ReleaseKeepsAttempt => [5, 10];
    /// The attempts of a record that was released with a checkpoint start again.
    ReleaseResetsAttempt => [5, 6, 17];
    /// The mark of an orphan outlives a release.
    OrphanForEver => [5, 6];
    /// A record that was released with a checkpoint accepts any fingerprint.
    ReleaseOpensToStrangers => [5, 10];

    /// Completes with any fence.
    CompleteUnfenced => [6];
    /// Releases with any fence.
    ReleaseUnfenced => [6];
    /// Extends with any fence.
    ExtendUnfenced => [6];
    /// Keeps checkpoints with any fence.
    CheckpointUnfenced => [6];
    /// A verb with a later fence than the current one is held.
    LaterFenceHeld => [6];
    /// A verb with an earlier fence than the current one is held.
    EarlierFenceHeld => [6];
    /// A takeover keeps the fence.
    TakeoverKeepsFence => [6];
    /// The fence of a forgotten record starts anew.
    FencesRestart => [6, 10, 11];
    /// The fence of an expired record starts anew; that of a released one does not.
    FencesRestartAfterExpiry => [6, 10];
    /// Each handle counts its own fences.
    FencesPerHandle => [6, 10, 11];
    /// The claim that follows a release with a checkpoint has the same fence.
    ReleaseKeepsFence => [6, 11];
    /// The fence of a released record is current until the next claim.
    ReleasedStillHeld => [6];
    /// A finished record can be released.
    FinishedReleased => [6];
    /// Compares the fence, awaits, completes.
    TwoStepsToFence => [6, 12];
    /// A stale verb answers `Stale`, but extends the lease.
    StaleExtends => [6];
    /// A verb on an unknown record is held.
    UnknownHeld => [6];

    /// A lease is given away a little early.
    LeaseEndsEarly => [7, 4, 5, 8, 10, 11];
    /// A lease is given away late.
    LeaseEndsLate => [7, 4, 5, 6, 8, 9, 10, 11, 14, 16, 17];
    /// A takeover is no new attempt.
    TakeoverSameAttempt => [7];
    /// An heir is not marked as one.
    TakeoverUnmarked => [7, 6, 17];
    /// A claim that is refused renews the lease.
    InFlightRenews => [7, 2, 4, 5, 6, 8, 10, 11];
    /// The lease of an heir counts from the end of the previous one.
    TakeoverFromOldEnd => [7, 5, 6, 14];
    /// An orphan can be taken over once.
    OneTakeover => [7, 8, 14];

    /// An extension counts from the end of the lease.
    ExtendFromEnd => [8];
    /// An extension never shortens a lease.
    ExtendNeverShortens => [8];
    /// An extension by zero is none.
    ExtendByZeroIgnored => [8];
    /// A lease is extended once.
    ExtendOnce => [8];

    /// Sees that the lease has ended, awaits, takes over.
    TwoStepsToInherit => [9, 6];

    /// The time to live counts from the completion.
    TtlFromCompletion => [10, 3];
    /// The time to live counts from the latest takeover.
    TtlFromTakeover => [10];
    /// The time to live counts from the latest claim.
    TtlFromLook => [10, 3];
    /// A record is forgotten at its time, even while a lease holds.
    ForgottenWhileHeld => [10];
    /// A finished record is never forgotten.
    FinishedForEver => [10];
    /// A tombstone is never forgotten.
    TombstoneForEver => [10];
    /// A record that was never finished is never forgotten.
    OrphanedForEver => [10, 6];
    /// A record released with a checkpoint is never forgotten.
    ReleasedForEver => [10];
    /// The checkpoint of an expired record is found by the next.
    CheckpointOutlivesRecord => [10];
    /// The fingerprint of an expired record is still compared.
    FingerprintOutlivesRecord => [10];
    /// A handle keeps what it replayed beyond its time to live.
    HandleCaches => [10];
    /// Times to live are milliseconds in 32 bits.
    TtlIn32Bits => [10];
    /// A record claimed anew keeps the time of the one before.
    TtlOutlivesRecord => [10, 6];

    /// The token is ignored.
    TokenIgnored => [11, 17];
    /// A repeated claim gets a new fence.
    TokenNewFence => [11];
    /// A repeated claim is another attempt.
    TokenNewAttempt => [11];
    /// A repeated claim keeps the lease it had.
    TokenOldLease => [11];
    /// A repeated takeover is no orphan.
    TokenForgetsOrphan => [11, 17];
    /// A repeated takeover comes without the checkpoint.
    TokenForgetsCheckpoint => [11, 17];
    /// A claim repeated after its lease is an heir's.
    TokenWithinLeaseOnly => [11];
    /// A claim with another fingerprint replaces the token.
    StrangerLeavesToken => [11];
    /// An heir does not replace the token.
    TokenOfFirstOwner => [11, 17];
    /// The token is still known after a release.
    TokenOutlivesRelease => [11];

    /// A repeated completion is stale.
    RepeatedStale => [12, 17];
    /// The last completion wins.
    LastOutcomeWins => [12, 17];
    /// A repeated completion is held only with the same outcome.
    RepeatedIfEqual => [12, 17];
    /// A tombstone replaces a response.
    TombstoneWins => [12];
    /// A response replaces a tombstone.
    ResponseWins => [12];

    /// A tombstone is a claim in flight.
    TombstoneInFlight => [13, 4, 10, 12, 15];
    /// There is only one kind of tombstone.
    TombstoneReasonLost => [13, 4, 12];
    /// A tombstone is no outcome: the record runs again.
    TombstoneRunsAgain => [13, 4, 10, 12, 15];
    /// A tombstone is an empty response.
    TombstoneReplayed => [13, 4, 10, 12, 15];

    /// The first checkpoint stays.
    FirstCheckpointStays => [14];
    /// A takeover drops the checkpoint.
    TakeoverForgetsCheckpoint => [14, 5, 6, 16, 17];
    /// Checkpoints are text.
    CheckpointAsText => [14];
    /// A checkpoint without data is none.
    EmptyCheckpointLost => [14];
    /// Names of checkpoints are trimmed.
    CheckpointNameTrimmed => [14];
    /// A checkpoint is given out once.
    CheckpointOnce => [14, 5, 6, 11, 17];

    /// Records are told apart by their first eight bytes.
    EightBytes => [15];
    /// Records are told apart by their last sixteen bytes.
    LastSixteenBytes => [15];
    /// A release drops all records that are released.
    ReleaseDropsOthers => [15, 5, 6, 10, 14, 17];
    /// Checkpoints are kept in one place for all.
    OneCheckpointForAll => [15];
    /// An extension reaches all records with that fence.
    ExtendsByFence => [15, 6, 10, 16];
    /// Responses are kept in one place for all.
    OneResponseForAll => [15];

    /// No verb is held after the lease.
    LateStale => [16];
    /// No completion is held after the lease.
    LateCompleteStale => [16];
    /// No release is held after the lease.
    LateReleaseStale => [16];
    /// No extension is held after the lease.
    LateExtendStale => [16];
    /// No checkpoint is held after the lease.
    LateCheckpointStale => [16];

    /// Writes the name of a checkpoint, awaits, writes its data.
    TwoStepsToCheckpoint => [17, 6];
    /// Ends the lease, awaits, marks the record as released.
    TwoStepsToRelease => [17, 2, 6];
    /// Drops the orphan, awaits, inserts the heir.
    TwoStepsToTakeOver => [17, 6, 9];
    /// Inserts the record, awaits, writes its token.
    TokenInASecondStep => [17, 11];
    /// Writes the outcome, awaits, writes the body.
    BodyInASecondStep => [17, 12];
    /// Ends the lease, awaits, begins another.
    TwoStepsToExtend => [17, 2, 6];
}

/// A fault of the purge of a [`WrongStore`](super::wrong_store::WrongStore).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PurgeFault {
    /// Nothing.
    None,
    /// Keeps released records until they expire.
    KeepsReleased,
    /// Ignores the limit.
    IgnoresLimit,
    /// Drops none.
    DropsNothing,
    /// Returns its limit.
    SaysLimit,
    /// Drops what is past its time to live, whoever holds a lease.
    DropsHeld,
    /// Drops what has no lease, before its time.
    DropsOrphans,
    /// Drops what is finished, before its time.
    DropsFinished,
    /// Drops expired records only if they are finished.
    SparesRunning,
    /// The fences of a dropped record start anew.
    ForgetsFences,
}

pub(crate) const PURGE_FAULTS: [PurgeFault; 10] = [
    PurgeFault::None,
    PurgeFault::KeepsReleased,
    PurgeFault::IgnoresLimit,
    PurgeFault::DropsNothing,
    PurgeFault::SaysLimit,
    PurgeFault::DropsHeld,
    PurgeFault::DropsOrphans,
    PurgeFault::DropsFinished,
    PurgeFault::SparesRunning,
    PurgeFault::ForgetsFences,
];
