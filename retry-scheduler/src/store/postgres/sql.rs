//! The statements.
//!
//! `$1` is the time of an injected clock, or null: then the server's time when it got the statement. It is worked out
//! once, in the common table `clock`: as a filter it would be worked out for each row.

use std::sync::LazyLock;

/// How many namespaces one claim goes through at most.
pub(super) const MOST_NAMESPACES: usize = 32;

/// How many calls share one claim at most: a power of two.
pub(super) const MOST_CALLS: i64 = 64;

/// How long a statement of a sweep may take, and any other one of the same transaction.
pub(super) const SWEEP_TIMEOUT: &str = "SET LOCAL statement_timeout = '2s'";
pub(super) const STATEMENT_TIMEOUT: &str = "SET LOCAL statement_timeout = '20s'";

macro_rules! clock {
    () => {
        "clock (now) AS MATERIALIZED \
         (SELECT coalesce($1::bigint, floor(extract(epoch FROM statement_timestamp()) * 1000)::bigint))"
    };
}

/// The columns of a cycle, in the order in which [`cycle`](super::rows::cycle) reads them.
macro_rules! columns {
    () => {
        concat!("retry_subjects.namespace, subject, ", columns_of_cycle!())
    };
}

macro_rules! columns_of_cycle {
    () => {
        "tenant, max_attempts, delays, last_start, state, claimed_at IS NOT NULL, \
         CASE WHEN claimed_at IS NULL THEN wake_at ELSE lease_until END, ended_at, epoch, attempts, used, lapses, \
         reactivations, nonce, deferrals, jitter, max_deferrals, reason"
    };
}

/// The id of a row: known, or that of a key.
macro_rules! id_of {
    ($id:literal, $namespace:literal, $subject:literal) => {
        concat!(
            "coalesce(",
            $id,
            "::bigint, (SELECT id FROM retry_subjects WHERE namespace = ",
            $namespace,
            " AND subject = ",
            $subject,
            "))"
        )
    };
}

/// The part of a statement that claims what `chosen` has.
///
/// `$2` is the lease, `$4` the nonce, `$nonce` what the row gets of it. A cycle that comes after its last start is ended instead. `wake_at` stays, and
/// `lease_until` stands in no index: so the new version of the row is in no index either (it is a heap-only tuple), and
/// the entry at the front that everybody meets is passed over until the lease is over.
macro_rules! claimed {
    ($nonce:literal, $more:literal) => {
        concat!(
            "cycle AS (UPDATE retry_cycles SET epoch = epoch + 1, nonce = ",
            $nonce,
            ", \
             lapses = lapses + CASE WHEN claimed_at IS NULL THEN 0 ELSE 1 END, \
             state = CASE WHEN last_start < now THEN 2 ELSE 0 END, \
             reason = CASE WHEN last_start < now THEN 3 END, \
             claimed_at = CASE WHEN last_start < now THEN NULL ELSE now END, \
             lease_until = CASE WHEN last_start < now THEN NULL ELSE now + $2 END, \
             ended_at = CASE WHEN last_start < now THEN now END \
             FROM chosen, clock WHERE ctid = place RETURNING retry_cycles.*, due, now, retry_cycles.ctid::text AS at) SELECT ",
            columns!(),
            ", claimed_at, payload, metadata, due, id, now, at",
            $more,
            " FROM cycle JOIN retry_subjects USING (id)"
        )
    };
}

/// What the end of an attempt changes, where `ending` says how it ends the cycle, or 0, `why` says why, and `delay` is
/// that of the plan. A next attempt after the last start ends the cycle too.
macro_rules! finished {
    () => {
        "attempts = attempts + 1, used = used + 1, lapses = 0, deferrals = 0, claimed_at = NULL, lease_until = NULL, \
         reason = CASE WHEN ending <> 0 THEN why WHEN last_start < now + delay THEN 3 END, \
         state = CASE WHEN ending <> 0 THEN ending WHEN last_start < now + delay THEN 2 ELSE 0 END, \
         ended_at = CASE WHEN ending <> 0 OR last_start < now + delay THEN now END, \
         wake_at = now + delay"
    };
}

