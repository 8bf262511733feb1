//! The SQL: each verb is one statement, decided by the row it finds and timed by the server's clock.
//!
//! # Nobody waits for a row
//!
//! A handler's transaction locks its record from the completion to the end of the commit, and where its connection hangs
//! there, for long. A batch that waited for that row would hold up all the others in it. So:
//!
//! - What is decided without writing (a replay, a claim in flight, a stale fence) is read from the snapshot, which no lock
//!   keeps from being read.
//! - A row that is to be written is locked with `SKIP LOCKED` first. One that another transaction holds is left alone, and
//!   the verb is asked again.
//! - Completions come in a second form, which does wait, up to the session's `lock_timeout`: to lock a row apart from
//!   writing it makes a completion half as dear again. The first form is for when that time was up.
//! - The insert of a record that the snapshot did not have may meet another's insert of the same one. It waits for the end
//!   of that statement, finds it had no place, and is asked again. Inserts go in the order of the records, so none waits
//!   in a circle.

/// A statement for one verb, whose parameters are values, and the same for many, whose parameters are arrays.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Statement {
    pub(crate) one: &'static str,
    pub(crate) many: &'static str,
}

/// The first column of an answer to a claim. [`RUN`](verdict::RUN) says that the claim was given. The others are what the
/// snapshot has; those from [`OWN`](verdict::OWN) on should have been given, and without a `RUN` beside them the row was
/// locked, or had changed after the snapshot.
pub(crate) mod verdict {
    pub(crate) const RUN: i16 = 0;
    pub(crate) const MISMATCH: i16 = 1;
    pub(crate) const REPLAY: i16 = 2;
    pub(crate) const UNREPLAYABLE: i16 = 3;
    pub(crate) const UNKNOWN: i16 = 4;
    pub(crate) const IN_FLIGHT: i16 = 5;
    /// The token is that of the running claim. After it: 7 an orphan, 8 released with a checkpoint, 9 forgotten.
    pub(crate) const OWN: i16 = 6;
}

