//! The SQL of the verbs. Each verb is one statement, which decides by the row that it finds and by
//! the server's clock.
//!
//! # No statement waits for a row
//!
//! A handler's transaction locks its record from the completion to the end of the commit, which
//! takes long if its connection hangs. A batch that waited for that row would delay all the other
//! verbs in it. So:
//!
//! - An answer that needs no write (a replay, a claim in flight, a stale fence) is read from the
//!   snapshot. Locks do not prevent that.
//! - A row to be written is locked with `SKIP LOCKED` first. If another transaction holds it, the
//!   verb is tried again.
//! - Completions have a second form, which waits up to the session's `lock_timeout`. A separate
//!   lock would make a completion half as expensive again. The first form is used after such a wait
//!   timed out.
//! - The insert of a new record may meet another insert of the same record. It waits for the end of
//!   that statement, writes nothing, and is tried again. Inserts are sorted by record, so there is
//!   no deadlock.
//! - The other insert may not belong to a transaction that is itself a claim, because that lasts as
//!   long as its handler. So a claim tries the record's [lock](lock_key) before it writes. If that
//!   is refused, the record is in flight.
//!
//! # Renewals
//!
//! A renewal writes to `idempotency_leases` and only locks the record's row. A lock leaves no new
//! version, so a transaction with an older snapshot may still write the row. The lock excludes a
//! takeover, a completion and a purge meanwhile. But those look for the lease with a snapshot that
//! may be older than the renewal. So:
//!
//! - A claim that takes over first ends the old lease, with an upsert. An upsert finds the newest
//!   version of a row, even one that is newer than its snapshot. If the lease was renewed
//!   meanwhile, the claim is tried again.
//! - The purge locks the rows in one statement, and looks for their leases in a second one, with a
//!   newer snapshot.
//! - Completions do not look at leases. A lease that ran out leaves the fence valid.

/// A statement for one verb, whose parameters are values, and the same for many verbs, whose
/// parameters are arrays.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Statement {
    pub(crate) one: &'static str,
    pub(crate) many: &'static str,
}

/// The first column of an answer to a claim. [`RUN`](verdict::RUN) means that the claim was
/// granted. The others describe the snapshot. From [`OWN`](verdict::OWN) on, the claim could be
/// granted; without a `RUN` beside them, the row was locked or had changed after the snapshot.
pub(crate) mod verdict {
    pub(crate) const RUN: i16 = 0;
    pub(crate) const MISMATCH: i16 = 1;
    pub(crate) const REPLAY: i16 = 2;
    pub(crate) const UNREPLAYABLE: i16 = 3;
    pub(crate) const UNKNOWN: i16 = 4;
    pub(crate) const IN_FLIGHT: i16 = 5;
    /// The token is that of the running claim. The next ones: 7 an orphan, 8 released with a
    /// checkpoint, 9 expired.
    pub(crate) const OWN: i16 = 6;
    /// An open transaction that is itself a claim has the record's lock.
    pub(crate) const REFUSED: i16 = 10;
}

/// The number of a record's advisory lock: the record's first 64 bits, and the table's number, so
/// that two schemas of one database share no locks. `$record` is SQL for the record's bytes.
///
/// A transaction that is itself a claim holds it exclusively. Every leased claim tries it in shared
/// mode, so leased claims do not refuse one another. `Names::lock_of` writes it into a text. It is
/// a single bigint: pairs of integers are another key space, whose first number is the
/// application's.
macro_rules! lock_key {
    ($record:literal) => {
        concat!(
            "(('x' || encode(substr(",
            $record,
            ", 1, 8), 'hex'))::bit(64)::bigint # ('idempotency_records'::regclass::oid::bigint << 32))"
        )
    };
}

/// `record`.
#[cfg(test)]
pub(crate) const LOCK_KEY: &str = concat!("SELECT ", lock_key!("$1::bytea"));

/// When the lease of the running record `r` ends: as it was renewed last, else as the claim set it.
///
/// `$schema` is empty, or the schema's name with a dot.
macro_rules! lease_ends {
    ($schema:literal) => {
        concat!(
            "coalesce((SELECT l.lease_ends FROM ",
            $schema,
            "idempotency_leases l WHERE l.record = r.record AND l.fence = r.fence), r.lease_ends)"
        )
    };
}