macro_rules! held {
    ($epoch:literal, $nonce:literal) => {
        concat!("epoch = ", $epoch, " AND nonce = ", $nonce, " AND state = 0 AND claimed_at IS NOT NULL")
    };
}

/// A new cycle. Where the last start comes before the first attempt, it has ended.
macro_rules! new_cycles {
    ($clock:expr, $new:expr) => {
        concat!(
            "WITH ",
            $clock,
            ", new (namespace, subject, tenant, max_attempts, delays, last_start, jitter, max_deferrals, first_in, \
             payload, metadata) AS MATERIALIZED (",
            $new,
            "), subject AS (INSERT INTO retry_subjects (namespace, subject, owner, payload, metadata) \
             SELECT namespace, subject, tenant, payload, metadata FROM new ORDER BY namespace, subject \
             ON CONFLICT (namespace, subject) DO NOTHING RETURNING *), \
             cycle AS (INSERT INTO retry_cycles (id, namespace, tenant, max_attempts, delays, last_start, jitter, \
             max_deferrals, wake_at, state, reason, ended_at) \
             SELECT id, namespace, tenant, max_attempts, delays, last_start, jitter, max_deferrals, now + first_in, \
             CASE WHEN last_start < now + first_in THEN 2 ELSE 0 END, CASE WHEN last_start < now + first_in THEN 3 END, \
             CASE WHEN last_start < now + first_in THEN now END \
             FROM subject JOIN new USING (namespace, subject), clock RETURNING *) SELECT ",
            columns!(),
            " FROM cycle JOIN subject AS retry_subjects USING (id)"
        )
    };
}

pub(super) const SCHEDULE: &str = new_cycles!(
    clock!(),
    "VALUES ($3::text COLLATE \"C\", $4::text COLLATE \"C\", $5::text, $6::bigint, $7::text, $8::bigint, $9::smallint, \
     $10::bigint, $2::bigint, $11::bytea, $12::text)"
);

/// The keys differ.
pub(super) const SCHEDULE_MANY: &str = new_cycles!(
    clock!(),
    "SELECT namespace COLLATE \"C\", subject COLLATE \"C\", tenant, max_attempts, delays, last_start, jitter, \
     max_deferrals, first_in, payload, metadata \
     FROM unnest($3::text[], $4::text[], $5::text[], $6::bigint[], $7::text[], $8::bigint[], $9::smallint[], \
     $10::bigint[], $2::bigint[], $11::bytea[], $12::text[]) AS new (namespace, subject, tenant, max_attempts, delays, \
     last_start, jitter, max_deferrals, first_in, payload, metadata)"
);

/// The same namespace may be registered twice at once.
pub(super) const REGISTER: &str =
    "INSERT INTO retry_namespaces (namespace) SELECT unnest($1::text[]) ON CONFLICT (namespace) DO NOTHING";

pub(super) const CLOCK: &str = clock!();

pub(super) const COLUMNS: &str = columns!();

pub(super) const PAUSE: &str = "INSERT INTO retry_namespaces AS known (namespace, paused) VALUES ($1, true) \
     ON CONFLICT (namespace) DO UPDATE SET paused = true WHERE NOT known.paused";

pub(super) const RESUME: &str = "UPDATE retry_namespaces SET paused = false WHERE namespace = $1 AND paused";

pub(super) const ALL_NAMESPACES: &str = "SELECT namespace, paused FROM retry_namespaces ORDER BY namespace";

/// Where a cycle stands in a list of its class.
pub(super) const PLACE: &str = "SELECT CASE WHEN state = 0 THEN wake_at ELSE ended_at END, id \
     FROM retry_subjects JOIN retry_cycles USING (id) WHERE retry_subjects.namespace = $1 AND subject = $2";

