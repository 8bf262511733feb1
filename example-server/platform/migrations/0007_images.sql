-- The pictures of receipts, while they are kept: sealed, as they were sent.
CREATE TABLE images (
    validation TEXT NOT NULL PRIMARY KEY REFERENCES validations (id),
    sealed TEXT NOT NULL,
    created_at BIGINT NOT NULL
);

CREATE INDEX images_by_age ON images (created_at);
