-- The validations that an account is granted in a month (2026-11, of UTC), divided into rows. A charge locks one of them, so
-- charges of one account seldom wait for each other. What is used is the sum.
CREATE TABLE quota_shares (
    account TEXT NOT NULL,
    period TEXT NOT NULL,
    share BIGINT NOT NULL,
    granted BIGINT NOT NULL,
    used BIGINT NOT NULL,
    PRIMARY KEY (account, period, share)
);

-- The plan is not known here, so nothing is left in these. The next request divides the whole quota.
INSERT INTO quota_shares (account, period, share, granted, used)
SELECT account, period, 0, used, used FROM usage WHERE what = 'validations';
DELETE FROM usage WHERE what = 'validations';
