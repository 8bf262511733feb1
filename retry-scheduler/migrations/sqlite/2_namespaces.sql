-- Selection by namespace, fences with nonces, reasons of endings, bounds on deferrals, jitter, metadata.

ALTER TABLE retry_subjects ADD COLUMN metadata TEXT NOT NULL DEFAULT '';

ALTER TABLE retry_cycles ADD COLUMN namespace TEXT NOT NULL DEFAULT '';
-- Of the last claim.
ALTER TABLE retry_cycles ADD COLUMN nonce INTEGER NOT NULL DEFAULT 0;
-- 0 succeeded, 1 attempts used up, 2 permanent failure, 3 too late, 4 cancelled, 5 crashed too often, 6 deferred too often
ALTER TABLE retry_cycles ADD COLUMN reason INTEGER;
ALTER TABLE retry_cycles ADD COLUMN deferrals INTEGER NOT NULL DEFAULT 0;
-- In percent.
ALTER TABLE retry_cycles ADD COLUMN jitter INTEGER NOT NULL DEFAULT 0;
-- Cycles that were there before have no bound.
ALTER TABLE retry_cycles ADD COLUMN max_deferrals INTEGER NOT NULL DEFAULT 4294967295;
-- Of 65 seconds. Nearly all of those that are due lie in buckets that are over.
ALTER TABLE retry_cycles ADD COLUMN bucket INTEGER GENERATED ALWAYS AS (wake_at >> 16) VIRTUAL;

UPDATE retry_cycles SET
    namespace = (SELECT namespace FROM retry_subjects WHERE retry_subjects.id = retry_cycles.id),
    reason = CASE state
        WHEN 1 THEN 0
        WHEN 3 THEN 4
        WHEN 2 THEN CASE
            WHEN (SELECT verdict FROM retry_attempts WHERE cycle_id = retry_cycles.id AND number = attempts) = 2 THEN 2
            WHEN used >= max_attempts THEN 1
            ELSE 3
        END
    END;

DROP INDEX retry_cycles_wake;
DROP INDEX retry_cycles_tenant;

-- What is due next, of a namespace and of each tenant in it.
CREATE INDEX retry_cycles_due ON retry_cycles (namespace, wake_at) WHERE state = 0;
CREATE INDEX retry_cycles_due_of_tenant ON retry_cycles (namespace, tenant, wake_at) WHERE state = 0;
-- Which tenants have due cycles.
CREATE INDEX retry_cycles_due_tenants ON retry_cycles (namespace, bucket, tenant, wake_at) WHERE state = 0;
-- What is being attempted.
CREATE INDEX retry_cycles_leased ON retry_cycles (namespace, wake_at) WHERE state = 0 AND claimed_at IS NOT NULL;
-- What has ended, until it is purged.
CREATE INDEX retry_cycles_ended ON retry_cycles (namespace, state, ended_at) WHERE state <> 0;
CREATE INDEX retry_cycles_ended_of_tenant ON retry_cycles (namespace, tenant, state, ended_at) WHERE state <> 0;

CREATE TABLE retry_paused_namespaces (
    namespace TEXT PRIMARY KEY
) STRICT, WITHOUT ROWID;
