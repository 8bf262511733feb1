-- Times are milliseconds since 1970.

-- What cycles are about: all of it that never changes. A claim writes the pages of its cycles anew; so they are small.
CREATE TABLE retry_subjects (
    id        INTEGER PRIMARY KEY,
    namespace TEXT NOT NULL,
    subject   TEXT NOT NULL,
    payload   BLOB NOT NULL,
    UNIQUE (namespace, subject)
) STRICT;

CREATE TABLE retry_cycles (
    -- Of its subject.
    id            INTEGER PRIMARY KEY,
    -- When it is due or, while it is claimed, when its lease ends.
    wake_at       INTEGER NOT NULL,
    -- Set while it is claimed.
    claimed_at    INTEGER,
    ended_at      INTEGER,
    epoch         INTEGER NOT NULL DEFAULT 0,
    attempts      INTEGER NOT NULL DEFAULT 0,
    used          INTEGER NOT NULL DEFAULT 0,
    lapses        INTEGER NOT NULL DEFAULT 0,
    reactivations INTEGER NOT NULL DEFAULT 0,
    max_attempts  INTEGER NOT NULL,
    last_start    INTEGER,
    -- 0 pending, 1 resolved, 2 exhausted, 3 cancelled
    state         INTEGER NOT NULL DEFAULT 0,
    tenant        TEXT    NOT NULL,
    -- Milliseconds with commas between.
    delays        TEXT    NOT NULL
) STRICT;

-- What is due next, of all and of each tenant. Ended cycles, which pile up, are in neither.
CREATE INDEX retry_cycles_wake ON retry_cycles (wake_at) WHERE state = 0;
CREATE INDEX retry_cycles_tenant ON retry_cycles (tenant, wake_at) WHERE state = 0;

-- Only ever added to.
CREATE TABLE retry_attempts (
    cycle_id    INTEGER NOT NULL,
    number      INTEGER NOT NULL,
    started_at  INTEGER NOT NULL,
    finished_at INTEGER NOT NULL,
    -- 0 success, 1 failure, 2 hopeless
    verdict     INTEGER NOT NULL,
    detail      BLOB    NOT NULL,
    PRIMARY KEY (cycle_id, number)
) STRICT;
