-- The API a key is of: one account may have keys of several.
ALTER TABLE api_keys ADD COLUMN api TEXT NOT NULL DEFAULT 'veriko';
