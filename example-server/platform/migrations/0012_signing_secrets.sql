-- An account has one signing secret in each of its environments, whichever API tells it something.
ALTER TABLE mintfax_secrets RENAME TO signing_secrets;
