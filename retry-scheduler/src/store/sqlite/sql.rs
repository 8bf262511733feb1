//! The statements.
//!
//! `$1` is the time of an injected clock, or null: then the time that SQLite has, the same all through a statement. Many
//! rows are passed as JSON, which has no blobs: they are in hexadecimal there.

use crate::store::sql::{claim, columns, columns_of_cycle, finish, id_of, new_cycle, shared_texts};

macro_rules! texts {
    ($now:literal) => {
        shared_texts!($now);

        pub(super) const SCHEDULE_SUBJECT: &str = "INSERT INTO retry_subjects (namespace, subject, payload, metadata) \
             VALUES ($1, $2, $3, $4) ON CONFLICT (namespace, subject) DO NOTHING";

        pub(super) const SCHEDULE: &str = concat!(
            "INSERT INTO retry_cycles ",
            new_cycle!("id", $now),
            " FROM retry_subjects WHERE namespace = $3 AND subject = $4 RETURNING $3, $4, ",
            columns_of_cycle!()
        );

        /// The first due of the namespaces that are selected, at most `$3`, but of a tenant no more than `$7`, those
        /// counted that are running already: in `$8` with each tenant.
        pub(super) const CLAIM: &str = concat!(
            "UPDATE retry_cycles SET ",
            claim!($now),
            " WHERE id IN (SELECT id FROM ( \
             SELECT id, tenant, row_number() OVER (PARTITION BY tenant ORDER BY wake_at) AS number FROM ( \
             SELECT id, tenant, wake_at FROM retry_cycles WHERE state = 0 AND wake_at <= ",
            $now,
            selected!("$5", "$6"),
            " ORDER BY wake_at LIMIT $3)) \
             WHERE number + coalesce((SELECT value ->> 1 FROM json_each($8) WHERE value ->> 0 = tenant), 0) <= $7) ",
            claimed!()
        );

        /// The first due of each tenant in `$7`, at most as many as are there with it, and `$3` together.
        pub(super) const CLAIM_OF: &str = concat!(
            "UPDATE retry_cycles SET ",
            claim!($now),
            " WHERE id IN (SELECT due.id FROM json_each($7) AS next CROSS JOIN retry_cycles AS due ON due.id IN ( \
             SELECT id FROM (SELECT id, row_number() OVER (ORDER BY wake_at) AS number FROM ( \
             SELECT id, wake_at FROM retry_cycles \
             WHERE state = 0 AND tenant = next.value ->> 0 AND wake_at <= ",
            $now,
            selected!("$5", "$6"),
            " ORDER BY wake_at LIMIT $3)) WHERE number <= next.value ->> 1) LIMIT $3) ",
            claimed!()
        );

        /// The attempts that the reports in `$2` end, and the time of that.
        pub(super) const FINISH_ATTEMPTS: &str = concat!(
            "INSERT INTO retry_attempts SELECT retry_cycles.id, attempts + 1, claimed_at, ",
            $now,
            ", value ->> 3, unhex(value ->> 6) FROM json_each($2) CROSS JOIN retry_subjects \
             CROSS JOIN retry_cycles ON retry_cycles.id = retry_subjects.id \
             WHERE retry_subjects.namespace = value ->> 0 AND subject = value ->> 1 AND epoch = value ->> 2 \
             AND nonce = value ->> 7 AND state = 0 AND claimed_at IS NOT NULL RETURNING finished_at"
        );

        pub(super) const FINISH_CYCLES: &str = concat!(
            "UPDATE retry_cycles SET ",
            finish!($now, "ending", "why", "delay"),
            " FROM (SELECT retry_subjects.id AS of_id, value ->> 2 AS of_epoch, \
             value ->> 4 AS ending, value ->> 5 AS delay, value ->> 7 AS of_nonce, value ->> 8 AS why FROM json_each($2) CROSS JOIN retry_subjects \
             WHERE namespace = value ->> 0 AND subject = value ->> 1) \
             WHERE id = of_id AND epoch = of_epoch AND nonce = of_nonce AND state = 0 AND claimed_at IS NOT NULL ",
            returning!()
        );

        pub(super) const NEXT_WAKE: &str = concat!(
            "SELECT wake_at - ",
            $now,
            " FROM retry_cycles WHERE state = 0",
            selected!("$2", "$3"),
            " ORDER BY wake_at LIMIT 1"
        );

        pub(super) const ENDED: &str = concat!(
            "SELECT id FROM retry_cycles WHERE state <> 0 AND ended_at <= ",
            $now,
            " - $2 ORDER BY ended_at LIMIT $3"
        );
    };
}

/// Of these namespaces, if they are named; of none of those; and of none that is paused.
macro_rules! selected {
    ($only:literal, $except:literal) => {
        concat!(
            " AND (",
            $only,
            " IS NULL OR namespace IN (SELECT value FROM json_each(",
            $only,
            "))) AND namespace NOT IN (SELECT value FROM json_each(",
            $except,
            ")) AND namespace NOT IN (SELECT namespace FROM retry_paused_namespaces)"
        )
    };
}

/// `RETURNING` knows no other table than the one that is changed.
macro_rules! returning {
    () => {
        concat!(
            "RETURNING (SELECT namespace FROM retry_subjects WHERE id = retry_cycles.id), \
             (SELECT subject FROM retry_subjects WHERE id = retry_cycles.id), ",
            columns_of_cycle!()
        )
    };
}

macro_rules! claimed {
    () => {
        concat!(
            returning!(),
            ", claimed_at, (SELECT payload FROM retry_subjects WHERE id = retry_cycles.id), \
             (SELECT metadata FROM retry_subjects WHERE id = retry_cycles.id)"
        )
    };
}

texts!("coalesce($1, CAST(round(unixepoch('subsec') * 1000) AS INTEGER))");

pub(super) const PURGE_ATTEMPTS: &str =
    "DELETE FROM retry_attempts WHERE cycle_id IN (SELECT value FROM json_each($1))";
pub(super) const PURGE_CYCLES: &str =
    "DELETE FROM retry_cycles WHERE id IN (SELECT value FROM json_each($1))";
pub(super) const PURGE_SUBJECTS: &str =
    "DELETE FROM retry_subjects WHERE id IN (SELECT value FROM json_each($1))";
