//! The statements.
//!
//! Many rows are passed as JSON, which has no blobs: they are in hexadecimal there.

/// The columns of a cycle, in the order in which [`read`](super::rows::read) reads them.
macro_rules! columns {
    () => {
        "retry_cycles.id, retry_cycles.namespace, subject, tenant, max_attempts, delays, last_start, jitter, \
         max_deferrals, state, reason, wake_at, claimed_at, ended_at, epoch, nonce, attempts, used, lapses, deferrals, \
         reactivations"
    };
}

macro_rules! namespaces_of {
    ($which:literal) => {
        concat!(
            "WITH RECURSIVE next (name) AS (SELECT min(namespace) FROM retry_cycles WHERE ",
            $which,
            " UNION ALL SELECT (SELECT min(namespace) FROM retry_cycles WHERE ",
            $which,
            " AND namespace > next.name) FROM next WHERE next.name IS NOT NULL) \
             SELECT name FROM next WHERE name IS NOT NULL"
        )
    };
}

macro_rules! joined {
    () => {
        " FROM retry_subjects CROSS JOIN retry_cycles ON retry_cycles.id = retry_subjects.id "
    };
}

pub(super) const COLUMNS: &str = columns!();

pub(super) const GET: &str =
    concat!("SELECT ", columns!(), joined!(), "WHERE retry_subjects.namespace = $1 AND subject = $2");

/// The cycles of the keys in `$1`.
pub(super) const GET_MANY: &str = concat!(
    "SELECT ",
    columns!(),
    " FROM json_each($1) AS one CROSS JOIN retry_subjects ON retry_subjects.namespace = one.value ->> 0 \
     AND subject = one.value ->> 1 CROSS JOIN retry_cycles ON retry_cycles.id = retry_subjects.id"
);

/// The cycles of the ids in `$1`, with what an attempt is given.
pub(super) const GET_TO_CLAIM: &str = concat!(
    "SELECT ",
    columns!(),
    ", payload, metadata FROM json_each($1) AS one CROSS JOIN retry_cycles ON retry_cycles.id = one.value \
     CROSS JOIN retry_subjects ON retry_subjects.id = one.value"
);

pub(super) const SCHEDULE_SUBJECT: &str = "INSERT INTO retry_subjects (namespace, subject, payload, metadata) \
     VALUES ($1, $2, $3, $4) ON CONFLICT (namespace, subject) DO NOTHING RETURNING id";

pub(super) const SCHEDULE: &str = "INSERT INTO retry_cycles (id, namespace, tenant, max_attempts, delays, last_start, \
     jitter, max_deferrals, state, reason, wake_at, ended_at) \
     VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)";

/// What a change of a cycle changes, but for its plan: a list for each cycle in `$1`.
pub(super) const WRITE: &str = "UPDATE retry_cycles SET state = new.value ->> 1, reason = new.value ->> 2, \
     wake_at = new.value ->> 3, claimed_at = new.value ->> 4, ended_at = new.value ->> 5, epoch = new.value ->> 6, \
     nonce = new.value ->> 7, attempts = new.value ->> 8, used = new.value ->> 9, lapses = new.value ->> 10, \
     deferrals = new.value ->> 11, reactivations = new.value ->> 12 \
     FROM json_each($1) AS new WHERE retry_cycles.id = new.value ->> 0";

pub(super) const WRITE_PLAN: &str = "UPDATE retry_cycles SET max_attempts = $2, delays = $3, last_start = $4, \
     jitter = $5, max_deferrals = $6 WHERE id = $1";

pub(super) const KEEP_ATTEMPTS: &str = "INSERT INTO retry_attempts (cycle_id, number, started_at, finished_at, verdict, \
     detail) SELECT value ->> 0, value ->> 1, value ->> 2, value ->> 3, value ->> 4, unhex(value ->> 5) \
     FROM json_each($1)";

pub(super) const ATTEMPTS: &str = "SELECT number, started_at, finished_at, verdict, detail FROM retry_attempts \
     WHERE cycle_id = (SELECT id FROM retry_subjects WHERE namespace = $1 AND subject = $2) AND number > $3 \
     ORDER BY number LIMIT $4";

/// The namespaces with pending cycles: each found by one look into the index.
pub(super) const NAMESPACES: &str = namespaces_of!("state = 0");

/// The namespaces with ended cycles.
pub(super) const ENDED_NAMESPACES: &str = namespaces_of!("state <> 0");

pub(super) const PAUSED: &str = "SELECT namespace FROM retry_paused_namespaces ORDER BY namespace";

