-- What `/readyz` writes to find out whether the database takes writes.
CREATE TABLE readiness_probes (
    id TEXT NOT NULL PRIMARY KEY,
    content TEXT NOT NULL
);
