-- The CEP of a validation that is valid: the XML as Banxico gave it, byte for byte. (BYTEA is what PostgreSQL calls it; to
-- SQLite one name is as good as another, and bytes stay bytes.)
CREATE TABLE ceps (
    validation TEXT NOT NULL PRIMARY KEY REFERENCES validations (id),
    xml BYTEA NOT NULL
);
