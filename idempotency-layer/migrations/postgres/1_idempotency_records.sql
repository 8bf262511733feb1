-- One row for each record. `idempotency-layer` alone reads and writes it.

-- Fences grow over all records together, so those of one record do even after its row is gone. CACHE 1: with more, each
-- connection would hand out numbers from a range of its own.
CREATE SEQUENCE idempotency_fences AS bigint CACHE 1;

-- A page takes claims up to a tenth of it: a row grows when its response comes, and where it finds room on its own page no
-- index is written again.
CREATE TABLE idempotency_records (
    record bytea NOT NULL PRIMARY KEY,  -- SHA-256 of scope and key
    expires_at timestamptz NOT NULL,    -- set by the first claim
    lease_ends timestamptz NOT NULL,
    fence bigint NOT NULL,
    attempt integer NOT NULL,
    state smallint NOT NULL,            -- 0 running, 1 released, 2 response, 3 unreplayable, 4 unknown
    orphan boolean NOT NULL,
    token bytea NOT NULL,
    fingerprint bytea NOT NULL,
    checkpoint_name bytea,              -- bytes: a name may hold any character, NUL among them
    checkpoint_data bytea,
    response bytea
) WITH (fillfactor = 10);

-- For the purge. Nothing but the first claim writes this column, so completing a record changes no index.
CREATE INDEX idempotency_records_expires_at ON idempotency_records (expires_at);
