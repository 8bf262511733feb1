-- Selection by namespace, fences with nonces, reasons of endings, bounds on deferrals, jitter, metadata.

ALTER TABLE retry_subjects ADD COLUMN metadata text COLLATE "C" NOT NULL DEFAULT '';

ALTER TABLE retry_cycles
    ADD COLUMN namespace     text COLLATE "C",
    -- Of the last claim.
    ADD COLUMN nonce         bigint   NOT NULL DEFAULT 0,
    -- 0 succeeded, 1 attempts used up, 2 permanent failure, 3 too late, 4 cancelled, 5 crashed too often, 6 deferred too often
    ADD COLUMN reason        smallint,
    ADD COLUMN deferrals     bigint   NOT NULL DEFAULT 0,
    -- In percent.
    ADD COLUMN jitter        smallint NOT NULL DEFAULT 0,
    ADD COLUMN max_deferrals bigint   NOT NULL DEFAULT 1000;

UPDATE retry_cycles SET
    namespace = retry_subjects.namespace,
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

CREATE INDEX retry_cycles_namespace ON retry_cycles (namespace, wake_at) WHERE state = 0;
CREATE INDEX retry_cycles_ended ON retry_cycles (ended_at) WHERE state <> 0;

CREATE TABLE retry_paused_namespaces (
    namespace text COLLATE "C" PRIMARY KEY
);
