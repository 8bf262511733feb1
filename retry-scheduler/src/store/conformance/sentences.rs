//! The contract's text, number by number, as the documentation of the traits has it.

/// The text of a number.
pub(super) fn of(number: u8) -> &'static str {
    SENTENCES.get(usize::from(number) - 1).copied().unwrap_or_default()
}

const SENTENCES: [&str; 48] = [
    "Begin. schedule with an unknown key answers Scheduled::New with a cycle that is idle, due first_in \
     from now, and has nothing counted yet.",
    "One cycle for each key. When the key has a cycle, pending or ended, schedule answers \
     Scheduled::Exists with that cycle and changes nothing. Of any number of concurrent calls, one \
     answers New.",
    "Due. claim_due gives due cycles and no others. They are leased until lease from now, with a larger \
     epoch. Each claim has the payload that the cycle was scheduled with, to the byte, and the time of \
     the claim.",
    "Order. Among tenants with room, the cycles that are due the longest are given first, at most limit.",
    "Share. claim_due gives a tenant no more cycles than make per_tenant together with those in running, \
     as long as cycles of other tenants with room are due and are not given. What is left of limit then \
     goes to the cycles that are due the longest, whatever their tenant.",
    "Fairness. However many cycles of tenants at their share are due longer, and however many tenants \
     have cycles that are due later, a due cycle of another tenant is given within two calls.",
    "One holder. Of any number of concurrent claims, one is given each due cycle. When claims are \
     repeated, no due cycle is left over.",
    "Takeover. No other claim is given a cycle until its lease runs out. The next claim after that is \
     given it, with the same attempt number, a larger epoch, and one lapse more.",
    "Extend makes the lease end lease from now. A lease of zero ends at once.",
    "Fences. extend, finish, finish_many and defer are stale and change nothing when the claim was taken \
     over, finished, deferred, cancelled or rescheduled since.",
    "Late but first. A claim whose lease ran out still holds until another claim is given the cycle.",
    "Success ends a cycle resolved, now.",
    "Failure. After a failure the cycle is idle, and due one delay of its plan after the attempt's end: \
     the nth delay after the nth attempt that counts, and the last one again after that. It is not given \
     before.",
    "Exhaustion. A failure of the last attempt of its plan ends a cycle exhausted, now. So does a \
     permanent failure of any attempt.",
    "Last start. No attempt begins after the plan's last start. A cycle whose next attempt would be due \
     later ends exhausted as soon as that is known: when it is scheduled, finished or rescheduled, or at \
     the latest when it would be claimed.",
    "Attempts. attempts gives the finished attempts and nothing else. Their numbers start at 1 and have \
     no gaps over the whole life of the cycle. Each has the times of its claim and its end, and verdict \
     and detail as reported, to the byte.",
    "Many reports. finish_many does for each report what finish would do, and answers in the order of the \
     reports.",
    "Defer. After defer the cycle is idle and due delay from now, with one deferral more. Nothing else of \
     it changes, and the attempt does not count.",
    "Cancel ends a pending cycle cancelled, now, even while it is attempted. An ended cycle stays as it \
     ended, and an unknown one unknown.",
    "First come. When a finish meets a cancel or reschedule, one of them comes first. Either the attempt \
     is recorded and the other verb finds the cycle as the attempt left it, or the report is stale and \
     leaves nothing.",
    "Reschedule. The new plan applies from now on, and the next attempt is due next_in from now. Counts \
     stay, except lapses and deferrals, which are zero. When the new plan has no attempt left, the cycle \
     ends exhausted at once.",
    "Reactivation. Only with reactivate, and only after it ended exhausted or cancelled, a cycle begins \
     anew. The counts that its plan is compared with are zero again; the numbers of attempts go on.",
    "Next wake. next_wake answers the time until a pending cycle can be claimed: zero when one can, None \
     when none is pending.",
    "Bounds. Texts of MAX_TEXT bytes and bytes of MAX_BYTES are stored unchanged, and two keys are equal \
     only if they are equal to the byte. Longer ones, and texts with a NUL, are Invalid and change \
     nothing.",
    "Independence. A verb on one cycle changes no other.",
    "Cancellation. A verb whose future is dropped has taken effect as a whole, or not at all.",
    "Commit. What a verb of a transaction answered holds for the later verbs of that transaction at once, \
     and for everybody else after the commit.",
    "Rollback. After a rollback, nothing of the transaction has ever happened.",
    "Not before. Before the commit, nobody else sees or is given anything of the transaction.",
    "First commit wins. A verb on a cycle that an open transaction changed waits for the end of that \
     transaction, and then meets the result: after the commit of a cancel_in the report of a running \
     attempt is stale, after its rollback the report is recorded.",
    "A stale report in a transaction. finish_in with a claim that no longer holds answers \
     Finished::Stale. The transaction can then be rolled back with everything else in it.",
    "Namespaces. claim_due gives cycles of the selected namespaces only, and next_wake looks at no \
     others. However many cycles of other namespaces are due longer, the first call gives a due cycle of \
     a selected one.",
    "Unreadable cycles. A due cycle that the scheduler cannot read is reported as unreadable and set \
     aside: for about ten seconds no call meets it, and nothing of it changes. The same call gives its \
     neighbours.",
    "Nonces. All claims of a call have the same nonce, and claims of two calls have different ones. A \
     verb with the epoch of a claim and another nonce is stale.",
    "Own delay. After a failure with retry_in the cycle is due that long after the attempt's end, at most \
     Plan::MAX_DELAY, in place of the plan's delay.",
    "Jitter. The delay after a failure is Cycle::delay of the cycle as it was recorded.",
    "Deferral bound. A cycle can be deferred as often as its plan allows between two recorded attempts. \
     One deferral more ends it exhausted, now.",
    "End reasons. An ended cycle says why it ended, whichever verb ended it.",
    "Metadata. A claim has the metadata that its cycle was scheduled with. Metadata beyond its bounds is \
     Invalid and changes nothing.",
    "Attempt pages. attempts gives the attempts with numbers above after, the lowest first, at most \
     limit.",
    "Purge. purge_ended deletes at most limit cycles that ended at least older_than ago, with everything \
     that is kept of them, and nothing else. Their keys are unknown then.",
    "Many verbs. schedule_many, extend_many and finish_and_claim do what the verbs for one would do, and \
     answer in order.",
    "Endings told. The hook is called once for each cycle that ends, whichever verb ends it, before that \
     verb answers.",
    "Pause. claim_due gives nothing of a paused namespace, and next_wake does not count it. Running \
     attempts go on, and cycles can be scheduled.",
    "List. list gives every cycle that matches once, page by page and namespace by namespace: idle \
     cycles in the order in which they are due, ended ones in the order in which they ended, and cycles \
     of the same time by age. A leased cycle stands where it was due or where its lease ends. A cycle \
     that cannot be read is reported, and ends no list.",
    "Counts. counts answers each namespace that has cycles or is paused, in order, with the number of \
     cycles of each class and for how long the longest due could have been claimed.",
    "Run now. After run_now a waiting cycle is due now, and a due one stays due as it was; nothing else \
     of it changes. A leased or ended cycle stays as it is.",
    "Many changes. cancel_many and reschedule_many do to at most limit matching cycles what the verbs for \
     one would do, and nothing to others. A matching cycle that could not be changed, because it is \
     locked or cannot be read, is reported.",
];