/// How many cycles a tenant has in a namespace, counted up to `$3`.
pub(super) const COUNT_OF_TENANT: &str = "SELECT count(*) FROM \
     (SELECT FROM retry_subjects WHERE namespace = $1 AND owner = $2 LIMIT $3) AS of_tenant";

/// Locks those of the ids in `$1` that nobody else has locked.
pub(super) const LOCK: &str =
    "SELECT id FROM retry_cycles WHERE id = ANY ($1::bigint[]) ORDER BY id FOR NO KEY UPDATE SKIP LOCKED";

/// `$2` and `$3` twice: `RETURNING` knows no other table. A lease that has run out is one still.
pub(super) const RUN_NOW: &str = concat!(
    "WITH ",
    clock!(),
    " UPDATE retry_cycles SET wake_at = least(wake_at, now), lease_until = NULL FROM clock WHERE id = ",
    id_of!("NULL", "$2", "$3"),
    " AND state = 0 AND claimed_at IS NULL RETURNING $2, $3, ",
    columns_of_cycle!()
);

pub(super) const NAMESPACES: &str =
    "SELECT namespace FROM retry_namespaces WHERE NOT paused ORDER BY namespace";

pub(super) const NOW: &str = concat!("WITH ", clock!(), " SELECT now FROM clock");

pub(super) const ID: &str = "SELECT id FROM retry_subjects WHERE namespace = $1 AND subject = $2";

/// Those of the namespaces in `$2` of which something can be claimed, from the floor in `$3` on, and since when.
pub(super) const WITH_DUE: &str = concat!(
    "WITH ",
    clock!(),
    " SELECT of_namespace, first.wake_at FROM clock, unnest($2::text[], $3::bigint[]) AS space (of_namespace, floor) \
     CROSS JOIN LATERAL (SELECT wake_at FROM retry_cycles WHERE state = 0 AND namespace = of_namespace \
     AND wake_at >= floor AND wake_at <= now AND (lease_until IS NULL OR lease_until <= now) \
     ORDER BY wake_at LIMIT 1) AS first"
);

pub(super) const GET: &str = concat!(
    "SELECT ",
    columns!(),
    " FROM retry_subjects JOIN retry_cycles USING (id) WHERE retry_subjects.namespace = $1 AND subject = $2"
);

/// The same, and the time now.
pub(super) const READ: &str = concat!(
    "WITH ",
    clock!(),
    " SELECT ",
    columns!(),
    ", now FROM clock, retry_subjects JOIN retry_cycles USING (id) \
     WHERE retry_subjects.namespace = $2 AND subject = $3"
);

/// Where nobody else claimed it, ended an attempt of it, or changed it since it was read: each of that shows in
/// epoch, attempts, deferrals or state.
pub(super) const WRITE: &str = concat!(
    "UPDATE retry_cycles SET max_attempts = $1, delays = $2, last_start = $3, state = $4, wake_at = $5, \
     claimed_at = NULL, lease_until = NULL, ended_at = $6, epoch = $7, used = $8, lapses = $9, reactivations = $10, \
     deferrals = $11, jitter = $12, max_deferrals = $13, reason = $14 WHERE id = ",
    id_of!("NULL", "$15", "$16"),
    " AND epoch = $17 AND attempts = $18 AND state = $19"
);

/// Leaves out rows that somebody else has locked, as it does what does not match: which of both it is, [`HELD`] says.
pub(super) const EXTEND_MANY: &str = concat!(
    "WITH ",
    clock!(),
    ", held AS MATERIALIZED (SELECT retry_cycles.ctid AS place, nth \
     FROM unnest($3::bigint[], $4::bigint[], $5::bigint[]) WITH ORDINALITY AS claim (of_id, of_epoch, of_nonce, nth) \
     JOIN retry_cycles ON id = of_id WHERE ",
    held!("of_epoch", "of_nonce"),
    " FOR NO KEY UPDATE OF retry_cycles SKIP LOCKED) \
     UPDATE retry_cycles SET lease_until = now + $2 FROM held, clock WHERE ctid = place RETURNING nth"
);

