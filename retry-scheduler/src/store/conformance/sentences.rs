//! The contract's text, number by number, as the documentation of the traits has it.

/// The text of a number.
pub(super) fn of(number: u8) -> &'static str {
    SENTENCES.get(usize::from(number) - 1).copied().unwrap_or_default()
}

const SENTENCES: [&str; 48] = [
    "Begin. schedule under a key unknown to the scheduler is Scheduled::New with a cycle that is idle, \
     due first_in from now, and has nothing counted yet.",
    "One cycle for each key. Where the key has a cycle, pending or ended, schedule is Scheduled::Exists \
     with that cycle, and changes nothing. Of any number of concurrent ones, one is New.",
    "Due. claim_due gives cycles that are due, and no others: leased until lease from now, with a larger \
     epoch, with the payload they were scheduled with, to the byte, and with the time of the claim.",
    "Order. Of tenants with room for them, the cycles that are due the longest are given first, and at \
     most limit.",
    "Share. Of one tenant, claim_due gives no more than make per_tenant together with those in running, as \
     long as cycles of other tenants are due that have room and are not given. What is left of limit then \
     goes to the cycles that are due the longest, whatever their tenant.",
    "Fairness. However many cycles of tenants at their share are due longer, and however many tenants \
     have cycles that are due later, a due cycle of another tenant is given within two calls.",
    "One holder. Of any number of concurrent claims, each due cycle is given to one; when they are \
     repeated, none is left over.",
    "Takeover. Until its lease runs out a cycle is not given away; after, the next claim is given it, \
     with the same attempt number, a larger epoch, and one lapse more.",
    "Extend lets the lease end lease from now; a lease of zero ends at once.",
    "Fences. extend, finish, finish_many and defer with a claim that was taken over, finished, given \
     back, cancelled or rescheduled since are stale and change nothing.",
    "Late but first. A claim whose lease ran out, and that nobody took over, still holds.",
    "Success ends a cycle resolved, now.",
    "Failure. After a failure the cycle is idle, and due one delay of its plan after the attempt's end: \
     the nth delay after the nth attempt that counts, the last one again after that. It is not given away \
     before.",
    "Exhaustion. A cycle ends exhausted, now, with a failure of the last attempt of its plan, or with a \
     permanent one.",
    "Last start. No attempt begins after the plan's last start. A cycle whose next attempt would be due \
     later is exhausted when that is known: when it is scheduled, finished or rescheduled, or at the \
     latest when it would be claimed.",
    "Attempts. attempts gives what was finished and nothing else, with numbers from 1 without gaps over \
     the whole life of the cycle, the times of claim and end, and verdict and detail as reported, to the \
     byte.",
    "Many reports. finish_many answers and does what finish would for each report, in their order.",
    "Defer. After defer the cycle is idle and due delay from now, with one deferral more; nothing else of \
     it changes, and the attempt does not count.",
    "Cancel ends a pending cycle cancelled, now, also one that is being attempted. One that has ended \
     stays as it ended, and an unknown one unknown.",
    "First come. Of a finish and a cancel or reschedule at once, one comes first: either the attempt is \
     kept and the other verb finds what it made of the cycle, or the report is stale and leaves nothing.",
    "Reschedule. The new plan holds from now on, and the next attempt is due next_in from now; what was \
     counted stays, but for the lapses. With no attempt left of the new plan, the cycle is exhausted at \
     once.",
    "Reactivation. Only with reactivate, and only after exhausted or cancelled, a cycle begins anew: the \
     counts that its plan is held against are zero again; the numbers of attempts go on.",
    "Next wake. next_wake is the time until a pending cycle can be claimed: zero when one can, none when \
     none is pending.",
    "Bounds. Texts of MAX_TEXT bytes and bytes of MAX_BYTES are kept as they are, and two keys are one \
     only if they are the same to the byte. Longer ones, and texts with a NUL, are Invalid and change \
     nothing.",
    "Independence. What is done to one cycle changes no other.",
    "Cancellation. A verb whose future is dropped has taken effect whole, or not at all.",
    "Commit. What the verbs of a transaction answered is so for its later verbs at once, and for \
     everybody else after the commit.",
    "Rollback. After a rollback nothing of it has ever been.",
    "Not before. Before the commit, nobody else is shown or given anything of it.",
    "First commit wins. A verb on a cycle that an open transaction changed waits for its end, and then \
     meets what is: after the commit of a cancel_in the report of a running attempt is stale, after its \
     rollback it is recorded.",
    "A stale report in a transaction. finish_in of a claim that no longer holds is Finished::Stale, and \
     the transaction can be rolled back with all else that is in it.",
    "Namespaces. claim_due gives cycles of the selected namespaces only, and next_wake looks at no \
     others. However many cycles of others are due longer, the first call gives what is selected and due.",
    "Unreadable cycles. A due cycle that the scheduler cannot read is reported as unreadable and set \
     aside: for about ten seconds no call meets it, and nothing of it changes. The call gives its \
     neighbours.",
    "Nonces. All claims of a call have the same nonce, and claims of two calls have different ones. A \
     verb with the epoch of a claim and another nonce is stale.",
    "Own delay. A failure with retry_in is due that long after the attempt's end, at most \
     Plan::MAX_DELAY, in place of the plan's delay.",
    "Jitter. The delay after a failure is Cycle::delay of the cycle as it was recorded.",
    "Deferral bound. A cycle can be deferred as often as its plan says between two recorded attempts. \
     With one deferral more it ends exhausted, now.",
    "End reasons. A cycle that has ended says why, whichever verb ended it.",
    "Metadata. A claim has the metadata that its cycle was scheduled with. More than its bounds allow is \
     Invalid.",
    "Attempt pages. attempts gives the attempts with numbers above after, the lowest first, and at most \
     limit.",
    "Purge. purge_ended deletes cycles that ended at least older_than ago, at most limit, with all that \
     is kept of them, and nothing else. Their keys are unknown then.",
    "Many verbs. schedule_many, extend_many and finish_and_claim do what the verbs for one would, in \
     their order.",
    "Endings told. The hook is called once for each cycle that ends, whichever verb ends it, before that \
     verb answers.",
    "Pause. Of a paused namespace nothing is given, and next_wake does not count it. Attempts that run go \
     on, and cycles can be scheduled.",
    "List. list gives every cycle that matches once, page by page: namespace by namespace, pending cycles \
     by the time at which they can be claimed, ended ones by their ends, and of the same time the older \
     one first.",
    "Counts. counts has each namespace with cycles or a pause, in their order, with the number of cycles \
     of each class and how long the longest due could have been claimed.",
    "Run now. After run_now a waiting cycle is due now, and one that is due stays due as long as it was; \
     nothing else of it changes. A cycle that is leased or has ended stays as it is.",
    "Many changes. cancel_many and reschedule_many do to at most limit cycles that match what the verbs \
     for one would do, and nothing to others.",
];
