-- Leases that were renewed. `idempotency-layer` alone reads and writes them.

-- A renewal does not write the record's row: a handler's transaction at REPEATABLE READ or SERIALIZABLE that began before
-- the renewal could not complete the record any more. The foreign key takes a lease away with its record, whoever deletes
-- that, and whatever snapshot the deletion runs with.
CREATE TABLE idempotency_leases (
    record bytea NOT NULL PRIMARY KEY REFERENCES idempotency_records ON DELETE CASCADE,
    fence bigint NOT NULL,              -- of the claim that was renewed; beside another fence in the record it counts for nothing
    lease_ends timestamptz NOT NULL
) WITH (fillfactor = 50);               -- so that renewals find room on the page, and write no index

-- Pages were filled to a tenth, so that each response found room beside its claim. Where claims come one by one, that is a
-- page for each record. A half is two to three kilobytes for each, and half of the responses at least find room.
ALTER TABLE idempotency_records SET (fillfactor = 50);

-- A released record without a checkpoint is deleted from now on.
DELETE FROM idempotency_records WHERE state = 1 AND checkpoint_name IS NULL;