pub(super) const DEFER: &str = concat!(
    "WITH ",
    clock!(),
    " UPDATE retry_cycles SET claimed_at = NULL, lease_until = NULL, wake_at = now + $2, \
     deferrals = CASE WHEN deferrals < max_deferrals THEN deferrals + 1 ELSE deferrals END, \
     state = CASE WHEN deferrals < max_deferrals THEN 0 ELSE 2 END, \
     reason = CASE WHEN deferrals < max_deferrals THEN NULL ELSE 6 END, \
     ended_at = CASE WHEN deferrals < max_deferrals THEN NULL ELSE now END FROM clock WHERE id = ",
    id_of!("$7", "$3", "$4"),
    " AND ",
    held!("$5", "$6"),
    " RETURNING now"
);

/// `$2` and `$3` twice: `RETURNING` knows no other table.
pub(super) const CANCEL: &str = concat!(
    "WITH ",
    clock!(),
    " UPDATE retry_cycles SET state = 3, reason = 4, epoch = epoch + 1, claimed_at = NULL, lease_until = NULL, \
     ended_at = now FROM clock WHERE id = ",
    id_of!("NULL", "$2", "$3"),
    " AND state = 0 RETURNING $2, $3, ",
    columns_of_cycle!()
);

pub(super) const FINISH: &str = concat!(
    "WITH ",
    clock!(),
    ", report (ending, why, delay) AS MATERIALIZED (SELECT $7::smallint, $11::smallint, $8::bigint), \
     cycle AS (UPDATE retry_cycles SET ",
    finished!(),
    " FROM report, clock WHERE id = ",
    id_of!("$12", "$2", "$3"),
    " AND ",
    held!("$4", "$10"),
    " RETURNING id, attempts, now), \
     attempt AS (INSERT INTO retry_attempts SELECT id, attempts, $5, now, $6, $9 FROM cycle) SELECT now FROM cycle"
);

/// What is locked is left out, as is what does not match: which of both it is, [`HELD`] says. So a batch never waits, and
/// two of them never wait for each other, whatever their order.
///
/// A row is mostly where its claim put it. The index by id is asked where it is not, because its lease was extended: under an
/// old snapshot that meets each version that the row ever had. Neither look asks for the state. With it, a plan that was made
/// when the table was empty can go through the whole index of tenants instead.
pub(super) const FINISH_MANY: &str = concat!(
    "WITH ",
    clock!(),
    ", report AS MATERIALIZED (SELECT locked.place, given.* \
     FROM unnest($2::bigint[], $3::bigint[], $4::bigint[], $5::bigint[], $6::smallint[], $7::smallint[], $8::smallint[], \
     $9::bigint[], $10::bytea[], $11::text[]) WITH ORDINALITY \
     AS given (of_id, of_epoch, of_nonce, started_at, verdict, ending, why, delay, detail, at, nth) \
     CROSS JOIN LATERAL (SELECT coalesce(\
     (SELECT ctid FROM retry_cycles WHERE ctid = at::tid AND id = of_id), \
     (SELECT ctid FROM retry_cycles WHERE id = of_id)) AS place) AS found \
     CROSS JOIN LATERAL (SELECT ctid AS place FROM retry_cycles WHERE ctid = found.place AND id = of_id AND ",
    held!("of_epoch", "of_nonce"),
    " FOR NO KEY UPDATE SKIP LOCKED) AS locked), \
     cycle AS (UPDATE retry_cycles SET ",
    finished!(),
    " FROM report, clock WHERE ctid = place RETURNING id, attempts, started_at, now, verdict, detail, nth), \
     attempt AS (INSERT INTO retry_attempts SELECT id, attempts, started_at, now, verdict, detail FROM cycle) \
     SELECT nth, now FROM cycle"
);