/// `asked` has `record, fingerprint, token, lease, ttl`, the times in microseconds.
///
/// The clock is read after the snapshot, so it is not behind any lease in it, and no answer reports
/// more time than was granted.
macro_rules! claim {
    ($asked:literal) => {
        concat!(
            "clock AS MATERIALIZED (SELECT clock_timestamp() AS now),
asked AS (",
            $asked,
            "),
found AS (
    SELECT a.*, now, r.xmin AS version, r.expires_at, r.token AS holder, r.response, held.lease_ends,
        CASE
            WHEN r.record IS NULL THEN -1
            WHEN r.expires_at <= now AND (r.state <> 0 OR held.lease_ends <= now) THEN 9
            WHEN get_byte(r.fingerprint, 0) = get_byte(a.fingerprint, 0) AND get_byte(r.fingerprint, 0) <> 0
                AND r.fingerprint <> a.fingerprint THEN 1
            WHEN r.state > 1 THEN r.state
            WHEN r.state = 1 THEN 8
            WHEN r.token = a.token THEN 6
            WHEN held.lease_ends > now THEN 5
            ELSE 7
        END::smallint AS verdict
    FROM clock CROSS JOIN asked a LEFT JOIN idempotency_records r ON r.record = a.record
    CROSS JOIN LATERAL (SELECT CASE WHEN r.state = 0 THEN ",
            lease_ends!(""),
            " END AS lease_ends OFFSET 0) held
    OFFSET 0
),
seen AS MATERIALIZED (
    SELECT record, fingerprint, token, lease, ttl, now, version, expires_at, holder, response, lease_ends,
        CASE WHEN verdict IN (-1, 7, 8, 9)
            THEN CASE WHEN pg_try_advisory_xact_lock_shared(",
            lock_key!("record"),
            ") THEN verdict ELSE 10 END
            ELSE verdict
        END::smallint AS verdict
    FROM found
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
locked AS MATERIALIZED (
    SELECT seen.*, r.fence, r.state
    FROM seen JOIN idempotency_records r ON r.record = seen.record AND r.xmin = version
    WHERE verdict BETWEEN 6 AND 9 FOR UPDATE OF r SKIP LOCKED
),
ended AS (
    INSERT INTO idempotency_leases AS l (record, fence, lease_ends)
    SELECT record, fence, CASE verdict WHEN 6 THEN now + lease * interval '1 microsecond' ELSE '-infinity' END
    FROM locked WHERE state = 0
    ON CONFLICT (record) DO UPDATE SET fence = excluded.fence, lease_ends = excluded.lease_ends
    WHERE l.fence <> excluded.fence OR excluded.lease_ends > '-infinity' OR l.lease_ends <= (SELECT now FROM clock)
    RETURNING record
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
    FROM locked s
    WHERE r.record = s.record AND (s.state <> 0 OR s.record IN (SELECT record FROM ended))
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

/// The verbs of the claim's holder. `asked` begins with `record, fence`. Its other columns are for
/// `written`, which begins with `written AS` and writes the rows of `owned`.
///
/// The answer has the state of each record whose fence matched, and a second row with -1 if it was
/// written.
macro_rules! held {
    ($asked:expr, $written:expr) => {
        concat!(
            "holders AS (",
            $asked,
            "),
states AS MATERIALIZED (
    SELECT h.*, r.state FROM holders h JOIN idempotency_records r ON r.record = h.record AND r.fence = h.fence
),
owned AS MATERIALIZED (
    SELECT states.*, r.checkpoint_name IS NOT NULL AS is_kept FROM states
    JOIN idempotency_records r ON r.record = states.record AND r.fence = states.fence
    WHERE states.state = 0 AND r.state = 0 FOR UPDATE OF r SKIP LOCKED
),
",
            $written
        )
    };
}

/// What [`held!`] writes into the record.
macro_rules! set {
    ($set:literal) => {
        concat!(
            "written AS (UPDATE idempotency_records r SET ",
            $set,
            " FROM owned h WHERE r.record = h.record RETURNING r.record)"
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
/// A record that was completed under this fence before is rewritten unchanged, which is rare.
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

/// `record`: whether a claim of it would be answered.
pub(crate) const TAKEN: &str = concat!(
    "SELECT EXISTS (
    SELECT 1 FROM idempotency_records r WHERE r.record = $1 AND CASE r.state
        WHEN 0 THEN ",
    lease_ends!(""),
    " > clock_timestamp()
        WHEN 1 THEN false
        ELSE r.expires_at > clock_timestamp()
    END
)"
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
        set!("state = h.outcome, response = h.response, checkpoint_name = NULL, checkpoint_data = NULL")
    ),
    claims!(),
    "
UNION ALL SELECT -1::smallint, record, NULL, NULL, NULL, NULL, NULL, NULL, NULL FROM written
UNION ALL SELECT state, record, NULL, NULL, NULL, NULL, NULL, NULL, NULL FROM states"
);

/// `record, fence`. Deletes the row, unless the next claim needs its checkpoint.
macro_rules! release {
    () => {
        "forgotten AS (
    DELETE FROM idempotency_records r USING owned h WHERE r.record = h.record AND NOT h.is_kept RETURNING r.record
),
kept AS (
    UPDATE idempotency_records r SET state = 1 FROM owned h WHERE r.record = h.record AND h.is_kept RETURNING r.record
),
written AS (SELECT record FROM forgotten UNION ALL SELECT record FROM kept)
"
    };
}

pub(crate) const RELEASE: Statement = Statement {
    one: concat!("WITH ", held!("SELECT $1::bytea AS record, $2::bigint AS fence", release!()), holders!()),
    many: concat!(
        "WITH ",
        held!("SELECT * FROM unnest($1::bytea[], $2::bigint[]) AS h (record, fence)", release!()),
        holders!()
    ),
};

/// `record, fence, lease`, in microseconds. The record's row is locked and not written, see
/// [above](self#renewals).
macro_rules! extend {
    () => {
        "written AS (
    INSERT INTO idempotency_leases (record, fence, lease_ends)
    SELECT record, fence, clock_timestamp() + lease * interval '1 microsecond' FROM owned
    ON CONFLICT (record) DO UPDATE SET fence = excluded.fence, lease_ends = excluded.lease_ends
    RETURNING record
)
"
    };
}

pub(crate) const EXTEND: Statement = Statement {
    one: concat!(
        "WITH ",
        held!("SELECT $1::bytea AS record, $2::bigint AS fence, $3::bigint AS lease", extend!()),
        holders!()
    ),
    many: concat!(
        "WITH ",
        held!(
            "SELECT * FROM unnest($1::bytea[], $2::bigint[], $3::bigint[]) AS h (record, fence, lease)",
            extend!()
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
            set!("checkpoint_name = h.name, checkpoint_data = h.data")
        ),
        holders!()
    ),
    many: concat!(
        "WITH ",
        held!(
            "SELECT * FROM unnest($1::bytea[], $2::bigint[], $3::bytea[], $4::bytea[]) AS h (record, fence, name, data)",
            set!("checkpoint_name = h.name, checkpoint_data = h.data")
        ),
        holders!()
    ),
};

/// Begins a transaction of our own on a connection of the application, whose defaults may differ.
pub(crate) const BEGIN: &str = "BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE";

macro_rules! defaults {
    () => {
        "SET default_transaction_isolation = 'read committed'; SET default_transaction_read_only = off"
    };
}

macro_rules! is_expired {
    () => {
        concat!("(r.expires_at <= now() AND (r.state <> 0 OR ", lease_ends!(""), " <= now()))")
    };
}

/// `limit`: locks and returns expired records. It uses `now()`, because an index cannot be searched
/// for the volatile `clock_timestamp()`.
pub(crate) const EXPIRED: &str = concat!(
    "SELECT r.record FROM idempotency_records r WHERE ",
    is_expired!(),
    " ORDER BY r.expires_at LIMIT $1 FOR UPDATE OF r SKIP LOCKED"
);

/// `records`: deletes the records that were locked, except one whose lease was renewed between
/// [`EXPIRED`]'s snapshot and its lock.
pub(crate) const PURGE: &str =
    concat!("DELETE FROM idempotency_records r WHERE r.record = ANY($1) AND ", is_expired!());

/// The settings of a connection of the store: each statement has its own snapshot, and may write,
/// whatever the database's defaults are.
pub(crate) const DEFAULTS: &str = defaults!();

/// The settings of the writer's connection.
///
/// - Every statement finds its rows by the index, in the order of its parameters, whatever the
///   table's statistics say. A new table has none, and a plan from that time would scan the whole
///   table for ever.
/// - Every wait has a bound.
/// - The [`DEFAULTS`].
pub(crate) const SESSION: &str = concat!(
    "SET plan_cache_mode = force_generic_plan;
SET enable_seqscan = off;
SET enable_bitmapscan = off;
SET enable_hashjoin = off;
SET enable_mergejoin = off;
SET jit = off;
SET lock_timeout = '100ms';
SET statement_timeout = '5s';
",
    defaults!()
);
