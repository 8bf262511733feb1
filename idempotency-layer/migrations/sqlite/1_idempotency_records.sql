-- One row for each record. `idempotency-layer` alone reads and writes it.
--
-- With a rowid: rows then lie in the order of their first claims, and a commit of many touches few pages of them. Keyed by
-- `record` itself (WITHOUT ROWID), each would touch one of its own.
CREATE TABLE idempotency_records (
    id INTEGER PRIMARY KEY,
    record BLOB NOT NULL,           -- SHA-256 of scope and key
    fence INTEGER NOT NULL,
    expires_at INTEGER NOT NULL,    -- set by the first claim; milliseconds since 1970, as the next one
    lease_ends INTEGER NOT NULL,    -- 0: no lease
    attempt INTEGER NOT NULL,
    state INTEGER NOT NULL,         -- 0 running, 1 released, 2 response, 3 unreplayable, 4 unknown
    orphan INTEGER NOT NULL,
    token BLOB NOT NULL,
    fingerprint BLOB NOT NULL,
    checkpoint_name BLOB,           -- bytes: a name may hold any character, NUL among them
    checkpoint_data BLOB,
    response BLOB
) STRICT;

CREATE UNIQUE INDEX idempotency_records_record ON idempotency_records (record);

-- For the purge. Nothing but the first claim writes this column, so completing a record changes no index.
CREATE INDEX idempotency_records_expires_at ON idempotency_records (expires_at);

-- Fences count within their record, from this floor on. It rises over the fences of rows that go, whoever deletes them, so
-- that the fences of a record grow even after its row is gone. A claim only reads it.
CREATE TABLE idempotency_fences (
    id INTEGER PRIMARY KEY CHECK (id = 1),
    floor INTEGER NOT NULL
) STRICT;

INSERT INTO idempotency_fences (id, floor) VALUES (1, 0);

CREATE TRIGGER idempotency_fences_rise AFTER DELETE ON idempotency_records
WHEN OLD.fence > (SELECT floor FROM idempotency_fences)
BEGIN
    UPDATE idempotency_fences SET floor = OLD.fence;
END;