pub(super) const PAUSE: &str = "INSERT INTO retry_paused_namespaces VALUES ($1) ON CONFLICT DO NOTHING";

pub(super) const RESUME: &str = "DELETE FROM retry_paused_namespaces WHERE namespace = $1";

/// Of the namespaces in `$1`, the first that can be claimed at `$2`, at most `$3`.
pub(super) const DUE: &str = "SELECT due.id, due.tenant FROM json_each($1) AS one CROSS JOIN retry_cycles AS due \
     ON due.id IN (SELECT id FROM retry_cycles WHERE state = 0 AND namespace = one.value AND wake_at <= $2 \
     ORDER BY wake_at LIMIT $3) ORDER BY due.wake_at, due.id LIMIT $3";

/// Tenants in the namespace `$1` with cycles that can be claimed at `$2`, in buckets up to `$3`;
/// but not those in `$4`, and at most `$8`. Begins behind the tenant `$6` of the bucket `$5`, and
/// looks into the index `$7` times at most: the last look is answered too.
///
/// A bucket has the cycles of 65 seconds. So a look meets a tenant with cycles that are due, or
/// will be in a minute; whoever has cycles that are due later is not met, however many they are.
/// The plus signs are for the planner: without them it compares the tenants of a whole bucket, one
/// by one.
pub(super) const DUE_TENANTS: &str = "WITH RECURSIVE look (id, number) AS ( \
     SELECT (SELECT id FROM retry_cycles WHERE state = 0 AND namespace = $1 AND (bucket, tenant) > ($5, $6) \
     ORDER BY bucket, tenant, wake_at LIMIT 1), 1 \
     UNION ALL SELECT (SELECT behind.id FROM retry_cycles AS behind WHERE behind.state = 0 AND behind.namespace = $1 \
     AND (behind.bucket, behind.tenant) > (+seen.bucket, +seen.tenant) \
     ORDER BY behind.bucket, behind.tenant, behind.wake_at LIMIT 1), look.number + 1 \
     FROM look CROSS JOIN retry_cycles AS seen ON seen.id = look.id WHERE seen.bucket <= $3 AND look.number < $7) \
     SELECT seen.bucket, seen.tenant, seen.wake_at, look.number \
     FROM look CROSS JOIN retry_cycles AS seen ON seen.id = look.id \
     WHERE look.number = $7 OR seen.wake_at <= $2 AND seen.tenant NOT IN (SELECT value FROM json_each($4)) LIMIT $8";

/// The first that can be claimed at `$2` of each namespace and tenant in `$1`, as many as are there
/// with them, and at most `$3` together.
pub(super) const DUE_OF_TENANTS: &str = "SELECT due.id, due.tenant FROM json_each($1) AS one \
     CROSS JOIN retry_cycles AS due ON due.id IN (SELECT id FROM ( \
     SELECT id, row_number() OVER (ORDER BY wake_at) AS number FROM (SELECT id, wake_at FROM retry_cycles \
     WHERE state = 0 AND namespace = one.value ->> 0 AND tenant = one.value ->> 1 AND wake_at <= $2 \
     ORDER BY wake_at LIMIT $3)) WHERE number <= one.value ->> 2) ORDER BY due.wake_at, due.id LIMIT $3";

/// Lets nobody meet these until then; nothing else of them changes.
pub(super) const SET_ASIDE: &str =
    "UPDATE retry_cycles SET wake_at = $2 WHERE id IN (SELECT value FROM json_each($1))";

pub(super) const FIRST_WAKE: &str =
    "SELECT wake_at FROM retry_cycles WHERE state = 0 AND namespace = $1 ORDER BY wake_at LIMIT 1";

/// Where the cycle of a key stands in a list.
pub(super) const PLACE: &str = "SELECT CASE WHEN state = 0 THEN wake_at ELSE ended_at END, retry_cycles.id FROM retry_subjects \
     CROSS JOIN retry_cycles ON retry_cycles.id = retry_subjects.id \
     WHERE retry_subjects.namespace = $1 AND subject = $2";

/// Cycles of the namespace `$1` that ended in the state `$2` until `$3`.
pub(super) const ENDED: &str = "SELECT id FROM retry_cycles WHERE state <> 0 AND namespace = $1 AND state = $2 \
     AND ended_at <= $3 ORDER BY ended_at LIMIT $4";

pub(super) const PURGE: [&str; 3] = [
    "DELETE FROM retry_attempts WHERE cycle_id IN (SELECT value FROM json_each($1))",
    "DELETE FROM retry_cycles WHERE id IN (SELECT value FROM json_each($1))",
    "DELETE FROM retry_subjects WHERE id IN (SELECT value FROM json_each($1))",
];
