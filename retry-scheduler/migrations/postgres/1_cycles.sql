-- Times are milliseconds since 1970. Texts compare byte by byte, whatever the database's locale.

-- What cycles are about: all of it that never changes. A claim moves its cycle in every index it stands in; so the one by
-- key is apart, and so is the payload, which would be written anew with it.
CREATE TABLE retry_subjects (
    id        bigint PRIMARY KEY GENERATED ALWAYS AS IDENTITY,
    namespace text COLLATE "C" NOT NULL,
    subject   text COLLATE "C" NOT NULL,
    payload   bytea NOT NULL,
    UNIQUE (namespace, subject)
);

CREATE TABLE retry_cycles (
    -- Of its subject.
    id            bigint   PRIMARY KEY,
    -- When it is due or, while it is claimed, when its lease ends.
    wake_at       bigint   NOT NULL,
    -- Set while it is claimed.
    claimed_at    bigint,
    ended_at      bigint,
    epoch         bigint   NOT NULL DEFAULT 0,
    attempts      bigint   NOT NULL DEFAULT 0,
    used          bigint   NOT NULL DEFAULT 0,
    lapses        bigint   NOT NULL DEFAULT 0,
    reactivations bigint   NOT NULL DEFAULT 0,
    max_attempts  bigint   NOT NULL,
    last_start    bigint,
    -- 0 pending, 1 resolved, 2 exhausted, 3 cancelled
    state         smallint NOT NULL DEFAULT 0,
    tenant        text     COLLATE "C" NOT NULL,
    -- Milliseconds with commas between.
    delays        text     COLLATE "C" NOT NULL
) WITH (fillfactor = 70);

-- What is due next, of all and of each tenant. Ended cycles, which pile up, are in neither.
CREATE INDEX retry_cycles_wake ON retry_cycles (wake_at) WHERE state = 0;
CREATE INDEX retry_cycles_tenant ON retry_cycles (tenant, wake_at) WHERE state = 0;

-- Only ever added to.
CREATE TABLE retry_attempts (
    cycle_id    bigint   NOT NULL,
    number      bigint   NOT NULL,
    started_at  bigint   NOT NULL,
    finished_at bigint   NOT NULL,
    -- 0 success, 1 failure, 2 hopeless
    verdict     smallint NOT NULL,
    detail      bytea    NOT NULL,
    PRIMARY KEY (cycle_id, number)
);
