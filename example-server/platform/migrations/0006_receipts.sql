-- Validations of receipts that are pictures: what was read (JSON), and what became of the picture: its format while it is
-- kept, or `not_retained`, or `expired`.
ALTER TABLE validations ADD COLUMN ocr TEXT;
ALTER TABLE validations ADD COLUMN image TEXT;
