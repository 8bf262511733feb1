-- Each document once, with the verification it came with first. The key decides between two that come at the same time.
CREATE TABLE txcloud_documents (
    account TEXT NOT NULL,
    environment TEXT NOT NULL,
    document TEXT NOT NULL,
    verification TEXT NOT NULL,
    PRIMARY KEY (account, environment, document)
);

INSERT INTO txcloud_documents (account, environment, document, verification)
SELECT account, environment, document, MIN(id) FROM txcloud_verifications GROUP BY account, environment, document;

DROP INDEX txcloud_verifications_of_document;