/// Which of these claims still hold.
pub(super) const HELD: &str = concat!(
    "SELECT nth FROM unnest($1::bigint[], $2::bigint[], $3::bigint[]) WITH ORDINALITY \
     AS claim (of_id, of_epoch, of_nonce, nth) JOIN retry_cycles ON id = of_id WHERE ",
    held!("of_epoch", "of_nonce")
);

pub(super) const ATTEMPTS: &str = concat!(
    "SELECT number, started_at, finished_at, verdict, detail FROM retry_attempts WHERE cycle_id = ",
    id_of!("NULL", "$1", "$2"),
    " AND number > $3 ORDER BY number LIMIT $4"
);

/// Leaves rows alone until `$2` from now: they are not leased, and count no lapse.
pub(super) const SET_ASIDE: &str = concat!(
    "WITH ",
    clock!(),
    ", aside AS MATERIALIZED (SELECT retry_cycles.ctid AS place FROM unnest($3::bigint[]) AS bad (of_id) \
     JOIN retry_cycles ON id = of_id WHERE state = 0 FOR NO KEY UPDATE OF retry_cycles SKIP LOCKED) \
     UPDATE retry_cycles SET lease_until = now + $2 FROM aside, clock \
     WHERE ctid = place AND (lease_until IS NULL OR lease_until <= now)"
);

pub(super) const PURGE_ENDED: &str = concat!(
    "WITH ",
    clock!(),
    ", gone AS MATERIALIZED (SELECT place, ended.id FROM retry_namespaces \
     CROSS JOIN (VALUES (1::smallint), (2::smallint), (3::smallint)) AS ending (ending) \
     CROSS JOIN LATERAL (SELECT retry_cycles.ctid AS place, id FROM retry_cycles \
     WHERE retry_cycles.namespace = retry_namespaces.namespace AND state = ending AND state <> 0 \
     AND ended_at <= (SELECT now - $2 FROM clock) ORDER BY ended_at LIMIT $3 FOR UPDATE SKIP LOCKED) AS ended LIMIT $3), \
     cycle AS (DELETE FROM retry_cycles USING gone WHERE ctid = place RETURNING retry_cycles.id), \
     attempt AS (DELETE FROM retry_attempts USING gone WHERE cycle_id = gone.id), \
     subject AS (DELETE FROM retry_subjects USING gone WHERE retry_subjects.id = gone.id) \
     SELECT count(*) FROM cycle"
);

/// Tenants with something due, from bucket `$3` and tenant `$4` on, at most `$5`, each found by one look into the index. A
/// bucket is 65 seconds. The index also has tenants whose cycles of a bucket are all leased, and in the latest bucket those
/// whose cycles are not due yet. The last column says whether anything can be claimed.
pub(super) const DUE_TENANTS: &str = concat!(
    "WITH RECURSIVE ",
    clock!(),
    ", step (bucket, tenant) AS (\
     (SELECT wake_at >> 16, tenant FROM retry_cycles WHERE state = 0 AND namespace = $2 \
     AND ((wake_at >> 16), tenant) >= ($3::bigint, $4::text) AND (wake_at >> 16) <= (SELECT now >> 16 FROM clock) \
     ORDER BY wake_at >> 16, tenant, wake_at LIMIT 1) \
     UNION ALL SELECT next.bucket, next.tenant FROM step CROSS JOIN LATERAL (\
     SELECT wake_at >> 16 AS bucket, tenant FROM retry_cycles WHERE state = 0 AND namespace = $2 \
     AND ((wake_at >> 16), tenant) > (step.bucket, step.tenant) AND (wake_at >> 16) <= (SELECT now >> 16 FROM clock) \
     ORDER BY wake_at >> 16, tenant, wake_at LIMIT 1) AS next) \
     SELECT bucket, tenant, EXISTS (SELECT FROM retry_cycles WHERE state = 0 AND namespace = $2 \
     AND (wake_at >> 16) = bucket AND retry_cycles.tenant = step.tenant AND wake_at <= now \
     AND (lease_until IS NULL OR lease_until <= now)) FROM step, clock LIMIT $5"
);