/// `asked` has `record, fingerprint, token, lease, ttl`, the times in microseconds.
///
/// The clock is read after the snapshot was taken, so it is not behind any lease in it: nobody is told that more is left
/// than was given.
macro_rules! claim {
    ($asked:literal) => {
        concat!(
            "clock AS MATERIALIZED (SELECT clock_timestamp() AS now),
asked AS (",
            $asked,
            "),
seen AS MATERIALIZED (
    SELECT a.*, now, r.xmin AS version, r.lease_ends, r.expires_at, r.token AS holder, r.response,
        CASE
            WHEN r.record IS NULL THEN -1
            WHEN r.state = 1 AND r.checkpoint_name IS NULL THEN 9
            WHEN r.expires_at <= now AND (r.state <> 0 OR r.lease_ends <= now) THEN 9
            WHEN get_byte(r.fingerprint, 0) = get_byte(a.fingerprint, 0) AND get_byte(r.fingerprint, 0) <> 0
                AND r.fingerprint <> a.fingerprint THEN 1
            WHEN r.state > 1 THEN r.state
            WHEN r.state = 1 THEN 8
            WHEN r.token = a.token THEN 6
            WHEN r.lease_ends > now THEN 5
            ELSE 7
        END::smallint AS verdict
    FROM clock CROSS JOIN asked a LEFT JOIN idempotency_records r ON r.record = a.record
),
inserted AS (
    INSERT INTO idempotency_records
        (record, expires_at, lease_ends, fence, attempt, state, orphan, token, fingerprint)
    SELECT record, now + ttl * interval '1 microsecond', now + lease * interval '1 microsecond',
        nextval('idempotency_fences'), 1, 0, false, token, fingerprint
    FROM seen WHERE verdict = -1 ORDER BY record
    ON CONFLICT (record) DO NOTHING
    RETURNING record, fence
),
taken AS (
    UPDATE idempotency_records r SET
        fence = CASE WHEN verdict = 6 THEN r.fence ELSE nextval('idempotency_fences') END,
        attempt = CASE verdict WHEN 6 THEN r.attempt WHEN 9 THEN 1 ELSE least(r.attempt, 2147483646) + 1 END,
        orphan = CASE WHEN verdict = 6 THEN r.orphan ELSE verdict = 7 END,
        state = 0,
        token = s.token,
        lease_ends = now + lease * interval '1 microsecond',
        expires_at = CASE WHEN verdict = 9 THEN now + ttl * interval '1 microsecond' ELSE r.expires_at END,
        fingerprint = CASE WHEN verdict = 9 THEN s.fingerprint ELSE r.fingerprint END,
        checkpoint_name = CASE WHEN verdict <> 9 THEN r.checkpoint_name END,
        checkpoint_data = CASE WHEN verdict <> 9 THEN r.checkpoint_data END,
        response = NULL
    FROM (
        SELECT seen.* FROM seen JOIN idempotency_records r ON r.record = seen.record AND r.xmin = version
        WHERE verdict > 5 FOR UPDATE OF r SKIP LOCKED
    ) s
    WHERE r.record = s.record
    RETURNING r.record, r.fence, r.attempt, r.orphan, r.checkpoint_name, r.checkpoint_data
)"
        )
    };
}

/// The answer to [`claim!`].
macro_rules! claims {
    () => {
        "
SELECT 0::smallint AS verdict, record, fence, 1 AS attempt, false AS orphan, NULL::bigint AS time_left,
    NULL::bytea AS holder, NULL::bytea AS checkpoint_name, NULL::bytea AS bytes
FROM inserted
UNION ALL
SELECT 0::smallint, record, fence, attempt, orphan, NULL, NULL, checkpoint_name, checkpoint_data FROM taken
UNION ALL
SELECT verdict, record, NULL, NULL, NULL,
    CASE verdict
        WHEN 2 THEN date_part('epoch', expires_at - now) * 1000000
        WHEN 5 THEN date_part('epoch', lease_ends - now) * 1000000
    END::bigint,
    CASE WHEN verdict = 5 THEN holder END,
    NULL,
    CASE WHEN verdict = 2 THEN response END
FROM seen WHERE verdict > 0"
    };
}

/// The verbs of whoever holds a claim. `asked` begins with `record, fence`; what else it has is for `set`.
///
/// The answer has the state of each record whose fence was the right one, and -1 beside it where it was written.
macro_rules! held {
    ($asked:literal, $set:literal) => {
        concat!(
            "holders AS (",
            $asked,
            "),
states AS MATERIALIZED (
    SELECT h.*, r.state FROM holders h JOIN idempotency_records r ON r.record = h.record AND r.fence = h.fence
),
written AS (
    UPDATE idempotency_records r SET ",
            $set,
            "
    FROM (
        SELECT states.* FROM states
        JOIN idempotency_records r ON r.record = states.record AND r.fence = states.fence
        WHERE states.state = 0 AND r.state = 0 FOR UPDATE OF r SKIP LOCKED
    ) h
    WHERE r.record = h.record
    RETURNING r.record
)"
        )
    };
}

/// The answer to [`held!`].
macro_rules! holders {
    () => {
        "SELECT -1::smallint, record FROM written UNION ALL SELECT state, record FROM states"
    };
}

/// `record, fence, outcome, response`: the state that the record ends in, and the response's bytes.
///
/// A record that was completed under this fence before is written again as it is, which is rare.
macro_rules! complete_waiting {
    ($from:literal) => {
        concat!(
            "UPDATE idempotency_records r SET
    state = CASE r.state WHEN 0 THEN h.outcome ELSE r.state END,
    response = CASE r.state WHEN 0 THEN h.response ELSE r.response END,
    checkpoint_name = CASE WHEN r.state = 1 THEN r.checkpoint_name END,
    checkpoint_data = CASE WHEN r.state = 1 THEN r.checkpoint_data END
FROM (",
            $from,
            ") h
WHERE r.record = h.record AND r.fence = h.fence
RETURNING r.state, r.record"
        )
    };
}

pub(crate) const CLAIM: &str = concat!(
    "WITH ",
    claim!(
        "SELECT $1::bytea AS record, $2::bytea AS fingerprint, $3::bytea AS token, $4::bigint AS lease, $5::bigint AS ttl"
    ),
    claims!()
);

pub(crate) const COMPLETE: &str = complete_waiting!(
    "SELECT $1::bytea AS record, $2::bigint AS fence, $3::smallint AS outcome, $4::bytea AS response"
);

/// Claims and completions in one statement, so that they share a commit.
pub(crate) const MIXED: &str = concat!(
    "WITH ",
    claim!(
        "SELECT * FROM unnest($1::bytea[], $2::bytea[], $3::bytea[], $4::bigint[], $5::bigint[])
    AS a (record, fingerprint, token, lease, ttl)"
    ),
    ",
completed AS (",
    complete_waiting!(
        "SELECT * FROM unnest($6::bytea[], $7::bigint[], $8::smallint[], $9::bytea[])
    AS h (record, fence, outcome, response)"
    ),
    ")",
    claims!(),
    "
UNION ALL SELECT state, record, NULL, NULL, NULL, NULL, NULL, NULL, NULL FROM completed"
);

/// The same without waiting for rows.
pub(crate) const MIXED_WITHOUT_LOCKED: &str = concat!(
    "WITH ",
    claim!(
        "SELECT * FROM unnest($1::bytea[], $2::bytea[], $3::bytea[], $4::bigint[], $5::bigint[])
    AS a (record, fingerprint, token, lease, ttl)"
    ),
    ",
",
    held!(
        "SELECT * FROM unnest($6::bytea[], $7::bigint[], $8::smallint[], $9::bytea[])
    AS h (record, fence, outcome, response)",
        "state = h.outcome, response = h.response, checkpoint_name = NULL, checkpoint_data = NULL"
    ),
    claims!(),
    "
UNION ALL SELECT -1::smallint, record, NULL, NULL, NULL, NULL, NULL, NULL, NULL FROM written
UNION ALL SELECT state, record, NULL, NULL, NULL, NULL, NULL, NULL, NULL FROM states"
);

/// `record, fence`. The row stays, so that its next fence is given under its lock, and its index entries are used again.
pub(crate) const RELEASE: Statement = Statement {
    one: concat!("WITH ", held!("SELECT $1::bytea AS record, $2::bigint AS fence", "state = 1"), holders!()),
    many: concat!(
        "WITH ",
        held!("SELECT * FROM unnest($1::bytea[], $2::bigint[]) AS h (record, fence)", "state = 1"),
        holders!()
    ),
};

/// `record, fence, lease`, in microseconds.
pub(crate) const EXTEND: Statement = Statement {
    one: concat!(
        "WITH ",
        held!(
            "SELECT $1::bytea AS record, $2::bigint AS fence, $3::bigint AS lease",
            "lease_ends = clock_timestamp() + h.lease * interval '1 microsecond'"
        ),
        holders!()
    ),
    many: concat!(
        "WITH ",
        held!(
            "SELECT * FROM unnest($1::bytea[], $2::bigint[], $3::bigint[]) AS h (record, fence, lease)",
            "lease_ends = clock_timestamp() + h.lease * interval '1 microsecond'"
        ),
        holders!()
    ),
};

/// `record, fence, name, data`.
pub(crate) const CHECKPOINT: Statement = Statement {
    one: concat!(
        "WITH ",
        held!(
            "SELECT $1::bytea AS record, $2::bigint AS fence, $3::bytea AS name, $4::bytea AS data",
            "checkpoint_name = h.name, checkpoint_data = h.data"
        ),
        holders!()
    ),
    many: concat!(
        "WITH ",
        held!(
            "SELECT * FROM unnest($1::bytea[], $2::bigint[], $3::bytea[], $4::bytea[]) AS h (record, fence, name, data)",
            "checkpoint_name = h.name, checkpoint_data = h.data"
        ),
        holders!()
    ),
};

/// Whether the statement runs in the transaction of the mark `$…`.
///
/// The mark is a setting of the transaction: gone after COMMIT, ROLLBACK and `AND CHAIN`, kept by a rollback to a savepoint.
/// Outside it reads as null or as an empty text.
macro_rules! marked {
    ($mark:literal) => {
        concat!("pg_catalog.current_setting('idempotency_layer.claim', true) IS NOT DISTINCT FROM ", $mark)
    };
}

/// Whether it runs in the transaction of this mark, of 32 hexadecimal digits. It has no parameter, so that it is one round
/// trip and needs no statement prepared, which a pooler of transactions would lose.
pub(crate) fn is_marked(mark: &str) -> String {
    format!(concat!("SELECT ", marked!("'{}'")), mark)
}

/// The schema in which the `search_path` finds the store's table.
pub(crate) const SCHEMA: &str = "
SELECT quote_ident(n.nspname) FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.oid = 'idempotency_records'::regclass";

/// `record, fence, outcome, response, mark`, in the transaction of a handler: whether it is the one of this mark, and
/// whether the record was written.
///
/// The row is waited for, because what the transaction wrote stands and falls with it. A record that was completed before
/// is *not* completed by this transaction.
pub(crate) fn complete_marked(schema: &str) -> String {
    const MARKED: &str = marked!("$5");
    format!(
        "WITH written AS (
    UPDATE {schema}.idempotency_records
    SET state = $3, response = $4, checkpoint_name = NULL, checkpoint_data = NULL
    WHERE record = $1 AND fence = $2 AND state = 0 AND {MARKED}
    RETURNING 1
)
SELECT {MARKED}, EXISTS (SELECT FROM written)"
    )
}

/// `record, fence`. The lock waits for the end of a transaction that is about to complete it.
pub(crate) fn settled(schema: &str) -> String {
    format!("SELECT state FROM {schema}.idempotency_records WHERE record = $1 AND fence = $2 FOR UPDATE")
}

/// `limit`. `now()` and not `clock_timestamp()`: an index is searched for what stays the same.
pub(crate) const PURGE: &str = "
DELETE FROM idempotency_records WHERE record IN (
    SELECT record FROM idempotency_records
    WHERE expires_at <= now() AND (state <> 0 OR lease_ends <= now())
    ORDER BY expires_at LIMIT $1 FOR UPDATE SKIP LOCKED
)";

/// What the writer's connection is set to.
///
/// - Every statement finds its rows by the index, in the order they are asked in, whatever the table's statistics say: a new
///   table has none, and the plan made then would scan it from end to end ever after.
/// - A statement's own snapshot, even where the database's default is another.
/// - No wait without a bound.
pub(crate) const SESSION: &str = "
SET plan_cache_mode = force_generic_plan;
SET enable_seqscan = off;
SET enable_bitmapscan = off;
SET enable_hashjoin = off;
SET enable_mergejoin = off;
SET jit = off;
SET default_transaction_isolation = 'read committed';
SET lock_timeout = '100ms';
SET statement_timeout = '5s'";
