-- The id by which operators take a key back: the beginning of its hash, which tells nothing of the key. And whether it is
-- a test key, which its prefix says and its hash does not: unknown (NULL) of keys that were made before this.
ALTER TABLE api_keys ADD COLUMN id TEXT NOT NULL DEFAULT '';
ALTER TABLE api_keys ADD COLUMN environment TEXT;
-- Until then it is active.
ALTER TABLE api_keys ADD COLUMN revoked_at BIGINT;

UPDATE api_keys SET id = 'key_' || substr(hash, 1, 16);
-- Veriko has no test keys.
UPDATE api_keys SET environment = 'live' WHERE api = 'veriko';

CREATE UNIQUE INDEX api_keys_id ON api_keys (id);
