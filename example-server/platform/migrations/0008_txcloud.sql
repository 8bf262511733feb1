-- What the TXCloud API keeps. An account has the same name in every API, and what it does with test keys is apart.

CREATE TABLE txcloud_verifications (
    -- In the order of creation.
    id TEXT NOT NULL PRIMARY KEY,
    account TEXT NOT NULL,
    environment TEXT NOT NULL,
    document_type TEXT NOT NULL,
    country TEXT NOT NULL,
    -- With commas between.
    checks TEXT NOT NULL,
    -- What stands for the images, which are not here: which document it is, and, until it is judged, what the engine finds it
    -- by.
    document TEXT NOT NULL,
    reference TEXT,
    metadata TEXT NOT NULL,
    status TEXT NOT NULL,
    -- The judgement: JSON.
    findings TEXT,
    created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL
);

CREATE INDEX txcloud_verifications_of_account ON txcloud_verifications (account, environment, id);
CREATE INDEX txcloud_verifications_of_document ON txcloud_verifications (account, environment, document);

CREATE TABLE txcloud_sessions (
    id TEXT NOT NULL PRIMARY KEY,
    account TEXT NOT NULL,
    environment TEXT NOT NULL,
    document_type TEXT NOT NULL,
    country TEXT NOT NULL,
    checks TEXT NOT NULL,
    metadata TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    expires_at BIGINT NOT NULL
);
