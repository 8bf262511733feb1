-- The bytes of the documents of an owner's faxes that wait.
ALTER TABLE mintfax_balances ADD COLUMN document_bytes BIGINT NOT NULL DEFAULT 0;

UPDATE mintfax_balances SET document_bytes = COALESCE((
    SELECT SUM(faxes.document_bytes) FROM mintfax_faxes faxes
    WHERE faxes.account = mintfax_balances.account AND faxes.environment = mintfax_balances.environment
        AND faxes.status NOT IN ('delivered', 'failed')
), 0);

-- The character set of a text, where its sender named one.
ALTER TABLE mintfax_faxes ADD COLUMN document_charset TEXT;
