-- Selection by namespace, leases beside the due time, fences with nonces, reasons of endings, bounds on deferrals, jitter,
-- metadata.

ALTER TABLE retry_subjects
    ADD COLUMN metadata text COLLATE "C" NOT NULL DEFAULT '',
    -- The tenant of its cycle. It never changes, so the index is only ever added to.
    ADD COLUMN owner    text COLLATE "C";
UPDATE retry_subjects SET owner = retry_cycles.tenant FROM retry_cycles WHERE retry_cycles.id = retry_subjects.id;
ALTER TABLE retry_subjects ALTER COLUMN owner SET NOT NULL;
-- Lists of one tenant's cycles.
CREATE INDEX retry_subjects_owner ON retry_subjects (namespace, owner, id);

-- Every namespace that ever had a cycle.
CREATE TABLE retry_namespaces (
    namespace text COLLATE "C" PRIMARY KEY,
    paused    boolean NOT NULL DEFAULT false
);
INSERT INTO retry_namespaces (namespace) SELECT DISTINCT namespace FROM retry_subjects;

DROP INDEX retry_cycles_wake;
DROP INDEX retry_cycles_tenant;

ALTER TABLE retry_cycles
    ADD COLUMN namespace     text COLLATE "C",
    -- When another worker may take it over. Without claimed_at, until when nobody is given it: it was set aside.
    -- In no index: so a claim moves the row in none.
    ADD COLUMN lease_until   bigint,
    -- Of the last claim.
    ADD COLUMN nonce         bigint   NOT NULL DEFAULT 0,
    -- 0 succeeded, 1 attempts used up, 2 permanent failure, 3 too late, 4 cancelled, 5 crashed too often, 6 deferred too often
    ADD COLUMN reason        smallint,
    ADD COLUMN deferrals     bigint   NOT NULL DEFAULT 0,
    -- In percent.
    ADD COLUMN jitter        smallint NOT NULL DEFAULT 0,
    -- Cycles that were there before have no bound.
    ADD COLUMN max_deferrals bigint   NOT NULL DEFAULT 4294967295;

-- A claim writes the new versions of its rows into the same pages, if all of a page find room there.
ALTER TABLE retry_cycles SET (fillfactor = 50);

UPDATE retry_cycles SET
    namespace = retry_subjects.namespace,
    lease_until = CASE WHEN claimed_at IS NOT NULL THEN wake_at END,
    reason = CASE state
        WHEN 1 THEN 0
        WHEN 3 THEN 4
        WHEN 2 THEN CASE
            WHEN (SELECT verdict FROM retry_attempts WHERE cycle_id = retry_cycles.id AND number = attempts) = 2 THEN 2
            WHEN used >= max_attempts THEN 1
            ELSE 3
        END
    END
FROM retry_subjects WHERE retry_subjects.id = retry_cycles.id;

ALTER TABLE retry_cycles ALTER COLUMN namespace SET NOT NULL;

-- There is one row for each subject, whose id is unique. A unique index here would look at every dead version of a row
-- whenever an attempt ends, and under an old snapshot there are many.
ALTER TABLE retry_cycles DROP CONSTRAINT retry_cycles_pkey;
CREATE INDEX retry_cycles_id ON retry_cycles (id) WITH (deduplicate_items = off);

-- What is due next.
CREATE INDEX retry_cycles_wake ON retry_cycles (namespace, wake_at) WHERE state = 0;
-- Which tenants have something due: one entry after the other of the 65 seconds that are over is a tenant's.
CREATE INDEX retry_cycles_tenant ON retry_cycles (namespace, (wake_at >> 16), tenant, wake_at) WHERE state = 0;
CREATE INDEX retry_cycles_ended ON retry_cycles (namespace, state, ended_at) WHERE state <> 0;
