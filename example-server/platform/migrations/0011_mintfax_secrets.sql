-- What the events of an owner's faxes are signed with, sealed.
CREATE TABLE mintfax_secrets (
    account TEXT NOT NULL,
    environment TEXT NOT NULL,
    secret TEXT NOT NULL,
    PRIMARY KEY (account, environment)
);