/// What is due longest of each tenant in `$7`, in the namespace `$5` and the bucket `$6` of the same place, at most as
/// many as `$8` has for it, and `$3` together.
pub(super) const CLAIM_OF: &str = concat!(
    "WITH ",
    clock!(),
    ", chosen AS MATERIALIZED (SELECT place, due \
     FROM unnest($5::text[], $6::bigint[], $7::text[], $8::bigint[]) AS next (namespace, bucket, tenant, room) \
     CROSS JOIN LATERAL (SELECT ctid AS place, wake_at AS due FROM retry_cycles \
     WHERE state = 0 AND retry_cycles.namespace = next.namespace AND (wake_at >> 16) = next.bucket \
     AND retry_cycles.tenant = next.tenant AND wake_at <= (SELECT now FROM clock) \
     AND (lease_until IS NULL OR lease_until <= (SELECT now FROM clock)) AND nonce <> $4 \
     ORDER BY wake_at LIMIT next.room FOR NO KEY UPDATE SKIP LOCKED) AS first LIMIT $3), ",
    claimed!("$4", "")
);

/// The first that can be claimed, or how long until one can: of each namespace in `$2` from the floor in `$3` on.
pub(super) const NEXT_WAKE: &str = concat!(
    "WITH ",
    clock!(),
    " SELECT min(wait) FROM clock, unnest($2::text[], $3::bigint[]) AS space (of_namespace, floor) \
     CROSS JOIN LATERAL (SELECT coalesce(\
     (SELECT 0 FROM retry_cycles WHERE state = 0 AND namespace = of_namespace AND wake_at >= floor AND wake_at <= now \
     AND (lease_until IS NULL OR lease_until <= now) ORDER BY wake_at LIMIT 1), \
     least((SELECT min(lease_until) FROM retry_cycles WHERE state = 0 AND namespace = of_namespace \
     AND wake_at >= floor AND wake_at <= now), \
     (SELECT wake_at FROM retry_cycles WHERE state = 0 AND namespace = of_namespace AND wake_at >= floor \
     AND wake_at > now ORDER BY wake_at LIMIT 1)) - now) AS wait) AS first \
     WHERE NOT EXISTS (SELECT FROM retry_namespaces WHERE namespace = of_namespace AND paused)"
);

/// When the first cycle was due that can be claimed, in the namespaces `$2`, from `$3` up to `$4` if that is not null.
pub(super) const FIRST_DUE: &str = concat!(
    "WITH ",
    clock!(),
    " SELECT min(first.wake_at) FROM clock, unnest($2::text[]) AS space (of_namespace) CROSS JOIN LATERAL (\
     SELECT wake_at FROM retry_cycles WHERE state = 0 AND namespace = of_namespace AND wake_at >= $3 \
     AND wake_at <= least($4, now) AND (lease_until IS NULL OR lease_until <= now) ORDER BY wake_at LIMIT 1) AS first"
);

/// What is due longest in a number of namespaces, at most `$3`: of each in `$5` from the floor in `$6` on, up to `$7` if
/// that is not null. What somebody else is claiming or changing is left out.
///
/// The index has the rows of each namespace in order; they are merged as they are read, and each is locked as it comes,
/// until there are enough. A row that this call has claimed already (its lease may be zero) is not met again. A row that
/// changed since it was read is checked again when it is locked, and then found by its place: nobody moves a locked row.
pub(super) fn claim(namespaces: usize) -> &'static str {
    static TEXTS: LazyLock<Vec<String>> = LazyLock::new(|| {
        let claimed = claimed!("$4", "");
        SIZES.iter().map(|size| format!("{} {claimed}", front(*size, "", "nonce <> $4", "chosen"))).collect()
    });
    &TEXTS[size(namespaces)]
}

