//! The statements.
//!
//! `$1` is the time of an injected clock, or null: then the server's time when it got the statement. A clock that went on
//! within a statement could not be looked up in an index.

use crate::store::sql::{claim, columns, columns_of_cycle, finish, id_of, new_cycle, shared_texts};

macro_rules! texts {
    ($now:literal) => {
        shared_texts!($now);

        pub(super) const SCHEDULE: &str = concat!(
            "WITH subject AS (INSERT INTO retry_subjects (namespace, subject, payload, metadata) VALUES ($3, $4, $11, $12) \
             ON CONFLICT (namespace, subject) DO NOTHING RETURNING *), \
             cycle AS (INSERT INTO retry_cycles ",
            new_cycle!("id", $now),
            " FROM subject RETURNING *) SELECT ",
            columns!(),
            " FROM cycle JOIN subject AS retry_subjects USING (id)"
        );

        /// The first due from `$7` on, at most `$3`, of the namespaces that are selected; those that somebody else is claiming or changing are left out.
        ///
        /// Below the floor lies nothing but what the last claims left behind there: rows that are dead, but that an old
        /// snapshot somewhere keeps in the index. What is found is met again by its place: it is locked, so nobody moves it.
        pub(super) const CLAIM: &str = concat!(
            "WITH chosen AS MATERIALIZED (SELECT ctid AS place, wake_at AS due, ",
            $now,
            " AS now ",
            front!($now),
            "), ",
            claimed!("")
        );

        /// The same, but of a tenant no more than `$8`, those counted that are running already: `$10` of each tenant
        /// in `$9`.
        ///
        /// With them comes when the first was due that did not fit.
        pub(super) const CLAIM_SHARES: &str = concat!(
            "WITH front AS MATERIALIZED (SELECT ctid AS place, wake_at AS due, tenant, ",
            $now,
            " AS now ",
            front!($now),
            "), counted AS MATERIALIZED (SELECT place, due, now, \
             row_number() OVER (PARTITION BY tenant ORDER BY due) + coalesce(count, 0) <= $8 AS fits \
             FROM front LEFT JOIN unnest($9::text[], $10::bigint[]) AS running (tenant, count) USING (tenant)), \
             chosen AS MATERIALIZED (SELECT place, due, now FROM counted WHERE fits), ",
            claimed!(", (SELECT min(due) FROM counted WHERE NOT fits)")
        );

        /// The first due of each tenant in `$7`, at most as many as `$8` has for it, and `$3` together.
        pub(super) const CLAIM_OF: &str = concat!(
            "WITH chosen AS MATERIALIZED (SELECT place, due, ",
            $now,
            " AS now FROM unnest($7::text[], $8::bigint[]) AS next (tenant, room) \
             CROSS JOIN LATERAL (SELECT ctid AS place, wake_at AS due FROM retry_cycles \
             WHERE state = 0 AND retry_cycles.tenant = next.tenant AND wake_at <= ",
            $now,
            selected!("$5", "$6"),
            " ORDER BY wake_at LIMIT next.room FOR NO KEY UPDATE SKIP LOCKED) AS first \
             LIMIT $3), ",
            claimed!("")
        );

        pub(super) const FINISH: &str = concat!(
            "WITH cycle AS (UPDATE retry_cycles SET ",
            finish!($now, "$7::smallint", "$11::smallint", "$8"),
            " WHERE id = ",
            id_of!("$2", "$3"),
            " AND epoch = $4 AND nonce = $10 AND state = 0 AND claimed_at IS NOT NULL RETURNING *), \
             attempt AS (INSERT INTO retry_attempts SELECT id, attempts, $5, ",
            $now,
            ", $6, $9 FROM cycle) SELECT $2, $3, ",
            columns_of_cycle!(),
            " FROM cycle"
        );

        /// What is locked is left out, as is what does not match: it cannot be told from a stale one here. So a batch
        /// never waits, and two of them never wait for each other, whatever their order.
        pub(super) const FINISH_MANY: &str = concat!(
            "WITH report AS MATERIALIZED (SELECT retry_cycles.ctid AS place, report.*, ",
            $now,
            " AS now FROM unnest($2::text[], $3::text[], $4::bigint[], $5::bigint[], $6::smallint[], $7::smallint[], \
             $8::bigint[], $9::bytea[], $10::bigint[], $11::smallint[]) \
             AS report (of_namespace, of_subject, of_epoch, started_at, verdict, ending, delay, detail, of_nonce, why) \
             JOIN retry_subjects ON retry_subjects.namespace = of_namespace AND subject = of_subject \
             JOIN retry_cycles USING (id) WHERE epoch = of_epoch AND nonce = of_nonce AND state = 0 AND claimed_at IS NOT NULL \
             FOR NO KEY UPDATE OF retry_cycles SKIP LOCKED), \
             cycle AS (UPDATE retry_cycles SET ",
            finish!("now", "ending", "why", "delay"),
            " FROM report WHERE ctid = place \
             RETURNING retry_cycles.*, of_namespace, of_subject, started_at, now, verdict, detail), \
             attempt AS (INSERT INTO retry_attempts SELECT id, attempts, started_at, now, verdict, detail FROM cycle) \
             SELECT of_namespace, of_subject, ",
            columns_of_cycle!(),
            " FROM cycle"
        );

        pub(super) const NEXT_WAKE: &str = concat!(
            "SELECT wake_at - ",
            $now,
            " FROM retry_cycles WHERE state = 0 AND wake_at >= $2",
            selected!("$3", "$4"),
            " ORDER BY wake_at LIMIT 1"
        );

        pub(super) const PURGE_ENDED: &str = concat!(
            "WITH gone AS MATERIALIZED (SELECT id FROM retry_cycles WHERE state <> 0 AND ended_at <= ",
            $now,
            " - $2 ORDER BY ended_at LIMIT $3 FOR UPDATE SKIP LOCKED), \
             cycle AS (DELETE FROM retry_cycles USING gone WHERE retry_cycles.id = gone.id RETURNING retry_cycles.id), \
             attempt AS (DELETE FROM retry_attempts USING gone WHERE cycle_id = gone.id), \
             subject AS (DELETE FROM retry_subjects USING gone WHERE retry_subjects.id = gone.id) \
             SELECT count(*) FROM cycle"
        );
    };
}

/// Of these namespaces, if they are named; of none of those; and of none that is paused.
macro_rules! selected {
    ($only:literal, $except:literal) => {
        concat!(
            " AND (",
            $only,
            "::text[] IS NULL OR namespace = ANY (",
            $only,
            "::text[])) AND namespace <> ALL (",
            $except,
            "::text[]) AND namespace <> ALL (ARRAY (SELECT namespace FROM retry_paused_namespaces))"
        )
    };
}

macro_rules! front {
    ($now:literal) => {
        concat!(
            "FROM retry_cycles WHERE state = 0 AND wake_at >= $7 AND wake_at <= ",
            $now,
            selected!("$5", "$6"),
            " ORDER BY wake_at LIMIT $3 FOR NO KEY UPDATE SKIP LOCKED"
        )
    };
}

macro_rules! claimed {
    ($more:literal) => {
        concat!(
            "cycle AS (UPDATE retry_cycles SET ",
            claim!("now"),
            " FROM chosen WHERE ctid = place RETURNING retry_cycles.*, due) SELECT ",
            columns!(),
            ", claimed_at, payload, metadata, due",
            $more,
            " FROM cycle JOIN retry_subjects USING (id)"
        )
    };
}

texts!("coalesce($1, floor(extract(epoch FROM statement_timestamp()) * 1000)::bigint)");
