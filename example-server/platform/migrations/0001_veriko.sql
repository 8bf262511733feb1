-- One text for SQLite and PostgreSQL: only types and clauses that mean the same to both. Times are milliseconds since
-- 1970, money is centavos.

CREATE TABLE accounts (
    id TEXT NOT NULL PRIMARY KEY,
    plan TEXT NOT NULL,
    created_at BIGINT NOT NULL
);

-- Keys are held as SHA-256 only, in hexadecimal digits.
CREATE TABLE api_keys (
    hash TEXT NOT NULL PRIMARY KEY,
    account TEXT NOT NULL REFERENCES accounts (id),
    permissions TEXT NOT NULL,
    created_at BIGINT NOT NULL
);

CREATE TABLE retry_policies (
    account TEXT NOT NULL PRIMARY KEY,
    policy TEXT NOT NULL,
    saved_at BIGINT NOT NULL
);

-- What an account has used of what its plan grants: validations in a month (2026-11), retries in a day (2026-11-22).
-- Days and months are those of UTC.
CREATE TABLE usage (
    account TEXT NOT NULL,
    what TEXT NOT NULL,
    period TEXT NOT NULL,
    used BIGINT NOT NULL,
    PRIMARY KEY (account, what, period)
);

CREATE TABLE validations (
    id TEXT NOT NULL PRIMARY KEY,
    account TEXT NOT NULL,
    -- What was asked, as it is shown: JSON.
    request TEXT NOT NULL,
    validation_type TEXT NOT NULL,
    status TEXT NOT NULL,
    banxico_status TEXT NOT NULL,
    error_code TEXT,
    error_message TEXT,
    client_ref TEXT,
    -- Parts of the request that lists are filtered by; the text to search in is in small letters.
    amount_centavos BIGINT NOT NULL,
    beneficiary_account TEXT,
    searchable TEXT NOT NULL,
    -- The retry cycle as it is shown, so that nothing that reads needs the scheduler: none, pending, resolved, exhausted
    -- or cancelled; its policy as JSON. What moves the scheduler's cycle writes this too, in one transaction.
    retry_state TEXT NOT NULL,
    retry_policy TEXT,
    retry_attempts BIGINT NOT NULL,
    retry_next_at BIGINT,
    retry_ended_at BIGINT,
    etag_version BIGINT NOT NULL,
    processing_time_ms BIGINT,
    created_at BIGINT NOT NULL,
    completed_at BIGINT
);

CREATE INDEX validations_of_account ON validations (account, created_at, id);
-- How many an account has pending, and whose attempts are overdue.
CREATE INDEX validations_pending ON validations (account) WHERE retry_state = 'pending';
CREATE INDEX validations_overdue ON validations (retry_next_at, id) WHERE retry_state = 'pending';

CREATE TABLE validation_attempts (
    validation TEXT NOT NULL REFERENCES validations (id),
    -- From 1 without gaps, over the whole life of the validation.
    number BIGINT NOT NULL,
    dispatched_at BIGINT NOT NULL,
    started_at BIGINT NOT NULL,
    finished_at BIGINT NOT NULL,
    prev_status TEXT NOT NULL,
    prev_banxico_status TEXT NOT NULL,
    new_status TEXT,
    new_banxico_status TEXT,
    processing_time_ms BIGINT,
    error_code TEXT,
    PRIMARY KEY (validation, number)
);
