-- Faxes. Owners are accounts in one of their environments, test or live.
CREATE TABLE mintfax_faxes (
    id TEXT NOT NULL PRIMARY KEY,
    account TEXT NOT NULL,
    environment TEXT NOT NULL,
    recipient TEXT NOT NULL,
    -- queued, submitted, in_progress, delivered or failed
    status TEXT NOT NULL,
    -- Of the document, which lies in the uploads until the fax has ended.
    media_type TEXT NOT NULL,
    document_bytes BIGINT NOT NULL,
    document_sha256 TEXT NOT NULL,
    retries BIGINT NOT NULL,
    -- Attempts: begun, ended, and ended with a word of the carrier.
    begun BIGINT NOT NULL,
    attempts BIGINT NOT NULL,
    verdicts BIGINT NOT NULL,
    pages BIGINT,
    error_code TEXT,
    error_message TEXT,
    webhook_url TEXT,
    idempotency_key TEXT,
    -- What is held for it until it ends, and what it came to.
    held_cents BIGINT NOT NULL,
    charged_cents BIGINT NOT NULL,
    created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL,
    submitted_at BIGINT,
    completed_at BIGINT
);

CREATE INDEX mintfax_faxes_of_owner ON mintfax_faxes (account, environment, created_at, id);

-- Of each owner, available + held + what was charged is the opening balance, at any time.
CREATE TABLE mintfax_balances (
    account TEXT NOT NULL,
    environment TEXT NOT NULL,
    available_cents BIGINT NOT NULL,
    held_cents BIGINT NOT NULL,
    PRIMARY KEY (account, environment)
);

CREATE TABLE mintfax_settings (
    account TEXT NOT NULL,
    environment TEXT NOT NULL,
    retries BIGINT NOT NULL,
    PRIMARY KEY (account, environment)
);
