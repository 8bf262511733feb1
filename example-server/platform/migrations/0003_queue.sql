-- Validations in the background. They are queued when they are created; without a verdict they end when they expire.
ALTER TABLE validations ADD COLUMN expires_at BIGINT;
ALTER TABLE validations ADD COLUMN processing_started_at BIGINT;

-- `retry_state` may be `intended` now: a policy to begin a cycle with, if the first verdict asks for one. It counts as one
-- that is pending.
DROP INDEX validations_pending;
CREATE INDEX validations_pending ON validations (account) WHERE retry_state IN ('pending', 'intended');