/// The same for several calls: `$8` says for each row which call it is for, as a number below [`MOST_CALLS`] that is added to
/// the nonce. Those bits of `$4` are zero.
pub(super) fn claim_for_many(namespaces: usize) -> &'static str {
    static TEXTS: LazyLock<Vec<String>> = LazyLock::new(|| {
        let numbered = "chosen AS MATERIALIZED (SELECT place, due, row_number() OVER () AS nth FROM front),";
        let claimed = claimed!("$4 + ($8::bigint[])[nth]", "");
        let mine = format!("nonce & {} <> $4", -MOST_CALLS);
        SIZES
            .iter()
            .map(|size| format!("{} {numbered} {claimed}", front(*size, "", &mine, "front")))
            .collect()
    });
    &TEXTS[size(namespaces)]
}

/// The same, but of a tenant no more than `$8`, those counted that are running already: `$10` of each tenant in `$9`.
///
/// With them comes when the first was due that did not fit.
pub(super) fn claim_shares(namespaces: usize) -> &'static str {
    static TEXTS: LazyLock<Vec<String>> = LazyLock::new(|| {
        let counted = "counted AS MATERIALIZED (SELECT place, due, \
             row_number() OVER (PARTITION BY tenant ORDER BY due) + coalesce(count, 0) <= $8 AS fits \
             FROM front LEFT JOIN unnest($9::text[], $10::bigint[]) AS running (tenant, count) USING (tenant)), \
             chosen AS MATERIALIZED (SELECT place, due FROM counted WHERE fits),";
        let claimed = claimed!("$4", ", (SELECT min(due) FROM counted WHERE NOT fits)");
        SIZES
            .iter()
            .map(|size| format!("{} {counted} {claimed}", front(*size, ", tenant", "nonce <> $4", "front")))
            .collect()
    });
    &TEXTS[size(namespaces)]
}

const SIZES: [usize; 6] = [1, 2, 4, 8, 16, MOST_NAMESPACES];

fn size(namespaces: usize) -> usize {
    SIZES.iter().position(|size| *size >= namespaces).unwrap_or(SIZES.len() - 1)
}

fn front(namespaces: usize, more: &str, mine: &str, name: &str) -> String {
    // Beyond the end of the array is null, which no namespace equals.
    let branches = (1..=namespaces).map(|nth| {
        format!(
            "(SELECT ctid AS place, wake_at{more} FROM retry_cycles WHERE state = 0 AND namespace = ($5::text[])[{nth}] \
             AND wake_at >= ($6::bigint[])[{nth}] AND wake_at <= (SELECT till FROM look) \
             AND (lease_until IS NULL OR lease_until <= (SELECT now FROM clock)) AND {mine} AND NOT EXISTS \
             (SELECT FROM retry_namespaces WHERE namespace = ($5::text[])[{nth}] AND paused) ORDER BY wake_at)"
        )
    });
    format!(
        "WITH {}, look (till) AS MATERIALIZED (SELECT least(now, $7::bigint) FROM clock), \
         {name} AS MATERIALIZED (SELECT locked.place, wake_at AS due{more} FROM ({}) AS due \
         CROSS JOIN LATERAL (SELECT ctid AS place FROM retry_cycles WHERE ctid = due.place AND state = 0 \
         AND wake_at <= (SELECT till FROM look) AND (lease_until IS NULL OR lease_until <= (SELECT now FROM clock)) \
         AND {mine} FOR NO KEY UPDATE SKIP LOCKED) AS locked ORDER BY due.wake_at LIMIT $3),",
        clock!(),
        branches.collect::<Vec<_>>().join(" UNION ALL ")
    )
}
